//! What holds a run up: streams that are throttled or get no answer, a disk without room. Pure.
//!
//! A night of throttles pauses and resumes streams thousands of times. What is told is the condition: once when
//! it begins and once when it is over, however many streams it has and however often each comes and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Level, Line};
use super::units::{bytes, counted, duration};
use crate::model::event::PauseReason;

/// A condition is over when no stream has been in it for so long.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// So long after a throttle its stream is slowed down: about what the pace needs to regain what it gave up.
const SLOWED_FOR: Duration = Duration::from_secs(15);

/// Streams that are named; of more, the number is told.
const NAMED: usize = 3;

/// A stream whose requests wait.
#[derive(Debug)]
struct Pause {
    reason: PauseReason,
    next_try: Duration,
}

/// A condition from its begin until it is over.
#[derive(Debug)]
struct Episode {
    since: Duration,
    /// When the last stream left it; none is in it since.
    left: Option<Duration>,
}

/// A disk without room.
#[derive(Debug)]
struct Disk {
    since: Duration,
    free: u64,
    needed: u64,
}

/// Everything that holds the run up now.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// How long the run waits for a service that is away.
    pub(super) outage: Option<Duration>,
    paused: BTreeMap<String, Pause>,
    /// When each stream was last throttled.
    slowed: BTreeMap<String, Duration>,
    throttled: Option<Episode>,
    away: Option<Episode>,
    disk: Option<Disk>,
}

impl Trouble {
    /// A request for a stream was throttled; others may get through.
    pub(super) fn slowed(&mut self, stream: &str, now: Duration) {
        match self.slowed.get_mut(stream) {
            Some(last) => *last = now,
            None => drop(self.slowed.insert(stream.to_owned(), now)),
        }
    }

    /// A stream's requests wait, or wait again.
    pub(super) fn paused(
        &mut self,
        stream: &str,
        reason: PauseReason,
        retry: Duration,
        now: Duration,
    ) -> Option<Line> {
        let next_try = now.saturating_add(retry);
        self.paused.insert(stream.to_owned(), Pause { reason, next_try });
        // A stream that was in the other condition has left it.
        self.mark_left(now);
        if let Some(episode) = self.episode(reason) {
            episode.left = None;
            return None;
        }
        *self.episode_mut(reason) = Some(Episode { since: now, left: None });
        let next = when(next_try, now);
        Some(match reason {
            PauseReason::Throttled => milestone(format!("{stream}: throttled by the service, {next}")),
            PauseReason::Away => {
                warning(format!("{stream}: no answer from the service, {next}{}", self.patience()))
            }
        })
    }

    /// A stream answers again, or is given up.
    pub(super) fn resumed(&mut self, stream: &str, now: Duration) {
        self.paused.remove(stream);
        self.mark_left(now);
    }

    /// The disk has no room.
    pub(super) fn disk_low(&mut self, free: u64, needed: u64, now: Duration) -> Option<Line> {
        let known = self.disk.take();
        let since = known.as_ref().map_or(now, |disk| disk.since);
        self.disk = Some(Disk { since, free, needed });
        known.is_none().then(|| warning(self.disk_text().unwrap_or_default()))
    }

    /// The disk has room again.
    pub(super) fn disk_freed(&mut self, now: Duration) -> Option<Line> {
        let disk = self.disk.take()?;
        let length = duration(whole_seconds(now.saturating_sub(disk.since)));
        Some(warning(format!("disk: there is room again, after {length}; fetching goes on")))
    }

    /// What is over by now.
    pub(super) fn over(&mut self, now: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        for reason in [PauseReason::Throttled, PauseReason::Away] {
            let Some(Episode { since, left: Some(left) }) = self.episode(reason) else { continue };
            if now.saturating_sub(*left) < OVER_AFTER {
                continue;
            }
            let length = duration(whole_seconds(left.saturating_sub(*since)));
            *self.episode_mut(reason) = None;
            lines.push(match reason {
                PauseReason::Throttled => {
                    milestone(format!("no stream is throttled any more, after {length}"))
                }
                PauseReason::Away => warning(format!("the service answers again, after {length}")),
            });
        }
        lines
    }

