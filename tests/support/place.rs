//! One folder that job files are planned and run in, again and again, at any time of day.
//!
//! In one process with an injected clock, against the emulator through the real AWS SDK; `status` is the binary's.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use kvs_export::archive::{self, Assembled, AwsArchive, AwsSettings, LimitSettings, RetrySettings};
use kvs_export::clock::{Clock, SetClock};
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, Fault, FaultRule, RequestRecord};
use kvs_export::job::{self, JobFile, JobSource};
use kvs_export::merge::Ffmpeg;
use kvs_export::model::UtcMillis;
use kvs_export::model::event::{EventSink, RunEvent};
use kvs_export::model::plan_report::{PlanReport, PlanSink, PlannedExport};
use kvs_export::model::report::{ExportReport, RunReport};
use kvs_export::run::{Asked, DiskLimits, PlanLimits, PlanRequest, RunRequest, SystemDisks, plan, run};
use kvs_export::store::{ExportRecord, Store};
use serde_json::Value;
use tempfile::TempDir;

/// 2024-03-05T00:00:00Z, a Tuesday.
pub(crate) const TUESDAY: i64 = 1_709_596_800_000;
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

struct Silent;

impl EventSink for Silent {
    fn event(&self, _: RunEvent) {}
}

/// One folder that job files are run in, again and again.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) cameras: Vec<Camera>,
    pub(crate) requests_in_flight: usize,
}

/// How the archive behaves in a run.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Service {
    Good,
    /// Every clip fails, so that every export is left unfinished.
    NoClips,
    /// The second clip that is asked for fails, the others are given. Not the first: a stream of which nothing was given
    /// yet is waited for.
    OneClipFails,
}

impl Service {
    fn faults(self) -> Vec<FaultRule> {
        match self {
            Self::Good => Vec::new(),
            Self::NoClips => vec![FaultRule::always(Api::GetClip, Fault::InternalFailure)],
            Self::OneClipFails => vec![FaultRule::nth(Api::GetClip, 2, Fault::InternalFailure)],
        }
    }
}

