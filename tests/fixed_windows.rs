//! `chunk = "3m"`: fixed windows, asked for without ListFragments, hold the same frames as a planned export.
//!
//! The real binary runs against the emulator, which denies every listing; an oracle that shares nothing with it reads the
//! outputs, and the truth comes from the emulator's script.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{
    Api, ByteTrigger, Camera, EmulatorConfig, Fault, FaultRule, FragmentSizes, Grid, InnerTiming, Recording,
    When,
};
use kvs_export::evidence::verify::verify;
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind, UtcMillis};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use support::scene::{Job, Run, Scene};
use support::{MIDNIGHT, after_midnight, oracle, truth};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const REASON: &str = "how windows are halved is known only when they are fetched";

/// The same camera twice: `gate`, which may not be listed, and `open`, which may.
fn cameras(make: impl Fn(&str) -> Camera) -> Vec<Camera> {
    vec![make("gate"), make("open")]
}

/// An emulator of these cameras that lets nobody list `gate`.
fn denying(cameras: Vec<Camera>) -> EmulatorConfig {
    EmulatorConfig {
        denied: vec![("gate".to_owned(), Api::ListFragments)],
        ..EmulatorConfig::with_cameras(cameras)
    }
}

/// A job of `gate` in fixed windows.
fn fixed(name: &str, range: TimeRange, kind: TimestampKind, chunk: &str) -> Job {
    let job = Job::new(name, "gate", range).of(kind, Edges::Inside, Timeline::Compact);
    job.with(&format!("chunk = \"{chunk}\""))
}

/// The frames of all videos of a job, in order: fragment, place in it, and of how many.
fn frames(run: &Run, job: &str) -> Vec<(String, u32, u32)> {
    let videos = run.export(job)["output"].as_array().expect("outputs").clone();
    let mut frames = Vec::new();
    for video in videos {
        let found = oracle::frames(video.as_str().expect("a path").as_ref());
        frames.extend(found.into_iter().map(|frame| (frame.fragment, frame.index, frame.frames)));
    }
    frames
}

/// The frames that the script says belong to a job, in order.
fn true_frames(camera: &Camera, job: &Job) -> Vec<(String, u32, u32)> {
    let fragments = truth::fragments(camera, job);
    let of = |fragment: kvs_export::emulator::ScriptedFragment| {
        (0..fragment.frames).map(move |index| (fragment.number.to_string(), index, fragment.frames))
    };
    fragments.into_iter().flat_map(of).collect()
}

/// Panics if anything asked for a listing of `gate`, or for the endpoint of one: each run asks for that of clips alone.
fn expect_no_listing(scene: &Scene) {
    let count = |api| {
        let log = scene.log();
        log.iter()
            .filter(|record| record.stream == "gate" && record.api == api && record.faults.is_empty())
            .count()
    };
    assert_eq!(count(Api::ListFragments), 0);
    assert!(count(Api::GetDataEndpoint) <= count(Api::DescribeStream));
}

/// Runs a job of fixed windows; panics unless it holds each frame of the truth once and in order, without a listing.
fn expect_exact(scene: &Scene, job: &Job, camera: &Camera) -> Run {
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(job), REASON).expect_code(0);
    assert_eq!(run.status(&job.name), "done", "{:#}", run.report);
    let (found, expected) = (frames(&run, &job.name), true_frames(camera, job));
    assert!(!expected.is_empty(), "nothing to compare");
    assert_eq!(found.len(), expected.len(), "{}", job.name);
    assert_eq!(found, expected, "{}", job.name);
    scene.check_sums(&job.name);
    expect_no_listing(scene);
    run
}

/// Two-second fragments that start exactly on every even second, on both clocks.
fn on_the_second(name: &str) -> Camera {
    Camera::with_script(name, Recording::at(MIDNIGHT).frame_rate(5).fragments(1_800, 2_000).into_script())
}

fn grid(gaps: Vec<TimeRange>) -> Grid {
    Grid {
        fragment_ms: 2_000,
        frame_rate: 5,
        phase_ms: 700,
        gaps,
        server_delay_ms: 180,
        server_jitter_ms: 119,
        sizes: FragmentSizes::BytesPerSecond(15_000),
    }
}

