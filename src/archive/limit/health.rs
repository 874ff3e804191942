//! Whether the service answers for a stream: what failures cost, when the stream is paused and when it goes on.
//!
//! ```text
//!             failures, none answered for AWAY_AFTER,
//!             or a call out of attempts                    evidence: the service is away, or several
//!                      ┌──────────────► in doubt ──────────────► calls fail and none succeeds ─┐
//!   healthy ───────────┤                   │ evidence: it answers; the one call's own failures  │
//!      ▲               └─ throttles for THROTTLED_AFTER ───────────────────────────────────┐    │
//!      │                                   ▼                                               ▼    ▼
//!      └────── an answer to what failed ───┴──────────────────────────────────────────── paused ──► given up
//!                                                                    a probe every PROBE_INTERVAL    after `outage`
//! ```
//!
//! Failures are charged on trial. An answer of the stream shows that the service was there: they stand. A pause
//! shows the opposite: they are given back. Pure: the time is a parameter.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::{AWAY_AFTER, FORGOTTEN_AFTER, PROBE_INTERVAL, THROTTLED_AFTER};
use crate::model::event::PauseReason;

/// A call, from its first request to its end.
pub(super) type CallId = u64;

/// What a failure means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Verdict {
    /// It cost an attempt; so many are spent.
    Counted(u32),
    /// It is the only call that fails: so many attempts are spent, and the next is to wait for `APART_INTERVAL`.
    Apart(u32),
    /// It cost nothing.
    Free,
    /// Whether it costs something depends on whether the service answers at all: ask it.
    Doubt,
    /// The service was away, or throttled, for too long.
    GivenUp,
}

/// Whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// As the only one, to see whether the service is back.
    Probe,
    Closed(Duration),
    /// A probe is on its way.
    Probing,
    GivenUp,
}

/// Which part of the service a request goes to. An answer of one shows nothing of those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plane {
    Control,
    Listing,
    Clip,
}

/// What the user should be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Paused(PauseReason),
    Resumed,
}

/// A request that failed in passing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) call: CallId,
    pub(super) plane: Plane,
    pub(super) reason: PauseReason,
    pub(super) was_probe: bool,
    /// Since when its turn was waited for.
    pub(super) asked: Instant,
    /// What the call may spend.
    pub(super) attempts: u32,
}

/// The attempts of one call.
#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    confirmed: u32,
    on_trial: u32,
    /// Whether its attempts come `APART_INTERVAL` apart, for it fails alone.
    is_apart: bool,
}

/// Failures since the last answer.
#[derive(Debug)]
struct Streak {
    since: Instant,
    last: Instant,
    /// The calls that failed in it and are not given up.
    failing: BTreeMap<CallId, Plane>,
}

