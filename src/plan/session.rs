//! Producer sessions, told apart where the order of ingestion and the order of time disagree.

use crate::model::{FragmentNumber, UtcMillis};

/// Something with a place in both orders: a fragment, or a chunk of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    /// Number of its first fragment.
    pub(super) first_number: &'a FragmentNumber,
    /// Number of its last fragment.
    pub(super) last_number: &'a FragmentNumber,
    /// Where its media begins, on the media clock.
    pub(super) start: UtcMillis,
    /// Where its media ends as listed.
    pub(super) end: UtcMillis,
    /// By how much a listed end may pass the next start before the two count as overlapping, in milliseconds.
    pub(super) slack_ms: i64,
}

/// The slack of a fragment of that length: camera clocks jitter, and lengths are rounded.
pub(super) fn slack_ms(length_ms: u32) -> i64 {
    (i64::from(length_ms) / 2).min(500)
}

/// Whether `later`, which does not begin before `earlier`, begins before it has ended.
pub(super) fn overlap(earlier: &Span<'_>, later: &Span<'_>) -> bool {
    later.start <= earlier.start || earlier.end - later.start > earlier.slack_ms.min(later.slack_ms)
}

#[derive(Debug)]
struct Last {
    number: FragmentNumber,
    start: UtcMillis,
    end: UtcMillis,
    slack_ms: i64,
}

/// Divides spans, given in order of time, into sessions: runs in which ingestion order and time order agree and
/// no two spans overlap.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The last span of each session.
    sessions: Vec<Last>,
}

impl Sessions {
    /// The session of the next span: the youngest that it can continue, or a new one.
    ///
    /// Where another session goes on meanwhile, one that has been silent for more than `tolerance_ms` is over: the
    /// third of three sessions that follow each other, each begun before the last was over, does not continue the first.
    pub(super) fn assign(&mut self, span: &Span<'_>, tolerance_ms: i64) -> usize {
        let is_alone = !self.sessions.iter().any(|last| last.overlaps(span));
        let goes_on = |last: &Last| last.end + tolerance_ms >= span.start;
        let continued = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, last)| last.number < *span.first_number && !last.overlaps(span))
            .filter(|(_, last)| is_alone || goes_on(last))
            .max_by(|(_, a), (_, b)| a.number.cmp(&b.number))
            .map(|(label, _)| label);
        let last = Last {
            number: span.last_number.clone(),
            start: span.start,
            end: span.end,
            slack_ms: span.slack_ms,
        };
        if let Some(label) = continued {
            self.sessions[label] = last;
            label
        } else {
            self.sessions.push(last);
            self.sessions.len() - 1
        }
    }
}

impl Last {
    fn overlaps(&self, span: &Span<'_>) -> bool {
        let last = Span {
            first_number: &self.number,
            last_number: &self.number,
            start: self.start,
            end: self.end,
            slack_ms: self.slack_ms,
        };
        overlap(&last, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(fragments: &[(u64, i64, i64)]) -> Vec<usize> {
        let mut sessions = Sessions::default();
        fragments
            .iter()
            .map(|(number, start, end)| {
                let number = FragmentNumber::parse(&number.to_string()).expect("number");
                let slack_ms = slack_ms(u32::try_from(end - start).expect("length"));
                let (start, end) = (UtcMillis::new(*start), UtcMillis::new(*end));
                let span = Span { first_number: &number, last_number: &number, start, end, slack_ms };
                sessions.assign(&span, 500)
            })
            .collect()
    }

    #[test]
    fn a_steady_stream_is_one_session_whatever_its_gaps() {
        assert_eq!(
            labels(&[(1, 0, 1_990), (2, 2_000, 4_010), (3, 4_000, 6_000), (4, 90_000, 92_000)]),
            [0; 4]
        );
    }

    #[test]
    fn two_interleaved_producers_are_two_sessions() {
        assert_eq!(
            labels(&[(1, 0, 2_000), (2, 700, 2_700), (3, 2_000, 4_000), (4, 2_700, 4_700)]),
            [0, 1, 0, 1]
        );
    }

    #[test]
    fn media_that_was_ingested_late_is_another_session_than_what_follows_it() {
        assert_eq!(labels(&[(1, 0, 2_000), (8, 2_000, 4_000), (2, 4_000, 6_000)]), [0, 0, 1]);
    }
}
