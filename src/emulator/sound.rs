//! Sound to build fragments from: AAC from ffmpeg, taken apart into frames, and G.711, whose bytes are its samples.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::encode;
use super::error::EmulatorError;

/// Samples of an AAC frame.
const AAC_FRAME_SAMPLES: u32 = 1_024;

/// G.711 blocks in a second.
const G711_BLOCKS_A_SECOND: u32 = 20;

/// Bytes of an ADTS header without a checksum.
const ADTS_HEADER: usize = 7;

/// How sound is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SoundCodec {
    /// AAC, low complexity.
    Aac,
    /// G.711 A-law.
    ALaw,
    /// G.711 µ-law, which `GetClip` refuses.
    MuLaw,
}

/// Test sound of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TestSound {
    /// How it is coded.
    pub codec: SoundCodec,
    /// Samples a second.
    pub sample_rate: u32,
}

impl TestSound {
    /// Samples in a frame: AAC's own number, or a block of 50 ms.
    pub fn frame_samples(self) -> u32 {
        match self.codec {
            SoundCodec::Aac => AAC_FRAME_SAMPLES,
            SoundCodec::ALaw | SoundCodec::MuLaw => self.sample_rate / G711_BLOCKS_A_SECOND,
        }
    }

    /// When the frame at `index` of a recording begins, in nanoseconds from its first.
    pub fn frame_start_ns(self, index: u64) -> i64 {
        let samples = u128::from(index) * u128::from(self.frame_samples());
        i64::try_from(samples * 1_000_000_000 / u128::from(self.sample_rate.max(1))).unwrap_or(i64::MAX)
    }

    /// The encoded sound; encoded once in a process.
    pub(super) fn encoded(self) -> Result<Arc<Sound>, EmulatorError> {
        static CACHE: OnceLock<Mutex<HashMap<TestSound, Arc<Sound>>>> = OnceLock::new();
        // Held while encoding: whoever comes second waits instead of encoding the same again.
        let mut cache = CACHE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sound) = cache.get(&self) {
            return Ok(Arc::clone(sound));
        }
        let sound = Arc::new(Sound::make(self)?);
        cache.insert(self, Arc::clone(&sound));
        Ok(sound)
    }
}

/// Encoded sound.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) kind: TestSound,
    /// The `AudioSpecificConfig` of AAC.
    pub(super) config: Vec<u8>,
    /// Frames of AAC, before they repeat.
    frames: Vec<Vec<u8>>,
}

impl Sound {
    fn make(kind: TestSound) -> Result<Self, EmulatorError> {
        if kind.codec != SoundCodec::Aac {
            return Ok(Self { kind, config: Vec::new(), frames: Vec::new() });
        }
        let what = "test sound";
        let source = format!("sine=frequency=440:beep_factor=4:sample_rate={}", kind.sample_rate);
        let input = ["-f", "lavfi", "-t", "4", "-i", &source].map(OsString::from);
        let stream = encode::aac(what, &input)?;
        let (mut config, mut frames, mut rest) = (Vec::new(), Vec::new(), stream.as_slice());
        while let [0xFF, _, profile, channels, high, low, ..] = *rest {
            let length = usize::from(channels & 3) << 11 | usize::from(high) << 3 | usize::from(low >> 5);
            let Some((frame, after)) =
                rest.split_at_checked(length).filter(|(frame, _)| frame.len() > ADTS_HEADER)
            else {
                break;
            };
            let (object_type, rate) = ((profile >> 6) + 1, profile >> 2 & 0xF);
            let channel = (profile & 1) << 2 | channels >> 6;
            config = vec![object_type << 3 | rate >> 1, (rate & 1) << 7 | channel << 3];
            frames.push(frame[ADTS_HEADER..].to_vec());
            rest = after;
        }
        if frames.is_empty() {
            return Err(EmulatorError::NoMedia { what: what.to_owned() });
        }
        Ok(Self { kind, config, frames })
    }

    /// The frame at `index` of a recording, marked.
    ///
    /// AAC: the mark is a data stream element (ISO/IEC 14496-3) in front of the frame's own elements, which decoders
    /// pass over. G.711: the mark is what is heard, and silence follows it; one that is longer is cut.
    pub(super) fn frame(&self, index: u64, mark: &[u8]) -> Vec<u8> {
        if self.kind.codec != SoundCodec::Aac {
            let mut block = mark.to_vec();
            block.resize(self.kind.frame_samples() as usize, 0xD5);
            return block;
        }
        let own = &self.frames[usize::try_from(index % self.frames.len() as u64).unwrap_or(0)];
        let mut frame = Vec::with_capacity(own.len() + mark.len() + 3);
        // Identifier 4 in three bits, tag 0 in four, and a bit for "already aligned": exactly a byte.
        frame.push(4 << 5);
        frame.push(u8::try_from(mark.len()).unwrap_or(u8::MAX));
        if let Some(more) = mark.len().checked_sub(usize::from(u8::MAX)) {
            frame.push(u8::try_from(more).unwrap_or(u8::MAX));
        }
        frame.extend_from_slice(mark);
        frame.extend_from_slice(own);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_begins_where_its_samples_say() {
        let sound = TestSound { codec: SoundCodec::Aac, sample_rate: 48_000 };
        assert_eq!(sound.frame_start_ns(3), 64_000_000);
        assert_eq!(sound.frame_start_ns(1), 21_333_333);
        let sound = TestSound { codec: SoundCodec::ALaw, sample_rate: 8_000 };
        assert_eq!((sound.frame_samples(), sound.frame_start_ns(2)), (400, 100_000_000));
    }

    #[test]
    fn a_marked_frame_holds_the_mark_and_the_sound() {
        let sound = TestSound { codec: SoundCodec::Aac, sample_rate: 16_000 };
        let sound = sound.encoded().expect("ffmpeg is installed");
        assert_eq!(sound.config, [0x14, 0x08], "low complexity, 16 kHz, one channel");
        let own = sound.frames[1].clone();
        assert_eq!(sound.frame(1, b"mark"), [&[0x80, 4][..], b"mark", &own].concat());
        let long = [b'x'; 300];
        assert_eq!(sound.frame(1, &long)[..4], [0x80, 255, 45, b'x']);
    }
}
