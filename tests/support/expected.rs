//! What an export must hold, worked out from the emulator's script in the plainest way: fragments, parts, gaps.

use std::collections::{BTreeMap, BTreeSet};

use kvs_export::emulator::{Camera, ScriptedFragment, SoundCodec, TestSound, VideoSource};
use kvs_export::model::{Timeline, TimestampKind, UtcMillis};
use serde_json::Value;

use super::scene::Job;
use super::truth::{self, ExpectedFrame, median, milliseconds, pictures_ms, tolerance_ms, usual_length_ms};

/// A camera's clock is believed that is less off.
const MOST_BELIEVED_MS: i64 = 24 * 3_600_000;
/// Overlaps up to this are no sessions that overlap.
const LEAST_OVERLAP_MS: i64 = 500;
/// Fragments whose samples would have to be moved by more overlap too.
const MOST_MOVED_MS: f64 = 100.0;
/// Two samples of a track are at least so far apart.
const LEAST_DISTANCE_MS: f64 = 0.1;
/// The longest pause that one MP4 holds, at 90 000 ticks a second: 2³¹ of them, less 10 %.
const LONGEST_PAUSE_MS: f64 = 2_147_483_648.0 * 0.9 / 90.0;
/// The farthest that G.711 may be from its place before a new part begins.
const LARGEST_G711_JUMP_MS: f64 = 0.8;

/// The fragments of an export in the order of its output, and those that a rule leaves out.
pub(crate) struct Content<'a> {
    camera: &'a Camera,
    /// What belongs in.
    pub(crate) kept: Vec<ScriptedFragment>,
    /// Equal producer timestamps, of which GetClip gives the oldest ingested.
    dropped: BTreeSet<String>,
    /// How much time between two of them is no gap.
    tolerance_ms: i64,
    /// From the first start to the last end, on the clock that selects.
    selected: Option<(UtcMillis, UtcMillis)>,
    /// How far the clock of the media is usually ahead of the one that selects.
    ahead_ms: i64,
}

/// What must be in one part of an output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ExpectedPart {
    /// Its pictures, in decode order.
    pub(crate) pictures: Vec<ExpectedFrame>,
    /// Its sound.
    pub(crate) sound: Vec<ExpectedFrame>,
}

impl<'a> Content<'a> {
    /// The content of an export, refused fragments included.
    pub(crate) fn of(camera: &'a Camera, job: &Job) -> Self {
        let (mut kept, mut dropped) = (truth::fragments(camera, job), BTreeSet::new());
        if job.timestamps == TimestampKind::Producer {
            // In order of time, then of ingestion.
            kept.dedup_by(|later, earlier| {
                let is_equal = later.producer == earlier.producer;
                if is_equal {
                    dropped.insert(later.number.to_string());
                }
                is_equal
            });
        }
        let tolerance_ms = tolerance_ms(&kept);
        let usual_ms = usual_length_ms(&kept);
        let starts = kept.iter().map(|of| of.start(job.timestamps));
        let ends = kept.iter().map(|of| of.start(job.timestamps) + length_or(of, usual_ms));
        let selected = starts.min().zip(ends.max());
        let skew_ms = median(kept.iter().map(|of| of.producer - of.server)).unwrap_or(0);
        let ahead_ms = match (job.timestamps, skew_ms.abs() > MOST_BELIEVED_MS) {
            (TimestampKind::Server, false) => skew_ms,
            (TimestampKind::Producer, true) => -skew_ms,
            _ => 0,
        };
        let kept = match job.timestamps {
            TimestampKind::Server => in_order_of_ingestion(kept, tolerance_ms),
            TimestampKind::Producer => in_order_of_time(kept, tolerance_ms),
        };
        let kept = if skew_ms.abs() > MOST_BELIEVED_MS { by_the_services_clock(kept) } else { kept };
        Self { camera, kept, dropped, tolerance_ms, selected, ahead_ms }
    }

    /// These fragments, and those that always come in one clip with one of them.
    pub(crate) fn inseparable_from(&self, numbers: &BTreeSet<String>, job: &Job) -> BTreeSet<String> {
        let mut all = numbers.clone();
        let mut by_start: Vec<&ScriptedFragment> = self.kept.iter().collect();
        by_start.sort_by_key(|of| of.start(job.timestamps));
        let near = |a: &&ScriptedFragment, b: &&ScriptedFragment| {
            b.start(job.timestamps) - a.start(job.timestamps) < 4
        };
        for together in by_start.chunk_by(near) {
            if together.iter().any(|of| numbers.contains(of.number.as_str())) {
                all.extend(together.iter().map(|of| of.number.to_string()));
            }
        }
        all
    }

