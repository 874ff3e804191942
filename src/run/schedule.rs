//! Who gets work: exports by expiry and job order, chunks of the first open export whose stream has points for them.
//!
//! At most `max(4, requests_in_flight)` exports are open, so that merges happen early, disk is freed, and only so
//! much is listed ahead. An export whose stream is paused (throttled, or away) is *parked*: it does not count among
//! them, its caches are dropped, its tasks hold no places, and others are opened instead. What of it is on the disk
//! or reserved there stays; the ledger counts it. [`PARKED_AT_MOST`] times as many exports, and tasks, as would be
//! allowed without parking are the end of that: where so many streams are silent at once, it is the service that is.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::{Dispatcher, TaskEnd};
use super::export::{Answers, Phase, expected_bytes, points};
use super::fetch::{self, FetchJob};
use super::observe::Observer;
use super::stop::Stop;
use super::turn::{Wake, spending};
use crate::model::event::RunEvent;
use crate::model::{ChunkEvent, ChunkState, StreamArn};

/// Fetches beyond the requests in flight, so that checking and syncing a clip leaves no connection idle.
const FETCHES_BEYOND_REQUESTS: usize = 4;

/// The fewest exports that may be open at a time.
pub(super) const LEAST_OPEN: usize = 4;

/// With parked ones, so many times as many.
const PARKED_AT_MOST: usize = 8;

/// While other streams wait, no stream has more open exports: the second is listed while the first is fetched, and
/// a third would wait for the same points.
const OPEN_PER_STREAM: usize = 2;

