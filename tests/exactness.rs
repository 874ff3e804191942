//! The promise, tested from outside: every fragment that the archive holds in the range is in the output exactly
//! once, in order, at its time, or the manifest says which is not.
//!
//! The real binary runs against the emulator; an oracle that shares nothing with it reads the outputs, and the
//! truth comes from the emulator's script.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;

use kvs_export::emulator::{
    Api, Camera, ClipLimits, EmulatorConfig, FragmentSizes, Grid, InnerTiming, MoviePosition, Recording,
    Script, ScriptedFragment,
};
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind};

use support::scene::{Job, Run, Scene};
use support::{MIDNIGHT, after_midnight, expect_exact};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Fragments of 2 s; server timestamps are 180 ms to 299 ms later than the camera's.
fn grid(frame_rate: u32, gaps: Vec<TimeRange>) -> Grid {
    Grid {
        fragment_ms: 2_000,
        frame_rate,
        phase_ms: 700,
        gaps,
        server_delay_ms: 180,
        server_jitter_ms: 119,
        sizes: FragmentSizes::BytesPerSecond(15_000),
    }
}

/// Runs jobs against cameras and panics unless all of their outputs are exact and their checksums true.
fn expect_all_exact(config: EmulatorConfig, jobs: &[Job]) -> (Scene, Run) {
    let cameras = config.cameras.clone();
    let scene = Scene::new(config);
    let run = scene.run_jobs(jobs).expect_code(0);
    expect_run_exact(&scene, &run, &cameras, jobs);
    (scene, run)
}

fn expect_run_exact(scene: &Scene, run: &Run, cameras: &[Camera], jobs: &[Job]) {
    for job in jobs {
        let camera = cameras.iter().find(|camera| camera.name == job.stream).expect("the job's camera");
        expect_exact(run, job, camera);
        scene.check_sums(&job.name);
    }
}

/// A camera that has recorded exactly these fragments.
fn recorded(name: &str, recording: Recording) -> Camera {
    Camera::with_script(name, recording.into_script())
}

/// The most fragments, and the most bytes as listed, that any clip held.
fn largest_clips(scene: &Scene, cameras: &[Camera], range: TimeRange) -> (usize, u64) {
    let mut sizes = BTreeMap::new();
    for camera in cameras {
        for fragment in camera.fragments(range, TimestampKind::Server) {
            sizes.insert((camera.name.clone(), fragment.number), fragment.size_bytes);
        }
    }
    let clips = scene.requests(Api::GetClip);
    let bytes = clips.iter().map(|clip| {
        let size = |number| sizes.get(&(clip.stream.clone(), number)).copied().unwrap_or(0);
        clip.fragments.iter().cloned().map(size).sum()
    });
    let most = clips.iter().map(|clip| clip.fragments.len()).max();
    (most.unwrap_or(0), bytes.max().unwrap_or(0))
}

/// Media about the edges of hours, with gaps that begin on an edge, end on one, and cover one.
fn gappy() -> Camera {
    let gaps = [
        (HOUR - MINUTE, HOUR + 30 * SECOND),
        (HOUR + 50 * SECOND, 2 * HOUR - 20 * SECOND),
        (2 * HOUR, 2 * HOUR + 3 * SECOND),
        (2 * HOUR + 20 * SECOND, 3 * HOUR),
        (3 * HOUR + 10 * SECOND, 3 * HOUR + 14 * SECOND),
    ];
    Camera::on_grid("gate", grid(10, gaps.map(|(from, to)| after_midnight(from, to)).into()))
}

fn expect_gappy_exact(inner_timing: InnerTiming, movie: MoviePosition) {
    let config = EmulatorConfig { inner_timing, movie, ..EmulatorConfig::with_cameras([gappy()]) };
    let range = after_midnight(HOUR - 75 * SECOND, 3 * HOUR + 30 * SECOND);
    expect_all_exact(config, &Job::matrix("gaps", range, |_| "gate".to_owned()));
}

#[test]
fn gaps_over_the_edges_of_hours_are_exact_where_clips_keep_starts() {
    expect_gappy_exact(InnerTiming::KeepStarts, MoviePosition::First);
}

#[test]
fn gaps_over_the_edges_of_hours_are_exact_where_clips_keep_starts_and_end_with_their_index() {
    expect_gappy_exact(InnerTiming::KeepStarts, MoviePosition::Last);
}