    /// The frames of each part without the fragments named in `missing`.
    pub(crate) fn parts(&self, job: &Job, missing: &BTreeSet<String>) -> Vec<ExpectedPart> {
        let mut parts: Vec<ExpectedPart> = Vec::new();
        let mut place: Option<Place<'_>> = None;
        for fragment in self.kept.iter().filter(|of| !missing.contains(&of.number.to_string())) {
            let media = Media::of(self.camera, fragment);
            let followed = place.take().and_then(|place| self.follow(job, &place, fragment, &media));
            if followed.is_none() {
                parts.push(ExpectedPart::default());
            }
            let place_now = followed.unwrap_or_else(|| Place::first(fragment, &media));
            let begins = place_now.begins;
            if let Some(part) = parts.last_mut() {
                let expected = |(index, at): (u32, &f64), frames| ExpectedFrame {
                    fragment: fragment.number.to_string(),
                    index,
                    frames,
                    at_ms: begins + at,
                };
                part.pictures.extend((0..).zip(&media.pictures).map(|of| expected(of, fragment.frames)));
                let frames = fragment.sound.map_or(0, |span| span.frames);
                part.sound.extend((0..).zip(&media.sound).map(|of| expected(of, frames)));
            }
            place = Some(place_now);
        }
        parts
    }

    /// Where a fragment begins after the one before; `None`: in a part of its own.
    fn follow<'f>(
        &self,
        job: &Job,
        place: &Place<'_>,
        fragment: &'f ScriptedFragment,
        media: &Media,
    ) -> Option<Place<'f>> {
        let before = place.fragment;
        let tracks = |of: &ScriptedFragment| (of.video, of.sound.map(|span| span.sound));
        if tracks(before) != tracks(fragment) {
            return None;
        }
        let distance_ms = fragment.producer - before.producer;
        let silence_ms = distance_ms - before_length_ms(before, &place.media);
        // As far from the anchor as it was recorded, unless a track would go back.
        let kept = place.anchor.1 + milliseconds(fragment.producer - place.anchor.0);
        let after = |last: Option<f64>, first: Option<f64>| match (last, first) {
            (Some(last), Some(first)) => last + LEAST_DISTANCE_MS - first,
            _ => f64::MIN,
        };
        let earliest = after(place.lasts.0, media.first_picture())
            .max(after(place.lasts.1, media.sound.first().copied()));
        let overlaps = silence_ms < -LEAST_OVERLAP_MS || distance_ms <= 0 || earliest - kept > MOST_MOVED_MS;
        let (anchor, begins) = match job.timeline {
            Timeline::Wallclock if overlaps => return None,
            Timeline::Compact if overlaps || silence_ms > self.tolerance_ms => {
                ((fragment.producer, place.end), place.end)
            }
            _ => (place.anchor, kept.max(earliest)),
        };
        let pause = |last: Option<f64>, first: Option<f64>| match (last, first) {
            (Some(last), Some(first)) => begins + first - last,
            _ => 0.0,
        };
        let pause_ms = pause(place.lasts.0, media.first_picture())
            .max(pause(place.lasts.1, media.sound.first().copied()));
        if pause_ms > LONGEST_PAUSE_MS {
            return None;
        }
        if let (Some(end), Some(first)) = (place.g711_end, media.sound.first())
            && (begins + first - end).abs() > LARGEST_G711_JUMP_MS
        {
            return None;
        }
        let (end, lasts, g711_end) = media.leaves(begins);
        Some(Place {
            fragment,
            media: media.clone(),
            begins,
            anchor,
            end: place.end.max(end),
            lasts,
            g711_end: g711_end.map(|_| place.g711_end.unwrap_or(begins) + media.sound_length()),
        })
    }

    /// Says in what the gaps of a manifest, and the fragments that it names as dropped, differ from what is right.
    pub(crate) fn compare_manifest(&self, manifest: &Value, job: &Job) -> Result<(), String> {
        let list = |key: &str| manifest[key].as_array().ok_or_else(|| format!("no list of {key}"));
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let told: Vec<_> = list("gaps")?.iter().map(|gap| (text(gap, "from"), text(gap, "to"))).collect();
        let gaps: Vec<_> =
            self.gaps(job).iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
        if told != gaps {
            return Err(format!("gaps {told:?}, the script has {gaps:?}"));
        }
        let told: BTreeSet<String> = list("dropped")?.iter().map(|entry| text(entry, "number")).collect();
        if told == self.dropped { Ok(()) } else { Err(format!("dropped {told:?}, not {:?}", self.dropped)) }
    }

    /// The gaps in the range: between fragments on the camera's clock, at the range's ends on the selecting one.
    fn gaps(&self, job: &Job) -> Vec<(UtcMillis, UtcMillis)> {
        let (from, to) = (job.range.start(), job.range.end());
        let Some((first, last)) = self.selected else {
            return vec![(from, to)];
        };
        let usual_ms = usual_length_ms(&self.kept);
        let is_gap = |from: UtcMillis, to: UtcMillis| to - from > self.tolerance_ms;
        let mut gaps = Vec::new();
        // What came in late had been recorded before.
        let kept = self.kept.iter().map(|of| (of.producer, of.producer + length_or(of, usual_ms)));
        let in_range = kept.filter(|(_, end)| *end > from + self.ahead_ms);
        let recorded = in_range.map(|(start, _)| start - self.ahead_ms).min();
        let first = recorded.filter(|recorded| is_gap(*recorded, first)).unwrap_or(first);
        if is_gap(from, first) {
            gaps.push((from, first));
        }
        let mut by_camera: Vec<&ScriptedFragment> = self.kept.iter().collect();
        by_camera.sort_by_key(|of| of.producer);
        let mut covered = by_camera[0].producer;
        for fragment in by_camera {
            let (begins, ends) =
                (covered.max(from + self.ahead_ms), fragment.producer.min(to + self.ahead_ms));
            if is_gap(covered, fragment.producer) && is_gap(begins, ends) {
                gaps.push((begins, ends));
            }
            covered = covered.max(fragment.producer + length_or(fragment, usual_ms));
        }
        if is_gap(last, to) {
            gaps.push((last, to));
        }
        gaps
    }
}

