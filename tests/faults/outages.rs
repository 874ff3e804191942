//! Outages of minutes, on paused time: the emulator answers for real, only when its script has it answer at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kvs_export::archive::{
    self, Archive, ArchiveError, AwsArchive, AwsSettings, CallObserver, ClipQuery, ClipSink, FailureKind,
    FragmentPage, LimitSettings, ListQuery, RetrySettings, StreamDescription, StreamPage, StreamQuery,
};
use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::job::{self, JobSource};
use kvs_export::merge::Ffmpeg;
use kvs_export::model::event::{EventSink, PauseReason, RunEvent};
use kvs_export::model::{Attempt, StreamArn, StreamSelector};
use kvs_export::run::{Asked, DiskLimits, RunRequest, SystemDisks, run};
use kvs_export::store::Store;
use serde_json::json;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

use crate::minute;
use crate::support::scene::{Job, Run, Scene};
use crate::support::{after_midnight, expect_exact};

/// How long a request takes, on paused time.
const LATENCY: Duration = Duration::from_millis(100);

/// What goes wrong with a call of a stream so long after the begin.
type Script = Arc<dyn Fn(&str, &str, Duration) -> Option<FailureKind> + Send + Sync>;

/// The emulator's archive, asked on real time while the caller's stands still.
struct OnScript {
    inner: Arc<AwsArchive>,
    real: Handle,
    begin: Instant,
    script: Script,
}

impl OnScript {
    async fn ask<T: Send + 'static>(
        &self,
        api: &'static str,
        stream: &str,
        call: impl AsyncFnOnce(&AwsArchive) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        tokio::time::sleep(LATENCY).await;
        if let Some(kind) = (self.script)(api, stream, self.begin.elapsed()) {
            return Err(ArchiveError {
                api,
                stream: stream.to_owned(),
                kind,
                code: None,
                message: "as scripted".to_owned(),
                request_id: None,
                source: None,
            });
        }
        let (inner, real) = (Arc::clone(&self.inner), self.real.clone());
        // A blocking task keeps paused time from running on.
        let asked = tokio::task::spawn_blocking(move || real.block_on(call(&inner)).map_err(Box::new));
        asked.await.expect("no panic").map_err(|error| *error)
    }
}

/// Hears nothing.
struct Deaf;

impl CallObserver for Deaf {
    fn attempt(&self, _: Attempt) {}
    fn retrying(&self, _: &ArchiveError, _: u32, _: u64) {}
    fn bytes(&self, _: u64) {}
    fn paused(&self, _: &str, _: PauseReason, _: Duration) {}
    fn resumed(&self, _: &str) {}
}

/// Keeps a clip's bytes.
#[derive(Default)]
struct Kept(Vec<u8>);

