//! Faults on order: which requests go wrong, and how.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::FragmentNumber;

use super::api::Api;

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
    /// 403 `ExpiredTokenException`.
    ExpiredToken,
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
        /// How many listings (not pages) lack it.
        listings: u64,
    },
}

/// Which of the requests that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl When {
    const fn holds(self, count: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(n) => count == n,
            Self::First(n) => count <= n,
            Self::After(n) => count > n,
            Self::Every(n) => n > 0 && count.is_multiple_of(n),
        }
    }
}

/// A fault and the requests it befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    /// Only requests of this call.
    pub api: Option<Api>,
    /// Only requests for this stream.
    pub stream: Option<String>,
    /// Which of those, counted by this rule alone.
    pub when: When,
    /// What happens to them.
    pub fault: Fault,
}

impl FaultRule {
    /// Every request of one call, on any stream.
    pub const fn always(api: Api, fault: Fault) -> Self {
        Self { api: Some(api), stream: None, when: When::Always, fault }
    }

    /// The nth request of one call, from 1, counted over all streams.
    pub const fn nth(api: Api, n: u64, fault: Fault) -> Self {
        Self { api: Some(api), stream: None, when: When::Nth(n), fault }
    }

    /// The rule for one stream only.
    #[must_use]
    pub fn on_stream(self, stream: impl Into<String>) -> Self {
        Self { stream: Some(stream.into()), ..self }
    }
}

/// The rules at work.
#[derive(Debug)]
pub(super) struct Faults {
    rules: Vec<(FaultRule, AtomicU64)>,
}

impl Faults {
    pub(super) fn new(rules: Vec<FaultRule>) -> Self {
        Self { rules: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect() }
    }

    /// Counts one request, and returns the faults that befall it in the order of their rules.
    pub(super) fn befall(&self, api: Api, stream: &str) -> Vec<Fault> {
        let concerned = self.rules.iter().filter(|(rule, _)| {
            // Late listings are counted by listing, not by request.
            !matches!(rule.fault, Fault::ListLate { .. })
                && rule.api.is_none_or(|of| of == api)
                && rule.stream.as_deref().is_none_or(|of| of == stream)
        });
        concerned
            .filter(|(rule, count)| rule.when.holds(count.fetch_add(1, Ordering::SeqCst) + 1))
            .map(|(rule, _)| rule.fault.clone())
            .collect()
    }

    /// Whether a listing of `stream` lacks `fragment`; counts the listing if it is its first page.
    pub(super) fn hides(&self, stream: &str, fragment: &FragmentNumber, first_page: bool) -> bool {
        let mut hidden = false;
        for (rule, count) in &self.rules {
            let Fault::ListLate { fragment: late, listings } = &rule.fault else {
                continue;
            };
            if late == fragment && rule.stream.as_deref().is_none_or(|of| of == stream) {
                let listing = if first_page {
                    count.fetch_add(1, Ordering::SeqCst) + 1
                } else {
                    count.load(Ordering::SeqCst)
                };
                hidden |= listing <= *listings;
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_only_its_own_requests() {
        let rule = FaultRule::nth(Api::GetClip, 2, Fault::Throttle).on_stream("gate");
        let faults = Faults::new(vec![rule, FaultRule::always(Api::ListStreams, Fault::Garbage)]);
        assert!(faults.befall(Api::GetClip, "gate").is_empty());
        assert!(faults.befall(Api::GetClip, "yard").is_empty());
        assert!(faults.befall(Api::ListFragments, "gate").is_empty());
        assert_eq!(faults.befall(Api::GetClip, "gate"), [Fault::Throttle]);
        assert!(faults.befall(Api::GetClip, "gate").is_empty());
        assert_eq!(faults.befall(Api::ListStreams, ""), [Fault::Garbage]);
    }

    #[test]
    fn occasions_are_counted_from_one() {
        let hit = |when: When| (1..=6).filter(|count| when.holds(*count)).collect::<Vec<u64>>();
        assert_eq!(hit(When::Nth(2)), [2]);
        assert_eq!(hit(When::First(2)), [1, 2]);
        assert_eq!(hit(When::After(4)), [5, 6]);
        assert_eq!(hit(When::Every(3)), [3, 6]);
        assert_eq!(hit(When::Every(0)), Vec::<u64>::new());
    }
}
