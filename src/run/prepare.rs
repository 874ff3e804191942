//! Before anything is fetched: which exports the job file asks for, which of them the state file knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::closing;
use super::finish;
use super::observe::Observer;
use super::stop::Stop;
use crate::archive::{Archive, ArchiveError, FailureKind, StreamDescription};
use crate::error::chain;
use crate::model::event::EventSink;
use crate::model::spec::RangeAnchor;
use crate::model::{ExportId, ExportSpec, ExportState, StreamArn, StreamSelector};
use crate::plan;
use crate::store::{ExportIdentity, ExportRecord, Store, output_key};

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

/// What the state file knows of one asked export.
struct Known {
    spec: ExportSpec,
    pending: bool,
    stream: Arc<StreamDescription>,
    /// Unfinished exports that the same entry of the job file made before: last night's, after midnight.
    earlier: Vec<ExportRecord>,
    /// The export itself, or a finished one that differs in nothing but its path.
    own: Option<ExportRecord>,
}

/// One asked export, looked up.
enum LookedUp {
    Known(Box<Known>),
    Entry(Box<Entry>),
}

/// Matches what is asked with what the state file knows, and stores what is new.
///
/// Three passes: only when all claims are known can it be said what nobody asks for any more, and only then
/// whether a new export's path is free.
pub(super) fn prepare(
    store: &mut Store,
    asked: Vec<Asked>,
    whole_file: bool,
    streams: &Streams,
) -> Result<Prepared, Stop> {
    let jobs: BTreeSet<String> = asked.iter().map(|asked| asked.spec.job.clone()).collect();
    let mut claimed: BTreeSet<ExportId> = BTreeSet::new();
    let mut found = Vec::new();
    for asked in asked {
        found.push(match streams.get(&asked.spec.stream) {
            Some(Ok(stream)) => LookedUp::Known(Box::new(look_up(store, asked, stream, &mut claimed)?)),
            Some(Err(error)) if !asked.pending => {
                let denied = error.kind == FailureKind::Denied;
                let kind = EntryKind::Refused { error: stream_refused(error), denied };
                LookedUp::Entry(Box::new(Entry { spec: asked.spec, kind }))
            }
            Some(Err(_)) | None => {
                LookedUp::Entry(Box::new(Entry { spec: asked.spec, kind: EntryKind::Pending }))
            }
        });
    }
    supersede(store, &claimed, streams, (!whole_file).then_some(&jobs))?;
    let mut prepared = Prepared { entries: Vec::new(), streams: BTreeMap::new() };
    for found in found {
        match found {
            LookedUp::Entry(entry) => prepared.entries.push(*entry),
            LookedUp::Known(known) => {
                prepared.streams.insert(known.stream.arn.clone(), Arc::clone(&known.stream));
                prepared.entries.extend(take_up(store, *known)?);
            }
        }
    }
    Ok(prepared)
}

/// Finds what an asked export is in the state file, and claims it.
fn look_up(
    store: &Store,
    asked: Asked,
    stream: &Arc<StreamDescription>,
    claimed: &mut BTreeSet<ExportId>,
) -> Result<Known, Stop> {
    let spec = asked.spec;
    let identity = ExportIdentity::of(&spec, &stream.arn);
    let own = match store.export(&identity.id)? {
        Some(own) => Some(own),
        None => store.done_with_content(&identity.content_id)?,
    };
    if !asked.pending {
        claimed.insert(own.as_ref().map_or_else(|| identity.id.clone(), |own| own.identity.id.clone()));
    }
    let mut earlier = Vec::new();
    for record in store.unfinished_with_resume_key(&identity.resume_key)? {
        if record.identity.id == identity.id || !claimed.insert(record.identity.id.clone()) {
            continue;
        }
        // What does not decide the content follows the job file as it is now.
        let spec = ExportSpec {
            range: record.spec.range,
            output: record.spec.output.clone(),
            warnings: record.spec.warnings.clone(),
            ..spec.clone()
        };
        // One that its gaps have failed would only fail again, and keep every later one from its turn.
        if !closing::fails_by_gaps(store, &record.identity.id, &spec)? {
            earlier.push(ExportRecord { spec, ..record });
        }
    }
    Ok(Known { spec, pending: asked.pending, stream: Arc::clone(stream), earlier, own })
}

