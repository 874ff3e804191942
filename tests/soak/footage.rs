//! Cameras that have recorded something at random.
//!
//! A pause between fragments is far below the least gap tolerance (500 ms) or far above the greatest (half of
//! 20 s), so that no judge has to share the program's rounding.

use fastrand::Rng;
use kvs_export::emulator::{
    Camera, FragmentSizes, Grid, Recording, Script, ScriptedFragment, TestPictures, VideoSource,
};
use kvs_export::model::{TimeRange, UtcMillis};

/// The least pause that is a gap for every length of fragments, in milliseconds.
const LEAST_GAP_MS: i64 = 12_000;
/// The longest pause that is none.
const LONGEST_PAUSE_MS: i64 = 300;

/// A camera and what a scenario has to know of it.
#[derive(Debug, Clone)]
pub(crate) struct Footage {
    /// The camera.
    pub(crate) camera: Camera,
    /// From the first to the last of its media, on both clocks.
    pub(crate) around: TimeRange,
    /// Whether sessions overlap on the camera's clock.
    pub(crate) replays: bool,
}

/// Records with a camera of that name, about the instant `edge`, an edge of an hour.
pub(crate) fn shoot(rng: &mut Rng, name: &str, edge: UtcMillis) -> Footage {
    match rng.u8(0..12) {
        0 => long_hour(rng, name, edge),
        1..5 => grid(rng, name, edge),
        _ => sessions(rng, name, edge),
    }
}

/// More fragments in an hour than a page of a listing, and than several clips, hold.
fn long_hour(rng: &mut Rng, name: &str, edge: UtcMillis) -> Footage {
    let around = TimeRange::new(edge - rng.i64(1_000_000..2_000_000), edge + rng.i64(0..600_000));
    let around = around.expect("a range");
    let outside = |from: UtcMillis, to: UtcMillis| TimeRange::new(from, to).expect("a range");
    let gaps = vec![
        outside(around.start() - 86_400_000, around.start()),
        outside(around.end(), around.end() + 86_400_000),
    ];
    let grid = Grid {
        fragment_ms: rng.u32(800..1_200),
        frame_rate: 2,
        phase_ms: rng.u32(0..1_000),
        gaps,
        server_delay_ms: rng.u32(0..800),
        server_jitter_ms: rng.u32(0..200),
        sizes: FragmentSizes::BytesPerSecond(14_000),
    };
    of(name, Script::Grid(grid), around, false)
}

/// Fragments of one length, on a grid that meets the edge of the hour where its phase is 0.
fn grid(rng: &mut Rng, name: &str, edge: UtcMillis) -> Footage {
    let fragment_ms =
        *rng.choice(&[1_000, 1_856, 2_000, 2_002, 4_000, 5_000, 10_000, 20_000]).expect("lengths");
    let length = i64::from(fragment_ms);
    let start = edge - rng.i64(1..40) * length;
    let around = TimeRange::new(start, edge + rng.i64(1..40) * length).expect("a range");
    let day = 86_400_000;
    let mut gaps = vec![
        TimeRange::new(start - day, start).expect("a range"),
        TimeRange::new(around.end(), around.end() + day).expect("a range"),
    ];
    for _ in 0..rng.u8(0..4) {
        let from = if rng.u8(0..4) == 0 { edge } else { start + rng.i64(0..around.end() - start) };
        let from = if rng.u8(0..4) == 0 { from - LEAST_GAP_MS } else { from };
        gaps.push(TimeRange::new(from, from + rng.i64(LEAST_GAP_MS..60_000)).expect("a range"));
    }
    let is_exact = rng.u8(0..3) == 0;
    let grid = Grid {
        fragment_ms,
        frame_rate: frame_rate(rng),
        phase_ms: if is_exact { 0 } else { rng.u32(0..fragment_ms) },
        gaps,
        server_delay_ms: if is_exact { 0 } else { rng.u32(0..3_000) },
        server_jitter_ms: if is_exact { 0 } else { rng.u32(0..fragment_ms / 4) },
        sizes: FragmentSizes::BytesPerSecond(30_000),
    };
    of(name, Script::Grid(grid), around, false)
}

