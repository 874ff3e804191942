//! A month of nights: one job of many cameras and `daily` windows, run on several days, stopped in between, and exact.
//!
//! In one process with an injected clock, against the emulator through the real AWS SDK. The month is that in which
//! clocks are set forward in Los Angeles, in the night to 8 March 2026. Cameras record a few fragments where a night begins
//! and ends, where clocks are set, and in the day, of which nothing may come. By default a week of four cameras;
//! `NIGHTS=month` (`make nights`) takes all nights of twenty.

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvs_export::archive::{self, Assembled, AwsArchive, AwsSettings, LimitSettings, RetrySettings};
use kvs_export::clock::SetClock;
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, Recording};
use kvs_export::job::{self, JobSource};
use kvs_export::merge::Ffmpeg;
use kvs_export::model::event::{EventSink, RunEvent};
use kvs_export::model::report::{ExportReport, ExportStatus, Outcome, RunReport};
use kvs_export::model::{TimeRange, Timeline, UtcMillis};
use kvs_export::run::{Asked, DiskLimits, RunRequest, SystemDisks, run};
use kvs_export::store::Store;
use support::oracle;
use support::scene::Job;
use support::truth::{self, Difference};
use tempfile::TempDir;
use tokio::sync::watch;

/// 2026-03-01T00:00:00Z.
const MARCH: i64 = 1_772_323_200_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const REQUESTS_IN_FLIGHT: usize = 16;

/// How much of the month is played.
#[derive(Clone, Copy)]
struct Size {
    cameras: usize,
    /// The days of March on which the first and the last night begin.
    nights: (i64, i64),
    /// The days on whose forenoon the job is run.
    runs: [i64; 3],
}

impl Size {
    fn of_environment() -> Self {
        match std::env::var("NIGHTS").as_deref() {
            Ok("month") => Self { cameras: 20, nights: (1, 31), runs: [11, 21, 32] },
            _ => Self { cameras: 4, nights: (5, 11), runs: [9, 11, 12] },
        }
    }

    fn camera(number: usize) -> String {
        format!("gate-{number:02}")
    }

    fn job_file(self) -> String {
        let cameras: Vec<String> =
            (0..self.cameras).map(|number| format!("\"{}\"", Self::camera(number))).collect();
        let end = if self.nights.1 == 31 {
            "2026-04-01".to_owned()
        } else {
            format!("2026-03-{:02}", self.nights.1 + 1)
        };
        format!(
            "version = 1\n[limits]\nmin_free = \"0 B\"\n[[job]]\nname = \"nights\"\nstreams = [{}]\n\
             time_zone = \"America/Los_Angeles\"\nfrom = 2026-03-{:02}T12:00:00\nto = {end}T12:00:00\n\
             daily = \"18:00-06:00\"\noutput = \"out/{{stream}}/{{from:%Y-%m-%d}}.mp4\"\n",
            cameras.join(", "),
            self.nights.0
        )
    }

    /// The nights by the day on which they begin, worked out by hand: eight hours behind UTC, seven from 8 March on.
    fn windows(self) -> impl Iterator<Item = (i64, TimeRange)> {
        (self.nights.0..=self.nights.1).map(|day| {
            let midnight = MARCH + (day - 1) * DAY;
            let from = midnight + 18 * HOUR + if day < 8 { 8 * HOUR } else { 7 * HOUR };
            let to = midnight + 30 * HOUR + if day < 7 { 8 * HOUR } else { 7 * HOUR };
            (day, TimeRange::new(UtcMillis::new(from), UtcMillis::new(to)).expect("a night"))
        })
    }

    /// What a camera recorded; each camera a little later than the one before.
    fn recorded(self, number: usize) -> Camera {
        let mut starts = Vec::new();
        let late = i64::try_from(number).expect("few") * 137;
        for (_, night) in self.windows() {
            let (from, to) = (night.start().get(), night.end().get());
            // Into the night, where clocks are set or would be, out of the night, and at noon.
            starts.extend(
                [from - 2_500, from + 8 * HOUR - 3_000, to - 3_100, to + 6 * HOUR].map(|at| at + late),
            );
        }
        let mut recording = Recording::at(UtcMillis::new(starts[0])).server_delay_ms(250);
        for (index, start) in starts.iter().enumerate() {
            recording = recording.fragments(3, 2_000);
            if let Some(next) = starts.get(index + 1) {
                recording = recording.gap_ms(next - start - 3 * 2_000);
            }
        }
        Camera::with_script(Self::camera(number), recording.into_script())
    }
}