/// Fragments whose producer's clock is more than a day off have the times that their sessions had by the service's clock:
/// that of the fragment that was delayed least.
fn by_the_services_clock(mut fragments: Vec<ScriptedFragment>) -> Vec<ScriptedFragment> {
    let mut delays: BTreeMap<u32, i64> = BTreeMap::new();
    for fragment in &fragments {
        let delay = fragment.server - fragment.producer;
        let least = delays.entry(fragment.session).or_insert(delay);
        *least = delay.min(*least);
    }
    for fragment in &mut fragments {
        fragment.producer = fragment.producer + delays[&fragment.session];
    }
    fragments
}

/// The fragments of each session in a stretch in which sessions come together, with the end of the last of them.
type Stretch = BTreeMap<u32, (Vec<ScriptedFragment>, UtcMillis)>;

/// In order of their numbers; sessions that come in turns follow each other.
fn in_order_of_ingestion(mut fragments: Vec<ScriptedFragment>, tolerance_ms: i64) -> Vec<ScriptedFragment> {
    fragments.sort_by(|a, b| a.number.cmp(&b.number));
    let in_turns =
        |fragment: &ScriptedFragment, _: bool, end: UtcMillis| end + tolerance_ms > fragment.server;
    one_session_after_another(fragments, TimestampKind::Server, in_turns)
}

/// In order of time; sessions that overlap follow each other, in order of ingestion.
fn in_order_of_time(mut fragments: Vec<ScriptedFragment>, tolerance_ms: i64) -> Vec<ScriptedFragment> {
    fragments.sort_by(|a, b| a.producer.cmp(&b.producer).then_with(|| a.number.cmp(&b.number)));
    let overlaps = |fragment: &ScriptedFragment, goes_on: bool, end: UtcMillis| {
        // A session that goes on may be overlapped again, unless the others are over.
        let slack = i64::from(fragment.length_ms / 2).min(LEAST_OVERLAP_MS);
        end - fragment.producer > if goes_on { -tolerance_ms } else { slack }
    };
    one_session_after_another(fragments, TimestampKind::Producer, overlaps)
}

/// Divides fragments into stretches of sessions that come together, and puts one session after another in each.
///
/// `comes_with`: whether a fragment, whose session goes on or begins in the stretch, comes with another session that has
/// got to an instant.
fn one_session_after_another(
    fragments: Vec<ScriptedFragment>,
    clock: TimestampKind,
    comes_with: impl Fn(&ScriptedFragment, bool, UtcMillis) -> bool,
) -> Vec<ScriptedFragment> {
    let mut ordered = Vec::new();
    let mut stretch = Stretch::new();
    let finish = |stretch: &mut Stretch| {
        let mut sessions: Vec<_> = std::mem::take(stretch).into_values().map(|(of, _)| of).collect();
        sessions.sort_by_key(|session| session.iter().map(|of| of.number.clone()).min());
        sessions.into_iter().flatten().collect::<Vec<_>>()
    };
    for fragment in fragments {
        let goes_on = stretch.contains_key(&fragment.session);
        let mut others = stretch.iter().filter(|(session, _)| **session != fragment.session);
        if !others.any(|(_, (_, end))| comes_with(&fragment, goes_on, *end)) {
            ordered.extend(finish(&mut stretch));
        }
        let end = fragment.start(clock) + i64::from(fragment.length_ms);
        let (of_session, until) = stretch.entry(fragment.session).or_insert((Vec::new(), end));
        *until = end.max(*until);
        of_session.push(fragment);
    }
    ordered.extend(finish(&mut stretch));
    ordered
}

