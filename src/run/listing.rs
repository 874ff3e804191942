//! Gives windows to list to workers, and stores what they planned.

use std::collections::HashSet;
use std::sync::Arc;

use super::cancelled;
use super::dispatcher::{Dispatcher, TaskEnd, new_chunk};
use super::kept::Kept;
use super::list::{self, ListedWindow};
use super::observe::Observer;
use super::stop::Stop;
use super::turn::{Wake, spending};
use crate::archive::{ArchiveError, FailureKind};
use crate::crash_point::{Point, reached};
use crate::model::event::RunEvent;
use crate::model::{ChunkState, Chunking, StreamArn};
use crate::plan::{self, WindowQuery};
use crate::store::WindowPlan;

/// While chunks are fetched, one in so many requests may be a listing even if all the others are fetches.
const LISTING_SHARE: usize = 4;

/// Tasks that list, of paused streams too, are at most so many times the requests in flight.
const LISTINGS_AT_MOST: usize = 8;

/// Exports that are listed at a time where everything is listed before anything is fetched.
const LISTED_AT_ONCE: usize = 64;

impl Dispatcher<'_> {
    /// Lists windows of these exports with the requests that fetching leaves; they take turns, so that each stream's
    /// first windows come early.
    pub(super) fn list_windows(&mut self, exports: &[usize], wake: &mut Wake) {
        let requests = self.request.requests_in_flight;
        let room = match self.turns.fetching().1 {
            0 => requests,
            fetching => requests.saturating_sub(fetching).max(requests / LISTING_SHARE).max(1),
        };
        let (mut all, mut running) = self.turns.listing();
        let mut dry: HashSet<StreamArn> = HashSet::new();
        while running < room && all < requests * LISTINGS_AT_MOST {
            let of = |index: &usize| &self.exports[*index];
            let candidates = exports.iter().copied().filter(|index| {
                !of(index).unplanned.is_empty()
                    && of(index).failed.is_none()
                    && !dry.contains(&of(index).stream.arn)
            });
            let Some(index) = candidates.min_by_key(|index| of(index).listing) else { return };
            let export = &self.exports[index];
            let Some((_, window)) = export.unplanned.front() else { return };
            let stream = &export.stream.arn;
            let page_size = plan::list_page_size(plan::list_bounds(*window));
            let wait = self.turns.until_listing(stream, page_size);
            if wait.is_zero() {
                self.list_next(index, page_size);
                (all, running) = (all + 1, running + 1);
            } else {
                wake.within(wait);
                dry.insert(stream.clone());
            }
        }
    }

    /// Gives an export's next window to a worker.
    fn list_next(&mut self, index: usize, page_size: u32) {
        let export = &mut self.exports[index];
        let Some((seq, window)) = export.unplanned.pop_front() else { return };
        export.listing += 1;
        let query = WindowQuery {
            window,
            range: export.spec.range,
            timestamps: export.spec.timestamps,
            edges: export.spec.edges,
            gap_tolerance: export.spec.gap_tolerance,
        };
        let share = self.turns.listing_begins(&export.stream.arn, page_size);
        let (fetch, stream) = (Arc::clone(&self.fetch), Arc::clone(&export.stream));
        let now = self.request.clock.now();
        let kept = Kept::take(&mut self.request.store, &stream.arn, &query, export.spec.settle_ms, now);
        let observer = Observer::new(&self.request.events);
        self.tasks.spawn(async move {
            let (unspent, watched) = share.watch(&observer);
            let listing = async {
                match kept.and_then(|kept| kept.plan(&query)) {
                    Some(planned) => Ok(planned),
                    None => {
                        list::list_window(&*fetch.archive, &stream.arn, &query, &*fetch.clock, &watched).await
                    }
                }
            };
            let result = fetch.unless_stopped(spending(unspent, listing)).await;
            drop(watched);
            let attempts = observer.into_attempts();
            match result {
                Some(result) => TaskEnd::Listed { export: index, seq, result, attempts },
                None => TaskEnd::Cut { export: index, attempts },
            }
        });
    }

    /// Stores a planned window.
    pub(super) fn listed(
        &mut self,
        index: usize,
        seq: u32,
        result: Result<ListedWindow, ArchiveError>,
    ) -> Result<(), Stop> {
        let listed = match result {
            Ok(listed) => listed,
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            Err(error) => {
                self.stream_failed(index, &error);
                return Ok(());
            }
        };
        let export = &mut self.exports[index];
        let planned = listed.planned;
        let (chunks, bytes) =
            (planned.chunks.len() as u64, planned.chunks.iter().map(|chunk| chunk.bytes).sum());
        let media_ms = planned.fragments.iter().map(|fragment| u64::from(fragment.length_ms)).sum();
        let window = WindowPlan {
            listed_at: listed.listed_at,
            fragments: planned.fragments,
            dropped: planned.dropped.into_iter().map(|dropped| (dropped.fragment, dropped.rule)).collect(),
            chunks: planned.chunks.iter().map(new_chunk).collect(),
            media_ms,
        };
        self.request.store.store_window_plan(&export.id, seq, &window)?;
        reached(Point::WindowStored);
        export.has_more();
        self.ledger.planned(index, bytes);
        if export.is_listed() {
            self.ledger.listed(index);
        }
        if self.is_listing_first {
            // Its opening tells the sum.
            return Ok(());
        }
        self.request.events.event(RunEvent::WindowPlanned {
            export: export.id.clone(),
            chunks,
            bytes,
            media_ms,
            last: export.is_listed(),
        });
        Ok(())
    }

    /// Where `max_bytes` is set: lists everything first, and refuses to fetch more than that.
    ///
    /// What is listed is kept: neither this run nor the next lists it again.
    pub(super) async fn refuse_too_much(&mut self) -> Result<(), Stop> {
        let Some(max_bytes) = self.request.disk.max_bytes else { return Ok(()) };
        self.is_listing_first = true;
        self.list_everything().await?;
        self.is_listing_first = false;
        let unknown = self.exports.iter().filter(|export| export.spec.chunk.is_fixed()).count();
        if unknown > 0 {
            let message = format!(
                "`max_bytes` does not count the {unknown} exports with fixed windows (`chunk`): what is in them is known only \
                 when it is fetched"
            );
            self.request.events.event(RunEvent::Warning { message });
        }
        let mut planned = 0_u64;
        let mut exports = 0;
        for export in self.exports.iter().filter(|export| export.failed.is_none()) {
            let counts = self.request.store.chunk_counts(&export.id)?;
            planned += counts.in_state(ChunkState::Planned).planned_bytes;
            exports += 1;
        }
        if planned > max_bytes {
            return Err(Stop::TooMuch { planned, exports, max_bytes });
        }
        Ok(())
    }

    async fn list_everything(&mut self) -> Result<(), Stop> {
        let mut cancel = self.request.cancel.clone();
        let mut waiting = self.waiting.clone();
        let mut listing: Vec<usize> = Vec::new();
        loop {
            let mut wake = Wake::default();
            let exports = &self.exports;
            listing.retain(|index| !exports[*index].is_listed() && exports[*index].failed.is_none());
            while listing.len() < LISTED_AT_ONCE
                && let Some(position) = self.next_settled(&waiting, &mut wake)
                && let Some(index) = waiting.remove(position)
            {
                if self.request.store.chunk_counts(&self.exports[index].id)?.leaves().chunks == 0 {
                    self.planned_first.insert(index);
                }
                self.find_unplanned(index)?;
                let export = &self.exports[index];
                if !export.is_listed() {
                    listing.push(index);
                }
            }
            self.list_windows(&listing, &mut wake);
            if self.tasks.is_empty() && wake.wait().is_none() {
                return Ok(());
            }
            tokio::select! {
                () = cancelled(&mut cancel) => return Err(Stop::Interrupted),
                Some(end) = self.tasks.join_next() => self.task_ended(end)?,
                () = wake.sleep() => {}
            }
        }
    }

    /// Reads which windows of an export are not planned yet. Fixed windows are planned at once: nothing has to be asked.
    pub(super) fn find_unplanned(&mut self, index: usize) -> Result<(), Stop> {
        let export = &mut self.exports[index];
        let windows = self.request.store.windows(&export.id)?;
        let unplanned = windows.iter().filter(|window| window.listed_at.is_none());
        if let Chunking::Fixed(length_ms) = export.spec.chunk {
            for window in unplanned {
                let chunks = plan::plan_fixed(window.range, length_ms);
                let planned = WindowPlan {
                    listed_at: self.request.clock.now(),
                    fragments: Vec::new(),
                    dropped: Vec::new(),
                    chunks: chunks.iter().map(new_chunk).collect(),
                    media_ms: 0,
                };
                self.request.store.store_window_plan(&export.id, window.seq, &planned)?;
                reached(Point::WindowStored);
            }
            export.has_more();
            return Ok(());
        }
        export.unplanned = unplanned.map(|window| (window.seq, window.range)).collect();
        Ok(())
    }
}
