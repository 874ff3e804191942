//! Faults on order: which requests go wrong, when, and how.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{FragmentNumber, UtcMillis};

use super::api::Api;
use super::hash;

/// How a request goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 400 `ClientLimitExceededException`.
    Throttle,
    /// 500 `InternalFailure`.
    InternalFailure,
    /// 503 `ServiceUnavailable`.
    ServiceUnavailable,
    /// 403 `AccessDeniedException`.
    AccessDenied,
    /// Any other error answer.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The code in the error type's header.
        code: String,
        /// The words.
        message: String,
    },
    /// 403 `ExpiredTokenException`, for this request alone.
    ExpiredToken,
    /// The request's credentials expire: they are refused with 403 `ExpiredTokenException` from now on, for
    /// every call, until the client comes with others.
    ExpireCredentials,
    /// The endpoint expires that the request came to: 401 `NotAuthorizedException`, until `GetDataEndpoint` is
    /// asked for a new one. Only for calls of the data plane.
    ExpireEndpoint,
    /// 404 as for a clip without fragments, whatever there is.
    NoFragments,
    /// The last fragments of a clip are left out silently; the first stays.
    ShortClip {
        /// How many are missing.
        missing: usize,
    },
    /// The connection is closed after so many bytes of the body.
    CutBody {
        /// Bytes that still arrive.
        after: u64,
    },
    /// The connection is reset after so many bytes of the body; without a number, before the answer.
    ResetConnection {
        /// Bytes that are still sent (the reset may overtake the last of them).
        after: Option<u64>,
    },
    /// Nothing comes any more after so many bytes of the body, without a number not even a head, until the
    /// client hangs up or the emulator stops.
    Stall {
        /// Bytes that are still sent.
        after: Option<u64>,
    },
    /// The body comes at that pace.
    Slow {
        /// Bytes in a second.
        bytes_per_second: u64,
    },
    /// The service is away: the connection is reset without an answer.
    ///
    /// A rule for any call of any stream that holds all the time, or in its window, closes new connections too,
    /// before a request can be sent on them.
    Away,
    /// 200 with a body that is neither MP4 nor JSON.
    Garbage,
    /// 200 with an empty body.
    EmptyBody,
    /// Clips that hold this fragment: 400 `InvalidMediaFrameException`.
    RefuseFragment(FragmentNumber),
    /// 400 `UnsupportedStreamMediaTypeException`.
    UnsupportedMedia,
    /// Clips whose video claims a codec that nobody knows.
    UnknownCodec,
    /// The fragment is absent from the first listings of a range that holds it.
    ListLate {
        /// The fragment.
        fragment: FragmentNumber,
        /// How many listings (not pages) lack it. The rule's `when` counts such listings too.
        listings: u64,
    },
    /// Retention overtakes the stream: from this request on, what was ingested before `head` is gone.
    RetentionPasses {
        /// The first instant on the service's clock whose media is still there.
        head: UtcMillis,
    },
}

impl Fault {
    /// Its name, as in the log and on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::InternalFailure => "internal",
            Self::ServiceUnavailable => "unavailable",
            Self::AccessDenied => "denied",
            Self::Refuse { .. } => "error",
            Self::ExpiredToken => "expired-token-once",
            Self::ExpireCredentials => "expired-token",
            Self::ExpireEndpoint => "expired-endpoint",
            Self::NoFragments => "no-fragments",
            Self::ShortClip { .. } => "short-clip",
            Self::CutBody { .. } => "short-body",
            Self::ResetConnection { .. } => "reset",
            Self::Stall { .. } => "stall",
            Self::Slow { .. } => "slow",
            Self::Away => "away",
            Self::Garbage => "garbage",
            Self::EmptyBody => "empty",
            Self::RefuseFragment(_) => "bad-fragment",
            Self::UnsupportedMedia => "unsupported-media",
            Self::UnknownCodec => "unknown-codec",
            Self::ListLate { .. } => "late",
            Self::RetentionPasses { .. } => "retention",
        }
    }

    /// Whether requests of that call can suffer it at all; others are not counted by its rule.
    const fn concerns(&self, api: Api) -> bool {
        match self {
            Self::ExpireEndpoint | Self::RetentionPasses { .. } => api.is_data_plane(),
            Self::ShortClip { .. }
            | Self::NoFragments
            | Self::RefuseFragment(_)
            | Self::UnsupportedMedia
            | Self::UnknownCodec => matches!(api, Api::GetClip),
            // Late listings are counted by listing, not by request.
            Self::ListLate { .. } => false,
            _ => true,
        }
    }
}

/// Which of the requests that a rule is for, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum When {
    /// All of them.
    Always,
    /// The nth, from 1.
    Nth(u64),
    /// The first n.
    First(u64),
    /// All after the first n.
    After(u64),
    /// Every nth.
    Every(u64),
    /// That share of them, from 0 to 1; the configuration's seed decides which.
    Rate(f64),
}