    /// What holds the run up now, a text for each condition.
    pub(super) fn describe(&self, now: Duration) -> Vec<String> {
        let mut texts = Vec::new();
        let slowed = |(stream, last): &(&String, &Duration)| {
            now.saturating_sub(**last) < SLOWED_FOR && !self.paused.contains_key(*stream)
        };
        let slowed: Vec<&str> =
            self.slowed.iter().filter(slowed).map(|(stream, _)| stream.as_str()).collect();
        if !slowed.is_empty() {
            texts.push(format!("{} throttled, slowed down", of_streams(&slowed)));
        }
        if let Some((streams, next_try)) = self.streams_in(PauseReason::Throttled) {
            texts.push(format!("{} throttled, {}", of_streams(&streams), when(next_try, now)));
        }
        if let (Some((streams, next_try)), Some(episode)) =
            (self.streams_in(PauseReason::Away), self.away.as_ref())
        {
            let length = duration(whole_seconds(now.saturating_sub(episode.since)));
            let (next, patience) = (when(next_try, now), self.patience());
            texts.push(format!("service away for {length} ({}), {next}{patience}", named(&streams)));
        }
        texts.extend(self.disk_text());
        texts
    }

    /// How many streams are throttled, and how many get no answer.
    pub(super) fn counts(&self) -> (u64, u64) {
        let of = |reason| self.paused.values().filter(|pause| pause.reason == reason).count() as u64;
        (of(PauseReason::Throttled), of(PauseReason::Away))
    }

    /// Whether fetching waits for room on the disk.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The streams in a condition, and when the first of them is tried again.
    fn streams_in(&self, reason: PauseReason) -> Option<(Vec<&str>, Duration)> {
        let of = || self.paused.iter().filter(|(_, pause)| pause.reason == reason);
        let next_try = of().map(|(_, pause)| pause.next_try).min()?;
        Some((of().map(|(stream, _)| stream.as_str()).collect(), next_try))
    }

    fn mark_left(&mut self, now: Duration) {
        for reason in [PauseReason::Throttled, PauseReason::Away] {
            let empty = !self.paused.values().any(|pause| pause.reason == reason);
            if let Some(episode) = self.episode_mut(reason).as_mut().filter(|_| empty) {
                episode.left.get_or_insert(now);
            }
        }
    }

    fn episode(&mut self, reason: PauseReason) -> Option<&mut Episode> {
        self.episode_mut(reason).as_mut()
    }

    fn episode_mut(&mut self, reason: PauseReason) -> &mut Option<Episode> {
        match reason {
            PauseReason::Throttled => &mut self.throttled,
            PauseReason::Away => &mut self.away,
        }
    }

    fn patience(&self) -> String {
        match self.outage {
            Some(outage) => format!(", waiting up to {}", duration(outage)),
            None => String::new(),
        }
    }

    fn disk_text(&self) -> Option<String> {
        let Disk { free, needed, .. } = self.disk.as_ref()?;
        let (free, needed) = (bytes(*free), bytes(*needed));
        Some(format!("disk: {free} free, {needed} needed; fetching waits until merges make room"))
    }
}

/// The stream, or how many and which.
fn of_streams(streams: &[&str]) -> String {
    match streams {
        [stream] => (*stream).to_owned(),
        many => format!("{} ({})", counted(many.len() as u64, "stream"), named(many)),
    }
}

fn named(streams: &[&str]) -> String {
    match streams.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", streams[..NAMED].join(", ")),
        _ => streams.join(", "),
    }
}

fn when(next_try: Duration, now: Duration) -> String {
    match next_try.saturating_sub(now) {
        Duration::ZERO => "trying again".to_owned(),
        wait => {
            format!(
                "next try in {}",
                duration(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
            )
        }
    }
}

/// Tenths of a second tell nothing of a pause.
fn whole_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs())
}

fn milestone(text: String) -> Line {
    Line { level: Level::Milestone, text }
}

