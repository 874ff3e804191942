//! What was played, in one line.

use std::collections::BTreeMap;
use std::fmt;

use kvs_export::crash_point::Point;

/// Sums over scenarios.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Scenarios that were played.
    pub(crate) scenarios: u64,
    /// Runs of the program.
    pub(crate) runs: u64,
    /// Exports that were judged.
    pub(crate) exports: u64,
    /// Fragments that belong into their outputs.
    pub(crate) fragments: u64,
    /// Answers that went wrong by order.
    pub(crate) faults: u64,
    /// Runs that a signal ended.
    pub(crate) kills: u64,
    /// Of these, how many ended after which step of `design/lifecycle.md`.
    pub(crate) steps: BTreeMap<&'static str, u64>,
    /// Chunk files that were deleted, cut or altered between runs.
    pub(crate) damages: u64,
    /// Requests that a stream's quota refused.
    pub(crate) refusals: u64,
    /// Fragments that the service refused and the manifests name.
    pub(crate) missing: u64,
    /// Fragments that are neither in an output nor named.
    pub(crate) lost: u64,
    /// Fragments that are in an output twice.
    pub(crate) doubled: u64,
}

impl Tally {
    /// Adds another's sums.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { scenarios, runs, exports, fragments, faults, kills, steps, .. } = other;
        let Self { damages, refusals, missing, lost, doubled, .. } = other;
        self.scenarios += scenarios;
        self.runs += runs;
        self.exports += exports;
        self.fragments += fragments;
        self.faults += faults;
        self.kills += kills;
        for (step, count) in steps {
            *self.steps.entry(step).or_default() += count;
        }
        self.damages += damages;
        self.refusals += refusals;
        self.missing += missing;
        self.lost += lost;
        self.doubled += doubled;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scenarios, {} runs, {} exports, {} fragments, {} faults, {} kills ({} after {} of \
             {} steps), {} damaged chunks, {} refusals, \
             {} named as missing, {} lost, {} doubled",
            self.scenarios,
            self.runs,
            self.exports,
            self.fragments,
            self.faults,
            self.kills,
            self.steps.values().sum::<u64>(),
            self.steps.len(),
            Point::ALL.len(),
            self.damages,
            self.refusals,
            self.missing,
            self.lost,
            self.doubled
        )
    }
}
