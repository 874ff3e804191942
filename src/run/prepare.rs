//! Before anything is fetched: the streams are described, and what was decided about each export is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::again;
use super::decide::{self, Action, Decided, Decisions, Selection};
use super::finish::Stopped;
use super::observe::Observer;
use super::stop::Stop;
use crate::archive::{Archive, ArchiveError, FailureKind, StreamDescription};
use crate::crash_point::{Point, reached};
use crate::model::event::EventSink;
use crate::model::{ExportId, ExportSpec, ExportState, StreamArn, StreamSelector, UnlistedRange};
use crate::plan;
use crate::store::{ExportIdentity, ExportRecord, NewExport, Redo, Store};

/// How long streams that are described wait for one that is not, after the last that was: longer than most outages,
/// and no night is lost to a single stream whose calls are throttled.
const PATIENCE: Duration = Duration::from_mins(3);

/// An export that the job file asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is asked.
    pub spec: ExportSpec,
    /// Whether its window is not over yet.
    pub pending: bool,
}

/// What is to be done about one asked export, or about an earlier one that is still to be finished.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: ExportSpec,
    pub(super) kind: EntryKind,
}

#[derive(Debug)]
pub(super) enum EntryKind {
    /// Its window is not over: nothing, now.
    Pending,
    /// It cannot be begun.
    Refused {
        /// Why.
        error: String,
        /// Whether a missing permission is the reason.
        denied: bool,
    },
    /// An earlier run finished it.
    Already(ExportId),
    /// It is to be carried out, from this stream.
    Open(ExportId, StreamArn),
}

/// Streams by the way the job file names them.
pub(super) type Streams = BTreeMap<StreamSelector, Result<Arc<StreamDescription>, ArchiveError>>;

/// Everything that a run is to do, in the order of the job file.
pub(super) struct Prepared {
    pub(super) entries: Vec<Entry>,
    pub(super) streams: BTreeMap<StreamArn, Arc<StreamDescription>>,
}

/// Describes every stream once. One that is not answered for while others are counts as away after [`PATIENCE`].
pub(super) async fn describe(
    archive: &dyn Archive,
    events: &Arc<dyn EventSink>,
    asked: &[Asked],
) -> Result<Streams, Stop> {
    let selectors: BTreeSet<&StreamSelector> = asked.iter().map(|asked| &asked.spec.stream).collect();
    // All at once: the limiter sends no more than may be in flight, and one that waits keeps no place from the others.
    let mut described: FuturesUnordered<_> = selectors
        .iter()
        .map(|selector| async move {
            let observer = Observer::new(events);
            ((*selector).clone(), archive.describe_stream(selector, &observer).await)
        })
        .collect();
    let mut streams = Streams::new();
    let mut latest: Option<Instant> = None;
    loop {
        let next = match latest {
            None => described.next().await,
            Some(latest) => match tokio::time::timeout_at(latest + PATIENCE, described.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some((selector, result)) = next else { break };
        match result {
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            result => {
                latest = result.is_ok().then(Instant::now).or(latest);
                streams.insert(selector, result.map(Arc::new));
            }
        }
    }
    drop(described);
    for selector in selectors {
        if !streams.contains_key(selector) {
            streams.insert(selector.clone(), Err(left_behind(selector)));
        }
    }
    Ok(streams)
}

fn left_behind(selector: &StreamSelector) -> ArchiveError {
    ArchiveError {
        api: "DescribeStream",
        stream: selector.name().to_owned(),
        kind: FailureKind::Away,
        code: None,
        message: format!(
            "no answer for {} min, while other streams were answered for; run the same command again to resume",
            PATIENCE.as_secs() / 60
        ),
        request_id: None,
        source: None,
    }
}

/// Matches what is asked with what the state file knows, and records it: new exports, resumed ones, superseded ones.
pub(super) fn prepare(
    store: &mut Store,
    asked: Vec<Asked>,
    selection: Selection<'_>,
    (streams, unlisted): (&Streams, &[UnlistedRange]),
    stopped: Stopped<'_>,
) -> Result<Prepared, Stop> {
    let Decisions { exports, superseded, streams } =
        decide::decide(store, asked, selection, streams, unlisted)?;
    for record in superseded.iter().filter(|record| !record.superseded) {
        store.set_superseded(&record.identity.id, true)?;
    }
    let new = exports.iter().filter_map(|Decided { spec, action }| match action {
        Action::Begin(stream) => Some(NewExport { stream, spec, windows: plan::windows_of(spec) }),
        _ => None,
    });
    let mut new = new.peekable();
    if new.peek().is_some() {
        store.insert_exports(new)?;
        reached(Point::ExportStored);
    }
    let mut entries = Vec::with_capacity(exports.len());
    for Decided { spec, action } in exports {
        let kind = match action {
            Action::Pending => EntryKind::Pending,
            Action::Refuse { error, denied } => EntryKind::Refused { error, denied },
            Action::Leave(id) => EntryKind::Already(id),
            Action::Resume(record) => resume(store, *record)?,
            Action::Redo(record) => redo(store, &record, stopped)?,
            Action::Begin(stream) => EntryKind::Open(ExportIdentity::of(&spec, &stream).id, stream),
        };
        entries.push(Entry { spec, kind });
    }
    Ok(Prepared { entries, streams })
}

/// A1: takes a finished export up from nothing, if its files are as it left them.
fn redo(store: &mut Store, record: &ExportRecord, stopped: Stopped<'_>) -> Result<EntryKind, Stop> {
    if let Some(error) = again::compare(store, record, stopped)? {
        return Ok(EntryKind::Refused { error, denied: false });
    }
    let id = &record.identity.id;
    let amount = again::amount(store, record)?;
    let windows = plan::windows_of(&record.spec);
    store.redo_export(&Redo { export: id, from: record.state, amount, windows: &windows })?;
    reached(Point::FormerKept);
    Ok(EntryKind::Open(id.clone(), record.stream_arn.clone()))
}

/// Takes up an unfinished export.
fn resume(store: &mut Store, record: ExportRecord) -> Result<EntryKind, Stop> {
    store.update_spec(&record.spec, &record.stream_arn)?;
    let id = record.identity.id;
    if record.superseded {
        store.set_superseded(&id, false)?;
    }
    if record.state == ExportState::Failed {
        store.reopen_failed(&id)?;
        reached(Point::Reopened);
    }
    Ok(EntryKind::Open(id, record.stream_arn))
}
