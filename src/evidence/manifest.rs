//! `NAME.manifest.json`: what was asked for, what was delivered, what is missing and why.
//!
//! The schema is documented in `design/manifest.md`; its keys only grow.

use std::cell::RefCell;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::fs::{self, FsError, failed_to};
use crate::model::{FragmentNumber, Sha256Digest};

/// The name and version of the document.
pub const MANIFEST_SCHEMA: &str = "kvs-export/manifest/1";

/// Everything of a manifest but its chunks, which are written one by one. Times are RFC 3339 UTC with milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: &'static str,
    /// `done`, `partial` or `empty`.
    pub status: String,
    /// When the manifest was made.
    pub created_at: String,
    /// What made it.
    pub tool: ToolEntry,
    /// The export's id.
    pub export_id: String,
    /// The job's name.
    pub job: String,
    /// The job file, as it was read by the run that finished the export.
    pub job_file: Option<JobFileEntry>,
    /// Case reference from the job file.
    pub case: Option<String>,
    /// Operator from the job file.
    pub operator: Option<String>,
    /// Note from the job file.
    pub note: Option<String>,
    /// Where the media comes from.
    pub stream: StreamEntry,
    /// What was asked for.
    pub requested: RequestedEntry,
    /// First start and last end delivered, on the selecting clock; `None` without a video.
    pub delivered_from: Option<String>,
    /// See `delivered_from`.
    pub delivered_to: Option<String>,
    /// Fragments in the output; this and the next two are `None` where nothing was listed, with fixed windows.
    pub fragments: Option<u64>,
    /// The size of those fragments as listed, in bytes.
    pub listed_bytes: Option<u64>,
    /// The length of those fragments as listed, in milliseconds.
    pub media_ms: Option<u64>,
    /// When the first and the last window were listed.
    pub listed_at: Option<(String, String)>,
    /// The clocks.
    pub clock: ClockEntry,
    /// Time without fragments.
    pub gaps: Vec<GapEntry>,
    /// Fragments that were listed in the range and left out by a rule.
    pub dropped: Vec<DroppedEntry>,
    /// Fragments that were planned and could not be had.
    pub missing: Vec<MissingEntry>,
    /// The videos, beside the manifest.
    pub outputs: Vec<OutputEntry>,
    /// How they were made; `None` without a video.
    pub merge: Option<MergeEntry>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolEntry {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The machine it ran on.
    pub host: String,
}

/// The job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFileEntry {
    /// Its path.
    pub path: String,
    /// Its hash.
    pub sha256: Sha256Digest,
}

/// The stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamEntry {
    /// Its ARN, which ends in its creation time.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its account.
    pub account: String,
    /// When it was created.
    pub created_at: Option<String>,
    /// How long it keeps fragments.
    pub retention_hours: u32,
    /// The key that encrypts it.
    pub kms_key: Option<String>,
    /// What the producer says of its media.
    pub media_type: Option<String>,
    /// Its tags, or `None` where reading them is not permitted.
    pub tags: Option<std::collections::BTreeMap<String, String>>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedEntry {
    /// The range's start, inside.
    pub from: String,
    /// The range's end, outside.
    pub to: String,
    /// The range as the job file writes it.
    pub text: String,
    /// The zone of its local times.
    pub time_zone: Option<String>,
    /// The clock that selects.
    pub timestamps: String,
    /// Whether the fragment that reaches into the range is taken.
    pub edges: String,
    /// How the range was cut: `auto`, or the length of fixed windows such as `3m`.
    pub chunk: String,
    /// Whether gaps are closed in the output.
    pub timeline: String,
}

/// The clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockEntry {
    /// The clock of gaps and of the timeline: `producer`, or `server` where the producer's is implausible.
    pub media_clock: String,
    /// How the timeline was reckoned where the producer's clock is implausible.
    pub reckoning: Option<ReckoningEntry>,
    /// Time between fragments that is no gap yet, in milliseconds.
    pub gap_tolerance_ms: i64,
    /// Producer minus server, in milliseconds: least, median, greatest.
    pub skew_ms: Option<(i64, i64, i64)>,
}

