//! The dispatcher: the only one that writes the state file. It gives work to tasks and records what they bring.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::closing::MergeOutcome;
use super::decide;
use super::export::{OpenExport, Phase};
use super::fetch::{self, FetchContext, FetchJob, FetchOutcome};
use super::finish;
use super::kept::Kept;
use super::list::{self, ListedWindow};
use super::observe::Observer;
use super::prepare::{EntryKind, Prepared};
use super::stop::Stop;
use super::tally::RunFacts;
use super::{RunRequest, cancelled};
use crate::archive::{ArchiveError, FailureKind};
use crate::crash_point::{Point, reached};
use crate::error::chain;
use crate::fs;
use crate::model::event::RunEvent;
use crate::model::{Attempt, ChunkEvent, ChunkState};
use crate::plan::{self, PlannedChunk, WindowQuery};
use crate::store::{AttemptRecord, ChunkError, ChunkRecord, NewChunk, WindowPlan};

/// Fetches beyond the requests in flight, so that checking and syncing a clip leaves no connection idle.
const FETCHES_BEYOND_REQUESTS: usize = 4;

/// While chunks are fetched, one in so many requests may be a listing.
const LISTING_SHARE: usize = 4;

/// The fewest exports that may be open at a time.
pub(super) const LEAST_OPEN: usize = 4;

/// What a task brings back.
pub(super) enum TaskEnd {
    Listed { export: usize, seq: u32, result: Result<ListedWindow, ArchiveError>, attempts: Vec<Attempt> },
    Fetched { export: usize, chunk: Box<ChunkRecord>, outcome: FetchOutcome, attempts: Vec<Attempt> },
    Probed { export: usize, result: Result<bool, ArchiveError>, attempts: Vec<Attempt> },
}