impl ClipSink for Kept {
    fn restart(&mut self) -> std::io::Result<()> {
        self.0.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[async_trait]
impl Archive for OnScript {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        _: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        let selector = stream.clone();
        let call = async move |aws: &AwsArchive| aws.describe_stream(&selector, &Deaf).await;
        self.ask("DescribeStream", stream.name(), call).await
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        _: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        let (asked, prefix) = (query.clone(), query.prefix.to_string());
        let call = async move |aws: &AwsArchive| aws.list_streams(&asked, &Deaf).await;
        self.ask("ListStreams", &prefix, call).await
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        _: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let arn = stream.clone();
        let call = async move |aws: &AwsArchive| aws.list_tags(&arn, &Deaf).await;
        self.ask("ListTagsForStream", stream.name(), call).await
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        _: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let asked = query.clone();
        let call = async move |aws: &AwsArchive| aws.list_fragments(&asked, &Deaf).await;
        self.ask("ListFragments", query.stream.name(), call).await
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let asked = query.clone();
        let call = async move |aws: &AwsArchive| {
            let mut kept = Kept::default();
            aws.get_clip(&asked, &mut kept, &Deaf).await.map(|_| kept.0)
        };
        let bytes = self.ask("GetClip", query.stream.name(), call).await?;
        sink.restart().expect("a sink");
        sink.write(&bytes).expect("a sink");
        observer.bytes(bytes.len() as u64);
        Ok(bytes.len() as u64)
    }
}

/// Keeps when exports ended, and which streams were paused.
struct Told {
    begin: Instant,
    ended: Mutex<Vec<(String, Duration)>>,
    paused: Mutex<Vec<(String, PauseReason)>>,
}

impl EventSink for Told {
    fn event(&self, event: RunEvent) {
        match event {
            RunEvent::ExportFinished { export, .. } => {
                self.ended.lock().expect("no panic").push((export.0, self.begin.elapsed()));
            }
            RunEvent::StreamPaused { stream, reason, .. } => {
                self.paused.lock().expect("no panic").push((stream, reason));
            }
            _ => {}
        }
    }
}

/// How a run ended, after how long.
struct Ended {
    run: Run,
    elapsed: Duration,
    /// The ids of exports, in the order in which they ended.
    finished: Vec<(String, Duration)>,
    paused: Vec<(String, PauseReason)>,
}

impl Ended {
    /// After how long the export of a job ended.
    fn end_of(&self, job: &str) -> Duration {
        let id = self.run.export(job)["id"].as_str().expect("an id");
        self.finished.iter().find(|(export, _)| export == id).expect("it ended").1
    }
}

/// Carries the scene's job file out on that runtime against that archive.
fn carry_out(
    scene: &Scene,
    runtime: &Runtime,
    archive: impl Archive + 'static,
    (begin, stop_after): (Instant, Option<Duration>),
) -> Ended {
    let path: PathBuf = scene.job_file();
    let text = std::fs::read_to_string(&path).expect("a job file");
    let source = JobSource { text: &text, file: &path, display: "jobs.toml" };
    let now = kvs_export::clock::Clock::now(&SystemClock);
    let (file, asked) = job::load(source, now, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let limits = file.limits;
    let told = Arc::new(Told { begin, ended: Mutex::default(), paused: Mutex::default() });
    let (stop, cancel) = tokio::sync::watch::channel(false);
    let report = runtime.block_on(async {
        let assembled = archive::assemble(
            archive,
            LimitSettings {
                requests_in_flight: limits.requests_in_flight,
                stream_budget: limits.stream_budget,
                bandwidth: None,
            },
            RetrySettings { attempts: limits.attempts, outage: Duration::from_millis(limits.outage_ms) },
        );
        if let Some(after) = stop_after {
            tokio::spawn(async move {
                tokio::time::sleep_until(begin + after).await;
                stop.send_replace(true);
            });
        }
        run(RunRequest {
            asked: asked.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending }).collect(),
            unlisted: Vec::new(),
            whole_file: true,
            store: Store::open(&file.state, Arc::new(SystemClock)).expect("a state file"),
            state: file.state.clone(),
            work: file.work.clone(),
            archive: assembled.archive,
            pace: assembled.pace,
            requests_in_flight: limits.requests_in_flight,
            attempts: limits.attempts,
            merges: 1,
            disk: DiskLimits { min_free: 0, max_bytes: None, disks: Arc::new(SystemDisks) },
            ffmpeg: Ffmpeg::find().expect("ffmpeg"),
            clock: Arc::new(SystemClock),
            events: told.clone(),
            cancel,
            job_file: None,
        })
        .await
    });
    let elapsed = runtime.block_on(async { begin.elapsed() });
    let code = Some(i32::from(kvs_export::exit_code::of(report.outcome)));
    let report = serde_json::to_value(&report).expect("a document");
    let finished = std::mem::take(&mut *told.ended.lock().expect("no panic"));
    let paused = std::mem::take(&mut *told.paused.lock().expect("no panic"));
    Ended { run: Run { code, report, stderr: String::new() }, elapsed, finished, paused }
}

fn settings(scene: &Scene) -> AwsSettings {
    AwsSettings {
        region: Some("us-west-2".to_owned()),
        endpoint_url: Some(scene.endpoint()),
        static_credentials: Some(("test".to_owned(), "test".to_owned())),
        ..AwsSettings::default()
    }
}

