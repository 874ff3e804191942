//! What `prune` leaves to be read: the document of `prune --format json`, from which the text is made too.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use std::path::PathBuf;

use serde::Serialize;

use super::export::{ExportId, ExportState};
use super::report::Outcome;
use super::status::rfc3339_or_null;
use super::time::{UtcMillis, rfc3339};

/// The name and version of the document.
pub const PRUNE_SCHEMA: &str = "kvs-export/prune/1";

/// What was forgotten, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// [`PRUNE_SCHEMA`].
    pub schema: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended early, with its causes.
    pub error: Option<String>,
    /// Whether this is only what would be done.
    pub dry_run: bool,
    /// Exports that changed last before this were forgotten; `None` when it could not begin.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub before: Option<UtcMillis>,
    /// What was forgotten, in the order of creation.
    pub exports: Vec<PrunedExport>,
    /// Sums.
    pub totals: PruneTotals,
}

/// An export that was forgotten, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedExport {
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
    /// Where it stood.
    pub status: ExportState,
    /// Whether its text left the job file before it was finished.
    pub superseded: bool,
    /// When it changed last.
    #[serde(serialize_with = "rfc3339")]
    pub changed_at: UtcMillis,
    /// Its videos, which stay.
    pub output: Vec<PathBuf>,
    /// Bytes of its chunks on the disk, which do not.
    pub freed_bytes: u64,
}

/// Sums over what was forgotten, and what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PruneTotals {
    /// All that were forgotten.
    pub exports: u64,
    /// Of these, finished ones.
    pub finished: u64,
    /// Of these, superseded ones.
    pub superseded: u64,
    /// Bytes of chunks.
    pub freed_bytes: u64,
    /// Old enough, but asked for by the job file, and so not forgotten.
    pub asked_for: u64,
}

impl PruneReport {
    /// One that tells of nothing yet.
    pub fn new(dry_run: bool, before: UtcMillis) -> Self {
        Self {
            schema: PRUNE_SCHEMA,
            outcome: Outcome::Done,
            error: None,
            dry_run,
            before: Some(before),
            exports: Vec::new(),
            totals: PruneTotals::default(),
        }
    }

    /// One that could not begin.
    pub fn refused(outcome: Outcome, error: String) -> Self {
        Self { outcome, error: Some(error), before: None, ..Self::new(false, UtcMillis::new(0)) }
    }

    /// Adds an export.
    pub fn add(&mut self, export: PrunedExport) {
        self.totals.exports += 1;
        *if export.superseded { &mut self.totals.superseded } else { &mut self.totals.finished } += 1;
        self.totals.freed_bytes += export.freed_bytes;
        self.exports.push(export);
    }
}