#[test]
fn gaps_over_the_edges_of_hours_are_exact_where_clips_close_gaps() {
    expect_gappy_exact(InnerTiming::CloseGaps, MoviePosition::First);
}

#[test]
fn gaps_over_the_edges_of_hours_are_exact_where_clips_close_gaps_and_end_with_their_index() {
    expect_gappy_exact(InnerTiming::CloseGaps, MoviePosition::Last);
}

#[test]
fn an_hour_of_more_fragments_than_ten_clips_hold_is_exact() {
    let cameras: Vec<Camera> = (0..8)
        .map(|number| {
            let grid = Grid {
                fragment_ms: 1_500,
                sizes: FragmentSizes::BytesPerSecond(8_000),
                ..grid(2, Vec::new())
            };
            Camera::on_grid(format!("gate-{number}"), grid)
        })
        .collect();
    let range = after_midnight(5_000, HOUR + 3 * SECOND);
    let jobs = Job::matrix("hour", range, |number| format!("gate-{number}"));
    assert!(cameras[0].fragments(range, TimestampKind::Server).len() > 1_800);
    let (scene, _) = expect_all_exact(EmulatorConfig::with_cameras(cameras.clone()), &jobs);
    assert_eq!(largest_clips(&scene, &cameras, range).0, 200, "the limit was met and not exceeded");
    assert!(scene.requests(Api::ListFragments).iter().any(|page| page.continued), "there were second pages");
}

#[test]
fn fragments_of_which_eight_exceed_a_clip_are_exact() {
    let grid = Grid { sizes: FragmentSizes::BytesPerSecond(6_300_000), ..grid(2, Vec::new()) };
    let camera = Camera::on_grid("gate", grid);
    // Twelve fragments: two clips of six, or more.
    let range = after_midnight(1_500, 24_500);
    let fragments = camera.fragments(range, TimestampKind::Server);
    assert!(fragments[..8].iter().map(|fragment| fragment.size_bytes).sum::<u64>() > 100_000_000);
    let jobs = Job::matrix("large", range, |_| "gate".to_owned());
    let (scene, _) = expect_all_exact(EmulatorConfig::with_cameras([camera.clone()]), &jobs);
    let around = after_midnight(-20_000, 40_000);
    let (_, bytes) = largest_clips(&scene, &[camera], around);
    assert!((70_000_000..=100_000_000).contains(&bytes), "the largest clip held {bytes} bytes");
}

#[test]
fn a_service_that_stops_clips_earlier_than_known_changes_nothing() {
    let limits = ClipLimits { fragments: 5, ..ClipLimits::default() };
    let config = EmulatorConfig { clip_limits: limits, ..EmulatorConfig::with_cameras([gappy()]) };
    let range = after_midnight(HOUR - 75 * SECOND, HOUR + 70 * SECOND);
    let jobs = Job::matrix("early", range, |_| "gate".to_owned());
    let scene = Scene::new(config);
    let reason = "clips that turn out short are divided and fetched again";
    let run = scene.run_jobs_otherwise_than_planned(&jobs, reason).expect_code(0);
    expect_run_exact(&scene, &run, &[gappy()], &jobs);
}

#[test]
fn pictures_at_uneven_distances_and_a_gap_are_exact() {
    // Two pictures a second, every third 856 ms after the one before: no rate fits, and the average one is so low
    // that neighbours round to the same place on it.
    let sizes = FragmentSizes::BytesPerSecond(30_000);
    let gap = after_midnight(9_000, 9_001);
    let camera = Camera::on_grid("gate", Grid { fragment_ms: 1_856, sizes, ..grid(2, vec![gap]) });
    let job = |count: i64| {
        let job = Job::new(format!("to-{count}"), "gate", after_midnight(5_000, 7_000 + 1_856 * count));
        job.of(TimestampKind::Producer, Edges::Cover, Timeline::Wallclock)
    };
    let jobs: Vec<Job> = (1..6).map(job).collect();
    expect_all_exact(EmulatorConfig::with_cameras([camera]), &jobs);
}

