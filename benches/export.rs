//! How fast a run is beside what the service allows: `make bench`.
//!
//! Fragments of 2 s, 300 ms before each answer. The bound is max(points ÷ share, bytes ÷ (connections × speed)); it
//! knows nothing of those 300 ms, which every clip spends inside one of the connections, so a second figure, *with
//! latency*, is printed beside it. Three cases:
//!
//! - one stream, four hours: long enough that what every run has once (a process, four calls before the first clip,
//!   the last clip) is a few percent;
//! - twenty streams at a tenth of the bytes and of the speed, which leaves the ratios as they are and the two cores of
//!   a small machine to the service and its client;
//! - four streams, on one of which a second client spends half of the points.
//!
//! Printed too: CPU per GB beside a bare loop of the SDK that writes and hashes the same bytes, the peak of resident
//! memory, calls that the quota refused, and the merge beside `cat` of the same bytes. It measures and prints; it
//! judges nothing.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia as media;
use kvs_export::archive::{Archive, AwsArchive, AwsSettings, CallObserver};
use kvs_export::archive::{ArchiveError, ClipQuery, ClipSink, ListQuery};
use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, PointBudgets, RequestRecord};
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
    name: &'static str,
    streams: usize,
    hours: i64,
    bytes_per_second: u64,
    connection_bytes_per_second: u64,
    second_client: bool,
}

const ONE: Case = Case {
    name: "one stream",
    streams: 1,
    hours: 4,
    bytes_per_second: 250_000,
    connection_bytes_per_second: 25_000_000,
    second_client: false,
};

const TWENTY: Case = Case {
    name: "20 streams",
    streams: 20,
    hours: 1,
    bytes_per_second: 25_000,
    connection_bytes_per_second: 2_500_000,
    ..ONE
};

const SHARED: Case = Case {
    name: "second client",
    streams: 4,
    hours: 2,
    bytes_per_second: 25_000,
    second_client: true,
    ..ONE
};

/// What the second client asks for at a time, in fragments, and how often: half of a stream's points.
const SECOND_CLIP: u32 = 50;
const SECOND_PAUSE: Duration = Duration::from_millis(200);

impl Case {
    fn stream(index: usize) -> String {
        format!("bench{index}")
    }

    fn fragments(&self) -> f64 {
        (self.hours * FRAGMENTS_PER_HOUR) as f64
    }

    /// Seconds that one stream's points take, and that all bytes take on the wire.
    fn bound(&self, bytes: u64) -> (f64, f64) {
        let wire = bytes as f64 / (CONNECTIONS as f64 * self.connection_bytes_per_second as f64);
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
    runtime()?.block_on(compare())
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
        ..EmulatorConfig::with_cameras((0..case.streams).map(camera))
    };
    Ok(Emulator::start(config).await?)
}

async fn compare() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let free = archive(&ONE, None).await?;
    let bare_folder = folder.path().join("bare");
    std::fs::create_dir(&bare_folder)?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--bare", &free.endpoint()])
        .arg(&bare_folder)
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .spawn()?;
    let bare = watch(child, None).await?;
    let bytes = free.media_bytes_sent();
    free.stop().await;
    std::fs::remove_dir_all(&bare_folder)?;

    let run = export(&ONE, folder.path()).await?;
    report_use(&run, &bare, bytes);
    report_cat(folder.path(), &run, bytes)?;
    export(&TWENTY, folder.path()).await?;
    export(&SHARED, folder.path()).await?;
    Ok(())
}

/// Carries a case out, and prints how long the fetch took beside its bound.
async fn export(case: &Case, folder: &Path) -> Result<Usage, Failure> {
    let emulator = archive(case, Some(PointBudgets::default())).await?;
    let folder = folder.join(case.name.replace(' ', "-"));
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
    let second = case.second_client.then(|| tokio::spawn(second_client(emulator.endpoint(), range)));
    let before = SystemClock.now();
    let child = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
        .arg("run")
        .arg(&jobs)
        .args(["--progress", "none"])
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .stdout(Stdio::null())
        .spawn()?;
    let usage = watch(child, Some(&emulator)).await?;
    if let Some(second) = second {
        second.abort();
    }
    report(case, &usage, &emulator.log(), before);
    emulator.stop().await;
    Ok(usage)
}

