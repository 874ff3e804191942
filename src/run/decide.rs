//! What is to be done about each asked export, decided from the state file without changing it.
//!
//! `run` carries the decisions out (`prepare`), `plan` shows them: both must see the same ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::again::Again;
use super::closing;
use super::finish;
use super::prepare::{Asked, Streams};
use super::stop::Stop;
use crate::archive::{ArchiveError, FailureKind, StreamDescription};
use crate::error::chain;
use crate::model::spec::RangeAnchor;
use crate::model::{ExportId, ExportSpec, ExportState, StreamArn, StreamPrefix, UnlistedRange, UtcMillis};
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
    /// An earlier run finished it, and it is to be made again.
    Redo(Box<ExportRecord>),
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

/// What is asked of the job file's exports.
#[derive(Debug, Clone, Copy)]
pub(super) enum Selection<'a> {
    /// All that are asked for: of the whole file, or of some of its jobs.
    Asked {
        /// Whether that is the whole file: only then can exports of other jobs be superseded.
        whole_file: bool,
    },
    /// Some that were begun before, at this time of day.
    Again(&'a Again, UtcMillis),
}

impl<'a> Selection<'a> {
    /// What is asked `now`: `again` those, or all that the job file asks for.
    pub(super) fn of(again: Option<&'a Again>, whole_file: bool, now: UtcMillis) -> Self {
        match again {
            Some(again) => Self::Again(again, now),
            None => Self::Asked { whole_file },
        }
    }
}

/// What the state file knows of one asked export.
struct Known {
    spec: ExportSpec,
    pending: bool,
    stream: Arc<StreamDescription>,
    identity: ExportIdentity,
    /// The export itself, or a finished one that differs in nothing but its path. In a box: most have none, and there may be
    /// a hundred thousand.
    own: Option<Box<ExportRecord>>,
}

/// One asked export, looked up.
enum LookedUp {
    Known(Box<Known>),
    Decided(Box<Decided>),
}

/// Unfinished exports that an entry of the job file made before and nobody asks for by themselves (last night's,
/// after midnight), by that entry's resume key.
type Earlier = HashMap<String, Vec<ExportRecord>>;

/// Matches what is asked with what the state file knows.
///
/// Four passes. One text can stand for many exports, so what each of them is itself is found for all first: only
/// then can it be said which others of their texts are earlier ones, what nobody asks for any more, and whether a
/// new export's path is free.
pub(super) fn decide(
    store: &Store,
    asked: Vec<Asked>,
    selection: Selection<'_>,
    streams: &Streams,
    unlisted: &[UnlistedRange],
) -> Result<Decisions, Stop> {
    let jobs: BTreeSet<String> = asked.iter().map(|asked| asked.spec.job.clone()).collect();
    let mut claimed: HashSet<ExportId> = HashSet::new();
    let mut found = Vec::with_capacity(asked.len());
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
    let mut earlier = earlier(store, &found, &mut claimed)?;
    let superseded = match selection {
        Selection::Asked { whole_file } => {
            superseded(store, &claimed, (streams, unlisted), (!whole_file).then_some(&jobs))?
        }
        Selection::Again(..) => Vec::new(),
    };
    let abandoned = superseded.iter().map(|record| record.identity.id.clone()).collect();
    // Of a text that hangs on the time of day, no new export is begun while earlier ones are left.
    let mut held_back: HashSet<String> = HashSet::new();
    for (key, records) in &earlier {
        for record in records {
            // One that is made again has its videos: nobody waits for it.
            if store.former(&record.identity.id)?.is_none() {
                held_back.insert(key.clone());
            }
        }
    }
    let mut decisions = Decisions { exports: Vec::new(), superseded, streams: BTreeMap::new() };
    for found in found {
        match found {
            LookedUp::Decided(decided) => decisions.exports.push(*decided),
            LookedUp::Known(known) => {
                if !decisions.streams.contains_key(&known.stream.arn) {
                    decisions.streams.insert(known.stream.arn.clone(), Arc::clone(&known.stream));
                }
                let key = &known.identity.resume_key;
                let before_it = earlier.get_mut(key).map(std::mem::take).unwrap_or_default();
                decisions.exports.extend(before_it.into_iter().map(|record| go_on(record, &known.stream)));
                let begins_nothing =
                    known.spec.range_text.anchor == RangeAnchor::Now && held_back.contains(key);
                decisions.exports.extend(take_up(store, *known, begins_nothing, &abandoned)?);
            }
        }
    }
    if let Selection::Again(again, now) = selection {
        again.select(store, &mut decisions, now)?;
    }
    Ok(decisions)
}

