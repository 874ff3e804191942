//! Checks a fetched clip against the fragments it was asked for, and finds where each of them begins in it.
//!
//! Every fragment begins at a key frame. How the service spaces fragments inside a clip is not documented: their
//! starts may keep their distance, or each may follow the media of the one before. So no spacing is assumed: a
//! distance between key frames is plausible when it lies between the two, and where there are more key frames than
//! fragments the reading is taken that fits more fragments, then the one that fits better.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use super::mp4::{Mp4, Mp4Error, Sample};
use super::track::{SampleDescription, TrackKind};
use crate::model::Fragment;

#[cfg(test)]
mod tests;

const MS: i64 = 1_000_000;
/// How far a distance may be off before it is another distance; at few pictures a second, one and a half of them.
const SLACK: i64 = 200 * MS;
/// How far a picture may begin beyond its fragment's listed length: rounding, and no more.
const LISTING_SLACK: i64 = 25 * MS;
/// Sound that begins so shortly before a key frame was recorded with it: the two count in ticks of their own.
const SOUND_LEAD: i64 = MS;
/// No two pictures of one session are closer to each other.
const LEAST_PICTURE: i64 = 4 * MS;
/// No fragment is longer than 20 s; one more for good measure.
const LONGEST_FRAGMENT: i64 = 21_000 * MS;

/// What a fetched clip turned out to be.
#[derive(Debug)]
pub enum ClipVerdict {
    /// It holds every planned fragment.
    Complete(ClipFacts),
    /// It ends early: the service leaves out the tail of what does not fit, silently.
    Short {
        /// How many leading fragments are whole.
        present: usize,
        /// How many were planned.
        planned: usize,
    },
    /// It cannot be used.
    Unusable(UnusableClip),
}

/// Why a clip cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableClip {
    /// It is not a whole MP4.
    #[error("the clip is not a whole MP4")]
    Unreadable(#[from] Mp4Error),
    /// It has no video, or none that begins with a key frame.
    #[error("the clip has no video that begins with a key frame")]
    NoVideo,
    /// A track is coded in a way that this program does not carry.
    #[error("the clip has a track coded as {0:?}, which cannot be carried")]
    UnknownCodec(String),
    /// It has two video tracks, or two of sound.
    #[error("the clip has more than one video or sound track")]
    TooManyTracks,
    /// A sample without bytes.
    #[error("the clip has a sample without bytes")]
    EmptySample,
    /// No key frame where a fragment was to begin, although the media goes on.
    #[error("no key frame stands where fragment {0} of the clip should begin")]
    Mismatch(usize),
    /// Media beyond the last planned fragment: others were ingested since the listing.
    #[error(
        "the archive holds more fragments in this time than when it was listed; only a new export, with another \
         `output`, lists it again"
    )]
    MoreThanPlanned,
}

impl UnusableClip {
    /// Whether every clip of these fragments, and of others of the stream, is unusable for the same reason.
    ///
    /// `fragments` is how many the clip was to hold.
    pub fn recurs(&self, fragments: usize) -> bool {
        match self {
            Self::UnknownCodec(_) | Self::TooManyTracks | Self::Unreadable(Mp4Error::Unsupported(_)) => true,
            Self::Unreadable(Mp4Error::SeveralDescriptions) => fragments <= 1,
            _ => false,
        }
    }
}

/// Where everything is in a complete clip.
#[derive(Debug, Clone)]
pub struct ClipFacts {
    /// The tracks that are carried: video, then sound.
    pub tracks: Vec<ClipTrack>,
    /// The planned fragments, in order.
    pub fragments: Vec<ClipFragment>,
}

/// A track of a clip.
#[derive(Debug, Clone)]
pub struct ClipTrack {
    /// Its place among the file's tracks.
    pub index: usize,
    /// What its samples are.
    pub description: SampleDescription,
    /// Ticks a second of its clock.
    pub time_scale: u32,
}

