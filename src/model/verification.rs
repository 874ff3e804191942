//! What `verify` tells: which exports still are what their manifests and checksums say.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use std::path::PathBuf;

use serde::Serialize;

use super::hash::Sha256Digest;

/// The name and version of the document.
pub const VERIFY_SCHEMA: &str = "kvs-export/verify/1";

/// How a verification ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyOutcome {
    /// Everything is as its manifest and checksums say.
    Verified,
    /// Something is not.
    Mismatch,
    /// There is nothing to verify where the command line points.
    Usage,
}

/// The answer to `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// [`VERIFY_SCHEMA`].
    pub schema: &'static str,
    /// How it ended.
    pub outcome: VerifyOutcome,
    /// Why there is no answer, with its causes; everything else is empty then.
    pub error: Option<String>,
    /// The exports, in the order of the command line, those of a folder by path.
    pub exports: Vec<VerifiedExport>,
    /// Videos in the folders that no manifest covers.
    pub not_covered: Vec<PathBuf>,
    /// Their sums.
    pub totals: VerifyTotals,
}

/// One export: a manifest, its checksums, its videos, its kept chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VerifiedExport {
    /// The manifest.
    pub manifest: PathBuf,
    /// Whether there is no problem.
    pub verified: bool,
    /// The export's id, as the manifest has it; this and the next are `None` where it cannot be read.
    pub id: Option<String>,
    /// `done`, `partial` or `empty`.
    pub status: Option<String>,
    /// The job's name.
    pub job: Option<String>,
    /// The stream's name.
    pub stream: Option<String>,
    /// The start of the range asked for.
    pub from: Option<String>,
    /// The end of the range asked for.
    pub to: Option<String>,
    /// The videos that the manifest names.
    pub output: Vec<PathBuf>,
    /// The hash of the `.sha256` file: kept elsewhere, it shows a replacement of all the files together.
    pub checksums_sha256: Option<Sha256Digest>,
    /// Samples of all tracks of all videos, as counted in them.
    pub samples: u64,
    /// Length of the videos as found in them, in milliseconds.
    pub media_ms: u64,
    /// Kept chunks that were read.
    pub chunks: u64,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// What is not as it should be.
    pub problems: Vec<VerifyProblem>,
    /// What its reader should know.
    pub notes: Vec<String>,
}

/// What kind of problem it is: a stable word for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A file is not there.
    Missing,
    /// A file cannot be read, or is none.
    Unreadable,
    /// A manifest names a file that does not lie beside it.
    UnsafeName,
    /// A file has another size.
    Size,
    /// A file has another SHA-256.
    Hash,
    /// A video has other tracks.
    Tracks,
    /// A track has more or fewer samples.
    Samples,
    /// A video is longer or shorter.
    MediaTime,
    /// Parts are missing or out of order.
    Parts,
    /// The `.sha256` file is not what the files give.
    Checksums,
    /// The manifest cannot be understood or contradicts itself.
    Manifest,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyProblem {
    /// The file.
    pub file: PathBuf,
    /// What kind of problem.
    pub kind: ProblemKind,
    /// In plain words.
    pub message: String,
    /// What should be there, where that can be said in a few words.
    pub expected: Option<String>,
    /// What is.
    pub found: Option<String>,
}

/// Sums over the exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct VerifyTotals {
    /// All exports.
    pub exports: u64,
    /// Those without a problem.
    pub verified: u64,
    /// Those with one.
    pub mismatched: u64,
    /// Videos.
    pub videos: u64,
    /// Samples.
    pub samples: u64,
    /// Milliseconds of video.
    pub media_ms: u64,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

impl VerifyReport {
    /// Sums up.
    pub fn new(exports: Vec<VerifiedExport>, not_covered: Vec<PathBuf>, elapsed_ms: u64) -> Self {
        let mut totals = VerifyTotals { elapsed_ms, ..VerifyTotals::default() };
        for export in &exports {
            totals.exports += 1;
            *(if export.verified { &mut totals.verified } else { &mut totals.mismatched }) += 1;
            totals.videos += export.output.len() as u64;
            totals.samples += export.samples;
            totals.media_ms += export.media_ms;
            totals.bytes += export.bytes;
        }
        let outcome = if totals.mismatched == 0 { VerifyOutcome::Verified } else { VerifyOutcome::Mismatch };
        Self { schema: VERIFY_SCHEMA, outcome, error: None, exports, not_covered, totals }
    }

    /// An answer that could not be given.
    pub fn refused(error: String) -> Self {
        let nothing = Self::new(Vec::new(), Vec::new(), 0);
        Self { outcome: VerifyOutcome::Usage, error: Some(error), ..nothing }
    }
}
