//! How long exports take where nothing but the quotas and the connections slows them down, and when each has its turn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

/// How fast a run may go.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Metadata points of each stream per second, as much of them as is used.
    pub metadata_points: f64,
    /// Media points of each stream per second, as much of them as is used.
    pub media_points: f64,
    /// Bytes per second over the whole run.
    pub bytes: f64,
    /// Exports under way at a time.
    pub exports: usize,
}

/// What one export asks of the service.
#[derive(Debug, Clone, Copy)]
pub struct Work<S> {
    /// Its stream, which no other stream's exports wait for.
    pub stream: S,
    /// Metadata points: the sizes of the pages listed and the fragments fetched.
    pub metadata_points: u64,
    /// Media points: the fragments fetched.
    pub media_points: u64,
    /// Bytes to fetch.
    pub bytes: u64,
}

/// When an export is under way, in milliseconds from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// When its first request can be sent.
    pub start_ms: u64,
    /// When its last byte can be there.
    pub end_ms: u64,
    /// How long its own requests take, if nothing else goes on.
    pub alone_ms: u64,
}

/// The turns of exports that are taken up in that order.
pub fn turns<S: Copy + Eq + Hash>(rates: Rates, works: impl IntoIterator<Item = Work<S>>) -> Vec<Turn> {
    let mut streams: HashMap<S, u64> = HashMap::new();
    // When those under way end, the first of them on top.
    let mut open: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
    let mut bytes_ms = 0.0;
    let turn = |work: Work<S>| {
        let points_ms = millis(work.metadata_points, rates.metadata_points)
            .max(millis(work.media_points, rates.media_points));
        let own_bytes_ms = millis(work.bytes, rates.bytes);
        bytes_ms += own_bytes_ms;
        let place = if open.len() < rates.exports.max(1) { 0 } else { open.pop().map_or(0, |end| end.0) };
        let free = streams.entry(work.stream).or_default();
        let start_ms = place.max(*free);
        let points_end = start_ms.saturating_add(whole(points_ms));
        *free = points_end;
        let end_ms = points_end.max(whole(bytes_ms));
        open.push(Reverse(end_ms));
        Turn { start_ms, end_ms, alone_ms: whole(points_ms.max(own_bytes_ms)) }
    };
    works.into_iter().map(turn).collect()
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn millis(amount: u64, per_second: f64) -> f64 {
    amount as f64 * 1_000.0 / per_second
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn whole(ms: f64) -> u64 {
    ms.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { metadata_points: 7_000.0, media_points: 350.0, bytes: 1e9, exports: 2 };

    fn work(stream: &str, fragments: u64) -> Work<&str> {
        Work { stream, metadata_points: fragments + 1_000, media_points: fragments, bytes: 1_000 }
    }

    fn spans(rates: Rates, works: &[Work<&str>]) -> Vec<(u64, u64)> {
        turns(rates, works.iter().copied()).iter().map(|turn| (turn.start_ms, turn.end_ms)).collect()
    }

    #[test]
    fn exports_of_one_stream_share_its_points_and_those_of_two_do_not() {
        let works = [work("a", 3_500), work("b", 700), work("a", 350)];
        let wide = Rates { exports: 9, ..RATES };
        assert_eq!(spans(wide, &works), [(0, 10_000), (0, 2_000), (10_000, 11_000)]);
    }

    #[test]
    fn an_export_waits_until_one_before_it_has_ended() {
        let works = [work("a", 3_500), work("b", 700), work("c", 350), work("d", 350)];
        assert_eq!(spans(RATES, &works), [(0, 10_000), (0, 2_000), (2_000, 3_000), (3_000, 4_000)]);
    }

    #[test]
    fn all_exports_share_the_bytes() {
        let works = ["a", "b"].map(|stream| Work { bytes: 5_000_000_000, ..work(stream, 350) });
        assert_eq!(spans(RATES, &works), [(0, 5_000), (0, 10_000)]);
        assert_eq!(turns(RATES, works)[1].alone_ms, 5_000);
    }

    #[test]
    fn listing_costs_time_where_there_is_nothing_to_fetch() {
        let listing = Work { metadata_points: 14_000, media_points: 0, bytes: 0, stream: "a" };
        assert_eq!(spans(RATES, &[listing]), [(0, 2_000)]);
        assert_eq!(spans(RATES, &[]), []);
    }
}