impl Streak {
    fn begin(now: Instant) -> Self {
        Self { since: now, last: now, failing: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    reason: PauseReason,
    since: Instant,
    next_probe: Instant,
    probing: bool,
    given_up: Option<Instant>,
}

/// What the answers for one stream say of the service.
#[derive(Debug)]
pub(super) struct Health {
    outage: Duration,
    spent: HashMap<CallId, Spent>,
    streak: Option<Streak>,
    pause: Option<Pause>,
    answered: Option<Instant>,
    /// The words of the last failure, for the calls that give up without one of their own.
    pub(super) last_error: String,
    news: Option<News>,
}

impl Health {
    pub(super) fn new(outage: Duration) -> Self {
        Self {
            outage,
            spent: HashMap::new(),
            streak: None,
            pause: None,
            answered: None,
            last_error: String::new(),
            news: None,
        }
    }

    /// What happened since this was last asked.
    pub(super) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Attempts that a call has used up.
    pub(super) fn spent(&self, call: CallId) -> u32 {
        self.spent.get(&call).map_or(0, |spent| spent.confirmed + spent.on_trial)
    }

    /// Forgets a call that has ended.
    pub(super) fn end(&mut self, call: CallId) {
        self.spent.remove(&call);
        if let Some(streak) = &mut self.streak {
            streak.failing.remove(&call);
            if streak.failing.is_empty() && self.pause.is_none() {
                self.streak = None;
            }
        }
    }

    /// Since when no request was answered.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.streak.as_ref().map(|streak| streak.since)
    }

    /// When a request was last answered.
    pub(super) fn last_answer(&self) -> Option<Instant> {
        self.answered
    }

    /// Whether a call that began at `begun` may send a request.
    pub(super) fn gate(&self, begun: Instant, now: Instant) -> Gate {
        match &self.pause {
            None => Gate::Open,
            Some(pause) if pause.given_up.is_some_and(|at| at >= begun) => Gate::GivenUp,
            Some(pause) if pause.probing => Gate::Probing,
            Some(pause) if now < pause.next_probe => Gate::Closed(pause.next_probe - now),
            Some(_) => Gate::Probe,
        }
    }

    /// A request goes out as the probe.
    pub(super) fn begin_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
        }
    }

    /// The probe ended without saying anything: it was cancelled.
    pub(super) fn drop_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = false;
        }
    }

    /// The service answered a request of the stream: with what was asked, or with a reason why not.
    pub(super) fn answer(&mut self, plane: Plane, was_probe: bool, now: Instant) {
        self.answered = Some(now);
        let failing = self.streak.as_ref().and_then(|streak| streak.failing.values().max());
        if failing.is_some_and(|failing| *failing > plane) {
            if was_probe {
                // What it was asked for can be tried now.
                self.drop_probe();
            }
            return;
        }
        for spent in self.spent.values_mut() {
            spent.confirmed += std::mem::take(&mut spent.on_trial);
        }
        self.streak = None;
        if self.pause.take().is_some() {
            self.news = Some(News::Resumed);
        }
    }

    /// A request failed in passing.
    pub(super) fn failure(
        &mut self,
        Failure { call, plane, reason, was_probe, asked, attempts }: Failure,
        now: Instant,
    ) -> Verdict {
        let streak = self.streak.get_or_insert_with(|| Streak::begin(now));
        if asked.saturating_duration_since(streak.last) > FORGOTTEN_AFTER {
            // Nobody has asked for so long: nothing tells what the service did meanwhile.
            *streak = Streak::begin(now);
            if let Some(pause) = self.pause.as_mut().filter(|pause| pause.given_up.is_none()) {
                pause.since = now;
            }
        }
        streak.last = now;
        streak.failing.insert(call, plane);
        let lasting = now - streak.since;
        if let Some(pause) = &mut self.pause {
            pause.reason = reason;
            if now - pause.since >= self.outage {
                // Whoever comes later may try once more.
                pause.given_up = Some(now);
                pause.probing = false;
                pause.next_probe = now + PROBE_INTERVAL.min(self.outage);
                return Verdict::GivenUp;
            }
            if was_probe {
                pause.probing = false;
                pause.next_probe = next_probe(pause.since, self.outage, now);
                self.news = Some(News::Paused(reason));
            }
            return if was_probe && reason == PauseReason::Away { Verdict::Doubt } else { Verdict::Free };
        }
        match reason {
            PauseReason::Throttled => {
                if lasting >= THROTTLED_AFTER {
                    self.pause(reason, now);
                }
                Verdict::Free
            }
            PauseReason::Away => {
                let spent = self.spent.entry(call).or_default();
                spent.on_trial += 1;
                let spent = spent.confirmed + spent.on_trial;
                if lasting >= AWAY_AFTER || spent >= attempts {
                    Verdict::Doubt
                } else {
                    Verdict::Counted(spent)
                }
            }
        }
    }

    /// What the doubt about `call`'s failure has come to: whether the service answers other requests.
    pub(super) fn settle(&mut self, call: CallId, answers: bool, now: Instant) -> Verdict {
        let Some(streak) = &mut self.streak else {
            // Another call was answered meanwhile; what was on trial stands.
            return Verdict::Counted(self.spent(call));
        };
        let is_alone = streak.failing.len() < 2;
        if self.pause.is_some() {
            if !answers {
                return Verdict::Free;
            }
            // The service is there: its probes count, or a few bad chunks would hold the stream up until the outage
            // is over.
            let spent = self.spent.entry(call).or_default();
            spent.confirmed += 1;
            return Verdict::Counted(spent.confirmed + spent.on_trial);
        }
        if answers && is_alone {
            // The fault is the call's own, or its API's. The first attempts came too fast to tell: they are one, and
            // then there is time between them.
            let spent = self.spent.entry(call).or_default();
            let on_trial = std::mem::take(&mut spent.on_trial);
            let is_over = now - streak.since >= self.outage;
            if is_over || streak.failing.get(&call) == Some(&Plane::Control) {
                spent.confirmed += on_trial;
                return Verdict::Counted(spent.confirmed);
            }
            spent.confirmed += if std::mem::replace(&mut spent.is_apart, true) { on_trial } else { 1 };
            return Verdict::Apart(spent.confirmed);
        }
        // The service is away, or this API may be: no call pays for what all suffer.
        self.pause(PauseReason::Away, now);
        Verdict::Free
    }

    fn pause(&mut self, reason: PauseReason, now: Instant) {
        for spent in self.spent.values_mut() {
            spent.on_trial = 0;
        }
        let since = self.streak.as_ref().map_or(now, |streak| streak.since);
        let next_probe = next_probe(since, self.outage, now);
        self.pause = Some(Pause { reason, since, next_probe, probing: false, given_up: None });
        self.news = Some(News::Paused(reason));
    }
}

