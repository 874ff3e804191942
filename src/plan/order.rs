//! The order in which chunks follow each other in an output.

use std::collections::BTreeMap;

use super::reckoning::Walk;
use super::session::{Sessions, Span, overlap, slack_ms};
use super::window::MAX_FRAGMENT_MS;
use crate::model::{Fragment, FragmentNumber, UtcMillis};

/// What has to be known of a chunk, or of a stretch of one, to give it its place.
#[derive(Debug, Clone)]
pub struct ChunkSpan {
    first_number: FragmentNumber,
    last_number: FragmentNumber,
    start: UtcMillis,
    end: UtcMillis,
    slack_ms: i64,
}

impl ChunkSpan {
    /// The span from one fragment to another that come one after the other; with each goes its start on the media
    /// clock.
    pub fn of(first: (&Fragment, UtcMillis), last: (&Fragment, UtcMillis)) -> Self {
        Self {
            first_number: first.0.number.clone(),
            last_number: last.0.number.clone(),
            start: first.1,
            end: last.1 + i64::from(last.0.length_ms),
            slack_ms: slack_ms(last.0.length_ms),
        }
    }

    fn span(&self) -> Span<'_> {
        Span {
            first_number: &self.first_number,
            last_number: &self.last_number,
            start: self.start,
            end: self.end,
            slack_ms: self.slack_ms,
        }
    }
}

/// Whether one fragment follows another in its session; with each goes its start on the media clock.
pub fn follows(earlier: (&Fragment, UtcMillis), later: (&Fragment, UtcMillis)) -> bool {
    let (before, after) = (ChunkSpan::of(earlier, earlier), ChunkSpan::of(later, later));
    earlier.0.number < later.0.number && !overlap(&before.span(), &after.span())
}

/// The order of an output that the server's clock orders: that of ingestion, except that sessions which come at the
/// same time follow each other.
///
/// The server stamps what comes in, some of it late, so that neighbours change places; what is older than the longest
/// fragment keeps its place. Of the producer's clock only the distances within a session are believed: a camera that
/// starts without a clock, or is put right, must not scatter its footage. Memory grows with the longest stretch in which
/// sessions come in turns.
#[derive(Debug)]
pub struct IngestionOrder<T> {
    /// Given in order of the server's clock, not yet in order of numbers.
    waiting: BTreeMap<FragmentNumber, (Fragment, T)>,
    walk: Walk,
    tolerance_ms: i64,
    /// What has come since sessions come in turns, each with the number of its session's first fragment there.
    turns: Vec<(FragmentNumber, T)>,
    /// The sessions of `turns`.
    sessions: BTreeMap<usize, InTurn>,
}

/// A session of a stretch in which sessions come in turns.
#[derive(Debug)]
struct InTurn {
    /// The number of its first fragment in the stretch.
    first: FragmentNumber,
    /// The end of its media by the server's clock: then it goes on, or is over.
    until: UtcMillis,
}

