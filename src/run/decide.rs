//! What is to be done about each asked export, decided from the state file without changing it.
//!
//! `run` carries the decisions out (`prepare`), `plan` shows them: both must see the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::closing;
use super::finish;
use super::prepare::{Asked, Streams};
use super::stop::Stop;
use crate::archive::{ArchiveError, FailureKind, StreamDescription};
use crate::error::chain;
use crate::model::spec::RangeAnchor;
use crate::model::{ExportId, ExportSpec, ExportState, StreamArn, StreamPrefix, UnlistedRange};
use crate::store::{ExportIdentity, ExportRecord, Store, output_key};

/// What is to be done about one asked export, or about an earlier one of its text that is not finished.
#[derive(Debug)]
pub(super) struct Decided {
    /// The export as it is to be carried out, or was.
    pub(super) spec: ExportSpec,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    /// Its window is not over: nothing, now.
    Pending,
    /// It cannot be begun.
    Refuse {
        /// Why.
        error: String,
        /// Whether a missing permission is the reason.
        denied: bool,
    },
    /// An earlier run finished it.
    Leave(ExportId),
    /// An earlier run began it; the record has the specification to go on with.
    Resume(Box<ExportRecord>),
    /// The state file does not know it.
    Begin(StreamArn),
}

/// Everything that is to be done.
#[derive(Debug)]
pub(super) struct Decisions {
    /// In the order of the job file.
    pub(super) exports: Vec<Decided>,
    /// Unfinished exports that nobody asks for any more, those included that were marked so before.
    pub(super) superseded: Vec<ExportRecord>,
    /// The streams of the exports.
    pub(super) streams: BTreeMap<StreamArn, Arc<StreamDescription>>,
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
    Decided(Box<Decided>),
}

