//! What `status` tells: the last run and every export as the state files record them.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::export::{ExportId, ExportState};
use super::report::ChunkTally;
use super::time::{UtcMillis, rfc3339};

/// The name and version of the document.
pub const STATUS_SCHEMA: &str = "kvs-export/status/1";

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// [`STATUS_SCHEMA`].
    pub schema: &'static str,
    /// Whether the last run, or that of the worst state file, did all it should; not known while it goes on, and
    /// where the state files cannot be read.
    pub ok: Option<bool>,
    /// The same in one line of text.
    pub answer: String,
    /// Why there is no answer, with its causes; the rest is empty then.
    pub error: Option<String>,
    /// The latest run of all the state files.
    pub last_run: Option<LastRun>,
    /// The state files that were asked for, each with its own last run.
    pub state_files: Vec<StateFileStatus>,
    /// Every export in them, in the order of creation.
    pub exports: Vec<ExportRecordReport>,
    /// Their sums, superseded exports left out.
    pub totals: StatusTotals,
}

/// "Did last night work?"
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether all that should be there is; not known while a run goes on.
    pub ok: Option<bool>,
    /// In one line of text.
    #[serde(rename = "answer")]
    pub text: String,
}

/// One state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateFileStatus {
    /// The file.
    pub path: PathBuf,
    /// Whether its last run did all it should.
    #[serde(flatten)]
    pub answer: Answer,
    /// Its last run; `None` when there was none yet.
    pub last_run: Option<LastRun>,
}

/// A run as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRun {
    /// When it began.
    #[serde(serialize_with = "rfc3339")]
    pub started: UtcMillis,
    /// When it ended; `None` while it goes on or when it was killed.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub ended: Option<UtcMillis>,
    /// How it ended, a word of the table of exit codes; `None` while it goes on or when it was killed.
    pub outcome: Option<String>,
    /// Its exit code; `None` while it goes on or when it was killed.
    pub exit_code: Option<u8>,
    /// The job file.
    pub job_file: Option<PathBuf>,
    /// The error that ended it.
    pub error: Option<String>,
    /// Who holds the state file, while a run goes on.
    pub running_holder: Option<RunningHolder>,
}

/// The process of a run that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunningHolder {
    /// Its id.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Since when it holds the state file.
    #[serde(serialize_with = "rfc3339")]
    pub since: UtcMillis,
}

/// An export as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportRecordReport {
    /// Its id.
    pub id: ExportId,
    /// Its job's name.
    pub job: String,
    /// Its stream's name.
    pub stream: String,
    /// The range's start.
    #[serde(serialize_with = "rfc3339")]
    pub from: UtcMillis,
    /// The range's end.
    #[serde(serialize_with = "rfc3339")]
    pub to: UtcMillis,
    /// Where it stands.
    pub status: ExportState,
    /// Whether its text left the job file before it was finished: it is not resumed.
    pub superseded: bool,
    /// The video, or its parts in order; before the merge, the video it will become.
    pub output: Vec<PathBuf>,
    /// The manifest.
    pub manifest: Option<PathBuf>,
    /// Its chunks.
    pub chunks: ChunkTally,
    /// How its range was cut: `auto`, or the length of fixed windows such as `3m`.
    pub chunk: String,
    /// Fragments planned; `None` where nothing is listed, with fixed windows.
    pub fragments: Option<u64>,
    /// Bytes planned, as listed; with fixed windows the size of what was fetched.
    pub bytes: u64,
    /// Milliseconds of media planned; with fixed windows what the videos hold, once they are made.
    pub media_ms: u64,
    /// Bytes of its fetched chunks, which wait on the disk until it is finished.
    pub waiting_bytes: u64,
    /// When it became done, partial or empty.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub finished_at: Option<UtcMillis>,
    /// Why it failed, with its causes.
    pub error: Option<String>,
}

/// Sums over the exports that are not superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StatusTotals {
    /// All of them.
    pub exports: u64,
    /// Being listed.
    pub planning: u64,
    /// Being fetched.
    pub fetching: u64,
    /// Being merged.
    pub merging: u64,
    /// Done.
    pub done: u64,
    /// Without media.
    pub empty: u64,
    /// Without the fragments that the service refused or let expire.
    pub partial: u64,
    /// Failed.
    pub failed: u64,
    /// Superseded, not counted in any other number.
    pub superseded: u64,
    /// Bytes of their chunks on the disk, which `prune` frees.
    pub superseded_bytes: u64,
    /// Their chunks.
    pub chunks: ChunkTally,
    /// Fragments planned.
    pub fragments: u64,
    /// Bytes planned, as listed.
    pub bytes: u64,
    /// Milliseconds of media planned.
    pub media_ms: u64,
}

impl StatusReport {
    /// Puts together what the state files say: finds the latest run, sums up the exports.
    pub fn new(state_files: Vec<StateFileStatus>, exports: Vec<ExportRecordReport>, answer: Answer) -> Self {
        let last_run = state_files
            .iter()
            .filter_map(|file| file.last_run.as_ref())
            .max_by_key(|run| run.started)
            .cloned();
        let totals = StatusTotals::of(&exports);
        let Answer { ok, text: answer } = answer;
        Self { schema: STATUS_SCHEMA, ok, answer, error: None, last_run, state_files, exports, totals }
    }

    /// An answer that could not be given.
    pub fn refused(error: String) -> Self {
        let lines: Vec<&str> = error.lines().map(str::trim).collect();
        let answer = Answer { ok: None, text: format!("UNKNOWN: {}", lines.join("; ")) };
        Self { error: Some(error), ..Self::new(Vec::new(), Vec::new(), answer) }
    }
}

impl StatusTotals {
    /// Sums up the exports.
    pub fn of(exports: &[ExportRecordReport]) -> Self {
        let mut totals = Self::default();
        for export in exports {
            if export.superseded {
                totals.superseded += 1;
                totals.superseded_bytes += export.waiting_bytes;
                continue;
            }
            totals.exports += 1;
            *match export.status {
                ExportState::Planning => &mut totals.planning,
                ExportState::Fetching => &mut totals.fetching,
                ExportState::Merging => &mut totals.merging,
                ExportState::Done => &mut totals.done,
                ExportState::Partial => &mut totals.partial,
                ExportState::Empty => &mut totals.empty,
                ExportState::Failed => &mut totals.failed,
            } += 1;
            let sum = &mut totals.chunks;
            sum.total += export.chunks.total;
            sum.fetched += export.chunks.fetched;
            sum.empty += export.chunks.empty;
            sum.rejected += export.chunks.rejected;
            sum.expired += export.chunks.expired;
            sum.failed += export.chunks.failed;
            totals.fragments += export.fragments.unwrap_or(0);
            totals.bytes += export.bytes;
            totals.media_ms += export.media_ms;
        }
        totals
    }
}

#[expect(clippy::ref_option, reason = "serde wants this signature")]
pub(super) fn rfc3339_or_null<S: Serializer>(
    instant: &Option<UtcMillis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serializer.collect_str(instant),
        None => serializer.serialize_none(),
    }
}
