//! What a plan leaves to be read: the document of `plan --format json`, from which the text is made too.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use std::path::PathBuf;

use serde::Serialize;

use super::export::ExportId;
use super::report::{GapReport, Outcome};
use super::status::rfc3339_or_null;
use super::time::{UtcMillis, rfc3339};

/// The name and version of the document.
pub const PLAN_SCHEMA: &str = "kvs-export/plan/1";

/// Dollars for a gigabyte of consumed media (KVS.md, "Money": us-east-1, January 2026).
const USD_PER_GB: f64 = 0.0085;

/// What a run would do about an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanAction {
    /// Begin it.
    New,
    /// Go on with it.
    Resume,
    /// Make it again: an earlier run finished it.
    Redo,
    /// Nothing: an earlier run finished it.
    Done,
    /// Nothing: its text left the job file before it was finished.
    Superseded,
    /// Nothing yet: its window is not over.
    Pending,
}

/// Chunks of an export, those that were split left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PlannedChunks {
    /// All of them.
    pub total: u64,
    /// On disk, or merged.
    pub fetched: u64,
}

/// What is left to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Outstanding {
    /// Clips to ask for.
    pub chunks: u64,
    /// Fragments in them.
    pub fragments: u64,
    /// Their bytes, as listed.
    pub bytes: u64,
}

impl Outstanding {
    /// What the service charges for it, in dollars.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn cost_usd(&self) -> f64 {
        // To a hundredth of a cent: more digits would pretend to know more.
        (self.bytes as f64 / 1e9 * USD_PER_GB * 10_000.0).round() / 10_000.0
    }
}

/// Requests that a run would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PlannedCalls {
    /// Pages of the account's streams, where prefixes are used.
    pub list_streams: u64,
    /// One for each stream.
    pub describe_stream: u64,
    /// One for each stream and API.
    pub get_data_endpoint: u64,
    /// Pages of listings.
    pub list_fragments: u64,
    /// Clips.
    pub get_clip: u64,
    /// One for each output.
    pub list_tags_for_stream: u64,
}

/// One export of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedExport {
    /// Its identity; `None` where its stream could not be described.
    pub id: Option<ExportId>,
    /// Its job's name.
    pub job: String,
    /// Its stream, as the job file names it.
    pub stream: String,
    /// Where its range begins.
    #[serde(serialize_with = "rfc3339")]
    pub from: UtcMillis,
    /// Where its range ends.
    #[serde(serialize_with = "rfc3339")]
    pub to: UtcMillis,
    /// What a run would do.
    pub action: PlanAction,
    /// The video to be.
    pub output: PathBuf,
    /// Its chunks.
    pub chunks: PlannedChunks,
    /// How its range is cut: `auto`, or the length of fixed windows such as `3m`.
    pub chunk: String,
    /// Fragments in its range; `None` where nothing is listed, with fixed windows.
    pub fragments: Option<u64>,
    /// Their bytes, as listed; with fixed windows `None` until it is done.
    pub bytes: Option<u64>,
    /// Milliseconds of media in them; with fixed windows `None` until it is done.
    pub media_ms: Option<u64>,
    /// Time without fragments.
    pub gaps: Vec<GapReport>,
    /// When retention takes the start of its range.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub expires_at: Option<UtcMillis>,
    /// Whether retention overtakes it before or during its turn.
    pub expires_before_turn: bool,
    /// What is left to fetch.
    pub outstanding: Outstanding,
    /// The requests for it, apart from those for its stream.
    pub calls: PlannedCalls,
    /// What the outstanding bytes cost, in dollars; `None` where they are not known.
    pub cost_usd: Option<f64>,
    /// How long it takes at the quotas, in milliseconds; `None` where that is not known.
    pub time_ms: Option<u64>,
    /// What its reader should know.
    pub warnings: Vec<String>,
    /// Why a run could not finish it.
    pub error: Option<String>,
}

/// Sums over a plan's exports.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PlanTotals {
    /// All exports.
    pub exports: u64,
    /// To begin.
    pub new: u64,
    /// To go on with.
    pub resume: u64,
    /// To make again.
    pub redo: u64,
    /// Done before.
    pub done: u64,
    /// Superseded.
    pub superseded: u64,
    /// Pending.
    pub pending: u64,
    /// Of those to begin or to go on with, how many have an error.
    pub failed: u64,
    /// Fragments of those to begin or to go on with.
    pub fragments: u64,
    /// Their bytes, as listed.
    pub bytes: u64,
    /// Their milliseconds of media.
    pub media_ms: u64,
    /// What is left to fetch.
    pub outstanding: Outstanding,
    /// Of its chunks, how many are fixed windows: nothing of what is in them is in any other number here.
    pub fixed_windows: u64,
    /// All requests.
    pub calls: PlannedCalls,
    /// What the outstanding bytes cost, in dollars.
    pub cost_usd: f64,
    /// How long it all takes at the quotas, in milliseconds.
    pub time_ms: u64,
}

/// What became of the plan's own listing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PlanListing {
    /// Pages that were listed for this plan.
    pub list_fragments: u64,
    /// Windows that a run need not list again.
    pub windows_kept: u64,
    /// Why a listing is not kept.
    pub not_kept: Option<String>,
}

/// Takes a plan's exports one by one: a plan of any length needs no memory for them.
pub trait PlanSink: Send + Sync {
    /// Whether each export is to be told as soon as it is listed. When it has its turn among the others is not known
    /// then: [`PlanSink::late`] tells it at the end.
    fn is_early(&self) -> bool;

    /// Takes the next export: those of the job file in its order, then the ranges of prefixes that could not be listed,
    /// then the superseded ones.
    fn export(&self, export: &PlannedExport);

    /// Takes an export again that retention overtakes before or during its turn; only where they are told early.
    fn late(&self, export: &PlannedExport);
}

/// A plan, apart from its exports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// How planning ended.
    pub outcome: Outcome,
    /// Why it ended early, with its causes.
    pub error: Option<String>,
    /// The sums of its exports.
    pub totals: PlanTotals,
    /// What became of the listing.
    pub listing: PlanListing,
}

impl PlanReport {
    /// A plan that could not be made.
    pub fn refused(outcome: Outcome, error: String) -> Self {
        Self { outcome, error: Some(error), totals: PlanTotals::default(), listing: PlanListing::default() }
    }
}

impl PlanTotals {
    /// Adds an export.
    pub fn add(&mut self, export: &PlannedExport) {
        self.exports += 1;
        *match export.action {
            PlanAction::New => &mut self.new,
            PlanAction::Resume => &mut self.resume,
            PlanAction::Redo => &mut self.redo,
            PlanAction::Done => &mut self.done,
            PlanAction::Superseded => &mut self.superseded,
            PlanAction::Pending => &mut self.pending,
        } += 1;
        if !matches!(export.action, PlanAction::New | PlanAction::Resume | PlanAction::Redo) {
            return;
        }
        self.failed += u64::from(export.error.is_some());
        self.fragments += export.fragments.unwrap_or(0);
        self.bytes += export.bytes.unwrap_or(0);
        self.media_ms += export.media_ms.unwrap_or(0);
        if export.fragments.is_none() {
            self.fixed_windows += export.outstanding.chunks;
        }
        self.outstanding.chunks += export.outstanding.chunks;
        self.outstanding.fragments += export.outstanding.fragments;
        self.outstanding.bytes += export.outstanding.bytes;
        self.calls.list_fragments += export.calls.list_fragments;
        self.calls.get_clip += export.calls.get_clip;
        self.calls.list_tags_for_stream += export.calls.list_tags_for_stream;
    }
}
