//! What a killed run left behind is put right before anything else: R1 to R5 and R8 of `design/lifecycle.md`;
//! R6 and R7 belong to the exports that the job file still asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fetch::{chunk_of, chunk_path, export_folder};
use super::finish::{self, Stopped};
use super::stop::Stop;
use crate::crash_point::{Point, reached};
use crate::fs;
use crate::model::{ChunkId, ExportId};
use crate::store::Store;

/// Recovers the state file and the work folder; done twice it changes nothing. Returns the exports that it
/// finished: their outputs were whole, only the rows did not say so.
///
/// `stopped` ends it with [`Stop::Interrupted`], also in the midst of a large output: the next start begins again.
pub(super) fn recover(
    store: &mut Store,
    work: &Path,
    stopped: Stopped<'_>,
) -> Result<BTreeSet<ExportId>, Stop> {
    let recovery = store.recover()?;
    reached(Point::ChunksReturned);
    if recovery.interrupted_runs > 0 {
        tracing::info!(
            chunks = recovery.interrupted_chunks,
            "an earlier run was killed; going on from there"
        );
    }
    let mut finished = BTreeSet::new();
    for export in recovery.merging {
        if finish::reconcile(store, work, &export, stopped)?.is_final() {
            finished.insert(export);
        }
    }
    let unfinished: Vec<ExportId> =
        store.unfinished()?.into_iter().map(|record| record.identity.id).collect();
    for export in &unfinished {
        sweep(store, work, export, stopped)?;
    }
    clean_up_finished(store, work)?;
    Ok(finished)
}

/// R5, R8: removes files of an unfinished export that no row speaks of, and plans chunks again whose file is gone
/// or cut short.
fn sweep(store: &mut Store, work: &Path, export: &ExportId, stopped: Stopped<'_>) -> Result<(), Stop> {
    let mut recorded = ChunkSet::default();
    let mut lost = Vec::new();
    for file in store.fetched_files(export) {
        if stopped() {
            return Err(Stop::Interrupted);
        }
        let (chunk, size_bytes) = file?;
        if chunk_path(work, export, chunk).metadata().is_ok_and(|metadata| metadata.len() == size_bytes) {
            recorded.insert(chunk);
        } else {
            lost.push(chunk);
        }
    }
    for path in entries(&export_folder(work, export))? {
        let is_recorded = chunk_of(&path)
            .is_some_and(|chunk| recorded.contains(chunk) && path == chunk_path(work, export, chunk));
        if !is_recorded {
            fs::remove_file(&path).map_err(Stop::of_fs)?;
            reached(Point::StraySwept);
        }
    }
    for chunk in lost {
        tracing::warn!(%export, chunk = chunk.0, "a fetched chunk's file is gone or cut; it is fetched again");
        store.lose_chunk(chunk)?;
        reached(Point::LossRecorded);
    }
    Ok(())
}

/// A set of chunks in little memory: an export can have a million, mostly numbered one after the other.
#[derive(Debug, Default)]
struct ChunkSet(BTreeMap<i64, u64>);

impl ChunkSet {
    const fn place(chunk: ChunkId) -> (i64, u64) {
        (chunk.0.div_euclid(64), 1 << chunk.0.rem_euclid(64))
    }

    fn insert(&mut self, chunk: ChunkId) {
        let (word, bit) = Self::place(chunk);
        *self.0.entry(word).or_default() |= bit;
    }

    fn contains(&self, chunk: ChunkId) -> bool {
        let (word, bit) = Self::place(chunk);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }
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
            reached(Point::FinalSwept);
        }
    }
    Ok(())
}

/// What lies in a folder, read as it is asked for; nothing if it is not there.
fn entries(folder: &Path) -> Result<impl Iterator<Item = PathBuf>, Stop> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Stop::of_fs(fs::failed_to("list", folder)(error))),
    };
    Ok(entries.into_iter().flatten().flatten().map(|entry| entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_chunks_has_those_that_were_put_in_and_no_other() {
        let mut set = ChunkSet::default();
        let has = |number: i64| number % 3 == 0 || (64..128).contains(&number);
        (0..400).filter(|number| has(*number)).for_each(|number| set.insert(ChunkId(number)));
        assert!(
            (-70..500)
                .all(|number| set.contains(ChunkId(number)) == ((0..400).contains(&number) && has(number)))
        );
    }
}
