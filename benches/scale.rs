//! How a state file of many chunks is read, and many exports are planned: `make bench-scale`.
//!
//! Makes state files with the real schema, by the store's own functions and then by copying rows, and measures the
//! real binary on them: `status` as text and as JSON, and the start of a resumed run, recovery included, until its
//! first GetClip reaches the emulator. Before that it measures plans of 100 000 exports. Prints time and peak of resident
//! memory. It measures and prints; it judges nothing.
//!
//! Arguments: numbers of chunks, such as `1000000`; by default one million and ten.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig};
use kvs_export::job::{self, JobSource};
use kvs_export::model::{
    ExportId, ExportSpec, Fragment, FragmentNumber, RequestBounds, StreamArn, UtcMillis,
};
use kvs_export::plan;
use kvs_export::store::{ExportIdentity, NewChunk, NewExport, Store, WindowPlan};
use rusqlite::{Connection, named_params};

type Failure = Box<dyn Error + Send + Sync>;

const HOUR_MS: i64 = 3_600_000;
/// 2015-01-01, so that ten years lie behind it.
const BEGIN: UtcMillis = UtcMillis::new(1_420_070_400_000);
/// Fragments in an hour of listing.
const FRAGMENTS: u32 = 2_000;
/// A fragment's bytes: so few that the disk has room for all of them, as a run asks before it begins.
const FRAGMENT_BYTES: u64 = 100;
/// Chunks of the first window that are left to fetch where the others are fetched.
const LEFT: u32 = 10;
/// A run that has not asked for a clip by then never will.
const LONGEST_START: Duration = Duration::from_mins(10);

/// How chunks are spread over exports, and how far they are.
#[derive(Clone, Copy)]
struct Shape {
    streams: u32,
    /// Exports of each stream.
    ranges: u32,
    /// Hours of each export.
    windows: u32,
    /// Chunks of each hour.
    chunks: u32,
    /// Whether all but a few are fetched, with their files in place.
    fetched: bool,
}

impl Shape {
    /// One export, many, and very many of so many chunks in all.
    fn all(total: u32) -> Vec<Self> {
        let one = Self { streams: 1, ranges: 1, windows: total / 1_000, chunks: 1_000, fetched: false };
        let many =
            Self { streams: 50, ranges: 100, windows: 1, chunks: (total / 5_000).max(1), fetched: false };
        let mut shapes = vec![one, many];
        if total <= 1_000_000 {
            shapes.push(Self {
                streams: 100,
                ranges: (total / 1_000).max(1),
                windows: 1,
                chunks: 10,
                fetched: false,
            });
            // Ten million files are another matter than ten million rows.
            shapes.extend([Self { fetched: true, ..one }, Self { fetched: true, ..many }]);
        }
        shapes
    }

    fn exports(self) -> u32 {
        self.streams * self.ranges
    }

    fn total(self) -> u32 {
        self.exports() * self.windows * self.chunks
    }

    fn camera(number: u32) -> String {
        format!("cam-{number:03}")
    }

    /// A job for all streams, with every range.
    fn job_file(self, endpoint: &str) -> Result<String, std::fmt::Error> {
        let streams: Vec<String> =
            (0..self.streams).map(|number| format!("\"{}\"", Self::camera(number))).collect();
        let mut text = format!(
            "version = 1\nstate = \"state.db\"\nwork = \"chunks\"\n[aws]\nregion = \"us-west-2\"\n\
             endpoint_url = \"{endpoint}\"\n[[job]]\nname = \"bench\"\nstreams = [{}]\nedges = \"inside\"\n\
             output = \"out/{{stream}}/{{from:%Y-%m-%dT%H}}.mp4\"\nranges = [\n",
            streams.join(", ")
        );
        let length = i64::from(self.windows) * HOUR_MS;
        for range in 0..i64::from(self.ranges) {
            let from = BEGIN + range * length;
            writeln!(text, "  {{ from = {from}, to = {} }},", from + length)?;
        }
        text.push_str("]\n");
        Ok(text)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (exports, of_each) = (self.exports(), self.windows * self.chunks);
        let state = if self.fetched { "fetched" } else { "planned" };
        write!(f, "{exports} exports × {of_each} chunks, {state}")
    }
}

