//! The service's quotas: token buckets of points and of calls.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::api::Api;

/// How much each stream may spend in a second; a bucket holds one second's worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointBudgets {
    /// Points for listing: `MaxResults` for each `ListFragments`, 1 for each fragment of a clip.
    pub metadata: u32,
    /// Points for media: 1 for each fragment of a clip.
    pub media: u32,
    /// Calls of each control-plane API.
    pub control_calls: u32,
}

impl Default for PointBudgets {
    fn default() -> Self {
        Self { metadata: 10_000, media: 500, control_calls: 5 }
    }
}

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// A call of the control plane.
    Call(Api),
    /// A listing with that `MaxResults`.
    Listing(u32),
    /// A clip of so many fragments.
    Clip(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Quota {
    Metadata,
    Media,
    Calls(Api),
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// The buckets of all streams.
#[derive(Debug)]
pub(super) struct Points {
    budgets: Option<PointBudgets>,
    buckets: HashMap<(String, Quota), Bucket>,
}

impl Points {
    /// Full buckets, or no limits at all.
    pub(super) fn new(budgets: Option<PointBudgets>) -> Self {
        Self { budgets, buckets: HashMap::new() }
    }

    /// Spends what a request costs, all of it or nothing; `false`: the stream's quota does not allow it now.
    ///
    /// A request that costs more than its bucket holds is never allowed: whether the service ever allows one
    /// is not documented.
    pub(super) fn spend(&mut self, stream: &str, cost: Cost, now: Instant) -> bool {
        let Some(budgets) = self.budgets else {
            return true;
        };
        let (metadata, media) = ((Quota::Metadata, budgets.metadata), (Quota::Media, budgets.media));
        let charges: &[((Quota, u32), u32)] = match cost {
            Cost::Call(api) => &[((Quota::Calls(api), budgets.control_calls), 1)],
            Cost::Listing(max_results) => &[(metadata, max_results)],
            Cost::Clip(fragments) => &[(metadata, fragments), (media, fragments)],
        };
        let mut enough = true;
        for ((quota, per_second), points) in charges {
            enough &= self.bucket(stream, *quota, *per_second, now).tokens >= f64::from(*points);
        }
        if enough {
            for ((quota, per_second), points) in charges {
                self.bucket(stream, *quota, *per_second, now).tokens -= f64::from(*points);
            }
        }
        enough
    }

    fn bucket(&mut self, stream: &str, quota: Quota, per_second: u32, now: Instant) -> &mut Bucket {
        let capacity = f64::from(per_second);
        let key = (stream.to_owned(), quota);
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: capacity, filled: now });
        let passed: Duration = now.saturating_duration_since(bucket.filled);
        bucket.tokens = (bucket.tokens + passed.as_secs_f64() * capacity).min(capacity);
        bucket.filled = bucket.filled.max(now);
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_one_second_and_fills_evenly() {
        let mut points = Points::new(Some(PointBudgets::default()));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(points.spend("gate", Cost::Clip(200), at(0)));
        assert!(points.spend("gate", Cost::Clip(200), at(0)));
        assert!(!points.spend("gate", Cost::Clip(200), at(0)));
        assert!(points.spend("yard", Cost::Clip(200), at(0)), "each stream has its own");
        assert!(!points.spend("gate", Cost::Clip(200), at(199)));
        assert!(points.spend("gate", Cost::Clip(200), at(201)), "a refusal costs nothing");
        assert!(points.spend("gate", Cost::Clip(200), at(60_000)));
        assert!(points.spend("gate", Cost::Clip(200), at(60_000)));
        assert!(!points.spend("gate", Cost::Clip(200), at(60_000)), "no more than one second is saved up");
    }

    #[test]
    fn listings_cost_what_they_ask_for_and_clips_cost_both_kinds() {
        let mut points = Points::new(Some(PointBudgets::default()));
        let now = Instant::now();
        assert!((0..10).all(|_| points.spend("gate", Cost::Listing(1_000), now)));
        assert!(!points.spend("gate", Cost::Listing(1), now));
        assert!(!points.spend("gate", Cost::Clip(1), now));
        assert!((0..5).all(|_| points.spend("gate", Cost::Call(Api::DescribeStream), now)));
        assert!(!points.spend("gate", Cost::Call(Api::DescribeStream), now));
        assert!(points.spend("gate", Cost::Call(Api::GetDataEndpoint), now));
        assert!(Points::new(None).spend("gate", Cost::Listing(u32::MAX), now));
    }
}