#[test]
fn range_edges_on_and_beside_starts_are_exact() {
    let camera = Camera::on_grid("gate", grid(10, Vec::new()));
    let mut jobs = Vec::new();
    for timestamps in [TimestampKind::Server, TimestampKind::Producer] {
        let fragments = camera.fragments(after_midnight(0, MINUTE), timestamps);
        let start = |index: usize| fragments[index].start(timestamps);
        for (from_off, to_off) in [(0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1)] {
            let range = TimeRange::new(start(3) + from_off, start(8) + to_off).expect("a range");
            for edges in [Edges::Cover, Edges::Inside] {
                let name = format!("j{}", jobs.len());
                jobs.push(Job::new(name, "gate", range).of(timestamps, edges, Timeline::Wallclock));
            }
        }
        // A millisecond inside a fragment, a range that only `cover` finds media for.
        let range = TimeRange::new(start(5) + 900, start(5) + 901).expect("a range");
        let name = format!("j{}", jobs.len());
        jobs.push(Job::new(name, "gate", range).of(timestamps, Edges::Cover, Timeline::Compact));
    }
    expect_all_exact(EmulatorConfig::with_cameras([camera]), &jobs);
}

#[test]
fn fragments_that_start_on_and_beside_the_edge_of_an_hour_are_exact() {
    let camera = |name: &str, phase_ms| {
        let grid = Grid { phase_ms, server_delay_ms: 0, server_jitter_ms: 0, ..grid(10, Vec::new()) };
        Camera::on_grid(name, grid)
    };
    let cameras = [camera("before", 1_999), camera("on", 0), camera("after", 1)];
    let range = after_midnight(HOUR - 9 * SECOND, HOUR + 9 * SECOND);
    let mut jobs = Vec::new();
    for camera in &cameras {
        for timestamps in [TimestampKind::Server, TimestampKind::Producer] {
            let name = format!("{}-{}", camera.name, timestamps.as_str());
            let job = Job::new(name, &camera.name, range);
            jobs.push(job.of(timestamps, Edges::Inside, Timeline::Compact));
        }
    }
    expect_all_exact(EmulatorConfig::with_cameras(cameras), &jobs);
}

/// Pauses between fragments of 2 s: all but the last are none to the program, whose tolerance is 1 s here.
fn hesitant() -> Recording {
    [300, 400, 20, 999, 1_000, 350, 1_001]
        .into_iter()
        .fold(Recording::at(MIDNIGHT).server_delay_ms(250), |recording, pause_ms| {
            recording.fragments(3, 2_000).gap_ms(pause_ms)
        })
}

#[test]
fn pauses_below_the_tolerance_keep_their_length_and_those_above_are_closed() {
    for inner_timing in [InnerTiming::KeepStarts, InnerTiming::CloseGaps] {
        let camera = recorded("gate", hesitant().fragments(3, 2_000));
        let config = EmulatorConfig { inner_timing, ..EmulatorConfig::with_cameras([camera]) };
        let range = after_midnight(3_000, MINUTE);
        expect_all_exact(config, &Job::matrix("pauses", range, |_| "gate".to_owned()));
    }
}

#[test]
fn lengths_that_leave_frames_out_or_are_missing_change_nothing() {
    let listed = |length_ms: u32| Recording::at(MIDNIGHT).server_delay_ms(250).listed_length_ms(length_ms);
    let cameras = [
        recorded("short", listed(1_796).fragments(30, 1_856)),
        recorded("none", listed(0).fragments(30, 2_000)),
        // Two frames a second: the last of three ends 400 ms before the fragment does.
        recorded("sparse", Recording::at(MIDNIGHT).frame_rate(2).fragments(30, 1_900)),
    ];
    let mut jobs = Vec::new();
    for camera in &cameras {
        let range = after_midnight(3_000, 50_000);
        jobs.extend(Job::matrix(&camera.name, range, |_| camera.name.clone()));
    }
    expect_all_exact(EmulatorConfig::with_cameras(cameras), &jobs);
}

/// The fragments of a minute, changed one by one.
fn changed(name: &str, change: impl Fn(i64, &mut ScriptedFragment)) -> Camera {
    let mut fragments = Recording::at(MIDNIGHT).server_delay_ms(250).fragments(30, 2_000).into_fragments();
    for (index, fragment) in (0..).zip(&mut fragments) {
        change(index, fragment);
    }
    Camera::with_script(name, Script::Fragments(fragments))
}