/// A fragment's place in a clip.
#[derive(Debug, Clone)]
pub struct ClipFragment {
    /// The place of its key frame among the video samples, in decode order.
    pub first_video_sample: u64,
    /// When its key frame is shown, in nanoseconds of the clip's presentation.
    pub key_pts: i64,
    /// What each track of [`ClipFacts::tracks`] has of it.
    pub tracks: Vec<Option<TrackExtent>>,
}

/// The span of a fragment's samples on one track, in nanoseconds from its key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackExtent {
    /// When the earliest is shown; negative for sound that leads the picture.
    pub first: i64,
    /// When the latest is shown.
    pub last: i64,
    /// When the latest ends; its length is the distance before it where the file's is missing or stretched.
    pub end: i64,
}

/// Opens a fetched clip and checks it against the fragments it was asked for, in the order of the clip.
pub fn check_clip<R: Read + Seek>(reader: R, planned: &[Fragment]) -> ClipVerdict {
    match Mp4::open(reader) {
        Ok(mut mp4) => check_opened(&mut mp4, planned),
        Err(error) => ClipVerdict::Unusable(error.into()),
    }
}

/// Checks an opened clip; reads its tables once or twice, not its payloads.
pub fn check_opened<R: Read + Seek>(mp4: &mut Mp4<R>, planned: &[Fragment]) -> ClipVerdict {
    match check(mp4, planned) {
        Ok(verdict) => verdict,
        Err(reason) => ClipVerdict::Unusable(reason),
    }
}

/// What a clip of unknown fragments holds: its whole media as one piece, and how near it is to the service's limits.
#[derive(Debug, Clone)]
pub struct WholeClip {
    /// Tracks, and one fragment that is all of it.
    pub facts: ClipFacts,
    /// Key frames of the video: at least as many as fragments, since each begins with one.
    pub key_frames: usize,
    /// The most bytes of video that 20 s of it hold, the length that a fragment can have.
    pub heaviest: u64,
}

/// Opens a fetched clip of which it is not known what fragments it should hold.
pub fn check_whole_clip<R: Read + Seek>(reader: R) -> Result<WholeClip, UnusableClip> {
    check_whole_opened(&mut Mp4::open(reader)?)
}

/// Checks an opened clip of which it is not known what fragments it should hold: tracks that can be carried, a key frame
/// first, media behind it.
pub fn check_whole_opened<R: Read + Seek>(mp4: &mut Mp4<R>) -> Result<WholeClip, UnusableClip> {
    let tracks = carried_tracks(mp4)?;
    let video = tracks.first().filter(|track| track.description.kind == TrackKind::Video);
    let video = video.ok_or(UnusableClip::NoVideo)?;
    let (keys, ..) = key_frames(mp4, video.index)?;
    let first = keys.first().filter(|key| key.sample == 0).ok_or(UnusableClip::NoVideo)?;
    let mut fragments = vec![ClipFragment { first_video_sample: 0, key_pts: first.pts, tracks: Vec::new() }];
    let heaviest = heaviest(mp4, video.index)?;
    for track in &tracks {
        measure(mp4, track, &mut fragments, &[])?;
    }
    Ok(WholeClip { facts: ClipFacts { tracks, fragments }, key_frames: keys.len(), heaviest })
}

/// The most bytes of a track that lie within the length of the longest fragment, in decode order.
fn heaviest<R: Read + Seek>(mp4: &mut Mp4<R>, track: usize) -> Result<u64, Mp4Error> {
    let mut cursor = mp4.samples(track);
    let mut within: VecDeque<(i64, u64)> = VecDeque::new();
    let (mut bytes, mut most) = (0_u64, 0);
    while let Some(sample) = mp4.next(&mut cursor)? {
        within.push_back((sample.dts, u64::from(sample.size)));
        bytes += u64::from(sample.size);
        while let Some((_, size)) = within.pop_front_if(|(dts, _)| sample.dts - *dts >= LONGEST_FRAGMENT) {
            bytes -= size;
        }
        most = most.max(bytes);
    }
    Ok(most)
}

