//! What the archive holds and what a request gets of it: the service's selection rules, without the network.

use crate::model::{TimeRange, TimestampKind, UtcMillis};

use super::camera::Camera;
use super::hash;
use super::media;
use super::refusal::Refusal;
use super::script::{ScriptedFragment, StartIn};

/// Milliseconds in the longest range that a clip may ask for.
const LONGEST_CLIP_RANGE_MS: i64 = 24 * 60 * 60 * 1000;

/// Fragments in the longest listing: eleven days of two seconds each.
const MOST_LISTED: u64 = 500_000;

/// Where a clip stops, without saying so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipLimits {
    /// The most fragments.
    pub fragments: usize,
    /// The most bytes. Whether the service counts decimal or binary megabytes, and before or after it makes
    /// an MP4 of them, is not documented; here it is the sum of the sizes as listed, the earliest of these.
    pub bytes: u64,
}

impl Default for ClipLimits {
    fn default() -> Self {
        Self { fragments: 200, bytes: 100_000_000 }
    }
}

/// The range of a request, **both ends inclusive**, on one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The clock that selects and orders.
    pub kind: TimestampKind,
    /// The first instant inside.
    pub start: UtcMillis,
    /// The last instant inside.
    pub end: UtcMillis,
}

/// A camera's archive at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Archive<'a> {
    pub(super) camera: &'a Camera,
    pub(super) now: UtcMillis,
    /// Where retention has got to ahead of its time, if it has.
    pub(super) head: Option<UtcMillis>,
}

impl Archive<'_> {
    /// The oldest instant of ingestion whose media is still there.
    fn head(&self) -> UtcMillis {
        let due = self.now - i64::from(self.camera.retention_hours) * 3_600_000;
        self.head.map_or(due, |head| head.max(due))
    }

    /// What a fragment must meet to be there and in `selector`; `None`: nothing can.
    fn conditions(&self, selector: Option<Selector>) -> Option<Vec<StartIn>> {
        let kept = TimeRange::new(self.head().max(self.camera.created), self.now)?;
        let mut conditions = Vec::new();
        if let Some(selector) = selector {
            conditions.push((selector.kind, TimeRange::new(selector.start, selector.end + 1)?));
        }
        conditions.push((TimestampKind::Server, kept));
        (self.camera.retention_hours > 0).then_some(conditions)
    }

    /// Refuses a listing of so many fragments that shuffling them would take all memory.
    ///
    /// The service has no such limit; the emulator sorts the whole listing for each page of it.
    pub(super) fn check_length(&self, selector: Option<Selector>) -> Result<(), Refusal> {
        let candidates = self.conditions(selector).map_or(0, |of| self.camera.script.candidates(&of));
        if candidates <= MOST_LISTED {
            return Ok(());
        }
        Err(Refusal::invalid_argument(&format!(
            "The embedded archive lists at most {MOST_LISTED} fragments, this range has {candidates}."
        )))
    }

    /// The fragments that a listing of `selector` gives (`None`: everything), in order of time.
    ///
    /// A fragment appears when it was received to its end, and vanishes when its ingestion is longer ago than
    /// the retention.
    pub(super) fn listed(&self, selector: Option<Selector>) -> Vec<ScriptedFragment> {
        let Some(conditions) = self.conditions(selector) else {
            return Vec::new();
        };
        let mut fragments = self.camera.script.select(&conditions);
        fragments.retain(|fragment| fragment.server + i64::from(fragment.length_ms) <= self.now);
        fragments
    }

    /// The fragments that a clip of `selector` holds, in order.
    pub(super) fn clip(
        &self,
        selector: Selector,
        limits: ClipLimits,
    ) -> Result<Vec<ScriptedFragment>, Refusal> {
        if self.camera.retention_hours == 0 {
            return Err(Refusal::no_data_retention(&self.camera.name));
        }
        if selector.end <= selector.start {
            return Err(Refusal::invalid_argument("EndTimestamp must be after StartTimestamp."));
        }
        if selector.end - selector.start > LONGEST_CLIP_RANGE_MS {
            return Err(Refusal::invalid_argument("The timestamp range must not exceed 24 hours."));
        }
        if selector.kind == TimestampKind::Server {
            if selector.end >= self.now {
                return Err(Refusal::invalid_argument("EndTimestamp must be in the past."));
            }
            if selector.start <= self.head() {
                return Err(Refusal::invalid_argument(&format!(
                    "StartTimestamp {} is outside of the stream retention period.",
                    selector.start
                )));
            }
        }
        let mut fragments = self.listed(Some(selector));
        if selector.kind == TimestampKind::Producer {
            // In order of time, then of ingestion: the first of equals is the oldest ingested.
            fragments.dedup_by_key(|fragment| fragment.producer);
        }
        if fragments.is_empty() {
            return Err(Refusal::no_fragments());
        }
        truncate(&mut fragments, limits);
        if let Some(problem) = fragments.iter().find_map(|fragment| media::problem(self.camera, fragment)) {
            return Err(Refusal::media(problem));
        }
        let tracks = |fragment: &ScriptedFragment| (fragment.video, fragment.sound.map(|span| span.sound));
        if fragments.iter().any(|fragment| tracks(fragment) != tracks(&fragments[0])) {
            return Err(Refusal::invalid_codec_private_data());
        }
        Ok(fragments)
    }
}

