//! How the dispatcher ends an export: all its chunks settled → merged, named, recorded; or given up for this run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use super::again;
use super::decide;
use super::dispatcher::{Dispatcher, TaskEnd, panicked};
use super::export::Phase;
use super::facts::Facts;
use super::fetch;
use super::finish::{self, MergeFailure, MergeJob, Staged};
use super::list;
use super::observe::Observer;
use super::stop::Stop;
use super::window;
use crate::archive::{ArchiveError, FailureKind};
use crate::crash_point::{Point, reached};
use crate::error::chain;
use crate::fs;
use crate::model::event::RunEvent;
use crate::model::{
    Attempt, ChunkId, ChunkState, ExportEvent, ExportId, ExportSpec, ExportState, GapPolicy, RequestBounds,
    TimeRange,
};
use crate::plan::Gap;
use crate::store::{ChunkError, ChunkRecord, Finish, Store};

/// How often a merge may find the same chunk altered before the export is given up.
const MOST_LOSSES: u32 = 3;

/// So many single fragments refused for one reason, each in the largest stretch that nothing was known of, and none
/// given: the others would be refused as well.
const REFUSED_ALIKE: usize = 8;

/// How long to wait for the tags of a stream.
const TAGS_PATIENCE: Duration = Duration::from_secs(10);

fn without_tags(reason: &str) -> String {
    format!("the manifest is without the stream's tags, which could not be read: {reason}")
}

/// What a merge brings back.
pub(super) struct MergeOutcome {
    pub(super) export: usize,
    /// The staging folder, or why there is none.
    pub(super) staged: Result<Staged, MergeFailure>,
    /// What was requested for it.
    pub(super) attempts: Vec<Attempt>,
}