fn warning(text: String) -> Line {
    Line { level: Level::Warning, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn trouble() -> Trouble {
        Trouble { outage: Some(Duration::from_mins(30)), ..Trouble::default() }
    }

    #[test]
    fn a_storm_over_many_streams_is_told_once_at_its_begin_and_once_at_its_end() {
        let mut trouble = trouble();
        let mut told = Vec::new();
        for second in 0..120 {
            for camera in 0..20 {
                let stream = format!("yard-{camera}");
                if (second + camera) % 3 == 0 {
                    trouble.resumed(&stream, at(second));
                } else {
                    told.extend(trouble.paused(&stream, PauseReason::Throttled, RETRY, at(second)));
                }
            }
            told.extend(trouble.over(at(second)));
        }
        for camera in 0..20 {
            trouble.resumed(&format!("yard-{camera}"), at(120));
        }
        told.extend((120..140).flat_map(|second| trouble.over(at(second))));
        let told: Vec<_> = told.into_iter().map(|line| line.text).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        yard-1: throttled by the service, next try in 15 s
        no stream is throttled any more, after 2 min 0 s
        ");
    }

    #[test]
    fn an_outage_is_told_with_the_patience_that_is_left_to_it() {
        let mut trouble = trouble();
        let mut told = vec![];
        for second in (0..=120).step_by(15) {
            told.extend(trouble.paused("gate", PauseReason::Away, RETRY, at(second)));
        }
        insta::assert_snapshot!(trouble.describe(at(130)).join("\n"), @"service away for 2 min 10 s (gate), next try in 5 s, waiting up to 30 min 0 s");
        trouble.resumed("gate", at(135));
        assert_eq!(trouble.describe(at(136)), [""; 0]);
        assert!(trouble.over(at(136)).is_empty(), "it may come back at once");
        told.extend(trouble.over(at(145)));
        assert!(trouble.over(at(200)).is_empty(), "told once");
        let told: Vec<_> = told.into_iter().map(|line| line.text).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        gate: no answer from the service, next try in 15 s, waiting up to 30 min 0 s
        the service answers again, after 2 min 15 s
        ");
    }

    #[test]
    fn a_throttled_stream_that_gets_no_answer_any_more_is_in_one_condition() {
        let mut trouble = trouble();
        trouble.paused("gate", PauseReason::Throttled, RETRY, at(0));
        trouble.paused("gate", PauseReason::Away, RETRY, at(5));
        assert_eq!(trouble.counts(), (0, 1));
        let over = trouble.over(at(15));
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].text, "no stream is throttled any more, after 5 s");
    }

    #[test]
    fn a_stream_that_is_throttled_now_and_then_is_shown_as_slowed_down_until_it_has_recovered() {
        let mut trouble = trouble();
        trouble.slowed("gate", at(0));
        trouble.slowed("gate", at(10));
        assert_eq!(trouble.describe(at(24)), ["gate throttled, slowed down"]);
        assert_eq!(trouble.describe(at(25)), [""; 0]);
        trouble.slowed("gate", at(30));
        trouble.paused("gate", PauseReason::Throttled, RETRY, at(31));
        assert_eq!(trouble.describe(at(32)), ["gate throttled, next try in 14 s"], "told once");
    }

    #[test]
    fn many_streams_are_counted_and_a_few_named() {
        let mut trouble = trouble();
        for camera in ["a", "b", "c", "d", "e"] {
            trouble.paused(camera, PauseReason::Throttled, RETRY, at(0));
        }
        insta::assert_snapshot!(trouble.describe(at(20)).join("\n"), @"5 streams (a, b, c and 2 more) throttled, trying again");
    }

    #[test]
    fn a_full_disk_is_told_at_its_begin_and_at_its_end() {
        let mut trouble = trouble();
        let mut told = Vec::new();
        told.extend(trouble.disk_low(3_200_000_000, 5_000_000_000, at(0)));
        told.extend(trouble.disk_low(3_100_000_000, 5_000_000_000, at(10)));
        insta::assert_snapshot!(trouble.describe(at(11)).join("\n"), @"disk: 3.1 GB free, 5.0 GB needed; fetching waits until merges make room");
        told.extend(trouble.disk_freed(at(95)));
        told.extend(trouble.disk_freed(at(96)));
        let told: Vec<_> = told.into_iter().map(|line| line.text).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        disk: 3.2 GB free, 5.0 GB needed; fetching waits until merges make room
        disk: there is room again, after 1 min 35 s; fetching goes on
        ");
    }
}