impl<T> IngestionOrder<T> {
    /// Begins an output; `tolerance_ms` is how much time between two fragments is still no gap.
    pub fn new(tolerance_ms: i64) -> Self {
        Self {
            waiting: BTreeMap::new(),
            walk: Walk::new(tolerance_ms),
            tolerance_ms,
            turns: Vec::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Takes the next fragment and gives back those whose place is now certain.
    pub fn push(&mut self, fragment: &Fragment, payload: T) -> Vec<T> {
        let newest = fragment.server;
        self.waiting.insert(fragment.number.clone(), (fragment.clone(), payload));
        let mut ready = Vec::new();
        while let Some(oldest) = self.waiting.first_entry()
            && newest - oldest.get().0.server >= MAX_FRAGMENT_MS
        {
            let (fragment, payload) = oldest.remove();
            ready.extend(self.take(&fragment, payload));
        }
        ready
    }

    /// Takes the next fragment in order of its number.
    fn take(&mut self, fragment: &Fragment, payload: T) -> Vec<T> {
        let session = self.walk.session(fragment);
        let tolerance_ms = self.tolerance_ms;
        let may_go_on = |session: &InTurn| session.until + tolerance_ms > fragment.server;
        let in_turns = self.sessions.iter().any(|(other, of)| *other != session && may_go_on(of));
        let ready = if in_turns { Vec::new() } else { self.one_after_another() };
        // One that was silent meanwhile comes back as another.
        let last = self.sessions.get(&session).filter(|last| may_go_on(last));
        let first = last.map_or_else(|| fragment.number.clone(), |last| last.first.clone());
        let until = fragment.server + i64::from(fragment.length_ms);
        self.turns.push((first.clone(), payload));
        self.sessions.insert(session, InTurn { first, until });
        ready
    }

    /// The sessions of a stretch, in order of their first fragments.
    fn one_after_another(&mut self) -> Vec<T> {
        self.sessions.clear();
        let mut stretch = std::mem::take(&mut self.turns);
        // Stable: within a session the order stays.
        stretch.sort_by(|(a, _), (b, _)| a.cmp(b));
        stretch.into_iter().map(|(_, payload)| payload).collect()
    }

    /// Gives back the rest.
    pub fn finish(&mut self) -> Vec<T> {
        let mut rest = Vec::new();
        for (fragment, payload) in std::mem::take(&mut self.waiting).into_values() {
            rest.extend(self.take(&fragment, payload));
        }
        rest.extend(self.one_after_another());
        rest
    }
}

/// Puts chunks (or stretches of them), given in order of the producer's clock, into the order of an output that this
/// clock orders: the same, except that sessions which overlap follow each other in order of ingestion.
///
/// Memory grows with the longest stretch in which sessions overlap, not with the number of chunks.
#[derive(Debug)]
pub struct MergeOrder<T> {
    sessions: Sessions,
    /// How long a session may be silent and still go on, in milliseconds.
    tolerance_ms: i64,
    /// Chunks that overlap each other so far: session, span, payload.
    cluster: Vec<(usize, ChunkSpan, T)>,
}

impl<T> MergeOrder<T> {
    /// Begins an output; `tolerance_ms` is how much time between two fragments is still no gap.
    pub fn new(tolerance_ms: i64) -> Self {
        Self { sessions: Sessions::default(), tolerance_ms, cluster: Vec::new() }
    }

    /// Takes the next chunk and gives back those whose place is now certain.
    pub fn push(&mut self, span: ChunkSpan, payload: T) -> Vec<T> {
        let label = self.sessions.assign(&span.span(), self.tolerance_ms);
        let goes_on = self.cluster.iter().any(|(of, ..)| *of == label);
        // A chunk that goes on with a session of the cluster ends the cluster only when no other session may still go
        // on: overlaps of the next fragment can be less than the slack, and sessions pause.
        let reaches = |earlier: &ChunkSpan| earlier.end + self.tolerance_ms > span.start;
        let touches = self.cluster.iter().any(|(other, earlier, _)| {
            *other != label && (overlap(&earlier.span(), &span.span()) || (goes_on && reaches(earlier)))
        });
        let ready = if touches { Vec::new() } else { self.finish() };
        self.cluster.push((label, span, payload));
        ready
    }

    /// Gives back the rest.
    pub fn finish(&mut self) -> Vec<T> {
        let mut by_session: BTreeMap<usize, Vec<(ChunkSpan, T)>> = BTreeMap::new();
        for (label, span, payload) in self.cluster.drain(..) {
            by_session.entry(label).or_default().push((span, payload));
        }
        let mut sessions: Vec<_> = by_session.into_values().collect();
        sessions.sort_by(|a, b| {
            let first =
                |session: &[(ChunkSpan, T)]| session.iter().map(|(span, _)| span.first_number.clone()).min();
            first(a).cmp(&first(b))
        });
        sessions.into_iter().flatten().map(|(_, payload)| payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::two_seconds as fragment;
    use super::*;

    fn order(chunks: &[(u64, i64, i64)]) -> Vec<u64> {
        let mut order = MergeOrder::new(500);
        let mut output = Vec::new();
        for (number, start, end) in chunks {
            let fragment = Fragment {
                number: FragmentNumber::parse(&number.to_string()).expect("number"),
                producer: UtcMillis::new(*start),
                server: UtcMillis::new(*start),
                length_ms: u32::try_from(end - start).expect("length"),
                size_bytes: 1,
            };
            let fragment = (&fragment, UtcMillis::new(*start));
            let span = ChunkSpan::of(fragment, fragment);
            output.extend(order.push(span, *number));
        }
        output.extend(order.finish());
        output
    }

    #[test]
    fn fragments_follow_each_other_when_number_and_time_go_on_and_they_do_not_overlap() {
        let follows = |a: (u64, i64), b: (u64, i64)| {
            let of = |(number, start)| (fragment(number, start, 0), UtcMillis::new(start));
            let (a, b) = (of(a), of(b));
            follows((&a.0, a.1), (&b.0, b.1))
        };
        assert!(follows((1, 0), (2, 1_990)) && follows((1, 0), (9, 90_000)));
        assert!(!follows((1, 0), (11, 3)) && !follows((2, 0), (1, 2_000)) && !follows((1, 2_000), (2, 0)));
    }

    /// The numbers of fragments (number, producer, server), told in that order, in the order of ingestion.
    fn ingested(listed: &[(u64, i64, i64)]) -> Vec<u64> {
        let mut order = IngestionOrder::new(1_000);
        let mut output = Vec::new();
        for (number, producer, server) in listed {
            output.extend(order.push(&fragment(*number, *producer, *server), *number));
            assert!(order.waiting.len() <= 11, "it holds no more than it needs");
        }
        output.extend(order.finish());
        output
    }

    #[test]
    fn server_timestamps_that_hop_do_not_change_the_order_of_ingestion() {
        let hops =
            [(2, 2_000, 1_000), (1, 0, 1_003), (4, 6_000, 5_000), (3, 4_000, 9_000), (5, 8_000, 23_000)];
        assert_eq!(ingested(&hops), [1, 2, 3, 4, 5]);
        let steady: Vec<_> = (0..1_000)
            .map(|number| {
                let at = 2_000 * i64::try_from(number).expect("few");
                (number, at, at)
            })
            .collect();
        assert_eq!(ingested(&steady), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn sessions_that_come_in_turns_follow_each_other() {
        // Older footage is sent while the camera records.
        let live = |number: u64, at: i64| (number, 100_000 + at, 100_200 + at);
        let turns = [
            live(1, 0),
            (2, 50_000, 101_500),
            live(3, 2_000),
            (4, 52_000, 103_500),
            live(5, 4_000),
            (6, 54_000, 105_500),
            live(7, 6_000),
            live(8, 8_000),
            live(9, 10_000),
        ];
        assert_eq!(ingested(&turns), [1, 3, 5, 7, 8, 2, 4, 6, 9]);
    }

    #[test]
    fn a_camera_that_starts_without_a_clock_keeps_its_place() {
        let rebooted = [
            (1, 0, 200),
            (2, 2_000, 2_200),
            (3, -900_000_000, 60_300),
            (4, -899_998_000, 62_300),
            (5, 64_000, 64_200),
            (6, 66_000, 66_200),
        ];
        assert_eq!(ingested(&rebooted), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn chunks_that_do_not_overlap_keep_the_order_of_time() {
        assert_eq!(order(&[(1, 0, 2_000), (9, 2_000, 4_000), (2, 4_000, 6_000)]), [1, 9, 2]);
    }

    #[test]
    fn interleaved_sessions_follow_each_other_in_order_of_ingestion() {
        let interleaved = [
            (1, 0, 2_000),
            (11, 700, 2_700),
            (2, 2_000, 4_000),
            (12, 2_700, 4_700),
            (3, 4_000, 6_000),
            (13, 9_000, 11_000),
        ];
        assert_eq!(order(&interleaved), [1, 2, 3, 11, 12, 13]);
    }

    #[test]
    fn a_session_that_pauses_shortly_is_not_over() {
        let interleaved = [
            (1, 0, 900),
            (11, 270, 1_090),
            (2, 900, 1_870),
            (12, 1_090, 1_970),
            (13, 1_970, 2_930),
            (3, 2_080, 3_070),
        ];
        assert_eq!(order(&interleaved), [1, 2, 3, 11, 12, 13]);
    }

    #[test]
    fn a_third_session_that_overlaps_the_second_does_not_continue_the_first() {
        let restarted = [
            (1, 0, 9_000),
            (2, 9_000, 18_000),
            (11, 16_000, 25_000),
            (12, 25_000, 34_000),
            (13, 34_000, 43_000),
            (21, 36_000, 45_000),
            (22, 45_000, 54_000),
        ];
        assert_eq!(order(&restarted), [1, 2, 11, 12, 13, 21, 22]);
    }

    #[test]
    fn sessions_whose_starts_are_close_together_follow_each_other_too() {
        let interleaved = [
            (1, 0, 1_750),
            (11, 240, 1_990),
            (2, 1_750, 3_460),
            (12, 1_990, 3_660),
            (3, 3_460, 5_090),
            (13, 3_660, 5_550),
        ];
        assert_eq!(order(&interleaved), [1, 2, 3, 11, 12, 13]);
    }
}
