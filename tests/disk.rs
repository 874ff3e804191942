//! Disks with too little room: fetching waits or is refused, what is under way is finished, nothing hangs.
//!
//! How much is free is told by a fake, changed by what happens during the run; all else is real. The program
//! on file systems that are really small is in `bad_input`.

#[path = "support/fake_ffmpeg.rs"]
mod fake_ffmpeg;
#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kvs_export::archive::{
    self, Archive, ArchiveError, Assembled, AwsArchive, AwsSettings, CallObserver, ClipQuery, ClipSink,
    FragmentPage, LimitSettings, ListQuery, RetrySettings, StreamDescription, StreamPage, StreamQuery,
};
use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, Camera, EmulatorConfig};
use kvs_export::job::{self, JobSource};
use kvs_export::merge::Ffmpeg;
use kvs_export::model::event::{EventSink, RunEvent};
use kvs_export::model::report::{Outcome, RunReport};
use kvs_export::model::{StreamArn, StreamSelector};
use kvs_export::run::{Asked, DiskLimits, Disks, RunRequest, Space, run};
use kvs_export::store::Store;
use support::after_midnight;
use support::scene::{Job, Scene};
use tokio::sync::watch;

/// One disk under everything.
struct FakeDisk {
    free: AtomicU64,
    total: u64,
}

impl FakeDisk {
    fn with(free: u64, total: u64) -> Arc<Self> {
        Arc::new(Self { free: AtomicU64::new(free), total })
    }
}

impl Disks for FakeDisk {
    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { device: 1, free: self.free.load(Ordering::SeqCst), total: self.total })
    }
}

/// Keeps what is told, and does something about it.
struct Told<F> {
    events: Mutex<Vec<RunEvent>>,
    react: F,
}

impl<F: Fn(&RunEvent) + Send + Sync> EventSink for Told<F> {
    fn event(&self, event: RunEvent) {
        (self.react)(&event);
        self.events.lock().expect("not poisoned").push(event);
    }
}

/// Carries out the scene's job file on that disk.
fn run_on(
    scene: &Scene,
    disk: &Arc<FakeDisk>,
    react: impl Fn(&RunEvent, &watch::Sender<bool>) + Send + Sync + 'static,
) -> (RunReport, Vec<RunEvent>) {
    run_with(scene, disk, Ffmpeg::find().expect("ffmpeg"), |archive| archive, react)
}

/// The same with another ffmpeg, and something around the archive.
fn run_with(
    scene: &Scene,
    disk: &Arc<FakeDisk>,
    ffmpeg: Ffmpeg,
    around: impl FnOnce(Arc<dyn Archive>) -> Arc<dyn Archive>,
    react: impl Fn(&RunEvent, &watch::Sender<bool>) + Send + Sync + 'static,
) -> (RunReport, Vec<RunEvent>) {
    let path = scene.job_file();
    let text = std::fs::read_to_string(&path).expect("a job file");
    let source = JobSource { text: &text, file: &path, display: "jobs.toml" };
    let now = kvs_export::clock::Clock::now(&SystemClock);
    let (file, asked) = job::load(source, now, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let (stop, cancel) = watch::channel(false);
    let told =
        Arc::new(Told { events: Mutex::default(), react: move |event: &RunEvent| react(event, &stop) });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let report = runtime.block_on(async {
        let settings = AwsSettings {
            region: file.aws.region.clone(),
            endpoint_url: file.aws.endpoint_url.clone(),
            static_credentials: Some(("test".to_owned(), "test".to_owned())),
            profile: None,
            idle_timeout: None,
        };
        let requests_in_flight = file.limits.requests_in_flight;
        let Assembled { archive, pace } = archive::assemble(
            AwsArchive::connect(&settings).await.expect("static credentials"),
            LimitSettings { requests_in_flight, stream_budget: 1.0, bandwidth: None },
            RetrySettings { attempts: 1, outage: std::time::Duration::from_secs(1) },
        );
        run(RunRequest {
            asked: asked.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending }).collect(),
            unlisted: Vec::new(),
            whole_file: true,
            store: Store::open(&file.state, Arc::new(SystemClock)).expect("a state file"),
            state: file.state.clone(),
            work: file.work.clone(),
            archive: around(archive),
            pace,
            requests_in_flight,
            attempts: 1,
            merges: 1,
            disk: DiskLimits {
                min_free: file.limits.min_free,
                max_bytes: file.limits.max_bytes,
                disks: Arc::clone(disk) as Arc<dyn Disks>,
            },
            ffmpeg,
            clock: Arc::new(SystemClock),
            events: Arc::clone(&told) as Arc<dyn EventSink>,
            cancel,
            job_file: None,
        })
        .await
    });
    let events = std::mem::take(&mut *told.events.lock().expect("not poisoned"));
    (report, events)
}

