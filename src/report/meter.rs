//! How fast bytes arrive, smoothed. Pure: time is what the caller says.

use std::time::Duration;

/// What arrived so long ago weighs about a third of what arrives now.
const MEMORY: Duration = Duration::from_secs(10);

/// Sooner a burst would pass for a rate.
const TOO_EARLY: Duration = Duration::from_secs(1);

/// When nothing has arrived for so long there is no rate: what is left cannot be foretold from the past.
const STALLED: Duration = Duration::from_secs(5);

/// A rate of bytes, from looks at their sum.
#[derive(Debug, Default)]
pub(super) struct Meter {
    looked: Duration,
    sum: u64,
    /// When a look last found more bytes than the one before; nothing is measured before the first.
    arrived: Option<Duration>,
    /// Bytes and seconds, both fading: their quotient is unbiased from the first second on.
    bytes: f64,
    seconds: f64,
}

impl Meter {
    /// Takes a look at the sum; gives bytes a second, or nothing when it is too early or too long ago to tell.
    pub(super) fn rate(&mut self, now: Duration, sum: u64) -> Option<u64> {
        let (passed, new) = (now.saturating_sub(self.looked), sum.saturating_sub(self.sum));
        self.looked = now;
        self.sum = sum;
        if new > 0 {
            self.arrived = Some(now);
        }
        let arrived = self.arrived?;
        let faded = (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.bytes = self.bytes * faded + new as f64;
        self.seconds = self.seconds * faded + passed.as_secs_f64();
        if self.seconds < TOO_EARLY.as_secs_f64() || now.saturating_sub(arrived) >= STALLED {
            return None;
        }
        // A float beyond the range becomes the largest number.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; not negative"
        )]
        let rate = (self.bytes / self.seconds) as u64;
        (rate > 0).then_some(rate)
    }
}

/// How long so many bytes take at that rate, in whole seconds.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs(bytes.div_ceil(rate.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_first_burst_is_no_rate() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(at(1), 1_000_000), None);
        assert_eq!(meter.rate(at(500), 1_000_000), None);
        assert!(meter.rate(at(2_000), 2_000_000).is_some());
    }

    #[test]
    fn a_steady_flow_has_its_rate_however_often_one_looks() {
        for step in [200, 1_000, 30_000] {
            let mut meter = Meter::default();
            let rates: Vec<_> = (1..=20).filter_map(|n| meter.rate(at(n * step), n * step * 100)).collect();
            assert!(
                rates.len() > 5 && rates.iter().all(|rate| (99_000..=101_000).contains(rate)),
                "{rates:?}"
            );
        }
    }

    #[test]
    fn waiting_for_the_first_byte_does_not_make_the_flow_look_slow() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(at(60_000), 0), None);
        meter.rate(at(60_200), 20_000);
        let rate = (1..=10).filter_map(|n| meter.rate(at(60_200 + n * 200), 20_000 + n * 20_000)).last();
        assert_eq!(rate.map(|rate| rate / 1_000), Some(100));
    }

    #[test]
    fn the_rate_follows_a_change_smoothly_and_ends_when_nothing_comes() {
        let mut meter = Meter::default();
        let mut sum = 0;
        let mut last = None;
        for n in 1..=100 {
            sum += 20_000;
            last = meter.rate(at(n * 200), sum);
        }
        assert_eq!(last.map(|rate| rate / 1_000), Some(100));
        let slower = meter.rate(at(20_200), sum).expect("only just");
        assert!((90_000..100_000).contains(&slower), "{slower}");
        assert!(meter.rate(at(24_900), sum).is_some());
        assert_eq!(meter.rate(at(25_000), sum), None);
    }

    #[test]
    fn time_left_is_rounded_up_and_never_infinite() {
        assert_eq!(time_for(1, 100), Duration::from_secs(1));
        assert_eq!(time_for(u64::MAX, 0), Duration::from_secs(u64::MAX));
    }
}
