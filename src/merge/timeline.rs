//! Decides when each fragment begins in the output. Pure; integer nanoseconds throughout.
//!
//! `wallclock` puts every fragment at its own start; `compact` keeps the distance of starts while fragments follow
//! each other, and closes gaps and overlaps. Neither adds up lengths, so nothing drifts.

use serde::Serialize;

use crate::media::clip::TrackExtent;
use crate::media::matroska::TICK_NANOS;
use crate::model::{Timeline, TimestampKind, UtcMillis};

#[cfg(test)]
mod tests;

const MS: i64 = 1_000_000;
/// Overlaps up to this are the jitter of one camera's clock, not two sessions.
const PRODUCER_JITTER: i64 = 100 * MS;
/// Starts and lengths, as listed, may disagree by this: what overlaps by more is another session, even if its samples
/// come later than those before them. Of few pictures a second the last one stands for most of the length.
const LISTED_JITTER: i64 = 500 * MS;
/// The least distance of two samples: rounded to ticks they stay apart.
const LEAST_DISTANCE: i64 = TICK_NANOS;

/// What is known of a fragment when it is to be placed.
#[derive(Debug, Clone)]
pub struct FragmentMedia {
    /// Its start on the media clock; `None` where it is not known: then it follows the end of the media before it.
    pub start: Option<UtcMillis>,
    /// The place of the track whose end it then follows.
    pub leads: usize,
    /// Its listed length; may be 0.
    pub listed_ms: u32,
    /// What each track has of it, from its key frame.
    pub tracks: Vec<Option<TrackExtent>>,
}

impl FragmentMedia {
    /// When its media ends, in nanoseconds from its key frame; the listed length where that is longer.
    pub fn length(&self) -> i64 {
        let media = self.tracks.iter().flatten().map(|track| track.end).max().unwrap_or(0);
        media.max(i64::from(self.listed_ms) * MS)
    }
}

/// Why a new part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartReason {
    /// The first part.
    Start,
    /// The codec, its private data or the set of tracks changed.
    CodecChange,
    /// The fragment overlaps the one before, and the output's clock is wall time.
    Overlap,
    /// The gap is longer than one MP4 can hold.
    LongGap,
    /// G.711 sound pauses or jumps, which its track cannot show: it has no times, only a rate.
    PcmPause,
}

/// How a fragment joins the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// It begins a part.
    Begins,
    /// It keeps its distance.
    Continues,
    /// A gap was closed.
    ClosesGap,
    /// It overlapped, or came out of order, and was put after the media before it.
    FollowsOverlap,
}

/// Where a fragment was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Set when a new part begins with it.
    pub new_part: Option<PartReason>,
    /// When its key frame is shown, in nanoseconds of the part.
    pub begins: i64,
    /// By how much it was moved so that no track goes back.
    pub moved: i64,
    /// How it joins the one before it.
    pub join: Join,
}

/// What decides about places.
#[derive(Debug, Clone, Copy)]
pub struct TimelineRules {
    /// Whether gaps are closed.
    pub timeline: Timeline,
    /// The clock that fragment starts are given on.
    pub media_clock: TimestampKind,
    /// How much time between two fragments is still no gap.
    pub gap_tolerance_ms: i64,
}

/// Places fragments one after another.
#[derive(Debug)]
pub struct TimelinePlacer {
    rules: TimelineRules,
    longest_gap: i64,
    previous: Option<Previous>,
    next_part: PartReason,
}

#[derive(Debug, Clone)]
struct Previous {
    /// The fragment's start, if it is known, and length.
    start: Option<UtcMillis>,
    length: i64,
    /// Where the run of fragments that keep their distance began, on both clocks.
    anchor: (Option<UtcMillis>, i64),
    /// The latest sample of each track.
    lasts: Vec<Option<i64>>,
    /// The latest end of any sample.
    end: i64,
    /// The end of each track.
    ends: Vec<Option<i64>>,
    /// The earliest time that the part can show.
    floor: i64,
}

impl TimelinePlacer {
    /// Begins an output.
    pub fn new(rules: TimelineRules) -> Self {
        Self { rules, longest_gap: longest_gap(0), previous: None, next_part: PartReason::Start }
    }

    /// Begins a part whose tracks have these time scales; `reason` is given to its first fragment.
    pub fn begin_part(&mut self, reason: PartReason, time_scales: impl Iterator<Item = u32>) {
        self.previous = None;
        self.next_part = reason;
        self.longest_gap = longest_gap(time_scales.max().unwrap_or(0));
    }