/// Asks for clips of the first stream for ever, without regard for anybody.
async fn second_client(endpoint: String, range: TimeRange) -> Result<(), Failure> {
    let archive = AwsArchive::connect(&AwsSettings {
        region: Some("us-west-2".to_owned()),
        endpoint_url: Some(endpoint),
        static_credentials: Some(("second".to_owned(), "client".to_owned())),
        ..AwsSettings::default()
    })
    .await?;
    let stream = archive.describe_stream(&StreamSelector::parse(&Case::stream(0))?, &Silent).await?.arn;
    let query = ClipQuery {
        stream,
        timestamps: TimestampKind::Producer,
        bounds: RequestBounds {
            start: range.start(),
            end: range.start() + i64::from(SECOND_CLIP) * 2_000 - 1,
        },
        fragments: SECOND_CLIP,
        attempts: 1,
    };
    loop {
        let pause = tokio::time::sleep(SECOND_PAUSE);
        // A refusal is in the emulator's log.
        drop(archive.get_clip(&query, &mut Nowhere, &Silent).await);
        pause.await;
    }
}

struct Nowhere;

impl ClipSink for Nowhere {
    fn restart(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a process used.
struct Usage {
    wall: Duration,
    cpu: f64,
    /// Time and CPU until the last byte was served.
    fetch: (Duration, f64),
    bytes: u64,
    peak_kib: u64,
}

/// Watches a child until it ends: its CPU (without its own children) and its peak of resident memory.
async fn watch(mut child: Child, served: Option<&Emulator>) -> Result<Usage, Failure> {
    let begun = Instant::now();
    let mut usage =
        Usage { wall: Duration::ZERO, cpu: 0.0, fetch: (Duration::ZERO, 0.0), bytes: 0, peak_kib: 0 };
    loop {
        if let Some((cpu, peak_kib)) = measure(child.id()) {
            usage.cpu = cpu;
            usage.peak_kib = peak_kib;
            let bytes = served.map_or(0, Emulator::media_bytes_sent);
            if bytes > usage.bytes {
                usage.bytes = bytes;
                usage.fetch = (begun.elapsed(), cpu);
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
    let Case { name, streams, hours, second_client: shared, .. } = *case;
    let speed = case.connection_bytes_per_second as f64;
    let of = |stream: usize| {
        let name = Case::stream(stream);
        log.iter().filter(move |request| request.api == Api::GetClip && request.stream == name)
    };
    // What the second client got is not this run's.
    let is_second = |request: &&RequestRecord| {
        let asked = request.points == SECOND_CLIP || request.over_quota;
        shared && request.stream == Case::stream(0) && asked
    };
    let clips = log.iter().filter(|request| request.api == Api::GetClip && !is_second(request)).count();
    let bytes = case.streams as u64 * case.bytes_per_second * 3_600 * u64::try_from(hours).unwrap_or(0);
    let (points, wire) = case.bound(bytes);
    let bound = points.max(wire);
    let slots = CONNECTIONS as f64;
    let latency = points.max((bytes as f64 / speed + clips as f64 * LATENCY.as_secs_f64()) / slots);
    let fetch = usage.fetch.0.as_secs_f64();
    let refused = log.iter().filter(|request| request.over_quota).count();
    println!(
        "bench: {name}: {streams} × {hours} h, {:.2} GB, {:.1} MB/s a connection, {clips} clips",
        bytes as f64 / 1e9,
        speed / 1e6
    );
    println!(
        "bench: {name}: fetch {fetch:.1} s, bound {bound:.1} s (points {points:.1}, wire {wire:.1}), ratio {:.2}; with \
         latency {latency:.1} s, ratio {:.2}",
        fetch / bound,
        fetch / latency
    );
    println!(
        "bench: {name}: {} calls, {refused} refused by the quota ({:.2} %)",
        log.len(),
        refused as f64 * 100.0 / log.len() as f64
    );
    if shared {
        let ends: Vec<String> = (0..streams)
            .filter_map(|stream| {
                of(stream).filter(|request| !is_second(request)).map(|request| request.at).max()
            })
            .map(|at| format!("{:.1}", (at - before) as f64 / 1e3))
            .collect();
        let second = of(0).filter(|request| request.points == SECOND_CLIP).count();
        println!(
            "bench: {name}: last clip of each stream asked for after {} s; the second client on the first got {second} clips",
            ends.join(", ")
        );
    }
}

/// Prints CPU and memory beside those of the bare loop.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report_use(run: &Usage, bare: &Usage, bytes: u64) {
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "bench: CPU per GB of the fetch {:.2} s, bare SDK loop {:.2} s, ratio {:.2}",
        run.fetch.1 / gigabytes,
        bare.cpu / gigabytes,
        run.fetch.1 / bare.cpu
    );
    println!("bench: VmHWM {:.1} MB, bare {:.1} MB", run.peak_kib as f64 / 1e3, bare.peak_kib as f64 / 1e3);
}

/// Prints the merge, with proof, beside `cat` of its output.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report_cat(folder: &Path, run: &Usage, bytes: u64) -> Result<(), Failure> {
    let output = folder.join(ONE.name.replace(' ', "-")).join("out").join(format!("{}.mp4", Case::stream(0)));
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
        bytes as f64 / 1e6 / merge.as_secs_f64(),
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
