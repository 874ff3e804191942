//! What an export's planned fragments say together: clocks, tolerance, gaps. Streams the windows twice, and once more
//! where the producer's clock is not believed.

use super::stop::Stop;
use crate::model::report::GapReport;
use crate::model::{ChunkState, ExportId, ExportSpec, Fragment, TimestampKind, UtcMillis};
use crate::plan::{self, Coverage, Gap, MediaClock, Reckoning, Skew, Survey};
use crate::store::Store;

/// Facts about all planned fragments of an export.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) media_clock: TimestampKind,
    /// Where the producer's clock is not believed: its sessions.
    pub(super) reckoning: Option<Reckoning>,
    pub(super) tolerance_ms: i64,
    pub(super) skew: Option<Skew>,
    pub(super) gaps: Vec<Gap>,
    pub(super) listed_at: Option<(UtcMillis, UtcMillis)>,
}

impl Facts {
    /// Gathers them from the planned windows.
    pub(super) fn gather(store: &Store, export: &ExportId, spec: &ExportSpec) -> Result<Self, Stop> {
        if spec.chunk.is_fixed() {
            return Self::of_fixed_windows(store, export, spec);
        }
        let windows = store.windows(export)?;
        let each = |tell: &mut dyn FnMut(&Fragment)| -> Result<(), Stop> {
            for window in windows.iter().filter(|window| window.fragments > 0) {
                store.window_fragments(export, window.seq)?.0.iter().for_each(&mut *tell);
            }
            Ok(())
        };
        let mut survey = Survey::default();
        each(&mut |fragment| survey.add(fragment))?;
        let media_clock = survey.media_clock();
        let tolerance_ms = survey.tolerance_ms(spec.gap_tolerance);
        let reckoning = survey.reckon(spec.gap_tolerance, each)?;
        let clock = MediaClock::new(media_clock, reckoning.as_ref());
        let mut coverage = Coverage::new(&survey, clock, spec.timestamps, spec.gap_tolerance);
        each(&mut |fragment| coverage.add(fragment))?;
        let listed = windows.iter().filter_map(|window| window.listed_at);
        Ok(Self {
            media_clock,
            reckoning,
            tolerance_ms,
            skew: survey.skew(),
            gaps: coverage.gaps(spec.range),
            listed_at: listed.clone().min().zip(listed.max()),
        })
    }

    /// What is known where nothing was listed: windows that had no media.
    fn of_fixed_windows(store: &Store, export: &ExportId, spec: &ExportSpec) -> Result<Self, Stop> {
        let mut empty = Vec::new();
        for chunk in store.leaf_chunks(export) {
            let chunk = chunk?;
            if chunk.state == ChunkState::Empty {
                empty.push(chunk.planned.bounds);
            }
        }
        let gaps = plan::fixed_gaps(empty.into_iter(), spec.range);
        Ok(Self {
            media_clock: spec.timestamps,
            reckoning: None,
            tolerance_ms: 0,
            skew: None,
            gaps,
            listed_at: None,
        })
    }

    /// The clock that says when each fragment begins.
    pub(super) fn clock(&self) -> MediaClock {
        MediaClock::new(self.media_clock, self.reckoning.as_ref())
    }

    /// The gaps as outputs show them.
    pub(super) fn gap_reports(&self) -> Vec<GapReport> {
        self.gaps.iter().map(|gap| GapReport { from: gap.from, to: gap.to, ms: gap.ms }).collect()
    }
}