fn check<R: Read + Seek>(mp4: &mut Mp4<R>, planned: &[Fragment]) -> Result<ClipVerdict, UnusableClip> {
    let tracks = carried_tracks(mp4)?;
    let video = tracks.first().filter(|track| track.description.kind == TrackKind::Video);
    let video = video.ok_or(UnusableClip::NoVideo)?;
    let (keys, end, picture) = key_frames(mp4, video.index)?;
    keys.first().filter(|key| key.sample == 0).ok_or(UnusableClip::NoVideo)?;
    let expectations = Expectations::new(planned, picture);
    match expectations.place(&keys, end)? {
        Placed::Short(present) => Ok(ClipVerdict::Short { present, planned: planned.len() }),
        Placed::All(starts) => {
            let mut fragments: Vec<ClipFragment> = starts
                .into_iter()
                .map(|key| ClipFragment {
                    first_video_sample: keys[key].sample,
                    key_pts: keys[key].pts,
                    tracks: Vec::new(),
                })
                .collect();
            for track in &tracks {
                measure(mp4, track, &mut fragments, planned)?;
            }
            Ok(ClipVerdict::Complete(ClipFacts { tracks, fragments }))
        }
    }
}

/// The tracks to carry: the video, then the sound. Hints, text and the like are no media.
fn carried_tracks<R: Read + Seek>(mp4: &Mp4<R>) -> Result<Vec<ClipTrack>, UnusableClip> {
    let mut tracks = Vec::new();
    for (index, track) in mp4.tracks().iter().enumerate() {
        let description = &track.description;
        if description.kind == TrackKind::Other {
            continue;
        }
        if description.codec.matroska_id().is_none() {
            return Err(UnusableClip::UnknownCodec(description.codec.to_string()));
        }
        tracks.push(ClipTrack { index, description: description.clone(), time_scale: track.time_scale });
    }
    tracks.sort_by_key(|track| track.description.kind);
    let doubled = tracks.windows(2).any(|pair| pair[0].description.kind == pair[1].description.kind);
    if doubled { Err(UnusableClip::TooManyTracks) } else { Ok(tracks) }
}

/// A key frame of the video.
#[derive(Debug, Clone, Copy)]
struct KeyFrame {
    sample: u64,
    pts: i64,
}

/// Reads the video's tables: its key frames, when its last picture ends, how long a picture lasts.
fn key_frames<R: Read + Seek>(
    mp4: &mut Mp4<R>,
    track: usize,
) -> Result<(Vec<KeyFrame>, i64, i64), UnusableClip> {
    let mut keys = Vec::new();
    let mut extent = Measure::default();
    let mut cursor = mp4.samples(track);
    let (mut index, mut pictures) = (0, 0_i64);
    while let Some(sample) = mp4.next(&mut cursor)? {
        if sample.size == 0 {
            return Err(UnusableClip::EmptySample);
        }
        if sample.is_sync {
            keys.push(KeyFrame { sample: index, pts: sample.pts });
        }
        extent.add(&sample);
        index += 1;
        pictures += 1;
    }
    let TrackExtent { first, last, end } = extent.finish(0, None).ok_or(UnusableClip::NoVideo)?;
    if keys.windows(2).any(|pair| pair[0].pts >= pair[1].pts) {
        return Err(UnusableClip::Mismatch(0));
    }
    Ok((keys, end, ((end - first) / pictures.max(1)).max(end - last)))
}

