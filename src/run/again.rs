//! Exports that were begun before and are asked for by name: failed ones again, a finished one from nothing.
//!
//! A finished export that is made again keeps its files until the new ones are proven (A1 and A2 of
//! `design/lifecycle.md`); what would make them less, or is not theirs, is a reason to refuse.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::decide::{self, Action, Decided, Decisions};
use super::export::expires;
use super::finish::{Names, Stopped, stands};
use super::stop::Stop;
use crate::archive::StreamDescription;
use crate::model::{ChunkState, ExportId, ExportSpec, ExportState, UtcMillis};
use crate::store::{ExpectedOutput, ExportRecord, Former, Store};

/// Which of the exports that the state file knows are to be carried out, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// The failed ones that the job file asks for: these, or all if none is named.
    Failed(BTreeSet<ExportId>),
    /// A finished one, from nothing; or one that was so begun and is not finished.
    Finished(ExportId),
}

impl Again {
    /// Leaves of what was decided what is asked for.
    pub(super) fn select(
        &self,
        store: &Store,
        decisions: &mut Decisions,
        now: UtcMillis,
    ) -> Result<(), Stop> {
        match self {
            Self::Failed(named) => select_failed(store, named, decisions),
            Self::Finished(id) => select_finished(store, id, decisions, now),
        }
    }
}

fn select_failed(store: &Store, named: &BTreeSet<ExportId>, decisions: &mut Decisions) -> Result<(), Stop> {
    let mut left: BTreeSet<ExportId> = named.clone();
    if named.is_empty() {
        left.extend(store.failed()?);
    }
    let mut refused = Vec::new();
    let mut selected = Vec::new();
    for decided in std::mem::take(&mut decisions.exports) {
        match &decided.action {
            Action::Resume(record) if left.remove(&record.identity.id) => selected.push(decided),
            Action::Refuse { .. } => refused.push(decided),
            _ => {}
        }
    }
    // One whose stream cannot be described was not looked up: the reason stands in its place.
    for id in left {
        let Some(record) = store.export(&id)? else { continue };
        let of_stream = |decided: &&Decided| {
            decided.spec.stream == record.spec.stream && decided.spec.job == record.spec.job
        };
        let action = match refused.iter().find(of_stream).map(|decided| &decided.action) {
            Some(Action::Refuse { error, denied }) => {
                Action::Refuse { error: error.clone(), denied: *denied }
            }
            _ if named.contains(&id) => Action::Refuse { error: not_asked_for(&record), denied: false },
            _ => continue,
        };
        selected.push(Decided { spec: record.spec, action });
    }
    decisions.exports = selected;
    Ok(())
}

/// Says that a failed export is none of the job file's that a run would go on with.
fn not_asked_for(record: &ExportRecord) -> String {
    format!(
        "no job of the job file asks for export {} (job {}, {}, {}) as it was begun; put its text back to have it \
         finished",
        record.identity.id, record.spec.job, record.spec.stream, record.spec.range
    )
}

fn select_finished(
    store: &Store,
    id: &ExportId,
    decisions: &mut Decisions,
    now: UtcMillis,
) -> Result<(), Stop> {
    decisions.exports.retain(|decided| match &decided.action {
        Action::Resume(record) => record.identity.id == *id,
        _ => true,
    });
    for decided in &mut decisions.exports {
        let action = match &decided.action {
            Action::Leave(own) if own == id => {
                let Some(record) = store.export(own)? else { continue };
                let Some(stream) = decisions.streams.get(&record.stream_arn) else { continue };
                match refusal(store, &record, stream, now)? {
                    Some(error) => Action::Refuse { error, denied: false },
                    None => Action::Redo(Box::new(record)),
                }
            }
            Action::Leave(_) | Action::Begin(_) => Action::Refuse {
                error: format!(
                    "stream {} was deleted and made again: export {id} is of the one before, and what it holds is \
                     nowhere else",
                    decided.spec.stream.name()
                ),
                denied: false,
            },
            _ => continue,
        };
        decided.action = action;
    }
    Ok(())
}

