//! A scenario: everything that a seed decides.

use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use kvs_export::crash_point::Point;
use kvs_export::emulator::{
    Api, Camera, ClipLimits, EmulatorConfig, Fault, FaultRule, InnerTiming, MoviePosition, PointBudgets,
    SecondClient,
};
use kvs_export::model::{TimeRange, Timeline, TimestampKind, UtcMillis};
use rustix::process::Signal;

use crate::footage::{self, Footage};
use crate::support::MIDNIGHT;
use crate::support::scene::Job;
use crate::{faults, ranges};

/// One export that a job of the file stands for.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    /// Which camera.
    pub(crate) camera: usize,
    /// The job's name and settings, with this stream and this range.
    pub(crate) job: Job,
}

/// A run that something may go wrong in.
#[derive(Debug, Clone)]
pub(crate) struct RoughRun {
    /// Whether `plan` is asked before it, under the same faults; the run may use its listings.
    pub(crate) planned: bool,
    /// What befalls its requests.
    pub(crate) faults: Vec<FaultRule>,
    /// Who else spends the streams' points.
    pub(crate) second_clients: Vec<SecondClient>,
    /// How far the service's clock is ahead.
    pub(crate) clock_offset_ms: i64,
    /// How it ends.
    pub(crate) ending: Ending,
    /// How many files of chunks and of unfinished merges are damaged after it.
    pub(crate) damages: u32,
    /// Milliseconds before each answer.
    pub(crate) latency: Duration,
}

/// How a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// By itself.
    Itself,
    /// By a signal, if it comes so far.
    Signal {
        /// Which one.
        signal: Signal,
        /// When it comes.
        at: At,
    },
    /// By its own hand after a step of `design/lifecycle.md`, if it comes so far.
    Step {
        /// Which one.
        point: Point,
        /// At which time of coming there, from 1.
        nth: u32,
    },
}

/// When a signal comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    /// When the emulator has sent so many bytes of clips.
    Bytes(u64),
    /// So long after the program was started.
    After(Duration),
}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// The seed.
    pub(crate) seed: u64,
    /// The cameras.
    pub(crate) cameras: Vec<Camera>,
    /// What has to come out.
    pub(crate) exports: Vec<Export>,
    /// The job file without the emulator's address.
    jobs: String,
    /// The emulator in a calm run; fragments that are always refused among its faults.
    calm: EmulatorConfig,
    /// Whether credentials that were refused are followed by others.
    pub(crate) renews_credentials: bool,
    /// The runs before the calm ones.
    pub(crate) rough: Vec<RoughRun>,
    /// Decides which files are damaged, and how.
    pub(crate) damage: Rng,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let edge = MIDNIGHT + rng.i64(1..24) * 3_600_000;
        let count = if rng.u8(0..3) == 0 { rng.usize(2..5) } else { 1 };
        let shots: Vec<Footage> =
            (0..count).map(|number| footage::shoot(&mut rng, &format!("cam-{number}"), edge)).collect();
        let cameras: Vec<Camera> = shots.iter().map(|shot| shot.camera.clone()).collect();
        let limits = limits(&mut rng);
        let (jobs, exports) = jobs(&mut rng, &shots, edge);
        let calm = emulator(&mut rng, &cameras, &exports);
        let media: u64 = calm_bytes(&cameras, &exports);
        let streams: Vec<String> = cameras.iter().map(|camera| camera.name.clone()).collect();
        let mut rough: Vec<RoughRun> = Vec::new();
        for _ in 0..rng.usize(0..6) {
            let before = rough.last().map(|run| run.ending);
            rough.push(rough_run(&mut rng, before, &streams, media));
        }
        let renews_credentials = rng.bool();
        let damage = rng.fork();
        let jobs = format!("[limits]\n{limits}\n[defaults]\noutput = \"{OUTPUT}\"\n{jobs}");
        Self { seed, cameras, exports, jobs, calm, renews_credentials, rough, damage }
    }

    /// The job file for an emulator at that address.
    pub(crate) fn job_file(&self, endpoint: &str) -> String {
        format!(
            "# seed {}\nversion = 1\nstate = \"state.db\"\nwork = \"chunks\"\n\n[aws]\nregion = \"us-west-2\"\n\
             endpoint_url = \"{endpoint}\"\n\n{}",
            self.seed, self.jobs
        )
    }

    /// The emulator of a calm run.
    pub(crate) fn calm(&self) -> EmulatorConfig {
        self.calm.clone()
    }

    /// The emulator of a rough run.
    pub(crate) fn rough(&self, run: &RoughRun) -> EmulatorConfig {
        let mut config = self.calm.clone();
        config.faults.extend(run.faults.iter().cloned());
        config.second_clients.clone_from(&run.second_clients);
        EmulatorConfig { latency: run.latency, clock_offset_ms: run.clock_offset_ms, ..config }
    }

    /// The numbers of the fragments of a stream that the service may refuse in some run.
    pub(crate) fn refused(&self, stream: &str) -> impl Iterator<Item = String> {
        self.calm.faults.iter().filter_map(move |rule| match &rule.fault {
            Fault::RefuseFragment(number) if rule.stream.as_deref() == Some(stream) => {
                Some(number.to_string())
            }
            _ => None,
        })
    }
}