#[test]
fn fixed_windows_hold_the_frames_of_a_planned_export_by_both_clocks_and_both_timings() {
    for inner_timing in [InnerTiming::KeepStarts, InnerTiming::CloseGaps] {
        let gap = after_midnight(HOUR - 5 * MINUTE, HOUR + 6 * MINUTE);
        let cameras = cameras(|name| Camera::on_grid(name, grid(vec![gap])));
        let scene = Scene::new(EmulatorConfig { inner_timing, ..denying(cameras.clone()) });
        // Neither end is a multiple of the windows, and an hour's edge lies in it.
        let range = after_midnight(HOUR - 9 * MINUTE + 1, HOUR + 10 * MINUTE + 7 * SECOND);
        let mut jobs = Vec::new();
        for kind in [TimestampKind::Server, TimestampKind::Producer] {
            let planned = Job::new(format!("planned-{}", kind.as_str()), "open", range);
            jobs.push(planned.of(kind, Edges::Inside, Timeline::Compact));
            jobs.push(fixed(&format!("fixed-{}", kind.as_str()), range, kind, "3m"));
        }
        let run = scene.run_jobs_otherwise_than_planned(&jobs, REASON).expect_code(0);
        for pair in jobs.chunks(2) {
            let bare = |job: &Job| {
                // The cameras differ in name alone, and so in the numbers of their fragments.
                let own = truth::fragments(
                    cameras.iter().find(|camera| camera.name == job.stream).expect("it"),
                    job,
                );
                let place = |number: &str| own.iter().position(|fragment| fragment.number.as_str() == number);
                frames(&run, &job.name)
                    .into_iter()
                    .map(|(number, index, of)| (place(&number), index, of))
                    .collect::<Vec<_>>()
            };
            let (planned, fixed) = (bare(&pair[0]), bare(&pair[1]));
            assert!(planned.len() > 2_000 && planned.iter().all(|(place, ..)| place.is_some()));
            assert!(planned == fixed, "{inner_timing:?} {}", pair[1].name);
            let gaps = run.export(&pair[1].name)["gaps"].as_array().expect("gaps").clone();
            assert_eq!(gaps.len(), 1, "{gaps:?}");
            assert!(gaps[0]["ms"].as_i64().expect("a length") >= 2 * 3 * MINUTE, "{gaps:?}");
        }
        expect_no_listing(&scene);
    }
}

#[test]
fn fragments_that_start_on_the_edges_of_windows_are_taken_once() {
    let camera = on_the_second("gate");
    let scene = Scene::new(denying(vec![camera.clone()]));
    for kind in [TimestampKind::Server, TimestampKind::Producer] {
        // Every window's start and end is the start of a fragment, and so are the range's.
        let job = fixed(kind.as_str(), after_midnight(10 * SECOND, 5 * MINUTE), kind, "10s");
        let run = expect_exact(&scene, &job, &camera);
        let chunks = &run.export(&job.name)["chunks"];
        assert_eq!(
            chunks,
            &json!({"total": 29, "fetched": 29, "empty": 0, "rejected": 0, "expired": 0, "failed": 0})
        );
    }
    let mut asked: Vec<_> = scene.requests(Api::GetClip).iter().map(|clip| clip.fragments.len()).collect();
    asked.dedup();
    assert_eq!(asked, [5], "no fragment was asked for twice");
}

#[test]
fn a_window_with_more_fragments_than_a_clip_holds_is_halved() {
    let recording = Recording::at(MIDNIGHT).frame_rate(5).fragments(1_000, 1_000);
    let camera = Camera::with_script("gate", recording.into_script());
    let scene = Scene::new(denying(vec![camera.clone()]));
    let job = fixed("many", after_midnight(0, 16 * MINUTE), TimestampKind::Server, "8m");
    let run = expect_exact(&scene, &job, &camera);
    // 480 → 240 → 120: of 8 minutes, four windows of two.
    assert_eq!(run.export("many")["chunks"]["total"], 8);
    let asked: Vec<_> = scene.requests(Api::GetClip).iter().map(|clip| clip.fragments.len()).collect();
    assert_eq!(asked.iter().filter(|count| **count == 200).count(), 6, "{asked:?}");
}

