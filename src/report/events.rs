//! Progress for programs: an event a line on standard error, as JSON. Its keys are documented in `docs/json.md`
//! and only grow.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::state::RunState;
use crate::clock::{Clock, SystemClock};
use crate::model::event::{PauseReason, RunEvent};
use crate::model::report::Outcome;
use crate::model::{ExportId, UtcMillis};

/// The name and version of every line.
const PROGRESS_SCHEMA: &str = "kvs-export/progress/1";

/// What a line tells. A variant's name is the event's, its fields are the line's keys.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/json.md says what each means, and a test that it does")]
pub enum ProgressEvent<'a> {
    Began {
        version: &'a str,
        pid: u32,
        job_file: Option<&'a Path>,
        state: &'a Path,
    },
    RunStarted {
        exports: u64,
    },
    ExportOpened {
        export: &'a ExportId,
        job: &'a str,
        stream: &'a str,
        from: String,
        to: String,
        resumed: Option<Resumed>,
    },
    WindowPlanned {
        export: &'a ExportId,
        chunks: u64,
        bytes: u64,
        media_ms: u64,
        last: bool,
    },
    ChunkFetched {
        export: &'a ExportId,
        planned_bytes: u64,
        size_bytes: u64,
    },
    WindowEmpty {
        export: &'a ExportId,
    },
    ChunkSplit {
        export: &'a ExportId,
        into: u64,
    },
    Throttled {
        stream: &'a str,
    },
    Retrying {
        stream: &'a str,
        api: &'a str,
        attempt: u32,
        delay_ms: u64,
        error: &'a str,
    },
    StreamPaused {
        stream: &'a str,
        reason: &'static str,
        retry_ms: u64,
    },
    StreamResumed {
        stream: &'a str,
    },
    DiskLow {
        free: u64,
        needed: u64,
    },
    DiskFreed,
    MergeStarted {
        export: &'a ExportId,
    },
    ExportFinished {
        export: &'a ExportId,
        status: &'static str,
        error: Option<&'a str>,
    },
    Settling {
        stream: &'a str,
        until: String,
    },
    Warning {
        message: &'a str,
    },
    Interrupted,
    Totals(Totals),
    Ended {
        outcome: Outcome,
        exit_code: u8,
    },
    Error {
        message: &'a str,
        hints: &'a [String],
        outcome: Outcome,
        exit_code: u8,
    },
    NotifyOutput {
        line: &'a str,
    },
}

/// What an earlier run had done of an export.
#[derive(Debug, Serialize)]
pub struct Resumed {
    /// Chunks fetched.
    pub fetched: u64,
    /// Chunks planned.
    pub planned: u64,
}

/// Where the run stands.
#[derive(Debug, Serialize)]
pub struct Totals {
    pub elapsed_ms: u64,
    pub exports: u64,
    pub exports_opened: u64,
    pub exports_merging: u64,
    pub exports_finished: u64,
    pub exports_failed: u64,
    pub planned_all: bool,
    pub planned_chunks: u64,
    pub fetched_chunks: u64,
    pub planned_bytes: u64,
    pub fetched_bytes: u64,
    pub bytes_received: u64,
    pub bytes_per_second: Option<u64>,
    pub left_ms: Option<u64>,
    pub throttles: u64,
    pub retries: u64,
    pub streams_throttled: u64,
    pub streams_away: u64,
    pub waits_for_disk: bool,
}

