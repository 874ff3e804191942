//! A plan: what a run would do about each export, and what it would ask of the service.
//!
//! Decisions, listings, windows and chunks come from the functions that a run uses. Nothing is recorded but the
//! listings themselves, which a run then need not make again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;

use super::again::Again;
use super::cancelled;
use super::decide::{self, Action, Decided, Decisions, Selection};
use super::dispatcher::archive_failed;
use super::kept::{self, Kept};
use super::list::{self, ListedWindow};
use super::observe::Observer;
use super::plan_assembly::{Assembled, Assembly, PlanFailure};
use super::plan_keep::{Keeper, KeptTally, ListingCost, Offer};
use super::plan_tally::Teller;
use super::prepare::{self, Asked};
use super::stop::Stop;
use crate::archive::{Archive, FailureKind};
use crate::clock::Clock;
use crate::model::event::{EventSink, RunEvent};
use crate::model::plan_report::{PlanReport, PlanSink};
use crate::model::{Attempt, AttemptOutcome, Chunking, Fragment, StreamArn, TimeRange, UnlistedRange};
use crate::plan::{self, PlannedChunk, PlannedWindow, WindowQuery};
use crate::store::{Listing, PackedFragments, Store};

/// What limits a run.
#[derive(Debug, Clone, Copy)]
pub struct PlanLimits {
    /// Requests at a time.
    pub requests_in_flight: usize,
    /// Share of each stream's points.
    pub stream_budget: f64,
    /// Bytes per second over the whole run.
    pub bandwidth: Option<u64>,
    /// The most bytes that a run may plan to fetch.
    pub max_bytes: Option<u64>,
}

/// Everything a plan needs.
pub struct PlanRequest {
    /// What is asked, in the order of the job file.
    pub asked: Vec<Asked>,
    /// What is asked of streams that could not be listed.
    pub unlisted: Vec<UnlistedRange>,
    /// Pages of ListStreams that were asked for.
    pub list_streams: u64,
    /// Whether that is the whole file: only then can earlier exports be superseded.
    pub whole_file: bool,
    /// The state file, or an empty one where there is none; only read.
    pub store: Store,
    /// The state file that listings are kept in for the next run, or why they are not.
    pub keep_in: Result<PathBuf, String>,
    /// The archive, with its decorators.
    pub archive: Arc<dyn Archive>,
    /// What limits a run.
    pub limits: PlanLimits,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Who takes the exports.
    pub told: Arc<dyn PlanSink>,
    /// Becomes true when the plan is to stop.
    pub cancel: watch::Receiver<bool>,
}

/// Plans, and reports however it ends.
pub async fn plan(request: PlanRequest) -> PlanReport {
    plan_selected(request, None).await
}

/// Plans what [`super::run_again`] would do.
pub async fn plan_again(request: PlanRequest, again: &Again) -> PlanReport {
    plan_selected(request, Some(again)).await
}

async fn plan_selected(request: PlanRequest, again: Option<&Again>) -> PlanReport {
    let mut cancel = request.cancel.clone();
    let made = tokio::select! {
        made = make(request, again) => made,
        () = cancelled(&mut cancel) => Err(Stop::Interrupted),
    };
    made.unwrap_or_else(|stop| PlanReport::refused(stop.outcome(), stop.told()))
}

/// Nobody watches a plan.
#[derive(Debug)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _event: RunEvent) {}
}

async fn make(mut request: PlanRequest, again: Option<&Again>) -> Result<PlanReport, Stop> {
    let asked = std::mem::take(&mut request.asked);
    let events: Arc<dyn EventSink> = Arc::new(NoEvents);
    let streams = prepare::describe(&*request.archive, &events, &asked).await?;
    let selection = Selection::of(again, request.whole_file, request.clock.now());
    let (store, unlisted) = (&request.store, &request.unlisted);
    let decisions = decide::decide(store, asked, selection, &streams, unlisted)?;
    let planner = Planner { request: &request, decisions: &decisions, events, failed: Mutex::default() };
    let mut teller = Teller::new(&request, &decisions);
    let listed = planner.list_all(&mut teller).await?;
    teller.finish(listed, streams.len() as u64)
}