/// One run under way.
pub(super) struct Dispatcher<'a> {
    pub(super) request: &'a mut RunRequest,
    pub(super) exports: Vec<OpenExport>,
    /// Exports whose turn has not come, in their order.
    pub(super) waiting: VecDeque<usize>,
    /// Exports that are being listed, fetched or merged, in their order.
    pub(super) active: Vec<usize>,
    pub(super) fetch: Arc<FetchContext>,
    pub(super) tasks: JoinSet<TaskEnd>,
    pub(super) merges: JoinSet<MergeOutcome>,
    pub(super) merge_queue: VecDeque<usize>,
    pub(super) listing: usize,
    pub(super) fetching: usize,
    pub(super) stop_merges: Arc<AtomicBool>,
    pub(super) facts: RunFacts,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(request: &'a mut RunRequest, prepared: &Prepared) -> Self {
        let mut exports: Vec<OpenExport> = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in &prepared.entries {
            let EntryKind::Open(id, arn) = &entry.kind else { continue };
            if let Some(stream) = prepared.streams.get(arn)
                && seen.insert(id)
            {
                exports.push(OpenExport::new(id.clone(), entry.spec.clone(), Arc::clone(stream)));
            }
        }
        // What retention takes first is fetched first; the sort is stable, so the job file decides the rest.
        exports.sort_by_key(OpenExport::expires);
        let fetch = Arc::new(FetchContext {
            archive: Arc::clone(&request.archive),
            clock: Arc::clone(&request.clock),
            work: request.work.clone(),
            attempts: request.attempts,
        });
        Self {
            request,
            waiting: (0..exports.len()).collect(),
            active: Vec::new(),
            exports,
            fetch,
            tasks: JoinSet::new(),
            merges: JoinSet::new(),
            merge_queue: VecDeque::new(),
            listing: 0,
            fetching: 0,
            stop_merges: Arc::new(AtomicBool::new(false)),
            facts: RunFacts::default(),
        }
    }

    /// What the run learned that the state file does not hold.
    pub(super) fn into_facts(self) -> RunFacts {
        self.facts
    }

    /// Carries everything out; on an error, after every task has ended.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        self.check_folders()?;
        self.request.events.event(RunEvent::RunStarted { exports: self.exports.len() as u64 });
        let result = self.work().await;
        if result.is_err() {
            self.wind_down().await?;
        }
        result
    }

    /// Better now than after a night of fetching: can every output be written where it should go?
    fn check_folders(&self) -> Result<(), Stop> {
        let mut checked = BTreeSet::new();
        for export in &self.exports {
            let names = finish::Names::of(&export.spec.output);
            if checked.insert(names.folder().to_owned()) {
                let staging = names.staging(&export.id);
                // What an interrupted end left in it is still needed: the folder itself is the test.
                if !staging.is_dir() {
                    fs::create_dir_all(&staging).map_err(Stop::of_fs)?;
                    fs::remove_dir_all(&staging).map_err(Stop::of_fs)?;
                }
            }
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<(), Stop> {
        let mut cancel = self.request.cancel.clone();
        loop {
            let wait = self.schedule()?;
            if self.tasks.is_empty() && self.merges.is_empty() && wait.is_none() {
                match (self.active.is_empty(), self.waiting.is_empty()) {
                    (true, true) => return Ok(()),
                    // Every open export ended at once: there is room for those that wait.
                    (true, false) => continue,
                    (false, _) => {
                        return Err(Stop::Panic("exports are open and nothing is under way".to_owned()));
                    }
                }
            }
            let settle = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancelled(&mut cancel) => return Err(Stop::Interrupted),
                Some(end) = self.tasks.join_next() => self.task_ended(end)?,
                Some(end) = self.merges.join_next() => self.merge_ended(end)?,
                () = settle => {}
            }
        }
    }

    /// Ends all tasks; merges leave their export where they found it.
    async fn wind_down(&mut self) -> Result<(), Stop> {
        self.stop_merges.store(true, Ordering::SeqCst);
        self.tasks.shutdown().await;
        while let Some(end) = self.merges.join_next().await {
            let (index, _) = end.map_err(|error| panicked(&error))?;
            self.undo_merge(index)?;
        }
        Ok(())
    }

    /// Gives out all the work there is room for; says how long until a waiting export may be listed.
    fn schedule(&mut self) -> Result<Option<Duration>, Stop> {
        let settles = self.open_exports()?;
        for index in self.active.clone() {
            if self.exports[index].phase == Phase::Open && self.exports[index].failed.is_none() {
                self.list_windows(index);
                self.fetch_chunks(index)?;
            }
            self.settle(index)?;
        }
        let exports = &self.exports;
        self.active.retain(|index| exports[*index].phase != Phase::Finished);
        self.start_merges()?;
        Ok(settles)
    }

    /// Takes up waiting exports while there is room for open ones.
    fn open_exports(&mut self) -> Result<Option<Duration>, Stop> {
        let now = self.request.clock.now();
        let mut settles: Option<i64> = None;
        let mut position = 0;
        while let Some(&index) = self.waiting.get(position)
            && self.active.len() < self.request.requests_in_flight.max(LEAST_OPEN)
        {
            let export = &mut self.exports[index];
            let wait = export.not_before() - now;
            if wait <= 0 {
                self.waiting.remove(position);
                self.active.push(index);
                self.open(index)?;
                continue;
            }
            position += 1;
            settles = Some(settles.map_or(wait, |earlier| earlier.min(wait)));
            if !export.told_to_settle {
                export.told_to_settle = true;
                let (stream, until) = (export.spec.stream.clone(), export.not_before());
                self.request.events.event(RunEvent::Settling { stream, until });
            }
        }
        Ok(settles.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }

    /// Takes an export up.
    fn open(&mut self, index: usize) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        export.phase = Phase::Open;
        let counts = store.chunk_counts(&export.id)?;
        let (total, fetched) = (counts.leaves().chunks, counts.in_state(ChunkState::Fetched).chunks);
        if total > 0 {
            self.facts.resumed.insert(export.id.clone(), fetched);
        }
        self.request.events.event(RunEvent::ExportOpened {
            export: export.id.clone(),
            job: export.spec.job.clone(),
            stream: export.spec.stream.clone(),
            range: export.spec.range,
            resumed: (total > 0).then_some((fetched, total)),
        });
        // An end that was cut short in an earlier run, before its row said so: its own files are in nobody's way.
        let cancel = self.request.cancel.clone();
        finish::roll_back(store, &export.id, &export.spec, &|| *cancel.borrow())?;
        if let Some(path) = decide::occupied(&export.spec) {
            export.failed = Some(decide::already_there(&path));
            return Ok(());
        }
        fs::create_dir_all(&fetch::export_folder(&self.request.work, &export.id)).map_err(Stop::of_fs)?;
        let windows = store.windows(&export.id)?;
        let unplanned = windows.iter().filter(|window| window.listed_at.is_none());
        export.unplanned = unplanned.map(|window| (window.seq, window.range)).collect();
        let totals = store.export(&export.id)?.map(|record| record.totals).unwrap_or_default();
        self.request.events.event(RunEvent::WindowPlanned {
            export: export.id.clone(),
            chunks: total,
            bytes: totals.planned_bytes,
            media_ms: totals.media_ms,
            last: export.unplanned.is_empty(),
        });
        Ok(())
    }

    /// Lists windows of an export while there is room.
    fn list_windows(&mut self, index: usize) {
        // Listing far ahead must not take the connections and points from fetching.
        let room = match self.fetching {
            0 => self.request.requests_in_flight,
            _ => (self.request.requests_in_flight / LISTING_SHARE).max(1),
        };
        while self.listing < room {
            let export = &mut self.exports[index];
            let Some((seq, window)) = export.unplanned.pop_front() else { break };
            export.listing += 1;
            self.listing += 1;
            let query = WindowQuery {
                window,
                range: export.spec.range,
                timestamps: export.spec.timestamps,
                edges: export.spec.edges,
                gap_tolerance: export.spec.gap_tolerance,
            };
            let (fetch, stream) = (Arc::clone(&self.fetch), Arc::clone(&export.stream));
            let now = self.request.clock.now();
            let kept = Kept::take(&mut self.request.store, &stream.arn, &query, export.spec.settle_ms, now);
            let observer = Observer::new(&self.request.events);
            self.tasks.spawn(async move {
                let result = match kept.and_then(|kept| kept.plan(&query)) {
                    Some(planned) => Ok(planned),
                    None => {
                        list::list_window(&*fetch.archive, &stream.arn, &query, &*fetch.clock, &observer)
                            .await
                    }
                };
                TaskEnd::Listed { export: index, seq, result, attempts: observer.into_attempts() }
            });
        }
    }

    /// Fetches chunks of an export while there is room.
    fn fetch_chunks(&mut self, index: usize) -> Result<(), Stop> {
        while self.fetching < self.request.requests_in_flight + FETCHES_BEYOND_REQUESTS {
            let export = &mut self.exports[index];
            let Some((chunk, fragments)) = export.next_chunk(&self.request.store)? else { break };
            self.request.store.move_chunk(chunk.id, ChunkState::Planned, ChunkEvent::Started)?;
            export.fetching += 1;
            self.fetching += 1;
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
                let outcome = fetch::fetch(&context, &job, &observer).await;
                TaskEnd::Fetched {
                    export: index,
                    chunk: Box::new(chunk),
                    outcome,
                    attempts: observer.into_attempts(),
                }
            });
        }
        Ok(())
    }

    fn task_ended(&mut self, end: Result<TaskEnd, JoinError>) -> Result<(), Stop> {
        match end.map_err(|error| panicked(&error))? {
            TaskEnd::Listed { export, seq, result, attempts } => {
                self.exports[export].listing -= 1;
                self.listing -= 1;
                self.record(export, None, attempts)?;
                self.listed(export, seq, result)
            }
            TaskEnd::Fetched { export, chunk, outcome, attempts } => {
                self.exports[export].fetching -= 1;
                self.fetching -= 1;
                self.record(export, Some(&chunk), attempts)?;
                self.fetched(export, &chunk, outcome)
            }
            TaskEnd::Probed { export, result, attempts } => {
                self.exports[export].listing -= 1;
                self.record(export, None, attempts)?;
                self.probed(export, result)
            }
        }
    }

    /// Writes requests into the audit trail.
    pub(super) fn record(
        &mut self,
        index: usize,
        chunk: Option<&ChunkRecord>,
        attempts: Vec<Attempt>,
    ) -> Result<(), Stop> {
        let record = |attempt: Attempt| AttemptRecord {
            export: self.exports[index].id.clone(),
            chunk: chunk.map(|chunk| chunk.id),
            attempt,
        };
        self.facts.bytes_received += attempts.iter().map(|attempt| attempt.bytes).sum::<u64>();
        let records: Vec<AttemptRecord> = attempts.into_iter().map(record).collect();
        Ok(self.request.store.record_attempts(&records)?)
    }

    /// Ends an export for what would befall all its other requests too.
    pub(super) fn stream_failed(&mut self, index: usize, error: &ArchiveError) {
        let export = &mut self.exports[index];
        if error.kind == FailureKind::Denied {
            self.facts.denied.insert(export.id.clone());
        }
        export.failed.get_or_insert(archive_failed(error));
    }

    fn listed(
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
        self.request.events.event(RunEvent::WindowPlanned {
            export: export.id.clone(),
            chunks,
            bytes,
            media_ms,
            last: export.unplanned.is_empty() && export.listing == 0,
        });
        Ok(())
    }

    fn fetched(&mut self, index: usize, chunk: &ChunkRecord, outcome: FetchOutcome) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        match outcome {
            FetchOutcome::Fetched { size_bytes, sha256 } => {
                store.record_fetched(chunk.id, size_bytes, &sha256)?;
                reached(Point::ChunkRecorded);
                self.request.events.event(RunEvent::ChunkFetched {
                    export: export.id.clone(),
                    planned_bytes: chunk.planned.planned_bytes,
                    size_bytes,
                });
            }
            FetchOutcome::TakeApart { error, refused } => self.take_apart(index, chunk, &error, refused)?,
            FetchOutcome::Rejected(error) => {
                store.record_failure(chunk.id, ChunkEvent::Refused, &error)?;
            }
            FetchOutcome::Expired(error) => {
                store.record_failure(chunk.id, ChunkEvent::Expired, &error)?;
            }
            FetchOutcome::Failed(error) => {
                tracing::warn!(export = %export.id, chunk = chunk.id.0, error = error.detail, "chunk given up");
                store.record_failure(chunk.id, ChunkEvent::GaveUp, &error)?;
            }
            FetchOutcome::StreamFailed(error) => {
                store.move_chunk(chunk.id, ChunkState::Fetching, ChunkEvent::Interrupted)?;
                self.stream_failed(index, &error);
            }
            FetchOutcome::Stop(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Replaces a chunk by halves, or settles it where it cannot be divided.
    fn take_apart(
        &mut self,
        index: usize,
        chunk: &ChunkRecord,
        error: &ChunkError,
        refused: bool,
    ) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        let (fragments, _) = store.window_fragments(&export.id, chunk.window_seq)?;
        let first = chunk.planned.first_fragment as usize;
        let count = chunk.planned.fragment_count as usize;
        let whole =
            PlannedChunk { first, count, bounds: chunk.planned.bounds, bytes: chunk.planned.planned_bytes };
        let halves = plan::split_chunk(&whole, &fragments[first..first + count], export.spec.timestamps);
        if let Some(halves) = halves {
            tracing::info!(export = %export.id, chunk = chunk.id.0, error = error.detail, "chunk divided");
            store.split_chunk(chunk.id, &halves.each_ref().map(new_chunk))?;
            reached(Point::SplitStored);
            export.has_more();
            self.request.events.event(RunEvent::ChunkSplit { export: export.id.clone(), into: 2 });
        } else {
            let event = if refused { ChunkEvent::Refused } else { ChunkEvent::GaveUp };
            store.record_failure(chunk.id, event, error)?;
        }
        Ok(())
    }
}

fn new_chunk(chunk: &PlannedChunk) -> NewChunk {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    NewChunk {
        first_fragment: index(chunk.first),
        fragment_count: index(chunk.count),
        bounds: chunk.bounds,
        planned_bytes: chunk.bytes,
    }
}

pub(super) fn archive_failed(error: &ArchiveError) -> String {
    match error.kind {
        FailureKind::Denied => {
            format!("the credentials lack the permission {}: {}", error.iam_action(), chain(error))
        }
        _ => chain(error),
    }
}

pub(super) fn panicked(error: &JoinError) -> Stop {
    Stop::Panic(error.to_string())
}