fn main() -> Result<(), Failure> {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let totals = if numbers.is_empty() { vec![1_000_000, 10_000_000] } else { numbers };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure_plans())?;
    let mut first: Vec<Figures> = Vec::new();
    for total in totals {
        for (index, shape) in Shape::all(total).into_iter().enumerate() {
            let figures = runtime.block_on(measure(shape))?;
            report(shape, &figures, first.get(index));
            if first.len() == index {
                first.push(figures);
            }
        }
    }
    Ok(())
}

/// What one shape took.
struct Figures {
    chunks: u32,
    text: Usage,
    json: Usage,
    start: Usage,
}

/// What a process took until it had done what was asked.
struct Usage {
    wall: Duration,
    peak_kib: u64,
}

/// Plans 100 jobs × 100 streams × 10 ranges that no run has begun, as text and as JSON. Their windows are fixed: what the
/// program itself takes for them is measured, and not how fast the emulator lists.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
async fn measure_plans() -> Result<(), Failure> {
    let config = EmulatorConfig { points: None, any_stream: true, ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await?;
    let folder = tempfile::tempdir()?;
    let jobs = folder.path().join("jobs.toml");
    let shape = Shape { streams: 100, ranges: 10, windows: 1, chunks: 20, fetched: false };
    let one = shape.job_file(&emulator.endpoint())?;
    let (head, job) = one.split_once("[[job]]\n").ok_or("no job")?;
    let mut text = head.to_owned();
    for number in 0..100 {
        let named = job.replace("\"bench\"", &format!("\"bench-{number}\""));
        let job = named.replace("out/", "out/{job}/").replace("edges =", "chunk = \"3m\"\nedges =");
        write!(text, "[[job]]\n{job}")?;
    }
    std::fs::write(&jobs, text)?;
    for format in ["text", "json"] {
        let arguments = ["--format", format, "run", "--dry-run"];
        let usage = to_its_end(program(folder.path(), &arguments, &jobs)?)?;
        let bytes = std::fs::metadata(folder.path().join("stdout"))?.len() as f64 / 1e6;
        let (wall, peak) = (usage.wall.as_secs_f64(), usage.peak_kib as f64 / 1e3);
        println!("scale: plan of 100000 exports, {format}: {wall:.2} s, {bytes:.0} MB, VmHWM {peak:.1} MB");
    }
    emulator.stop().await;
    Ok(())
}

async fn measure(shape: Shape) -> Result<Figures, Failure> {
    let cameras = (0..shape.streams).map(|number| Camera::steady(Shape::camera(number)).created(BEGIN));
    let config = EmulatorConfig { points: None, ..EmulatorConfig::with_cameras(cameras) };
    let emulator = Emulator::start(config).await?;
    let folder = tempfile::tempdir()?;
    let jobs = folder.path().join("jobs.toml");
    std::fs::write(&jobs, shape.job_file(&emulator.endpoint())?)?;
    fill(&jobs, folder.path(), shape)?;
    let text = to_its_end(program(folder.path(), &["status"], &jobs)?)?;
    let json = to_its_end(program(folder.path(), &["--format", "json", "status"], &jobs)?)?;
    let run = program(folder.path(), &["--progress", "none", "run"], &jobs)?;
    let start = to_the_first_clip(run, &emulator).await?;
    emulator.stop().await;
    Ok(Figures { chunks: shape.total(), text, json, start })
}

fn program(folder: &Path, arguments: &[&str], jobs: &Path) -> Result<Child, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    command
        .args(arguments)
        .arg(jobs)
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("stdout"))?)
        .stderr(File::create(folder.join("stderr"))?);
    Ok(command.spawn()?)
}

