//! Clips: an MP4 of fragments, its header made at once and its media produced while it is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::UtcMillis;

use super::boxes::{MovieHeader, SampleTables, file_type, media_data_header, movie};
use super::media;
use super::script::ScriptedFragment;
use super::video::Video;

/// What the times inside a clip do between fragments; the service's documentation does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InnerTiming {
    /// Key frames stand as far apart as the fragments' producer timestamps: gaps are kept.
    #[default]
    KeepStarts,
    /// Each fragment follows the end of the media before it: gaps are closed.
    CloseGaps,
}

/// Where the movie box stands in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MoviePosition {
    /// In front of the media.
    #[default]
    First,
    /// Behind the media.
    Last,
}

/// Ticks per second of the video track: whole for milliseconds and for the usual frame rates.
pub(super) const TIME_SCALE: u32 = 90_000;

/// A fragment with the video that its pictures come from.
pub(super) type Source = (ScriptedFragment, Arc<Video>);

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
        let mut tables = SampleTables::default();
        let starts: Vec<UtcMillis> = sources.iter().map(|(fragment, _)| fragment.producer).collect();
        for (index, (fragment, video)) in sources.iter().enumerate() {
            let sizes: Vec<u64> =
                media::frames(video, stream, fragment).iter().map(media::Frame::size).collect();
            let distance = starts.get(index + 1).map(|next| *next - starts[index]);
            let kept = distance.filter(|_| form.inner_timing == InnerTiming::KeepStarts);
            tables.push_fragment(&sizes, &durations(fragment, kept));
        }
        let media_size = tables.media_size();
        let file_type = file_type();
        let media_header = media_data_header(media_size);
        let header = MovieHeader { created: form.created, time_scale: TIME_SCALE };
        let first = sources.first().map(|(_, video)| Arc::clone(video));
        let movie_at = |media_at: u64| match &first {
            Some(video) => movie(&header, video, &tables, media_at),
            None => Vec::new(),
        };
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
        if let Some((fragment, video)) = self.sources.pop_front() {
            let mut out = Vec::with_capacity(usize::try_from(fragment.size_bytes).unwrap_or(0));
            for frame in media::frames(&video, &self.stream, &fragment) {
                frame.write(&mut out);
            }
            return Some(out.into());
        }
        (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).into())
    }
}

/// The durations of a fragment's frames in ticks.
///
/// `distance` is the milliseconds to the next fragment's start, where the clip keeps starts. The last frame
/// lasts until then; one that would have to end before it begins (footage that overlaps) keeps its own
/// duration, and one that would last longer than a 32-bit player can count lasts that long (6.6 hours).
fn durations(fragment: &ScriptedFragment, distance: Option<i64>) -> Vec<u32> {
    let rate = u64::from(fragment.frame_rate.max(1));
    let time_of = |index: u64| index * u64::from(TIME_SCALE) / rate;
    let frames = u64::from(fragment.frames);
    let narrow = |ticks: u64| u32::try_from(ticks).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
    let mut durations: Vec<u32> =
        (0..frames).map(|index| narrow(time_of(index + 1) - time_of(index))).collect();
    let last_start = time_of(frames.saturating_sub(1));
    let until_next = distance
        .and_then(|ms| u64::try_from(ms).ok())
        .and_then(|ms| (ms * u64::from(TIME_SCALE) / 1000).checked_sub(last_start))
        .filter(|ticks| *ticks > 0);
    if let (Some(last), Some(ticks)) = (durations.last_mut(), until_next) {
        *last = narrow(ticks);
    }
    durations
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
        let kept = durations(&fragment, Some(1_856));
        assert_eq!(sum(&kept), 1_856 * 90);
        assert_eq!(kept[..42], own[..42]);
        assert_eq!(durations(&fragment, Some(100)), own, "the next one overlaps");
        assert_eq!(durations(&fragment, Some(-5)), own, "the camera's clock went back");
    }

    #[test]
    fn the_pieces_add_up_to_the_size_announced() {
        let fragments = Recording::at(UtcMillis::new(0)).fragments(3, 1_000).into_fragments();
        let video =
            super::super::video::TestPictures::looping(10, 10).encoded().expect("ffmpeg is installed");
        for movie in [MoviePosition::First, MoviePosition::Last] {
            let sources = fragments.iter().map(|fragment| (fragment.clone(), Arc::clone(&video))).collect();
            let form = ClipForm { inner_timing: InnerTiming::CloseGaps, movie, created: UtcMillis::new(0) };
            let clip = Clip::new("gate", sources, form);
            let size = clip.size();
            assert_eq!(clip.map(|piece| piece.len() as u64).sum::<u64>(), size);
        }
    }
}
