//! What an export is asked to be: the validated, resolved form of one stream and one range of a job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stream::StreamSelector;
use super::time::TimeRange;

/// The clock that selects and orders fragments (KVS's `FragmentSelectorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampKind {
    /// AWS's clock at ingestion.
    #[default]
    Server,
    /// The camera's clock.
    Producer,
}

impl TimestampKind {
    /// The other clock.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Server => Self::Producer,
            Self::Producer => Self::Server,
        }
    }

    /// The word a job file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Producer => "producer",
        }
    }
}

/// Which fragments at the start of a range belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edges {
    /// Also the fragment that began before the range and reaches into it.
    #[default]
    Cover,
    /// Only those that start inside the range.
    Inside,
}

impl Edges {
    /// The word a job file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cover => "cover",
            Self::Inside => "inside",
        }
    }
}

/// What the output's clock does over a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timeline {
    /// Gaps are closed.
    #[default]
    Compact,
    /// Gaps are kept: file time is wall time.
    Wallclock,
}

impl Timeline {
    /// The word a job file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Wallclock => "wallclock",
        }
    }
}

/// Whether time without fragments makes an export incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapPolicy {
    /// Gaps are listed in the manifest, the export is done.
    #[default]
    Accept,
    /// A gap, or nothing at all, fails the export.
    Fail,
}

/// How much time between two fragments is still no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapTolerance {
    /// The larger of 500 ms and half the usual fragment length.
    #[default]
    Auto,
    /// So many milliseconds.
    Fixed(u32),
}

/// How a range is cut into requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chunking {
    /// By what ListFragments lists.
    #[default]
    Auto,
    /// Into windows of so many milliseconds, without listing anything.
    Fixed(u32),
}

impl Chunking {
    /// Whether fragments are not listed, and so not known.
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }
}

impl std::fmt::Display for Chunking {
    /// As a job file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Fixed(length_ms) = self else { return f.write_str("auto") };
        let mut rest = *length_ms;
        for (unit, ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

/// What a change of codec private data or tracks inside an export does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCodecChange {
    /// A new part begins, `-part1`, `-part2`, ….
    #[default]
    Split,
    /// The export fails.
    Fail,
}

impl OnCodecChange {
    /// The word a job file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Fail => "fail",
        }
    }
}

/// What a range's text hangs on; decides whether a later run resolves it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeAnchor {
    /// Fixed instants: every run resolves the same range.
    Absolute,
    /// `today`, `yesterday`: each day resolves a new range; an unfinished earlier one is finished as well.
    Day,
    /// `now`, `-90m`, `last`: every run would resolve a new range; an unfinished earlier one is finished instead.
    Now,
}

/// A job's range as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RangeText {
    /// The raw text of everything that decides the range, time zone included, in a canonical form.
    pub text: String,
    /// What it hangs on.
    pub anchor: RangeAnchor,
}

/// One stream × one resolved range → one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSpec {
    /// The job's name.
    pub job: String,
    /// The stream, as the job file names it.
    pub stream: StreamSelector,
    /// The range asked for, on the clock `timestamps`.
    pub range: TimeRange,
    /// The range's text in the job file.
    pub range_text: RangeText,
    /// The clock that selects and orders.
    pub timestamps: TimestampKind,
    /// Which fragments at the start belong to the range.
    pub edges: Edges,
    /// How the range is cut into requests. Specifications stored by earlier versions do not say.
    #[serde(default)]
    pub chunk: Chunking,
    /// What the output's clock does over a gap.
    pub timeline: Timeline,
    /// Whether a gap makes the export incomplete.
    pub gaps: GapPolicy,
    /// How much time between two fragments is still no gap.
    pub gap_tolerance: GapTolerance,
    /// Milliseconds to wait after the range's end before listing.
    pub settle_ms: u64,
    /// What a codec change does.
    pub on_codec_change: OnCodecChange,
    /// Whether the fetched masters stay beside the output.
    pub keep_chunks: bool,
    /// The output's absolute path; parts put `-partN` before its extension.
    pub output: PathBuf,
    /// The template that `output` came from, as written.
    pub output_template: String,
    /// The zone of local times, if the job has one.
    pub time_zone: Option<String>,
    /// Case reference for the manifest.
    pub case: Option<String>,
    /// Operator for the manifest.
    pub operator: Option<String>,
    /// Note for the manifest.
    pub note: Option<String>,
    /// What was decided while resolving that the reader of the manifest must know (a skipped local hour, say).
    pub warnings: Vec<String>,
}