/// Ten minutes of `gate` in which each fragment has that many bytes and milliseconds.
fn heavy(bytes: u64, length_ms: u32, count: usize) -> Camera {
    let per_second = bytes * 1_000 / u64::from(length_ms);
    let recording = Recording::at(MIDNIGHT + 500).frame_rate(5).bytes_per_second(per_second);
    Camera::with_script("gate", recording.fragments(count, length_ms).into_script())
}

#[test]
fn windows_of_a_high_bit_rate_are_halved_before_a_byte_can_be_lost() {
    // 96 MB are served of 120: at 90 the clip counts as cut off.
    let camera = heavy(8_000_000, 2_000, 15);
    let scene = Scene::new(denying(vec![camera.clone()]));
    let job = fixed("bits", after_midnight(0, 32 * SECOND), TimestampKind::Server, "30s");
    let run = expect_exact(&scene, &job, &camera);
    assert!(run.export("bits")["chunks"]["total"].as_u64() > Some(2));
    assert!(scene.requests(Api::GetClip).iter().any(|clip| clip.fragments.len() == 12), "one was cut off");
}

#[test]
fn a_clip_that_is_cut_off_far_below_the_limit_by_a_large_fragment_is_noticed() {
    // Of 26 MB each, three are served: 78 MB, though more begin in the window.
    let camera = heavy(26_000_000, 10_000, 4);
    let scene = Scene::new(denying(vec![camera.clone()]));
    let job = fixed("large", after_midnight(0, 40 * SECOND), TimestampKind::Producer, "40s");
    let run = expect_exact(&scene, &job, &camera);
    assert!(scene.requests(Api::GetClip).iter().any(|clip| clip.fragments.len() == 3), "one was cut off");
    assert_eq!(run.export("large")["chunks"]["fetched"], 4, "each has a clip of its own");
}

#[test]
fn a_codec_change_inside_a_window_is_found_and_makes_two_parts() {
    let before = Recording::at(MIDNIGHT).frame_rate(5).server_delay_ms(250).fragments(40, 2_000);
    // The new session begins when the old one ends, or 5 ms after its last fragment began.
    for (pause_ms, kind, refusals) in [
        (0, TimestampKind::Server, 3..=8),
        (-1_995, TimestampKind::Server, 10..=17),
        (-1_995, TimestampKind::Producer, 10..=17),
    ] {
        let after = before.clone().gap_ms(pause_ms).video(1).fragments(40, 2_000);
        let camera = Camera::with_script("gate", after.into_script());
        let scene = Scene::new(denying(vec![camera.clone()]));
        let job = fixed("change", after_midnight(0, 3 * MINUTE), kind, "3m");
        let run = expect_exact(&scene, &job, &camera);
        let manifest = run.manifest("change");
        let parts = manifest["outputs"].as_array().expect("parts");
        let reasons: Vec<_> = parts.iter().map(|part| part["reason"].as_str().expect("a word")).collect();
        assert_eq!(reasons, ["start", "codec-change"]);
        for key in ["fragments", "first_fragment", "last_fragment"] {
            assert!(parts.iter().all(|part| part[key] == json!(null)), "{key}");
        }
        assert_eq!(
            (&parts[0]["start"], &parts[1]["end"]),
            (&json!(job.range.start().to_string()), &json!(job.range.end().to_string()))
        );
        assert_eq!(manifest["fragments"], json!(null));
        let refused = scene.requests(Api::GetClip).iter().filter(|clip| clip.status == Some(400)).count();
        assert!(refusals.contains(&refused), "{refused} refusals");
        if pause_ms < 0 {
            // Halves without a start are no gaps: media goes on in them.
            assert!(run.export("change")["chunks"]["empty"].as_u64() > Some(0));
        }
        assert_eq!(run.export("change")["gaps"], json!([]));
        verify_finds_every_altered_byte(&scene, &run, "change");
    }
}

