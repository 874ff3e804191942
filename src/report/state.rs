//! What is known of a run while it goes on, gathered from its events, and the lines that tell it. Pure.

use std::time::Duration;

use super::units::{bytes, counted, duration, millis, one_line};
use crate::model::event::RunEvent;
use crate::model::{ExportId, ExportState, StreamSelector, TimeRange, UtcMillis};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Told unless the user wants quiet.
    Milestone,
    /// Always told.
    Warning,
    /// Always told.
    Failure,
}

/// A line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
}

/// What an open export is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Listing,
    Fetching,
    Merging,
}

/// An export that was taken up and is not finished.
#[derive(Debug)]
pub(super) struct OpenExport {
    pub(super) id: ExportId,
    pub(super) name: String,
    pub(super) phase: Phase,
    resumed: u64,
    /// Chunks that an earlier run had planned: a lower bound until the windows are told.
    known: u64,
    chunks_planned: u64,
    chunks_fetched: u64,
    bytes_planned: u64,
    bytes_fetched: u64,
}

impl OpenExport {
    /// Chunks on disk, those of earlier runs with them.
    pub(super) fn chunks_on_disk(&self) -> u64 {
        self.resumed + self.chunks_fetched
    }

    /// Chunks, as far as planned.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks_planned.max(self.known)
    }

    /// Bytes on disk in the unit of the plan. For chunks of earlier runs only their number is told: they take
    /// their share of the plan until nothing is left to fetch.
    fn bytes_on_disk(&self) -> u64 {
        if self.phase == Phase::Merging || self.chunks_on_disk() >= self.chunks() {
            return self.bytes_planned;
        }
        let share =
            u128::from(self.bytes_planned) * u128::from(self.resumed) / u128::from(self.chunks().max(1));
        u64::try_from(share).unwrap_or(u64::MAX).saturating_add(self.bytes_fetched).min(self.bytes_planned)
    }

    /// The export's part of a progress display.
    pub(super) fn describe(&self) -> String {
        let Self { name, .. } = self;
        match self.phase {
            Phase::Listing if self.chunks() == 0 => format!("{name}: listing"),
            Phase::Listing => {
                format!("{name}: {} of {} chunks, still listing", self.chunks_on_disk(), self.chunks())
            }
            Phase::Fetching => format!("{name}: {} of {} chunks", self.chunks_on_disk(), self.chunks()),
            Phase::Merging => format!("{name}: merging {}", counted(self.chunks(), "chunk")),
        }
    }
}

/// The run as far as it is told.
#[derive(Debug, Default)]
pub(super) struct RunState {
    /// In the order they were opened.
    pub(super) open: Vec<OpenExport>,
    opened: u64,
    finished: u64,
    failed: u64,
    closed_chunks: u64,
    closed_bytes: u64,
    throttled: u64,
    retried: u64,
}

/// Sums over the exports opened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) chunks_on_disk: u64,
    pub(super) chunks: u64,
    pub(super) bytes_on_disk: u64,
    pub(super) bytes: u64,
    pub(super) listing: bool,
}

/// Bytes received lately, for the rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) during: Duration,
}

impl Traffic {
    /// Bytes a second; 0 when it is too early to tell.
    fn rate(self) -> f64 {
        let seconds = self.during.as_secs_f64();
        if seconds >= 1.0 { self.bytes as f64 / seconds } else { 0.0 }
    }
}

impl RunState {
    /// Takes an event; gives the line that it is worth, if any.
    pub(super) fn take(&mut self, event: RunEvent) -> Option<Line> {
        match event {
            RunEvent::ExportOpened { export, job, stream, range, resumed } => {
                Some(milestone(self.begin(export, &job, &stream, range, resumed)))
            }
            RunEvent::WindowPlanned { export, chunks, bytes, last, .. } => {
                self.change(&export, |open| {
                    open.chunks_planned += chunks;
                    open.bytes_planned += bytes;
                    if last && open.phase == Phase::Listing {
                        open.phase = Phase::Fetching;
                    }
                });
                None
            }
            RunEvent::ChunkFetched { export, planned_bytes, .. } => {
                self.change(&export, |open| {
                    open.chunks_fetched += 1;
                    open.bytes_fetched += planned_bytes;
                });
                None
            }
            RunEvent::ChunkSplit { export, into } => {
                self.change(&export, |open| open.chunks_planned += into.saturating_sub(1));
                None
            }
            RunEvent::MergeStarted { export } => {
                let open = self.open.iter_mut().find(|open| open.id == export)?;
                open.phase = Phase::Merging;
                Some(milestone(open.describe()))
            }
            RunEvent::ExportFinished { export, state, error } => {
                self.end(&export, state, error.as_deref().map(one_line))
            }
            RunEvent::Settling { stream, until } => Some(Line {
                level: Level::Milestone,
                text: format!("{}: waiting until {until} for the last fragments", stream.name()),
            }),
            RunEvent::Warning { message } => {
                Some(Line { level: Level::Warning, text: format!("warning: {}", one_line(&message)) })
            }
            RunEvent::Interrupted => Some(Line {
                level: Level::Warning,
                text: "interrupted: stopping; run the same command again to resume".to_owned(),
            }),
            RunEvent::Throttled { .. } => {
                self.throttled += 1;
                None
            }
            RunEvent::Retrying { .. } => {
                self.retried += 1;
                None
            }
            RunEvent::BytesReceived { .. }
            | RunEvent::StreamPaused { .. }
            | RunEvent::StreamResumed { .. }
            | RunEvent::DiskLow { .. }
            | RunEvent::DiskFreed => None,
        }
    }

