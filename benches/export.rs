//! How fast a run is beside what the service allows: `make bench`.
//!
//! Two hours of 2 Mbit/s in 2 s fragments, 300 ms before each answer, 25 MB/s a connection. Prints the fetch phase
//! beside its bound, CPU per GB beside a bare loop of the SDK that writes and hashes the same bytes, and the peak
//! of resident memory. It measures and prints; it judges nothing.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia as media;
use kvs_export::archive::{Archive, AwsArchive, AwsSettings, CallObserver};
use kvs_export::archive::{ArchiveError, ListQuery};
use kvs_export::emulator::{Camera, Emulator, EmulatorConfig, PointBudgets};
use kvs_export::model::{
    Attempt, Fragment, RequestBounds, StreamSelector, TimeRange, TimestampKind, UtcMillis,
};
use sha2::{Digest, Sha256};

type Failure = Box<dyn Error + Send + Sync>;

const HOURS: i64 = 2;
const BYTES_PER_SECOND: u64 = 250_000;
const LATENCY: Duration = Duration::from_millis(300);
const CONNECTION_BYTES_PER_SECOND: u64 = 25_000_000;
const CONNECTIONS: usize = 8;
const SHARE: f64 = 0.7;
const MEDIA_POINTS_PER_SECOND: f64 = 500.0;
const CLIP_FRAGMENTS: usize = 200;

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

fn range() -> Result<TimeRange, Failure> {
    let start = UtcMillis::new(1_740_988_800_000);
    TimeRange::new(start, start + HOURS * 3_600_000).ok_or_else(|| "an empty range".into())
}

async fn archive(points: Option<PointBudgets>) -> Result<Emulator, Failure> {
    let camera = Camera::steady("bench").bytes_per_second(BYTES_PER_SECOND);
    let config = EmulatorConfig {
        latency: LATENCY,
        bytes_per_second: Some(CONNECTION_BYTES_PER_SECOND),
        points,
        ..EmulatorConfig::with_cameras([camera])
    };
    Ok(Emulator::start(config).await?)
}

async fn compare() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let free = archive(None).await?;
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

    let limited = archive(Some(PointBudgets::default())).await?;
    let jobs = folder.path().join("jobs.toml");
    let range = range()?;
    std::fs::write(
        &jobs,
        format!(
            "version = 1\n[aws]\nregion = \"us-west-2\"\nendpoint_url = \"{}\"\n[[job]]\nname = \"bench\"\n\
             streams = [\"bench\"]\nfrom = {}\nto = {}\nedges = \"inside\"\ntimestamps = \"producer\"\n",
            limited.endpoint(),
            range.start(),
            range.end()
        ),
    )?;
    let child = Command::new(env!("CARGO_BIN_EXE_kvs-export"))
        .arg("run")
        .arg(&jobs)
        .args(["--progress", "none"])
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .stdout(Stdio::null())
        .spawn()?;
    let run = watch(child, Some((&limited, bytes))).await?;
    let refused = limited.log().iter().filter(|request| request.over_quota).count();
    limited.stop().await;
    report(bytes, &bare, &run, refused);
    Ok(())
}

/// What a process used.
struct Usage {
    wall: Duration,
    cpu: f64,
    /// Time and CPU until the last byte was served.
    fetch: Option<(Duration, f64)>,
    peak_kib: u64,
}

/// Watches a child until it ends: its CPU (without its own children) and its peak of resident memory.
async fn watch(mut child: Child, served: Option<(&Emulator, u64)>) -> Result<Usage, Failure> {
    let begun = Instant::now();
    let mut usage = Usage { wall: Duration::ZERO, cpu: 0.0, fetch: None, peak_kib: 0 };
    loop {
        if let Some((cpu, peak_kib)) = measure(child.id()) {
            usage.cpu = cpu;
            usage.peak_kib = peak_kib;
            if let Some((emulator, bytes)) = served
                && usage.fetch.is_none()
                && emulator.media_bytes_sent() >= bytes
            {
                usage.fetch = Some((begun.elapsed(), cpu));
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

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report(bytes: u64, bare: &Usage, run: &Usage, refused: usize) {
    let gigabytes = bytes as f64 / 1e9;
    let fragments = (HOURS * 1_800) as f64;
    let points = fragments / (MEDIA_POINTS_PER_SECOND * SHARE);
    let wire = bytes as f64 / (CONNECTIONS as f64 * CONNECTION_BYTES_PER_SECOND as f64);
    let bound = points.max(wire);
    let (fetch, fetch_cpu) = run.fetch.unwrap_or((run.wall, run.cpu));
    println!("bench: {HOURS} h, {gigabytes:.2} GB, {fragments} fragments, 300 ms, 25 MB/s a connection");
    println!(
        "bench: fetch {:.1} s, bound {bound:.1} s (points {points:.1}, wire {wire:.1}), ratio {:.2}; refused {refused}",
        fetch.as_secs_f64(),
        fetch.as_secs_f64() / bound
    );
    println!(
        "bench: whole run with merge and proof {:.1} s; merge {:.0} MB/s",
        run.wall.as_secs_f64(),
        bytes as f64 / 1e6 / run.wall.saturating_sub(fetch).as_secs_f64()
    );
    println!(
        "bench: CPU per GB of the fetch {:.2} s, bare SDK loop {:.2} s, ratio {:.2}",
        fetch_cpu / gigabytes,
        bare.cpu / gigabytes,
        fetch_cpu / bare.cpu
    );
    println!("bench: VmHWM {:.1} MB, bare {:.1} MB", run.peak_kib as f64 / 1e3, bare.peak_kib as f64 / 1e3);
}

/// The same bytes by the SDK alone: eight requests at a time, each written to a file and hashed.
async fn bare_loop(endpoint: &str, folder: &Path) -> Result<(), Failure> {
    let range = range()?;
    let archive = AwsArchive::connect(&AwsSettings {
        region: Some("us-west-2".to_owned()),
        endpoint_url: Some(endpoint.to_owned()),
        ..AwsSettings::default()
    })
    .await?;
    let stream = archive.describe_stream(&StreamSelector::parse("bench")?, &Silent).await?.arn;
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
}
