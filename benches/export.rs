//! How fast a run is beside what the service allows: `make bench`.
//!
//! Cameras of 2 Mbit/s with fragments of 2 s, the middle of what is usual; 300 ms before each answer. The bound is
//! max(points ÷ share, bytes ÷ (connections × speed)). It knows nothing of those 300 ms, which every clip spends inside
//! one of the connections (a full clip transfers for 3.4 s), so a second bound, *with latency*, is printed beside it:
//! no order of the same requests is faster. Neither knows of the start (a process, calls for the endpoints, two pages
//! of the first hour's listing, the first clip's 300 ms) and of the end, when the last clips leave connections idle.
//! These take the same 3 s to 5 s whatever the length of a run, which is why the cases are not shorter than they are.
//!
//! - one stream, twelve hours: a night, the job that every evening brings;
//! - twenty streams, two hours each, at a tenth of the bytes and of the speed: that leaves the ratios as they are, and
//!   the cores of a small machine to the service as well as to its client;
//! - four streams, eight hours each, at connections that bring more than the points allow; on one of the streams a
//!   second client asks for half of its points.
//!
//! Printed too: CPU per GB beside a bare loop of the SDK that writes and hashes the same bytes, the peak of resident
//! memory, calls that the quota refused, and the merge beside `cat` of the same bytes. It measures and prints; it
//! judges nothing. Arguments: the cases to carry out (`one`, `twenty`, `shared`); all of them by default.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia as media;
use kvs_export::archive::{Archive, AwsArchive, AwsSettings, CallObserver};
use kvs_export::archive::{ArchiveError, ListQuery};
use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, PointBudgets, RequestRecord};
use kvs_export::emulator::{SecondClient, SecondClientTally};
use kvs_export::model::event::PauseReason;
use kvs_export::model::{
    Attempt, Fragment, RequestBounds, StreamSelector, TimeRange, TimestampKind, UtcMillis,
};
use sha2::{Digest, Sha256};

type Failure = Box<dyn Error + Send + Sync>;

const LATENCY: Duration = Duration::from_millis(300);
const CONNECTIONS: usize = 8;
const SHARE: f64 = 0.7;
const MEDIA_POINTS_PER_SECOND: f64 = 500.0;
const CLIP_FRAGMENTS: usize = 200;
const FRAGMENTS_PER_HOUR: i64 = 1_800;

/// What is exported, and from what kind of service.
#[derive(Clone, Copy)]
struct Case {
    argument: &'static str,
    name: &'static str,
    streams: usize,
    hours: i64,
    bytes_per_second: u64,
    connection_bytes_per_second: u64,
    second_client: bool,
}

const ONE: Case = Case {
    argument: "one",
    name: "one stream",
    streams: 1,
    hours: 12,
    bytes_per_second: 250_000,
    connection_bytes_per_second: 25_000_000,
    second_client: false,
};

const TWENTY: Case = Case {
    argument: "twenty",
    name: "20 streams",
    streams: 20,
    hours: 2,
    bytes_per_second: 25_000,
    connection_bytes_per_second: 2_500_000,
    ..ONE
};

const SHARED: Case = Case {
    argument: "shared",
    name: "second client",
    streams: 4,
    hours: 8,
    connection_bytes_per_second: 10_000_000,
    second_client: true,
    ..TWENTY
};

/// What the second client asks of the first stream, in points a second: half of what there is.
const SECOND_CLIENT: u32 = 250;

impl Case {
    fn stream(index: usize) -> String {
        format!("bench{index}")
    }

    fn folder(&self, within: &Path) -> PathBuf {
        within.join(self.argument)
    }

    fn bytes(&self) -> u64 {
        self.streams as u64 * self.bytes_per_second * 3_600 * self.hours.unsigned_abs()
    }

    fn fragments(&self) -> f64 {
        (self.hours * FRAGMENTS_PER_HOUR) as f64
    }

