//! Random scenarios × faults × kills, judged by the independent oracle: `make soak`.
//!
//! A seed decides a scenario: cameras and their footage, a job file, limits, the emulator's manners, and some rough
//! runs with faults, signals and damage to chunk files between them. Then calm runs follow until everything is
//! final, and the judge holds the outputs against the emulator's scripts. How far a run has come when a signal
//! hits it is the machine's; everything else repeats with the seed.
//!
//! - `SOAK_MINUTES=10`: plays one scenario after the other for so long; without it, a fixed handful.
//! - `SOAK_SEED=…`: plays this one alone.
//! - `SOAK_PLAYERS=4`: how many are played at a time.

mod faults;
mod footage;
mod judge;
mod play;
mod ranges;
mod scenario;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod support;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tally::Tally;

/// So many scenarios may go wrong before the others are given up.
const MOST_FAILURES: usize = 5;

/// The scenarios of the short form: few enough for every run of the tests.
const SHORT: std::ops::Range<u64> = 1..9;

/// What to play.
struct Plan {
    seeds: std::ops::Range<u64>,
    until: Option<Instant>,
    players: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")))
        };
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let players = number("SOAK_PLAYERS").and_then(|players| usize::try_from(players).ok());
        let players = players.unwrap_or(2 * cores).max(1);
        if let Some(seed) = number("SOAK_SEED") {
            return Self { seeds: seed..seed + 1, until: None, players: 1 };
        }
        match number("SOAK_MINUTES") {
            None => Self { seeds: SHORT, until: None, players },
            Some(minutes) => {
                // Room for every scenario of weeks, and short enough to type.
                let first = fastrand::u64(1..1_000_000) * 1_000_000;
                let until = Some(Instant::now() + Duration::from_secs(60 * minutes));
                Self { seeds: first..first + 1_000_000, until, players }
            }
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the line at the end is what a soak is for")]
fn random_scenarios_neither_lose_nor_double_a_fragment() {
    let plan = Plan::from_environment();
    let begun = Instant::now();
    let (next, total) = (AtomicU64::new(plan.seeds.start), Mutex::new(Tally::default()));
    let failures = Mutex::new(Vec::new());
    let player = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_over = plan.until.is_some_and(|until| Instant::now() >= until);
            let failed = failures.lock().unwrap_or_else(PoisonError::into_inner).len();
            if is_over || failed >= MOST_FAILURES || !plan.seeds.contains(&seed) {
                return;
            }
            let (tally, failure) = play::play(seed);
            total.lock().unwrap_or_else(PoisonError::into_inner).add(&tally);
            if let Some(failure) = failure {
                println!("soak: after {:.0} s: {failure}", begun.elapsed().as_secs_f64());
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.players {
            scope.spawn(player);
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("soak: {:.1} min: {total}", begun.elapsed().as_secs_f64() / 60.0);
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(total.exports > 0, "nothing was judged");
    assert!(
        failures.is_empty(),
        "scenarios that went wrong: {failures:?}; SOAK_SEED=… make soak repeats one"
    );
}
