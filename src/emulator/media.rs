//! The coded data of a fragment: pictures, marked with where they belong and padded to the fragment's size.

use std::ops::Range;

use super::script::ScriptedFragment;
use super::video::{Picture, Video};

/// The UUID of the message in front of every frame's slices; spells `kvs-export-frame`.
///
/// The message is an SEI `user_data_unregistered` (NAL unit type 6, payload type 5): these 16 bytes, then in
/// ASCII `stream|fragment number|frame index from 0|frames in the fragment`. Neither holds a zero byte, so
/// the NAL unit needs no emulation prevention and can be found by searching for the UUID.
pub const FRAME_MARK_UUID: [u8; 16] = *b"kvs-export-frame";

const NAL_SUPPLEMENTAL: u8 = 6;
const NAL_FILLER: u8 = 12;
const PAYLOAD_USER_DATA_UNREGISTERED: u8 = 5;
/// Ends the payload of a NAL unit: the stop bit and its alignment.
const TRAILING_BITS: u8 = 0x80;
/// In front of each NAL unit of a sample.
const LENGTH_PREFIX: u64 = 4;
/// Length prefix, header and trailing bits: no filler is smaller.
const SMALLEST_FILLER: u64 = LENGTH_PREFIX + 2;

/// What Matroska adds to the frames of a fragment: its headers and tags once, a block header for each frame.
const MATROSKA_PER_FRAGMENT: u64 = 900;
const MATROSKA_PER_FRAME: u64 = 12;

/// A frame of a fragment, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Frame<'a> {
    picture: &'a Picture,
    mark: Vec<u8>,
    filler: u64,
}

impl Frame<'_> {
    /// Bytes of the sample.
    pub(super) fn size(&self) -> u64 {
        unpadded_size(self.picture, &self.mark) + self.filler
    }

    /// Appends the sample: delimiter, mark, slices, filler, each behind its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (index, unit) in self.picture.units.iter().enumerate() {
            push_unit(out, unit);
            if index == 0 {
                push_unit(out, &self.mark);
            }
        }
        if let Some(fill) = self.filler.checked_sub(SMALLEST_FILLER) {
            out.extend_from_slice(&length_bytes(fill + 2));
            out.push(NAL_FILLER);
            out.resize(out.len() + usize::try_from(fill).unwrap_or(0), 0xFF);
            out.push(TRAILING_BITS);
        }
    }
}

fn push_unit(out: &mut Vec<u8>, unit: &[u8]) {
    out.extend_from_slice(&length_bytes(unit.len() as u64));
    out.extend_from_slice(unit);
}

fn length_bytes(length: u64) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn unpadded_size(picture: &Picture, mark: &[u8]) -> u64 {
    let units: u64 = picture.units.iter().map(|unit| unit.len() as u64 + LENGTH_PREFIX).sum();
    units + mark.len() as u64 + LENGTH_PREFIX
}

/// The NAL unit that says which frame this is.
fn frame_mark(stream: &str, number: &str, index: u32, frames: u32) -> Vec<u8> {
    let text = format!("{stream}|{number}|{index}|{frames}");
    let mut size = FRAME_MARK_UUID.len() + text.len();
    let mut unit = vec![NAL_SUPPLEMENTAL, PAYLOAD_USER_DATA_UNREGISTERED];
    while size >= 255 {
        unit.push(255);
        size -= 255;
    }
    unit.push(u8::try_from(size).unwrap_or(0));
    unit.extend_from_slice(&FRAME_MARK_UUID);
    unit.extend_from_slice(text.as_bytes());
    unit.push(TRAILING_BITS);
    unit
}

/// The pictures that a fragment shows.
fn pictures<'a>(video: &'a Video, fragment: &ScriptedFragment) -> &'a [Picture] {
    let groups = video.groups.len().max(1) as u64;
    let group = usize::try_from(fragment.picture % groups).ok().and_then(|index| video.groups.get(index));
    let range = Range { start: 0, end: usize::try_from(fragment.frames).unwrap_or(usize::MAX) };
    group.and_then(|pictures| pictures.get(range)).unwrap_or_default()
}