impl Dispatcher<'_> {
    /// Moves an export on when nothing of it is under way any more.
    pub(super) fn settle(&mut self, index: usize) -> Result<(), Stop> {
        let export = &self.exports[index];
        if export.phase != Phase::Open {
            return Ok(());
        }
        if export.is_listed() && !export.planned && export.failed.is_none() {
            self.planning_complete(index)?;
        }
        if !self.exports[index].is_quiet() {
            return Ok(());
        }
        if let Some(error) = self.exports[index].failed.clone() {
            return self.give_up(index, &error);
        }
        if !self.exports[index].is_settled() {
            return Ok(());
        }
        let export = &self.exports[index];
        let counts = self.request.store.chunk_counts(&export.id)?;
        let failed = counts.in_state(ChunkState::Failed).chunks;
        if failed > 0 {
            let error = self.first_failure(index, failed)?;
            self.give_up(index, &error)
        } else if let Some(error) = self.fixed_gaps_error(index)? {
            self.give_up(index, &error)
        } else if !counts.anything_but_empty() {
            self.probe_other_clock(index);
            Ok(())
        } else {
            self.queue_merge(index, None);
            Ok(())
        }
    }

    /// The last window is planned: gaps are known.
    fn planning_complete(&mut self, index: usize) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        export.planned = true;
        let state = store.export(&export.id)?.map(|record| record.state);
        if state == Some(ExportState::Planning) {
            store.move_export(&export.id, ExportState::Planning, ExportEvent::Planned)?;
            reached(Point::ExportPlanned);
        }
        if export.spec.chunk.is_fixed() {
            return Ok(());
        }
        let facts = Facts::gather(store, &export.id, &export.spec)?;
        export.failed = gaps_error(&export.spec, &facts.gaps);
        self.facts.gaps.insert(export.id.clone(), facts.gap_reports());
        Ok(())
    }

    /// Of fixed windows it is known only at the end which have no media.
    fn fixed_gaps_error(&mut self, index: usize) -> Result<Option<String>, Stop> {
        let export = &self.exports[index];
        if !export.spec.chunk.is_fixed() {
            return Ok(None);
        }
        let facts = Facts::gather(&self.request.store, &export.id, &export.spec)?;
        self.facts.gaps.insert(export.id.clone(), facts.gap_reports());
        Ok(gaps_error(&export.spec, &facts.gaps))
    }

    /// Before an export is called empty the other clock is asked: a wrong clock makes footage invisible.
    fn probe_other_clock(&mut self, index: usize) {
        let export = &mut self.exports[index];
        export.phase = Phase::Merging;
        export.listing += 1;
        let (fetch, stream) = (Arc::clone(&self.fetch), Arc::clone(&export.stream));
        let (range, other) = (export.spec.range, export.spec.timestamps.other());
        let is_fixed = export.spec.chunk.is_fixed();
        let observer = Observer::new(&self.request.events);
        self.tasks.spawn(async move {
            let bounds = inclusive(range);
            let asking = async {
                if is_fixed {
                    window::any_media(&*fetch.archive, &stream.arn, other, bounds, &observer).await
                } else {
                    list::any_fragment(&*fetch.archive, &stream.arn, other, bounds, &observer).await
                }
            };
            let result = fetch.unless_stopped(asking).await;
            let attempts = observer.into_attempts();
            match result {
                Some(result) => TaskEnd::Probed { export: index, result, attempts },
                None => TaskEnd::Cut { export: index, attempts },
            }
        });
    }

    /// The other clock has answered.
    pub(super) fn probed(&mut self, index: usize, result: Result<bool, ArchiveError>) -> Result<(), Stop> {
        let export = &mut self.exports[index];
        match result {
            Ok(false) => self.queue_merge(index, None),
            Ok(true) => {
                let other = export.spec.timestamps.other().as_str();
                let warning = format!(
                    "the range is empty by its clock, but the archive has fragments in it by {other} timestamps"
                );
                self.queue_merge(index, Some(warning));
            }
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            Err(error) => {
                // Empty is final: it is not said before both clocks were asked.
                export.phase = Phase::Open;
                self.stream_failed(index, &error);
            }
        }
        Ok(())
    }

    pub(super) fn queue_merge(&mut self, index: usize, warning: Option<String>) {
        let export = &mut self.exports[index];
        export.phase = Phase::Merging;
        export.spec.warnings.extend(warning);
        self.ledger.commit(index);
        self.merge_queue.push_back(index);
    }

    /// Takes an export back to where its merge begins.
    pub(super) fn undo_merge(&mut self, index: usize) -> Result<(), Stop> {
        let export = &self.exports[index];
        fs::remove_dir_all(&finish::Names::of(&export.spec.output).staging(&export.id))
            .map_err(Stop::of_fs)?;
        // One without chunks ends without ever being `merging`.
        let state = self.request.store.export(&export.id)?.map(|record| record.state);
        if state == Some(ExportState::Merging) {
            self.request.store.move_export(&export.id, ExportState::Merging, ExportEvent::Interrupted)?;
        }
        Ok(())
    }

    /// Starts merges while there is room.
    pub(super) fn start_merges(&mut self) -> Result<(), Stop> {
        while self.merges.len() < self.request.merges {
            let Some(index) = self.merge_queue.pop_front() else { break };
            let export = &self.exports[index];
            let store = &mut self.request.store;
            if store.chunk_counts(&export.id)?.anything_but_empty() {
                store.move_export(&export.id, ExportState::Fetching, ExportEvent::MergeStarted)?;
                reached(Point::MergeBegun);
                self.request.events.event(RunEvent::MergeStarted { export: export.id.clone() });
            }
            let Some(mut record) = store.export(&export.id)? else { continue };
            record.spec = export.spec.clone();
            let mut job = MergeJob {
                state: self.request.state.clone(),
                work: self.request.work.clone(),
                record,
                stream: Arc::clone(&export.stream),
                tags: None,
                ffmpeg: self.request.ffmpeg.clone(),
                job_file: self.request.job_file.clone(),
                clock: Arc::clone(&self.request.clock),
                cancel: Arc::clone(&self.stop_merges),
            };
            let archive = Arc::clone(&self.request.archive);
            let observer = Observer::new(&self.request.events);
            let fetch = Arc::clone(&self.fetch);
            self.merges.spawn(async move {
                // Tags are a nicety of the manifest: neither a missing permission nor a service that is away may
                // fail the merge or hold it up.
                let asking = archive.list_tags(&job.stream.arn, &observer);
                match fetch.unless_stopped(tokio::time::timeout(TAGS_PATIENCE, asking)).await {
                    Some(Ok(Ok(tags))) => job.tags = Some(tags),
                    // Told by `validate`: it is so every night.
                    Some(Ok(Err(error))) if error.kind == FailureKind::Denied => {}
                    Some(Ok(Err(error))) => job.record.warnings.push(without_tags(&chain(&error))),
                    Some(Err(_)) => job.record.warnings.push(without_tags("no answer in time")),
                    None => {}
                }
                let staged = tokio::task::spawn_blocking(move || finish::stage(&job)).await;
                let staged = staged.unwrap_or_else(|error| Err(panicked(&error).into()));
                MergeOutcome { export: index, staged, attempts: observer.into_attempts() }
            });
        }
        Ok(())
    }

    pub(super) fn merge_ended(&mut self, end: Result<MergeOutcome, JoinError>) -> Result<(), Stop> {
        let MergeOutcome { export: index, staged, attempts } = end.map_err(|error| panicked(&error))?;
        self.record(index, None, attempts)?;
        match staged {
            Ok(staged) => self.conclude(index, &staged),
            Err(MergeFailure::LostChunk(path)) => self.fetch_again(index, &path),
            Err(MergeFailure::Failed(error)) => self.give_up(index, &error),
            Err(failure @ (MergeFailure::Stop(_) | MergeFailure::Cancelled)) => {
                self.undo_merge(index)?;
                Err(match failure {
                    MergeFailure::Stop(stop) => stop,
                    _ => Stop::Interrupted,
                })
            }
        }
    }

    /// F3 to F9: expected hashes → names → row → chunks deleted.
    fn conclude(&mut self, index: usize, staged: &Staged) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        if let Some(former) = store.former(&export.id)? {
            let fetched = store.chunk_counts(&export.id)?.in_state(ChunkState::Fetched).fragments;
            let amount = staged.media_ms.unwrap_or(fetched);
            if let Some(error) = again::less_than(&former, amount, export.spec.chunk.is_fixed()) {
                return self.give_up(index, &error);
            }
        }
        if let Some(media_ms) = staged.media_ms {
            store.learn_media_ms(&export.id, media_ms)?;
        }
        store.set_outputs(&export.id, &staged.outputs)?;
        reached(Point::HashesStored);
        if let Err(error) =
            finish::publish(&export.id, &export.spec, &staged.outputs, &BTreeSet::new(), &staged.former)
        {
            if error.source.kind() == std::io::ErrorKind::AlreadyExists {
                let message = decide::already_there(&error.path);
                // Not stopped half-way: this run records what became of it.
                finish::roll_back(store, &export.id, &export.spec, &|| false)?;
                return self.give_up(index, &message);
            }
            return Err(Stop::of_fs(error));
        }
        let state = store.export(&export.id)?.map_or(ExportState::Merging, |record| record.state);
        let finish = Finish {
            event: staged.event,
            manifest: Some(&staged.manifest),
            warnings: &staged.warnings,
            error: None,
        };
        let state = store.finish_export(&export.id, state, &finish)?;
        reached(Point::ExportEnded);
        finish::clean_up(&self.request.work, &export.id, &export.spec.output).map_err(Stop::of_fs)?;
        export.phase = Phase::Finished;
        self.ledger.release(index);
        self.request.events.event(RunEvent::ExportFinished { export: export.id.clone(), state, error: None });
        Ok(())
    }

    /// A merge found a chunk's file gone or altered: that chunk is fetched again.
    fn fetch_again(&mut self, index: usize, path: &std::path::Path) -> Result<(), Stop> {
        let export = &mut self.exports[index];
        let Some(chunk) = fetch::chunk_of(path) else {
            return self.give_up(index, &format!("{} is no chunk's file", path.display()));
        };
        let losses = export.losses.entry(chunk).or_default();
        *losses += 1;
        if *losses > MOST_LOSSES {
            return self.give_up(index, &format!("{} changes again and again", path.display()));
        }
        let message = format!("{} is not as it was fetched; it is fetched again", path.display());
        self.request.events.event(RunEvent::Warning { message });
        self.undo_merge(index)?;
        let lost = self.request.store.chunk(chunk)?.planned;
        self.ledger.lose(index, lost.planned_bytes);
        if lost.is_fixed() {
            self.ledger.forgo(index, lost.planned_bytes);
        }
        self.request.store.lose_chunk(chunk)?;
        fs::remove_file(path).map_err(Stop::of_fs)?;
        let export = &mut self.exports[index];
        export.phase = Phase::Open;
        export.has_more();
        Ok(())
    }

    /// Ends an export for this run; a later one tries again.
    pub(super) fn give_up(&mut self, index: usize, error: &str) -> Result<(), Stop> {
        let store = &mut self.request.store;
        let export = &mut self.exports[index];
        fs::remove_dir_all(&finish::Names::of(&export.spec.output).staging(&export.id))
            .map_err(Stop::of_fs)?;
        let state = store.export(&export.id)?.map_or(ExportState::Planning, |record| record.state);
        let finish = Finish { event: ExportEvent::GaveUp, manifest: None, warnings: &[], error: Some(error) };
        let state = store.finish_export(&export.id, state, &finish)?;
        export.phase = Phase::Finished;
        self.ledger.release(index);
        let error = Some(error.to_owned());
        self.request.events.event(RunEvent::ExportFinished { export: export.id.clone(), state, error });
        Ok(())
    }

    /// Something of an export was refused: while nothing of it was ever given, looks whether all of it is refused alike,
    /// and then gives it up. What earlier runs were refused counts. `divided` is the chunk that was refused, if it was
    /// divided.
    pub(super) fn note_refusal(&mut self, index: usize, divided: Option<ChunkId>) -> Result<(), Stop> {
        let export = &mut self.exports[index];
        let counts = self.request.store.chunk_counts(&export.id)?;
        if counts.in_state(ChunkState::Fetched).chunks > 0 {
            return Ok(());
        }
        export.probe(divided);
        if counts.in_state(ChunkState::Rejected).chunks < REFUSED_ALIKE as u64 {
            return Ok(());
        }
        let mut alike: BTreeMap<String, usize> = BTreeMap::new();
        for chunk in self.request.store.leaf_chunks(&export.id) {
            let ChunkRecord { state: ChunkState::Rejected, error: Some(error), .. } = chunk? else {
                continue;
            };
            let count = alike.entry(error.code.clone()).or_default();
            *count += 1;
            if *count >= REFUSED_ALIKE {
                export.failed.get_or_insert_with(|| all_refused(&error));
                break;
            }
        }
        Ok(())
    }

    /// In a sentence, what the failed chunks of an export failed of.
    fn first_failure(&self, index: usize, failed: u64) -> Result<String, Stop> {
        let chunks = if failed == 1 { "1 chunk".to_owned() } else { format!("{failed} chunks") };
        for chunk in self.request.store.leaf_chunks(&self.exports[index].id) {
            if let ChunkRecord { state: ChunkState::Failed, error: Some(error), .. } = chunk? {
                return Ok(format!("{chunks} could not be fetched; the first: {}", error.detail));
            }
        }
        Ok(format!("{chunks} could not be fetched"))
    }
}