/// `verify` accepts the outputs, and finds a byte that is altered in any of them.
fn verify_finds_every_altered_byte(scene: &Scene, run: &Run, job: &str) {
    let verified = verify(&[run.manifest_path(job)]).expect("there is something");
    assert!(verified.exports.iter().all(|export| export.verified), "{verified:#?}");
    for entry in fs::read_dir(scene.outputs()).expect("the outputs") {
        let path = entry.expect("a file").path();
        let bytes = fs::read(&path).expect("read");
        let mut altered = bytes.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        fs::write(&path, altered).expect("written");
        let found = verify(&[run.manifest_path(job)]).expect("there is something");
        assert!(found.exports.iter().any(|export| !export.verified), "{}", path.display());
        fs::write(&path, bytes).expect("written");
    }
}

#[test]
fn a_refused_fragment_is_missing_alone_and_its_window_is_named() {
    let camera = on_the_second("gate");
    let range = after_midnight(0, 4 * MINUTE);
    let bad = camera.fragments(range, TimestampKind::Server)[37].clone();
    let faults = vec![FaultRule::always(Api::GetClip, Fault::RefuseFragment(bad.number.clone()))];
    let scene = Scene::new(EmulatorConfig { faults, ..denying(vec![camera.clone()]) });
    let job = fixed("bad", range, TimestampKind::Server, "1m");
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), REASON).expect_code(3);
    assert_eq!(run.status("bad"), "partial");
    let mut expected = true_frames(&camera, &job);
    expected.retain(|(fragment, ..)| fragment != bad.number.as_str());
    assert_eq!(frames(&run, "bad"), expected);
    let manifest = run.manifest("bad");
    let missing = &manifest["missing"].as_array().expect("a list")[..];
    let [missing] = missing else { panic!("{missing:?}") };
    assert_eq!((&missing["number"], &missing["state"]), (&json!(null), &json!("rejected")));
    let at = |key: &str| {
        missing[key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("one").as_millisecond()
    };
    assert!(at("window_from") <= bad.server.get() && bad.server.get() < at("window_to"), "{missing}");
    assert!(at("window_to") - at("window_from") <= 3, "{missing}");
    assert_eq!(manifest["gaps"], json!([]), "a refusal is no gap");
    verify_finds_every_altered_byte(&scene, &run, "bad");
    expect_no_listing(&scene);
}

#[test]
fn a_failure_is_never_taken_for_an_empty_window() {
    let camera = on_the_second("gate");
    let job = fixed("night", after_midnight(0, 2 * MINUTE), TimestampKind::Server, "30s");
    for (fault, code) in [
        (Fault::InternalFailure, "InternalFailure"),
        (Fault::Garbage, "whole MP4"),
        (Fault::EmptyBody, "body"),
        (
            Fault::Refuse {
                status: 400,
                code: "InvalidArgumentException".to_owned(),
                message: "Not now.".to_owned(),
            },
            "Not now.",
        ),
    ] {
        let faults = vec![FaultRule::always(Api::GetClip, fault.clone())];
        let scene = Scene::new(EmulatorConfig { faults, ..denying(vec![camera.clone()]) });
        scene.write_jobs("attempts = 2\noutage = \"1s\"", std::slice::from_ref(&job));
        let run = scene.run().expect_code(3);
        let export = run.export("night");
        assert_eq!((run.status("night"), &export["chunks"]["empty"]), ("failed", &json!(0)), "{fault:?}");
        assert!(export["error"].as_str().is_some_and(|error| error.contains(code)), "{fault:?}: {export:#}");
        assert_eq!(export["gaps"], json!([]));
        expect_no_listing(&scene);
    }
}