/// Matches what is asked with what the state file knows.
///
/// Three passes: only when all claims are known can it be said what nobody asks for any more, and only then
/// whether a new export's path is free.
pub(super) fn decide(
    store: &Store,
    asked: Vec<Asked>,
    whole_file: bool,
    streams: &Streams,
    unlisted: &[UnlistedRange],
) -> Result<Decisions, Stop> {
    let jobs: BTreeSet<String> = asked.iter().map(|asked| asked.spec.job.clone()).collect();
    let mut claimed: BTreeSet<ExportId> = BTreeSet::new();
    let mut found = Vec::new();
    for asked in asked {
        found.push(match streams.get(&asked.spec.stream) {
            Some(Ok(stream)) => LookedUp::Known(Box::new(look_up(store, asked, stream, &mut claimed)?)),
            Some(Err(error)) if !asked.pending => {
                let denied = error.kind == FailureKind::Denied;
                let action = Action::Refuse { error: stream_refused(error), denied };
                LookedUp::Decided(Box::new(Decided { spec: asked.spec, action }))
            }
            Some(Err(_)) | None => {
                LookedUp::Decided(Box::new(Decided { spec: asked.spec, action: Action::Pending }))
            }
        });
    }
    let superseded = superseded(store, &claimed, (streams, unlisted), (!whole_file).then_some(&jobs))?;
    let abandoned = superseded.iter().map(|record| record.identity.id.clone()).collect();
    let mut decisions = Decisions { exports: Vec::new(), superseded, streams: BTreeMap::new() };
    for found in found {
        match found {
            LookedUp::Decided(decided) => decisions.exports.push(*decided),
            LookedUp::Known(known) => {
                decisions.streams.insert(known.stream.arn.clone(), Arc::clone(&known.stream));
                decisions.exports.extend(take_up(store, *known, &abandoned)?);
            }
        }
    }
    Ok(decisions)
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
    for record in store.unfinished_beside(&identity)? {
        if !claimed.insert(record.identity.id.clone()) {
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
fn take_up(store: &Store, known: Known, abandoned: &BTreeSet<ExportId>) -> Result<Vec<Decided>, Stop> {
    let Known { spec, pending, stream, earlier, own } = known;
    let replaced = spec.range_text.anchor == RangeAnchor::Now && !earlier.is_empty();
    let mut decided: Vec<Decided> = earlier.into_iter().map(resume).collect();
    if replaced {
        return Ok(decided);
    }
    decided.push(match own {
        _ if pending => Decided { spec, action: Action::Pending },
        Some(own) if own.state.is_final() => {
            let spec = ExportSpec { output: own.spec.output, ..spec };
            Decided { spec, action: Action::Leave(own.identity.id) }
        }
        // What is not listed yet can never be.
        Some(own) if own.state == ExportState::Planning && stream.retention_hours == 0 => {
            Decided { spec, action: Action::Refuse { error: keeps_nothing(&stream), denied: false } }
        }
        Some(own) => resume(ExportRecord { spec, ..own }),
        None => begin(store, spec, &stream, abandoned)?,
    });
    Ok(decided)
}

fn resume(record: ExportRecord) -> Decided {
    Decided { spec: record.spec.clone(), action: Action::Resume(Box::new(record)) }
}

/// A new export, unless its output would meet another's.
fn begin(
    store: &Store,
    mut spec: ExportSpec,
    stream: &StreamDescription,
    abandoned: &BTreeSet<ExportId>,
) -> Result<Decided, Stop> {
    let others = store.exports_with_output_key(&output_key(&spec.output))?;
    let other = others.iter().find(|other| other.state.is_final() || !abandoned.contains(&other.identity.id));
    let before =
        |other: &ExportRecord| other.stream_arn != stream.arn && other.stream_arn.name() == stream.arn.name();
    for other in others.iter().filter(|other| !other.state.is_final() && before(other)) {
        spec.warnings.push(format!(
            "stream {} was deleted and made again: this export is of {}; export {} of {} was not finished, and nothing of \
             it is in this one",
            stream.arn.name(),
            stream.arn,
            other.identity.id,
            other.stream_arn
        ));
    }
    let refusal = match other {
        _ if stream.retention_hours == 0 => Some(keeps_nothing(stream)),
        Some(other) if before(other) => Some(format!(
            "stream {} was deleted and made again, now {}: the output {} is that of export {} of the stream before ({}), \
             which stays as it is; give the job another output",
            stream.arn.name(),
            stream.arn,
            spec.output.display(),
            other.identity.id,
            other.stream_arn
        )),
        Some(other) => Some(format!(
            "its output {} is that of export {} (job {}, {}); give one of them another output",
            spec.output.display(),
            other.identity.id,
            other.spec.job,
            other.spec.range
        )),
        None => occupied(&spec).map(|path| already_there(&path)),
    };
    let action = match refusal {
        Some(error) => Action::Refuse { error, denied: false },
        None => Action::Begin(stream.arn.clone()),
    };
    Ok(Decided { spec, action })
}

/// Says that a stream has nothing to export.
fn keeps_nothing(stream: &StreamDescription) -> String {
    format!(
        "stream {} keeps nothing: its retention is 0 hours; take it out of `streams`, or have what it records from now on \
         kept (aws kinesisvideo update-data-retention)",
        stream.arn.name()
    )
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

pub(super) fn stream_refused(error: &ArchiveError) -> String {
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

/// The unfinished exports that no entry of the job file asks for any more; where not the whole file was read, new
/// ones are found among `jobs` only.
fn superseded(
    store: &Store,
    claimed: &BTreeSet<ExportId>,
    (streams, unlisted): (&Streams, &[UnlistedRange]),
    jobs: Option<&BTreeSet<String>>,
) -> Result<Vec<ExportRecord>, Stop> {
    // What a stream that cannot be described, or a prefix that cannot be listed, would have claimed is not known.
    let unknown: BTreeSet<&str> =
        streams.iter().filter(|(_, stream)| stream.is_err()).map(|(selector, _)| selector.name()).collect();
    let unlisted: BTreeSet<&StreamPrefix> = unlisted.iter().map(|unlisted| &unlisted.prefix).collect();
    let mut superseded = Vec::new();
    for export in store.unfinished()? {
        let stream = export.stream.name();
        let may_be_asked_for = unknown.contains(stream)
            || unlisted.iter().any(|prefix| prefix.takes(stream))
            || jobs.is_some_and(|jobs| !jobs.contains(&export.job));
        if !claimed.contains(&export.id) && (export.superseded || !may_be_asked_for) {
            superseded.extend(store.export(&export.id)?);
        }
    }
    Ok(superseded)
}