    /// Seconds that one stream's points take, and that all bytes take on the wire.
    fn bound(&self) -> (f64, f64) {
        let wire = self.bytes() as f64 / (CONNECTIONS as f64 * self.connection_bytes_per_second as f64);
        (self.fragments() / (MEDIA_POINTS_PER_SECOND * SHARE), wire)
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, endpoint, folder] = arguments.as_slice()
        && mode == "--bare"
    {
        return runtime()?.block_on(bare_loop(endpoint, Path::new(folder)));
    }
    // `cargo bench` adds arguments of its own.
    let cases = arguments.into_iter().skip(1).filter(|argument| !argument.starts_with('-'));
    runtime()?.block_on(compare(&cases.collect::<Vec<_>>()))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn range(hours: i64) -> Result<TimeRange, Failure> {
    let start = UtcMillis::new(1_740_988_800_000);
    TimeRange::new(start, start + hours * 3_600_000).ok_or_else(|| "an empty range".into())
}

async fn archive(case: &Case, points: Option<PointBudgets>) -> Result<Emulator, Failure> {
    let camera = |index| Camera::steady(Case::stream(index)).bytes_per_second(case.bytes_per_second);
    let config = EmulatorConfig {
        latency: LATENCY,
        bytes_per_second: Some(case.connection_bytes_per_second),
        points,
        second_clients: case.second_client.then(second_client).into_iter().collect(),
        ..EmulatorConfig::with_cameras((0..case.streams).map(camera))
    };
    Ok(Emulator::start(config).await?)
}

async fn compare(cases: &[String]) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    for case in [ONE, TWENTY, SHARED] {
        if !cases.is_empty() && !cases.iter().any(|name| name == case.argument) {
            continue;
        }
        let run = export(&case, folder.path()).await?;
        if case.argument == ONE.argument {
            report_cat(folder.path(), &run)?;
            std::fs::remove_dir_all(case.folder(folder.path()))?;
            report_use(&run, &bare(folder.path()).await?);
        }
    }
    Ok(())
}

/// The first case by a bare loop of the SDK, in a process of its own.
async fn bare(folder: &Path) -> Result<Usage, Failure> {
    let emulator = archive(&ONE, None).await?;
    let folder = folder.join("bare");
    std::fs::create_dir(&folder)?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--bare", &emulator.endpoint()])
        .arg(&folder)
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .spawn()?;
    let usage = watch(child, &emulator).await?;
    emulator.stop().await;
    std::fs::remove_dir_all(&folder)?;
    Ok(usage)
}

/// Carries a case out, and prints how long the fetch took beside its bound.
async fn export(case: &Case, folder: &Path) -> Result<Usage, Failure> {
    let emulator = archive(case, Some(PointBudgets::default())).await?;
    let folder = case.folder(folder);
    std::fs::create_dir(&folder)?;
    let jobs = folder.join("jobs.toml");
    let range = range(case.hours)?;
    let streams: Vec<String> = (0..case.streams).map(|index| format!("{:?}", Case::stream(index))).collect();
    std::fs::write(
        &jobs,
        format!(
            "version = 1\n[aws]\nregion = \"us-west-2\"\nendpoint_url = \"{}\"\n[limits]\nmin_free = \"0 B\"\n[[job]]\n\
             name = \"bench\"\nstreams = [{}]\nfrom = {}\nto = {}\nedges = \"inside\"\ntimestamps = \"producer\"\n\
             output = \"out/{{stream}}.mp4\"\n",
            emulator.endpoint(),
            streams.join(", "),
            range.start(),
            range.end()
        ),
    )?;
    let before = SystemClock.now();
    let child = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
        .arg("run")
        .arg(&jobs)
        .args(["--progress", "none"])
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .stdout(Stdio::null())
        .spawn()?;
    let usage = watch(child, &emulator).await?;
    report(case, &usage, &emulator.log(), before);
    emulator.stop().await;
    Ok(usage)
}

/// Asks for the first stream's points evenly in time, without regard for anybody.
fn second_client() -> SecondClient {
    SecondClient { stream: Some(Case::stream(0)), media: SECOND_CLIENT, metadata: 0 }
}

/// What a process used.
struct Usage {
    wall: Duration,
    cpu: f64,
    /// Time and CPU until the last byte was served.
    fetch: (Duration, f64),
    bytes: u64,
    peak_kib: u64,
    /// What the second client got until then.
    second: SecondClientTally,
}