    /// The sums over all exports opened so far.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums {
            chunks_on_disk: self.closed_chunks,
            chunks: self.closed_chunks,
            bytes_on_disk: self.closed_bytes,
            bytes: self.closed_bytes,
            listing: false,
        };
        for open in &self.open {
            sums.chunks_on_disk += open.chunks_on_disk();
            sums.chunks += open.chunks();
            sums.bytes_on_disk += open.bytes_on_disk();
            sums.bytes += open.bytes_planned;
            sums.listing |= open.phase == Phase::Listing;
        }
        sums
    }

    /// How much of the run is done, how fast it goes, how long it will take.
    pub(super) fn describe(&self, traffic: Traffic) -> String {
        let sums = self.sums();
        let planned = if sums.listing { " planned so far" } else { "" };
        let mut text = format!("{} of {}{planned}", bytes(sums.bytes_on_disk), bytes(sums.bytes));
        let (rate, left) = (traffic.rate(), sums.bytes.saturating_sub(sums.bytes_on_disk));
        if rate >= 1.0 && left > 0 {
            // A float beyond the range becomes the largest number, which reads as what it is: very long.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates; not negative"
            )]
            let (rate, left_ms) = (rate as u64, (left as f64 / rate * 1000.0) as u64);
            text += &format!(", {}/s, {} left", bytes(rate), millis(left_ms));
        }
        // Last: where the terminal is narrow, it is cut off first.
        text += &format!(", {} of {} chunks", sums.chunks_on_disk, sums.chunks);
        text
    }

    /// The line of every 30 seconds.
    pub(super) fn tick(&self, traffic: Traffic, elapsed: Duration) -> String {
        let mut text = format!("after {}: {}", duration(elapsed), self.describe(traffic));
        text += &format!("; {} of {} finished", self.finished, counted(self.opened, "export"));
        if self.failed > 0 {
            text += &format!(", {} failed", self.failed);
        }
        let merging = self.open.iter().filter(|open| open.phase == Phase::Merging).count();
        if merging > 0 {
            text += &format!(", {merging} merging");
        }
        if self.throttled > 0 {
            text += &format!("; throttled {}", counted(self.throttled, "time"));
        }
        if self.retried > 0 {
            text += &format!("; {} sent again", counted(self.retried, "request"));
        }
        text
    }

    fn begin(
        &mut self,
        id: ExportId,
        job: &str,
        stream: &StreamSelector,
        range: TimeRange,
        resumed: Option<(u64, u64)>,
    ) -> String {
        let name = format!("{job} {} {}", stream.name(), seconds(range.start()));
        let line = match resumed {
            Some((fetched, planned)) => format!("{name}: resumed {fetched} of {planned} chunks"),
            None => format!("{name}: started, up to {}", seconds(range.end())),
        };
        // An export may be opened again within a run, when a chunk of it turned out lost.
        self.open.retain(|open| open.id != id);
        self.opened += 1;
        self.open.push(OpenExport {
            id,
            name,
            phase: Phase::Listing,
            resumed: resumed.map_or(0, |(fetched, _)| fetched),
            known: resumed.map_or(0, |(_, planned)| planned),
            chunks_planned: 0,
            chunks_fetched: 0,
            bytes_planned: 0,
            bytes_fetched: 0,
        });
        line
    }

    fn end(&mut self, id: &ExportId, state: ExportState, error: Option<String>) -> Option<Line> {
        let at = self.open.iter().position(|open| open.id == *id)?;
        let open = self.open.remove(at);
        self.finished += 1;
        // What a failed export did not fetch will not come any more in this run.
        self.closed_chunks += open.chunks_on_disk();
        self.closed_bytes += open.bytes_on_disk();
        let name = &open.name;
        let text = match (state, error) {
            (ExportState::Failed, error) => {
                self.failed += 1;
                let why = error.unwrap_or_else(|| "see the summary".to_owned());
                return Some(Line { level: Level::Failure, text: format!("{name}: failed: {why}") });
            }
            (ExportState::Partial, _) => {
                let text = format!("{name}: partial, the manifest names what is missing");
                return Some(Line { level: Level::Warning, text });
            }
            (ExportState::Empty, _) => format!("{name}: empty, no media in the range"),
            (state, None) => format!("{name}: {}", state.as_str()),
            (state, Some(error)) => format!("{name}: {}: {error}", state.as_str()),
        };
        Some(milestone(text))
    }

    fn change(&mut self, id: &ExportId, change: impl FnOnce(&mut OpenExport)) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == *id) {
            change(open);
        }
    }
}

fn milestone(text: String) -> Line {
    Line { level: Level::Milestone, text }
}

/// An instant to the second, as people read it.
pub(super) fn seconds(instant: UtcMillis) -> String {
    match instant.to_jiff() {
        Some(timestamp) => timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => instant.to_string(),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