#[test]
fn clocks_that_hop_against_each_other_are_exact() {
    // Up to 40 ms early or late, in no pattern of two.
    let jitter = |index: i64| (index * 37) % 81 - 40;
    let cameras = [
        changed("camera-hops", |index, fragment| fragment.producer = fragment.producer + jitter(index)),
        changed("service-hops", |index, fragment| fragment.server = fragment.server + 10 * jitter(index)),
        // Held back by the network, then ingested within 30 ms.
        changed("burst", |index, fragment| {
            if (10..20).contains(&index) {
                fragment.server = MIDNIGHT + 40_000 + 3 * (index - 10);
            }
        }),
    ];
    let mut jobs = Vec::new();
    for camera in &cameras {
        let range = after_midnight(5_000, 55_000);
        jobs.extend(Job::matrix(&camera.name, range, |_| camera.name.clone()));
    }
    for inner_timing in [InnerTiming::KeepStarts, InnerTiming::CloseGaps] {
        expect_all_exact(
            EmulatorConfig { inner_timing, ..EmulatorConfig::with_cameras(cameras.clone()) },
            &jobs,
        );
    }
}

#[test]
fn two_hours_are_exact() {
    let camera = |name: &str| {
        let sizes = FragmentSizes::BytesPerSecond(8_000);
        Camera::on_grid(name, Grid { sizes, ..grid(1, Vec::new()) })
    };
    let range = after_midnight(0, 2 * HOUR);
    let jobs = [
        Job::new("covered", "east", range).of(TimestampKind::Server, Edges::Cover, Timeline::Wallclock),
        Job::new("inside", "west", range).of(TimestampKind::Producer, Edges::Inside, Timeline::Compact),
    ];
    let (_, run) = expect_all_exact(EmulatorConfig::with_cameras([camera("east"), camera("west")]), &jobs);
    assert_eq!(run.export("inside")["fragments"], 3_600);
    assert_eq!(run.export("covered")["gaps"], serde_json::json!([]));
}

#[test]
fn a_job_that_allows_no_gaps_fails_on_one_and_writes_nothing() {
    let scene = Scene::new(EmulatorConfig::with_cameras([gappy()]));
    let broken = Job::new("broken", "gate", after_midnight(HOUR - 75 * SECOND, HOUR + 40 * SECOND));
    let reason = "what is fetched until the last window is listed depends on the moment";
    let broken = broken.with("gaps = \"fail\"");
    let run = scene.run_jobs_otherwise_than_planned(&[broken], reason).expect_code(3);
    assert_eq!(run.status("broken"), "failed");
    let error = run.export("broken")["error"].as_str().expect("an error");
    assert!(error.contains("gaps = \"fail\"") && error.contains("2024-03-01T00:5"), "{error}");
    assert!(!scene.outputs().join("broken.mp4").exists());

    let whole = Job::new("whole", "gate", after_midnight(HOUR - 90 * SECOND, HOUR - 65 * SECOND));
    let whole = whole.with("gaps = \"fail\"");
    let run = scene.run_jobs(std::slice::from_ref(&whole)).expect_code(0);
    expect_exact(&run, &whole, &gappy());
}

#[test]
fn a_range_without_media_leaves_a_manifest_and_no_video() {
    let scene = Scene::new(EmulatorConfig::with_cameras([gappy()]));
    let range = after_midnight(HOUR + 5 * MINUTE, HOUR + 50 * MINUTE);
    let jobs = Job::matrix("night", range, |_| "gate".to_owned());
    let run = scene.run_jobs(&jobs).expect_code(0);
    for job in &jobs {
        assert_eq!(run.status(&job.name), "empty");
        assert_eq!(run.export(&job.name)["output"], serde_json::json!([]));
        let manifest = run.manifest(&job.name);
        assert_eq!((&manifest["status"], &manifest["fragments"]), (&"empty".into(), &0.into()));
        assert_eq!(manifest["gaps"][0]["ms"], 45 * MINUTE);
    }
    let files = std::fs::read_dir(scene.outputs()).expect("the folder").count();
    assert_eq!(files, 2 * jobs.len(), "a manifest and its checksum for each job, and nothing else");
    let asked = scene.requests(Api::ListFragments).len();
    let again = scene.run().expect_code(0);
    assert!(jobs.iter().all(|job| again.export(&job.name)["already"] == true));
    assert_eq!(scene.requests(Api::ListFragments).len(), asked, "nothing is listed again");
}
