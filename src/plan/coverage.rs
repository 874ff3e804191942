//! What a set of fragments covers: usual length, clock skew, gaps. Streaming, with bounded memory.

use std::collections::BTreeMap;

use serde::Serialize;

use super::reckoning::{MediaClock, Reckoner, Reckoning};
use crate::model::{Fragment, GapTolerance, TimeRange, TimestampKind, UtcMillis};

/// The least tolerance that `auto` gives, in milliseconds (KVS.md, "Media").
const LEAST_TOLERANCE_MS: i64 = 500;

/// A producer clock further off the server's than this is not believed, in milliseconds.
const PLAUSIBLE_SKEW_MS: i64 = 24 * 3_600_000;

/// Differences of the two clocks, producer minus server, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// The least.
    pub min_ms: i64,
    /// The median; to the second where it is beyond ten seconds.
    pub median_ms: i64,
    /// The greatest.
    pub max_ms: i64,
}

/// First look over an export's fragments: how long they usually are and how far the clocks are apart.
#[derive(Debug, Default)]
pub struct Survey {
    lengths: BTreeMap<u32, u64>,
    /// Distances of starts, in the order of adding.
    distances: BTreeMap<i64, u64>,
    last_start: Option<UtcMillis>,
    skews: BTreeMap<i64, u64>,
    skew_range: Option<(i64, i64)>,
}

impl Survey {
    /// Takes one more fragment.
    pub fn add(&mut self, fragment: &Fragment) {
        if fragment.length_ms > 0 {
            *self.lengths.entry(fragment.length_ms).or_default() += 1;
        }
        let distance = self.last_start.replace(fragment.producer).map(|last| fragment.producer - last);
        if let Some(distance) = distance.filter(|ms| (1..=super::window::MAX_FRAGMENT_MS).contains(ms)) {
            *self.distances.entry(distance).or_default() += 1;
        }
        let skew = fragment.producer - fragment.server;
        // A coarser grid far from zero bounds the memory whatever the clocks do.
        let rounded = if skew.abs() < 10_000 { skew } else { skew - skew.rem_euclid(1_000) };
        *self.skews.entry(rounded).or_default() += 1;
        let (least, most) = self.skew_range.unwrap_or((skew, skew));
        self.skew_range = Some((least.min(skew), most.max(skew)));
    }

    /// The usual (median) length in milliseconds of those that have one; where none has, the usual distance of
    /// their starts.
    pub fn usual_length_ms(&self) -> Option<u32> {
        median(&self.lengths).or_else(|| u32::try_from(median(&self.distances)?).ok())
    }

    /// The differences of the clocks, or `None` before the first fragment.
    pub fn skew(&self) -> Option<Skew> {
        let (min_ms, max_ms) = self.skew_range?;
        let median_ms = median(&self.skews)?.clamp(min_ms, max_ms);
        Some(Skew { min_ms, median_ms, max_ms })
    }

    /// The clock that gaps, contiguity and the timeline use: the producer's, unless it is implausible.
    pub fn media_clock(&self) -> TimestampKind {
        match self.skew() {
            Some(skew) if skew.median_ms.abs() > PLAUSIBLE_SKEW_MS => TimestampKind::Server,
            _ => TimestampKind::Producer,
        }
    }

    /// Reckons a media clock that is not the producer's; `each` tells all fragments in the order of the plan.
    pub fn reckon<E>(
        &self,
        tolerance: GapTolerance,
        each: impl FnOnce(&mut dyn FnMut(&Fragment)) -> Result<(), E>,
    ) -> Result<Option<Reckoning>, E> {
        if self.media_clock() != TimestampKind::Server {
            return Ok(None);
        }
        let mut reckoner = Reckoner::new(self.tolerance_ms(tolerance));
        each(&mut |fragment| reckoner.add(fragment))?;
        Ok(Some(reckoner.finish()))
    }