impl When {
    /// `draw` is a number from 0 to 1 that belongs to the rule and the count.
    fn holds(self, count: u64, draw: impl FnOnce() -> f64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(n) => count == n,
            Self::First(n) => count <= n,
            Self::After(n) => count > n,
            Self::Every(n) => n > 0 && count.is_multiple_of(n),
            Self::Rate(rate) => draw() < rate,
        }
    }
}

/// A time, `[from, to)` after the emulator's start, on the configuration's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub to: Duration,
}

impl Window {
    fn contains(self, elapsed: Duration) -> bool {
        self.from <= elapsed && elapsed < self.to
    }
}

/// A fault and the requests it befalls.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// Only requests of this call.
    pub api: Option<Api>,
    /// Only requests for this stream.
    pub stream: Option<String>,
    /// Only requests in this time.
    pub during: Option<Window>,
    /// Which of those, counted by this rule alone.
    pub when: When,
    /// What happens to them.
    pub fault: Fault,
}

impl FaultRule {
    /// Every request, of any call on any stream.
    pub fn every_request(fault: Fault) -> Self {
        Self { api: None, stream: None, during: None, when: When::Always, fault }
    }

    /// Every request of one call, on any stream.
    pub fn always(api: Api, fault: Fault) -> Self {
        Self { api: Some(api), ..Self::every_request(fault) }
    }

    /// The nth request of one call, from 1, counted over all streams.
    pub fn nth(api: Api, n: u64, fault: Fault) -> Self {
        Self { when: When::Nth(n), ..Self::always(api, fault) }
    }

    /// The rule for one stream only.
    #[must_use]
    pub fn on_stream(self, stream: impl Into<String>) -> Self {
        Self { stream: Some(stream.into()), ..self }
    }

    /// The rule for a time after the emulator's start only; what is outside of it is not counted.
    #[must_use]
    pub fn during(self, from: Duration, to: Duration) -> Self {
        Self { during: Some(Window { from, to }), ..self }
    }

    fn is_on(&self, elapsed: Duration) -> bool {
        self.during.is_none_or(|window| window.contains(elapsed))
    }

    fn is_for(&self, api: Api, stream: &str) -> bool {
        self.api.is_none_or(|of| of == api) && self.stream.as_deref().is_none_or(|of| of == stream)
    }
}

/// A rule at work.
#[derive(Debug)]
struct Active {
    rule: FaultRule,
    count: AtomicU64,
    /// Where its draws come from.
    seed: u64,
}

impl Active {
    /// Whether the occasion that is the `count`th of this rule is one of its own.
    fn holds(&self, count: u64) -> bool {
        self.rule.when.holds(count, || hash::of(&(self.seed, count)) as f64 / u64::MAX as f64)
    }