/// The frames of a fragment, padded so that they and Matroska's overhead make up its listed size.
///
/// Filler cannot be smaller than six bytes: so many may be missing from the listed size.
pub(super) fn frames<'a>(video: &'a Video, stream: &str, fragment: &ScriptedFragment) -> Vec<Frame<'a>> {
    let marked = (0..).zip(pictures(video, fragment)).map(|(index, picture)| {
        let mark = frame_mark(stream, fragment.number.as_str(), index, fragment.frames);
        Frame { picture, mark, filler: 0 }
    });
    let mut frames: Vec<Frame<'a>> = marked.collect();
    let unpadded: u64 = frames.iter().map(Frame::size).sum();
    let missing = fragment.size_bytes.saturating_sub(unpadded + overhead(fragment.frames));
    let share = missing / u64::from(fragment.frames.max(1));
    if share >= SMALLEST_FILLER {
        for frame in &mut frames {
            frame.filler = share;
        }
    }
    if let Some(first) = frames.first_mut() {
        let rest = missing - if share >= SMALLEST_FILLER { share * u64::from(fragment.frames) } else { 0 };
        let filler = first.filler + rest;
        first.filler = if filler >= SMALLEST_FILLER { filler } else { 0 };
    }
    frames
}

const fn overhead(frames: u32) -> u64 {
    MATROSKA_PER_FRAGMENT + MATROSKA_PER_FRAME * frames as u64
}

/// The smallest listed size that the fragment's unpadded frames fit in, or `None` if its video has too few.
pub(super) fn smallest_size(video: &Video, stream: &str, fragment: &ScriptedFragment) -> Option<u64> {
    let pictures = pictures(video, fragment);
    if u32::try_from(pictures.len()) != Ok(fragment.frames) || pictures.is_empty() {
        return None;
    }
    let mark = frame_mark(stream, fragment.number.as_str(), fragment.frames, fragment.frames);
    let frames: u64 = pictures.iter().map(|picture| unpadded_size(picture, &mark)).sum();
    Some(frames + overhead(fragment.frames))
}

/// A size that group `picture` of a video fits in, whatever the fragment's number.
pub(super) fn natural_size(video: &Video, picture: usize, stream: &str) -> u64 {
    const LONGEST_NUMBER: usize = 128;
    let pictures = video.groups.get(picture).map(Vec::as_slice).unwrap_or_default();
    let frames = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
    let mark = frame_mark(stream, &"9".repeat(LONGEST_NUMBER), frames, frames);
    pictures.iter().map(|picture| unpadded_size(picture, &mark)).sum::<u64>() + overhead(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::script::fragment_number;
    use crate::emulator::video::TestPictures;
    use crate::model::UtcMillis;

    fn fragment(frames: u32, size_bytes: u64) -> ScriptedFragment {
        ScriptedFragment {
            number: fragment_number(7),
            producer: UtcMillis::new(0),
            server: UtcMillis::new(0),
            length_ms: 1_000,
            size_bytes,
            frames,
            frame_rate: 10,
            video: 0,
            picture: 7,
        }
    }

    #[test]
    fn frames_fill_the_listed_size_to_within_the_smallest_filler() {
        let video = TestPictures::looping(10, 10).encoded().expect("ffmpeg is installed");
        let smallest = smallest_size(&video, "gate", &fragment(10, 0)).expect("enough frames");
        for more in (0..80).chain([1_000, 123_457, 4_000_000]) {
            let fragment = fragment(10, smallest + more);
            let mut written = Vec::new();
            let frames = frames(&video, "gate", &fragment);
            for frame in &frames {
                frame.write(&mut written);
            }
            assert_eq!(written.len() as u64, frames.iter().map(Frame::size).sum::<u64>());
            let listed = written.len() as u64 + overhead(10);
            // The mark of the first nine frames is a digit shorter than the one that `smallest` counts with.
            assert!((fragment.size_bytes - 20..=fragment.size_bytes).contains(&listed), "{more}");
            if more >= 80 {
                assert_eq!(listed, fragment.size_bytes);
            }
        }
    }

    #[test]
    fn marks_hold_nothing_that_needs_emulation_prevention() {
        for stream in ["x".to_owned(), "n".repeat(256), "n".repeat(189), "n".repeat(188)] {
            let mark = frame_mark(&stream, &"9".repeat(47), 11, 20);
            assert!(!mark.windows(3).any(|bytes| bytes[0] == 0 && bytes[1] == 0 && bytes[2] <= 3));
            let text = format!("{stream}|{}|11|20", "9".repeat(47));
            assert!(mark.ends_with(&[text.as_bytes(), &[TRAILING_BITS]].concat()));
            let coded: usize = mark[2..].iter().take_while(|byte| **byte == 255).count() * 255;
            let last = usize::from(mark[2..][coded / 255]);
            assert_eq!(coded + last, 16 + text.len());
        }
    }
}