/// Runs the scene's job file, on paused time, against a service that fails by that script.
fn run_on_script(
    scene: &Scene,
    script: impl Fn(&str, &str, Duration) -> Option<FailureKind> + Send + Sync + 'static,
) -> Ended {
    run_until(scene, None, script)
}

/// The same, stopped after so long.
fn run_until(
    scene: &Scene,
    stop_after: Option<Duration>,
    script: impl Fn(&str, &str, Duration) -> Option<FailureKind> + Send + Sync + 'static,
) -> Ended {
    let real = Runtime::new().expect("a runtime");
    let aws = real.block_on(AwsArchive::connect(&settings(scene))).expect("static credentials");
    let paused = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let begin = paused.block_on(async { Instant::now() });
    let archive =
        OnScript { inner: Arc::new(aws), real: real.handle().clone(), begin, script: Arc::new(script) };
    carry_out(scene, &paused, archive, (begin, stop_after))
}

fn within(at: Duration, from: u64, to: u64) -> bool {
    (Duration::from_secs(from)..Duration::from_secs(to)).contains(&at)
}

#[test]
fn a_service_that_is_two_minutes_away_for_every_call_costs_no_attempt() {
    let cameras = ["gate", "yard"].map(Camera::steady);
    let scene = Scene::new(EmulatorConfig::with_cameras(cameras.clone()));
    let jobs = ["gate", "yard"].map(|name| Job::new(name, name, after_midnight(5_500, 605_500)));
    // A single attempt that counted would fail its chunk.
    scene.write_jobs("attempts = 1\nrequests_in_flight = 2", &jobs);
    let ended = run_on_script(&scene, |_, _, at| {
        (at > Duration::from_millis(650) && at < Duration::from_mins(2)).then_some(FailureKind::Transient)
    });
    assert_eq!(ended.run.code, Some(0), "{:#}", ended.run.report);
    for (job, camera) in jobs.iter().zip(&cameras) {
        expect_exact(&ended.run, job, camera);
        assert_eq!(ended.run.export(&job.name)["gaps"], json!([]));
    }
    assert!(within(ended.elapsed, 120, 150), "{:?}", ended.elapsed);
    assert!(ended.paused.iter().any(|(_, reason)| *reason == PauseReason::Away));
}

#[test]
fn a_stream_that_is_throttled_for_minutes_is_exact_in_the_end_and_holds_nobody_up() {
    let cameras = ["slow", "fast"].map(Camera::steady);
    let scene = Scene::new(EmulatorConfig::with_cameras(cameras.clone()));
    let jobs = ["slow", "fast"].map(|name| Job::new(name, name, after_midnight(5_500, 605_500)));
    scene.write_jobs("attempts = 1\nrequests_in_flight = 2", &jobs);
    let ended = run_on_script(&scene, |api, stream, at| {
        let is_throttled = stream == "slow" && api == "GetClip" && at < Duration::from_mins(3);
        is_throttled.then_some(FailureKind::Throttled)
    });
    assert_eq!(ended.run.code, Some(0), "{:#}", ended.run.report);
    for (job, camera) in jobs.iter().zip(&cameras) {
        expect_exact(&ended.run, job, camera);
    }
    let (slow, fast) = (ended.end_of("slow"), ended.end_of("fast"));
    assert!(fast < Duration::from_secs(20), "{fast:?}");
    assert!(within(slow, 180, 240), "{slow:?}");
    assert!(ended.paused.iter().all(|paused| *paused == ("slow".to_owned(), PauseReason::Throttled)));
}