/// Watches a child until it ends: its CPU (without its own children) and its peak of resident memory.
async fn watch(mut child: Child, served: &Emulator) -> Result<Usage, Failure> {
    let begun = Instant::now();
    let mut usage = Usage {
        wall: Duration::ZERO,
        cpu: 0.0,
        fetch: (Duration::ZERO, 0.0),
        bytes: 0,
        peak_kib: 0,
        second: SecondClientTally::default(),
    };
    loop {
        if let Some((cpu, peak_kib)) = measure(child.id()) {
            usage.cpu = cpu;
            usage.peak_kib = peak_kib;
            let bytes = served.media_bytes_sent();
            if bytes > usage.bytes {
                usage.bytes = bytes;
                usage.fetch = (begun.elapsed(), cpu);
                usage.second = served.second_client_tally(&Case::stream(0));
            }
        }
        if let Some(status) = child.try_wait()? {
            usage.wall = begun.elapsed();
            return if status.success() {
                Ok(usage)
            } else {
                Err(format!("a child failed: {status}").into())
            };
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// CPU seconds and peak KiB of a process so far, where `/proc` tells.
fn measure(pid: u32) -> Option<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = peak.split_whitespace().next()?.parse().ok()?;
    Some((ticks / 100.0, peak))
}

/// Prints how long a case took beside its bound.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report(case: &Case, usage: &Usage, log: &[RequestRecord], before: UtcMillis) {
    let Case { name, streams, hours, .. } = *case;
    let speed = case.connection_bytes_per_second as f64;
    let bytes = case.bytes() as f64;
    let clips = log.iter().filter(|request| request.api == Api::GetClip && !request.over_quota).count();
    let (points, wire) = case.bound();
    let bound = points.max(wire);
    let latency = points.max((bytes / speed + clips as f64 * LATENCY.as_secs_f64()) / CONNECTIONS as f64);
    let fetch = usage.fetch.0.as_secs_f64();
    let first = log.iter().filter(|request| request.api == Api::GetClip).map(|request| request.at).min();
    let refused = log.iter().filter(|request| request.over_quota).count();
    println!(
        "bench: {name}: {streams} × {hours} h, {:.2} GB, {:.1} MB/s a connection, {clips} clips",
        bytes / 1e9,
        speed / 1e6
    );
    println!(
        "bench: {name}: fetch {fetch:.1} s, bound {bound:.1} s (points {points:.1}, wire {wire:.1}), ratio {:.3}; with \
         latency {latency:.1} s, ratio {:.3}; first clip asked for after {:.1} s",
        fetch / bound,
        fetch / latency,
        first.map_or(0.0, |first| (first - before) as f64 / 1e3)
    );
    println!(
        "bench: {name}: {} calls, {refused} refused by the quota ({:.2} %)",
        log.len(),
        refused as f64 * 100.0 / log.len() as f64
    );
    if case.second_client {
        report_second_client(case, &usage.second, log, before);
    }
}

/// Prints how a stream that is shared went beside the others.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report_second_client(case: &Case, second: &SecondClientTally, log: &[RequestRecord], before: UtcMillis) {
    let last_clip = |stream: usize| {
        let name = Case::stream(stream);
        let clips = log.iter().filter(|request| request.api == Api::GetClip && request.stream == name);
        let last = clips.map(|request| request.at).max();
        format!("{:.1} s", last.map_or(0.0, |last| (last - before) as f64 / 1e3))
    };
    let others: Vec<String> = (1..case.streams).map(last_clip).collect();
    println!(
        "bench: {}: last clip of the shared stream asked for after {}, of the others after {}; the second client got \
         {:.0} % of the {SECOND_CLIENT} points a second that it asked for",
        case.name,
        last_clip(0),
        others.join(", "),
        second.served as f64 * 100.0 / (second.served + second.refused).max(1) as f64
    );
}

/// Prints CPU and memory beside those of the bare loop.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report_use(run: &Usage, bare: &Usage) {
    let per_gigabyte = |usage: &Usage, cpu: f64| cpu * 1e9 / usage.bytes as f64;
    let (ours, theirs) = (per_gigabyte(run, run.fetch.1), per_gigabyte(bare, bare.cpu));
    println!(
        "bench: CPU per GB of the fetch {ours:.2} s, bare SDK loop {theirs:.2} s, ratio {:.2}",
        ours / theirs
    );
    println!("bench: VmHWM {:.1} MB, bare {:.1} MB", run.peak_kib as f64 / 1e3, bare.peak_kib as f64 / 1e3);
}