/// A job file at a time of day.
#[derive(Clone, Copy)]
struct Asking<'a> {
    jobs: &'a str,
    only: &'a [&'a str],
    now: i64,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(Camera::steady("gate"))
    }

    pub(crate) fn of(camera: Camera) -> Self {
        Self::with([camera])
    }

    pub(crate) fn with(cameras: impl IntoIterator<Item = Camera>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, cameras: cameras.into_iter().collect(), requests_in_flight: 8 }
    }

    /// Runs a job file at a time of day; returns the report and how many clips were asked for.
    pub(crate) fn run(&self, jobs: &str, now: i64, service: Service) -> (RunReport, usize) {
        self.run_only(jobs, &[], now, service)
    }

    pub(crate) fn run_only(
        &self,
        jobs: &str,
        only: &[&str],
        now: i64,
        service: Service,
    ) -> (RunReport, usize) {
        let asking = Asking { jobs, only, now };
        let (report, log) = self.with_emulator(asking, service, async |emulator, clock| {
            run(self.run_request(asking, emulator, clock).await).await
        });
        (report, log.iter().filter(|request| request.api == Api::GetClip).count())
    }

    /// What a run would do.
    pub(crate) fn plan(&self, jobs: &str, only: &[&str], now: i64) -> Planned {
        let asking = Asking { jobs, only, now };
        let told = Arc::new(ToldExports::default());
        let (report, _) = self.with_emulator(asking, Service::Good, async |emulator, clock| {
            plan(self.plan_request(asking, emulator, clock, told.clone()).await).await
        });
        let exports = std::mem::take(&mut *told.0.lock().expect("not poisoned"));
        Planned { report, exports }
    }

    fn with_emulator<T>(
        &self,
        asking: Asking<'_>,
        service: Service,
        work: impl AsyncFnOnce(&Emulator, Arc<SetClock>) -> T,
    ) -> (T, Vec<RequestRecord>) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let clock = Arc::new(SetClock::at(UtcMillis::new(asking.now)));
            let emulator = Emulator::start(EmulatorConfig {
                clock: clock.clone(),
                faults: service.faults(),
                points: None,
                ..EmulatorConfig::with_cameras(self.cameras.clone())
            })
            .await
            .expect("an emulator");
            let result = work(&emulator, clock).await;
            let log = emulator.log();
            emulator.stop().await;
            (result, log)
        })
    }

    /// The job file, and what it asks for.
    fn load(&self, asking: Asking<'_>, clock: &SetClock) -> (JobFile, Vec<Asked>) {
        let text = format!("version = 1\n{}", asking.jobs);
        let file = self.folder.path().join("jobs.toml");
        std::fs::write(&file, &text).expect("written");
        let only: Vec<String> = asking.only.iter().map(|job| (*job).to_owned()).collect();
        let source = JobSource { text: &text, file: &file, display: "jobs.toml" };
        let (file, resolved) =
            job::load(source, clock.now(), &only).unwrap_or_else(|errors| panic!("{errors}"));
        let asked = resolved.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending });
        (file, asked.collect())
    }

    async fn archive(&self, emulator: &Emulator) -> Assembled {
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
        archive::assemble(archive, limits, retries)
    }

    async fn run_request(&self, asking: Asking<'_>, emulator: &Emulator, clock: Arc<SetClock>) -> RunRequest {
        let (file, asked) = self.load(asking, &clock);
        let Assembled { archive, pace } = self.archive(emulator).await;
        let (_, cancel) = tokio::sync::watch::channel(false);
        RunRequest {
            asked,
            unlisted: Vec::new(),
            whole_file: asking.only.is_empty(),
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
        }
    }

    async fn plan_request(
        &self,
        asking: Asking<'_>,
        emulator: &Emulator,
        clock: Arc<SetClock>,
        told: Arc<ToldExports>,
    ) -> PlanRequest {
        let (file, asked) = self.load(asking, &clock);
        let Assembled { archive, .. } = self.archive(emulator).await;
        let (_, cancel) = tokio::sync::watch::channel(false);
        let store = Store::open_read_only(&file.state, clock.clone())
            .unwrap_or_else(|_| Store::in_memory(clock.clone()).expect("memory"));
        PlanRequest {
            asked,
            unlisted: Vec::new(),
            list_streams: 0,
            whole_file: asking.only.is_empty(),
            store,
            keep_in: Err("the run is to list for itself".to_owned()),
            archive,
            limits: PlanLimits {
                requests_in_flight: self.requests_in_flight,
                stream_budget: 1.0,
                bandwidth: None,
                max_bytes: None,
            },
            clock,
            told,
            cancel,
        }
    }

    /// What the state file says, in the order of creation.
    pub(crate) fn records(&self) -> Vec<ExportRecord> {
        let path = self.folder.path().join(".kvs-export/jobs/state.db");
        match Store::open_read_only(&path, Arc::new(kvs_export::clock::SystemClock)) {
            Ok(store) => store.exports(0, u32::MAX).expect("read"),
            Err(_) => Vec::new(),
        }
    }

    /// The document of `status`.
    pub(crate) fn status(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
        command.args(["status", "--format", "json"]).arg(self.folder.path().join("jobs.toml"));
        serde_json::from_slice(&command.output().expect("it starts").stdout).expect("a document")
    }

    /// The videos that lie below `out`, by name.
    pub(crate) fn videos(&self) -> Vec<String> {
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

/// A plan with its exports.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) report: PlanReport,
    pub(crate) exports: Vec<PlannedExport>,
}

#[derive(Debug, Default)]
struct ToldExports(Mutex<Vec<PlannedExport>>);

impl PlanSink for ToldExports {
    fn is_early(&self) -> bool {
        false
    }

    fn export(&self, export: &PlannedExport) {
        self.0.lock().expect("not poisoned").push(export.clone());
    }

    fn late(&self, export: &PlannedExport) {
        panic!("none was told early: {export:?}");
    }
}

/// The export of a report that has no other.
pub(crate) fn only_export(report: &RunReport) -> &ExportReport {
    match report.exports.as_slice() {
        [export] => export,
        other => panic!("one export was expected: {other:#?}"),
    }
}