fn frame_rate(rng: &mut Rng) -> u32 {
    if rng.bool() { 2 } else { 5 }
}

/// Sessions of fragments of uneven lengths with gaps between, replays, and changes of the picture's size.
fn sessions(rng: &mut Rng, name: &str, edge: UtcMillis) -> Footage {
    let usual = *rng.choice(&[1_000_u32, 2_000, 3_000, 5_000, 10_000, 19_000]).expect("lengths");
    let count = rng.usize(1..60);
    let about = i64::from(usual) * i64::try_from(count).expect("few");
    // The edge of the hour is somewhere in it; often the first starts at a fraction of a second.
    let mut start = edge - rng.i64(0..about.max(1));
    if rng.u8(0..4) == 0 {
        start = edge;
    }
    let delay_ms = if rng.u8(0..4) == 0 { 0 } else { rng.i64(0..4_000) };
    let replaying = rng.u8(0..5) == 0;
    let mut recording =
        Recording::at(start).frame_rate(frame_rate(rng)).bytes_per_second(0).server_delay_ms(delay_ms);
    let (mut session_ms, mut video, mut replays) = (0_i64, 0, false);
    for _ in 0..count {
        let length = usual - rng.u32(0..=usual / 5);
        session_ms += i64::from(length);
        recording = recording.fragments(1, length);
        match rng.u8(0..40) {
            0..2 => {
                // A last fragment that is cut short, but holds a picture.
                if rng.bool() {
                    recording = recording.fragments(1, rng.u32(510..700));
                }
                recording = recording.gap_ms(rng.i64(LEAST_GAP_MS..90_000));
                session_ms = 0;
            }
            2..5 => recording = recording.gap_ms(rng.i64(1..LONGEST_PAUSE_MS)),
            5 if rng.u8(0..3) == 0 => {
                video = 1 - video;
                recording = recording.video(video);
            }
            6..8 if replaying && session_ms > 4 * i64::from(usual) => {
                // It was connected anew and sends the last seconds again, less than half of the session.
                let back = rng.i64(i64::from(usual) + 600..session_ms / 2);
                let end = recording.producer();
                let mut again = end - back;
                if rng.bool() {
                    // Beside a fragment of the first: no request tells the two apart.
                    let sent = recording.clone().into_fragments();
                    let beside = sent.iter().map(|of| of.producer).filter(|at| *at <= again).max();
                    again = beside.unwrap_or(again) + rng.i64(1..4);
                }
                recording = recording.restart_at(again);
                // Past the end of the first: two sessions overlap, and never three.
                while recording.producer() <= end {
                    recording = recording.fragments(1, usual - rng.u32(0..=usual / 5));
                }
                session_ms = recording.producer() - end;
                replays = true;
            }
            _ => {}
        }
    }
    let mut fragments = recording.into_fragments();
    let jitter = rng.i64(0..=150);
    for fragment in &mut fragments {
        fragment.server = fragment.server + rng.i64(0..=jitter);
    }
    let first = fragments.iter().map(first_of).min().expect("one at least");
    let last = fragments.iter().map(last_of).max().expect("one at least");
    let around = TimeRange::new(first, last).expect("a range");
    of(name, Script::Fragments(fragments), around, replays)
}

fn first_of(fragment: &ScriptedFragment) -> UtcMillis {
    fragment.producer.min(fragment.server)
}

fn last_of(fragment: &ScriptedFragment) -> UtcMillis {
    fragment.producer.max(fragment.server) + i64::from(fragment.length_ms)
}

/// The camera with pictures that all cameras share: each further kind would be encoded first.
fn of(name: &str, script: Script, around: TimeRange, replays: bool) -> Footage {
    let frame_rate = match &script {
        Script::Grid(grid) => grid.frame_rate,
        Script::Fragments(list) => list[0].frame_rate,
    };
    let pictures = |video| {
        let looping = TestPictures::looping(frame_rate, 20 * frame_rate).enlarged(video);
        VideoSource::TestPictures(TestPictures {
            width: looping.width / 2,
            height: looping.height / 2,
            ..looping
        })
    };
    let mut camera = Camera::with_script(name, script);
    camera.videos = vec![pictures(0), pictures(2)];
    Footage { camera, around, replays }
}