    /// Places the next fragment.
    pub fn place(&mut self, media: &FragmentMedia) -> Placement {
        let placement = match &self.previous {
            None => Placement { new_part: Some(self.next_part), begins: 0, moved: 0, join: Join::Begins },
            Some(previous) => self.follow(previous, media),
        };
        self.remember(media, placement);
        placement
    }

    fn follow(&self, previous: &Previous, media: &FragmentMedia) -> Placement {
        let earliest = least_start(previous, media);
        let at = |begins, moved, join| Placement { new_part: None, begins, moved, join };
        let part = |reason| Placement { new_part: Some(reason), begins: 0, moved: 0, join: Join::Begins };
        let is_compact = self.rules.timeline == Timeline::Compact;
        let known = media.start.zip(previous.start).zip(previous.anchor.0);
        let Some(((start, before), anchor)) = known else {
            let end = previous.ends.get(media.leads).copied().flatten();
            let first = media.tracks.get(media.leads).copied().flatten().map(|track| track.first);
            let wanted = end.zip(first).map_or(previous.end, |(end, first)| end - first);
            let begins = wanted.max(earliest);
            return at(begins, begins - wanted, Join::Continues);
        };
        let kept = previous.anchor.1 + nanos(start - anchor);
        let gap = nanos(start - before) - previous.length;
        let is_jitter = start > before && earliest - kept <= self.jitter();
        let overlaps = -gap > LISTED_JITTER.max(self.jitter());
        let placement = if is_compact && gap > self.rules.gap_tolerance_ms.saturating_mul(MS) {
            let begins = previous.end.max(earliest);
            at(begins, begins - previous.end, Join::ClosesGap)
        } else if kept >= earliest && !overlaps {
            at(kept, 0, Join::Continues)
        } else if is_jitter && !overlaps {
            at(earliest, earliest - kept, Join::Continues)
        } else if is_compact {
            let begins = previous.end.max(earliest);
            at(begins, begins - previous.end, Join::FollowsOverlap)
        } else {
            part(PartReason::Overlap)
        };
        let silent_too_long = previous.lasts.iter().zip(&media.tracks).any(|(last, track)| {
            matches!((last, track), (Some(last), Some(track))
                if placement.begins + track.first - last > self.longest_gap)
        });
        if silent_too_long { part(PartReason::LongGap) } else { placement }
    }

    fn jitter(&self) -> i64 {
        let tolerance = self.rules.gap_tolerance_ms.saturating_mul(MS).max(0);
        match self.rules.media_clock {
            TimestampKind::Producer => PRODUCER_JITTER.min(tolerance),
            // The server's clock hops with the network's delay; such hops are no sessions.
            TimestampKind::Server => tolerance,
        }
    }

    fn remember(&mut self, media: &FragmentMedia, placement: Placement) {
        let previous = if placement.new_part.is_some() { None } else { self.previous.take() };
        let begins = placement.begins;
        let first = media.tracks.iter().flatten().map(|track| track.first).min().unwrap_or(0);
        let end = begins + media.tracks.iter().flatten().map(|track| track.end).max().unwrap_or(0);
        let mut next = previous.unwrap_or(Previous {
            start: media.start,
            length: 0,
            anchor: (media.start, begins),
            lasts: vec![None; media.tracks.len()],
            end,
            ends: vec![None; media.tracks.len()],
            floor: (begins + first).min(0),
        });
        next.start = media.start;
        next.length = media.length();
        next.end = next.end.max(end);
        if matches!(placement.join, Join::ClosesGap | Join::FollowsOverlap) {
            next.anchor = (media.start, begins);
        }
        for ((last, end), track) in next.lasts.iter_mut().zip(&mut next.ends).zip(&media.tracks) {
            if let Some(track) = track {
                *last = Some(begins + track.last);
                *end = Some(begins + track.end);
            }
        }
        self.previous = Some(next);
    }
}

/// The earliest start with which no track goes back.
fn least_start(previous: &Previous, media: &FragmentMedia) -> i64 {
    let tracks = previous.lasts.iter().zip(&media.tracks);
    tracks
        .filter_map(|(last, track)| {
            let after = last.map_or(previous.floor, |last| last + LEAST_DISTANCE);
            track.map(|track| after - track.first)
        })
        .max()
        .unwrap_or(i64::MIN)
}

fn nanos(ms: i64) -> i64 {
    ms.saturating_mul(MS)
}

/// The longest distance of two samples that an MP4 holds at this time scale: 2³¹ ticks, less 10 %.
fn longest_gap(time_scale: u32) -> i64 {
    let scale = i64::from(time_scale.max(90_000));
    (1_i64 << 31) * 900_000_000 / scale
}
