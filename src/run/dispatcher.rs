//! The dispatcher: the only one that writes the state file. It gives work to tasks and records what they bring.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::again;
use super::closing::MergeOutcome;
use super::decide;
use super::disk::{Ledger, Shortage};
use super::export::{OpenExport, Phase, expected_bytes};
use super::fetch::{self, FetchContext, FetchOutcome};
use super::finish;
use super::list::ListedWindow;
use super::prepare::{EntryKind, Prepared};
use super::stop::Stop;
use super::tally::RunFacts;
use super::turn::Turns;
use super::{RunRequest, cancelled};
use crate::archive::{ArchiveError, FailureKind};
use crate::crash_point::{Point, reached};
use crate::error::chain;
use crate::fs;
use crate::model::event::RunEvent;
use crate::model::{Attempt, ChunkEvent, ChunkState};
use crate::plan::{self, PlannedChunk};
use crate::store::{AttemptRecord, ChunkError, ChunkRecord, NewChunk};

/// How long to wait for what tasks have to say when the run ends before it: all of them end at once but those that
/// sync a file.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a task brings back.
pub(super) enum TaskEnd {
    Listed {
        export: usize,
        seq: u32,
        result: Result<ListedWindow, ArchiveError>,
        attempts: Vec<Attempt>,
    },
    Fetched {
        export: usize,
        chunk: Box<ChunkRecord>,
        outcome: FetchOutcome,
        attempts: Vec<Attempt>,
    },
    Probed {
        export: usize,
        result: Result<bool, ArchiveError>,
        attempts: Vec<Attempt>,
    },
    /// The run stopped before it had listed or asked.
    Cut {
        export: usize,
        attempts: Vec<Attempt>,
    },
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
    pub(super) turns: Turns,
    pub(super) ledger: Ledger,
    /// The first export for which there is no room on a disk, and what it lacks.
    pub(super) no_room: Option<(usize, Shortage)>,
    /// Whether the user knows that fetching waits for room.
    pub(super) told_of_disk: bool,
    /// Whether everything is listed before the first export is opened.
    pub(super) is_listing_first: bool,
    /// The exports of which nothing was planned before that.
    pub(super) planned_first: BTreeSet<usize>,
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
            stop: watch::Sender::new(false),
        });
        let turns = Turns::new(&request.pace);
        let ledger = Ledger::new(&request.disk);
        Self {
            request,
            waiting: (0..exports.len()).collect(),
            active: Vec::new(),
            exports,
            fetch,
            tasks: JoinSet::new(),
            merges: JoinSet::new(),
            merge_queue: VecDeque::new(),
            turns,
            ledger,
            no_room: None,
            told_of_disk: false,
            is_listing_first: false,
            planned_first: BTreeSet::new(),
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
        if result.is_err()
            && let Err(stop) = self.wind_down().await
        {
            // Why the run ends is told already; the next one puts right what this leaves.
            tracing::error!(error = chain(&stop), "the end of the run could not be recorded in full");
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
        self.refuse_too_much().await?;
        let mut cancel = self.request.cancel.clone();
        loop {
            let wake = self.schedule()?;
            if self.tasks.is_empty() && self.merges.is_empty() && wake.wait().is_none() {
                if self.active.is_empty() && self.waiting.is_empty() {
                    return Ok(());
                }
                self.nothing_goes_on()?;
                continue;
            }
            tokio::select! {
                () = cancelled(&mut cancel) => return Err(Stop::Interrupted),
                Some(end) = self.tasks.join_next() => self.task_ended(end)?,
                Some(end) = self.merges.join_next() => self.merge_ended(end)?,
                () = wake.sleep() => {}
            }
        }
    }

    /// Ends all tasks; merges leave their export where they found it.
    async fn wind_down(&mut self) -> Result<(), Stop> {
        self.stop_merges.store(true, Ordering::SeqCst);
        // Tasks end at once and bring the requests they have made, the one that is cut too.
        self.fetch.stop.send_replace(true);
        let mut result = Ok(());
        let deadline = Instant::now() + LAST_WORDS;
        while let Ok(Some(end)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            let said = end.map_err(|error| panicked(&error)).and_then(|end| self.last_words(end));
            result = result.and(said);
        }
        self.tasks.shutdown().await;
        while let Some(end) = self.merges.join_next().await {
            let undone = end.map_err(|error| panicked(&error)).and_then(
                |MergeOutcome { export, attempts, .. }| {
                    self.record(export, None, attempts)?;
                    self.undo_merge(export)
                },
            );
            result = result.and(undone);
        }
        result
    }

    /// Records what a task brings after the run was stopped: what it has got need not be asked for again.
    fn last_words(&mut self, end: TaskEnd) -> Result<(), Stop> {
        match end {
            TaskEnd::Fetched { outcome: FetchOutcome::Fetched { .. }, .. }
            | TaskEnd::Listed { result: Ok(_), .. } => self.task_ended(Ok(end)),
            TaskEnd::Fetched { export, chunk, attempts, .. } => self.record(export, Some(&chunk), attempts),
            TaskEnd::Listed { export, attempts, .. }
            | TaskEnd::Probed { export, attempts, .. }
            | TaskEnd::Cut { export, attempts } => self.record(export, None, attempts),
        }
    }

    /// Takes an export up.
    pub(super) fn open(&mut self, index: usize) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        export.phase = Phase::Open;
        let counts = store.chunk_counts(&export.id)?;
        let fetched = counts.in_state(ChunkState::Fetched).chunks;
        let (total, empty) = (counts.leaves().chunks, counts.in_state(ChunkState::Empty).chunks);
        let is_resumed = total > 0 && !self.planned_first.contains(&index);
        if is_resumed {
            self.facts.resumed.insert(export.id.clone(), fetched);
        }
        self.request.events.event(RunEvent::ExportOpened {
            export: export.id.clone(),
            job: export.spec.job.clone(),
            stream: export.spec.stream.clone(),
            range: export.spec.range,
            resumed: is_resumed.then_some((fetched + empty, total)),
        });
        if export.failed.is_some() {
            // Its listing did, before anything was opened.
            return Ok(());
        }
        // An end that was cut short in an earlier run, before its row said so: its own files are in nobody's way.
        let cancel = self.request.cancel.clone();
        finish::roll_back(store, &export.id, &export.spec, &|| *cancel.borrow())?;
        let own = store.former(&export.id)?.map(|former| former.outputs).unwrap_or_default();
        if let Some(path) = again::foreign(&export.spec, &own) {
            export.failed = Some(decide::already_there(&path));
            return Ok(());
        }
        if counts.in_state(ChunkState::Rejected).chunks > 0 {
            self.note_refusal(index, None)?;
            if self.exports[index].failed.is_some() {
                return Ok(());
            }
        }
        let export = &self.exports[index];
        fs::create_dir_all(&fetch::export_folder(&self.request.work, &export.id)).map_err(Stop::of_fs)?;
        self.find_unplanned(index)?;
        let (store, export) = (&self.request.store, &self.exports[index]);
        // Fixed windows are planned by now.
        let counts = store.chunk_counts(&export.id)?;
        let totals = store.export(&export.id)?.map(|record| record.totals).unwrap_or_default();
        let known_bytes = if export.spec.chunk.is_fixed() { 0 } else { totals.planned_bytes };
        self.claim(index, &counts)?;
        let export = &self.exports[index];
        self.request.events.event(RunEvent::WindowPlanned {
            export: export.id.clone(),
            chunks: counts.leaves().chunks,
            bytes: known_bytes,
            media_ms: totals.media_ms,
            last: export.unplanned.is_empty(),
        });
        Ok(())
    }

    pub(super) fn task_ended(&mut self, end: Result<TaskEnd, JoinError>) -> Result<(), Stop> {
        match end.map_err(|error| panicked(&error))? {
            TaskEnd::Listed { export, seq, result, attempts } => {
                self.exports[export].listing -= 1;
                self.turns.listing_ended(&self.exports[export].stream.arn);
                self.record(export, None, attempts)?;
                self.listed(export, seq, result)
            }
            TaskEnd::Fetched { export, chunk, outcome, attempts } => {
                self.exports[export].fetching -= 1;
                self.turns.fetch_ended(&self.exports[export].stream.arn);
                self.record(export, Some(&chunk), attempts)?;
                self.fetched(export, &chunk, outcome)
            }
            TaskEnd::Probed { export, result, attempts } => {
                self.exports[export].listing -= 1;
                self.record(export, None, attempts)?;
                self.probed(export, result)
            }
            TaskEnd::Cut { export, attempts } => self.record(export, None, attempts),
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

    fn fetched(&mut self, index: usize, chunk: &ChunkRecord, outcome: FetchOutcome) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        let bytes = expected_bytes(&chunk.planned);
        match outcome {
            FetchOutcome::Fetched { size_bytes, sha256 } => {
                export.is_given();
                store.record_fetched(chunk.id, size_bytes, &sha256)?;
                reached(Point::ChunkRecorded);
                if chunk.planned.is_fixed() {
                    self.ledger.land_as(index, bytes, size_bytes);
                } else {
                    self.ledger.land(index, bytes);
                }
                self.request.events.event(RunEvent::ChunkFetched {
                    export: export.id.clone(),
                    planned_bytes: chunk.planned.planned_bytes,
                    size_bytes,
                });
            }
            FetchOutcome::Empty => {
                store.move_chunk(chunk.id, ChunkState::Fetching, ChunkEvent::FoundEmpty)?;
                self.ledger.forgo(index, bytes);
                self.request.events.event(RunEvent::WindowEmpty { export: export.id.clone() });
            }
            FetchOutcome::TakeApart { error, refused } => self.take_apart(index, chunk, &error, refused)?,
            FetchOutcome::Rejected(error) => {
                store.record_failure(chunk.id, ChunkEvent::Refused, &error)?;
                self.ledger.forgo(index, bytes);
                self.note_refusal(index, None)?;
            }
            FetchOutcome::Expired(error) => {
                store.record_failure(chunk.id, ChunkEvent::Expired, &error)?;
                self.ledger.forgo(index, bytes);
            }
            FetchOutcome::Failed(error) => {
                tracing::info!(export = %export.id, chunk = chunk.id.0, error = error.detail, "chunk given up");
                store.record_failure(chunk.id, ChunkEvent::GaveUp, &error)?;
                self.ledger.forgo(index, bytes);
            }
            FetchOutcome::StreamFailed(error) => {
                store.move_chunk(chunk.id, ChunkState::Fetching, ChunkEvent::Interrupted)?;
                self.take_back(index, chunk);
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
        let first = chunk.planned.first_fragment as usize;
        let count = chunk.planned.fragment_count as usize;
        let whole =
            PlannedChunk { first, count, bounds: chunk.planned.bounds, bytes: chunk.planned.planned_bytes };
        let halves = if chunk.planned.is_fixed() {
            plan::halve_fixed(&whole)
        } else {
            let (fragments, _) = store.window_fragments(&export.id, chunk.window_seq)?;
            plan::split_chunk(&whole, &fragments[first..first + count], export.spec.timestamps)
        };
        if let Some(halves) = halves {
            tracing::info!(export = %export.id, chunk = chunk.id.0, error = error.detail, "chunk divided");
            store.split_chunk(chunk.id, &halves.each_ref().map(new_chunk))?;
            reached(Point::SplitStored);
            export.has_more();
            self.request.events.event(RunEvent::ChunkSplit { export: export.id.clone(), into: 2 });
            if refused {
                self.note_refusal(index, Some(chunk.id))?;
            }
            self.take_back(index, chunk);
        } else {
            let event = if refused { ChunkEvent::Refused } else { ChunkEvent::GaveUp };
            store.record_failure(chunk.id, event, error)?;
            self.ledger.forgo(index, expected_bytes(&chunk.planned));
            if refused {
                self.note_refusal(index, None)?;
            }
        }
        Ok(())
    }

    /// Takes a chunk out of a worker's account; what is reserved stays for those that ask for it again, unless it was
    /// reserved for this one alone.
    fn take_back(&mut self, index: usize, chunk: &ChunkRecord) {
        let bytes = expected_bytes(&chunk.planned);
        if chunk.planned.is_fixed() {
            self.ledger.forgo(index, bytes);
            self.ledger.may_bring(index, bytes);
        } else {
            self.ledger.take_back(index, bytes);
        }
    }
}

pub(super) fn new_chunk(chunk: &PlannedChunk) -> NewChunk {
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