fn gate() -> Camera {
    Camera::steady("gate")
}

fn scene() -> Scene {
    Scene::new(EmulatorConfig::with_cameras([gate(), Camera::steady("yard")]))
}

/// Twenty seconds of each camera.
fn jobs() -> [Job; 2] {
    ["gate", "yard"].map(|name| Job::new(name, name, after_midnight(0, 20_000)))
}

/// Bytes of a job's footage, as listed.
fn planned(job: &Job) -> u64 {
    support::truth::fragments(&gate(), job).iter().map(|fragment| fragment.size_bytes).sum()
}

fn place(events: &[RunEvent], what: impl Fn(&RunEvent) -> bool) -> Option<usize> {
    events.iter().position(what)
}

#[test]
fn below_min_free_nothing_is_fetched_until_a_merge_has_made_room() {
    let scene = scene();
    let [gate, yard] = jobs();
    scene.write_jobs("min_free = \"1 GB\"", std::slice::from_ref(&gate));
    let disk = FakeDisk::with(10_000_000_000, 20_000_000_000);
    let (report, _) = run_on(&scene, &disk, |event, stop| {
        if matches!(event, RunEvent::MergeStarted { .. }) {
            stop.send_replace(true);
        }
    });
    assert_eq!(report.outcome, Outcome::Interrupted, "{report:?}");

    scene.write_jobs("min_free = \"1 GB\"", &[gate, yard]);
    disk.free.store(999_999_999, Ordering::SeqCst);
    let freed = Arc::clone(&disk);
    let (report, events) = run_on(&scene, &disk, move |event, _| {
        if matches!(event, RunEvent::ExportFinished { .. }) {
            freed.free.store(1_010_000_000, Ordering::SeqCst);
        }
    });
    assert_eq!(report.outcome, Outcome::Done, "{report:?}\n{events:?}");
    let low = place(&events, |event| {
        matches!(event, RunEvent::DiskLow { free: 999_999_999, needed: 1_000_000_000 })
    });
    let finished = place(&events, |event| matches!(event, RunEvent::ExportFinished { .. }));
    let freed = place(&events, |event| matches!(event, RunEvent::DiskFreed));
    let fetched = place(&events, |event| matches!(event, RunEvent::ChunkFetched { .. }));
    let order = [low, finished, freed, fetched];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}: {events:?}");
}

