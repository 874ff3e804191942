//! Before anything is fetched: the streams are described, and what was decided about each export is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::decide::{self, Action, Decided, Decisions};
use super::observe::Observer;
use super::stop::Stop;
use crate::archive::{Archive, ArchiveError, FailureKind, StreamDescription};
use crate::crash_point::{Point, reached};
use crate::model::event::EventSink;
use crate::model::{ExportId, ExportSpec, ExportState, StreamArn, StreamSelector};
use crate::plan;
use crate::store::{ExportRecord, Store};

/// DescribeStream calls at a time: each is for another stream, so no quota is shared.
const DESCRIBE_AT_ONCE: usize = 8;

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

/// Describes every stream once.
pub(super) async fn describe(
    archive: &dyn Archive,
    events: &Arc<dyn EventSink>,
    asked: &[Asked],
) -> Result<Streams, Stop> {
    let selectors: BTreeSet<&StreamSelector> = asked.iter().map(|asked| &asked.spec.stream).collect();
    let mut described = stream::iter(selectors)
        .map(|selector| async move {
            let observer = Observer::new(events);
            (selector.clone(), archive.describe_stream(selector, &observer).await)
        })
        .buffer_unordered(DESCRIBE_AT_ONCE);
    let mut streams = Streams::new();
    while let Some((selector, result)) = described.next().await {
        match result {
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            result => drop(streams.insert(selector, result.map(Arc::new))),
        }
    }
    Ok(streams)
}

/// Matches what is asked with what the state file knows, and records it: new exports, resumed ones, superseded ones.
pub(super) fn prepare(
    store: &mut Store,
    asked: Vec<Asked>,
    whole_file: bool,
    streams: &Streams,
) -> Result<Prepared, Stop> {
    let Decisions { exports, superseded, streams } = decide::decide(store, asked, whole_file, streams)?;
    for record in superseded.iter().filter(|record| !record.superseded) {
        store.set_superseded(&record.identity.id, true)?;
    }
    let mut entries = Vec::with_capacity(exports.len());
    for Decided { spec, action } in exports {
        let kind = match action {
            Action::Pending => EntryKind::Pending,
            Action::Refuse { error, denied } => EntryKind::Refused { error, denied },
            Action::Leave(id) => EntryKind::Already(id),
            Action::Resume(record) => resume(store, *record)?,
            Action::Begin(stream) => {
                let windows = plan::windows(spec.range, spec.edges);
                let stored = store.insert_export(&stream, &spec, &windows)?;
                reached(Point::ExportStored);
                EntryKind::Open(stored.id, stream)
            }
        };
        entries.push(Entry { spec, kind });
    }
    Ok(Prepared { entries, streams })
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
