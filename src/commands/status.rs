//! `kvs-export status`: what the state files record; reads only, also during a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document;
use super::error::CommandError;
use super::job_file::{self, JobFileText};
use super::{complain, stderr_color};
use crate::cli::{GlobalArgs, StatusArgs};
use crate::clock::SystemClock;
use crate::exit_code;
use crate::job;
use crate::model::ChunkState;
use crate::model::status::{
    ExportRecordReport, LastRun, RunningHolder, StateFileStatus, StatusReport, StatusTotals,
};
use crate::report;
use crate::store::{ChunkCounts, ExportRecord, OutputRole, StateLock, Store, StoreError};

/// Exports read from a state file at a time.
const PAGE: u32 = 1_000;

/// Tells the last run and every export.
pub(super) fn status(args: &StatusArgs, global: &GlobalArgs) -> u8 {
    let (report, code) = match gather(args) {
        Ok(report) => (report, exit_code::DONE),
        // The first line of the text is to answer whatever happens.
        Err(error) => {
            complain(&error, stderr_color(global));
            (StatusReport::refused(error.told()), exit_code::of(error.outcome()))
        }
    };
    document::answer(&report, code, global, |color| report::status_text(&report, args.all, color))
}

fn gather(args: &StatusArgs) -> Result<StatusReport, CommandError> {
    let mut files = Vec::new();
    let mut exports = Vec::new();
    for path in state_files(args)? {
        let store = match Store::open_read_only(&path, Arc::new(SystemClock)) {
            // The job file tells where it will be; a path that was given must be right.
            Err(StoreError::Missing { .. }) if args.jobs.is_some() => {
                files.push(state_file(path, None, &[]));
                continue;
            }
            store => store?,
        };
        let last_run = last_run(&store, &path)?;
        let mut of_file = Vec::new();
        let mut after = 0;
        loop {
            let page = store.exports(after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for record in page {
                let counts = store.chunk_counts(&record.identity.id)?;
                of_file.push(export(&store, record, &counts)?);
            }
        }
        files.push(state_file(path, last_run, &of_file));
        exports.append(&mut of_file);
    }
    let answer = report::answer(&files);
    Ok(StatusReport::new(files, exports, answer))
}

fn state_file(path: PathBuf, last_run: Option<LastRun>, exports: &[ExportRecordReport]) -> StateFileStatus {
    let answer = report::answer_of(last_run.as_ref(), &StatusTotals::of(exports));
    StateFileStatus { path, answer, last_run }
}

/// The state files to read: those given, or the job file's.
fn state_files(args: &StatusArgs) -> Result<Vec<PathBuf>, CommandError> {
    // Named beside a job file, as `run` is called with it, they stand instead of the job file's.
    let Some(jobs) = args.jobs.as_ref().filter(|_| args.states.is_empty()) else {
        return Ok(args.states.clone());
    };
    let read = JobFileText::read(jobs)?;
    let file = job::parse_over(read.source(&read.path)?, &job_file::overlay(&[]))?;
    Ok(vec![file.state])
}

fn last_run(store: &Store, path: &Path) -> Result<Option<LastRun>, StoreError> {
    let holder = StateLock::holder(path)?;
    Ok(store.last_run()?.map(|run| LastRun {
        started: run.started,
        ended: run.ended,
        outcome: run.outcome,
        exit_code: run.exit_code,
        job_file: run.job_file,
        error: run.error,
        running_holder: holder.map(|holder| RunningHolder {
            pid: holder.pid,
            host: holder.host,
            since: holder.since,
        }),
    }))
}

fn export(
    store: &Store,
    record: ExportRecord,
    counts: &ChunkCounts,
) -> Result<ExportRecordReport, StoreError> {
    let videos = store.outputs(&record.identity.id)?.into_iter();
    let mut output: Vec<PathBuf> =
        videos.filter(|output| output.role == OutputRole::Video).map(|output| output.path).collect();
    if output.is_empty() && !record.state.is_final() {
        output.push(record.spec.output.clone());
    }
    Ok(ExportRecordReport {
        id: record.identity.id,
        job: record.spec.job,
        stream: record.spec.stream.name().to_owned(),
        from: record.spec.range.start(),
        to: record.spec.range.end(),
        status: record.state,
        superseded: record.superseded,
        output,
        manifest: record.manifest,
        chunks: counts.tally(),
        chunk: record.spec.chunk.to_string(),
        fragments: (!record.spec.chunk.is_fixed()).then_some(record.totals.fragments),
        bytes: record.totals.planned_bytes,
        media_ms: record.totals.media_ms,
        waiting_bytes: if record.state.is_final() {
            0
        } else {
            counts.in_state(ChunkState::Fetched).size_bytes
        },
        finished_at: record.finished,
        error: record.error,
    })
}