/// Fills in what one track has of each fragment.
fn measure<R: Read + Seek>(
    mp4: &mut Mp4<R>,
    track: &ClipTrack,
    fragments: &mut [ClipFragment],
    planned: &[Fragment],
) -> Result<(), UnusableClip> {
    let mut cursor = mp4.samples(track.index);
    let mut splitter = FragmentSplitter::new(track.description.kind);
    let (mut current, mut extent) = (0, Measure::default());
    let finish = |fragments: &mut [ClipFragment], at: usize, extent: Measure| {
        let listed = planned.get(at).map_or(0, |fragment| i64::from(fragment.length_ms) * MS);
        let found = extent.finish(fragments[at].key_pts, Some(listed).filter(|listed| *listed > 0));
        fragments[at].tracks.push(found);
    };
    while let Some(sample) = mp4.next(&mut cursor)? {
        if sample.size == 0 {
            return Err(UnusableClip::EmptySample);
        }
        let belongs = splitter.fragment_of(&sample, fragments);
        while current < belongs {
            finish(fragments, current, std::mem::take(&mut extent));
            current += 1;
        }
        extent.add(&sample);
    }
    while current < fragments.len() {
        finish(fragments, current, std::mem::take(&mut extent));
        current += 1;
    }
    Ok(())
}

/// Says which fragment each sample of a track belongs to, in decode order.
///
/// Video belongs to the last fragment whose key frame was decoded; sound to the one that is being shown, and sound
/// before the first key frame to the first.
#[derive(Debug, Clone, Copy)]
pub struct FragmentSplitter {
    is_video: bool,
    sample: u64,
    fragment: usize,
}

impl FragmentSplitter {
    /// Begins at a track's first sample.
    pub fn new(kind: TrackKind) -> Self {
        Self { is_video: kind == TrackKind::Video, sample: 0, fragment: 0 }
    }

    /// The place of the fragment that the next sample belongs to; never goes back.
    pub fn fragment_of(&mut self, sample: &Sample, fragments: &[ClipFragment]) -> usize {
        while let Some(next) = fragments.get(self.fragment + 1) {
            let begun = if self.is_video {
                next.first_video_sample <= self.sample
            } else {
                next.key_pts <= sample.pts.saturating_add(SOUND_LEAD)
            };
            if !begun {
                break;
            }
            self.fragment += 1;
        }
        self.sample += 1;
        self.fragment
    }
}

/// Gathers a [`TrackExtent`].
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    /// First, last, the one before the last, and the last one's length in the file.
    seen: Option<(i64, i64, Option<i64>, i64)>,
}

impl Measure {
    fn add(&mut self, sample: &Sample) {
        let (pts, length) = (sample.pts, sample.duration);
        self.seen = Some(match self.seen {
            None => (pts, pts, None, length),
            Some((first, last, _, _)) if pts > last => (first.min(pts), pts, Some(last), length),
            Some((first, last, before, own)) => {
                let before = before.map_or(pts, |before| before.max(pts));
                (first.min(pts), last, Some(before).filter(|before| *before < last), own)
            }
        });
    }

    fn finish(self, origin: i64, listed: Option<i64>) -> Option<TrackExtent> {
        let (first, last, before, own) = self.seen?;
        // Pictures of two sessions can begin at almost the same time: that is no distance of pictures.
        let usual = before.map(|before| last - before).filter(|usual| *usual >= LEAST_PICTURE);
        let length = match usual {
            Some(usual) if own <= 0 || own > 2 * usual => usual,
            Some(_) => own,
            None => listed.map_or(own, |listed| own.min(listed)).max(0),
        };
        Some(TrackExtent { first: first - origin, last: last - origin, end: last - origin + length })
    }
}

/// Where the planned fragments are in a clip.
enum Placed {
    /// All there: for each the place of its key frame.
    All(Vec<usize>),
    /// Only so many leading ones.
    Short(usize),
}

/// What the listing says about the distance from each planned fragment to the next.
struct Expectations {
    steps: Vec<Step>,
    slack: i64,
}

/// From one fragment's start to the next, in nanoseconds.
struct Step {
    /// If starts keep their distance.
    kept: i64,
    /// If gaps are closed.
    closed: i64,
    /// The listed length, or `None` when it is listed as 0.
    listed: Option<i64>,
}

impl Step {
    fn is_plausible(&self, distance: i64, slack: i64) -> bool {
        let (low, high) = (self.kept.min(self.closed), self.kept.max(self.closed));
        (low - slack..=high + slack + high / 10).contains(&distance)
    }
}