/// Stops a run when so many exports are finished.
struct StopsAfter {
    left: AtomicUsize,
    stop: watch::Sender<bool>,
}

impl EventSink for StopsAfter {
    fn event(&self, event: RunEvent) {
        if matches!(event, RunEvent::ExportFinished { .. }) && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.stop.send_replace(true);
        }
    }
}

/// What is asked of the archive in a run.
#[derive(Debug, PartialEq)]
struct Requests {
    listings: usize,
    clips: usize,
}

/// Runs the job file on the forenoon of a day of March, up to so many finished exports.
fn run_on(folder: &TempDir, size: Size, day: i64, stop_after: usize) -> (RunReport, Requests) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        // Ten in the morning in Los Angeles, give or take an hour.
        let now = UtcMillis::new(MARCH + (day - 1) * DAY + 18 * HOUR);
        let clock = Arc::new(SetClock::at(now));
        let cameras = (0..size.cameras).map(|number| size.recorded(number));
        let config =
            EmulatorConfig { clock: clock.clone(), points: None, ..EmulatorConfig::with_cameras(cameras) };
        let emulator = Emulator::start(config).await.expect("an emulator");
        let settings = AwsSettings {
            region: Some("us-west-2".to_owned()),
            endpoint_url: Some(emulator.endpoint()),
            static_credentials: Some(("test".to_owned(), "test".to_owned())),
            ..AwsSettings::default()
        };
        let archive = AwsArchive::connect(&settings).await.expect("static credentials");
        // The emulator has no quotas here: hours of silence are listed as fast as it answers.
        let limits =
            LimitSettings { requests_in_flight: REQUESTS_IN_FLIGHT, stream_budget: 100.0, bandwidth: None };
        let retries = RetrySettings { attempts: 1, outage: Duration::from_secs(1) };
        let Assembled { archive, pace } = archive::assemble(archive, limits, retries);
        let text = size.job_file();
        let path = folder.path().join("jobs.toml");
        let source = JobSource { text: &text, file: &path, display: "jobs.toml" };
        let (file, asked) = job::load(source, now, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let (stop, cancel) = watch::channel(false);
        let report = run(RunRequest {
            asked: asked.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending }).collect(),
            unlisted: Vec::new(),
            whole_file: true,
            store: Store::open(&file.state, clock.clone()).expect("a state file"),
            state: file.state.clone(),
            work: file.work.clone(),
            archive,
            pace,
            requests_in_flight: REQUESTS_IN_FLIGHT,
            attempts: 1,
            merges: 2,
            disk: DiskLimits { min_free: 0, max_bytes: None, disks: Arc::new(SystemDisks) },
            ffmpeg: Ffmpeg::find().expect("ffmpeg"),
            clock,
            events: Arc::new(StopsAfter { left: AtomicUsize::new(stop_after), stop }),
            cancel,
            job_file: None,
        })
        .await;
        let of = |api| emulator.log().iter().filter(|request| request.api == api).count();
        let requests = Requests { listings: of(Api::ListFragments), clips: of(Api::GetClip) };
        emulator.stop().await;
        (report, requests)
    })
}

/// A camera's night.
type Night = (String, UtcMillis);

/// The exports of a report, of which every night of every camera must have one, and no more.
fn each_night_once(report: &RunReport, size: Size) -> BTreeMap<Night, &ExportReport> {
    let mut found = BTreeMap::new();
    for export in &report.exports {
        let night = (export.stream.clone(), export.from);
        assert!(
            found.insert(night, export).is_none(),
            "{} {} twice: {report:#?}",
            export.stream,
            export.from
        );
    }
    for (_, night) in size.windows() {
        for number in 0..size.cameras {
            let export = found.get(&(Size::camera(number), night.start()));
            assert_eq!(export.map(|export| export.to), Some(night.end()), "{} {night}", Size::camera(number));
        }
    }
    assert_eq!(found.len(), size.windows().count() * size.cameras);
    found
}

