//! What a killed run left behind is put right before anything else: R1 to R5 and R8 of `design/lifecycle.md`;
//! R6 and R7 belong to the exports that the job file still asks for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::fetch::{chunk_path, export_folder};
use super::finish;
use super::stop::Stop;
use crate::fs;
use crate::model::ExportId;
use crate::store::Store;

/// Recovers the state file and the work folder; done twice it changes nothing. Returns the exports that it
/// finished: their outputs were whole, only the rows did not say so.
pub(super) fn recover(store: &mut Store, work: &Path) -> Result<BTreeSet<ExportId>, Stop> {
    let recovery = store.recover()?;
    if recovery.interrupted_runs > 0 {
        tracing::info!(
            chunks = recovery.interrupted_chunks,
            "an earlier run was killed; going on from there"
        );
    }
    let mut finished = BTreeSet::new();
    for export in recovery.merging {
        if finish::reconcile(store, work, &export)?.is_final() {
            finished.insert(export);
        }
    }
    let unfinished: Vec<ExportId> =
        store.unfinished()?.into_iter().map(|record| record.identity.id).collect();
    for export in &unfinished {
        sweep(store, work, export)?;
    }
    clean_up_finished(store, work)?;
    Ok(finished)
}

/// R5, R8: removes files of an unfinished export that no row speaks of, and plans chunks again whose file is gone
/// or cut short.
fn sweep(store: &mut Store, work: &Path, export: &ExportId) -> Result<(), Stop> {
    let mut recorded = BTreeSet::new();
    let mut lost = Vec::new();
    for chunk in store.leaf_chunks(export) {
        let chunk = chunk?;
        let Some((size_bytes, _)) = chunk.file else { continue };
        let path = chunk_path(work, export, chunk.id);
        if path.metadata().is_ok_and(|metadata| metadata.len() == size_bytes) {
            recorded.insert(path);
        } else {
            lost.push(chunk.id);
        }
    }
    for path in entries(&export_folder(work, export))?.iter().filter(|path| !recorded.contains(*path)) {
        fs::remove_file(path).map_err(Stop::of_fs)?;
    }
    for chunk in lost {
        tracing::warn!(%export, chunk = chunk.0, "a fetched chunk's file is gone or cut; it is fetched again");
        store.lose_chunk(chunk)?;
    }
    Ok(())
}

/// R4: removes what the end of finished exports has left. Folders that are no export's are left alone.
fn clean_up_finished(store: &Store, work: &Path) -> Result<(), Stop> {
    for path in entries(work)? {
        let Some(name) = path.file_name() else { continue };
        let export = ExportId(name.to_string_lossy().into_owned());
        if let Some(record) = store.export(&export)?
            && record.state.is_final()
        {
            finish::clean_up(work, &export, &record.spec.output).map_err(Stop::of_fs)?;
        }
    }
    Ok(())
}

/// What lies in a folder; nothing if it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Stop> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Stop::of_fs(fs::failed_to("list", folder)(error))),
    }
}
