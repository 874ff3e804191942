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

/// Another client that spends the points of the same streams, as a viewer at the console does.
///
/// It asks for [`SecondClient::REQUEST_POINTS`] at a time, evenly in time, and what is refused it does not ask
/// for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondClient {
    /// Its stream; `None`: every stream has one like it.
    pub stream: Option<String>,
    /// Points for media that it asks for in a second.
    pub media: u32,
    /// Points for listing that it asks for in a second.
    pub metadata: u32,
}

impl SecondClient {
    /// Points of each of its requests.
    pub const REQUEST_POINTS: u32 = 25;

    /// How it asks at one bucket, from `now` on.
    fn at(&self, stream: &str, quota: Quota, now: Instant) -> Option<Rival> {
        let per_second = match quota {
            Quota::Media => self.media,
            Quota::Metadata => self.metadata,
            Quota::Calls(_) => 0,
        };
        let is_here = self.stream.as_deref().is_none_or(|of| of == stream);
        (is_here && per_second > 0).then(|| {
            let interval = Duration::from_secs_f64(f64::from(Self::REQUEST_POINTS) / f64::from(per_second));
            Rival { interval, next: now + interval, tally: SecondClientTally::default() }
        })
    }
}

/// What second clients of a stream got, of both kinds of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecondClientTally {
    /// Their requests that were admitted.
    pub served: u64,
    /// Their requests that the quota refused.
    pub refused: u64,
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
    capacity: f64,
    tokens: f64,
    filled: Instant,
    rivals: Vec<Rival>,
}

/// A second client at one bucket.
#[derive(Debug)]
struct Rival {
    interval: Duration,
    next: Instant,
    tally: SecondClientTally,
}

impl Bucket {
    /// Fills up to an instant, which is later than the last or does nothing.
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.capacity).min(self.capacity);
        self.filled = self.filled.max(now);
    }

    /// Lets time pass, in which second clients ask too.
    fn advance(&mut self, now: Instant) {
        let points = f64::from(SecondClient::REQUEST_POINTS);
        loop {
            let due = (0..self.rivals.len()).min_by_key(|at| self.rivals[*at].next);
            let Some(due) = due.filter(|at| self.rivals[*at].next <= now) else { break };
            self.fill(self.rivals[due].next);
            let rival = &mut self.rivals[due];
            rival.next += rival.interval;
            if self.tokens >= points {
                self.tokens -= points;
                rival.tally.served += 1;
            } else {
                rival.tally.refused += 1;
            }
        }
        self.fill(now);
    }
}

/// The buckets of all streams.
#[derive(Debug)]
pub(super) struct Points {
    budgets: Option<PointBudgets>,
    second_clients: Vec<SecondClient>,
    buckets: HashMap<(String, Quota), Bucket>,
}

impl Points {
    /// Full buckets, or no limits at all.
    pub(super) fn new(budgets: Option<PointBudgets>, second_clients: Vec<SecondClient>) -> Self {
        Self { budgets, second_clients, buckets: HashMap::new() }
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
        let second_clients = &self.second_clients;
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket {
            capacity,
            tokens: capacity,
            filled: now,
            rivals: second_clients.iter().filter_map(|client| client.at(stream, quota, now)).collect(),
        });
        bucket.advance(now);
        bucket
    }

    /// What the second clients of a stream got until now.
    pub(super) fn second_client_tally(&mut self, stream: &str, now: Instant) -> SecondClientTally {
        let mut sum = SecondClientTally::default();
        for ((of, _), bucket) in &mut self.buckets {
            if of == stream {
                bucket.advance(now);
                for rival in &bucket.rivals {
                    sum.served += rival.tally.served;
                    sum.refused += rival.tally.refused;
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_one_second_and_fills_evenly() {
        let mut points = Points::new(Some(PointBudgets::default()), Vec::new());
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
        let mut points = Points::new(Some(PointBudgets::default()), Vec::new());
        let now = Instant::now();
        assert!((0..10).all(|_| points.spend("gate", Cost::Listing(1_000), now)));
        assert!(!points.spend("gate", Cost::Listing(1), now));
        assert!(!points.spend("gate", Cost::Clip(1), now));
        assert!((0..5).all(|_| points.spend("gate", Cost::Call(Api::DescribeStream), now)));
        assert!(!points.spend("gate", Cost::Call(Api::DescribeStream), now));
        assert!(points.spend("gate", Cost::Call(Api::GetDataEndpoint), now));
        assert!(Points::new(None, Vec::new()).spend("gate", Cost::Listing(u32::MAX), now));
    }

    #[test]
    fn a_second_client_takes_its_points_and_is_refused_when_there_are_none() {
        let rival = SecondClient { stream: Some("gate".to_owned()), media: 250, metadata: 0 };
        let mut points = Points::new(Some(PointBudgets::default()), vec![rival]);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(points.spend("gate", Cost::Clip(500), at(0)));
        assert!(points.spend("yard", Cost::Clip(500), at(0)));
        // Half of what comes in a second is the other's.
        assert!(!points.spend("gate", Cost::Clip(260), at(1_000)));
        assert!(points.spend("gate", Cost::Clip(240), at(1_000)));
        assert!(points.spend("yard", Cost::Clip(500), at(1_000)), "its stream alone");
        assert_eq!(
            points.second_client_tally("gate", at(1_000)),
            SecondClientTally { served: 10, refused: 0 }
        );
        // Who empties the bucket all the time leaves it nothing.
        for ms in 1_001..3_000 {
            while points.spend("gate", Cost::Clip(1), at(ms)) {}
        }
        let tally = points.second_client_tally("gate", at(2_999));
        assert!(tally.served <= 11 && tally.refused >= 18, "{tally:?}");
        assert_eq!(points.second_client_tally("yard", at(2_999)), SecondClientTally::default());
    }
}
