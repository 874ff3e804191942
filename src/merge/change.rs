//! Says which track of a stream changed, from what to what.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::media::{Codec, SampleDescription, TrackKind};
use crate::model::Sha256Digest;

/// A track that is another one, or there no more, or there for the first time, than in the part before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackChange {
    /// Video or sound.
    pub kind: TrackKind,
    /// What it was; `None`: it begins.
    pub from: Option<TrackForm>,
    /// What it is; `None`: it ends.
    pub to: Option<TrackForm>,
}

/// What a decoder has to know of a track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackForm {
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
    /// SHA-256 of the codec's private data.
    pub codec_private_sha256: Sha256Digest,
}

impl TrackForm {
    fn of(description: &SampleDescription) -> Self {
        Self {
            codec: description.codec,
            width: description.width,
            height: description.height,
            channels: description.channels,
            sample_rate: description.sample_rate,
            codec_private_sha256: Sha256Digest(Sha256::digest(&description.codec_private).into()),
        }
    }
}

impl fmt::Display for TrackForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, width, height, channels, sample_rate, .. } = self;
        match (*width, *sample_rate) {
            (0, 0) => write!(f, "{codec}"),
            (0, _) => write!(f, "{codec} {sample_rate} Hz, {channels} ch"),
            _ => write!(f, "{codec} {width}x{height}"),
        }
    }
}

impl fmt::Display for TrackChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TrackKind::Video => "video",
            TrackKind::Audio => "sound",
            TrackKind::Other => "another track",
        };
        match (&self.from, &self.to) {
            (None, Some(to)) => write!(f, "{kind} begins ({to})"),
            (Some(from), None) => write!(f, "{kind} ends ({from})"),
            (Some(from), Some(to)) if from.to_string() != to.to_string() => {
                write!(f, "{kind} changes from {from} to {to}")
            }
            (_, Some(to)) => write!(f, "{kind} ({to}) has other codec private data"),
            (None, None) => write!(f, "{kind} is the same"),
        }
    }
}

/// The tracks that differ, video first.
pub(super) fn changes(before: &[&SampleDescription], after: &[&SampleDescription]) -> Vec<TrackChange> {
    let change = |kind| {
        let of_kind = |tracks: &[&SampleDescription]| tracks.iter().position(|track| track.kind == kind);
        let (from, to) = (of_kind(before).map(|at| before[at]), of_kind(after).map(|at| after[at]));
        let form = |track: Option<&SampleDescription>| track.map(TrackForm::of);
        (from != to).then(|| TrackChange { kind, from: form(from), to: form(to) })
    };
    [TrackKind::Video, TrackKind::Audio].into_iter().filter_map(change).collect()
}

/// The changes in a row, for a message.
pub(super) fn told(changes: &[TrackChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change_is_told_in_words() {
        let video = SampleDescription {
            kind: TrackKind::Video,
            codec: Codec::H264,
            codec_private: vec![1],
            width: 320,
            height: 180,
            channels: 0,
            sample_rate: 0,
        };
        let sound = SampleDescription {
            kind: TrackKind::Audio,
            codec: Codec::Aac,
            width: 0,
            height: 0,
            channels: 2,
            sample_rate: 48_000,
            ..video.clone()
        };
        let larger = SampleDescription { width: 640, height: 360, ..video.clone() };
        let other = SampleDescription { codec_private: vec![2], ..video.clone() };
        let words =
            |before: &[&SampleDescription], after: &[&SampleDescription]| told(&changes(before, after));
        assert_eq!(words(&[&video], &[&larger]), "video changes from h264 320x180 to h264 640x360");
        assert_eq!(
            words(&[&video, &sound], &[&other, &sound]),
            "video (h264 320x180) has other codec private data"
        );
        assert_eq!(
            words(&[&video], &[&larger, &sound]),
            "video changes from h264 320x180 to h264 640x360; sound begins (aac 48000 Hz, 2 ch)"
        );
        assert_eq!(words(&[&video, &sound], &[&video]), "sound ends (aac 48000 Hz, 2 ch)");
        assert_eq!(words(&[&video, &sound], &[&video, &sound]), "");
    }
}
