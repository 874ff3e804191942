//! Whose turn it is, seen from the archive: a fake one that writes down when it is asked for what, on paused time.
//!
//! It gives no clips: every one is refused for good, which costs its export but not its place in the order. What
//! becomes of clips that come is for the tests of the real program.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::Instant;

use super::disk::{DiskLimits, Disks, Space, SystemDisks};
use super::{Asked, RunRequest, run};
use crate::archive::{
    Archive, ArchiveError, Assembled, CallObserver, ClipQuery, ClipSink, FailureKind, FragmentPage,
    LimitSettings, ListQuery, RetrySettings, StreamDescription, StreamPage, StreamQuery, assemble,
};
use crate::clock::SetClock;
use crate::job::{self, JobSource};
use crate::merge::Ffmpeg;
use crate::model::event::{EventSink, RunEvent};
use crate::model::report::RunReport;
use crate::model::{Fragment, FragmentNumber, StreamArn, StreamSelector, UtcMillis};
use crate::store::Store;

/// 2025-03-03T00:00:00Z.
const START: i64 = 1_740_960_000_000;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(300);

/// How long a fragment takes on the wire: 0.5 MB at 25 MB/s.
const PER_FRAGMENT: Duration = Duration::from_millis(20);

/// What was asked, when.
#[derive(Debug, Clone, PartialEq)]
struct Asking {
    call: &'static str,
    stream: String,
    at: Duration,
    /// When the answer was there, to its last byte.
    answered: Duration,
}

/// Streams with a fragment every two seconds, of which those named `slow…` are throttled for two minutes.
struct FakeArchive {
    begun: Instant,
    /// How long a fragment takes on the wire.
    per_fragment: Duration,
    asked: Arc<Mutex<Vec<Asking>>>,
}

impl FakeArchive {
    /// Notes a request whose answer takes so long, and lets that time pass.
    async fn answer(&self, call: &'static str, stream: &str, takes: Duration) {
        let at = self.begun.elapsed();
        let asking = Asking { call, stream: stream.to_owned(), at, answered: at + takes };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asking);
        tokio::time::sleep(takes).await;
    }
}

fn refusal(api: &'static str, stream: &str, kind: FailureKind) -> ArchiveError {
    ArchiveError {
        api,
        stream: stream.to_owned(),
        kind,
        code: None,
        message: "refused".to_owned(),
        request_id: None,
        source: None,
    }
}

#[async_trait]
impl Archive for FakeArchive {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        _: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        if stream.name() == "undescribed" {
            tokio::time::sleep(LATENCY).await;
            return Err(refusal("DescribeStream", stream.name(), FailureKind::Throttled));
        }
        let arn =
            format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{}/1500000000000", stream.name());
        Ok(StreamDescription {
            arn: StreamArn::parse(&arn).expect("an ARN"),
            created: None,
            // A name that ends in a number keeps its fragments for so many days.
            retention_hours: stream
                .name()
                .rsplit('-')
                .next()
                .and_then(|days| days.parse().ok())
                .unwrap_or(90)
                * 24,
            kms_key: None,
            media_type: None,
        })
    }

    async fn list_streams(&self, _: &StreamQuery, _: &dyn CallObserver) -> Result<StreamPage, ArchiveError> {
        unreachable!("not asked")
    }

    async fn list_tags(
        &self,
        _: &StreamArn,
        _: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        Ok(Vec::new())
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        _: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        self.answer("list", query.stream.name(), LATENCY).await;
        let (first, last) = (query.bounds.start.get(), query.bounds.end.get());
        let starts = (first..=last).filter(|ms| ms % 2_000 == 0);
        let fragment = |ms: i64| Fragment {
            number: FragmentNumber::parse(&ms.to_string()).expect("a number"),
            producer: UtcMillis::new(ms),
            server: UtcMillis::new(ms),
            length_ms: 2_000,
            size_bytes: 1_000,
        };
        Ok(FragmentPage { fragments: starts.map(fragment).collect(), next_token: None })
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        _: &mut dyn ClipSink,
        _: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let stream = query.stream.name();
        self.answer("clip", stream, LATENCY + self.per_fragment * query.fragments).await;
        let is_throttled = stream.starts_with("slow") && self.begun.elapsed() < Duration::from_mins(2);
        let kind = match stream {
            _ if is_throttled => FailureKind::Throttled,
            "denied" => FailureKind::Denied,
            _ => FailureKind::Invalid,
        };
        Err(refusal("GetClip", stream, kind))
    }
}