/// The nights that are finished, all of which are over.
fn finished(report: &RunReport, size: Size, day: i64) -> Vec<Night> {
    let over = |export: &ExportReport| export.to.get() <= MARCH + (day - 1) * DAY + 18 * HOUR;
    let mut done = Vec::new();
    for (night, export) in each_night_once(report, size) {
        assert!(export.error.is_none() && export.warnings.is_empty(), "{export:#?}");
        match export.status {
            ExportStatus::Done => {
                assert!(over(export), "{export:#?}");
                done.push(night);
            }
            // Not over, or left when the run was stopped.
            ExportStatus::Pending => {
                assert!(!over(export) || report.outcome == Outcome::Interrupted, "{export:#?}");
            }
            other => panic!("{other:?}: {export:#?}"),
        }
    }
    done
}

#[test]
fn a_month_of_nights_that_is_stopped_and_resumed_on_other_days_is_exact() {
    let size = Size::of_environment();
    let folder = tempfile::tempdir().expect("a folder");
    let a_part = size.cameras * size.windows().count() / 4;
    let [first, second, last] = size.runs;

    let (begun, mut asked) = run_on(&folder, size, first, a_part);
    assert_eq!(begun.outcome, Outcome::Interrupted, "{begun:#?}");
    let done = finished(&begun, size, first);
    assert!(done.len() >= a_part, "{}", done.len());

    let (resumed, more) = run_on(&folder, size, second, a_part);
    assert_eq!(resumed.outcome, Outcome::Interrupted, "{resumed:#?}");
    let done_then = finished(&resumed, size, second);
    assert!(done.iter().all(|night| done_then.contains(night)) && done_then.len() >= done.len() + a_part);
    let already = resumed.exports.iter().filter(|export| export.already).count();
    assert_eq!(already, done.len(), "what was finished is left alone");
    asked.clips += more.clips;

    let (ended, more) = run_on(&folder, size, last, usize::MAX);
    assert_eq!(ended.outcome, Outcome::Done, "{ended:#?}");
    assert_eq!(finished(&ended, size, last).len(), size.cameras * size.windows().count());
    asked.clips += more.clips;

    // Only what a stop cut short was asked for twice.
    let chunks: u64 = ended.exports.iter().map(|export| export.chunks.total).sum();
    let chunks = usize::try_from(chunks).expect("few");
    assert!((chunks..=chunks + 2 * REQUESTS_IN_FLIGHT).contains(&asked.clips), "{asked:?} {chunks}");

    for (night, export) in each_night_once(&ended, size) {
        let number = (0..size.cameras).find(|number| Size::camera(*number) == night.0).expect("a camera");
        let range = TimeRange::new(export.from, export.to).expect("a night");
        let fragments = truth::fragments(&size.recorded(number), &Job::new("nights", &*night.0, range));
        assert!(fragments.len() >= 6, "{night:?}: {}", fragments.len());
        let (_, day) = size
            .windows()
            .map(|(day, night)| (night.start(), day))
            .find(|(from, _)| *from == night.1)
            .expect("one");
        let video = folder.path().join(format!("out/{}/2026-03-{day:02}.mp4", night.0));
        assert_eq!(export.output.as_slice(), std::slice::from_ref(&video));
        let expected = truth::frames(&fragments, Timeline::Compact);
        let difference = Difference::between(&oracle::frames(&video), &expected, &night.0);
        assert!(difference.is_none(), "{night:?}: {difference}");
    }

    let (again, asked) = run_on(&folder, size, last, usize::MAX);
    assert_eq!(again.outcome, Outcome::Done);
    assert!(again.exports.iter().all(|export| export.already && export.status == ExportStatus::Done));
    assert_eq!(asked, Requests { listings: 0, clips: 0 });
}