/// Where outputs go, by what tells a job's exports apart.
const OUTPUT: &str = "out/{job}_{stream}_{from:%H%M%S}_{to:%H%M%S}.mp4";

fn limits(rng: &mut Rng) -> String {
    let mut text = format!(
        "requests_in_flight = {}\nstream_budget = {}\nattempts = {}\nmerges = {}\n",
        rng.choice(&[1, 2, 4, 8, 16]).expect("some"),
        rng.choice(&[0.3, 0.7, 1.0]).expect("some"),
        rng.u32(2..9),
        rng.u32(1..4),
    );
    // A pause for a service that is away takes real time.
    text += "outage = \"1s\"\n";
    text
}

/// Jobs with one range or several, of one stream or of all of them; and the exports they stand for.
fn jobs(rng: &mut Rng, shots: &[Footage], edge: UtcMillis) -> (String, Vec<Export>) {
    let (mut text, mut exports) = (String::new(), Vec::new());
    for number in 0..rng.usize(1..4) {
        let name = format!("job-{number}");
        let all = rng.u8(0..3) == 0;
        let cameras: Vec<usize> =
            if all { (0..shots.len()).collect() } else { vec![rng.usize(0..shots.len())] };
        let replays = cameras.iter().any(|camera| shots[*camera].replays);
        let timestamps = if rng.bool() { TimestampKind::Server } else { TimestampKind::Producer };
        let timeline = if rng.bool() { Timeline::Compact } else { Timeline::Wallclock };
        let edges = ranges::edges(rng, replays);
        let ranges = ranges(rng, &shots[cameras[0]], edge);
        let streams: Vec<String> =
            cameras.iter().map(|camera| format!("\"{}\"", shots[*camera].camera.name)).collect();
        let streams = streams.join(", ");
        let list: Vec<String> = ranges
            .iter()
            .map(|range| format!("  {{ from = {}, to = {} }},\n", range.start(), range.end()))
            .collect();
        let written = write!(
            text,
            "\n[[job]]\nname = \"{name}\"\nstreams = [{streams}]\nranges = [\n{}]\ntimestamps = \"{}\"\n\
             edges = \"{}\"\ntimeline = \"{}\"\nkeep_chunks = {}\n",
            list.concat(),
            timestamps.as_str(),
            edges.as_str(),
            timeline.as_str(),
            rng.u8(0..4) == 0,
        );
        written.expect("text takes everything");
        for camera in cameras {
            for range in &ranges {
                let job = Job::new(&name, &shots[camera].camera.name, *range).of(timestamps, edges, timeline);
                exports.push(Export { camera, job });
            }
        }
    }
    (text, exports)
}

/// Up to three ranges whose outputs have different names.
fn ranges(rng: &mut Rng, shot: &Footage, edge: UtcMillis) -> Vec<TimeRange> {
    let mut ranges: Vec<TimeRange> = Vec::new();
    for _ in 0..*rng.choice(&[1, 1, 1, 2, 3]).expect("some") {
        let range = if rng.u8(0..3) == 0 {
            // All there is, and some silence.
            let (before, after) = (rng.i64(0..30_000), rng.i64(0..30_000));
            TimeRange::new(shot.around.start() - before, shot.around.end() + after).expect("a range")
        } else {
            ranges::random_range(rng, &shot.camera, shot.around, edge)
        };
        let seconds = |range: &TimeRange| (range.start().get() / 1000, range.end().get() / 1000);
        if ranges.iter().all(|other| seconds(other) != seconds(&range)) {
            ranges.push(range);
        }
    }
    ranges
}