/// Cuts the fragments off before the limits are exceeded; the first stays, whatever its size.
fn truncate(fragments: &mut Vec<ScriptedFragment>, limits: ClipLimits) {
    let mut bytes = 0_u64;
    let fitting = fragments.iter().take_while(|fragment| {
        bytes += fragment.size_bytes;
        bytes <= limits.bytes
    });
    let count = fitting.count().min(limits.fragments).max(1);
    fragments.truncate(count);
}

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) fragments: Vec<ScriptedFragment>,
    /// Where the next page begins.
    pub(super) next: Option<PageToken>,
}

/// A place in a shuffled listing.
///
/// It names the last place served and not a count: fragments that come or go between two pages neither
/// double nor hide others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageToken {
    pub(super) after: u64,
    /// Fingerprint of the listing it belongs to.
    pub(super) listing: u64,
}

impl PageToken {
    /// The token as it travels: letters and digits, as the service's model demands.
    pub(super) fn to_text(self) -> String {
        format!("{:016x}{:016x}", self.listing, self.after)
    }

    /// The token of that text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |range| u64::from_str_radix(text.get(range)?, 16).ok();
        (text.len() == 32).then_some(())?;
        Some(Self { listing: number(0..16)?, after: number(16..32)? })
    }
}

/// The fingerprint of a listing: pages of one belong together.
pub(super) fn listing_fingerprint(stream: &str, selector: Option<Selector>, seed: u64) -> u64 {
    hash::of(&(stream, selector, seed))
}