/// Prints the merge, with proof, beside `cat` of its output.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report_cat(folder: &Path, run: &Usage) -> Result<(), Failure> {
    let output = ONE.folder(folder).join("out").join(format!("{}.mp4", Case::stream(0)));
    let copy = folder.join("copy");
    let begun = Instant::now();
    let status = Command::new("cat").arg(&output).stdout(std::fs::File::create(&copy)?).status()?;
    std::fs::File::open(&copy)?.sync_all()?;
    let cat = begun.elapsed();
    std::fs::remove_file(copy)?;
    let merge = run.wall.saturating_sub(run.fetch.0);
    println!(
        "bench: merge with proof {:.1} s ({:.0} MB/s); cat and sync of the same bytes {:.1} s, {status}",
        merge.as_secs_f64(),
        run.bytes as f64 / 1e6 / merge.as_secs_f64(),
        cat.as_secs_f64()
    );
    Ok(())
}

/// The same bytes by the SDK alone: eight requests at a time, each written to a file and hashed.
async fn bare_loop(endpoint: &str, folder: &Path) -> Result<(), Failure> {
    let range = range(ONE.hours)?;
    let archive = AwsArchive::connect(&AwsSettings {
        region: Some("us-west-2".to_owned()),
        endpoint_url: Some(endpoint.to_owned()),
        ..AwsSettings::default()
    })
    .await?;
    let stream = archive.describe_stream(&StreamSelector::parse(&Case::stream(0))?, &Silent).await?.arn;
    let mut query = ListQuery {
        stream: stream.clone(),
        timestamps: TimestampKind::Producer,
        bounds: RequestBounds { start: range.start(), end: range.end() - 1 },
        page_size: 1_000,
        next_token: None,
    };
    let mut fragments: Vec<Fragment> = Vec::new();
    loop {
        let page = archive.list_fragments(&query, &Silent).await?;
        fragments.extend(page.fragments);
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            break;
        }
    }
    fragments.sort_by_key(|fragment| fragment.producer);
    let clips: Vec<(i64, i64)> = fragments
        .chunks(CLIP_FRAGMENTS)
        .map(|clip| (clip[0].producer.get(), clip[clip.len() - 1].producer.get()))
        .collect();
    let client = clip_client(endpoint, stream.as_str()).await?;
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    for (index, (start, end)) in clips.into_iter().enumerate() {
        let (client, places, stream) = (client.clone(), Arc::clone(&places), stream.clone());
        let path = folder.join(format!("{index}.mp4"));
        tasks.spawn(async move {
            let _place = places.acquire().await?;
            let range = media::types::ClipTimestampRange::builder()
                .start_timestamp(aws_smithy_types::DateTime::from_millis(start))
                .end_timestamp(aws_smithy_types::DateTime::from_millis(end))
                .build()?;
            let selector = media::types::ClipFragmentSelector::builder()
                .fragment_selector_type(media::types::ClipFragmentSelectorType::ProducerTimestamp)
                .timestamp_range(range)
                .build()?;
            let answer =
                client.get_clip().stream_arn(stream.as_str()).clip_fragment_selector(selector).send().await?;
            let mut body = answer.payload;
            let mut file = std::fs::File::create(path)?;
            let mut hasher = Sha256::new();
            while let Some(part) = body.next().await {
                let part = part?;
                std::io::Write::write_all(&mut file, &part)?;
                hasher.update(&part);
            }
            hasher.finalize();
            file.sync_all()?;
            Ok::<(), Failure>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

async fn clip_client(endpoint: &str, stream: &str) -> Result<media::Client, Failure> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .region("us-west-2")
        .endpoint_url(endpoint)
        .load()
        .await;
    let control = aws_sdk_kinesisvideo::Client::new(&config);
    let answer = control.get_data_endpoint().stream_arn(stream).api_name(ApiName::GetClip).send().await?;
    let endpoint = answer.data_endpoint().ok_or("no endpoint")?;
    let config = media::config::Builder::from(&config).endpoint_url(endpoint).build();
    Ok(media::Client::from_conf(config))
}

struct Silent;

impl CallObserver for Silent {
    fn attempt(&self, _: Attempt) {}
    fn retrying(&self, _: &ArchiveError, _: u32, _: u64) {}
    fn bytes(&self, _: u64) {}

    fn paused(&self, _: &str, _: PauseReason, _: Duration) {}

    fn resumed(&self, _: &str) {}
}