impl Expectations {
    fn new(planned: &[Fragment], picture: i64) -> Self {
        let distance = |i: usize| {
            let next = planned.get(i + 1)?;
            Some((next.producer - planned[i].producer).saturating_mul(MS))
                .filter(|distance| (1..=2 * LONGEST_FRAGMENT).contains(distance))
        };
        let listed = |i: usize| Some(i64::from(planned[i].length_ms) * MS).filter(|length| *length > 0);
        let all = || 0..planned.len();
        let usual = median(all().filter_map(listed).collect())
            .or_else(|| median(all().filter_map(distance).collect()));
        let steps = all()
            .map(|i| {
                let closed = listed(i).or(usual).or(distance(i)).unwrap_or(LONGEST_FRAGMENT);
                Step { kept: distance(i).unwrap_or(closed), closed, listed: listed(i) }
            })
            .collect();
        Self { steps, slack: SLACK.max(picture + picture / 2) }
    }

    /// Finds each fragment's key frame; `end` is when the video ends.
    fn place(&self, keys: &[KeyFrame], end: i64) -> Result<Placed, UnusableClip> {
        let count = self.steps.len();
        if count == 0 {
            return Err(UnusableClip::MoreThanPlanned);
        }
        let distances = keys.windows(2).map(|pair| pair[1].pts - pair[0].pts);
        let direct = keys.len() == count
            && self
                .steps
                .iter()
                .zip(distances)
                .all(|(step, distance)| step.is_plausible(distance, self.slack));
        let starts = if direct {
            (0..count).collect()
        } else {
            let kept = self.follow(keys, |step| step.kept);
            let closed = self.follow(keys, |step| step.closed);
            // More fragments found, then less off.
            let better = |(starts, off): &(Vec<usize>, i64)| (starts.len(), -off);
            if better(&kept) >= better(&closed) { kept.0 } else { closed.0 }
        };
        let found = starts.len();
        let (Some(last), Some(&start)) = (self.steps.get(found - 1), starts.last()) else {
            return Err(UnusableClip::NoVideo);
        };
        let rest = end - keys[start].pts;
        let is_whole = last.listed.is_none_or(|listed| rest >= listed - self.slack);
        // Every picture of a fragment begins within its listed length: the length may leave out the last one's own.
        let longest = last.listed.map_or(LONGEST_FRAGMENT, |listed| listed + LISTING_SLACK);
        let high = last.kept.max(last.closed);
        let goes_on = keys[start + 1..].iter().any(|key| {
            // Past the last one's end, or at it with media of its own.
            let distance = key.pts - keys[start].pts;
            distance > longest || (distance >= high - SLACK && rest > high + self.slack + high / 10)
        });
        match (found == count, goes_on) {
            (true, true) => Err(UnusableClip::MoreThanPlanned),
            (true, false) if is_whole => Ok(Placed::All(starts)),
            (false, true) => Err(UnusableClip::Mismatch(found)),
            (_, false) => Ok(Placed::Short(if is_whole { found } else { found - 1 })),
        }
    }

    /// Goes from key frame to key frame by the steps of one reading; returns those found and how far off in all.
    fn follow(&self, keys: &[KeyFrame], step: impl Fn(&Step) -> i64) -> (Vec<usize>, i64) {
        let mut starts = vec![0];
        let (mut at, mut off) = (0, 0_i64);
        for planned in &self.steps[..self.steps.len() - 1] {
            let expected = step(planned);
            let nearest = (at + 1..keys.len())
                .map(|key| (key, keys[key].pts - keys[at].pts))
                .take_while(|(_, distance)| *distance <= expected + 2 * LONGEST_FRAGMENT)
                .filter(|(_, distance)| planned.is_plausible(*distance, self.slack))
                .min_by_key(|(_, distance)| (distance - expected).abs());
            let Some((key, distance)) = nearest else { break };
            off = off.saturating_add((distance - expected).abs());
            starts.push(key);
            at = key;
        }
        (starts, off)
    }
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
