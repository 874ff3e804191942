//! What a killed run left behind is put right before anything else: R1 to R5 and R8 of `design/lifecycle.md`;
//! R6 and R7 belong to the exports that the job file still asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirEntry, File};
use std::io;
use std::path::Path;

use rustix::fs::AtFlags;

use super::fetch::{chunk_name, chunk_of, export_folder};
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
    for export in store.unfinished()? {
        sweep(store, work, &export.id, stopped)?;
    }
    clean_up_finished(store, work)?;
    Ok(finished)
}

/// R5, R8: removes files of an unfinished export that no row speaks of, and plans chunks again whose file is gone
/// or cut short.
fn sweep(store: &mut Store, work: &Path, export: &ExportId, stopped: Stopped<'_>) -> Result<(), Stop> {
    let folder = export_folder(work, export);
    let files = ChunkFiles::open(&folder)?;
    let mut recorded = ChunkSet::default();
    let mut lost = Vec::new();
    for file in store.fetched_files(export) {
        if stopped() {
            return Err(Stop::Interrupted);
        }
        let (chunk, size_bytes) = file?;
        if files.size_bytes(chunk) == Some(size_bytes) {
            recorded.insert(chunk);
        } else {
            lost.push(chunk);
        }
    }
    for entry in entries(&folder)? {
        if !chunk_of(Path::new(&entry.file_name())).is_some_and(|chunk| recorded.contains(chunk)) {
            fs::remove_file(&entry.path()).map_err(Stop::of_fs)?;
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

/// The files of an export's chunks. They are looked up from their folder, not from the root: there can be a million.
struct ChunkFiles(Option<File>);

impl ChunkFiles {
    fn open(folder: &Path) -> Result<Self, Stop> {
        match File::open(folder) {
            Ok(folder) => Ok(Self(Some(folder))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(Stop::of_fs(fs::failed_to("open", folder)(error))),
        }
    }

    /// How large a chunk's file is, if it is there.
    fn size_bytes(&self, chunk: ChunkId) -> Option<u64> {
        let folder = self.0.as_ref()?;
        let found = rustix::fs::statat(folder, chunk_name(chunk), AtFlags::empty()).ok()?;
        u64::try_from(found.st_size).ok()
    }
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
    for entry in entries(work)? {
        let export = ExportId(entry.file_name().to_string_lossy().into_owned());
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
fn entries(folder: &Path) -> Result<impl Iterator<Item = DirEntry>, Stop> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Stop::of_fs(fs::failed_to("list", folder)(error))),
    };
    Ok(entries.into_iter().flatten().flatten())
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
