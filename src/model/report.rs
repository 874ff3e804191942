//! What a run leaves to be read: the document of `run --format json`, from which the text summary is made too.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use std::path::PathBuf;

use serde::Serialize;

use super::export::{ExportId, ExportState};
use super::time::{UtcMillis, rfc3339};

/// The name and version of the document.
pub const RUN_SCHEMA: &str = "kvs-export/run/1";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything asked for is done, empty, pending or was done before.
    Done,
    /// Some exports failed or came out partial, or the disk is full; run again to resume.
    Incomplete,
    /// Something unexpected happened.
    Failed,
    /// A signal stopped it; run again to resume.
    Interrupted,
    /// Another run holds the state file.
    Locked,
    /// The job file, the command line or this machine must be mended first.
    Usage,
    /// The credentials stop the run, or every stream is denied.
    Auth,
}

impl Outcome {
    /// The word in the state file and in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Locked => "locked",
            Self::Usage => "usage",
            Self::Auth => "auth",
        }
    }
}

/// How one export stands at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportStatus {
    /// Its output stands, whole.
    Done,
    /// Its range holds no media.
    Empty,
    /// Its output stands without the fragments that the service refused or let expire.
    Partial,
    /// It could not be finished.
    Failed,
    /// Its window is not over, or the run ended before its turn.
    Pending,
}

impl ExportStatus {
    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Empty => "empty",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }
}

impl From<ExportState> for ExportStatus {
    fn from(state: ExportState) -> Self {
        match state {
            ExportState::Done => Self::Done,
            ExportState::Empty => Self::Empty,
            ExportState::Partial => Self::Partial,
            ExportState::Failed => Self::Failed,
            ExportState::Planning | ExportState::Fetching | ExportState::Merging => Self::Pending,
        }
    }
}

/// Counts of an export's chunks, those that were split left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ChunkTally {
    /// All of them.
    pub total: u64,
    /// On disk, or merged.
    pub fetched: u64,
    /// Fixed windows without media.
    pub empty: u64,
    /// Refused by the service.
    pub rejected: u64,
    /// Past retention.
    pub expired: u64,
    /// Given up in this run.
    pub failed: u64,
}

/// Time without fragments, as outputs show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GapReport {
    /// Where the media before it ends.
    #[serde(serialize_with = "rfc3339")]
    pub from: UtcMillis,
    /// Where the media after it begins.
    #[serde(serialize_with = "rfc3339")]
    pub to: UtcMillis,
    /// Its length in milliseconds.
    pub ms: i64,
}

/// One export at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Its id; `None` when its stream could not be described.
    pub id: Option<ExportId>,
    /// Its job's name.
    pub job: String,
    /// Its stream, as the job file names it.
    pub stream: String,
    /// The range's start.
    #[serde(serialize_with = "rfc3339")]
    pub from: UtcMillis,
    /// The range's end.
    #[serde(serialize_with = "rfc3339")]
    pub to: UtcMillis,
    /// How it stands.
    pub status: ExportStatus,
    /// Whether an earlier run had finished it.
    pub already: bool,
    /// Chunks that earlier runs had fetched, when this run resumed it.
    pub resumed_chunks: Option<u64>,
    /// The video, or its parts in order.
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
    /// Time without fragments.
    pub gaps: Vec<GapReport>,
    /// What its reader should know.
    pub warnings: Vec<String>,
    /// Why it failed, with its causes.
    pub error: Option<String>,
}

/// Sums over a run's exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RunTotals {
    /// All exports.
    pub exports: u64,
    /// Done, in this run or before.
    pub done: u64,
    /// Empty.
    pub empty: u64,
    /// Partial.
    pub partial: u64,
    /// Failed.
    pub failed: u64,
    /// Pending.
    pub pending: u64,
    /// Fragments planned.
    pub fragments: u64,
    /// Bytes planned, as listed.
    pub bytes: u64,
    /// Milliseconds of media planned.
    pub media_ms: u64,
    /// Bytes received in this run.
    pub bytes_received: u64,
    /// Milliseconds that the run took.
    pub elapsed_ms: u64,
}

/// A run, told at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// [`RUN_SCHEMA`].
    pub schema: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended early, with its causes.
    pub error: Option<String>,
    /// Its exports, in the order of the job file.
    pub exports: Vec<ExportReport>,
    /// Their sums.
    pub totals: RunTotals,
}

impl RunReport {
    /// A report of a run that ended before it began.
    pub fn refused(outcome: Outcome, error: String) -> Self {
        Self {
            schema: RUN_SCHEMA,
            outcome,
            error: Some(error),
            exports: Vec::new(),
            totals: RunTotals::default(),
        }
    }

    /// Sums up the exports.
    pub fn sum(exports: &[ExportReport]) -> RunTotals {
        let mut totals = RunTotals { exports: exports.len() as u64, ..RunTotals::default() };
        for export in exports {
            *match export.status {
                ExportStatus::Done => &mut totals.done,
                ExportStatus::Empty => &mut totals.empty,
                ExportStatus::Partial => &mut totals.partial,
                ExportStatus::Failed => &mut totals.failed,
                ExportStatus::Pending => &mut totals.pending,
            } += 1;
            totals.fragments += export.fragments.unwrap_or(0);
            totals.bytes += export.bytes;
            totals.media_ms += export.media_ms;
        }
        totals
    }
}
