//! Reckons when media was recorded where the producer's clock is absurd: its distances are right within a session,
//! and the server's clock says where each session stands.
//!
//! Alone, the server's clock would be no measure: after a buffered outage it bunches what was recorded apart.

use std::collections::VecDeque;
use std::sync::Arc;

use super::session::slack_ms;
use crate::model::{Fragment, FragmentNumber, TimestampKind, UtcMillis};

/// Sessions that a fragment may go on with; of older ones nothing comes any more.
const RECENT: usize = 16;

/// The longest that a session's footage is held back between two of its fragments: a day.
const LONGEST_BUFFERED_MS: i64 = 24 * 3_600_000;

/// The sessions of an export, and how much each one's producer clock is behind the server's.
#[derive(Debug, Clone)]
pub struct Reckoning {
    tolerance_ms: i64,
    /// By session: the least that any of its fragments was ingested after its producer timestamp, in milliseconds.
    offsets: Arc<[i64]>,
}

impl Reckoning {
    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.offsets.len()
    }
}

/// First walk over an export's fragments: finds its sessions.
#[derive(Debug)]
pub(super) struct Reckoner {
    walk: Walk,
    offsets: Vec<i64>,
}

impl Reckoner {
    /// Begins; `tolerance_ms` is how much time between two fragments is still no gap.
    pub(super) fn new(tolerance_ms: i64) -> Self {
        Self { walk: Walk::new(tolerance_ms), offsets: Vec::new() }
    }

    /// Takes the next fragment, in the order of the plan.
    pub(super) fn add(&mut self, fragment: &Fragment) {
        let (session, delay) = (self.walk.session(fragment), delay_ms(fragment));
        match self.offsets.get_mut(session) {
            Some(least) => *least = delay.min(*least),
            None => self.offsets.push(delay),
        }
    }

    /// What was found.
    pub(super) fn finish(self) -> Reckoning {
        Reckoning { tolerance_ms: self.walk.tolerance_ms, offsets: self.offsets.into() }
    }
}

/// Says when each fragment begins on the media clock.
///
/// A reckoned clock has to be told the same fragments in the same order as its reckoning.
#[derive(Debug)]
pub struct MediaClock {
    kind: TimestampKind,
    reckoned: Option<(Walk, Arc<[i64]>)>,
}

impl MediaClock {
    /// The clock of that kind; that of the server with the producer's distances where they were reckoned.
    pub fn new(kind: TimestampKind, reckoning: Option<&Reckoning>) -> Self {
        let reckoned = reckoning.filter(|_| kind == TimestampKind::Server);
        let reckoned = reckoned.map(|found| (Walk::new(found.tolerance_ms), Arc::clone(&found.offsets)));
        Self { kind, reckoned }
    }

    /// When the next fragment begins.
    pub fn start(&mut self, fragment: &Fragment) -> UtcMillis {
        let offset = self.reckoned.as_mut().and_then(|(walk, offsets)| {
            let session = walk.session(fragment);
            offsets.get(session).copied()
        });
        offset.map_or_else(|| fragment.start(self.kind), |offset| fragment.producer + offset)
    }
}

/// How much later than its producer timestamp a fragment was ingested.
fn delay_ms(fragment: &Fragment) -> i64 {
    fragment.server - fragment.producer
}

/// Divides fragments, in order of ingestion, into sessions: runs in which the producer's clock goes forward as media does.
#[derive(Debug)]
pub(super) struct Walk {
    tolerance_ms: i64,
    sessions: usize,
    /// The latest of them, the one that went on last at the end.
    recent: VecDeque<Session>,
}

#[derive(Debug)]
struct Session {
    label: usize,
    number: FragmentNumber,
    producer: UtcMillis,
    length_ms: u32,
    delay_ms: i64,
    least_delay_ms: i64,
}

impl Walk {
    pub(super) fn new(tolerance_ms: i64) -> Self {
        Self { tolerance_ms, sessions: 0, recent: VecDeque::new() }
    }

    /// The session of the next fragment: the youngest that it goes on with, or a new one.
    pub(super) fn session(&mut self, fragment: &Fragment) -> usize {
        let tolerance_ms = self.tolerance_ms;
        let goes_on = |session: &Session| session.is_followed_by(fragment, tolerance_ms);
        let numbered = self.recent.iter_mut().enumerate();
        let youngest = numbered
            .filter(|(_, session)| goes_on(session))
            .max_by(|(_, a), (_, b)| a.number.cmp(&b.number))
            .map(|(place, _)| place);
        let delay_ms = delay_ms(fragment);
        if let Some(mut session) = youngest.and_then(|place| self.recent.remove(place)) {
            session.number = fragment.number.clone();
            session.producer = fragment.producer;
            session.length_ms = fragment.length_ms;
            session.delay_ms = delay_ms;
            session.least_delay_ms = session.least_delay_ms.min(delay_ms);
            let label = session.label;
            self.recent.push_back(session);
            return label;
        }
        let label = self.sessions;
        self.sessions += 1;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Session {
            label,
            number: fragment.number.clone(),
            producer: fragment.producer,
            length_ms: fragment.length_ms,
            delay_ms,
            least_delay_ms: delay_ms,
        });
        label
    }
}

