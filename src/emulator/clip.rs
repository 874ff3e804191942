//! Clips: an MP4 of fragments, its header made at once and its media produced while it is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::model::UtcMillis;

use super::boxes::{MovieHeader, SampleEntry, TrackTables, file_type, media_data_header, movie};
use super::media::{self, Coded};
use super::script::ScriptedFragment;
use super::sound::TestSound;

/// What the times inside a clip do between fragments; the service's documentation does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerTiming {
    /// Key frames stand as far apart as the fragments' producer timestamps: gaps are kept.
    #[default]
    KeepStarts,
    /// Each fragment follows the end of the media before it: gaps are closed.
    CloseGaps,
}

/// Where the movie box stands in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoviePosition {
    /// In front of the media.
    #[default]
    First,
    /// Behind the media.
    Last,
}

/// Ticks per second of the video track: whole for milliseconds and for the usual frame rates.
pub(super) const TIME_SCALE: u32 = 90_000;

/// A fragment with what its media is made of.
pub(super) type Source = (ScriptedFragment, Coded);

/// How a clip is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClipForm {
    pub(super) inner_timing: InnerTiming,
    pub(super) movie: MoviePosition,
    /// `creation_time`: the time of the request.
    pub(super) created: UtcMillis,
}

/// A clip's bytes, in pieces.
pub(super) struct Clip {
    stream: String,
    head: Vec<u8>,
    sources: VecDeque<Source>,
    tail: Vec<u8>,
    size: u64,
}

impl Clip {
    /// Lays the clip out; `sources` are in order, share their parameter sets and are not empty.
    pub(super) fn new(stream: &str, sources: Vec<Source>, form: ClipForm) -> Self {
        let (tracks, media_size) = lay_out(stream, &sources, form.inner_timing);
        let file_type = file_type();
        let media_header = media_data_header(media_size);
        let header = MovieHeader { created: form.created, time_scale: TIME_SCALE };
        let movie_at = |media_at: u64| movie(&header, &tracks, media_size, media_at);
        let in_front = (file_type.len() + media_header.len()) as u64;
        let (head, tail) = match form.movie {
            // Offsets have a fixed width: the box is as long with the wrong ones as with the right ones.
            MoviePosition::First => {
                let length = movie_at(0).len() as u64;
                ([file_type, movie_at(in_front + length), media_header].concat(), Vec::new())
            }
            MoviePosition::Last => ([file_type, media_header].concat(), movie_at(in_front)),
        };
        let size = head.len() as u64 + media_size + tail.len() as u64;
        Self { stream: stream.to_owned(), head, sources: sources.into(), tail, size }
    }

    /// Bytes of the whole clip.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Iterator for Clip {
    type Item = Bytes;

    /// The header, then a fragment at a time, then what stands behind the media.
    fn next(&mut self) -> Option<Bytes> {
        if !self.head.is_empty() {
            return Some(std::mem::take(&mut self.head).into());
        }
        if let Some((fragment, coded)) = self.sources.pop_front() {
            let mut out = Vec::with_capacity(usize::try_from(fragment.size_bytes).unwrap_or(0));
            for frame in media::frames(&coded, &self.stream, &fragment) {
                frame.write(&mut out);
            }
            for frame in media::sound_frames(&coded, &self.stream, &fragment) {
                out.extend_from_slice(&frame);
            }
            return Some(out.into());
        }
        (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).into())
    }
}

/// The tracks of a clip, and how many bytes its media has: for each fragment its pictures, then its sound.
fn lay_out(stream: &str, sources: &[Source], inner_timing: InnerTiming) -> (Vec<TrackTables>, u64) {
    let Some((_, first)) = sources.first() else { return (Vec::new(), 0) };
    let mut pictures = TrackTables::new(SampleEntry::Video(Arc::clone(&first.video)), TIME_SCALE);
    let mut sound = first.sound.as_ref().map(|sound| {
        let tables = TrackTables::new(SampleEntry::Sound(Arc::clone(sound)), sound.kind.sample_rate);
        (tables, SoundClock::new(sound.kind))
    });
    let reordering = sources.iter().any(|(_, coded)| coded.video.is_reordered());
    let (mut at, mut begins) = (0, 0_u64);
    for (index, (fragment, coded)) in sources.iter().enumerate() {
        let next = sources.get(index + 1).map(|(next, _)| next);
        let kept = next.filter(|_| inner_timing == InnerTiming::KeepStarts);
        let distance = match kept {
            Some(next) => Some(next.producer - fragment.producer).map(|ms| ms * i64::from(TIME_SCALE) / 1000),
            None => sound_end(fragment, coded, next),
        };
        let durations = durations(fragment, distance);
        let frames = media::frames(coded, stream, fragment);
        let sizes: Vec<u64> = frames.iter().map(media::Frame::size).collect();
        pictures.push_fragment(&sizes, at);
        for duration in &durations {
            pictures.push_duration(*duration);
        }
        if reordering {
            // All is shown a picture late, so that none is shown before it is decoded; the edit list takes it off.
            let one = TIME_SCALE / fragment.frame_rate.max(1);
            pictures.skipped = pictures.skipped.max(one);
            let skipped = pictures.skipped;
            let rate = u64::from(fragment.frame_rate.max(1));
            let time_of = |index: u32| u64::from(index) * u64::from(TIME_SCALE) / rate;
            pictures.push_offsets((0..).zip(&frames).map(|(decoded, frame)| {
                let late = time_of(frame.shown) + u64::from(skipped) - time_of(decoded);
                u32::try_from(late).unwrap_or(u32::MAX)
            }));
        }
        at += sizes.iter().sum::<u64>();
        if let Some((tables, clock)) = &mut sound {
            let frames = media::sound_frames(coded, stream, fragment);
            let sizes: Vec<u64> = frames.iter().map(|frame| frame.len() as u64).collect();
            clock.push(begins, fragment);
            tables.push_fragment(&sizes, at);
            at += sizes.iter().sum::<u64>();
        }
        begins += durations.iter().map(|ticks| u64::from(*ticks)).sum::<u64>();
    }
    let sound = sound.map(|(mut tables, clock)| {
        clock.write(&mut tables);
        tables
    });
    ([pictures].into_iter().chain(sound).collect(), at)
}

