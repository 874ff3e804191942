//! The end of an export: merge → staging folder → durable names → done; and what recovery makes of half an end.
//!
//! The order is that of `design/lifecycle.md`, F1 to F9; the numbers stand where the steps are taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::facts::Facts;
use super::fetch::{chunk_name, chunk_of, chunk_path, export_folder};
use super::order::OutputOrder;
use super::stop::Stop;
use super::{again, decide};
use crate::archive::StreamDescription;
use crate::crash_point::{Point, reached};
use crate::evidence::{self, hash_file, hash_file_unless};
use crate::fs::{self, FsError};
use crate::merge::{self, Ffmpeg, MergeError, MergeReport, MergeRequest};
use crate::model::{ChunkState, ExportEvent, ExportId, ExportSpec, ExportState, Fragment};
use crate::store::{ChunkRecord, ExpectedOutput, ExportRecord, Finish, OutputRole, Store, StoreError};

/// The names that belong to an output.
#[derive(Debug, Clone)]
pub(super) struct Names {
    folder: PathBuf,
    stem: String,
}

impl Names {
    pub(super) fn of(output: &Path) -> Self {
        let folder = output.parent().unwrap_or(Path::new("/")).to_owned();
        let stem = output.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self { folder, stem }
    }

    /// The folder of all of them.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `NAME-partN.mp4`.
    pub(super) fn part(&self, part: usize) -> PathBuf {
        self.folder.join(format!("{}-part{part}.mp4", self.stem))
    }

    /// `NAME.manifest.json`.
    pub(super) fn manifest(&self) -> PathBuf {
        self.folder.join(format!("{}.manifest.json", self.stem))
    }

    /// `NAME.sha256`.
    pub(super) fn checksums(&self) -> PathBuf {
        self.folder.join(format!("{}.sha256", self.stem))
    }

    /// `NAME.chunks`, the folder of kept masters.
    pub(super) fn kept_chunks(&self) -> PathBuf {
        self.folder.join(format!("{}.chunks", self.stem))
    }

    /// Where everything is made before it gets its name: beside the output, so that renaming moves no byte.
    pub(super) fn staging(&self, export: &ExportId) -> PathBuf {
        self.folder.join(format!(".kvs-export-{export}"))
    }
}

/// What a merge needs.
pub(super) struct MergeJob {
    pub(super) state: PathBuf,
    pub(super) work: PathBuf,
    pub(super) record: ExportRecord,
    pub(super) stream: Arc<StreamDescription>,
    pub(super) tags: Option<Vec<(String, String)>>,
    pub(super) ffmpeg: Ffmpeg,
    pub(super) job_file: Option<super::JobFileFacts>,
    pub(super) clock: Arc<dyn crate::clock::Clock>,
    pub(super) cancel: Arc<AtomicBool>,
}

