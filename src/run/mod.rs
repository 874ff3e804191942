//! One run: what the job file asks for → listed, fetched, merged, recorded.
//!
//! The dispatcher owns the order, the state file and the events; workers fetch, list and merge, and tell it what
//! became of it. Nothing here parses job files, knows AWS or renders progress.

mod again;
mod check;
mod closing;
mod decide;
mod disk;
mod dispatcher;
mod export;
mod facts;
mod fetch;
mod finish;
mod kept;
mod list;
mod listing;
mod observe;
mod order;
mod plan_assembly;
mod plan_keep;
mod plan_tally;
mod planner;
mod prefixes;
mod prepare;
mod proof;
mod prune;
mod receive;
mod recover;
mod room;
mod schedule;
mod stop;
mod tally;
#[cfg(test)]
mod tests;
mod turn;
mod window;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use decide::Selection;

use crate::archive::{Archive, Pace};
use crate::clock::Clock;
use crate::crash_point::{Point, reached};
use crate::error::chain;
use crate::exit_code;
use crate::merge::Ffmpeg;
use crate::model::event::{EventSink, RunEvent};
use crate::model::report::{Outcome, RUN_SCHEMA, RunReport};
use crate::model::{ExportId, Sha256Digest, UnlistedRange};
use crate::store::{NewRun, RunId, Store, StoreError};

pub use again::{Again, may_be_redone, may_be_retried};
pub use check::{StreamChecks, check_streams};
pub use decide::occupied;
pub use disk::{DiskLimits, Disks, Space, SystemDisks};
pub use planner::{NoEvents, PlanLimits, PlanRequest, plan, plan_again};
pub use prefixes::{ListedPrefixes, list_streams};
pub use prepare::Asked;
pub use prune::{PruneRequest, prune};
pub use stop::Stop;

/// The job file, for the run's row and the manifests.
#[derive(Debug, Clone)]
pub struct JobFileFacts {
    /// Its path.
    pub path: PathBuf,
    /// Its hash.
    pub sha256: Sha256Digest,
}

/// Everything a run needs. The caller holds the state file's lock.
pub struct RunRequest {
    /// What is asked, in the order of the job file.
    pub asked: Vec<Asked>,
    /// What is asked of streams that could not be listed.
    pub unlisted: Vec<UnlistedRange>,
    /// Whether that is the whole file: only then can earlier exports be superseded.
    pub whole_file: bool,
    /// The state file, open.
    pub store: Store,
    /// Its path, for the connections of merges.
    pub state: PathBuf,
    /// Where chunks wait.
    pub work: PathBuf,
    /// The archive, with its decorators.
    pub archive: Arc<dyn Archive>,
    /// When its next requests would be sent.
    pub pace: Arc<Pace>,
    /// Requests at a time.
    pub requests_in_flight: usize,
    /// Attempts per chunk.
    pub attempts: u32,
    /// Merges at a time.
    pub merges: usize,
    /// How the disks are to be used.
    pub disk: DiskLimits,
    /// The ffmpeg that merges.
    pub ffmpeg: Ffmpeg,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Who shows what happens.
    pub events: Arc<dyn EventSink>,
    /// Becomes true when the run is to stop.
    pub cancel: watch::Receiver<bool>,
    /// The job file, where there is one.
    pub job_file: Option<JobFileFacts>,
}

/// Runs, and reports however it ends.
pub async fn run(request: RunRequest) -> RunReport {
    run_selected(request, None).await
}

/// Runs some of the exports that were begun before, and no others; `asked` is what the job file asks for, or for a
/// finished export what it was resolved to.
pub async fn run_again(request: RunRequest, again: &Again) -> RunReport {
    run_selected(request, Some(again)).await
}

