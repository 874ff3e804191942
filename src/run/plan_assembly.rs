//! One export of a plan, put together window by window.

use super::closing;
use super::stop::Stop;
use crate::model::plan_report::{Outstanding, PlannedChunks};
use crate::model::report::GapReport;
use crate::model::{ChunkState, ExportSpec, Fragment};
use crate::plan::{Coverage, MediaClock, PlannedWindow, Survey};
use crate::store::{ExportRecord, PackedFragments, Store};

/// Why an export cannot be planned.
#[derive(Debug, Clone)]
pub(super) struct PlanFailure {
    pub(super) error: String,
    /// Whether a missing permission is the reason.
    pub(super) denied: bool,
}

/// What is known of an export so far.
#[derive(Default)]
pub(super) struct Assembly {
    sums: Sums,
    survey: Survey,
    /// All windows' fragments: gaps need a second look, and unpacked a month of them would take too much memory.
    packed: Vec<PackedFragments>,
    failure: Option<PlanFailure>,
}

/// What an export adds up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) chunks: PlannedChunks,
    pub(super) fragments: u64,
    pub(super) bytes: u64,
    pub(super) media_ms: u64,
    pub(super) outstanding: Outstanding,
}

/// An export whose windows are all there.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    pub(super) sums: Sums,
    pub(super) gaps: Vec<GapReport>,
    pub(super) failure: Option<PlanFailure>,
}

impl Sums {
    /// What the state file has of an export.
    pub(super) fn of(store: &Store, record: &ExportRecord) -> Result<Self, Stop> {
        let counts = store.chunk_counts(&record.identity.id)?;
        let mut outstanding = Outstanding::default();
        // A run puts back what was in hand, and tries again what failed.
        for state in [ChunkState::Planned, ChunkState::Fetching, ChunkState::Failed] {
            let count = counts.in_state(state);
            outstanding.chunks += count.chunks;
            outstanding.fragments += count.fragments;
            outstanding.bytes += count.planned_bytes;
        }
        Ok(Self {
            chunks: PlannedChunks {
                total: counts.leaves().chunks,
                fetched: counts.in_state(ChunkState::Fetched).chunks,
            },
            fragments: record.totals.fragments,
            bytes: record.totals.planned_bytes,
            media_ms: record.totals.media_ms,
            outstanding,
        })
    }
}

impl Assembly {
    /// Begins with what the state file has.
    pub(super) fn resumed(store: &Store, record: &ExportRecord) -> Result<Self, Stop> {
        Ok(Self { sums: Sums::of(store, record)?, ..Self::default() })
    }

    /// Adds a window that an earlier run planned: it is in the sums already.
    pub(super) fn add_stored(&mut self, fragments: &[Fragment]) -> Result<(), Stop> {
        for fragment in fragments {
            self.survey.add(fragment);
        }
        self.packed.push(PackedFragments::pack(fragments)?);
        Ok(())
    }

    /// Adds a window that a run would plan so.
    pub(super) fn add_planned(&mut self, planned: &PlannedWindow) -> Result<(), Stop> {
        let (chunks, fragments) = (planned.chunks.len() as u64, planned.fragments.len() as u64);
        let bytes: u64 = planned.chunks.iter().map(|chunk| chunk.bytes).sum();
        let sums = &mut self.sums;
        sums.chunks.total += chunks;
        sums.fragments += fragments;
        sums.bytes += bytes;
        sums.media_ms += planned.fragments.iter().map(|fragment| u64::from(fragment.length_ms)).sum::<u64>();
        sums.outstanding.chunks += chunks;
        sums.outstanding.fragments += fragments;
        sums.outstanding.bytes += bytes;
        self.add_stored(&planned.fragments)
    }

    /// Notes that a window cannot be listed.
    pub(super) fn fail(&mut self, failure: PlanFailure) {
        self.failure.get_or_insert(failure);
    }

    /// Finds the gaps, now that all windows are there.
    pub(super) fn finish(self, spec: &ExportSpec) -> Result<Assembled, Stop> {
        if self.failure.is_some() {
            // Half of an export's sums would be taken for the whole.
            return Ok(Assembled { failure: self.failure, ..Assembled::default() });
        }
        if spec.chunk.is_fixed() {
            // Nothing was listed: which windows have no media is known when they have been asked for.
            return Ok(Assembled { sums: self.sums, ..Assembled::default() });
        }
        let each = |tell: &mut dyn FnMut(&Fragment)| -> Result<(), Stop> {
            for packed in &self.packed {
                packed.unpack()?.iter().for_each(&mut *tell);
            }
            Ok(())
        };
        let reckoning = self.survey.reckon(spec.gap_tolerance, each)?;
        let clock = MediaClock::new(self.survey.media_clock(), reckoning.as_ref());
        let mut coverage = Coverage::new(&self.survey, clock, spec.timestamps, spec.gap_tolerance);
        each(&mut |fragment| coverage.add(fragment))?;
        let gaps = coverage.gaps(spec.range);
        let mut assembled = Assembled {
            sums: self.sums,
            failure: closing::gaps_error(spec, &gaps).map(|error| PlanFailure { error, denied: false }),
            gaps: gaps.iter().map(|gap| GapReport { from: gap.from, to: gap.to, ms: gap.ms }).collect(),
        };
        if assembled.failure.is_some() {
            assembled.sums.outstanding = Outstanding::default();
        }
        Ok(assembled)
    }
}