/// How a timeline was reckoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReckoningEntry {
    /// `producer-distances-within-sessions-least-delayed-at-its-server-timestamp`.
    pub rule: &'static str,
    /// How many sessions of the producer there are.
    pub sessions: usize,
}

/// Time without fragments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GapEntry {
    /// Where the media before it ends.
    pub from: String,
    /// Where the media after it begins.
    pub to: String,
    /// Its length in milliseconds.
    pub ms: i64,
    /// `not-listed`: the archive lists no fragment there; `empty-window`: no media begins in these fixed windows. A failure
    /// to fetch is never a gap.
    pub cause: &'static str,
}

/// A fragment left out by a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedEntry {
    /// Its number.
    pub number: FragmentNumber,
    /// Its producer timestamp.
    pub producer: String,
    /// Its server timestamp.
    pub server: String,
    /// The rule.
    pub rule: String,
}

/// A fragment, or a fixed window, that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingEntry {
    /// Its number; this and the next two are `None` where nothing was listed, with fixed windows.
    pub number: Option<FragmentNumber>,
    /// Its producer timestamp.
    pub producer: Option<String>,
    /// Its server timestamp.
    pub server: Option<String>,
    /// Where the window begins that stands for what is not known, inside; `None` of a fragment.
    pub window_from: Option<String>,
    /// Where it ends, outside.
    pub window_to: Option<String>,
    /// `rejected` or `expired`.
    pub state: String,
    /// The service's code.
    pub code: String,
    /// The service's words.
    pub detail: String,
}

/// A video of the export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputEntry {
    /// Its name, relative to the manifest's folder.
    pub file: String,
    /// Which part it is, from 1.
    pub part: usize,
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: Sha256Digest,
    /// Why it begins where it does: `start`, or what made a new part necessary.
    pub reason: serde_json::Value,
    /// Which tracks changed, if that is why: each with what it was and what it is.
    pub changes: serde_json::Value,
    /// When its first fragment begins on the media clock: the file's time 0.
    pub start: String,
    /// When its last fragment ends on the media clock.
    pub end: String,
    /// Its length in the file, in milliseconds.
    pub duration_ms: u64,
    /// How many fragments it holds; this and the next two are `None` where nothing was listed.
    pub fragments: Option<u64>,
    /// The first of them.
    pub first_fragment: Option<FragmentNumber>,
    /// The last of them.
    pub last_fragment: Option<FragmentNumber>,
    /// Its tracks with the hashes of their samples, which every exact copy into another container shares.
    pub tracks: serde_json::Value,
}

/// How the videos were made out of the chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergeEntry {
    /// The version of ffmpeg.
    pub ffmpeg_version: String,
    /// Its arguments.
    pub ffmpeg_args: Vec<String>,
    /// Joins that did not keep the distance of starts, or the first of them.
    pub joins: serde_json::Value,
    /// How many there are.
    pub join_count: u64,
    /// How many fragments were moved so that no track goes back.
    pub moved_count: u64,
    /// The farthest that one was moved, in microseconds.
    pub moved_max_us: i64,
    /// How far sound stands from pictures, measured in the videos; `None` without sound.
    pub av_offset_us: serde_json::Value,
}