/// One asked export → the unfinished earlier ones of its text, and itself: pending, done before, resumed or new.
fn take_up(store: &mut Store, known: Known) -> Result<Vec<Entry>, Stop> {
    let Known { spec, pending, stream, earlier, own } = known;
    let replaced = spec.range_text.anchor == RangeAnchor::Now && !earlier.is_empty();
    let mut entries = Vec::new();
    for record in earlier {
        entries.push(resume(store, record)?);
    }
    if replaced {
        return Ok(entries);
    }
    entries.push(match own {
        _ if pending => Entry { spec, kind: EntryKind::Pending },
        Some(own) if own.state.is_final() => {
            let spec = ExportSpec { output: own.spec.output, ..spec };
            Entry { spec, kind: EntryKind::Already(own.identity.id) }
        }
        Some(own) => resume(store, ExportRecord { spec, ..own })?,
        None => begin(store, spec, &stream)?,
    });
    Ok(entries)
}

/// Takes up an unfinished export.
fn resume(store: &mut Store, record: ExportRecord) -> Result<Entry, Stop> {
    store.update_spec(&record.spec, &record.stream_arn)?;
    let id = record.identity.id;
    if record.superseded {
        store.set_superseded(&id, false)?;
    }
    if record.state == ExportState::Failed {
        store.reopen_failed(&id)?;
    }
    Ok(Entry { spec: record.spec, kind: EntryKind::Open(id, record.stream_arn) })
}

/// Stores a new export, unless its output would meet another's.
fn begin(store: &mut Store, spec: ExportSpec, stream: &StreamDescription) -> Result<Entry, Stop> {
    let others = store.exports_with_output_key(&output_key(&spec.output))?;
    let other = others.iter().find(|other| !other.superseded || other.state.is_final());
    let refusal = match other {
        Some(other) => Some(format!(
            "its output {} is that of export {} (job {}, {}); give one of them another output",
            spec.output.display(),
            other.identity.id,
            other.spec.job,
            other.spec.range
        )),
        None => occupied(&spec).map(|path| already_there(&path)),
    };
    let kind = if let Some(error) = refusal {
        EntryKind::Refused { error, denied: false }
    } else {
        let windows = plan::windows(spec.range, spec.edges);
        EntryKind::Open(store.insert_export(&stream.arn, &spec, &windows)?.id, stream.arn.clone())
    };
    Ok(Entry { spec, kind })
}

/// Says that a file stands where an output should go.
pub(super) fn already_there(path: &Path) -> String {
    format!(
        "{} is already there and is not this export's: it is never overwritten; move it away or give the job \
         another output",
        path.display()
    )
}

/// The first of an export's files that is already there.
pub fn occupied(spec: &ExportSpec) -> Option<PathBuf> {
    let names = finish::Names::of(&spec.output);
    [spec.output.clone(), names.part(1), names.manifest(), names.checksums()]
        .into_iter()
        .chain(spec.keep_chunks.then(|| names.kept_chunks()))
        .find(|path| path.symlink_metadata().is_ok())
}

fn stream_refused(error: &ArchiveError) -> String {
    match error.kind {
        FailureKind::Denied => format!(
            "the credentials may not read stream {}: grant {} ({})",
            error.stream,
            error.iam_action(),
            error.message
        ),
        FailureKind::StreamNotFound => {
            format!("there is no stream {} in this region and account ({})", error.stream, error.message)
        }
        _ => chain(error),
    }
}

/// Marks the unfinished exports that no entry of the job file asks for any more; of `jobs` only, where not the
/// whole file was read.
fn supersede(
    store: &mut Store,
    claimed: &BTreeSet<ExportId>,
    streams: &Streams,
    jobs: Option<&BTreeSet<String>>,
) -> Result<(), Stop> {
    // What a stream that cannot be described would have claimed is not known.
    let unknown: BTreeSet<&str> =
        streams.iter().filter(|(_, stream)| stream.is_err()).map(|(selector, _)| selector.name()).collect();
    for record in store.unfinished()? {
        let is_asked_for = claimed.contains(&record.identity.id)
            || unknown.contains(record.stream_arn.name())
            || jobs.is_some_and(|jobs| !jobs.contains(&record.spec.job));
        if !is_asked_for && !record.superseded {
            store.set_superseded(&record.identity.id, true)?;
        }
    }
    Ok(())
}
