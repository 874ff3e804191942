//! Forgets old exports: rows of finished ones, rows and chunks of superseded ones (P1 to P3 of `design/lifecycle.md`).
//!
//! What the job file asks for is not forgotten, however old: only its row says that it need not be fetched again. No
//! request is sent, and nothing that has a final name is touched.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::fetch::export_folder;
use super::finish::{Names, Stopped};
use super::recover;
use super::stop::Stop;
use crate::crash_point::{Point, reached};
use crate::fs;
use crate::model::prune_report::{PruneReport, PrunedExport};
use crate::model::{ChunkState, ExportSpec, StreamArn, UtcMillis};
use crate::store::{ExportIdentity, ExportRecord, OutputRole, Store};

/// Exports read at a time.
const PAGE: u32 = 1_000;

/// What is to be forgotten.
pub struct PruneRequest<'a> {
    /// What the job file asks for, all of it.
    pub asked: &'a [ExportSpec],
    /// Exports that changed last before this.
    pub before: UtcMillis,
    /// Where chunks wait.
    pub work: &'a Path,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// Says whether to stop.
    pub stopped: Stopped<'a>,
}

/// Forgets, or tells what would be. The caller holds the locks of the state file and of the folder of chunks, unless
/// nothing is to be changed.
pub fn prune(store: &mut Store, request: &PruneRequest<'_>) -> PruneReport {
    let mut report = PruneReport::new(request.dry_run, request.before);
    if let Err(stop) = forget_old(store, request, &mut report) {
        report.outcome = stop.outcome();
        report.error = Some(stop.told());
    }
    report
}

fn forget_old(store: &mut Store, request: &PruneRequest<'_>, report: &mut PruneReport) -> Result<(), Stop> {
    if !request.dry_run {
        recover::recover(store, request.work, request.stopped)?;
    }
    let mut asked = AskedFor::new(request.asked);
    let mut after = 0;
    loop {
        let page = store.exports(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        for record in page.iter().filter(|record| is_old(record, request.before)) {
            if (request.stopped)() {
                return Err(Stop::Interrupted);
            }
            if asked.includes(record) {
                report.totals.asked_for += 1;
                continue;
            }
            let export = described(store, record)?;
            if !request.dry_run {
                forget(store, request.work, record)?;
            }
            report.add(export);
        }
    }
}

/// Whether nothing is done about an export any more, and has not been for long.
fn is_old(record: &ExportRecord, before: UtcMillis) -> bool {
    (record.state.is_final() || record.superseded) && record.updated < before
}

fn described(store: &Store, record: &ExportRecord) -> Result<PrunedExport, Stop> {
    let id = &record.identity.id;
    let outputs = store.outputs(id)?.into_iter();
    let superseded = !record.state.is_final();
    let on_disk = store.chunk_counts(id)?.in_state(ChunkState::Fetched).size_bytes;
    Ok(PrunedExport {
        id: id.clone(),
        job: record.spec.job.clone(),
        stream: record.spec.stream.name().to_owned(),
        from: record.spec.range.start(),
        to: record.spec.range.end(),
        status: record.state,
        superseded,
        changed_at: record.updated,
        output: outputs.filter(|output| output.role == OutputRole::Video).map(|output| output.path).collect(),
        freed_bytes: if superseded { on_disk } else { 0 },
    })
}

/// P1 to P3; done twice, it changes nothing more.
fn forget(store: &mut Store, work: &Path, record: &ExportRecord) -> Result<(), Stop> {
    let id = &record.identity.id;
    if !record.state.is_final() {
        store.lose_fetched(id)?;
        reached(Point::ChunksGivenUp);
        fs::remove_dir_all(&Names::of(&record.spec.output).staging(id)).map_err(Stop::of_fs)?;
        fs::remove_dir_all(&export_folder(work, id)).map_err(Stop::of_fs)?;
        reached(Point::GivenUpRemoved);
    }
    store.forget_export(id)?;
    reached(Point::ExportForgotten);
    Ok(())
}

/// What a job file asks for, by what it would find in the state file.
struct AskedFor<'a> {
    by_stream: HashMap<&'a str, Vec<&'a ExportSpec>>,
    /// Contents and resume keys, of the streams that were looked for so far.
    found: HashMap<StreamArn, (HashSet<String>, HashSet<String>)>,
}

impl<'a> AskedFor<'a> {
    fn new(asked: &'a [ExportSpec]) -> Self {
        let mut by_stream: HashMap<&str, Vec<&ExportSpec>> = HashMap::new();
        for spec in asked {
            by_stream.entry(spec.stream.name()).or_default().push(spec);
        }
        Self { by_stream, found: HashMap::new() }
    }

    /// Whether a run would find that export and leave it or go on with it. That no stream is described for it makes it
    /// careful: of a stream that was deleted and made again, both are asked for.
    fn includes(&mut self, record: &ExportRecord) -> bool {
        let (contents, keys) = self.found.entry(record.stream_arn.clone()).or_insert_with(|| {
            let asked = self.by_stream.get(record.stream_arn.name()).into_iter().flatten();
            asked
                .map(|spec| ExportIdentity::of(spec, &record.stream_arn))
                .map(|identity| (identity.content_id, identity.resume_key))
                .unzip()
        });
        contents.contains(&record.identity.content_id)
            || (!record.state.is_final() && keys.contains(&record.identity.resume_key))
    }
}