    /// How far the media clock is usually ahead of the clock that selects, in milliseconds.
    pub fn media_shift_ms(&self, selector: TimestampKind) -> i64 {
        let ahead = self.skew().map_or(0, |skew| skew.median_ms);
        match (self.media_clock(), selector) {
            (TimestampKind::Producer, TimestampKind::Server) => ahead,
            (TimestampKind::Server, TimestampKind::Producer) => -ahead,
            _ => 0,
        }
    }

    /// The tolerance in milliseconds above which time between two of these fragments is a gap.
    pub fn tolerance_ms(&self, tolerance: GapTolerance) -> i64 {
        gap_tolerance_ms(tolerance, self.usual_length_ms())
    }
}

fn median<K: Copy + Ord>(histogram: &BTreeMap<K, u64>) -> Option<K> {
    let total: u64 = histogram.values().sum();
    let mut below = 0;
    histogram
        .iter()
        .find(|(_, count)| {
            below += **count;
            below * 2 >= total
        })
        .map(|(value, _)| *value)
}

/// The tolerance in milliseconds: as given, or the larger of 500 ms and half the usual fragment length.
pub fn gap_tolerance_ms(tolerance: GapTolerance, usual_length_ms: Option<u32>) -> i64 {
    match tolerance {
        GapTolerance::Fixed(ms) => i64::from(ms),
        GapTolerance::Auto => LEAST_TOLERANCE_MS.max(i64::from(usual_length_ms.unwrap_or(0)) / 2),
    }
}

/// Time without fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The end of the media before it, or the range's start.
    pub from: UtcMillis,
    /// The start of the media after it, or the range's end.
    pub to: UtcMillis,
    /// Its length in milliseconds.
    pub ms: i64,
}

impl Gap {
    fn new(from: UtcMillis, to: UtcMillis) -> Self {
        Self { from, to, ms: to - from }
    }
}

/// Second look: the time that fragments cover, and the gaps between.
///
/// Fragments may come in any order, those of a reckoned clock in its; what is kept grows with the number of gaps only.
#[derive(Debug)]
pub struct Coverage {
    clock: MediaClock,
    selector: TimestampKind,
    tolerance_ms: i64,
    /// How long a fragment lasts whose length is listed as 0.
    usual_length_ms: u32,
    /// Covered stretches, start → end, disjoint and further apart than the tolerance.
    covered: BTreeMap<UtcMillis, UtcMillis>,
    /// How far the media clock is ahead of the selecting one.
    shift_ms: i64,
    /// First start and last end on the selecting clock.
    selected: Option<(UtcMillis, UtcMillis)>,
}

impl Coverage {
    /// Begins a look at fragments that `survey` has seen, selected by `selector`; `clock` is that of the survey.
    pub fn new(survey: &Survey, clock: MediaClock, selector: TimestampKind, tolerance: GapTolerance) -> Self {
        Self {
            clock,
            selector,
            tolerance_ms: survey.tolerance_ms(tolerance),
            usual_length_ms: survey.usual_length_ms().unwrap_or(0),
            covered: BTreeMap::new(),
            shift_ms: survey.media_shift_ms(selector),
            selected: None,
        }
    }