/// Shuffles a listing over all of its pages and takes the page after `token`.
pub(super) fn page(
    fragments: Vec<ScriptedFragment>,
    listing: u64,
    token: Option<PageToken>,
    max_results: usize,
) -> Page {
    let mut placed: Vec<(u64, ScriptedFragment)> = fragments
        .into_iter()
        .map(|fragment| (hash::of(&(listing, &fragment.number)), fragment))
        .filter(|(place, _)| token.is_none_or(|token| *place > token.after))
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    let more = placed.len() > max_results;
    placed.truncate(max_results);
    let next = placed.last().filter(|_| more).map(|(place, _)| PageToken { after: *place, listing });
    Page { fragments: placed.into_iter().map(|(_, fragment)| fragment).collect(), next }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::emulator::Recording;

    const START: UtcMillis = UtcMillis::new(1_709_251_200_000);

    fn camera(recording: Recording) -> Camera {
        Camera::with_script("gate", recording.into_script())
    }

    fn select(kind: TimestampKind, start: i64, end: i64) -> Selector {
        Selector { kind, start: START + start, end: START + end }
    }

    fn archive(camera: &Camera) -> Archive<'_> {
        Archive { camera, now: START + 100 * 3_600_000, head: None }
    }

    fn producers(fragments: &[ScriptedFragment]) -> Vec<i64> {
        fragments.iter().map(|fragment| fragment.producer - START).collect()
    }

    #[test]
    fn both_ends_are_inclusive_and_only_starts_count() {
        let camera = camera(Recording::at(START).server_delay_ms(250).fragments(5, 2_000));
        let archive = archive(&camera);
        let limits = ClipLimits::default();
        let producer = select(TimestampKind::Producer, 2_000, 6_000);
        assert_eq!(producers(&archive.listed(Some(producer))), [2_000, 4_000, 6_000]);
        assert_eq!(producers(&archive.clip(producer, limits).expect("media")), [2_000, 4_000, 6_000]);
        let server = select(TimestampKind::Server, 2_250, 6_249);
        assert_eq!(producers(&archive.clip(server, limits).expect("media")), [2_000, 4_000]);
        let inside_one = select(TimestampKind::Producer, 2_001, 3_999);
        assert_eq!(archive.clip(inside_one, limits), Err(Refusal::no_fragments()));
        assert!(archive.listed(Some(inside_one)).is_empty());
    }

    #[test]
    fn a_clip_stops_silently_before_either_limit_is_exceeded() {
        let camera = camera(Recording::at(START).bytes_per_second(500_000).fragments(150, 1_000));
        let archive = archive(&camera);
        let all = select(TimestampKind::Server, 0, 1_000_000);
        let served =
            |fragments, bytes| archive.clip(all, ClipLimits { fragments, bytes }).expect("media").len();
        assert_eq!(served(200, 100_000_000), 150);
        assert_eq!(served(149, 100_000_000), 149);
        assert_eq!(served(200, 50_000_000), 100);
        assert_eq!(served(200, 49_999_999), 99);
        assert_eq!(served(200, 1), 1);
    }

    #[test]
    fn of_equal_producer_timestamps_a_producer_clip_holds_the_oldest_ingested() {
        let replayed = Recording::at(START).fragments(3, 2_000).restart_at(START).fragments(2, 2_000);
        let camera = camera(replayed);
        let archive = archive(&camera);
        let limits = ClipLimits::default();
        let producer = select(TimestampKind::Producer, 0, 100_000);
        let clip = archive.clip(producer, limits).expect("media");
        assert_eq!(producers(&clip), [0, 2_000, 4_000]);
        assert!(clip.iter().all(|fragment| fragment.server == fragment.producer));
        assert_eq!(archive.listed(Some(producer)).len(), 5, "a listing holds every ingest");
        let server = archive.clip(select(TimestampKind::Server, 0, 100_000), limits).expect("media");
        assert_eq!(producers(&server), [0, 2_000, 4_000, 0, 2_000]);
    }

    #[test]
    fn ranges_that_the_service_refuses_are_refused() {
        let camera = camera(Recording::at(START).fragments(3, 2_000)).retention_hours(100);
        let at = |now, selector| {
            let archive = Archive { camera: &camera, now: START + now, head: None };
            archive.clip(selector, ClipLimits::default()).err().map(|refusal| refusal.message)
        };
        let says = |message: Option<String>, words: &str| {
            assert!(message.is_some_and(|m| m.contains(words)), "{words}");
        };
        let server = |start, end| select(TimestampKind::Server, start, end);
        let producer = |start, end| select(TimestampKind::Producer, start, end);
        says(at(3_600_000, server(5, 5)), "after StartTimestamp");
        says(at(3_600_000, producer(6, 5)), "after StartTimestamp");
        says(at(90_000_000, server(0, 86_400_001)), "24 hours");
        assert_eq!(at(90_000_000, server(0, 86_400_000)), None);
        says(at(9_000, server(0, 9_000)), "in the past");
        assert_eq!(at(9_000, producer(0, 9_000)), None);
        let hours = 100 * 3_600_000;
        says(at(hours, server(0, 9_000)), "outside of the stream retention period.");
        assert_eq!(at(hours, server(1, 9_000)), None);
    }

    #[test]
    fn fragments_come_when_received_and_go_with_retention() {
        let camera = camera(Recording::at(START).fragments(3, 2_000)).retention_hours(1);
        let listed = |now| {
            let archive = Archive { camera: &camera, now: START + now, head: None };
            producers(&archive.listed(None))
        };
        assert_eq!(listed(3_999), [0]);
        assert_eq!(listed(4_000), [0, 2_000]);
        assert_eq!(listed(3_600_000), [0, 2_000, 4_000]);
        assert_eq!(listed(3_600_001), [2_000, 4_000]);
        assert_eq!(listed(3_604_001), Vec::<i64>::new());
        let none_kept = camera.clone().retention_hours(0);
        let archive = Archive { camera: &none_kept, now: START + 10_000, head: None };
        assert!(archive.listed(None).is_empty());
        let refusal = archive.clip(select(TimestampKind::Producer, 0, 9), ClipLimits::default());
        assert_eq!(refusal.err().map(|refusal| refusal.code), Some("NoDataRetentionException".into()));
    }

    #[test]
    fn a_change_of_codec_private_data_is_refused_only_inside_a_clip() {
        let camera = camera(Recording::at(START).fragments(2, 2_000).video(1).fragments(2, 2_000));
        let archive = archive(&camera);
        let clip = |start, end| {
            archive
                .clip(select(TimestampKind::Producer, start, end), ClipLimits::default())
                .map(|clip| clip.len())
        };
        assert_eq!(clip(0, 3_999), Ok(2));
        assert_eq!(clip(4_000, 8_000), Ok(2));
        assert_eq!(clip(0, 4_000), Err(Refusal::invalid_codec_private_data()));
    }

    #[test]
    fn pages_hold_every_fragment_once_and_in_no_order() {
        let camera = camera(Recording::at(START).fragments(250, 2_000));
        let all = archive(&camera).listed(None);
        for max_results in [1, 7, 100, 249, 250, 1_000] {
            let (mut token, mut seen, mut pages) = (None, Vec::new(), 0);
            loop {
                let page = page(all.clone(), 5, token, max_results);
                pages += 1;
                assert!(page.fragments.len() <= max_results);
                seen.extend(page.fragments.into_iter().map(|fragment| fragment.number));
                token = page.next.map(|next| PageToken::parse(&next.to_text()).expect("own token"));
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(pages, 250_usize.div_ceil(max_results));
            assert_eq!(seen.len(), 250);
            assert!(!seen.is_sorted());
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 250);
        }
    }

    #[test]
    fn a_grid_finds_the_same_fragments_by_either_clock_and_by_exhaustion() {
        let gap = TimeRange::new(START + 20_001, START + 26_000).expect("a range");
        let camera = Camera::steady("gate").grid(|grid| grid.phase_ms = 700).gap(gap);
        let wide = TimeRange::new(START - 50_000, START + 100_000).expect("a range");
        let all = camera.fragments(wide, TimestampKind::Producer);
        for kind in [TimestampKind::Producer, TimestampKind::Server] {
            for start in (0..40_000).step_by(131) {
                let range = TimeRange::new(START + start, START + start + 7_919).expect("a range");
                let expected: Vec<_> =
                    all.iter().filter(|f| range.contains(f.start(kind))).cloned().collect();
                assert_eq!(camera.fragments(range, kind), expected);
            }
        }
        assert!(all.iter().all(|f| f.producer + 2_000 <= gap.start() || f.producer >= gap.end()));
        assert!(all.is_sorted_by_key(|f| f.server) && all.is_sorted_by_key(|f| f.number.clone()));
        assert_eq!(all[0].number.as_str().len(), 47);
    }
}