/// When the next fragment can begin whose sound follows the sound of this one, in ticks of the pictures from its start;
/// `None` without sound.
fn sound_end(fragment: &ScriptedFragment, coded: &Coded, next: Option<&ScriptedFragment>) -> Option<i64> {
    let (sound, span, next) = (coded.sound.as_ref()?, fragment.sound?, next?.sound?);
    let end = span.first_ns + sound.kind.frame_start_ns(span.frames.into()) - next.first_ns;
    let end = i64::try_from(i128::from(end) * i128::from(TIME_SCALE) / 1_000_000_000).ok()?;
    let pictures = i64::from(fragment.frames) * i64::from(TIME_SCALE) / i64::from(fragment.frame_rate.max(1));
    Some(end.max(pictures))
}

/// The durations of a fragment's frames in ticks.
///
/// `distance` is how many ticks later the next fragment begins, if that is known. The last frame
/// lasts until then; one that would have to end before it begins (footage that overlaps) keeps its own
/// duration, and one that would last longer than a 32-bit player can count lasts that long (6.6 hours).
fn durations(fragment: &ScriptedFragment, distance: Option<i64>) -> Vec<u32> {
    let rate = u64::from(fragment.frame_rate.max(1));
    let time_of = |index: u64| index * u64::from(TIME_SCALE) / rate;
    let frames = u64::from(fragment.frames);
    let mut durations: Vec<u32> =
        (0..frames).map(|index| narrow(time_of(index + 1) - time_of(index))).collect();
    let last_start = time_of(frames.saturating_sub(1));
    let until_next = distance
        .and_then(|ticks| u64::try_from(ticks).ok())
        .and_then(|ticks| ticks.checked_sub(last_start))
        .filter(|ticks| *ticks > 0);
    if let (Some(last), Some(ticks)) = (durations.last_mut(), until_next) {
        *last = narrow(ticks);
    }
    durations
}

fn narrow(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

/// When the frames of sound begin, in samples from the clip's first picture.
struct SoundClock {
    kind: TestSound,
    starts: Vec<u64>,
}

impl SoundClock {
    fn new(kind: TestSound) -> Self {
        Self { kind, starts: Vec::new() }
    }

    /// Adds a fragment's frames, whose first picture is shown at `begins`, in ticks of the pictures.
    fn push(&mut self, begins: u64, fragment: &ScriptedFragment) {
        let Some(span) = fragment.sound else { return };
        let begins = i128::from(begins) * 1_000_000_000 / i128::from(TIME_SCALE) + i128::from(span.first_ns);
        for frame in 0..u64::from(span.frames) {
            let ns = begins + i128::from(self.kind.frame_start_ns(frame));
            let sample = (ns * i128::from(self.kind.sample_rate) + 500_000_000).div_euclid(1_000_000_000);
            // A track never goes back; footage that overlaps begins where that is possible.
            let least = self.starts.last().map_or(0, |last| last + 1);
            self.starts.push(u64::try_from(sample).unwrap_or(0).max(least));
        }
    }

    /// Gives the samples their times.
    fn write(self, tables: &mut TrackTables) {
        tables.delay = self.starts.first().copied().unwrap_or(0);
        let last = self.starts.last().map(|last| last + u64::from(self.kind.frame_samples()));
        let ends = self.starts.iter().skip(1).copied().chain(last);
        for (start, end) in self.starts.iter().zip(ends) {
            tables.push_duration(narrow(end - start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::Recording;

    fn sum(durations: &[u32]) -> u64 {
        durations.iter().map(|ticks| u64::from(*ticks)).sum()
    }

    #[test]
    fn kept_starts_stretch_or_shorten_only_the_last_frame() {
        let fragment =
            Recording::at(UtcMillis::new(0)).frame_rate(24).fragments(1, 1_796).into_fragments().remove(0);
        let own = durations(&fragment, None);
        assert_eq!((own.len(), sum(&own)), (43, 43 * 90_000 / 24));
        let kept = durations(&fragment, Some(1_856 * 90));
        assert_eq!(sum(&kept), 1_856 * 90);
        assert_eq!(kept[..42], own[..42]);
        assert_eq!(durations(&fragment, Some(100 * 90)), own, "the next one overlaps");
        assert_eq!(durations(&fragment, Some(-5 * 90)), own, "the camera's clock went back");
    }

    #[test]
    fn the_pieces_add_up_to_the_size_announced() {
        let fragments = Recording::at(UtcMillis::new(0)).fragments(3, 1_000).into_fragments();
        let video =
            super::super::video::TestPictures::looping(10, 10).encoded().expect("ffmpeg is installed");
        let coded = Coded { video, sound: None };
        for movie in [MoviePosition::First, MoviePosition::Last] {
            let sources = fragments.iter().map(|fragment| (fragment.clone(), coded.clone())).collect();
            let form = ClipForm { inner_timing: InnerTiming::CloseGaps, movie, created: UtcMillis::new(0) };
            let clip = Clip::new("gate", sources, form);
            let size = clip.size();
            assert_eq!(clip.map(|piece| piece.len() as u64).sum::<u64>(), size);
        }
    }
}