impl Session {
    fn is_followed_by(&self, fragment: &Fragment, tolerance_ms: i64) -> bool {
        let distance = fragment.producer - self.producer;
        let pause = distance - i64::from(self.length_ms);
        if self.number >= fragment.number || distance <= 0 || pause < -slack_ms(self.length_ms) {
            return false;
        }
        // A pause is believed unless the clock has jumped: nothing is ingested before it is recorded, and what was
        // recorded later has not been under way for longer.
        let delay_ms = delay_ms(fragment);
        let is_possible =
            delay_ms >= self.least_delay_ms - tolerance_ms && delay_ms <= self.delay_ms + tolerance_ms;
        // Footage of another day that happens to fit is none of this session.
        let is_near = (delay_ms - self.delay_ms).abs() < LONGEST_BUFFERED_MS;
        (pause <= tolerance_ms && is_near) || is_possible
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::two_seconds as fragment;
    use super::*;

    /// When each of these fragments, told by producer and server timestamp, begins; and the number of sessions.
    fn reckoned(listed: &[(i64, i64)]) -> (Vec<i64>, usize) {
        let fragments: Vec<Fragment> = (1..)
            .zip(listed)
            .map(|(number, (producer, server))| fragment(number, *producer, *server))
            .collect();
        let mut reckoner = Reckoner::new(1_000);
        for fragment in &fragments {
            reckoner.add(fragment);
        }
        let reckoning = reckoner.finish();
        let mut clock = MediaClock::new(TimestampKind::Server, Some(&reckoning));
        (fragments.iter().map(|fragment| clock.start(fragment).get()).collect(), reckoning.sessions())
    }

    #[test]
    fn a_burst_keeps_the_distances_of_the_producer() {
        // The third to the sixth wait for 9 s and come within milliseconds.
        let burst = [
            (0, 300),
            (2_000, 2_250),
            (4_000, 13_000),
            (6_000, 13_003),
            (8_000, 13_006),
            (10_000, 13_009),
            (12_000, 13_010),
            (14_000, 14_900),
        ];
        let (starts, sessions) = reckoned(&burst);
        assert_eq!(sessions, 1);
        // The second was delayed least, by 250 ms.
        assert_eq!(starts, (0..8).map(|at| 250 + 2_000 * at).collect::<Vec<_>>());
    }

    #[test]
    fn a_clock_that_begins_anew_is_placed_by_the_server() {
        let restarted = [(0, 100_200), (2_000, 102_300), (0, 160_500), (2_000, 162_400)];
        assert_eq!(reckoned(&restarted), (vec![100_200, 102_200, 160_400, 162_400], 2));
    }

    #[test]
    fn a_pause_within_a_session_is_as_long_as_the_producer_says() {
        let paused = [(0, 200), (2_000, 2_350), (32_000, 32_900), (34_000, 34_250)];
        assert_eq!(reckoned(&paused), (vec![200, 2_200, 32_200, 34_200], 1));
        // Also where all of it is sent late.
        let late = [(0, 200), (2_000, 60_000), (32_000, 60_003), (34_000, 60_006), (60_000, 60_300)];
        assert_eq!(reckoned(&late), (vec![200, 2_200, 32_200, 34_200, 60_200], 1));
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed() {
        // An hour ahead of what the server can have had; and behind it.
        let jumps = [(0, 200), (2_000, 2_200), (3_604_000, 4_200), (3_606_000, 6_200)];
        assert_eq!(reckoned(&jumps), (vec![200, 2_200, 4_200, 6_200], 2));
        let stray = [(0, 200), (2_000, 2_200), (999_000_000, 4_200), (6_000, 6_200)];
        assert_eq!(reckoned(&stray), (vec![200, 2_200, 4_200, 6_200], 2));
    }

    #[test]
    fn a_believed_clock_is_left_alone() {
        let fragment = fragment(1, 5_000, 9_000);
        let mut reckoner = Reckoner::new(1_000);
        reckoner.add(&fragment);
        let reckoning = reckoner.finish();
        let start = |kind, found| MediaClock::new(kind, found).start(&fragment).get();
        assert_eq!(start(TimestampKind::Producer, Some(&reckoning)), 5_000);
        assert_eq!(start(TimestampKind::Server, None), 9_000);
    }
}
