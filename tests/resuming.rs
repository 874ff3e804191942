//! Runs on other days and of edited job files: what is resumed, new, done, superseded.
//!
//! In one process with an injected clock, against the emulator through the real AWS SDK.

use std::path::Path;
use std::sync::Arc;

use kvs_export::archive::{self, Assembled, AwsArchive, AwsSettings, LimitSettings, RetrySettings};
use kvs_export::clock::SetClock;
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, Fault, FaultRule};
use kvs_export::job::{self, JobSource};
use kvs_export::merge::Ffmpeg;
use kvs_export::model::event::{EventSink, RunEvent};
use kvs_export::model::report::{ExportReport, ExportStatus, Outcome, RunReport};
use kvs_export::model::{TimeRange, UtcMillis};
use kvs_export::run::{Asked, DiskLimits, RunRequest, SystemDisks, run};
use kvs_export::store::Store;
use tempfile::TempDir;

/// 2024-03-05T00:00:00Z, a Tuesday.
const TUESDAY: i64 = 1_709_596_800_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A night that is over three minutes after midnight.
const NIGHT: &str = r#"
[[job]]
name = "night"
streams = ["gate"]
time_zone = "UTC"
from = "yesterday 23:59"
to = "today 00:01"
output = "out/{from:%Y-%m-%d}.mp4"
"#;

/// The last two minutes, whenever they are.
const LATEST: &str = r#"
[[job]]
name = "latest"
streams = ["gate"]
last = "2m"
settle = "0s"
output = "out/{from:%H%M}.mp4"
"#;

struct Silent;

impl EventSink for Silent {
    fn event(&self, _: RunEvent) {}
}

/// One folder that job files are run in, again and again.
struct Place {
    folder: TempDir,
    camera: Camera,
    requests_in_flight: usize,
}

/// How the archive behaves in a run.
#[derive(Clone, Copy, PartialEq)]
enum Service {
    Good,
    /// Every clip fails, so that every export is left unfinished.
    NoClips,
}

impl Place {
    fn new() -> Self {
        Self::of(Camera::steady("gate"))
    }

    fn of(camera: Camera) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), camera, requests_in_flight: 8 }
    }

    /// Runs a job file at a time of day; returns the report and how many clips were asked for.
    fn run(&self, jobs: &str, now: i64, service: Service) -> (RunReport, usize) {
        self.run_only(jobs, &[], now, service)
    }

    fn run_only(&self, jobs: &str, only: &[&str], now: i64, service: Service) -> (RunReport, usize) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let clock = Arc::new(SetClock::at(UtcMillis::new(now)));
            let faults = match service {
                Service::Good => Vec::new(),
                Service::NoClips => vec![FaultRule::always(Api::GetClip, Fault::InternalFailure)],
            };
            let emulator = Emulator::start(EmulatorConfig {
                clock: clock.clone(),
                faults,
                points: None,
                ..EmulatorConfig::with_cameras([self.camera.clone()])
            })
            .await
            .expect("an emulator");
            let report = self.request(jobs, only, &emulator, clock).await;
            let clips = emulator.log().iter().filter(|request| request.api == Api::GetClip).count();
            emulator.stop().await;
            (report, clips)
        })
    }

    async fn request(
        &self,
        jobs: &str,
        only: &[&str],
        emulator: &Emulator,
        clock: Arc<SetClock>,
    ) -> RunReport {
        let text = format!("version = 1\n{jobs}");
        let file = self.folder.path().join("jobs.toml");
        let only: Vec<String> = only.iter().map(|job| (*job).to_owned()).collect();
        let source = JobSource { text: &text, file: &file, display: "jobs.toml" };
        let now = kvs_export::clock::Clock::now(&*clock);
        let (file, resolved) = job::load(source, now, &only).unwrap_or_else(|errors| panic!("{errors}"));
        let settings = AwsSettings {
            region: Some("us-west-2".to_owned()),
            endpoint_url: Some(emulator.endpoint()),
            static_credentials: Some(("test".to_owned(), "test".to_owned())),
            ..AwsSettings::default()
        };
        let archive = AwsArchive::connect(&settings).await.expect("static credentials");
        let requests_in_flight = self.requests_in_flight;
        let limits = LimitSettings { requests_in_flight, stream_budget: 1.0, bandwidth: None };
        let retries = RetrySettings { attempts: 1, outage: std::time::Duration::from_secs(1) };
        let (_, cancel) = tokio::sync::watch::channel(false);
        let Assembled { archive, pace } = archive::assemble(archive, limits, retries);
        run(RunRequest {
            asked: resolved.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending }).collect(),
            unlisted: Vec::new(),
            whole_file: only.is_empty(),
            store: Store::open(&file.state, clock.clone()).expect("a state file"),
            state: file.state.clone(),
            work: file.work.clone(),
            archive,
            pace,
            requests_in_flight: self.requests_in_flight,
            attempts: 1,
            merges: 1,
            disk: DiskLimits { min_free: 0, max_bytes: None, disks: Arc::new(SystemDisks) },
            ffmpeg: Ffmpeg::find().expect("ffmpeg"),
            clock,
            events: Arc::new(Silent),
            cancel,
            job_file: None,
        })
        .await
    }

    /// The videos that lie below `out`, by name.
    fn videos(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path().join("out"))
            .map(|entries| {
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect()
            })
            .unwrap_or_default();
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "mp4"));
        names.sort();
        names
    }
}

