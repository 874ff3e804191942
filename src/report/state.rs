//! What is known of a run while it goes on, gathered from its events, and the lines that tell it. Pure.

use std::time::Duration;

use super::meter::time_for;
use super::trouble::Trouble;
use super::units::{bytes, counted, duration, one_line};
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
    stream: String,
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
            Phase::Fetching if self.chunks_on_disk() >= self.chunks() => {
                format!("{name}: all of {}, waits for its merge", counted(self.chunks(), "chunk"))
            }
            Phase::Fetching => format!("{name}: {} of {} chunks", self.chunks_on_disk(), self.chunks()),
            Phase::Merging => format!("{name}: merging {}", counted(self.chunks(), "chunk")),
        }
    }

    /// How much of its media is on disk, in percent; unknown while it is listed.
    pub(super) fn percent(&self) -> Option<u64> {
        (self.phase != Phase::Listing).then(|| {
            // What is in fixed windows is not known: there it is the share of the windows.
            if self.bytes_planned == 0 && self.chunks() > 0 {
                percent(self.chunks_on_disk(), self.chunks())
            } else {
                percent(self.bytes_on_disk(), self.bytes_planned)
            }
        })
    }
}

/// A share in percent, rounded down: 100 is all of it, and of nothing all is there.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1)))
        .map_or(100, |share| if whole == 0 { 100 } else { share })
}

/// The run as far as it is told.
#[derive(Debug, Default)]
pub(super) struct RunState {
    /// In the order they were opened.
    pub(super) open: Vec<OpenExport>,
    /// What holds it up.
    pub(super) trouble: Trouble,
    /// Exports that will be opened, once it is known.
    expected: Option<u64>,
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
    /// Whether the chunks and bytes are those of the whole run: every export is opened and listed.
    pub(super) final_totals: bool,
}

impl Sums {
    /// How long the rest takes at that rate; nothing while the rate is unknown or nothing is left.
    pub(super) fn time_left(&self, rate: Option<u64>) -> Option<Duration> {
        let left = self.bytes.saturating_sub(self.bytes_on_disk);
        rate.filter(|_| left > 0).map(|rate| time_for(left, rate))
    }
}

/// Counts of exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportCounts {
    pub(super) all: u64,
    pub(super) opened: u64,
    pub(super) finished: u64,
    pub(super) failed: u64,
    pub(super) merging: u64,
}

impl RunState {
    /// Takes an event; gives the line that it is worth, if any.
    ///
    /// `now` is the time since the run began.
    pub(super) fn take(&mut self, event: RunEvent, now: Duration) -> Option<Line> {
        match event {
            RunEvent::RunStarted { exports } => {
                self.expected = Some(exports);
                None
            }
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
            RunEvent::WindowEmpty { export } => {
                self.change(&export, |open| open.chunks_fetched += 1);
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
                self.end(&export, state, error.as_deref().map(one_line), now)
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
            RunEvent::Throttled { stream } => {
                self.throttled += 1;
                self.trouble.slowed(&stream, now);
                None
            }
            RunEvent::Retrying { .. } => {
                self.retried += 1;
                None
            }
            RunEvent::StreamPaused { stream, reason, retry_ms } => {
                self.trouble.paused(&stream, reason, Duration::from_millis(retry_ms), now)
            }
            RunEvent::StreamResumed { stream } => {
                self.trouble.resumed(&stream, now);
                None
            }
            RunEvent::DiskLow { free, needed } => self.trouble.disk_low(free, needed, now),
            RunEvent::DiskFreed => self.trouble.disk_freed(now),
            RunEvent::BytesReceived { .. } => None,
        }
    }

    /// How many exports there are, and how far they are.
    pub(super) fn exports(&self) -> ExportCounts {
        ExportCounts {
            // Exports that are told of without an announcement count as they come.
            all: self.expected.unwrap_or(0).max(self.opened),
            opened: self.opened,
            finished: self.finished,
            failed: self.failed,
            merging: self.open.iter().filter(|open| open.phase == Phase::Merging).count() as u64,
        }
    }

    /// The sums over all exports opened so far.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums {
            chunks_on_disk: self.closed_chunks,
            chunks: self.closed_chunks,
            bytes_on_disk: self.closed_bytes,
            bytes: self.closed_bytes,
            final_totals: self.expected.map_or(self.opened > 0, |expected| self.opened >= expected),
        };
        for open in &self.open {
            sums.chunks_on_disk += open.chunks_on_disk();
            sums.chunks += open.chunks();
            sums.bytes_on_disk += open.bytes_on_disk();
            sums.bytes += open.bytes_planned;
            sums.final_totals &= open.phase != Phase::Listing;
        }
        sums
    }

    /// How much of the run is done, how fast it goes, how long it will take; the most telling first.
    pub(super) fn describe(&self, rate: Option<u64>) -> Vec<String> {
        let sums = self.sums();
        if self.expected.is_none() && self.opened == 0 {
            return vec!["looking at the streams".to_owned()];
        }
        let (so_far, at_least) = if sums.final_totals { ("", "") } else { (" planned so far", "at least ") };
        let mut parts = Vec::new();
        if sums.bytes > 0 || sums.chunks == 0 {
            parts.push(format!("{} of {}{so_far}", bytes(sums.bytes_on_disk), bytes(sums.bytes)));
        } else if let Some(rate) = rate {
            // Fixed windows alone: how much is in them is not known.
            parts.push(format!("{}/s", bytes(rate)));
        }
        if let (Some(rate), Some(left)) = (rate, sums.time_left(rate)) {
            parts.push(format!("{}/s", bytes(rate)));
            parts.push(format!("{at_least}{} left", duration(left)));
        }
        parts.push(format!("{} of {} chunks", sums.chunks_on_disk, sums.chunks));
        parts
    }

    /// How the exports stand.
    pub(super) fn describe_exports(&self) -> String {
        let ExportCounts { all, finished, failed, merging, .. } = self.exports();
        let mut text = format!("{finished} of {} finished", counted(all, "export"));
        for (count, word) in [(failed, "failed"), (merging, "merging")] {
            if count > 0 {
                text += &format!(", {count} {word}");
            }
        }
        text
    }

    /// The line of every 30 seconds.
    pub(super) fn tick(&self, rate: Option<u64>, now: Duration) -> String {
        let mut text = format!("after {}: {}", duration(now), self.describe(rate).join(", "));
        text += &format!("; {}", self.describe_exports());
        if self.throttled > 0 {
            text += &format!("; throttled {}", counted(self.throttled, "time"));
        }
        if self.retried > 0 {
            text += &format!("; {} sent again", counted(self.retried, "request"));
        }
        for trouble in self.trouble.describe(now) {
            text += &format!("; {trouble}");
        }
        text
    }

    /// How often the service has throttled, and how many requests were sent again for another reason.
    pub(super) fn repetitions(&self) -> (u64, u64) {
        (self.throttled, self.retried)
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
        let before = self.open.len();
        self.open.retain(|open| open.id != id);
        if self.open.len() == before {
            self.opened += 1;
        }
        self.open.push(OpenExport {
            id,
            name,
            stream: stream.name().to_owned(),
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

    fn end(
        &mut self,
        id: &ExportId,
        state: ExportState,
        error: Option<String>,
        now: Duration,
    ) -> Option<Line> {
        let at = self.open.iter().position(|open| open.id == *id)?;
        let open = self.open.remove(at);
        // Nobody asks the stream again, so nobody would say that it answers.
        if !self.open.iter().any(|other| other.stream == open.stream) {
            self.trouble.resumed(&open.stream, now);
        }
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
