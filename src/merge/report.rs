//! What a merge made, for the manifest.

use std::path::PathBuf;

use serde::Serialize;

use super::change::TrackChange;
use super::offset::{AvOffset, AvOffsets};
use super::timeline::{Join, PartReason};
use crate::media::{Codec, TrackKind};
use crate::model::{FragmentNumber, Sha256Digest, UtcMillis};

/// Joins told one by one; beyond these only their number is.
pub const MAX_JOINS_TOLD: usize = 10_000;

/// What a merge made.
#[derive(Debug, Clone, Serialize)]
pub struct MergeReport {
    /// The files, in order.
    pub parts: Vec<MergedPart>,
    /// The version of ffmpeg that wrote them.
    pub ffmpeg_version: String,
    /// Its arguments for the first part; the output is named without its folder.
    pub ffmpeg_args: Vec<String>,
    /// Joins that did not keep the distance of starts, the first [`MAX_JOINS_TOLD`] of them.
    pub joins: Vec<JoinFacts>,
    /// How many such joins there are.
    pub join_count: u64,
    /// How many fragments were moved so that no track goes back.
    pub moved_count: u64,
    /// The farthest that a fragment was moved, in microseconds.
    pub moved_max_us: i64,
    /// How far sound stands from pictures, measured in the parts; `None` without sound.
    pub av_offset_us: Option<AvOffsets>,
}

/// One file of an output.
#[derive(Debug, Clone, Serialize)]
pub struct MergedPart {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// From the first key frame to the end of the last sample.
    pub duration_ms: u64,
    /// Why it begins where it does.
    pub reason: PartReason,
    /// Which tracks differ from those of the part before, if that is why.
    pub changes: Vec<TrackChange>,
    /// How many fragments it holds; `None` where that is not known, as with fixed windows.
    pub fragments: Option<u64>,
    /// The first of them.
    pub first_fragment: Option<FragmentNumber>,
    /// The last of them.
    pub last_fragment: Option<FragmentNumber>,
    /// When the first begins on the media clock: the file's time 0. With fixed windows the first window's start.
    pub start: UtcMillis,
    /// When the last ends on the media clock; with fixed windows the last window's end.
    pub end: UtcMillis,
    /// Its tracks; one without samples is not in the file.
    pub tracks: Vec<TrackFacts>,
}

/// One track of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackFacts {
    /// Video or sound.
    pub kind: TrackKind,
    /// How it is coded.
    pub codec: Codec,
    /// Picture width; 0 for sound.
    pub width: u16,
    /// Picture height; 0 for sound.
    pub height: u16,
    /// Channels; 0 for pictures.
    pub channels: u16,
    /// Sound samples a second; 0 for pictures.
    pub sample_rate: u32,
    /// How many samples; of G.711 the blocks as they were read.
    pub samples: u64,
    /// SHA-256 of all payloads in decode order.
    pub payload_sha256: Sha256Digest,
    /// SHA-256 of the codec's private data in the clips.
    pub codec_private_sha256: Sha256Digest,
}

/// A join that did not simply keep the distance of starts.
#[derive(Debug, Clone, Serialize)]
pub struct JoinFacts {
    /// The part that holds it, from 1.
    pub part: usize,
    /// The fragment after it; `None` between fixed windows.
    pub fragment: Option<FragmentNumber>,
    /// What happened.
    pub join: Join,
    /// When the fragment's key frame is shown in the part, in milliseconds.
    pub at_ms: i64,
    /// By how much it was moved so that no track goes back, in microseconds.
    pub moved_us: i64,
    /// How far its sound stands from its key frame; `None` without sound.
    pub av_offset_us: Option<AvOffset>,
    /// The fragment's place in the part, from 1.
    #[serde(skip)]
    pub(super) place: u64,
}