#[test]
fn windows_that_fail_beside_others_that_do_not_are_tried_again_by_the_next_run() {
    let camera = on_the_second("gate");
    let job = fixed("night", after_midnight(0, 4 * MINUTE), TimestampKind::Server, "30s");
    // The service answers: what fails is the window's own, and no outage.
    let every_second =
        FaultRule { when: When::Every(2), ..FaultRule::always(Api::GetClip, Fault::InternalFailure) };
    let scene = Scene::new(EmulatorConfig { faults: vec![every_second], ..denying(vec![camera.clone()]) });
    scene.write_jobs("attempts = 1\nrequests_in_flight = 1", std::slice::from_ref(&job));
    let run = scene.run().expect_code(3);
    let chunks = &run.export("night")["chunks"];
    let told = json!({"total": 8, "fetched": 4, "empty": 0, "rejected": 0, "expired": 0, "failed": 4});
    assert_eq!((run.status("night"), chunks), ("failed", &told));
    let (runs, last) =
        (1..8).map(|count| (count, scene.run())).find(|(_, run)| run.code == Some(0)).expect("done");
    assert!(runs > 1, "each run fetches half of what is left");
    assert_eq!(last.export("night")["chunks"]["fetched"], 8);
    assert_eq!(frames(&last, "night"), true_frames(&camera, &job));
    expect_no_listing(&scene);
}

#[test]
fn a_single_word_that_there_is_no_media_is_not_believed() {
    let camera = on_the_second("gate");
    for attempts in [1, 8] {
        let faults = vec![FaultRule::nth(Api::GetClip, 2, Fault::NoFragments)];
        let scene = Scene::new(EmulatorConfig { faults, ..denying(vec![camera.clone()]) });
        let job = fixed("doubt", after_midnight(0, 2 * MINUTE), TimestampKind::Server, "30s");
        scene.write_jobs(&format!("attempts = {attempts}"), std::slice::from_ref(&job));
        let run = scene.run().expect_code(0);
        assert_eq!(frames(&run, "doubt"), true_frames(&camera, &job));
        assert_eq!(run.export("doubt")["chunks"]["empty"], 0);
        assert_eq!(scene.requests(Api::GetClip).len(), 5);
    }
}

#[test]
fn what_retention_takes_is_expired_to_the_millisecond_and_no_gap() {
    let camera = on_the_second("gate");
    let head = MIDNIGHT + 4 * MINUTE + 31 * SECOND;
    let faults = vec![FaultRule::always(Api::GetClip, Fault::RetentionPasses { head })];
    let scene = Scene::new(EmulatorConfig { faults, ..denying(vec![camera.clone()]) });
    let job = fixed("late", after_midnight(0, 10 * MINUTE), TimestampKind::Server, "1m");
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), REASON).expect_code(3);
    assert_eq!(run.status("late"), "partial");
    let kept = truth::fragments(&camera, &job).into_iter().filter(|fragment| fragment.server > head);
    let kept: BTreeSet<String> = kept.map(|fragment| fragment.number.to_string()).collect();
    let mut expected = true_frames(&camera, &job);
    expected.retain(|(fragment, ..)| kept.contains(fragment));
    assert_eq!(frames(&run, "late"), expected);
    let manifest = run.manifest("late");
    let missing = manifest["missing"].as_array().expect("a list");
    assert!(missing.iter().all(|window| window["state"] == "expired"), "{missing:#?}");
    assert_eq!(missing[0]["window_from"], json!(MIDNIGHT.to_string()));
    let last = missing.last().expect("windows")["window_to"].as_str().expect("a time").to_owned();
    let last = last.parse::<jiff::Timestamp>().expect("one").as_millisecond();
    assert!((head.get()..=head.get() + 3).contains(&last), "{last} and {head}");
    assert_eq!(manifest["gaps"], json!([]), "{manifest:#}");
    expect_no_listing(&scene);
}

#[test]
fn by_the_cameras_clock_windows_before_retention_are_expired_and_not_empty() {
    // The service refuses nothing by the camera's clock: it has no media there any more.
    let now = SystemClock.now();
    let begin = UtcMillis::new(now.get() / 1_000 * 1_000) - 70 * MINUTE;
    let recording = Recording::at(begin).frame_rate(5).fragments(600, 2_000);
    let camera = Camera::with_script("gate", recording.into_script()).retention_hours(1);
    let scene = Scene::new(denying(vec![camera.clone().created(begin - HOUR)]));
    let range = TimeRange::new(begin, begin + 20 * MINUTE).expect("a range");
    let job = fixed("old", range, TimestampKind::Producer, "1m");
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), REASON).expect_code(3);
    let chunks = &run.export("old")["chunks"];
    assert_eq!(
        (run.status("old"), &chunks["empty"], &chunks["expired"]),
        ("partial", &json!(0), &json!(10)),
        "{chunks}"
    );
}