#[test]
fn a_disk_that_stays_below_min_free_ends_the_run_and_the_next_one_goes_on() {
    let scene = scene();
    scene.write_jobs("min_free = \"1 GB\"", &jobs());
    let disk = FakeDisk::with(5_000_000, 20_000_000_000);
    let (report, _) = run_on(&scene, &disk, |_, _| {});
    assert_eq!(report.outcome, Outcome::Incomplete, "{report:?}");
    let error = report.error.expect("a reason");
    let folder = scene.work().display().to_string();
    for words in ["5.0 MB of ", &folder, "`min_free` keeps 1.0 GB", "hint: make room"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let listings = scene.requests(Api::ListFragments).len();
    assert!(listings > 0 && scene.requests(Api::GetClip).is_empty());

    disk.free.store(10_000_000_000, Ordering::SeqCst);
    let (report, _) = run_on(&scene, &disk, |_, _| {});
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    assert_eq!(scene.requests(Api::ListFragments).len(), listings, "nothing is listed again");
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers_and_the_others_go_on() {
    let scene = scene();
    let [gate, yard] = jobs();
    let gate = Job { range: after_midnight(0, 120_000), ..gate };
    let (large, small) = (planned(&gate), planned(&yard));
    assert!(large > 3 * small);
    scene.write_jobs("min_free = \"1 GB\"", &[gate, yard]);
    let total = 1_000_000_000 + large;
    let (report, _) = run_on(&scene, &FakeDisk::with(total, total), |_, _| {});
    let [gate, yard] = report.exports.as_slice() else { panic!("{report:?}") };
    assert_eq!(
        (report.outcome, gate.status.as_str(), yard.status.as_str()),
        (Outcome::Incomplete, "failed", "done")
    );
    let error = gate.error.as_deref().expect("a reason");
    assert!(
        error.contains("it needs ") && error.contains(" in all without what `min_free` keeps"),
        "{error}"
    );
    let asked = scene.requests(Api::GetClip);
    assert!(asked.iter().all(|request| request.stream == "yard"), "{asked:?}");
}

#[test]
fn what_does_not_fit_beside_anything_is_given_up_only_when_it_is_alone() {
    let scene = scene();
    let jobs = jobs();
    let one = 2 * planned(&jobs[0]);
    scene.write_jobs("", &jobs);
    // Room for one of them; and it gives nothing back.
    let disk = FakeDisk::with(one, u64::MAX);
    let used = Arc::clone(&disk);
    let (report, _) = run_on(&scene, &disk, move |event, _| match event {
        RunEvent::ChunkFetched { planned_bytes, .. } => {
            used.free.fetch_sub(*planned_bytes, Ordering::SeqCst);
        }
        RunEvent::ExportFinished { .. } => used.free.store(one / 2, Ordering::SeqCst),
        _ => {}
    });
    // Whichever is listed first gets the room.
    let mut statuses: Vec<&str> = report.exports.iter().map(|export| export.status.as_str()).collect();
    statuses.sort_unstable();
    assert_eq!((report.outcome, statuses.as_slice()), (Outcome::Incomplete, ["done", "failed"].as_slice()));
    let error = report.exports.iter().find_map(|export| export.error.as_deref()).expect("a reason");
    assert!(error.contains("nothing else is under way that could make room"), "{error}");
}

#[test]
fn a_run_larger_than_max_bytes_is_refused_before_the_first_clip() {
    let scene = scene();
    scene.write_jobs("max_bytes = \"1 kB\"", &jobs());
    let run = scene.run().expect_code(2);
    assert_eq!(run.report["outcome"], "usage");
    let error = run.report["error"].as_str().expect("a reason");
    assert!(error.contains("in 2 exports, and `max_bytes` allows 1.0 kB; nothing was fetched"), "{error}");
    assert!(error.contains("hint: raise `max_bytes`"), "{error}");
    let listings = scene.requests(Api::ListFragments).len();
    assert!(listings > 0 && scene.requests(Api::GetClip).is_empty());
    scene.write_jobs("max_bytes = \"1 GB\"", &jobs());
    let run = scene.run().expect_code(0);
    assert_eq!((run.status("gate"), run.status("yard")), ("done", "done"));
    assert_eq!(scene.requests(Api::ListFragments).len(), listings, "nothing is listed again");
}

/// Keeps the clips of a stream back until it is told to let them through.
struct Gated {
    inner: Arc<dyn Archive>,
    stream: &'static str,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Archive for Gated {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        self.inner.describe_stream(stream, observer).await
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        self.inner.list_streams(query, observer).await
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        self.inner.list_tags(stream, observer).await
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        self.inner.list_fragments(query, observer).await
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        if query.stream.name() == self.stream {
            self.open.clone().wait_for(|open| *open).await.expect("the gate stands");
        }
        self.inner.get_clip(query, sink, observer).await
    }
}

#[test]
fn the_next_export_is_fetched_while_one_is_merged() {
    let scene = scene();
    scene.write_jobs("requests_in_flight = 1", &jobs());
    // The first merge ends only when a chunk of the other export is recorded, and that is asked for only after the
    // merge has begun: neither could happen if one waited for the other.
    let mark = scene.folder().join("fetched");
    let script = format!(
        "case \"$*\" in *matroska*) for _ in $(seq 1200); do [ -e '{0}' ] && break; sleep 0.05; done; [ -e '{0}' ] \
         || {{ echo 'nothing was fetched meanwhile' >&2; exit 7; }};; esac",
        mark.display()
    );
    let path = fake_ffmpeg::write(scene.folder(), &script);
    let ffmpeg = Ffmpeg { path, ..Ffmpeg::find().expect("ffmpeg") };
    let (let_through, open) = watch::channel(false);
    let merged = Mutex::new(false);
    let (report, events) = run_with(
        &scene,
        &FakeDisk::with(u64::MAX, u64::MAX),
        ffmpeg,
        |inner| Arc::new(Gated { inner, stream: "yard", open }),
        move |event, _| {
            let mut merging = merged.lock().expect("not poisoned");
            match event {
                RunEvent::MergeStarted { .. } => {
                    *merging = true;
                    let_through.send_replace(true);
                }
                RunEvent::ChunkFetched { .. } if *merging => std::fs::write(&mark, "").expect("marked"),
                _ => {}
            }
        },
    );
    assert_eq!(report.outcome, Outcome::Done, "{report:?}\n{events:?}");
}
