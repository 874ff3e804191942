//! What a track holds: its codec, the codec's private data, and the facts beside them.

use std::fmt;

use serde::Serialize;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Anything else: hints, text, metadata.
    Other,
}

/// How a track's samples are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, parameter sets in an `avcC` box.
    H264,
    /// H.265, parameter sets in an `hvcC` box.
    H265,
    /// AAC, configured by an `AudioSpecificConfig`.
    Aac,
    /// G.711 A-law.
    ALaw,
    /// G.711 µ-law.
    MuLaw,
    /// Anything else, by its four-character code.
    Other([u8; 4]),
}

impl Codec {
    /// Matroska's name of the codec, or `None` where this program has none.
    pub const fn matroska_id(self) -> Option<&'static str> {
        match self {
            Self::H264 => Some("V_MPEG4/ISO/AVC"),
            Self::H265 => Some("V_MPEGH/ISO/HEVC"),
            Self::Aac => Some("A_AAC"),
            Self::ALaw | Self::MuLaw => Some("A_MS/ACM"),
            Self::Other(_) => None,
        }
    }

    /// Whether a sample is one byte a channel, so that files may cut the track into samples anywhere.
    pub const fn is_pcm(self) -> bool {
        matches!(self, Self::ALaw | Self::MuLaw)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::H264 => f.write_str("h264"),
            Self::H265 => f.write_str("h265"),
            Self::Aac => f.write_str("aac"),
            Self::ALaw => f.write_str("pcm_alaw"),
            Self::MuLaw => f.write_str("pcm_mulaw"),
            Self::Other(code) => code.escape_ascii().fmt(f),
        }
    }
}

impl Serialize for Codec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything a decoder must know before a track's first sample; equal descriptions can share one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleDescription {
    /// Pictures, sound, or other.
    pub kind: TrackKind,
    /// How the samples are coded.
    pub codec: Codec,
    /// The body of `avcC` or `hvcC`, the `AudioSpecificConfig`, or a `WAVEFORMATEX`.
    pub codec_private: Vec<u8>,
    /// Picture width in pixels; 0 for sound.
    pub width: u16,
    /// Picture height in pixels; 0 for sound.
    pub height: u16,
    /// Channels; 0 for pictures.
    pub channels: u16,
    /// Sound samples a second; 0 for pictures.
    pub sample_rate: u32,
}