/// One window of one export.
struct Window {
    export: usize,
    stream: StreamArn,
    seq: u32,
    query: WindowQuery,
    settle_ms: u64,
    /// Whether an earlier run planned it.
    stored: bool,
    chunk: Chunking,
}

/// Where a window's fragments come from.
enum Source {
    Stored,
    /// It is cut by the clock: nothing is listed.
    Fixed(Vec<PlannedChunk>),
    Kept(ListedWindow),
    Listed {
        window: ListedWindow,
        raw: PackedFragments,
        pages: u64,
    },
    Failed(PlanFailure),
}

/// Lists what a run would list.
struct Planner<'a> {
    request: &'a PlanRequest,
    decisions: &'a Decisions,
    events: Arc<dyn EventSink>,
    /// Streams that cannot be listed: their other windows would fail in the same way.
    failed: Mutex<BTreeMap<StreamArn, PlanFailure>>,
}

/// Everything that was listed.
pub(super) struct Listed {
    /// By the export's place; nothing where nothing is to be done.
    pub(super) exports: BTreeMap<usize, Assembled>,
    pub(super) pages: u64,
    pub(super) kept: KeptTally,
}

impl Planner<'_> {
    /// Lists all windows in their order, some at a time, and puts each export together as soon as its last is there.
    async fn list_all(&self, teller: &mut Teller<'_>) -> Result<Listed, Stop> {
        let request = self.request;
        let keep_in = request.keep_in.clone();
        let mut keeper = Keeper::new(keep_in, !request.store.is_in_memory(), Arc::clone(&request.clock));
        let mut exports = BTreeMap::new();
        let mut pages = 0;
        let mut open: Option<(usize, Assembly)> = None;
        let mut finish = |export: usize, assembly: Assembly, keeper: &Keeper| {
            let assembled = assembly.finish(&self.decisions.exports[export].spec)?;
            exports.insert(export, teller.listed(export, assembled, keeper.again(export))?);
            Ok::<_, Stop>(())
        };
        let windows = (0..self.decisions.exports.len()).flat_map(|export| self.windows(export));
        let mut results = stream::iter(windows)
            .map(|window| async move { self.fragments(window?).await })
            .buffered(request.limits.requests_in_flight);
        while let Some(result) = results.next().await {
            let (window, source) = result?;
            if open.as_ref().is_none_or(|(export, _)| *export != window.export) {
                if let Some((export, assembly)) = open.take() {
                    finish(export, assembly, &keeper)?;
                }
                open = Some((window.export, self.begin(window.export)?));
            }
            let Some((export, assembly)) = &mut open else { continue };
            match source {
                Source::Stored => assembly.add_stored(&self.stored(&window)?)?,
                Source::Fixed(chunks) => {
                    assembly.add_planned(&PlannedWindow { chunks, ..PlannedWindow::default() })?;
                }
                Source::Kept(kept) => {
                    keeper.is_there();
                    assembly.add_planned(&kept.planned)?;
                }
                Source::Listed { window: listed, raw, pages: of_window } => {
                    pages += of_window;
                    assembly.add_planned(&listed.planned)?;
                    let (listed_at, query) = (listed.listed_at, &window.query);
                    let page_size = plan::list_page_size(plan::list_bounds(query.window));
                    let cost = ListingCost { pages: of_window, points: of_window * u64::from(page_size) };
                    keeper.offer(Offer {
                        export: *export,
                        key: kept::key(&window.stream, query),
                        listing: Listing { listed_at, fragments: raw },
                        cost,
                        objection: kept::objection(listed_at, query, window.settle_ms, listed_at),
                    });
                }
                Source::Failed(failure) => assembly.fail(failure),
            }
        }
        if let Some((export, assembly)) = open.take() {
            finish(export, assembly, &keeper)?;
        }
        Ok(Listed { exports, pages, kept: keeper.finish() })
    }

    /// The windows of an export, whose fragments a run needs.
    fn windows(&self, export: usize) -> Vec<Result<Window, Stop>> {
        let Decided { spec, action } = &self.decisions.exports[export];
        let window = |stream: &StreamArn, seq, window: TimeRange, stored| {
            let query = WindowQuery {
                window,
                range: spec.range,
                timestamps: spec.timestamps,
                edges: spec.edges,
                gap_tolerance: spec.gap_tolerance,
            };
            Ok(Window {
                export,
                stream: stream.clone(),
                seq,
                query,
                settle_ms: spec.settle_ms,
                stored,
                chunk: spec.chunk,
            })
        };
        let fresh = |stream: &StreamArn| {
            let windows = plan::windows_of(spec);
            (0..).zip(windows).map(|(seq, range)| window(stream, seq, range, false)).collect()
        };
        match action {
            Action::Begin(stream) => fresh(stream),
            Action::Redo(record) => fresh(&record.stream_arn),
            Action::Resume(record) => match self.request.store.windows(&record.identity.id) {
                Ok(windows) => windows
                    .iter()
                    .map(|of| window(&record.stream_arn, of.seq, of.range, of.listed_at.is_some()))
                    .collect(),
                Err(error) => vec![Err(error.into())],
            },
            Action::Pending | Action::Refuse { .. } | Action::Leave(_) => Vec::new(),
        }
    }

    fn begin(&self, export: usize) -> Result<Assembly, Stop> {
        match &self.decisions.exports[export].action {
            Action::Resume(record) => Assembly::resumed(&self.request.store, record),
            _ => Ok(Assembly::default()),
        }
    }

    fn stored(&self, window: &Window) -> Result<Vec<Fragment>, Stop> {
        match &self.decisions.exports[window.export].action {
            Action::Resume(record) => {
                Ok(self.request.store.window_fragments(&record.identity.id, window.seq)?.0)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The fragments of a window: stored, kept by an earlier plan, or listed now.
    async fn fragments(&self, window: Window) -> Result<(Window, Source), Stop> {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if window.stored {
            return Ok((window, Source::Stored));
        }
        if let Chunking::Fixed(length_ms) = window.chunk {
            let chunks = plan::plan_fixed(window.query.window, length_ms);
            return Ok((window, Source::Fixed(chunks)));
        }
        let known = failed().get(&window.stream).cloned();
        if let Some(failure) = known {
            return Ok((window, Source::Failed(failure)));
        }
        let PlanRequest { store, archive, clock, .. } = self.request;
        let kept = Kept::find(store, &window.stream, &window.query, window.settle_ms, clock.now());
        if let Some(planned) = kept.and_then(|kept| kept.plan(&window.query)) {
            return Ok((window, Source::Kept(planned)));
        }
        let observer = Observer::new(&self.events);
        let listed_at = clock.now();
        let bounds = plan::list_bounds(window.query.window);
        let listed =
            list::list_all(&**archive, &window.stream, window.query.timestamps, bounds, &observer).await;
        let source = match listed {
            Ok(fragments) => {
                let answered = |sent: &&Attempt| {
                    sent.api == "ListFragments" && sent.outcome == AttemptOutcome::Succeeded
                };
                let pages = observer.into_attempts().iter().filter(answered).count() as u64;
                let raw = PackedFragments::pack(&fragments)?;
                let planned = plan::plan_window(&window.query, fragments);
                Source::Listed { window: ListedWindow { listed_at, planned }, raw, pages }
            }
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            Err(error) => {
                let denied = error.kind == FailureKind::Denied;
                let failure = PlanFailure { error: archive_failed(&error), denied };
                failed().insert(window.stream.clone(), failure.clone());
                Source::Failed(failure)
            }
        };
        Ok((window, source))
    }
}