/// A chunk, the bytes as the service gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// Its row in the state file.
    pub id: i64,
    /// `fetched`, `rejected`, `expired`, or `empty`: a fixed window without media.
    pub state: String,
    /// Number of its first fragment; this and the next two are `None` of a fixed window.
    pub first_fragment: Option<FragmentNumber>,
    /// Number of its last fragment.
    pub last_fragment: Option<FragmentNumber>,
    /// How many fragments it has.
    pub fragments: Option<u32>,
    /// The request's first instant, inclusive.
    pub request_start: String,
    /// The request's last instant, inclusive.
    pub request_end: String,
    /// The file's size.
    pub size_bytes: Option<u64>,
    /// The file's hash.
    pub sha256: Option<Sha256Digest>,
    /// The last answer's request id.
    pub request_id: Option<String>,
    /// Requests that counted as attempts, over all runs.
    pub attempts: u32,
    /// The master's name in the folder of kept chunks.
    pub kept_as: Option<String>,
}

/// Serialises an iterator once, item by item, so that a million chunks need no memory.
struct Rows<I>(RefCell<Option<I>>);

impl<E: std::fmt::Display, I: Iterator<Item = Result<ChunkEntry, E>>> Serialize for Rows<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(None)?;
        for row in self.0.take().into_iter().flatten() {
            sequence.serialize_element(&row.map_err(S::Error::custom)?)?;
        }
        sequence.end()
    }
}

#[derive(Serialize)]
struct Document<'a, R: Serialize> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    chunks: R,
}

/// Writes a manifest and syncs it; the caller gives it its final name.
pub fn write_manifest<E: std::fmt::Display>(
    path: &Path,
    manifest: &Manifest,
    chunks: impl Iterator<Item = Result<ChunkEntry, E>>,
) -> Result<(), FsError> {
    let file = fs::create(path)?;
    let document = Document { manifest, chunks: Rows(RefCell::new(Some(chunks))) };
    let mut writer = BufWriter::new(&file);
    serde_json::to_writer_pretty(&mut writer, &document)
        .map_err(std::io::Error::from)
        .and_then(|()| writer.write_all(b"\n"))
        .and_then(|()| writer.flush())
        .map_err(failed_to("write", path))?;
    fs::sync_file(&file, path)
}

/// The warnings of a manifest that stands.
pub fn manifest_warnings(path: &Path) -> Result<Vec<String>, FsError> {
    #[derive(Deserialize)]
    struct Warnings {
        warnings: Vec<String>,
    }
    let file = std::fs::File::open(path).map_err(failed_to("open", path))?;
    let read: Result<Warnings, _> = serde_json::from_reader(std::io::BufReader::new(file));
    Ok(read.map_err(|error| failed_to("read", path)(error.into()))?.warnings)
}

/// What a finished export is told by, read back from its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestSummary {
    /// The export's id.
    pub export_id: String,
    /// `done`, `partial` or `empty`.
    pub status: String,
    /// Where the media comes from.
    pub stream: StreamSummary,
    /// Fragments in the output.
    pub fragments: Option<u64>,
    /// The size of those fragments as listed, in bytes.
    pub listed_bytes: Option<u64>,
    /// The length of those fragments as listed, in milliseconds.
    pub media_ms: Option<u64>,
    /// Time without fragments.
    pub gaps: Vec<GapSummary>,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// The chunks.
    pub chunks: Vec<ChunkSummary>,
}

/// The stream of a [`ManifestSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StreamSummary {
    /// Its ARN.
    pub arn: String,
}

/// A gap of a [`ManifestSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GapSummary {
    /// Where the media before it ends.
    pub from: jiff::Timestamp,
    /// Where the media after it begins.
    pub to: jiff::Timestamp,
    /// Its length in milliseconds.
    pub ms: i64,
}

/// A chunk of a [`ManifestSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChunkSummary {
    /// `fetched`, `rejected`, `expired` or `empty`.
    pub state: String,
}

/// The summary of a manifest that stands. Holds one word a chunk: for an export of hours, not of years.
pub fn manifest_summary(path: &Path) -> Result<ManifestSummary, FsError> {
    let file = fs::open_plain(path).map_err(failed_to("open", path))?;
    let read = serde_json::from_reader(std::io::BufReader::new(file));
    read.map_err(|error| failed_to("read", path)(std::io::Error::from(error)))
}
