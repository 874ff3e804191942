//! Leaves a plan's listings in the state file for the run that follows.
//!
//! The state file is locked for each batch only: a run that is to start meanwhile is not kept out for as long as
//! a plan of thousands of streams takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept;
use crate::clock::Clock;
use crate::error::chain;
use crate::store::{Listing, ListingKey, StateLock, Store, StoreError};

/// Bytes of listings that wait to be stored together.
const BATCH_BYTES: usize = 8 << 20;

/// What listing takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ListingCost {
    /// Requests.
    pub(super) pages: u64,
    /// Metadata points.
    pub(super) points: u64,
}

/// A window that was listed for an export.
pub(super) struct Offer {
    /// The export's place in the plan.
    pub(super) export: usize,
    pub(super) key: ListingKey,
    pub(super) listing: Listing,
    /// What it took.
    pub(super) cost: ListingCost,
    /// Why it will not do for a run.
    pub(super) objection: Option<&'static str>,
}

/// Keeps listings, and knows which requests a run has to repeat.
pub(super) struct Keeper {
    state: Option<PathBuf>,
    /// Whether the plan reads that file meanwhile.
    is_open: bool,
    clock: Arc<dyn Clock>,
    batch: Vec<Offer>,
    batch_bytes: usize,
    not_kept: Option<String>,
    windows_kept: u64,
    /// What a run lists again, by the export's place.
    again: HashMap<usize, ListingCost>,
}

/// What became of the listings.
pub(super) struct KeptTally {
    pub(super) windows_kept: u64,
    pub(super) not_kept: Option<String>,
    again: HashMap<usize, ListingCost>,
}

impl KeptTally {
    /// What a run lists again for an export.
    pub(super) fn again(&self, export: usize) -> ListingCost {
        self.again.get(&export).copied().unwrap_or_default()
    }
}

impl Keeper {
    /// Keeps listings in the state file, or nowhere and says why.
    ///
    /// `is_open` says whether this process reads that file meanwhile.
    pub(super) fn new(state: Result<PathBuf, String>, is_open: bool, clock: Arc<dyn Clock>) -> Self {
        let (state, not_kept) = match state {
            Ok(state) => (Some(state), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            state,
            is_open,
            clock,
            batch: Vec::new(),
            batch_bytes: 0,
            not_kept,
            windows_kept: 0,
            again: HashMap::new(),
        }
    }

    /// Counts a window whose listing is kept already.
    pub(super) fn is_there(&mut self) {
        self.windows_kept += 1;
    }

    /// Takes a listing.
    pub(super) fn offer(&mut self, offer: Offer) {
        if self.state.is_none() {
            return self.list_again(offer.export, offer.cost);
        }
        if let Some(reason) = offer.objection {
            self.not_kept.get_or_insert_with(|| reason.to_owned());
            return self.list_again(offer.export, offer.cost);
        }
        self.batch_bytes += offer.listing.fragments.size();
        self.batch.push(offer);
        if self.batch_bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn list_again(&mut self, export: usize, cost: ListingCost) {
        let again = self.again.entry(export).or_default();
        again.pages += cost.pages;
        again.points += cost.points;
    }

    /// Stores what waits.
    fn flush(&mut self) {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let Some(state) = self.state.clone().filter(|_| !batch.is_empty()) else { return };
        let (exports, listings): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|offer| ((offer.export, offer.cost), (offer.key, offer.listing))).unzip();
        let stored = store(&state, self.is_open, &self.clock, &listings);
        let Err(error) = stored else {
            self.windows_kept += listings.len() as u64;
            return;
        };
        for (export, cost) in exports {
            self.list_again(export, cost);
        }
        self.state = None;
        self.not_kept = Some(chain(&error));
    }

    /// What a run lists again for an export, as far as it is known by now.
    pub(super) fn again(&self, export: usize) -> ListingCost {
        self.again.get(&export).copied().unwrap_or_default()
    }

    /// Stores the rest and says what became of all.
    pub(super) fn finish(mut self) -> KeptTally {
        self.flush();
        KeptTally { windows_kept: self.windows_kept, not_kept: self.not_kept, again: self.again }
    }
}

fn store(
    state: &Path,
    is_open: bool,
    clock: &Arc<dyn Clock>,
    listings: &[(ListingKey, Listing)],
) -> Result<(), StoreError> {
    let _lock = StateLock::acquire(state, &**clock)?;
    let open = if is_open { Store::open_again } else { Store::open };
    let mut store = open(state, Arc::clone(clock))?;
    kept::drop_old(&mut store, clock.now());
    store.keep_listings(listings)
}