/// Finds what an asked export is in the state file, and claims it.
fn look_up(
    store: &Store,
    asked: Asked,
    stream: &Arc<StreamDescription>,
    claimed: &mut HashSet<ExportId>,
) -> Result<Known, Stop> {
    let Asked { spec, pending } = asked;
    let identity = ExportIdentity::of(&spec, &stream.arn);
    let own = match store.export(&identity.id)? {
        Some(own) => Some(own),
        None => store.done_with_content(&identity.content_id)?,
    };
    // One that is pending too: where the clock was put back, what it began before is still asked for.
    claimed.insert(own.as_ref().map_or_else(|| identity.id.clone(), |own| own.identity.id.clone()));
    Ok(Known { spec, pending, stream: Arc::clone(stream), identity, own: own.map(Box::new) })
}

/// Finds the unfinished exports of the asked texts that are none of the asked exports, and claims them.
fn earlier(store: &Store, found: &[LookedUp], claimed: &mut HashSet<ExportId>) -> Result<Earlier, Stop> {
    let mut earlier = Earlier::new();
    for known in found {
        let LookedUp::Known(known) = known else { continue };
        if earlier.contains_key(&known.identity.resume_key) {
            continue;
        }
        let mut of_text = Vec::new();
        for record in store.unfinished_with_resume_key(&known.identity.resume_key)? {
            if !claimed.insert(record.identity.id.clone()) {
                continue;
            }
            // What does not decide the content follows the job file as it is now.
            let spec = ExportSpec {
                range: record.spec.range,
                output: record.spec.output.clone(),
                warnings: record.spec.warnings.clone(),
                ..known.spec.clone()
            };
            // One that its gaps have failed would only fail again, and keep every later one from its turn.
            if !closing::fails_by_gaps(store, &record.identity.id, &spec)? {
                of_text.push(ExportRecord { spec, ..record });
            }
        }
        earlier.insert(known.identity.resume_key.clone(), of_text);
    }
    Ok(earlier)
}

/// What is to be done about an asked export itself: it is pending, done before, resumed, new, or not its turn.
fn take_up(
    store: &Store,
    known: Known,
    begins_nothing: bool,
    abandoned: &HashSet<ExportId>,
) -> Result<Option<Decided>, Stop> {
    let Known { spec, pending, stream, own, .. } = known;
    Ok(Some(match own {
        _ if pending => Decided { spec, action: Action::Pending },
        Some(own) if own.state.is_final() => {
            let spec = ExportSpec { output: own.spec.output, ..spec };
            Decided { spec, action: Action::Leave(own.identity.id) }
        }
        Some(own) => match own.superseded.then(|| taken_meanwhile(store, &own)).transpose()?.flatten() {
            Some(error) => Decided { spec, action: Action::Refuse { error, denied: false } },
            None => go_on(ExportRecord { spec, ..*own }, &stream),
        },
        None if begins_nothing => return Ok(None),
        None => begin(store, spec, &stream, abandoned)?,
    }))
}

/// Goes on with an unfinished export.
fn go_on(record: ExportRecord, stream: &StreamDescription) -> Decided {
    let spec = record.spec.clone();
    // What is not listed yet can never be.
    if record.state == ExportState::Planning && stream.retention_hours == 0 {
        return Decided { spec, action: Action::Refuse { error: keeps_nothing(stream), denied: false } };
    }
    Decided { spec, action: Action::Resume(Box::new(record)) }
}

/// Why an export whose text is back in the file cannot be gone on with: another one was finished at its path.
fn taken_meanwhile(store: &Store, own: &ExportRecord) -> Result<Option<String>, Stop> {
    let others = store.exports_with_output_key(&output_key(&own.spec.output))?;
    let other = others.iter().find(|other| other.state.is_final() && other.identity.id != own.identity.id);
    Ok(other.map(|other| output_taken(&own.spec.output, other)))
}

/// Says that an output's path is another export's.
fn output_taken(output: &Path, other: &ExportRecord) -> String {
    format!(
        "its output {} is that of export {} (job {}, {}); give one of them another output",
        output.display(),
        other.identity.id,
        other.spec.job,
        other.spec.range
    )
}

/// A new export, unless its output would meet another's.
fn begin(
    store: &Store,
    mut spec: ExportSpec,
    stream: &StreamDescription,
    abandoned: &HashSet<ExportId>,
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
        Some(other) => Some(output_taken(&spec.output, other)),
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
    standing(spec).next()
}

/// The files that are there and have one of an export's names.
pub(super) fn standing(spec: &ExportSpec) -> impl Iterator<Item = PathBuf> {
    let names = finish::Names::of(&spec.output);
    [spec.output.clone(), names.part(1), names.manifest(), names.checksums()]
        .into_iter()
        .chain(spec.keep_chunks.then(|| names.kept_chunks()))
        .filter(|path| path.symlink_metadata().is_ok())
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
    claimed: &HashSet<ExportId>,
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