fn emulator(rng: &mut Rng, cameras: &[Camera], exports: &[Export]) -> EmulatorConfig {
    let mut faults = Vec::new();
    if rng.u8(0..5) == 0 {
        let export = &exports[rng.usize(0..exports.len())];
        let fragments = cameras[export.camera].fragments(export.job.range, export.job.timestamps);
        for _ in 0..rng.u8(1..3) {
            if fragments.len() > 3 {
                let fault = Fault::RefuseFragment(fragments[rng.usize(0..fragments.len())].number.clone());
                faults.push(FaultRule::always(Api::GetClip, fault).on_stream(&export.job.stream));
            }
        }
    }
    let count =
        |export: &Export| cameras[export.camera].fragments(export.job.range, export.job.timestamps).len();
    // A service that stops clips after a few fragments, and throttles every second request, makes hours of an hour.
    let limits: &[usize] = match exports.iter().map(count).sum::<usize>() {
        ..1_000 => &[200, 200, 200, 100, 20, 7, 3],
        _ => &[200, 200, 200, 100],
    };
    let fragments = *rng.choice(limits).expect("some");
    let points = match rng.u8(0..8) {
        0 => None,
        1 => Some(PointBudgets { media: 300, ..PointBudgets::default() }),
        _ => Some(PointBudgets::default()),
    };
    EmulatorConfig {
        inner_timing: if rng.bool() { InnerTiming::KeepStarts } else { InnerTiming::CloseGaps },
        movie: if rng.bool() { MoviePosition::First } else { MoviePosition::Last },
        clip_limits: ClipLimits { fragments, ..ClipLimits::default() },
        points,
        seed: rng.u64(..),
        faults,
        ..EmulatorConfig::with_cameras(cameras.iter().cloned())
    }
}

/// Bytes of media that all exports together ask for.
fn calm_bytes(cameras: &[Camera], exports: &[Export]) -> u64 {
    let of = |export: &Export| cameras[export.camera].fragments(export.job.range, export.job.timestamps);
    exports.iter().flat_map(of).map(|fragment| fragment.size_bytes).sum()
}

fn rough_run(rng: &mut Rng, before: Option<Ending>, streams: &[String], media: u64) -> RoughRun {
    RoughRun {
        planned: rng.u8(0..6) == 0,
        faults: faults::some(rng, streams),
        second_clients: faults::second_clients(rng, streams),
        clock_offset_ms: faults::clock_offset_ms(rng),
        ending: ending(rng, before, media),
        damages: if rng.u8(0..3) == 0 { rng.u32(1..4) } else { 0 },
        latency: Duration::from_millis(*rng.choice(&[0, 0, 0, 5, 30]).expect("some")),
    }
}

fn ending(rng: &mut Rng, before: Option<Ending>, media: u64) -> Ending {
    let signal = *rng
        .choice(&[Signal::KILL, Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP])
        .expect("some");
    // Only a run that was killed leaves something to recover, and that may be killed in its turn.
    let recovers = matches!(before, Some(Ending::Step { .. } | Ending::Signal { signal: Signal::KILL, .. }));
    let is_recovery = |point: &Point| point.name().starts_with('R');
    match rng.u8(0..8) {
        kind if recovers && kind < 4 => step(rng, is_recovery),
        0 | 1 => Ending::Itself,
        2 | 3 => Ending::Signal { signal, at: At::Bytes(rng.u64(0..media.max(1))) },
        4 => Ending::Signal { signal, at: At::After(Duration::from_millis(rng.u64(20..2_500))) },
        _ => step(rng, |point| !is_recovery(point)),
    }
}

/// The end of a run after one of these steps, mostly at the first time that it is taken.
fn step(rng: &mut Rng, which: impl Fn(&Point) -> bool) -> Ending {
    let points: Vec<Point> = Point::ALL.iter().copied().filter(which).collect();
    Ending::Step {
        point: points[rng.usize(0..points.len())],
        nth: *rng.choice(&[1, 1, 1, 2, 5]).expect("some"),
    }
}
