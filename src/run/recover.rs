//! What a killed run left behind is put right before anything else: R1 to R5 and R8 of `design/lifecycle.md`;
//! R6 and R7 belong to the exports that the job file still asks for.

use std::collections::BTreeSet;
use std::fs::{DirEntry, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, iter, thread};

use rustix::fs::AtFlags;

use super::fetch::{chunk_name, chunk_of, export_folder};
use super::finish::{self, Stopped};
use super::stop::Stop;
use crate::crash_point::{Point, reached};
use crate::fs;
use crate::model::{ChunkId, ExportId};
use crate::store::{Store, UnfinishedExport};

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
    sweep(store, work, stopped)?;
    clean_up_finished(store, work)?;
    Ok(finished)
}

/// How many recorded files are looked at before what was found is put right: plenty for every core, in little memory.
const FILES_OF_A_BATCH: usize = 1 << 16;

/// How many of them one thread looks at in one go.
const FILES_OF_A_PIECE: usize = 1 << 12;

/// R5, R8: removes files of unfinished exports that no row speaks of, and plans chunks again whose file is gone or
/// cut short.
fn sweep(store: &mut Store, work: &Path, stopped: Stopped<'_>) -> Result<(), Stop> {
    let (mut batch, mut files) = (Vec::new(), 0);
    for UnfinishedExport { id, .. } in store.unfinished()? {
        let recorded = Recorded::read(store, work, id)?;
        files += recorded.files.len();
        batch.push(recorded);
        if files >= FILES_OF_A_BATCH {
            put_right(store, &batch, stopped)?;
            (batch, files) = (Vec::new(), 0);
        }
    }
    put_right(store, &batch, stopped)
}

/// Chunks and the sizes of their files.
type RecordedFiles = [(ChunkId, u64)];

/// An export, with the files that its rows speak of.
struct Recorded {
    export: ExportId,
    folder: PathBuf,
    /// In the order of the chunks' ids.
    files: Vec<(ChunkId, u64)>,
}

/// What is not as the rows have it.
#[derive(Default)]
struct Amiss {
    strays: Vec<PathBuf>,
    lost: Vec<ChunkId>,
}

impl Recorded {
    fn read(store: &Store, work: &Path, export: ExportId) -> Result<Self, Stop> {
        let mut files = store.fetched_files(&export).collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable();
        Ok(Self { folder: export_folder(work, &export), export, files })
    }

    /// Files in the folder that no row speaks of.
    fn strays(&self) -> Result<Amiss, Stop> {
        let mut strays = Vec::new();
        for entry in entries(&self.folder)? {
            let chunk = chunk_of(Path::new(&entry.file_name()));
            let is_recorded =
                |chunk| self.files.binary_search_by_key(&chunk, |(recorded, _)| *recorded).is_ok();
            if !chunk.is_some_and(is_recorded) {
                strays.push(entry.path());
            }
        }
        Ok(Amiss { strays, lost: Vec::new() })
    }

    /// Some of its files that are gone or not of their size: these are lost, and what is left of them is a stray.
    fn losses(&self, files: &RecordedFiles) -> Result<Amiss, Stop> {
        // Looked up from their folder, not from the root: there can be a million.
        let folder = match File::open(&self.folder) {
            Ok(folder) => Some(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Stop::of_fs(fs::failed_to("open", &self.folder)(error))),
        };
        let mut amiss = Amiss::default();
        for (chunk, size_bytes) in files {
            let name = chunk_name(*chunk);
            let found =
                folder.as_ref().and_then(|folder| rustix::fs::statat(folder, &name, AtFlags::empty()).ok());
            let found = found.map(|found| u64::try_from(found.st_size));
            if found == Some(Ok(*size_bytes)) {
                continue;
            }
            amiss.lost.push(*chunk);
            if found.is_some() {
                amiss.strays.push(self.folder.join(name));
            }
        }
        Ok(amiss)
    }
}

/// Looks at the files of exports, and puts right what is amiss.
fn put_right(store: &mut Store, batch: &[Recorded], stopped: Stopped<'_>) -> Result<(), Stop> {
    for (index, Amiss { strays, lost }) in look(batch, stopped)? {
        for stray in strays {
            fs::remove_file(&stray).map_err(Stop::of_fs)?;
            reached(Point::StraySwept);
        }
        for chunk in lost {
            let export = &batch[index].export;
            tracing::warn!(%export, chunk = chunk.0, "a fetched chunk's file is gone or cut; it is fetched again");
            store.lose_chunk(chunk)?;
            reached(Point::LossRecorded);
        }
    }
    Ok(())
}

/// Looks at the files of exports on all cores, since a million of them take seconds; gives the place of an export in
/// the batch with what is amiss there.
fn look(batch: &[Recorded], stopped: Stopped<'_>) -> Result<Vec<(usize, Amiss)>, Stop> {
    let pieces: Vec<(usize, Option<&RecordedFiles>)> = batch
        .iter()
        .enumerate()
        .flat_map(|(index, recorded)| {
            let files = recorded.files.chunks(FILES_OF_A_PIECE).map(Some);
            iter::once(None).chain(files).map(move |files| (index, files))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some((index, files)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stopped() {
                return Err(Stop::Interrupted);
            }
            let recorded = &batch[*index];
            let amiss = files.map_or_else(|| recorded.strays(), |files| recorded.losses(files))?;
            found.push((*index, amiss));
        }
        Ok(found)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(pieces.len());
    let found = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<_>, Stop>>| {
            thread.join().unwrap_or_else(|_| Err(Stop::Panic("a look at the chunks".to_owned())))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, Stop>>()
    })?;
    Ok(found.into_iter().flatten().collect())
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