impl Totals {
    /// The sums of the run as far as it is told.
    pub(super) fn of(
        state: &RunState,
        bytes_received: u64,
        rate: Option<u64>,
        elapsed: std::time::Duration,
    ) -> Self {
        let (sums, exports) = (state.sums(), state.exports());
        let (throttles, retries) = state.repetitions();
        let (streams_throttled, streams_away) = state.trouble.counts();
        let millis = |length: std::time::Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self {
            elapsed_ms: millis(elapsed),
            exports: exports.all,
            exports_opened: exports.opened,
            exports_merging: exports.merging,
            exports_finished: exports.finished,
            exports_failed: exports.failed,
            planned_all: sums.final_totals,
            planned_chunks: sums.chunks,
            fetched_chunks: sums.chunks_on_disk,
            planned_bytes: sums.bytes,
            fetched_bytes: sums.bytes_on_disk,
            bytes_received,
            bytes_per_second: rate,
            // What is planned so far is not what is left.
            left_ms: sums.time_left(rate).filter(|_| sums.final_totals).map(millis),
            throttles,
            retries,
            streams_throttled,
            streams_away,
            waits_for_disk: state.trouble.waits_for_disk(),
        }
    }
}

impl<'a> ProgressEvent<'a> {
    /// What is told of an event of the run; of bytes that arrive only their sum is, among the totals.
    pub(super) fn of(event: &'a RunEvent) -> Option<Self> {
        Some(match event {
            RunEvent::BytesReceived { .. } => return None,
            RunEvent::RunStarted { exports } => Self::RunStarted { exports: *exports },
            RunEvent::ExportOpened { export, job, stream, range, resumed } => Self::ExportOpened {
                export,
                job,
                stream: stream.name(),
                from: range.start().to_string(),
                to: range.end().to_string(),
                resumed: resumed.map(|(fetched, planned)| Resumed { fetched, planned }),
            },
            RunEvent::WindowPlanned { export, chunks, bytes, media_ms, last } => Self::WindowPlanned {
                export,
                chunks: *chunks,
                bytes: *bytes,
                media_ms: *media_ms,
                last: *last,
            },
            RunEvent::ChunkFetched { export, planned_bytes, size_bytes } => {
                Self::ChunkFetched { export, planned_bytes: *planned_bytes, size_bytes: *size_bytes }
            }
            RunEvent::WindowEmpty { export } => Self::WindowEmpty { export },
            RunEvent::ChunkSplit { export, into } => Self::ChunkSplit { export, into: *into },
            RunEvent::Throttled { stream } => Self::Throttled { stream },
            RunEvent::Retrying { stream, api, attempt, delay_ms, error } => {
                Self::Retrying { stream, api, attempt: *attempt, delay_ms: *delay_ms, error }
            }
            RunEvent::StreamPaused { stream, reason, retry_ms } => Self::StreamPaused {
                stream,
                reason: match reason {
                    PauseReason::Throttled => "throttled",
                    PauseReason::Away => "away",
                },
                retry_ms: *retry_ms,
            },
            RunEvent::StreamResumed { stream } => Self::StreamResumed { stream },
            RunEvent::DiskLow { free, needed } => Self::DiskLow { free: *free, needed: *needed },
            RunEvent::DiskFreed => Self::DiskFreed,
            RunEvent::MergeStarted { export } => Self::MergeStarted { export },
            RunEvent::ExportFinished { export, state, error } => {
                Self::ExportFinished { export, status: state.as_str(), error: error.as_deref() }
            }
            RunEvent::Settling { stream, until } => {
                Self::Settling { stream: stream.name(), until: until.to_string() }
            }
            RunEvent::Warning { message } => Self::Warning { message },
            RunEvent::Interrupted => Self::Interrupted,
        })
    }