    /// Takes one more fragment.
    pub fn add(&mut self, fragment: &Fragment) {
        let length = match fragment.length_ms {
            0 => i64::from(self.usual_length_ms),
            listed => i64::from(listed),
        };
        let first = fragment.start(self.selector);
        let (start, end) = self.selected.unwrap_or((first, first + length));
        self.selected = Some((start.min(first), end.max(first + length)));

        let mut start = self.clock.start(fragment);
        let mut end = start + length;
        // Every stretch that touches the fragment becomes one with it; the last that begins before its end is
        // the only one that can reach beyond it.
        while let Some((&other_start, &other_end)) =
            self.covered.range(..=end + self.tolerance_ms).next_back()
        {
            if other_end + self.tolerance_ms < start {
                break;
            }
            self.covered.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.covered.insert(start, end);
    }

    /// The gaps inside `range`, in order, those at its two ends included.
    ///
    /// The ends are measured on the selecting clock, the gaps between fragments on the media clock. Where that is
    /// another, a selected fragment can lie far outside of the range on it: nobody listed the time in between, so
    /// only what is inside the range, as the media clock has it, is a gap.
    pub fn gaps(&self, range: TimeRange) -> Vec<Gap> {
        let Some((first, last)) = self.selected else {
            return vec![Gap::new(range.start(), range.end())];
        };
        let is_gap = |from: UtcMillis, to: UtcMillis| to - from > self.tolerance_ms;
        let mut gaps = Vec::new();
        let (start, end) = (range.start() + self.shift_ms, range.end() + self.shift_ms);
        // What was held back on its way was recorded before the service's clock has it; below the tolerance that is jitter.
        let recorded = self.covered.iter().find(|(_, until)| **until > start);
        let recorded = recorded.map(|(from, _)| *from - self.shift_ms);
        let first = recorded.filter(|recorded| is_gap(*recorded, first)).unwrap_or(first);
        if is_gap(range.start(), first) {
            gaps.push(Gap::new(range.start(), first));
        }
        let stretches: Vec<_> = self.covered.iter().collect();
        let between = stretches.windows(2).map(|pair| (start.max(*pair[0].1), end.min(*pair[1].0)));
        gaps.extend(between.filter(|(from, to)| is_gap(*from, *to)).map(|(from, to)| Gap::new(from, to)));
        if is_gap(last, range.end()) {
            gaps.push(Gap::new(last, range.end()));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FragmentNumber;

    fn fragment(producer: i64, length_ms: u32) -> Fragment {
        Fragment {
            number: FragmentNumber::parse("1").expect("number"),
            producer: UtcMillis::new(producer),
            server: UtcMillis::new(producer + 300),
            length_ms,
            size_bytes: 10,
        }
    }

    fn gaps(fragments: &[(i64, u32)]) -> Vec<(i64, i64)> {
        let fragments: Vec<Fragment> =
            fragments.iter().map(|(start, length)| fragment(*start, *length)).collect();
        gaps_by(TimestampKind::Producer, &fragments)
    }

    /// The gaps in the first ten seconds of the selecting clock.
    fn gaps_by(selector: TimestampKind, fragments: &[Fragment]) -> Vec<(i64, i64)> {
        let mut survey = Survey::default();
        for fragment in fragments {
            survey.add(fragment);
        }
        let clock = MediaClock::new(survey.media_clock(), None);
        let mut coverage = Coverage::new(&survey, clock, selector, GapTolerance::Fixed(500));
        for fragment in fragments {
            coverage.add(fragment);
        }
        let range = TimeRange::new(UtcMillis::new(0), UtcMillis::new(10_000)).expect("not empty");
        coverage.gaps(range).iter().map(|gap| (gap.from.get(), gap.to.get())).collect()
    }

    /// A fragment of two seconds.
    fn ingested(server: i64, producer: i64) -> Fragment {
        Fragment { server: UtcMillis::new(server), ..fragment(producer, 2_000) }
    }

    #[test]
    fn time_that_was_recorded_outside_of_the_range_is_no_gap() {
        // The first was buffered for an hour, the last for a day; nobody listed what lies between.
        let live = [300, 2_300, 4_300, 6_300].map(|server| ingested(server, server - 300));
        let mut late = vec![ingested(100, -3_600_000)];
        late.extend(live);
        late.push(ingested(8_300, -80_000_000));
        assert_eq!(gaps_by(TimestampKind::Server, &late), []);
    }

    #[test]
    fn a_gap_reaches_no_further_than_the_range_on_the_media_clock() {
        // The camera is a minute ahead: the range is 60 s to 70 s on its clock.
        let mut fragments: Vec<Fragment> =
            [2_000, 4_000, 8_000].map(|server| ingested(server, server + 60_000)).to_vec();
        assert_eq!(gaps_by(TimestampKind::Server, &fragments), [(0, 2_000), (66_000, 68_000)]);
        fragments.push(ingested(0, 30_000));
        assert_eq!(gaps_by(TimestampKind::Server, &fragments), [(60_000, 62_000), (66_000, 68_000)]);
    }

    #[test]
    fn a_burst_at_the_head_of_the_range_is_no_gap() {
        // Recorded from 0 s on, and received from 4 s on.
        let mut burst: Vec<Fragment> = (0..2).map(|n| ingested(4_000 + n, 2_000 * n)).collect();
        burst.extend([4_300, 6_300, 8_300].map(|server| ingested(server, server - 300)));
        assert_eq!(gaps_by(TimestampKind::Server, &burst), []);
        // Nothing was recorded until 2 s, and that came at 4 s.
        assert_eq!(gaps_by(TimestampKind::Server, &burst[1..]), [(0, 2_300)]);
    }

    #[test]
    fn gaps_are_found_in_whatever_order_fragments_come() {
        assert_eq!(gaps(&[(8_000, 2_000), (0, 2_000), (2_100, 1_900)]), [(4_000, 8_000)]);
        assert_eq!(gaps(&[(4_000, 2_000), (0, 2_000), (2_000, 2_000), (6_000, 4_000)]), []);
    }

    #[test]
    fn the_ends_of_the_range_can_be_gaps() {
        assert_eq!(gaps(&[(1_000, 2_000)]), [(0, 1_000), (3_000, 10_000)]);
        assert_eq!(gaps(&[]), [(0, 10_000)]);
        assert_eq!(gaps(&[(500, 9_000)]), []);
    }

    #[test]
    fn a_long_fragment_swallows_the_short_ones_inside_it() {
        assert_eq!(gaps(&[(1_000, 500), (3_000, 500), (0, 10_000), (9_000, 500)]), []);
    }

    #[test]
    fn a_last_frame_left_out_of_the_length_is_no_gap() {
        let mut survey = Survey::default();
        let starts = (0..10).map(|i| i * 1_856);
        starts.clone().for_each(|start| survey.add(&fragment(start, 1_796)));
        assert_eq!(survey.tolerance_ms(GapTolerance::Auto), 898);
        let clock = MediaClock::new(TimestampKind::Producer, None);
        let mut coverage = Coverage::new(&survey, clock, TimestampKind::Producer, GapTolerance::Auto);
        starts.for_each(|start| coverage.add(&fragment(start, 1_796)));
        let range = TimeRange::new(UtcMillis::new(0), UtcMillis::new(18_560)).expect("not empty");
        assert_eq!(coverage.gaps(range), []);
    }

    #[test]
    fn lengths_that_are_listed_as_0_make_no_gaps() {
        let starts: Vec<i64> = (0..5).map(|i| i * 2_000).collect();
        assert_eq!(gaps(&starts.iter().map(|start| (*start, 0)).collect::<Vec<_>>()), []);
        assert_eq!(gaps(&[(0, 0), (2_000, 0), (6_000, 0), (8_000, 2_000)]), [(4_000, 6_000)]);
    }

    #[test]
    fn a_producer_clock_a_day_off_is_not_believed() {
        let mut survey = Survey::default();
        survey.add(&fragment(0, 2_000));
        assert_eq!(survey.media_clock(), TimestampKind::Producer);
        assert_eq!(survey.skew(), Some(Skew { min_ms: -300, median_ms: -300, max_ms: -300 }));
        let mut survey = Survey::default();
        survey.add(&Fragment {
            producer: UtcMillis::new(5),
            server: UtcMillis::new(1_700_000_000_000),
            ..fragment(0, 1)
        });
        assert_eq!(survey.media_clock(), TimestampKind::Server);
    }
}