/// When to try a stream again that is paused since `since`: the last time when its outage is over.
fn next_probe(since: Instant, outage: Duration, now: Instant) -> Instant {
    now + PROBE_INTERVAL.min((since + outage).saturating_duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTAGE: Duration = Duration::from_mins(30);

    struct Scene {
        health: Health,
        begin: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { health: Health::new(OUTAGE), begin: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begin + Duration::from_secs(seconds)
        }

        fn away(&mut self, call: CallId, seconds: u64, probe: bool) -> Verdict {
            self.fails(call, Plane::Clip, PauseReason::Away, (seconds, probe))
        }

        fn fails(&mut self, call: CallId, plane: Plane, reason: PauseReason, at: (u64, bool)) -> Verdict {
            let now = self.at(at.0);
            self.health
                .failure(Failure { call, plane, reason, was_probe: at.1, asked: now, attempts: 8 }, now)
        }

        fn answer(&mut self, plane: Plane, seconds: u64) {
            let at = self.at(seconds);
            self.health.answer(plane, true, at);
        }

        fn settle(&mut self, call: CallId, answers: bool, seconds: u64) -> Verdict {
            let at = self.at(seconds);
            self.health.settle(call, answers, at)
        }

        fn gate(&self, seconds: u64) -> Gate {
            self.health.gate(self.begin, self.at(seconds))
        }
    }

    #[test]
    fn failures_stand_when_another_request_of_the_stream_is_answered() {
        let mut scene = Scene::new();
        for second in 0..3 {
            assert_eq!(
                scene.away(1, second, false),
                Verdict::Counted(u32::try_from(second).expect("small") + 1)
            );
            scene.answer(Plane::Clip, second);
        }
        assert_eq!(scene.gate(3), Gate::Open);
        assert_eq!(scene.health.spent(1), 3);
    }

    #[test]
    fn an_outage_gives_back_what_its_first_failures_cost() {
        let mut scene = Scene::new();
        for call in 1..=8 {
            assert_eq!(scene.away(call, 0, false), Verdict::Counted(1));
            assert_eq!(scene.away(call, 2, false), Verdict::Counted(2));
        }
        assert_eq!(scene.away(1, 5, false), Verdict::Doubt);
        assert_eq!(scene.settle(1, false, 6), Verdict::Free);
        assert!((1..=8).all(|call| scene.health.spent(call) == 0));
        assert_eq!(scene.health.take_news(), Some(News::Paused(PauseReason::Away)));
        assert_eq!(scene.gate(6), Gate::Closed(PROBE_INTERVAL));
        assert_eq!(scene.gate(20), Gate::Closed(Duration::from_secs(1)));
        assert_eq!(scene.gate(21), Gate::Probe);
        scene.health.begin_probe();
        assert_eq!(scene.gate(21), Gate::Probing, "one at a time");
        assert_eq!(scene.away(2, 21, true), Verdict::Doubt);
        assert_eq!(scene.settle(2, false, 21), Verdict::Free);
        assert_eq!(scene.gate(36), Gate::Probe);
        scene.answer(Plane::Clip, 36);
        assert_eq!((scene.gate(36), scene.health.take_news()), (Gate::Open, Some(News::Resumed)));
        assert!((1..=8).all(|call| scene.health.spent(call) == 0));
    }

    #[test]
    fn a_request_that_takes_long_to_fail_goes_on_with_its_streak() {
        let mut scene = Scene::new();
        assert_eq!(scene.away(1, 0, false), Verdict::Counted(1));
        // Asked for at once, over a slow line that something cuts after eleven minutes.
        let (asked, now) = (scene.at(1), scene.at(660));
        let (plane, reason) = (Plane::Clip, PauseReason::Away);
        let failure = Failure { call: 1, plane, reason, was_probe: false, asked, attempts: 8 };
        assert_eq!(scene.health.failure(failure, now), Verdict::Doubt);
        assert_eq!(scene.settle(1, true, 660), Verdict::Apart(1));
    }

    #[test]
    fn an_answer_that_is_not_the_probes_leaves_the_probe_alone() {
        let mut scene = Scene::new();
        scene.away(1, 0, false);
        scene.away(1, 5, false);
        scene.settle(1, false, 5);
        assert_eq!(scene.gate(20), Gate::Probe);
        scene.health.begin_probe();
        scene.health.answer(Plane::Listing, false, scene.at(21));
        assert_eq!(scene.gate(21), Gate::Probing);
    }

    #[test]
    fn what_was_spent_before_an_outage_stays_spent() {
        let mut scene = Scene::new();
        assert_eq!(scene.away(1, 0, false), Verdict::Counted(1));
        scene.answer(Plane::Clip, 1);
        assert_eq!(scene.away(1, 2, false), Verdict::Counted(2));
        assert_eq!(scene.away(1, 7, false), Verdict::Doubt);
        assert_eq!(scene.settle(1, false, 7), Verdict::Free);
        assert_eq!(scene.health.spent(1), 1);
    }

    #[test]
    fn the_last_chunk_that_always_fails_pays_when_the_service_answers_something_else() {
        let mut scene = Scene::new();
        for failure in 1..8 {
            assert_eq!(scene.away(1, 0, false), Verdict::Counted(failure));
        }
        assert_eq!(scene.away(1, 1, false), Verdict::Doubt);
        assert_eq!(scene.settle(1, true, 1), Verdict::Apart(1), "they came too fast to tell");
        for spent in 2..=8_u32 {
            let second = 20 * u64::from(spent);
            assert_eq!(scene.away(1, second, false), Verdict::Doubt);
            assert_eq!(scene.settle(1, true, second), Verdict::Apart(spent));
            assert_eq!(scene.gate(second), Gate::Open, "nobody else has to wait");
        }
    }

    #[test]
    fn a_call_of_the_control_plane_that_fails_alone_pays_at_once() {
        let mut scene = Scene::new();
        for failure in 1..8 {
            let verdict = scene.fails(1, Plane::Control, PauseReason::Away, (0, false));
            assert_eq!(verdict, Verdict::Counted(failure));
        }
        assert_eq!(scene.fails(1, Plane::Control, PauseReason::Away, (1, false)), Verdict::Doubt);
        assert_eq!(scene.settle(1, true, 1), Verdict::Counted(8));
    }

    #[test]
    fn that_listings_answer_does_not_make_clips_pay_for_a_service_that_gives_none() {
        let mut scene = Scene::new();
        for second in 0..5 {
            assert!(matches!(scene.away(1, second, false), Verdict::Counted(_)));
            assert!(matches!(scene.away(2, second, false), Verdict::Counted(_)));
            scene.answer(Plane::Listing, second);
        }
        assert_eq!(scene.away(1, 5, false), Verdict::Doubt);
        assert_eq!(scene.settle(1, true, 5), Verdict::Free);
        assert_eq!((scene.health.spent(1), scene.health.spent(2)), (0, 0));
        scene.answer(Plane::Clip, 6);
        assert_eq!(scene.gate(6), Gate::Open);
    }

    #[test]
    fn a_failure_of_long_ago_is_no_outage() {
        let mut scene = Scene::new();
        let over = OUTAGE.as_secs() * 2;
        // Its call is given up by who made it; nobody asks for anything for an hour.
        assert_eq!(scene.away(1, 0, false), Verdict::Counted(1));
        scene.health.end(1);
        assert_eq!(scene.away(2, over, false), Verdict::Counted(1));
        scene.answer(Plane::Clip, over);
        // The same where the stream was paused meanwhile.
        scene.away(3, over, false);
        scene.away(3, over + 5, false);
        scene.settle(3, false, over + 5);
        scene.health.end(3);
        scene.health.begin_probe();
        assert_eq!(scene.away(4, 2 * over, true), Verdict::Doubt, "not given up");
    }

    #[test]
    fn when_several_calls_fail_and_none_succeeds_only_probes_cost() {
        let mut scene = Scene::new();
        assert_eq!(scene.away(1, 0, false), Verdict::Counted(1));
        assert_eq!(scene.away(2, 0, false), Verdict::Counted(1));
        assert_eq!(scene.away(1, 5, false), Verdict::Doubt);
        assert_eq!(scene.settle(1, true, 5), Verdict::Free);
        assert_eq!((scene.health.spent(1), scene.health.spent(2)), (0, 0));
        for probe in 1..=8_u32 {
            let second = 5 + 15 * u64::from(probe);
            assert_eq!(scene.gate(second), Gate::Probe);
            scene.health.begin_probe();
            assert_eq!(scene.away(2, second, true), Verdict::Doubt);
            assert_eq!(scene.settle(2, true, second), Verdict::Counted(probe));
        }
        assert_eq!(scene.health.spent(1), 0);
    }

    #[test]
    fn throttles_cost_nothing_and_pause_the_stream_only_when_they_last() {
        let mut scene = Scene::new();
        for second in 0..20 {
            let verdict = scene.fails(1, Plane::Clip, PauseReason::Throttled, (second, false));
            assert_eq!((verdict, scene.gate(second)), (Verdict::Free, Gate::Open));
        }
        assert_eq!(scene.fails(1, Plane::Clip, PauseReason::Throttled, (20, false)), Verdict::Free);
        assert_eq!(scene.health.take_news(), Some(News::Paused(PauseReason::Throttled)));
        assert_eq!(scene.gate(34), Gate::Closed(Duration::from_secs(1)));
        assert_eq!(scene.health.spent(1), 0);
    }

    #[test]
    fn after_the_outage_those_who_waited_give_up_and_who_comes_later_may_try_once_more() {
        let mut scene = Scene::new();
        scene.away(1, 0, false);
        scene.away(1, 5, false);
        scene.settle(1, false, 5);
        let over = OUTAGE.as_secs();
        for second in (20..over).step_by(15) {
            scene.health.begin_probe();
            assert_eq!(scene.away(1, second, true), Verdict::Doubt);
            assert_eq!(scene.settle(1, false, second), Verdict::Free);
        }
        scene.health.begin_probe();
        assert_eq!(scene.away(1, over, true), Verdict::GivenUp);
        assert_eq!(scene.gate(over), Gate::GivenUp);
        let later = scene.at(over + 1);
        assert_eq!(scene.health.gate(later, later), Gate::Closed(Duration::from_secs(14)));
        assert_eq!(scene.health.gate(later, scene.at(over + 15)), Gate::Probe);
    }

    #[test]
    fn that_the_control_plane_answers_does_not_show_that_clips_can_be_had() {
        let mut scene = Scene::new();
        for call in 1..=2 {
            assert_eq!(scene.away(call, 0, false), Verdict::Counted(1));
        }
        scene.answer(Plane::Control, 1);
        assert_eq!(scene.away(1, 5, false), Verdict::Doubt);
        scene.settle(1, false, 5);
        assert_eq!((scene.health.spent(1), scene.health.spent(2)), (0, 0));
        assert_eq!(scene.gate(20), Gate::Probe);
        scene.health.begin_probe();
        scene.answer(Plane::Control, 20);
        assert_eq!(scene.gate(20), Gate::Probe, "the clip itself is the probe");
    }

    #[test]
    fn a_probe_that_is_cancelled_leaves_its_turn_to_the_next() {
        let mut scene = Scene::new();
        scene.away(1, 0, false);
        scene.away(1, 5, false);
        scene.settle(1, false, 5);
        scene.health.begin_probe();
        scene.health.drop_probe();
        assert_eq!(scene.gate(20), Gate::Probe);
    }
}