/// Why a finished export cannot be made again, as far as its files' names and sizes tell.
fn refusal(
    store: &Store,
    record: &ExportRecord,
    stream: &StreamDescription,
    now: UtcMillis,
) -> Result<Option<String>, Stop> {
    let expired_at = expires(&record.spec, stream);
    if expired_at <= now {
        return Ok(Some(format!(
            "stream {} keeps {} h, and the beginning of the range was gone at {expired_at}: a new video would hold less \
             than the old one, which stays as it is",
            stream.arn.name(),
            stream.retention_hours
        )));
    }
    let masters = Names::of(&record.spec.output).kept_chunks();
    if masters.symlink_metadata().is_ok() {
        return Ok(Some(format!(
            "{} holds its masters, which are never replaced: move the folder away first",
            masters.display()
        )));
    }
    let outputs = store.outputs(&record.identity.id)?;
    Ok(foreign(&record.spec, &outputs).map(|path| altered(&path)))
}

/// The first file that has one of an export's names and is not one of its `own`, by their sizes.
pub(super) fn foreign(spec: &ExportSpec, own: &[ExpectedOutput]) -> Option<PathBuf> {
    let is_own = |path: &Path| {
        let size = path.symlink_metadata().map(|metadata| metadata.len());
        own.iter().any(|own| own.path == path && size.as_ref().is_ok_and(|size| *size == own.size_bytes))
    };
    let others = own.iter().map(|output| output.path.clone()).filter(|path| path.symlink_metadata().is_ok());
    decide::standing(spec).chain(others).find(|path| !is_own(path))
}

/// Says that a file is not as the export left it.
fn altered(path: &Path) -> String {
    format!(
        "{} is not as the export left it, and never overwritten: move it away first, then run the same command again",
        path.display()
    )
}

/// Reads what stands of a finished export, before anything of it is changed; why it cannot be made again, if a file
/// is not as it was left.
pub(super) fn compare(
    store: &Store,
    record: &ExportRecord,
    stopped: Stopped<'_>,
) -> Result<Option<String>, Stop> {
    let outputs = store.outputs(&record.identity.id)?;
    Ok(standing_of(&outputs, stopped)?.err().map(|path| altered(&path)))
}

/// How much a finished export holds: fragments, or with fixed windows milliseconds of video.
pub(super) fn amount(store: &Store, record: &ExportRecord) -> Result<u64, Stop> {
    if record.spec.chunk.is_fixed() {
        return Ok(record.totals.media_ms);
    }
    Ok(store.chunk_counts(&record.identity.id)?.in_state(ChunkState::Fetched).fragments)
}

/// Why what was made is not to replace what is there, if it is less.
pub(super) fn less_than(former: &Former, amount: u64, is_fixed: bool) -> Option<String> {
    let what = if is_fixed { "ms of video" } else { "fragments" };
    (amount < former.amount).then(|| {
        format!(
            "made again it would hold {amount} {what}, and the old one holds {}: the old one stays as it is",
            former.amount
        )
    })
}

/// The files of the export as it was finished before that stand under their names, to the byte; or the first that
/// has such a name and is something else.
pub(super) fn standing_of(
    former: &[ExpectedOutput],
    stopped: Stopped<'_>,
) -> Result<Result<BTreeSet<PathBuf>, PathBuf>, Stop> {
    let mut standing = BTreeSet::new();
    for output in former {
        if stands(output, &output.path, stopped)? {
            standing.insert(output.path.clone());
        } else if output.path.symlink_metadata().is_ok() {
            return Ok(Err(output.path.clone()));
        }
    }
    Ok(Ok(standing))
}

/// Whether an export's state allows that it is made again: it is finished, or so begun and not finished.
pub fn may_be_redone(store: &Store, record: &ExportRecord) -> Result<bool, crate::store::StoreError> {
    Ok(record.state.is_final() || store.former(&record.identity.id)?.is_some())
}

/// Whether an export's state allows that it is tried again.
pub fn may_be_retried(record: &ExportRecord) -> bool {
    record.state == ExportState::Failed
}