    /// The line, without its end.
    pub(super) fn line(&self, time: UtcMillis) -> String {
        #[derive(Serialize)]
        struct Record<'r> {
            schema: &'static str,
            time: String,
            #[serde(flatten)]
            event: &'r ProgressEvent<'r>,
        }
        let record = Record { schema: PROGRESS_SCHEMA, time: time.to_string(), event: self };
        // Of all values only a path can be no text.
        serde_json::to_string(&record).unwrap_or_else(|error| {
            let message = format!("an event cannot be written as JSON: {error}");
            serde_json::json!({ "schema": PROGRESS_SCHEMA, "time": record.time, "event": "warning", "message": message })
                .to_string()
        })
    }

    /// Writes it to standard error now.
    pub fn tell(&self) {
        // Where standard error is closed there is nobody to tell.
        drop(io::stderr().lock().write_all((self.line(SystemClock.now()) + "\n").as_bytes()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ExportState, StreamSelector, TimeRange};

    const NOW: Duration = Duration::from_secs(130);

    /// Every event of a run, in an order that a run could have.
    fn run_events() -> Vec<RunEvent> {
        let export = || ExportId("9f86d081884c7d65".to_owned());
        let stream = || "yard".to_owned();
        let selector = StreamSelector::Name(stream());
        let start = UtcMillis::new(1_772_438_400_000);
        vec![
            RunEvent::RunStarted { exports: 2 },
            RunEvent::Settling { stream: selector.clone(), until: start + 60_000 },
            RunEvent::ExportOpened {
                export: export(),
                job: "nightly".to_owned(),
                stream: selector,
                range: TimeRange::new(start, start + 90_000).expect("not empty"),
                resumed: Some((1, 6)),
            },
            RunEvent::WindowPlanned {
                export: export(),
                chunks: 6,
                bytes: 6_150_000,
                media_ms: 90_000,
                last: true,
            },
            RunEvent::BytesReceived { bytes: 990_000 },
            RunEvent::ChunkFetched { export: export(), planned_bytes: 1_025_000, size_bytes: 990_000 },
            RunEvent::ChunkSplit { export: export(), into: 2 },
            RunEvent::Throttled { stream: stream() },
            RunEvent::Retrying {
                stream: stream(),
                api: "GetClip".to_owned(),
                attempt: 1,
                delay_ms: 120,
                error: "connection reset".to_owned(),
            },
            RunEvent::StreamPaused { stream: stream(), reason: PauseReason::Throttled, retry_ms: 15_000 },
            RunEvent::StreamPaused { stream: stream(), reason: PauseReason::Away, retry_ms: 15_000 },
            RunEvent::StreamResumed { stream: stream() },
            RunEvent::DiskLow { free: 3_200_000_000, needed: 5_000_000_000 },
            RunEvent::DiskFreed,
            RunEvent::WindowEmpty { export: export() },
            RunEvent::Warning { message: "the camera's clock is 26 h ahead".to_owned() },
            RunEvent::MergeStarted { export: export() },
            RunEvent::ExportFinished { export: export(), state: ExportState::Done, error: None },
            RunEvent::ExportFinished {
                export: export(),
                state: ExportState::Failed,
                error: Some("denied".to_owned()),
            },
            RunEvent::Interrupted,
        ]
    }

    /// Every line there is.
    pub(crate) fn everything() -> Vec<String> {
        let time = UtcMillis::new(1_772_498_400_500);
        let mut lines = vec![
            ProgressEvent::Began {
                version: "0.1.0",
                pid: 4711,
                job_file: Some(Path::new("/srv/jobs.toml")),
                state: Path::new("/srv/state.db"),
            }
            .line(time),
        ];
        let mut state = RunState::default();
        for event in run_events() {
            lines.extend(ProgressEvent::of(&event).map(|told| told.line(time)));
            let merged = matches!(event, RunEvent::ChunkSplit { .. });
            state.take(event, NOW);
            if merged {
                let totals = Totals::of(&state, 990_000, Some(100_000), NOW);
                lines.push(ProgressEvent::Totals(totals).line(time));
            }
        }
        let hints = ["wait for it".to_owned()];
        let (outcome, message) = (Outcome::Locked, "another run holds the state");
        lines.extend([
            ProgressEvent::Ended { outcome: Outcome::Interrupted, exit_code: 130 }.line(time),
            ProgressEvent::Error { message, hints: &hints, outcome, exit_code: 4 }.line(time),
            ProgressEvent::NotifyOutput { line: "sent" }.line(time),
        ]);
        lines
    }

    #[test]
    fn every_event_is_a_line_of_json() {
        insta::assert_snapshot!(everything().join("\n"), @r#"
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"began","version":"0.1.0","pid":4711,"job_file":"/srv/jobs.toml","state":"/srv/state.db"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"run_started","exports":2}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"settling","stream":"yard","until":"2026-03-02T08:01:00.000Z"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"export_opened","export":"9f86d081884c7d65","job":"nightly","stream":"yard","from":"2026-03-02T08:00:00.000Z","to":"2026-03-02T08:01:30.000Z","resumed":{"fetched":1,"planned":6}}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"window_planned","export":"9f86d081884c7d65","chunks":6,"bytes":6150000,"media_ms":90000,"last":true}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"chunk_fetched","export":"9f86d081884c7d65","planned_bytes":1025000,"size_bytes":990000}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"chunk_split","export":"9f86d081884c7d65","into":2}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"totals","elapsed_ms":130000,"exports":2,"exports_opened":1,"exports_merging":0,"exports_finished":0,"exports_failed":0,"planned_all":false,"planned_chunks":7,"fetched_chunks":2,"planned_bytes":6150000,"fetched_bytes":1903571,"bytes_received":990000,"bytes_per_second":100000,"left_ms":null,"throttles":0,"retries":0,"streams_throttled":0,"streams_away":0,"waits_for_disk":false}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"throttled","stream":"yard"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"retrying","stream":"yard","api":"GetClip","attempt":1,"delay_ms":120,"error":"connection reset"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"stream_paused","stream":"yard","reason":"throttled","retry_ms":15000}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"stream_paused","stream":"yard","reason":"away","retry_ms":15000}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"stream_resumed","stream":"yard"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"disk_low","free":3200000000,"needed":5000000000}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"disk_freed"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"window_empty","export":"9f86d081884c7d65"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"warning","message":"the camera's clock is 26 h ahead"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"merge_started","export":"9f86d081884c7d65"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"export_finished","export":"9f86d081884c7d65","status":"done","error":null}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"export_finished","export":"9f86d081884c7d65","status":"failed","error":"denied"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"interrupted"}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"ended","outcome":"interrupted","exit_code":130}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"error","message":"another run holds the state","hints":["wait for it"],"outcome":"locked","exit_code":4}
        {"schema":"kvs-export/progress/1","time":"2026-03-03T00:40:00.500Z","event":"notify_output","line":"sent"}
        "#);
    }

    #[test]
    fn every_event_and_key_is_documented() {
        let page = include_str!("../../docs/json.md");
        let (_, page) = page.split_once("## `kvs-export/progress/1`").expect("a section");
        let page = page.split("\n## ").next().unwrap_or_default();
        for line in everything() {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let event = line["event"].as_str().expect("a name");
            let row = page.lines().find(|row| row.starts_with(&format!("| `{event}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/json.md has no row of {event}"));
            for key in line.as_object().expect("an object").keys() {
                let common = ["schema", "time", "event"].contains(&key.as_str());
                assert!(if common { page } else { row }.contains(&format!("`{key}`")), "{event}: {key}");
            }
        }
    }

    #[test]
    fn time_left_is_told_only_of_a_whole_plan() {
        let mut state = RunState::default();
        let all = run_events();
        for event in all.into_iter().take(5) {
            state.take(event, NOW);
        }
        // One of two exports is not opened yet.
        let totals = Totals::of(&state, 990_000, Some(100_000), NOW);
        assert_eq!((totals.planned_all, totals.left_ms), (false, None));
        state.take(RunEvent::RunStarted { exports: 1 }, NOW);
        let totals = Totals::of(&state, 990_000, Some(100_000), NOW);
        assert_eq!((totals.planned_all, totals.left_ms), (true, Some(52_000)));
    }
}