fn statuses(report: &RunReport) -> Vec<ExportStatus> {
    report.exports.iter().map(|export| export.status).collect()
}

fn only_export(report: &RunReport) -> &ExportReport {
    match report.exports.as_slice() {
        [export] => export,
        other => panic!("one export was expected: {other:#?}"),
    }
}

#[test]
fn last_nights_unfinished_export_is_finished_after_midnight_though_tonight_is_not_over() {
    let place = Place::new();
    let (failed, _) = place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::NoClips);
    assert_eq!(statuses(&failed), [ExportStatus::Failed]);
    let (after, _) = place.run(NIGHT, TUESDAY + DAY + MINUTE / 2, Service::Good);
    assert_eq!(statuses(&after), [ExportStatus::Done, ExportStatus::Pending], "{after:#?}");
    assert_eq!(after.outcome, Outcome::Done);
    assert_eq!(place.videos(), ["2024-03-04.mp4"]);
    let (next, _) = place.run(NIGHT, TUESDAY + DAY + 3 * MINUTE, Service::Good);
    assert_eq!(statuses(&next), [ExportStatus::Done]);
    assert_eq!(place.videos(), ["2024-03-04.mp4", "2024-03-05.mp4"]);
}

#[test]
fn a_night_that_failed_is_finished_together_with_the_next_one() {
    let place = Place::new();
    place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::NoClips);
    let (both, _) = place.run(NIGHT, TUESDAY + DAY + 3 * MINUTE, Service::Good);
    assert_eq!(statuses(&both), [ExportStatus::Done, ExportStatus::Done]);
    assert_eq!(place.videos(), ["2024-03-04.mp4", "2024-03-05.mp4"]);
}

#[test]
fn the_latest_minutes_are_resolved_anew_only_when_the_unfinished_ones_are_done() {
    let place = Place::new();
    place.run(LATEST, TUESDAY + HOUR + MINUTE / 2, Service::NoClips);
    let (resumed, _) = place.run(LATEST, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&resumed).from, UtcMillis::new(TUESDAY + HOUR - 2 * MINUTE));
    assert_eq!(place.videos(), ["0058.mp4"]);
    let (new, _) = place.run(LATEST, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&new).from, UtcMillis::new(TUESDAY + 2 * HOUR - 2 * MINUTE));
    assert_eq!(place.videos(), ["0058.mp4", "0158.mp4"]);
}

/// A gap in the two minutes before one o'clock.
fn with_a_gap() -> Camera {
    let gap = |minutes: i64| UtcMillis::new(TUESDAY + HOUR) - minutes * MINUTE;
    let range = TimeRange::new(gap(2) + 30_000, gap(1)).expect("a range");
    Camera::steady("gate").gap(range)
}

#[test]
fn an_export_that_its_gaps_have_failed_does_not_keep_later_ones_from_their_turn() {
    let place = Place::of(with_a_gap());
    let strict = format!("{LATEST}gaps = \"fail\"\n");
    let (failed, _) = place.run(&strict, TUESDAY + HOUR + MINUTE / 2, Service::Good);
    let error = only_export(&failed).error.as_deref().expect("an error");
    assert!(error.contains("gaps = \"fail\""), "{error}");
    let (later, _) = place.run(&strict, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(statuses(&later), [ExportStatus::Done], "{later:#?}");
    assert_eq!(place.videos(), ["0158.mp4"]);
    // Who accepts gaps after all gets the earlier one too.
    let (accepted, _) = place.run(LATEST, TUESDAY + 3 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&accepted).status, ExportStatus::Done);
    assert_eq!(place.videos(), ["0058.mp4", "0158.mp4"]);
}

