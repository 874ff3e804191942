//! Points that refill with time, at a rate that gives way when the service throttles.

use std::time::Duration;

use tokio::time::Instant;

/// What the rate regains of its full value in a second.
const RECOVERY_PER_SECOND: f64 = 0.05;

/// The least the rate falls to: the recovery of one second, so that it never stands still.
const LEAST_RATE: f64 = 0.05;

/// Rounding must not make a request wait for a billionth of a point.
const EPSILON: f64 = 1e-6;

/// How much of its share a stream may use: halved by a throttle, regained evenly ("additive increase,
/// multiplicative decrease"), which is how several clients of one stream come to share it fairly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// The part of the full rate, at `since`.
    part: f64,
    since: Instant,
}

impl Rate {
    pub(super) fn full(now: Instant) -> Self {
        Self { part: 1.0, since: now }
    }

    /// The part of the full rate at an instant.
    pub(super) fn part(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.part + RECOVERY_PER_SECOND * passed).min(1.0)
    }

    /// Buckets must be settled before.
    pub(super) fn halve(&mut self, now: Instant) {
        *self = Self { part: (self.part(now) / 2.0).max(LEAST_RATE), since: now };
    }

    /// What refills between two instants, in seconds of the full rate.
    fn refill(self, from: Instant, to: Instant) -> f64 {
        let passed = to.saturating_duration_since(from).as_secs_f64();
        let begin = self.part(from);
        let climb = ((1.0 - begin) / RECOVERY_PER_SECOND).min(passed);
        begin * climb + RECOVERY_PER_SECOND * climb * climb / 2.0 + (passed - climb)
    }

    /// How long after `from` so much is refilled, in seconds of the full rate.
    fn until(self, from: Instant, wanted: f64) -> Duration {
        let begin = self.part(from);
        let climb = (1.0 - begin) / RECOVERY_PER_SECOND;
        let climbed = begin * climb + RECOVERY_PER_SECOND * climb * climb / 2.0;
        let seconds = if wanted <= climbed {
            ((begin * begin + 2.0 * RECOVERY_PER_SECOND * wanted).sqrt() - begin) / RECOVERY_PER_SECOND
        } else {
            climb + wanted - climbed
        };
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

/// Points that refill evenly up to the capacity.
#[derive(Debug)]
pub(super) struct Bucket {
    points: f64,
    per_second: f64,
    capacity: f64,
    updated: Instant,
}

impl Bucket {
    /// Holds one second's points, and never less than the largest request costs.
    pub(super) fn full(per_second: f64, largest: f64, now: Instant) -> Self {
        let capacity = per_second.max(largest);
        Self { points: capacity, per_second, capacity, updated: now }
    }

    /// How long until `cost` points are there.
    ///
    /// A request that costs more than the bucket holds waits for a full one and leaves a debt: it is slow, but not
    /// impossible.
    pub(super) fn wait(&self, cost: f64, rate: Rate, now: Instant) -> Duration {
        self.wait_for(cost.min(self.capacity), rate, now)
    }

    /// How long until so many points have been refilled, however many the bucket holds at a time.
    pub(super) fn wait_for(&self, points: f64, rate: Rate, now: Instant) -> Duration {
        let missing = points - self.points_at(rate, now);
        if missing <= EPSILON { Duration::ZERO } else { rate.until(now, missing / self.per_second) }
    }

    pub(super) fn take(&mut self, cost: f64, rate: Rate, now: Instant) {
        self.settle(rate, now);
        self.points -= cost;
    }

    /// What was saved up is not there, says the service; a debt stays.
    pub(super) fn empty(&mut self, rate: Rate, now: Instant) {
        self.settle(rate, now);
        self.points = self.points.min(0.0);
    }

    pub(super) fn settle(&mut self, rate: Rate, now: Instant) {
        self.points = self.points_at(rate, now);
        self.updated = now;
    }

    fn points_at(&self, rate: Rate, now: Instant) -> f64 {
        (self.points + rate.refill(self.updated, now) * self.per_second).min(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gets_its_share_and_no_more_over_any_second() {
        let begin = Instant::now();
        let (mut bucket, rate, mut now) = (Bucket::full(350.0, 200.0, begin), Rate::full(begin), begin);
        let mut spent = 0.0;
        for _ in 0..100 {
            now += bucket.wait(200.0, rate, now);
            bucket.take(200.0, rate, now);
            spent += 200.0;
            let allowed = 350.0 * ((now - begin).as_secs_f64() + 1.0);
            assert!(spent <= allowed + 1.0, "{spent} points by {:?}", now - begin);
        }
        let average = (spent - 350.0) / (now - begin).as_secs_f64();
        assert!((349.0..=351.0).contains(&average), "{average} points a second");
    }

    #[test]
    fn a_small_share_still_holds_the_largest_request() {
        let now = Instant::now();
        let bucket = Bucket::full(50.0, 200.0, now);
        assert_eq!(bucket.wait(200.0, Rate::full(now), now), Duration::ZERO);
    }

    #[test]
    fn a_request_larger_than_the_bucket_is_slow_but_not_impossible() {
        let now = Instant::now();
        let (mut bucket, rate) = (Bucket::full(100.0, 100.0, now), Rate::full(now));
        assert_eq!(bucket.wait(250.0, rate, now), Duration::ZERO);
        bucket.take(250.0, rate, now);
        assert_eq!(bucket.wait(10.0, rate, now), Duration::from_millis(1_600));
        assert_eq!(
            bucket.wait_for(250.0, rate, now),
            Duration::from_secs(4),
            "a queue may be longer than that"
        );
    }

    #[test]
    fn a_throttle_halves_the_rate_and_empties_the_bucket_and_it_recovers_evenly() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let (mut bucket, mut rate) = (Bucket::full(100.0, 1.0, begin), Rate::full(begin));
        bucket.empty(rate, begin);
        rate.halve(begin);
        // 0.5 s at half the rate and what it regains meanwhile: 100 × (0.5 × 0.5 + 0.05 × 0.5² ÷ 2).
        let wait = bucket.wait(25.625, rate, begin);
        assert!((wait.as_secs_f64() - 0.5).abs() < 1e-6, "{wait:?}");
        for (seconds, part) in [(0.0, 0.5), (1.0, 0.55), (5.0, 0.75), (10.0, 1.0), (60.0, 1.0)] {
            assert!((rate.part(at(seconds)) - part).abs() < 1e-9, "after {seconds} s");
        }
        assert!(bucket.wait(100.0, rate, begin) > bucket.wait(100.0, Rate::full(begin), begin));
        // Whatever the wait is said to be, the points are there after it.
        for cost in [1.0, 30.0, 77.0, 99.9] {
            let later = begin + bucket.wait(cost, rate, begin);
            assert!(bucket.wait(cost, rate, later) < Duration::from_micros(1), "{cost}");
        }
    }

    #[test]
    fn the_rate_never_reaches_zero() {
        let now = Instant::now();
        let mut rate = Rate::full(now);
        for _ in 0..100 {
            rate.halve(now);
        }
        assert!((rate.part(now) - LEAST_RATE).abs() < 1e-9);
        assert!((rate.part(now + Duration::from_secs(19)) - 1.0).abs() < 1e-9);
    }
}
