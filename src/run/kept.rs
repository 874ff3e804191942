//! Listings that `plan` made and left in the state file, and when they are as good as a new one.
//!
//! A listing by server timestamps is final once its window is over and settled: what is ingested later has a later
//! timestamp. By producer timestamps a camera that was away can fill a window that is long over: such a listing is
//! never as good as one that the run makes, and is not kept.

use super::list::ListedWindow;
use crate::error::chain;
use crate::model::{StreamArn, TimestampKind, UtcMillis};
use crate::plan::{self, WindowQuery};
use crate::store::{Listing, ListingKey, Store, StoreError};

/// How long a listing counts, in milliseconds.
const AGE_MS: i64 = 24 * 3_600_000;

/// A listing that a window can be planned from.
pub(super) struct Kept(Listing);

impl Kept {
    /// The listing of a window, if one is kept that is as good as a new one.
    pub(super) fn find(
        store: &Store,
        stream: &StreamArn,
        query: &WindowQuery,
        settle_ms: u64,
        now: UtcMillis,
    ) -> Option<Self> {
        let found = store.kept_listing(&key(stream, query));
        // A listing that cannot be read costs a request, nothing more.
        let listing = found.inspect_err(|error| tell("read", error)).ok()??;
        objection(listing.listed_at, query, settle_ms, now).is_none().then_some(Self(listing))
    }

    /// The same for a run, which will remove it at its end.
    pub(super) fn take(
        store: &mut Store,
        stream: &StreamArn,
        query: &WindowQuery,
        settle_ms: u64,
        now: UtcMillis,
    ) -> Option<Self> {
        let kept = Self::find(store, stream, query, settle_ms, now)?;
        if let Err(error) = store.use_listing(&key(stream, query)) {
            tell("mark", &error);
        }
        Some(kept)
    }

    /// Plans the window from it; `None` where it is damaged.
    pub(super) fn plan(self, query: &WindowQuery) -> Option<ListedWindow> {
        let listed = self.0.fragments.unpack().inspect_err(|error| tell("unpack", error)).ok()?;
        Some(ListedWindow { listed_at: self.0.listed_at, planned: plan::plan_window(query, listed) })
    }
}

/// Under which key a window's listing is kept.
pub(super) fn key(stream: &StreamArn, query: &WindowQuery) -> ListingKey {
    ListingKey { stream: stream.clone(), timestamps: query.timestamps, window: query.window }
}

/// Why a listing made at `listed_at` may not say at `now` what a new one would.
pub(super) fn objection(
    listed_at: UtcMillis,
    query: &WindowQuery,
    settle_ms: u64,
    now: UtcMillis,
) -> Option<&'static str> {
    if query.timestamps == TimestampKind::Producer {
        return Some("by producer timestamps hours that are over can still be filled: a run lists them anew");
    }
    // A run waits for no more than the end of its range, though it lists a little beyond.
    let end = plan::list_bounds(query.window).end.min(query.range.end());
    let settled = end + i64::try_from(settle_ms).unwrap_or(i64::MAX);
    if listed_at < settled {
        return Some("the end of a range is too recent: its fragments may still be on their way");
    }
    // A clock that was set back tells nothing of an age.
    (!(0..=AGE_MS).contains(&(now - listed_at))).then_some("it is too old")
}

/// Removes the listings that were used, or that nobody will use any more.
pub(super) fn drop_old(store: &mut Store, now: UtcMillis) {
    if let Err(error) = store.drop_listings(now - AGE_MS) {
        tell("remove", &error);
    }
}

fn tell(what: &str, error: &StoreError) {
    tracing::warn!(error = chain(error), what, "a kept listing cannot be used");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Edges, GapTolerance, TimeRange};

    const HOUR: i64 = 3_600_000;
    const SETTLE: u64 = 60_000;

    /// The second hour of a range of two and a half.
    fn query(timestamps: TimestampKind) -> WindowQuery {
        let range =
            |start, end| TimeRange::new(UtcMillis::new(start), UtcMillis::new(end)).expect("not empty");
        WindowQuery {
            window: range(HOUR, 2 * HOUR),
            range: range(0, 5 * HOUR / 2),
            timestamps,
            edges: Edges::Cover,
            gap_tolerance: GapTolerance::Auto,
        }
    }

    fn usable(query: &WindowQuery, listed_at: i64, now: i64) -> bool {
        objection(UtcMillis::new(listed_at), query, SETTLE, UtcMillis::new(now)).is_none()
    }

    #[test]
    fn a_listing_counts_when_everything_it_shows_has_settled() {
        let query = query(TimestampKind::Server);
        // 21 s of the next window are listed too.
        let settled = 2 * HOUR + 21_000 + 60_000;
        assert!(!usable(&query, settled - 1, settled));
        assert!(usable(&query, settled, settled));
        let last = WindowQuery { range: query.window, ..query };
        assert!(usable(&last, 2 * HOUR + 60_000, settled), "as a run waits, and no longer");
    }

    #[test]
    fn a_listing_grows_old_and_counts_for_nothing_where_the_past_can_still_change() {
        let listed_at = 3 * HOUR;
        let server = query(TimestampKind::Server);
        assert!(usable(&server, listed_at, listed_at + 24 * HOUR));
        assert!(!usable(&server, listed_at, listed_at + 24 * HOUR + 1));
        let producer = query(TimestampKind::Producer);
        assert!(!usable(&producer, listed_at, listed_at));
        assert!(!usable(&server, listed_at, listed_at - 1), "listed in the future");
    }
}