/// A finished staging folder.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) outputs: Vec<ExpectedOutput>,
    pub(super) manifest: PathBuf,
    pub(super) event: ExportEvent,
    pub(super) warnings: Vec<String>,
    /// The length of the videos, where it was not known from a listing.
    pub(super) media_ms: Option<u64>,
    /// Files that the export made before, stand, and are to be replaced.
    pub(super) former: BTreeSet<PathBuf>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeFailure {
    /// A chunk's file is not what was recorded: it is to be fetched again.
    #[error("a chunk's file is gone or altered")]
    LostChunk(PathBuf),
    /// The user stopped the run.
    #[error("interrupted")]
    Cancelled,
    /// The merge itself failed; the export does.
    #[error("{0}")]
    Failed(String),
    /// The run cannot go on.
    #[error("the run cannot go on")]
    Stop(#[source] Stop),
}

impl From<Stop> for MergeFailure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<StoreError> for MergeFailure {
    fn from(error: StoreError) -> Self {
        Self::Stop(error.into())
    }
}

impl From<FsError> for MergeFailure {
    fn from(error: FsError) -> Self {
        Self::Stop(Stop::of_fs(error))
    }
}

/// F1, F2: merges the chunks into a fresh folder beside the output and puts the sidecars there, all synced.
pub(super) fn stage(job: &MergeJob) -> Result<Staged, MergeFailure> {
    // A connection of its own, for reading: the dispatcher goes on writing meanwhile.
    let store = Store::open_beside(&job.state, Arc::clone(&job.clock))?;
    let (id, spec) = (&job.record.identity.id, &job.record.spec);
    let facts = Facts::gather(&store, id, spec)?;
    let names = Names::of(&spec.output);
    let former = former_files(job, &store)?;
    let staging = names.staging(id);
    fs::remove_dir_all(&staging)?;
    fs::create_dir_all(&staging)?;
    reached(Point::FolderMade);
    let request = MergeRequest {
        timeline: spec.timeline,
        media_clock: facts.media_clock,
        gap_tolerance_ms: facts.tolerance_ms,
        on_codec_change: spec.on_codec_change,
        folder: staging.clone(),
        file_name: file_name(&spec.output),
        ffmpeg: job.ffmpeg.clone(),
        cancel: Arc::clone(&job.cancel),
    };
    let fetched = store.chunk_counts(id)?.in_state(ChunkState::Fetched).chunks;
    let mut source = OutputOrder::new(&store, id, &job.work, spec.timestamps, &facts);
    let merged =
        if fetched == 0 { None } else { Some(merge::merge(&request, &mut source).map_err(merge_failure)?) };
    Ok(Staged { former, ..write_sidecars(job, &store, &facts, merged.as_ref(), &staging)? })
}

/// What an export that is made again is to replace. Read before the merge: what is not its own any more fails it.
fn former_files(job: &MergeJob, store: &Store) -> Result<BTreeSet<PathBuf>, MergeFailure> {
    let Some(former) = store.former(&job.record.identity.id)? else { return Ok(BTreeSet::new()) };
    match again::standing_of(&former.outputs, &|| job.cancel.load(Ordering::SeqCst)) {
        Ok(Ok(standing)) => Ok(standing),
        Ok(Err(path)) => Err(MergeFailure::Failed(decide::already_there(&path))),
        Err(Stop::Interrupted) => Err(MergeFailure::Cancelled),
        Err(stop) => Err(stop.into()),
    }
}

fn merge_failure(error: MergeError) -> MergeFailure {
    match error {
        MergeError::Cancelled => MergeFailure::Cancelled,
        MergeError::ChunkLost { path, .. } => MergeFailure::LostChunk(path),
        MergeError::Chunks(error) => MergeFailure::Failed(crate::error::chain(&*error)),
        error if error.is_disk_full() => MergeFailure::Stop(Stop::DiskFull(Box::new(error))),
        error => MergeFailure::Failed(crate::error::chain(&error)),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// F1, F2: puts kept chunks, manifest and checksums beside the merged parts and syncs the folder.
fn write_sidecars(
    job: &MergeJob,
    store: &Store,
    facts: &Facts,
    merged: Option<&MergeReport>,
    staging: &Path,
) -> Result<Staged, MergeFailure> {
    let (id, spec) = (&job.record.identity.id, &job.record.spec);
    let names = Names::of(&spec.output);
    if spec.keep_chunks && merged.is_some() {
        keep_chunks(store, id, &job.work, &staging.join(file_name(&names.kept_chunks())))?;
        reached(Point::MastersKept);
    }
    let parts = merged.map(|report| report.parts.as_slice()).unwrap_or_default();
    let mut outputs: Vec<ExpectedOutput> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        outputs.push(ExpectedOutput {
            role: OutputRole::Video,
            part: u32::try_from(index + 1).unwrap_or(u32::MAX),
            path: names.folder.join(file_name(&part.path)),
            size_bytes: part.size_bytes,
            sha256: part.sha256,
        });
    }
    let (manifest, event) = super::proof::manifest(job, store, facts, merged)?;
    let staged_manifest = staging.join(file_name(&names.manifest()));
    evidence::write_manifest(
        &staged_manifest,
        &manifest,
        super::proof::chunk_entries(store, id, spec.keep_chunks),
    )?;
    reached(Point::ManifestWritten);
    let (_, manifest_hash) = hash_file(&staged_manifest)?;
    let manifest_name = file_name(&names.manifest());
    let videos = outputs.iter().map(|output| (file_name(&output.path), output.sha256));
    let lines: Vec<_> = videos.chain([(manifest_name, manifest_hash)]).collect();
    let text = evidence::checksums(lines.iter().map(|(name, hash)| (name.as_str(), *hash)));
    fs::write_durably(&staging.join(file_name(&names.checksums())), text.as_bytes())?;
    let sidecars = [(OutputRole::Manifest, names.manifest()), (OutputRole::Checksum, names.checksums())];
    for (role, path) in sidecars {
        let (size_bytes, sha256) = hash_file(&staging.join(file_name(&path)))?;
        outputs.push(ExpectedOutput { role, part: 1, path, size_bytes, sha256 });
    }
    reached(Point::SidecarsWritten);
    fs::sync_dir(staging)?;
    reached(Point::FolderSynced);
    let media_ms = spec.chunk.is_fixed().then(|| parts.iter().map(|part| part.duration_ms).sum());
    let (manifest, warnings) = (names.manifest(), manifest.warnings);
    Ok(Staged { outputs, manifest, event, warnings, media_ms, former: BTreeSet::new() })
}

/// Gives the masters names in the order of the archive; links where it can, copies where it must.
fn keep_chunks(store: &Store, id: &ExportId, work: &Path, folder: &Path) -> Result<(), MergeFailure> {
    fs::create_dir_all(folder)?;
    for chunk in store.leaf_chunks(id) {
        let chunk = chunk?;
        if chunk.state == ChunkState::Fetched {
            fs::link_or_copy(&chunk_path(work, id, chunk.id), &folder.join(chunk_name(chunk.id)))?;
        }
    }
    fs::sync_dir(folder)?;
    Ok(())
}

/// F4 to F6: gives everything in the staging folder its final name, sidecars first, videos last.
///
/// What is `standing` under its final name already is left as it is: recovery calls this a second time. What the
/// export made before, `former`, is replaced; A2: of that, what has no successor is deleted last.
pub(super) fn publish(
    export: &ExportId,
    spec: &ExportSpec,
    outputs: &[ExpectedOutput],
    standing: &BTreeSet<PathBuf>,
    former: &BTreeSet<PathBuf>,
) -> Result<(), FsError> {
    // Before anything has its name: what is in the way of one must not have cost what the others replace.
    let in_the_way =
        |path: &Path| !standing.contains(path) && !former.contains(path) && path.symlink_metadata().is_ok();
    if let Some(output) = outputs.iter().find(|output| in_the_way(&output.path)) {
        let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(fs::failed_to("rename a file to", &output.path)(error));
    }
    let names = Names::of(&spec.output);
    let staging = names.staging(export);
    let kept = staging.join(file_name(&names.kept_chunks()));
    if kept.is_dir() {
        fs::rename_new(&kept, &names.kept_chunks())?;
        reached(Point::SidecarNamed);
    }
    let (videos, sidecars): (Vec<_>, Vec<_>) =
        outputs.iter().partition(|output| output.role == OutputRole::Video);
    for output in sidecars.into_iter().chain(videos) {
        if !standing.contains(&output.path) {
            let staged = staging.join(file_name(&output.path));
            if former.contains(&output.path) {
                fs::rename(&staged, &output.path)?;
            } else {
                fs::rename_new(&staged, &output.path)?;
            }
            reached(if output.role == OutputRole::Video { Point::VideoNamed } else { Point::SidecarNamed });
        }
    }
    fs::sync_dir(&names.folder)?;
    reached(Point::OutputFolderSynced);
    let mut without_successor =
        former.iter().filter(|path| outputs.iter().all(|output| output.path != **path)).peekable();
    if without_successor.peek().is_some() {
        without_successor.try_for_each(|path| fs::remove_file(path))?;
        fs::sync_dir(&names.folder)?;
        reached(Point::FormerRemoved);
    }
    Ok(())
}

/// F8, F9: removes what a finished export needs no more.
pub(super) fn clean_up(work: &Path, export: &ExportId, output: &Path) -> Result<(), FsError> {
    // The folder of chunks goes last: while it is there, recovery knows that this is not finished (R4).
    fs::remove_dir_all(&Names::of(output).staging(export))?;
    reached(Point::FolderRemoved);
    fs::remove_dir_all(&export_folder(work, export))?;
    reached(Point::ChunksRemoved);
    Ok(())
}

/// Says whether the run is to stop; asked between the blocks of what is read, for outputs may be large.
pub(super) type Stopped<'a> = &'a (dyn Fn() -> bool + Sync);

/// Whether `path` is that output, to the byte.
pub(super) fn stands(output: &ExpectedOutput, path: &Path, stopped: Stopped<'_>) -> Result<bool, Stop> {
    let size = path.metadata().map(|metadata| metadata.len());
    if !size.is_ok_and(|size| size == output.size_bytes) {
        return Ok(false);
    }
    match hash_file_unless(path, stopped) {
        Ok(None) => Err(Stop::Interrupted),
        Ok(Some((_, sha256))) => Ok(sha256 == output.sha256),
        // What cannot be read is not known to be this export's own.
        Err(_) => Ok(false),
    }
}

/// R3, recovery of an export that was being merged: goes forward if every file is whole under its final or its
/// staged name, else removes what is there of it and goes back to where the merge begins.
pub(super) fn reconcile(
    store: &mut Store,
    work: &Path,
    export: &ExportId,
    stopped: Stopped<'_>,
) -> Result<ExportState, Stop> {
    let record = store.export(export)?.ok_or_else(|| StoreError::NoExport(export.clone()))?;
    let outputs = store.outputs(export)?;
    let staging = Names::of(&record.spec.output).staging(export);
    let mut standing = BTreeSet::new();
    let mut whole = !outputs.is_empty();
    for output in &outputs {
        if stands(output, &output.path, stopped)? {
            standing.insert(output.path.clone());
        } else if !stands(output, &staging.join(file_name(&output.path)), stopped)? {
            whole = false;
            break;
        }
    }
    if whole {
        let former = former_standing(store, export, stopped)?;
        match publish(export, &record.spec, &outputs, &standing, &former) {
            Ok(()) => {
                let state = complete(store, work, &record)?;
                reached(if standing.len() == outputs.len() { Point::EndStood } else { Point::EndStaged });
                return Ok(state);
            }
            // Somebody else's file has the name (I3): the export fails when its turn comes, and says so.
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Stop::of_fs(error)),
        }
    }
    roll_back(store, export, &record.spec, stopped)?;
    let state = store.move_export(export, ExportState::Merging, ExportEvent::Interrupted)?;
    reached(if outputs.is_empty() { Point::NothingStored } else { Point::EndUndone });
    Ok(state)
}

/// The files that an export made before and that still stand.
fn former_standing(
    store: &Store,
    export: &ExportId,
    stopped: Stopped<'_>,
) -> Result<BTreeSet<PathBuf>, Stop> {
    let mut standing = BTreeSet::new();
    for output in store.former(export)?.map(|former| former.outputs).unwrap_or_default() {
        if stands(&output, &output.path, stopped)? {
            standing.insert(output.path);
        }
    }
    Ok(standing)
}

/// F7 to F9 of an export whose outputs stand under their final names.
fn complete(store: &mut Store, work: &Path, record: &ExportRecord) -> Result<ExportState, Stop> {
    let (export, output) = (&record.identity.id, &record.spec.output);
    let counts = store.chunk_counts(export)?;
    let lost = counts.in_state(ChunkState::Rejected).chunks + counts.in_state(ChunkState::Expired).chunks;
    let event = if lost > 0 { ExportEvent::CompletedPartly } else { ExportEvent::Completed };
    let manifest = Names::of(output).manifest();
    let warnings = evidence::manifest_warnings(&manifest).map_err(Stop::of_fs)?;
    let finish = Finish { event, manifest: Some(&manifest), warnings: &warnings, error: None };
    let state = store.finish_export(export, ExportState::Merging, &finish)?;
    reached(Point::ExportEnded);
    clean_up(work, export, output).map_err(Stop::of_fs)?;
    Ok(state)
}

/// Removes what an unfinished end left under final names, and its staging folder; files that are not this
/// export's to the byte stay.
pub(super) fn roll_back(
    store: &Store,
    export: &ExportId,
    spec: &ExportSpec,
    stopped: Stopped<'_>,
) -> Result<(), Stop> {
    let names = Names::of(&spec.output);
    let outputs = store.outputs(export)?;
    let former = store.former(export)?.map(|former| former.outputs).unwrap_or_default();
    for output in &outputs {
        // Made again to the byte, it cannot be told from what stood there before, and that stays.
        let stood = former.iter().any(|of| of.path == output.path && of.sha256 == output.sha256);
        if !stood && stands(output, &output.path, stopped)? {
            fs::remove_file(&output.path).map_err(Stop::of_fs)?;
            reached(Point::OutputUndone);
        }
    }
    let kept = names.kept_chunks();
    if spec.keep_chunks && !outputs.is_empty() && are_kept_chunks(store, export, &kept, stopped)? {
        fs::remove_dir_all(&kept).map_err(Stop::of_fs)?;
        reached(Point::MastersUndone);
    }
    fs::remove_dir_all(&names.staging(export)).map_err(Stop::of_fs)?;
    reached(Point::FolderUndone);
    Ok(())
}

/// Whether a folder holds nothing but chunks of that export, to the byte.
fn are_kept_chunks(
    store: &Store,
    export: &ExportId,
    folder: &Path,
    stopped: Stopped<'_>,
) -> Result<bool, Stop> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(false) };
    for entry in entries {
        let Ok(path) = entry.map(|entry| entry.path()) else { return Ok(false) };
        let Some(id) = chunk_of(&path) else { return Ok(false) };
        let recorded = match store.chunk(id) {
            Ok(chunk) if chunk.export == *export => chunk.file,
            Ok(_) | Err(StoreError::NoChunk(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if recorded.is_none() {
            return Ok(false);
        }
        match hash_file_unless(&path, stopped) {
            Ok(None) => return Err(Stop::Interrupted),
            Ok(found) if found == recorded => {}
            Ok(Some(_)) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// The fragments of the window that was asked for last.
#[derive(Default)]
pub(super) struct WindowCache {
    window: Option<(u32, Arc<Vec<Fragment>>)>,
}

impl WindowCache {
    /// The fragments of a chunk; none where they are not known.
    pub(super) fn fragments(
        &mut self,
        store: &Store,
        export: &ExportId,
        chunk: &ChunkRecord,
    ) -> Result<Vec<Fragment>, StoreError> {
        if chunk.planned.is_fixed() {
            return Ok(Vec::new());
        }
        let fragments = match &self.window {
            Some((seq, fragments)) if *seq == chunk.window_seq => Arc::clone(fragments),
            _ => {
                let fragments = Arc::new(store.window_fragments(export, chunk.window_seq)?.0);
                self.window = Some((chunk.window_seq, Arc::clone(&fragments)));
                fragments
            }
        };
        let first = chunk.planned.first_fragment as usize;
        let fragments = fragments.iter().skip(first).take(chunk.planned.fragment_count as usize);
        Ok(fragments.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::RangeAnchor;
    use crate::model::{
        Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, RangeText, Sha256Digest, StreamSelector,
        TimeRange, Timeline, TimestampKind, UtcMillis,
    };

    fn spec(output: PathBuf) -> ExportSpec {
        ExportSpec {
            job: "night".into(),
            stream: StreamSelector::Name("gate".into()),
            range: TimeRange::new(UtcMillis::new(0), UtcMillis::new(1)).expect("a range"),
            range_text: RangeText { text: "x".into(), anchor: RangeAnchor::Absolute },
            timestamps: TimestampKind::Server,
            edges: Edges::Cover,
            chunk: Chunking::Auto,
            timeline: Timeline::Compact,
            gaps: GapPolicy::Accept,
            gap_tolerance: GapTolerance::Auto,
            settle_ms: 0,
            on_codec_change: OnCodecChange::Split,
            keep_chunks: false,
            output,
            output_template: "gate.mp4".into(),
            time_zone: None,
            case: None,
            operator: None,
            note: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_file_in_the_way_of_one_part_does_not_cost_the_old_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = spec(folder.path().join("gate.mp4"));
        let export = ExportId("0123456789abcdef".into());
        let staging = Names::of(&spec.output).staging(&export);
        fs::create_dir_all(&staging).expect("made");
        let paths = [1, 2].map(|part| folder.path().join(format!("gate-part{part}.mp4")));
        let outputs = paths.clone().map(|path| {
            fs::write_durably(&staging.join(file_name(&path)), b"new").expect("staged");
            let (role, part) = (OutputRole::Video, 1);
            ExpectedOutput { role, part, path, size_bytes: 3, sha256: Sha256Digest([0; 32]) }
        });
        for path in &paths {
            fs::write_durably(path, b"old").expect("written");
        }
        let former = BTreeSet::from([paths[0].clone()]);
        let error = publish(&export, &spec, &outputs, &BTreeSet::new(), &former).expect_err("in the way");
        assert_eq!((error.source.kind(), &error.path), (std::io::ErrorKind::AlreadyExists, &paths[1]));
        assert_eq!(paths.map(|path| std::fs::read(path).expect("read")), [b"old", b"old"]);
    }
}