#[test]
fn an_edited_setting_supersedes_the_unfinished_export_and_takes_its_path() {
    for only in [&[] as &[&str], &["night"]] {
        let place = Place::new();
        let now = TUESDAY + 3 * MINUTE;
        place.run(NIGHT, now, Service::NoClips);
        let edited = format!("{NIGHT}timeline = \"wallclock\"\n");
        let (done, _) = place.run_only(&edited, only, now, Service::Good);
        assert_eq!(only_export(&done).status, ExportStatus::Done, "{done:#?}");
        assert_eq!(place.videos(), ["2024-03-04.mp4"]);
        let store = Store::open_read_only(
            &place.folder.path().join(".kvs-export/jobs/state.db"),
            Arc::new(kvs_export::clock::SystemClock),
        );
        let unfinished = store.expect("the state").unfinished().expect("a query");
        assert!(unfinished.len() == 1 && unfinished[0].superseded, "{unfinished:#?}");
    }
}

#[test]
fn a_job_that_is_not_run_is_not_superseded() {
    let place = Place::new();
    let now = TUESDAY + 3 * MINUTE;
    let other = NIGHT.replace("\"night\"", "\"other\"").replace("out/", "out/other-");
    let both = format!("{NIGHT}{other}");
    place.run(&both, now, Service::NoClips);
    let (one, _) = place.run_only(&both, &["other"], now, Service::Good);
    assert_eq!(only_export(&one).job, "other");
    let (rest, _) = place.run(&both, now, Service::Good);
    assert_eq!(statuses(&rest), [ExportStatus::Done, ExportStatus::Done]);
    assert_eq!(rest.exports.iter().map(|export| export.already).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_renamed_job_and_a_changed_path_fetch_nothing_again() {
    let place = Place::new();
    let now = TUESDAY + 3 * MINUTE;
    place.run(NIGHT, now, Service::Good);
    let renamed = NIGHT.replace("\"night\"", "\"evidence\"");
    let moved = NIGHT.replace("out/", "elsewhere/");
    for edited in [renamed, moved] {
        let (report, clips) = place.run(&edited, now, Service::Good);
        let export = only_export(&report);
        assert!(export.already && export.status == ExportStatus::Done && clips == 0, "{report:#?}");
        assert!(export.output[0].ends_with("out/2024-03-04.mp4"), "{:?}", export.output);
    }
    assert!(!place.folder.path().join("elsewhere").exists());
}

#[test]
fn exports_that_fail_at_once_leave_the_others_their_turn() {
    let place = Place { requests_in_flight: 1, ..Place::of(with_a_gap()) };
    let job = |name: &str, from: i64, more: &str| {
        let from = UtcMillis::new(from);
        format!(
            "\n[[job]]\nname = \"{name}\"\nstreams = [\"gate\"]\nfrom = {from}\nto = {}\n\
             output = \"out/{name}.mp4\"\n{more}\n",
            from + MINUTE
        )
    };
    let mut jobs = String::new();
    for number in 0..6 {
        let from = TUESDAY + HOUR - 2 * MINUTE + number * 1_000;
        jobs += &job(&format!("strict-{number}"), from, "gaps = \"fail\"");
    }
    place.run(&jobs, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    // A later range expires later, so its turn comes last.
    jobs += &job("good", TUESDAY + HOUR, "");
    let (report, _) = place.run(&jobs, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    let mut expected = vec![ExportStatus::Failed; 6];
    expected.push(ExportStatus::Done);
    assert_eq!(statuses(&report), expected, "{report:#?}");
}

#[test]
fn a_run_that_cannot_begin_is_the_last_run() {
    let place = Place::new();
    place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::Good);
    let state = place.folder.path().join(".kvs-export/jobs/state.db");
    let mut store = Store::open(&state, Arc::new(kvs_export::clock::SystemClock)).expect("the state");
    let refused = RunReport::refused(Outcome::Auth, "no usable AWS credentials".to_owned());
    kvs_export::run::record_refused(&mut store, None, &refused);
    let last = store.last_run().expect("a query").expect("a run");
    assert_eq!((last.outcome.as_deref(), last.exit_code), (Some("auth"), Some(5)));
}