#[test]
fn an_outage_longer_than_allowed_fails_its_export_and_the_next_run_resumes_it() {
    let cameras = ["gate", "yard"].map(Camera::steady);
    let scene = Scene::new(EmulatorConfig::with_cameras(cameras.clone()));
    let jobs = ["gate", "yard"].map(|name| Job::new(name, name, after_midnight(5_500, 605_500)));
    scene.write_jobs("requests_in_flight = 2\noutage = \"10m\"", &jobs);
    let had = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&had);
    let ended = run_on_script(&scene, move |api, stream, _| {
        let clips = || counter.fetch_add(usize::from(api == "GetClip"), std::sync::atomic::Ordering::SeqCst);
        (stream == "gate" && clips() >= 1).then_some(FailureKind::Transient)
    });
    assert_eq!(ended.run.code, Some(3), "{:#}", ended.run.report);
    assert_eq!((ended.run.status("gate"), ended.run.status("yard")), ("failed", "done"));
    let error = ended.run.export("gate")["error"].as_str().unwrap_or_default();
    assert!(error.contains("no request for the stream has succeeded for 10 min"), "{error}");
    assert!(error.contains("as scripted; run the same command again to resume"), "{error}");
    assert_eq!(ended.run.export("gate")["gaps"], json!([]), "a failure is not a gap");
    assert!(within(ended.elapsed, 600, 660), "{:?}", ended.elapsed);
    expect_exact(&ended.run, &jobs[1], &cameras[1]);
    let before = scene.requests(Api::GetClip);
    let of_gate = || before.iter().filter(|clip| clip.stream == "gate");
    assert_eq!(of_gate().count(), 1, "one chunk is there already");
    let ended = run_on_script(&scene, |_, _, _| None);
    expect_exact(&ended.run, &jobs[0], &cameras[0]);
    let after = scene.requests(Api::GetClip);
    let again = &after[before.len()..];
    let had: Vec<_> = of_gate().flat_map(|clip| &clip.fragments).collect();
    assert!(!again.is_empty() && again.iter().flat_map(|clip| &clip.fragments).all(|it| !had.contains(&it)));
}

#[test]
fn clips_alone_may_be_away_while_only_one_is_wanted() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig::with_cameras([camera.clone()]));
    let job = Job::new("gate", "gate", after_midnight(5_500, 15_500));
    scene.write_jobs("", std::slice::from_ref(&job));
    let ended = run_on_script(&scene, |api, _, at| {
        (api == "GetClip" && at < Duration::from_secs(115)).then_some(FailureKind::Transient)
    });
    expect_exact(&ended.run, &job, &camera);
}

#[test]
fn a_body_that_stalls_is_given_up_when_it_has_been_silent_and_asked_for_again() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig {
        faults: vec![FaultRule::nth(Api::GetClip, 1, Fault::Stall { after: Some(20_000) })],
        ..EmulatorConfig::with_cameras([camera.clone()])
    });
    let job = Job::new("gate", "gate", minute());
    scene.write_jobs("", std::slice::from_ref(&job));
    let runtime = Runtime::new().expect("a runtime");
    let settings = AwsSettings { idle_timeout: Some(Duration::from_secs(2)), ..settings(&scene) };
    let aws = runtime.block_on(AwsArchive::connect(&settings)).expect("static credentials");
    let begin = runtime.block_on(async { Instant::now() });
    let ended = carry_out(&scene, &runtime, aws, (begin, None));
    expect_exact(&ended.run, &job, &camera);
    assert!(ended.elapsed >= Duration::from_secs(2), "it waited for the silent body");
    let stalled = scene.log().iter().filter(|record| !record.faults.is_empty()).count();
    assert_eq!(stalled, 1);
}

#[test]
fn requests_that_a_stop_cuts_are_in_the_audit_trail_whatever_they_ask() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig::with_cameras([camera.clone()]));
    let job = Job::new("gate", "gate", minute());
    scene.write_jobs("", std::slice::from_ref(&job));
    let recorded = |api: &str, outcome: &str| {
        let state = rusqlite::Connection::open(scene.state()).expect("a state file");
        let count = "select count(*) from attempt where api = ?1 and outcome = ?2";
        state.query_row(count, [api, outcome], |row| row.get::<_, u32>(0)).expect("read")
    };
    // The stream is described after one latency; its listing is under way half of another later.
    let stopped = run_until(&scene, Some(LATENCY * 3 / 2), |_, _, _| None);
    assert_eq!(stopped.run.code, Some(130), "{:#}", stopped.run.report);
    assert!(recorded("ListFragments", "cancelled") > 0);
    let ended = run_until(&scene, None, |_, _, _| None);
    expect_exact(&ended.run, &job, &camera);
    assert_eq!(recorded("ListTagsForStream", "succeeded"), 1, "what the merge asks, too");
}