    /// Counts one more occasion and says whether it is one of the rule's own.
    fn holds_next(&self) -> bool {
        self.holds(self.count.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// The rules at work.
#[derive(Debug)]
pub(super) struct Faults {
    rules: Vec<Active>,
}

impl Faults {
    pub(super) fn new(rules: Vec<FaultRule>, seed: u64) -> Self {
        let active =
            |(index, rule)| Active { rule, count: AtomicU64::new(0), seed: hash::of(&(seed, index)) };
        Self { rules: rules.into_iter().enumerate().map(active).collect() }
    }

    /// Counts one request, and returns the faults that befall it in the order of their rules.
    ///
    /// `elapsed` is the time since the emulator's start.
    pub(super) fn befall(&self, api: Api, stream: &str, elapsed: Duration) -> Vec<Fault> {
        let concerned = self.rules.iter().filter(|active| {
            let rule = &active.rule;
            rule.fault.concerns(api) && rule.is_for(api, stream) && rule.is_on(elapsed)
        });
        concerned.filter(|active| active.holds_next()).map(|active| active.rule.fault.clone()).collect()
    }

    /// Whether new connections are closed, whatever would be asked on them.
    pub(super) fn is_away(&self, elapsed: Duration) -> bool {
        self.rules.iter().any(|active| {
            let rule = &active.rule;
            let for_all = rule.api.is_none() && rule.stream.is_none() && rule.when == When::Always;
            rule.fault == Fault::Away && for_all && rule.is_on(elapsed)
        })
    }

    /// Whether a listing of `stream` lacks `fragment`; counts the listing if it is its first page.
    pub(super) fn hides(
        &self,
        stream: &str,
        fragment: &FragmentNumber,
        first_page: bool,
        elapsed: Duration,
    ) -> Option<&Fault> {
        let mut hidden = None;
        for active in &self.rules {
            let rule = &active.rule;
            let Fault::ListLate { fragment: late, listings } = &rule.fault else {
                continue;
            };
            if late == fragment && rule.is_for(Api::ListFragments, stream) && rule.is_on(elapsed) {
                let listing = if first_page {
                    active.count.fetch_add(1, Ordering::SeqCst) + 1
                } else {
                    active.count.load(Ordering::SeqCst)
                };
                if listing <= *listings && active.holds(listing) {
                    hidden = Some(&rule.fault);
                }
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn faults(rules: Vec<FaultRule>) -> Faults {
        Faults::new(rules, 7)
    }

    #[test]
    fn a_rule_counts_only_its_own_requests() {
        let rule = FaultRule::nth(Api::GetClip, 2, Fault::Throttle).on_stream("gate");
        let faults = faults(vec![rule, FaultRule::always(Api::ListStreams, Fault::Garbage)]);
        assert!(faults.befall(Api::GetClip, "gate", START).is_empty());
        assert!(faults.befall(Api::GetClip, "yard", START).is_empty());
        assert!(faults.befall(Api::ListFragments, "gate", START).is_empty());
        assert_eq!(faults.befall(Api::GetClip, "gate", START), [Fault::Throttle]);
        assert!(faults.befall(Api::GetClip, "gate", START).is_empty());
        assert_eq!(faults.befall(Api::ListStreams, "", START), [Fault::Garbage]);
    }

    #[test]
    fn occasions_are_counted_from_one() {
        let hit = |when: When| (1..=6).filter(|count| when.holds(*count, || 0.5)).collect::<Vec<u64>>();
        assert_eq!(hit(When::Nth(2)), [2]);
        assert_eq!(hit(When::First(2)), [1, 2]);
        assert_eq!(hit(When::After(4)), [5, 6]);
        assert_eq!(hit(When::Every(3)), [3, 6]);
        assert_eq!(hit(When::Every(0)), Vec::<u64>::new());
        assert_eq!(hit(When::Rate(0.5)), Vec::<u64>::new());
    }

    #[test]
    fn a_rate_befalls_its_share_and_the_same_requests_for_the_same_seed() {
        let hits = |seed, rate| {
            let rule =
                FaultRule { when: When::Rate(rate), ..FaultRule::always(Api::GetClip, Fault::Throttle) };
            let faults = Faults::new(vec![rule.clone(), rule], seed);
            (0..1_000).map(|_| faults.befall(Api::GetClip, "gate", START).len()).collect::<Vec<_>>()
        };
        let of_both: usize = hits(1, 0.2).iter().sum();
        assert!((300..500).contains(&of_both), "{of_both} of 2000");
        assert!(hits(1, 0.2).contains(&1), "two rules draw apart");
        assert_eq!(hits(1, 0.2), hits(1, 0.2));
        assert_ne!(hits(1, 0.2), hits(2, 0.2));
        assert_eq!((hits(1, 0.0).iter().sum::<usize>(), hits(1, 1.0).iter().sum::<usize>()), (0, 2_000));
    }

    #[test]
    fn a_window_is_half_open_and_counts_only_what_comes_in_it() {
        let second = Duration::from_secs;
        let rule = FaultRule::nth(Api::GetClip, 2, Fault::Garbage).during(second(10), second(20));
        let faults = faults(vec![rule]);
        let hit = |at| !faults.befall(Api::GetClip, "gate", at).is_empty();
        assert_eq!([0, 1, 9].map(|at| hit(second(at))), [false; 3]);
        assert_eq!([10, 11, 12, 19].map(|at| hit(second(at))), [false, true, false, false]);
        let away = |rule: FaultRule| {
            let faults = Faults::new(vec![rule.during(second(10), second(20))], 0);
            [9, 10, 19, 20].map(|at| faults.is_away(second(at)))
        };
        assert_eq!(away(FaultRule::every_request(Fault::Away)), [false, true, true, false]);
        assert_eq!(away(FaultRule::every_request(Fault::Away).on_stream("gate")), [false; 4]);
        assert_eq!(away(FaultRule::every_request(Fault::Garbage)), [false; 4]);
    }

    #[test]
    fn a_rule_does_not_count_calls_that_cannot_suffer_its_fault() {
        let rule = |fault| FaultRule { when: When::Nth(1), ..FaultRule::every_request(fault) };
        let faults = faults(vec![rule(Fault::ExpireEndpoint), rule(Fault::ShortClip { missing: 1 })]);
        assert!(faults.befall(Api::GetDataEndpoint, "gate", START).is_empty());
        assert_eq!(faults.befall(Api::ListFragments, "gate", START), [Fault::ExpireEndpoint]);
        assert_eq!(faults.befall(Api::GetClip, "gate", START), [Fault::ShortClip { missing: 1 }]);
    }
}