#[test]
fn before_a_range_is_called_empty_the_other_clock_is_asked_for_a_clip() {
    // Ingested an hour late: by the service's clock there is nothing where the camera's has everything.
    let recording = Recording::at(MIDNIGHT).frame_rate(5).server_delay_ms(HOUR).fragments(300, 2_000);
    let camera = Camera::with_script("gate", recording.into_script());
    let scene = Scene::new(denying(vec![camera]));
    let hidden = fixed("hidden", after_midnight(0, 10 * MINUTE), TimestampKind::Server, "3m");
    let nothing = fixed("nothing", after_midnight(-30 * MINUTE, -20 * MINUTE), TimestampKind::Server, "3m");
    let run = scene.run_jobs_otherwise_than_planned(&[hidden, nothing], REASON).expect_code(0);
    for (name, warned) in [("hidden", true), ("nothing", false)] {
        assert_eq!(run.status(name), "empty");
        let manifest = run.manifest(name);
        let warnings = manifest["warnings"].to_string();
        assert_eq!(warnings.contains("by producer timestamps"), warned, "{warnings}");
        assert_eq!(
            (&manifest["gaps"][0]["cause"], &manifest["gaps"][0]["ms"]),
            (&json!("empty-window"), &json!(10 * MINUTE))
        );
        assert_eq!(manifest["listed_at"], json!(null));
        let verified = verify(&[run.manifest_path(name)]).expect("there is something");
        assert!(verified.exports[0].verified, "{verified:#?}");
    }
    expect_no_listing(&scene);
}

#[test]
fn a_job_that_allows_no_gaps_fails_on_an_empty_window_and_asks_for_nothing_again() {
    let camera = Camera::on_grid("gate", grid(vec![after_midnight(3 * MINUTE, 8 * MINUTE)]));
    let scene = Scene::new(denying(vec![camera]));
    let job =
        fixed("whole", after_midnight(0, 10 * MINUTE), TimestampKind::Server, "1m").with("gaps = \"fail\"");
    let run = scene.run_jobs_otherwise_than_planned(std::slice::from_ref(&job), REASON).expect_code(3);
    assert_eq!(run.status("whole"), "failed");
    let error = run.export("whole")["error"].as_str().expect("an error");
    assert!(error.contains("gaps = \"fail\"") && error.contains("2024-03-01T00:0"), "{error}");
    assert!(!scene.outputs().join("whole.mp4").exists());
    let asked = scene.requests(Api::GetClip).len();
    assert_eq!(scene.run().expect_code(3).status("whole"), "failed");
    assert_eq!(scene.requests(Api::GetClip).len(), asked);
}

#[test]
fn a_plan_of_fixed_windows_asks_for_nothing_and_pretends_no_numbers() {
    let scene = Scene::new(denying(vec![on_the_second("gate")]));
    let job = fixed("night", after_midnight(0, 10 * MINUTE), TimestampKind::Server, "3m");
    scene.write_jobs("max_bytes = \"1 GB\"", std::slice::from_ref(&job));
    let plan = scene.plan().expect_code(0);
    let export = &plan.report["exports"][0];
    assert_eq!(export["chunks"], json!({"total": 4, "fetched": 0}));
    for key in ["fragments", "bytes", "media_ms", "cost_usd", "time_ms"] {
        assert_eq!(export[key], json!(null), "{key}");
    }
    assert_eq!(export["chunk"], json!("3m"));
    assert_eq!(export["calls"]["get_clip"], 4);
    assert_eq!(plan.report["totals"]["fixed_windows"], 4);
    assert_eq!((scene.requests(Api::GetClip).len(), scene.requests(Api::GetDataEndpoint).len()), (0, 0));
    let run = scene.run().expect_code(0);
    assert!(run.stderr.contains("`max_bytes` does not count"), "{}", run.stderr);
    let done = scene.plan().expect_code(0);
    let export = &done.report["exports"][0];
    assert_eq!((&export["action"], &export["media_ms"]), (&json!("done"), &json!(10 * MINUTE)));
    let status = Run::of(&mut scene.command_of("status")).expect_code(0);
    let export = &status.report["exports"][0];
    assert_eq!((&export["chunk"], &export["fragments"]), (&json!("3m"), &json!(null)));
    let fetched: u64 = scene.requests(Api::GetClip).iter().map(|clip| clip.bytes_sent).sum();
    assert_eq!((&export["media_ms"], &export["bytes"]), (&json!(10 * MINUTE), &json!(fetched)));
    expect_no_listing(&scene);
}