async fn run_selected(mut request: RunRequest, again: Option<&Again>) -> RunReport {
    let begun = Instant::now();
    let mut report = match recover_and_begin(&mut request) {
        Err(stop) => {
            let report = RunReport::refused(stop.outcome(), stop.told());
            record_refused(&mut request.store, request.job_file.as_ref(), &report);
            report
        }
        Ok((run, recovered)) => {
            let report = carry_out(&mut request, again, recovered).await;
            record_end(&mut request.store, run, &report);
            kept::drop_old(&mut request.store, request.clock.now());
            // What was in a worker's hands is planned again, so that `status` shows no work that nobody does.
            if let Err(error) = request.store.recover() {
                tracing::error!(error = chain(&error), "unfinished chunks could not be put back");
            }
            report
        }
    };
    report.totals.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

/// Records a run that could not begin, so that `status` does not tell of the last good one.
pub fn record_refused(store: &mut Store, job_file: Option<&JobFileFacts>, report: &RunReport) {
    match begin_run(store, job_file) {
        Ok(run) => record_end(store, run, report),
        Err(error) => tracing::error!(error = chain(&error), "the run could not be recorded"),
    }
}

fn record_end(store: &mut Store, run: RunId, report: &RunReport) {
    let code = exit_code::of(report.outcome);
    let error = report.error.clone().or_else(|| not_begun(report));
    if let Err(error) = store.end_run(run, report.outcome.as_str(), code, error.as_deref()) {
        tracing::error!(error = chain(&error), "the end of the run could not be recorded");
    }
    reached(Point::RunEnded);
}

/// Which exports could not be begun, and why: there is no row of theirs to say so.
fn not_begun(report: &RunReport) -> Option<String> {
    const MOST: usize = 5;
    let refused: Vec<_> =
        report.exports.iter().filter(|export| export.id.is_none() && export.error.is_some()).collect();
    let mut told: Vec<String> = refused
        .iter()
        .take(MOST)
        .map(|export| {
            let error = export.error.as_deref().unwrap_or_default();
            format!("job {}, stream {}: {error}", export.job, export.stream)
        })
        .collect();
    if refused.len() > MOST {
        told.push(format!("and {} more", refused.len() - MOST));
    }
    let count = refused.len();
    let exports = if count == 1 { "1 export".to_owned() } else { format!("{count} exports") };
    (count > 0).then(|| format!("{exports} could not be begun: {}", told.join("; ")))
}

fn recover_and_begin(request: &mut RunRequest) -> Result<(RunId, BTreeSet<ExportId>), Stop> {
    crate::fs::create_dir_all(&request.work).map_err(Stop::of_fs)?;
    let stopped = || *request.cancel.borrow();
    let recovered = recover::recover(&mut request.store, &request.work, &stopped)?;
    kept::drop_old(&mut request.store, request.clock.now());
    let run = begin_run(&mut request.store, request.job_file.as_ref())?;
    reached(Point::RunBegun);
    Ok((run, recovered))
}

fn begin_run(store: &mut Store, job_file: Option<&JobFileFacts>) -> Result<RunId, StoreError> {
    store.begin_run(&NewRun {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        job_file: job_file.map(|file| file.path.clone()),
        job_file_sha256: job_file.map(|file| file.sha256),
    })
}

async fn carry_out(
    request: &mut RunRequest,
    again: Option<&Again>,
    recovered: BTreeSet<ExportId>,
) -> RunReport {
    let asked = std::mem::take(&mut request.asked);
    let mut cancel = request.cancel.clone();
    let described = tokio::select! {
        described = prepare::describe(&*request.archive, &request.events, &asked) => described,
        () = cancelled(&mut cancel) => Err(Stop::Interrupted),
    };
    let selection = Selection::of(again, request.whole_file, request.clock.now());
    let stopped = || *request.cancel.borrow();
    let unlisted = &request.unlisted;
    let prepared = described.and_then(|streams| {
        prepare::prepare(&mut request.store, asked, selection, (&streams, unlisted), &stopped)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(stop) => return RunReport::refused(stop.outcome(), stop.told()),
    };
    let mut dispatcher = dispatcher::Dispatcher::new(request, &prepared);
    let stopped = dispatcher.run().await.err();
    let facts = tally::RunFacts { recovered, ..dispatcher.into_facts() };
    if matches!(stopped, Some(Stop::Interrupted)) {
        request.events.event(RunEvent::Interrupted);
    }
    let mut report = RunReport {
        schema: RUN_SCHEMA,
        outcome: Outcome::Done,
        error: stopped.as_ref().map(Stop::told),
        exports: Vec::new(),
        totals: crate::model::report::RunTotals::default(),
    };
    let unlisted = &request.unlisted;
    let all_denied = tally::all_denied(&prepared.entries, unlisted, &facts);
    match tally::tally(&request.store, prepared.entries, &facts) {
        Ok(mut exports) => {
            exports.extend(unlisted.iter().map(prefixes::reported));
            report.totals = RunReport::sum(&exports);
            report.totals.bytes_received = facts.bytes_received;
            report.outcome = tally::outcome(&exports, all_denied);
            report.exports = exports;
        }
        Err(stop) => {
            report.outcome = stop.outcome();
            report.error.get_or_insert_with(|| stop.told());
        }
    }
    if let Some(stop) = &stopped {
        report.outcome = stop.outcome();
    } else if all_denied {
        report.error = Some("the credentials may read none of the streams".to_owned());
    }
    report
}

/// Resolves when the run is to stop.
async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    // A sender that is gone can stop nothing any more.
    if cancel.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