/// Keeps what is told.
#[derive(Default)]
struct Told(Mutex<Vec<RunEvent>>);

impl EventSink for Told {
    fn event(&self, event: RunEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// What was asked during a run of these jobs, and what was told.
async fn watch(requests_in_flight: usize, jobs: &str) -> (RunReport, Vec<Asking>, Vec<RunEvent>) {
    watch_at(Duration::ZERO, requests_in_flight, jobs).await
}

/// The same where each fragment takes so long on the wire.
async fn watch_at(
    per_fragment: Duration,
    requests_in_flight: usize,
    jobs: &str,
) -> (RunReport, Vec<Asking>, Vec<RunEvent>) {
    let folder = TempDir::new().expect("a folder");
    watch_in(folder.path(), Arc::new(SystemDisks), per_fragment, requests_in_flight, jobs).await
}

/// The same in that folder, on those disks.
async fn watch_in(
    folder: &Path,
    disks: Arc<dyn Disks>,
    per_fragment: Duration,
    requests_in_flight: usize,
    jobs: &str,
) -> (RunReport, Vec<Asking>, Vec<RunEvent>) {
    let clock = Arc::new(SetClock::at(UtcMillis::new(START + 40 * 86_400_000)));
    let (file, asked_for) = load(folder, jobs, &clock);
    let asked = Arc::new(Mutex::default());
    let archive = FakeArchive { begun: Instant::now(), per_fragment, asked: Arc::clone(&asked) };
    let Assembled { archive, pace } = assemble(
        archive,
        LimitSettings { requests_in_flight, stream_budget: 1.0, bandwidth: None },
        RetrySettings { attempts: 1, outage: Duration::from_mins(30) },
    );
    let told = Arc::new(Told::default());
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let report = run(RunRequest {
        asked: asked_for,
        unlisted: Vec::new(),
        whole_file: true,
        store: Store::open(&file.state, clock.clone()).expect("a state file"),
        state: file.state.clone(),
        work: file.work.clone(),
        archive,
        pace,
        requests_in_flight,
        attempts: 1,
        merges: 1,
        disk: DiskLimits { min_free: 0, max_bytes: file.limits.max_bytes, disks },
        // Nothing is ever merged here.
        ffmpeg: Ffmpeg { path: "ffmpeg".into(), version: String::new() },
        clock,
        events: told.clone(),
        cancel,
        job_file: None,
    })
    .await;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told = std::mem::take(&mut *told.0.lock().unwrap_or_else(PoisonError::into_inner));
    (report, asked, told)
}

fn load(folder: &Path, jobs: &str, clock: &SetClock) -> (job::JobFile, Vec<Asked>) {
    let text = format!("version = 1\n{jobs}");
    let file = folder.join("jobs.toml");
    let source = JobSource { text: &text, file: &file, display: "jobs.toml" };
    let now = crate::clock::Clock::now(clock);
    let (file, resolved) = job::load(source, now, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    (file, resolved.into_iter().map(|it| Asked { spec: it.spec, pending: it.pending }).collect())
}

/// A job of that stream, an hour from that hour after the start.
fn job(stream: &str, hour: i64) -> String {
    let (from, to) = (START + hour * 3_600_000, START + (hour + 1) * 3_600_000);
    format!(
        "[[job]]\nname = \"{stream}_{hour}\"\nstreams = [\"{stream}\"]\nfrom = {}\nto = {}\nedges = \"inside\"\n\
         output = \"out/{{job}}.mp4\"\n",
        UtcMillis::new(from),
        UtcMillis::new(to)
    )
}

fn clips<'a>(asked: &'a [Asking], stream: &'a str) -> impl Iterator<Item = &'a Asking> {
    asked.iter().filter(move |asking| asking.call == "clip" && asking.stream == stream)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_throttled_keeps_nothing_from_the_others() {
    // More exports of the throttled stream than may be open, before those of the others.
    let jobs: String =
        (0..12).map(|hour| job("slow", hour)).chain((0..3).map(|hour| job("fast", hour))).collect();
    let (_, asked, _) = watch(2, &jobs).await;
    let last = clips(&asked, "fast").last().expect("it was fetched").at;
    // 3 × 1800 fragments at 500 a second.
    assert!(last < Duration::from_secs(20), "{last:?}");
    assert!(clips(&asked, "slow").count() > 12 * 9, "every one of its clips was asked for in the end");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_described_keeps_no_night_from_the_others() {
    let jobs: String = [job("undescribed", 0), job("a", 0)].concat();
    let (report, asked, _) = watch(8, &jobs).await;
    let last = clips(&asked, "a").last().expect("it was fetched").at;
    assert!((180..200).contains(&last.as_secs()), "{last:?}");
    let error = report.exports[0].error.as_deref().unwrap_or_default();
    assert!(error.contains("no answer for 3 min, while other streams were answered for"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn streams_share_the_places_by_their_points() {
    let jobs: String = ["a", "b", "c", "d"].iter().map(|stream| job(stream, 0)).collect();
    let (_, asked, _) = watch(32, &jobs).await;
    // Each alone takes 1800 ÷ 500 = 3.6 s, less the second that is there at the start; not four times that.
    let last = asked.last().expect("something").at;
    assert!(last < Duration::from_secs(5), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn what_retention_takes_first_is_fetched_first() {
    let jobs: String = [job("long-90", 0), job("short-45", 0), job("long-90", 1)].concat();
    let (_, asked, _) = watch(1, &jobs).await;
    let order: Vec<&str> =
        asked.iter().filter(|asking| asking.call == "clip").map(|it| &*it.stream).collect();
    assert_eq!(order.first(), Some(&"short-45"));
    let last_of_short = order.iter().rposition(|stream| *stream == "short-45").expect("fetched");
    let last_of_long = order.iter().rposition(|stream| *stream == "long-90").expect("fetched");
    assert!(last_of_short < last_of_long, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_exports_are_open_at_a_time() {
    let streams: Vec<String> = (0..10).map(|camera| format!("camera{camera}x")).collect();
    let jobs: String = streams.iter().map(|stream| job(stream, 0)).collect();
    let (report, _, told) = watch(2, &jobs).await;
    assert_eq!(report.totals.failed, 10);
    let (mut open, mut most) = (0_usize, 0_usize);
    for event in told {
        match event {
            RunEvent::ExportOpened { .. } => open += 1,
            RunEvent::ExportFinished { .. } => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    assert_eq!(most, 4, "max(4, requests in flight)");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_larger_than_it_may_be_asks_for_no_clip() {
    // Twice 1800 fragments of 1000 bytes.
    let jobs = format!("[limits]\nmax_bytes = \"3500 kB\"\n{}{}", job("a", 0), job("b", 0));
    let (report, asked, _) = watch(2, &jobs).await;
    assert_eq!(report.outcome.as_str(), "usage");
    let error = report.error.expect("a reason");
    assert!(
        error.contains("3.6 MB in 2 exports")
            && error.contains("`max_bytes` allows 3.5 MB")
            && error.contains("hint: raise"),
        "{error}"
    );
    assert!(asked.iter().any(|asking| asking.call == "list"));
    assert!(asked.iter().all(|asking| asking.call != "clip"), "{asked:?}");
    let jobs = jobs.replace("3500", "3600");
    let (report, asked, _) = watch(2, &jobs).await;
    assert_eq!(report.outcome.as_str(), "incomplete", "it went on to ask for clips, which are refused here");
    assert!(asked.iter().any(|asking| asking.call == "clip"));
}

/// How long a run of so many fragments took until its last answer was there; and how long it takes with eight
/// connections that are busy throughout, each clip's latency spent inside one of them.
fn beside_busy_connections(asked: &[Asking], fragments: u32) -> (Duration, Duration) {
    let clips = asked.iter().filter(|asking| asking.call == "clip").count();
    assert!(clips * 200 <= fragments as usize, "{clips} clips: more than it takes");
    let last = asked.iter().map(|asking| asking.answered).max().expect("something");
    let latency = LATENCY * u32::try_from(clips).expect("not so many");
    (last, (PER_FRAGMENT * fragments + latency) / 8)
}

/// What cannot be busy: the first listing, and at the end all connections but the one with the last clip.
fn listing_and_last_clip() -> Duration {
    LATENCY * 2 + PER_FRAGMENT * 200
}

/// A disk on which so much is free, and nothing is ever written.
struct FixedDisk(u64);

impl Disks for FixedDisk {
    fn space(&self, _: &Path) -> std::io::Result<Space> {
        Ok(Space { device: 1, free: self.0, total: self.0 })
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_that_waits_for_the_room_of_one_that_fails_gets_it() {
    let jobs: String = [job("denied", 0), job("b", 0)].concat();
    let folder = TempDir::new().expect("a folder");
    // Each needs its 1.8 MB twice.
    let disk = Arc::new(FixedDisk(4_000_000));
    let (report, asked, _) = watch_in(folder.path(), disk, Duration::ZERO, 2, &jobs).await;
    assert!(clips(&asked, "denied").count() > 0);
    assert!(clips(&asked, "b").count() > 0, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn one_stream_alone_keeps_its_connections_busy() {
    let jobs: String = (0..12).map(|hour| job("a", hour)).collect();
    let (_, asked, _) = watch_at(PER_FRAGMENT, 8, &jobs).await;
    // The points allow 500 fragments a second, eight connections bring 400.
    let (taken, busy) = beside_busy_connections(&asked, 12 * 1_800);
    assert!((busy..busy + listing_and_last_clip()).contains(&taken), "{taken:?}, busy {busy:?}");
}

#[tokio::test(start_paused = true)]
async fn twenty_streams_keep_every_connection_busy() {
    let jobs: String = (0..20).map(|camera| job(&format!("camera{camera}x"), 0)).collect();
    let (_, asked, _) = watch_at(PER_FRAGMENT, 8, &jobs).await;
    let (taken, busy) = beside_busy_connections(&asked, 20 * 1_800);
    assert!((busy..busy + listing_and_last_clip()).contains(&taken), "{taken:?}, busy {busy:?}");
}

#[tokio::test(start_paused = true)]
async fn one_short_export_keeps_its_connections_busy() {
    // A quarter of an hour: three clips by the service's limits.
    let (from, to) = (UtcMillis::new(START), UtcMillis::new(START + 900_000));
    let jobs = format!(
        "[[job]]\nname = \"a\"\nstreams = [\"a\"]\nfrom = {from}\nto = {to}\nedges = \"inside\"\noutput = \"a.mp4\"\n"
    );
    let (_, asked, _) = watch_at(PER_FRAGMENT, 8, &jobs).await;
    let last = asked.iter().map(|asking| asking.answered).max().expect("something");
    // 450 fragments: a listing, 56 fragments of 20 ms after 300 ms; where it is cut no finer 200 of them.
    assert!(last < Duration::from_secs(2), "{last:?}");
}