#[test]
fn validate_asks_for_no_permission_that_fixed_windows_do_not_need() {
    let scene = Scene::new(denying(vec![on_the_second("gate")]));
    scene.write_jobs("", &[fixed("night", after_midnight(0, 10 * MINUTE), TimestampKind::Server, "3m")]);
    let validated = Run::of(&mut scene.command_of("validate")).expect_code(0);
    let checks = validated.report["checks"].as_array().expect("checks").clone();
    let of = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.map(|check| check["status"].clone()).unwrap_or_default()
    };
    for name in ["kinesisvideo:ListFragments", "kinesisvideo:GetClip"] {
        assert_eq!(of(name), json!("ok"), "{checks:#?}");
    }
    expect_no_listing(&scene);
}

#[test]
fn a_run_that_is_killed_goes_on_without_asking_again_for_what_it_has() {
    // Windows of 250 one-second fragments: they are halved, and some are empty.
    let gap_after = |recording: Recording| recording.gap_ms(4 * MINUTE).fragments(300, 1_000);
    let camera = Camera::with_script(
        "gate",
        gap_after(Recording::at(MIDNIGHT).frame_rate(5).fragments(600, 1_000)).into_script(),
    );
    let job = fixed("night", after_midnight(0, 19 * MINUTE), TimestampKind::Server, "250s");
    let all_bytes = {
        let scene = Scene::new(denying(vec![camera.clone()]));
        expect_exact(&scene, &job, &camera);
        scene.requests(Api::GetClip).iter().map(|clip| clip.bytes_sent).sum::<u64>()
    };
    for fifth in 1..5 {
        let target: Arc<Mutex<Option<Pid>>> = Arc::default();
        let aimed = Arc::clone(&target);
        let action = move || {
            let pid = aimed.lock().unwrap_or_else(PoisonError::into_inner);
            kill_process(pid.expect("it is running"), Signal::KILL).expect("it is sent");
        };
        let scene = Scene::new(EmulatorConfig {
            latency: Duration::from_millis(20),
            on_bytes: Some(ByteTrigger { at: all_bytes * fifth / 5, action: Arc::new(action) }),
            ..denying(vec![camera.clone()])
        });
        scene.write_jobs("requests_in_flight = 2", std::slice::from_ref(&job));
        let killed = {
            let mut slot = target.lock().unwrap_or_else(PoisonError::into_inner);
            let child =
                scene.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            drop(slot);
            child.wait_with_output().expect("it ends")
        };
        assert_eq!(killed.status.code(), None, "it was to be killed before its end");
        let fetched = |scene: &Scene| {
            let store = kvs_export::store::Store::open_read_only(&scene.state(), Arc::new(SystemClock))
                .expect("the state");
            let exports = store.exports(0, 10).expect("the exports");
            let chunks =
                exports.iter().flat_map(|export| store.leaf_chunks(&export.identity.id).collect::<Vec<_>>());
            let chunks = chunks.map(|chunk| chunk.expect("a chunk")).filter(|chunk| chunk.file.is_some());
            chunks.map(|chunk| chunk.planned.bounds).collect::<Vec<_>>()
        };
        let (recorded, before) = (fetched(&scene), scene.log().len());
        let run = scene.run().expect_code(0);
        assert_eq!(frames(&run, "night"), true_frames(&camera, &job));
        for clip in scene.log()[before..].iter().filter_map(|record| record.selector) {
            assert!(
                !recorded.iter().any(|bounds| (bounds.start, bounds.end) == (clip.start, clip.end)),
                "{clip:?}"
            );
        }
        expect_no_listing(&scene);
    }
}