/// How soon to look again whether the tasks that hold all places have been paused meanwhile: nothing tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Dispatcher<'_> {
    /// Gives out all the work there is room for; says how long until there may be more without a task's end.
    pub(super) fn schedule(&mut self) -> Result<Wake, Stop> {
        let mut wake = Wake::default();
        self.open_exports(&mut wake)?;
        self.reserve()?;
        self.fetch_chunks(&mut wake)?;
        let open: Vec<usize> = self.fetchable().collect();
        self.list_windows(&open, &mut wake);
        for index in self.active.clone() {
            self.settle(index)?;
        }
        let (exports, before) = (&self.exports, self.active.len());
        self.active.retain(|index| exports[*index].phase != Phase::Finished);
        if self.active.len() < before && !(self.active.is_empty() && self.waiting.is_empty()) {
            // There is a place for one that waits, and room on the disk for one that had none.
            wake.within(Duration::ZERO);
        }
        self.start_merges()?;
        self.watch_disk(&mut wake);
        Ok(wake)
    }

    /// The open exports that are not given up, in their order.
    pub(super) fn fetchable(&self) -> impl Iterator<Item = usize> + Clone {
        let exports = &self.exports;
        let goes_on =
            move |index: &usize| exports[*index].phase == Phase::Open && exports[*index].failed.is_none();
        self.active.iter().copied().filter(goes_on)
    }

    /// Takes up waiting exports while there is room for open ones.
    fn open_exports(&mut self, wake: &mut Wake) -> Result<(), Stop> {
        let bound = self.request.requests_in_flight.max(LEAST_OPEN);
        let mut running = 0;
        for index in self.active.clone() {
            let export = &mut self.exports[index];
            if export.phase == Phase::Open && self.turns.is_paused(&export.stream.arn) {
                export.shed();
            } else {
                running += 1;
            }
        }
        while running < bound && self.active.len() < bound * PARKED_AT_MOST {
            let Some(position) = self.next_to_open(wake) else { break };
            let Some(index) = self.waiting.remove(position) else { break };
            let place = self.active.partition_point(|open| *open < index);
            self.active.insert(place, index);
            self.open(index)?;
            running += usize::from(!self.turns.is_paused(&self.exports[index].stream.arn));
        }
        Ok(())
    }

    /// Which of the waiting exports is opened next: the first, but that a stream which has enough open lets others
    /// go before, and that a paused one is only tried where it has none open.
    fn next_to_open(&mut self, wake: &mut Wake) -> Option<usize> {
        let mut behind_its_own = None;
        let mut paused = None;
        for position in 0..self.waiting.len() {
            let index = self.waiting[position];
            if !self.is_settled(index, wake) {
                continue;
            }
            let stream = &self.exports[index].stream.arn;
            let open = self.active.iter().filter(|other| self.exports[**other].stream.arn == *stream).count();
            let slot = if self.turns.is_paused(stream) {
                if open > 0 {
                    continue;
                }
                &mut paused
            } else if open >= OPEN_PER_STREAM {
                &mut behind_its_own
            } else {
                return Some(position);
            };
            slot.get_or_insert(position);
        }
        behind_its_own.or(paused)
    }

    /// The first of these exports that may be listed.
    pub(super) fn next_settled(&mut self, waiting: &VecDeque<usize>, wake: &mut Wake) -> Option<usize> {
        (0..waiting.len()).find(|position| self.is_settled(waiting[*position], wake))
    }

    /// Whether an export's last fragments have had their time to arrive; the user is told who has to wait for them.
    fn is_settled(&mut self, index: usize, wake: &mut Wake) -> bool {
        let export = &mut self.exports[index];
        let wait = export.not_before() - self.request.clock.now();
        if wait <= 0 {
            return true;
        }
        wake.within(Duration::from_millis(wait.unsigned_abs()));
        if !export.told_to_settle {
            export.told_to_settle = true;
            let (stream, until) = (export.spec.stream.clone(), export.not_before());
            self.request.events.event(RunEvent::Settling { stream, until });
        }
        false
    }

    /// Gives chunks to fetch to workers.
    fn fetch_chunks(&mut self, wake: &mut Wake) -> Result<(), Stop> {
        let places = self.request.requests_in_flight + FETCHES_BEYOND_REQUESTS;
        let (mut all, mut running) = self.turns.fetching();
        // A stream that has no points for its first chunk gets none for a smaller one behind it: the first would
        // wait for ever.
        let mut dry: HashSet<StreamArn> = HashSet::new();
        for index in self.active.clone() {
            while self.exports[index].phase == Phase::Open && self.exports[index].failed.is_none() {
                if running >= places || all >= places * PARKED_AT_MOST {
                    wake.within(LOOK_AGAIN);
                    return Ok(());
                }
                let stream = Arc::clone(&self.exports[index].stream);
                let stream = &stream.arn;
                if dry.contains(stream) {
                    break;
                }
                if let Some(wait) = self.turns.paused(stream) {
                    // Its queue stays unread: nothing of it is needed while it may not be asked for.
                    wake.within(wait);
                    dry.insert(stream.clone());
                    break;
                }
                let export = &self.exports[index];
                if export.answers == Answers::OnlyRefusals && export.fetching > 0 {
                    break;
                }
                let next = self.exports[index].next_size(&self.request.store)?;
                let Some((points, bytes)) = next else { break };
                let is_fixed = self.exports[index].spec.chunk.is_fixed();
                if !is_fixed && !self.ledger.may_fetch(index, bytes) {
                    break;
                }
                let wait = self.turns.until_clip(stream, points);
                if !wait.is_zero() {
                    wake.within(wait);
                    dry.insert(stream.clone());
                    break;
                }
                if is_fixed && !self.reserve_window(index, bytes) {
                    break;
                }
                self.fetch_next(index)?;
                (all, running) = (all + 1, running + 1);
            }
        }
        Ok(())
    }

    /// Gives an export's next chunk to a worker.
    fn fetch_next(&mut self, index: usize) -> Result<(), Stop> {
        let export = &mut self.exports[index];
        let Some((chunk, fragments)) = export.next_chunk(&self.request.store)? else { return Ok(()) };
        self.request.store.move_chunk(chunk.id, ChunkState::Planned, ChunkEvent::Started)?;
        export.fetching += 1;
        self.ledger.hand_out(index, expected_bytes(&chunk.planned));
        let share = self.turns.fetch_begins(&export.stream.arn, points(&chunk.planned));
        let job = FetchJob {
            export: export.id.clone(),
            chunk: chunk.id,
            stream: export.stream.arn.clone(),
            retention_hours: export.stream.retention_hours,
            timestamps: export.spec.timestamps,
            bounds: chunk.planned.bounds,
            fragments,
        };
        let context = Arc::clone(&self.fetch);
        let observer = Observer::new(&self.request.events);
        self.tasks.spawn(async move {
            let (unspent, watched) = share.watch(&observer);
            let outcome = spending(unspent, fetch::fetch(&context, &job, &watched)).await;
            drop(watched);
            TaskEnd::Fetched {
                export: index,
                chunk: Box::new(chunk),
                outcome,
                attempts: observer.into_attempts(),
            }
        });
        Ok(())
    }
}