/// Why an export is given up whose every fragment is refused.
fn all_refused(error: &ChunkError) -> String {
    let way_out = if error.code.contains("CodecPrivateData") {
        "its producer must send the codec private data (SPS and PPS) that a player needs; take the stream or this range \
         out of the job"
    } else {
        "take the stream or this range out of the job"
    };
    format!(
        "GetClip refuses this stream's media: {REFUSED_ALIKE} fragments were asked for one by one, all were refused and \
         none was given ({}); {way_out}",
        error.detail
    )
}

/// The inclusive bounds of a half-open range.
fn inclusive(range: TimeRange) -> RequestBounds {
    RequestBounds { start: range.start(), end: range.end() - 1 }
}

/// Why gaps fail an export whose job does not accept them, or `None`.
pub(super) fn gaps_error(spec: &ExportSpec, gaps: &[Gap]) -> Option<String> {
    let first = gaps.first().filter(|_| spec.gaps == GapPolicy::Fail)?;
    let total: i64 = gaps.iter().map(|gap| gap.ms).sum();
    Some(format!(
        "the archive has no fragments for {total} ms of the range, first from {} to {}, and the job says \
         gaps = \"fail\"",
        first.from, first.to
    ))
}

/// Whether an earlier export that is planned to its end could only fail for its gaps.
pub(super) fn fails_by_gaps(store: &Store, export: &ExportId, spec: &ExportSpec) -> Result<bool, Stop> {
    let planned = store.export(export)?.is_some_and(|record| {
        record.totals.windows == record.totals.windows_planned && record.state == ExportState::Failed
    });
    if spec.gaps != GapPolicy::Fail || !planned {
        return Ok(false);
    }
    Ok(gaps_error(spec, &Facts::gather(store, export, spec)?.gaps).is_some())
}