/// Waits for a program that is to succeed.
fn to_its_end(mut child: Child) -> Result<Usage, Failure> {
    let begun = Instant::now();
    let mut peak = 0;
    loop {
        peak = peak_kib(&child).unwrap_or(peak);
        if let Some(status) = child.try_wait()? {
            let usage = Usage { wall: begun.elapsed(), peak_kib: peak };
            return if status.success() { Ok(usage) } else { Err(format!("it failed: {status}").into()) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the emulator is asked for a clip, then kills the run.
async fn to_the_first_clip(mut child: Child, emulator: &Emulator) -> Result<Usage, Failure> {
    let begun = Instant::now();
    while !emulator.log().iter().any(|request| request.api == Api::GetClip) {
        if let Some(status) = child.try_wait()? {
            return Err(format!("the run ended before it asked for a clip: {status}").into());
        }
        if begun.elapsed() > LONGEST_START {
            child.kill()?;
            return Err(format!("no clip was asked for in {LONGEST_START:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let usage = Usage { wall: begun.elapsed(), peak_kib: peak_kib(&child).unwrap_or(0) };
    child.kill()?;
    child.wait()?;
    Ok(usage)
}

/// The peak of a process's resident memory so far, where `/proc` tells.
fn peak_kib(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn report(shape: Shape, figures: &Figures, first: Option<&Figures>) {
    println!("scale: {shape}");
    let line = |what: &str, of: fn(&Figures) -> &Usage| {
        let usage = of(figures);
        let ratio = first.map_or(String::new(), |first| {
            let times = f64::from(figures.chunks) / f64::from(first.chunks);
            let longer = usage.wall.as_secs_f64() / of(first).wall.as_secs_f64();
            format!(", {longer:.1} × as long for {times:.0} × the chunks")
        });
        let peak = usage.peak_kib as f64 / 1e3;
        println!("scale:   {what} {:.2} s, VmHWM {peak:.1} MB{ratio}", usage.wall.as_secs_f64());
    };
    line("status        ", |figures| &figures.text);
    line("status as JSON", |figures| &figures.json);
    line("start of a run", |figures| &figures.start);
}

/// Fills the state file of a job file: every export with all windows planned.
fn fill(jobs: &Path, folder: &Path, shape: Shape) -> Result<(), Failure> {
    let text = std::fs::read_to_string(jobs)?;
    let source = JobSource { text: &text, file: jobs, display: "jobs.toml" };
    let now = kvs_export::clock::Clock::now(&SystemClock);
    let (file, asked) = job::load(source, now, &[]).map_err(|errors| errors.to_string())?;
    let mut store = Store::open(&file.state, Arc::new(SystemClock))?;
    let mut ids = Vec::new();
    for asked in asked {
        let arn = arn(&asked.spec)?;
        let windows = plan::windows(asked.spec.range, asked.spec.edges);
        store.insert_exports([NewExport { stream: &arn, spec: &asked.spec, windows }])?;
        ids.push(ExportIdentity::of(&asked.spec, &arn).id);
    }
    let first = ids.first().ok_or("no export")?;
    store.store_window_plan(first, 0, &window_plan(BEGIN, shape.chunks)?)?;
    drop(store);
    copy_the_first_window(&file.state, first, shape)?;
    if shape.fetched { make_files(&file.state, &folder.join("chunks"), &ids) } else { Ok(()) }
}

fn arn(spec: &ExportSpec) -> Result<StreamArn, Failure> {
    let text =
        format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{}/{BEGIN_MS}", spec.stream.name());
    Ok(StreamArn::parse(&text)?)
}

const BEGIN_MS: i64 = BEGIN.get();

/// An hour of fragments in so many chunks.
fn window_plan(start: UtcMillis, chunks: u32) -> Result<WindowPlan, Failure> {
    let length_ms = u32::try_from(HOUR_MS)? / FRAGMENTS;
    let begin = |index: u32| start + i64::from(index) * i64::from(length_ms);
    let mut fragments = Vec::new();
    for index in 0..FRAGMENTS {
        let number = FragmentNumber::parse(&format!("9134385233318143{index:031}"))?;
        let (producer, server) = (begin(index), begin(index) + 250);
        fragments.push(Fragment { number, producer, server, length_ms, size_bytes: FRAGMENT_BYTES });
    }
    let each = FRAGMENTS / chunks;
    let chunk = |index: u32| NewChunk {
        first_fragment: index * each,
        fragment_count: each,
        bounds: RequestBounds { start: begin(index * each), end: begin((index + 1) * each) - 1 },
        planned_bytes: u64::from(each) * FRAGMENT_BYTES,
    };
    Ok(WindowPlan {
        listed_at: start + HOUR_MS,
        fragments,
        dropped: Vec::new(),
        chunks: (0..chunks).map(chunk).collect(),
        media_ms: u64::try_from(HOUR_MS)?,
    })
}

/// Gives every window the plan of the first, moved to its time; counters as the triggers keep them.
fn copy_the_first_window(state: &Path, first: &ExportId, shape: Shape) -> Result<(), Failure> {
    const COPY: [&str; 3] = [
        "update window set (listed_at_ms, fragment_count, chunk_count, planned_bytes, media_ms, fragments) =
           (select listed_at_ms, fragment_count, chunk_count, planned_bytes, media_ms, fragments
            from window where export_id = :first and seq = 0)
         where listed_at_ms is null and :first = :first",
        "insert into chunk (export_id, window_seq, first_fragment, fragment_count, request_start_ms, request_end_ms,
                            planned_bytes, state)
         select w.export_id, w.seq, c.first_fragment, c.fragment_count,
                c.request_start_ms + w.start_ms - o.start_ms, c.request_end_ms + w.start_ms - o.start_ms,
                c.planned_bytes, c.state
         from window w, (select * from chunk where export_id = :first and window_seq = 0) c,
              (select start_ms from window where export_id = :first and seq = 0) o
         where w.export_id <> :first or w.seq <> 0
         order by w.export_id, w.seq, c.first_fragment",
        "update export set state = 'fetching', windows_planned = windows_total,
           (fragments, planned_bytes, media_ms) =
           (select sum(fragment_count), sum(planned_bytes), sum(media_ms) from window where export_id = export.id)
         where :first = :first",
    ];
    const FETCHED: &str = "
        update chunk set state = 'fetched', size_bytes = planned_bytes, sha256 = zeroblob(32)
        where window_seq > 0 or first_fragment >= :left";
    const COUNT: &str = "
        delete from chunk_count;
        insert into chunk_count
        select export_id, state, count(*), sum(fragment_count), sum(planned_bytes), coalesce(sum(size_bytes), 0)
        from chunk group by export_id, state;";
    let database = Connection::open(state)?;
    let triggers: Vec<(String, String)> = database
        .prepare("select name, sql from sqlite_master where type = 'trigger'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    database.execute_batch("pragma synchronous = off; begin")?;
    for (name, _) in &triggers {
        database.execute_batch(&format!("drop trigger {name}"))?;
    }
    for copy in COPY {
        database.execute(copy, named_params! { ":first": first.0 })?;
    }
    if shape.fetched {
        let left = LEFT.min(shape.chunks / 2) * (FRAGMENTS / shape.chunks);
        database.execute(FETCHED, named_params! { ":left": left })?;
    }
    database.execute_batch(COUNT)?;
    for (_, sql) in &triggers {
        database.execute_batch(sql)?;
    }
    database.execute_batch("commit; pragma wal_checkpoint(truncate)")?;
    Ok(())
}

/// Makes the files of fetched chunks: of the right size, and empty.
fn make_files(state: &Path, work: &Path, ids: &[ExportId]) -> Result<(), Failure> {
    let database = Connection::open(state)?;
    let mut select =
        database.prepare("select id, size_bytes from chunk where export_id = ? and state = 'fetched'")?;
    for id in ids {
        let folder: PathBuf = work.join(&id.0);
        std::fs::create_dir_all(&folder)?;
        let mut rows = select.query([&id.0])?;
        while let Some(row) = rows.next()? {
            let (chunk, size): (i64, i64) = (row.get(0)?, row.get(1)?);
            File::create(folder.join(format!("{chunk}.mp4")))?.set_len(u64::try_from(size)?)?;
        }
    }
    Ok(())
}