/// When the samples of a fragment are shown, in milliseconds from its key frame.
#[derive(Debug, Clone)]
struct Media {
    /// In decode order.
    pictures: Vec<f64>,
    sound: Vec<f64>,
    picture_ms: f64,
    kind: Option<TestSound>,
}

impl Media {
    fn of(camera: &Camera, fragment: &ScriptedFragment) -> Self {
        let picture_ms = 1000.0 / f64::from(fragment.frame_rate);
        let shown = match camera.videos.get(fragment.video) {
            Some(VideoSource::TestPictures(pictures)) if pictures.reordered => {
                shown_between_others(pictures.group_frames, fragment.frames)
            }
            _ => (0..fragment.frames).collect(),
        };
        let kind = fragment.sound.and_then(|span| camera.sounds.get(span.sound).copied());
        let sound = fragment.sound.zip(kind).map_or(Vec::new(), |(span, kind)| {
            let at =
                |frame: u32| (micros(span.first_ns) + micros(kind.frame_start_ns(frame.into()))) / 1000.0;
            (0..span.frames).map(at).collect()
        });
        let pictures = shown.into_iter().map(|place| f64::from(place) * picture_ms).collect();
        Self { pictures, sound, picture_ms, kind }
    }

    fn first_picture(&self) -> Option<f64> {
        self.pictures.first().copied()
    }

    fn sound_length(&self) -> f64 {
        let frame_ms = self.kind.map_or(0.0, |kind| micros(kind.frame_start_ns(1)) / 1000.0);
        frame_ms * f64::from(u32::try_from(self.sound.len()).expect("few"))
    }

    /// The end of all of it, the last sample of each track, the end of G.711, if it begins there.
    fn leaves(&self, begins: f64) -> (f64, (Option<f64>, Option<f64>), Option<f64>) {
        let last_picture = self.pictures.iter().copied().fold(0.0, f64::max);
        let last_sound = self.sound.last().copied();
        let sound_end = self.sound.first().map(|first| first + self.sound_length());
        let end = (last_picture + self.picture_ms).max(sound_end.unwrap_or(0.0));
        let is_g711 = self.kind.is_some_and(|kind| kind.codec != SoundCodec::Aac);
        let g711_end = sound_end.filter(|_| is_g711).map(|end| begins + end);
        (begins + end, (Some(begins + last_picture), last_sound.map(|last| begins + last)), g711_end)
    }
}

/// Where the output has got to.
struct Place<'f> {
    fragment: &'f ScriptedFragment,
    media: Media,
    begins: f64,
    /// Since when distances have been kept: on the camera's clock, and in the file.
    anchor: (UtcMillis, f64),
    end: f64,
    /// When the last picture and the last frame of sound are.
    lasts: (Option<f64>, Option<f64>),
    g711_end: Option<f64>,
}

impl<'f> Place<'f> {
    fn first(fragment: &'f ScriptedFragment, media: &Media) -> Self {
        let (end, lasts, g711_end) = media.leaves(0.0);
        let anchor = (fragment.producer, 0.0);
        Self { fragment, media: media.clone(), begins: 0.0, anchor, end, lasts, g711_end }
    }
}

/// The places on the screen of the first pictures of a group, two of three of which stand between others, in decode order.
fn shown_between_others(group: u32, count: u32) -> Vec<u32> {
    let mut decoded: Vec<u32> = Vec::new();
    for anchor in (0..group).step_by(3).chain([group - 1]) {
        let from = decoded.iter().max().map_or(0, |last| last + 1);
        if decoded.contains(&anchor) {
            continue;
        }
        decoded.push(anchor);
        decoded.extend(from..anchor);
    }
    decoded.truncate(count as usize);
    let rank =
        |place: &u32| u32::try_from(decoded.iter().filter(|other| *other < place).count()).expect("few");
    decoded.iter().map(rank).collect()
}

/// How long a fragment lasts: as listed, or as its media does.
fn before_length_ms(before: &ScriptedFragment, media: &Media) -> i64 {
    let sound_ms = media.sound.first().map_or(0.0, |first| first + media.sound_length());
    #[expect(clippy::cast_possible_truncation, reason = "far below 2^52")]
    let sound_ms = sound_ms as i64;
    i64::from(before.length_ms).max(pictures_ms(before)).max(sound_ms)
}

/// How long it is listed; `usual_ms` where that is 0.
fn length_or(fragment: &ScriptedFragment, usual_ms: i64) -> i64 {
    match fragment.length_ms {
        0 => usual_ms,
        listed => i64::from(listed),
    }
}

fn micros(ns: i64) -> f64 {
    milliseconds(ns) / 1000.0
}
