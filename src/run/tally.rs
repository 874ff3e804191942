//! The end of a run, told from the state file: what each export is now, and what that makes of the run.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::prefixes;
use super::prepare::{Entry, EntryKind};
use super::stop::Stop;
use crate::model::report::{ChunkTally, ExportReport, ExportStatus, GapReport, Outcome};
use crate::model::{ExportId, ExportSpec, UnlistedRange};
use crate::store::{OutputRole, Store};

/// What the dispatcher learned that the state file does not hold.
#[derive(Debug, Default)]
pub(super) struct RunFacts {
    /// Gaps of the exports that were planned to their end in this run.
    pub(super) gaps: BTreeMap<ExportId, Vec<GapReport>>,
    /// Chunks that earlier runs had fetched, of the exports that this run resumed.
    pub(super) resumed: BTreeMap<ExportId, u64>,
    /// Exports that failed for a missing permission.
    pub(super) denied: BTreeSet<ExportId>,
    /// Exports that recovery finished at the start of this run.
    pub(super) recovered: BTreeSet<ExportId>,
    /// Bytes of media received.
    pub(super) bytes_received: u64,
}

/// Reports every entry, in order.
pub(super) fn tally(store: &Store, entries: Vec<Entry>, facts: &RunFacts) -> Result<Vec<ExportReport>, Stop> {
    entries
        .into_iter()
        .map(|entry| match entry.kind {
            EntryKind::Pending => Ok(unknown(entry.spec, ExportStatus::Pending, None)),
            EntryKind::Refused { error, .. } => Ok(unknown(entry.spec, ExportStatus::Failed, Some(error))),
            EntryKind::Already(id) => {
                let already = !facts.recovered.contains(&id);
                known(store, &id, entry.spec, already, facts)
            }
            EntryKind::Open(id, _) => known(store, &id, entry.spec, false, facts),
        })
        .collect()
}

fn unknown(spec: ExportSpec, status: ExportStatus, error: Option<String>) -> ExportReport {
    ExportReport {
        id: None,
        job: spec.job,
        stream: spec.stream.to_string(),
        from: spec.range.start(),
        to: spec.range.end(),
        status,
        already: false,
        resumed_chunks: None,
        output: Vec::new(),
        manifest: None,
        chunks: ChunkTally::default(),
        fragments: (!spec.chunk.is_fixed()).then_some(0),
        chunk: spec.chunk.to_string(),
        bytes: 0,
        media_ms: 0,
        gaps: Vec::new(),
        warnings: spec.warnings,
        error,
    }
}

fn known(
    store: &Store,
    id: &ExportId,
    spec: ExportSpec,
    already: bool,
    facts: &RunFacts,
) -> Result<ExportReport, Stop> {
    let Some(record) = store.export(id)? else {
        return Ok(unknown(spec, ExportStatus::Failed, Some(format!("export {id} left the state file"))));
    };
    let counts = store.chunk_counts(id)?;
    let gaps = match facts.gaps.get(id) {
        Some(gaps) => gaps.clone(),
        None if record.state.is_final() => Facts::gather(store, id, &record.spec)?.gap_reports(),
        None => Vec::new(),
    };
    let videos = store.outputs(id)?.into_iter().filter(|output| output.role == OutputRole::Video);
    let finished = record.state.is_final();
    Ok(ExportReport {
        id: Some(id.clone()),
        status: record.state.into(),
        already,
        resumed_chunks: facts.resumed.get(id).copied(),
        output: if finished { videos.map(|output| output.path).collect() } else { Vec::new() },
        manifest: record.manifest,
        chunks: counts.tally(),
        fragments: (!record.spec.chunk.is_fixed()).then_some(record.totals.fragments),
        bytes: record.totals.planned_bytes,
        media_ms: record.totals.media_ms,
        gaps,
        // The warnings of the end include those of the beginning.
        warnings: if finished { record.warnings } else { spec.warnings.clone() },
        error: record.error,
        ..unknown(ExportSpec { job: spec.job, ..record.spec }, ExportStatus::Pending, None)
    })
}

/// Whether everything that was tried in this run failed for a missing permission.
pub(super) fn all_denied(entries: &[Entry], unlisted: &[UnlistedRange], facts: &RunFacts) -> bool {
    let of_entries = entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::Pending | EntryKind::Already(_) => None,
        EntryKind::Refused { denied, .. } => Some(*denied),
        EntryKind::Open(id, _) => Some(facts.denied.contains(id)),
    });
    let mut tried = of_entries.chain(prefixes::denials(unlisted));
    tried.next().is_some_and(|first| first && tried.all(|denied| denied))
}

/// What the exports make of the run.
pub(super) fn outcome(exports: &[ExportReport], all_denied: bool) -> Outcome {
    let incomplete = exports.iter().any(|export| match export.status {
        ExportStatus::Failed => true,
        // Final: it is reported as incomplete by the run that made it, and is left alone by later ones.
        ExportStatus::Partial => !export.already,
        ExportStatus::Done | ExportStatus::Empty | ExportStatus::Pending => false,
    });
    match (all_denied, incomplete) {
        (true, _) => Outcome::Auth,
        (false, true) => Outcome::Incomplete,
        (false, false) => Outcome::Done,
    }
}
