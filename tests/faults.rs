//! Whatever the service answers, the output is exact, or the manifest says what is missing, or the export fails
//! and the next run goes on where this one stopped.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

#[path = "faults/by_flag.rs"]
mod by_flag;
#[path = "faults/lasting.rs"]
mod lasting;
#[path = "faults/outages.rs"]
mod outages;
#[path = "faults/refused.rs"]
mod refused;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kvs_export::emulator::{
    Api, Camera, EmulatorConfig, FRAME_MARK_UUID, Fault, FaultRule, RequestRecord, ScriptedFragment, When,
};
use kvs_export::model::{Edges, FragmentNumber, Sha256Digest, TimeRange, Timeline, TimestampKind};
use serde_json::json;
use sha2::{Digest, Sha256};

use support::scene::{Job, Scene};
use support::{after_midnight, expect_exact, expect_fragments, oracle, truth};

fn minute() -> TimeRange {
    after_midnight(5_500, 65_500)
}

/// A camera whose fragments are so short that a minute of them makes three chunks of fifty.
fn camera_of_short_fragments(name: &str) -> Camera {
    Camera::steady(name).grid(|grid| grid.fragment_ms = 400)
}

fn always(fault: Fault) -> FaultRule {
    FaultRule::always(Api::GetClip, fault)
}

fn first(api: Api, count: u64, fault: Fault) -> FaultRule {
    FaultRule { when: When::First(count), ..FaultRule::always(api, fault) }
}

/// Clips that were answered with media.
fn served(log: &[RequestRecord]) -> Vec<&RequestRecord> {
    log.iter().filter(|record| record.api == Api::GetClip && record.status == Some(200)).collect()
}

/// Every fault befalls a stream of its own, all in one run; returns what was asked.
fn expect_overcome(faults: Vec<(&str, FaultRule)>) -> Vec<RequestRecord> {
    let cameras: Vec<Camera> = faults.iter().map(|(name, _)| camera_of_short_fragments(name)).collect();
    let jobs: Vec<Job> = faults.iter().map(|(name, _)| Job::new(*name, *name, minute())).collect();
    let rules = faults.into_iter().map(|(name, rule)| rule.on_stream(name)).collect();
    let scene = Scene::new(EmulatorConfig { faults: rules, ..EmulatorConfig::with_cameras(cameras.clone()) });
    let run = scene.run_jobs(&jobs).expect_code(0);
    for (job, camera) in jobs.iter().zip(&cameras) {
        expect_exact(&run, job, camera);
        scene.check_sums(&job.name);
        assert_eq!(run.export(&job.name)["gaps"], json!([]), "{}", job.name);
        let befell = |record: &RequestRecord| record.stream == job.stream && !record.faults.is_empty();
        assert!(scene.log().iter().any(befell), "{}: nothing went wrong", job.name);
    }
    scene.log()
}

#[test]
fn clips_that_come_wrong_are_fetched_until_they_are_right() {
    expect_overcome(vec![
        ("short-once", FaultRule::nth(Api::GetClip, 2, Fault::ShortClip { missing: 1 })),
        ("short-by-five", FaultRule::nth(Api::GetClip, 1, Fault::ShortClip { missing: 5 })),
        ("short-ever", always(Fault::ShortClip { missing: 1 })),
        ("none-once", first(Api::GetClip, 1, Fault::NoFragments)),
        ("none-thrice", first(Api::GetClip, 3, Fault::NoFragments)),
        ("cut", FaultRule::nth(Api::GetClip, 1, Fault::CutBody { after: 10_000 })),
        ("cut-late", first(Api::GetClip, 2, Fault::CutBody { after: 200_000 })),
        ("cut-at-once", FaultRule::nth(Api::GetClip, 3, Fault::CutBody { after: 0 })),
        ("garbage", first(Api::GetClip, 2, Fault::Garbage)),
        ("empty", first(Api::GetClip, 2, Fault::EmptyBody)),
        ("reset", first(Api::GetClip, 2, Fault::ResetConnection { after: None })),
        ("reset-within", first(Api::GetClip, 2, Fault::ResetConnection { after: Some(50_000) })),
        ("throttled", first(Api::GetClip, 6, Fault::Throttle)),
        ("internal", first(Api::GetClip, 4, Fault::InternalFailure)),
        ("unavailable", first(Api::GetClip, 4, Fault::ServiceUnavailable)),
    ]);
}

#[test]
fn what_goes_wrong_at_any_call_now_and_then_is_overcome() {
    let rate = |share, fault| FaultRule { when: When::Rate(share), ..FaultRule::every_request(fault) };
    expect_overcome(vec![
        ("often-internal", rate(0.3, Fault::InternalFailure)),
        ("often-unavailable", rate(0.3, Fault::ServiceUnavailable)),
        ("often-throttled", rate(0.3, Fault::Throttle)),
        ("often-reset", rate(0.3, Fault::ResetConnection { after: None })),
        ("often-cut", rate(0.3, Fault::CutBody { after: 20 })),
        ("often-empty", rate(0.3, Fault::EmptyBody)),
        ("often-garbage", rate(0.3, Fault::Garbage)),
        ("often-short", rate(0.5, Fault::ShortClip { missing: 3 })),
        ("often-slow", rate(0.5, Fault::Slow { bytes_per_second: 800_000 })),
        ("away-twice", first_of_any(2, Fault::Away)),
    ]);
}

fn first_of_any(count: u64, fault: Fault) -> FaultRule {
    FaultRule { when: When::First(count), ..FaultRule::every_request(fault) }
}

#[test]
fn listings_that_come_wrong_are_asked_for_again() {
    let listing = |fault| first(Api::ListFragments, 1, fault);
    expect_overcome(vec![
        ("list-throttled", listing(Fault::Throttle)),
        ("list-internal", listing(Fault::InternalFailure)),
        ("list-unavailable", listing(Fault::ServiceUnavailable)),
        ("list-reset", listing(Fault::ResetConnection { after: None })),
        ("list-cut", listing(Fault::CutBody { after: 100 })),
        ("list-garbage", listing(Fault::Garbage)),
        ("list-empty", listing(Fault::EmptyBody)),
        ("endpoint-empty", first(Api::GetDataEndpoint, 2, Fault::EmptyBody)),
        ("describe-empty", first(Api::DescribeStream, 2, Fault::EmptyBody)),
        ("endpoint-throttled", first(Api::GetDataEndpoint, 2, Fault::Throttle)),
        ("endpoint-internal", first(Api::GetDataEndpoint, 2, Fault::InternalFailure)),
        ("describe-throttled", first(Api::DescribeStream, 2, Fault::Throttle)),
        ("describe-internal", first(Api::DescribeStream, 2, Fault::InternalFailure)),
    ]);
}

#[test]
fn a_chunk_that_is_never_found_fails_the_export_and_is_neither_gap_nor_empty() {
    let camera = camera_of_short_fragments("gate");
    let rule = FaultRule { when: When::After(2), ..always(Fault::NoFragments) };
    let config = EmulatorConfig::with_cameras([camera.clone()]);
    let mut scene = Scene::new(EmulatorConfig { faults: vec![rule], ..config.clone() });
    let job =
        Job::new("night", "gate", minute()).of(TimestampKind::Producer, Edges::Inside, Timeline::Wallclock);
    scene.write_jobs("attempts = 2", std::slice::from_ref(&job));
    let run = scene.run().expect_code(3);
    let export = run.export("night");
    assert_eq!((run.status("night"), &export["chunks"]["empty"]), ("failed", &json!(0)));
    assert_eq!((&export["gaps"], &export["output"]), (&json!([]), &json!([])));
    assert!(export["chunks"]["failed"].as_u64().is_some_and(|failed| failed > 0), "{export:#}");
    assert!(!scene.outputs().join("night.manifest.json").exists());
    let log = scene.log();
    let had: BTreeSet<_> = served(&log).iter().flat_map(|clip| clip.fragments.clone()).collect();
    assert!(!had.is_empty());

    scene.restart_emulator(config);
    scene.write_jobs("", std::slice::from_ref(&job));
    let run = scene.run().expect_code(0);
    expect_exact(&run, &job, &camera);
    let again: Vec<_> = scene.requests(Api::GetClip);
    assert!(again.iter().flat_map(|clip| &clip.fragments).all(|number| !had.contains(number)));
    assert!(scene.requests(Api::ListFragments).is_empty(), "what was planned is not listed again");
}

#[test]
fn a_refused_fragment_is_missing_alone_and_named() {
    let camera = Camera::steady("gate");
    let refused: ScriptedFragment = camera.fragments(minute(), TimestampKind::Server)[11].clone();
    let faults = vec![always(Fault::RefuseFragment(refused.number.clone()))];
    let config = EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera.clone()]) };
    let scene = Scene::new(config);
    let jobs = Job::matrix("night", minute(), |_| "gate".to_owned());
    let run = scene.run_jobs(&jobs).expect_code(3);
    for job in &jobs {
        assert_eq!(run.status(&job.name), "partial");
        let mut rest = truth::fragments(&camera, job);
        let whole = rest.len();
        rest.retain(|fragment| fragment.number != refused.number);
        assert_eq!(rest.len() + 1, whole);
        expect_fragments(&run, job, &rest);
        scene.check_sums(&job.name);
        let manifest = run.manifest(&job.name);
        assert_eq!((&manifest["status"], &manifest["fragments"]), (&json!("partial"), &json!(whole - 1)));
        let missing = manifest["missing"].as_array().expect("a list");
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert_eq!(
            (&missing[0]["number"], &missing[0]["state"]),
            (&json!(refused.number.to_string()), &json!("rejected"))
        );
        assert_eq!(manifest["gaps"], json!([]), "a refusal is no gap");
    }
    let before = scene.log().len();
    let again = scene.run().expect_code(0);
    for job in &jobs {
        assert_eq!((again.status(&job.name), &again.export(&job.name)["already"]), ("partial", &json!(true)));
    }
    let asked: BTreeSet<Api> = scene.log()[before..].iter().map(|record| record.api).collect();
    assert!(asked.is_subset(&BTreeSet::from([Api::DescribeStream])), "{asked:?}");
}

#[test]
fn a_partial_manifest_counts_only_what_was_delivered() {
    let camera = Camera::steady("gate");
    let all = camera.fragments(minute(), TimestampKind::Server);
    let (last, rest) = all.split_last().expect("fragments");
    let faults = vec![always(Fault::RefuseFragment(last.number.clone()))];
    let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera.clone()]) });
    let job = Job::new("night", "gate", minute()).of(TimestampKind::Server, Edges::Inside, Timeline::Compact);
    let run = scene.run_jobs(std::slice::from_ref(&job)).expect_code(3);
    let manifest = run.manifest("night");
    let end = |fragment: &ScriptedFragment| fragment.server + i64::from(fragment.length_ms);
    assert_eq!(manifest["fragments"], json!(rest.len()));
    assert_eq!(manifest["listed_bytes"], json!(rest.iter().map(|of| of.size_bytes).sum::<u64>()));
    assert_eq!(manifest["media_ms"], json!(rest.iter().map(|of| u64::from(of.length_ms)).sum::<u64>()));
    assert_eq!(manifest["delivered_from"], json!(rest[0].server.to_string()));
    assert_eq!(manifest["delivered_to"], json!(end(rest.last().expect("a fragment")).to_string()));
}

#[test]
fn a_stream_whose_clips_can_never_be_used_fails_at_once() {
    let names = ["sound", "codec"];
    let faults = vec![
        always(Fault::UnsupportedMedia).on_stream("sound"),
        always(Fault::UnknownCodec).on_stream("codec"),
    ];
    let cameras = names.map(Camera::steady);
    let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras(cameras) });
    let jobs = names.map(|name| Job::new(name, name, minute()));
    let run = scene.run_jobs(&jobs).expect_code(3);
    for (name, reason) in [("sound", "UnsupportedStreamMediaTypeException"), ("codec", "coded as")] {
        let error = run.export(name)["error"].as_str().unwrap_or_default();
        assert_eq!(run.status(name), "failed");
        assert!(error.contains(reason) && error.contains("take the stream out"), "{error}");
        let chunks = run.export(name)["chunks"]["total"].as_u64().expect("a count");
        let asked = scene.requests(Api::GetClip).iter().filter(|record| record.stream == name).count() as u64;
        assert!((1..=chunks).contains(&asked), "{name}: {asked} requests for {chunks} chunks");
    }
}

#[test]
fn no_chunk_is_asked_for_more_often_than_its_attempts() {
    let camera = Camera::steady("gate");
    let every_second = FaultRule { when: When::Every(2), ..always(Fault::InternalFailure) };
    let faults = vec![every_second, always(Fault::NoFragments)];
    let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera]) });
    let job = Job::new("night", "gate", after_midnight(5_500, 15_500));
    scene.write_jobs("attempts = 4", std::slice::from_ref(&job));
    let run = scene.run().expect_code(3);
    assert_eq!(
        run.export("night")["chunks"],
        json!({
            "total": 1, "fetched": 0, "empty": 0, "rejected": 0, "expired": 0, "failed": 1
        })
    );
    assert_eq!(scene.requests(Api::GetClip).len(), 4);
}

#[test]
fn tags_that_cannot_be_read_are_a_warning_and_no_failure() {
    let refused = |status, code: &str| {
        let (code, message) = (code.to_owned(), "Not now.".to_owned());
        FaultRule::always(Api::ListTagsForStream, Fault::Refuse { status, code, message })
    };
    // A missing permission is for `validate` to tell.
    for (fault, expected) in [
        (refused(400, "InvalidArgumentException"), Some("Not now.")),
        (FaultRule::always(Api::ListTagsForStream, Fault::AccessDenied), None),
    ] {
        let camera = Camera::steady("gate");
        let faults = vec![fault];
        let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera.clone()]) });
        let job = Job::new("night", "gate", minute());
        let run = scene.run_jobs(std::slice::from_ref(&job)).expect_code(0);
        expect_exact(&run, &job, &camera);
        let warnings = run.export("night")["warnings"].to_string();
        assert_eq!(warnings.contains("without the stream's tags"), expected.is_some(), "{warnings}");
        assert!(warnings.contains(expected.unwrap_or_default()), "{warnings}");
        assert_eq!(run.manifest("night")["warnings"], run.export("night")["warnings"]);
        assert_eq!(run.manifest("night")["stream"]["tags"], json!(null));
    }
}

#[test]
fn a_second_run_asks_for_nothing_and_changes_nothing() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig::with_cameras([camera.clone()]));
    let job = Job::new("night", "gate", minute());
    let run = scene.run_jobs(std::slice::from_ref(&job)).expect_code(0);
    expect_exact(&run, &job, &camera);
    assert!(!scene.work().read_dir().is_ok_and(|mut folder| folder.next().is_some()), "chunks are deleted");
    let (requests, files) = (scene.log().len(), contents(&scene.outputs()));
    let again = scene.run().expect_code(0);
    assert_eq!((again.status("night"), &again.export("night")["already"]), ("done", &json!(true)));
    assert_eq!(again.video("night"), run.video("night"));
    let asked: BTreeSet<Api> = scene.log()[requests..].iter().map(|record| record.api).collect();
    assert!(asked.is_subset(&BTreeSet::from([Api::DescribeStream])), "{asked:?}");
    assert_eq!(contents(&scene.outputs()), files);
}

#[test]
fn kept_chunks_are_the_masters_that_the_manifest_names() {
    let camera = Camera::steady("gate");
    let scene = Scene::new(EmulatorConfig::with_cameras([camera.clone()]));
    let job = Job::new("night", "gate", minute()).with("keep_chunks = true");
    let run = scene.run_jobs(std::slice::from_ref(&job)).expect_code(0);
    expect_exact(&run, &job, &camera);
    let folder = scene.outputs().join("night.chunks");
    let manifest = run.manifest("night");
    let chunks = manifest["chunks"].as_array().expect("chunks");
    let mut numbers = Vec::new();
    for chunk in chunks {
        let file = folder.join(chunk["kept_as"].as_str().expect("a name"));
        let hash = Sha256Digest(Sha256::digest(std::fs::read(&file).expect("the master")).into());
        assert_eq!(chunk["sha256"], hash.to_string());
        numbers
            .extend(oracle::frames(&file).into_iter().filter(|frame| frame.is_key).map(|key| key.fragment));
    }
    assert_eq!(contents(&folder).len(), chunks.len());
    let expected: Vec<String> =
        truth::fragments(&camera, &job).iter().map(|fragment| fragment.number.to_string()).collect();
    assert_eq!(numbers, expected);
}

/// Files of a folder with their bytes, in order of their names.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

/// Changes the first letter of the stream's name in the last frame of a clip, and nothing else.
fn alter(clip: &Path) {
    let mut bytes = std::fs::read(clip).expect("the clip");
    let marks = bytes.windows(FRAME_MARK_UUID.len()).rposition(|window| window == FRAME_MARK_UUID);
    let name = marks.expect("a mark") + FRAME_MARK_UUID.len();
    bytes[name] = b'X';
    std::fs::write(clip, bytes).expect("the clip is written");
}

#[test]
fn chunks_that_were_altered_or_deleted_between_runs_are_fetched_again() {
    let camera = camera_of_short_fragments("gate");
    let config = EmulatorConfig::with_cameras([camera.clone()]);
    let faults = vec![FaultRule::nth(Api::GetClip, 3, Fault::NoFragments)];
    let scene = Scene::new(EmulatorConfig { faults, ..config });
    let job = Job::new("night", "gate", after_midnight(5_500, 125_500));
    scene.write_jobs("attempts = 1", std::slice::from_ref(&job));
    scene.run().expect_code(3);
    let folder =
        std::fs::read_dir(scene.work()).expect("chunks").next().expect("a folder").expect("a folder");
    let mut files = contents(&folder.path());
    // What was received of the one that failed may lie there too.
    files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "mp4"));
    assert!(files.len() >= 3, "{} chunks were fetched", files.len());
    alter(&files[0].0);
    std::fs::remove_file(&files[1].0).expect("a chunk is deleted");
    let before = scene.log().len();
    scene.write_jobs("", std::slice::from_ref(&job));
    let run = scene.run().expect_code(0);
    expect_exact(&run, &job, &camera);
    // The one that was not found, the altered one, the deleted one; the others stay.
    let log = scene.log();
    let again: BTreeSet<FragmentNumber> =
        served(&log[before..]).iter().flat_map(|clip| clip.fragments.clone()).collect();
    assert_eq!(served(&log[before..]).len(), 3, "{again:?}");
}

#[test]
fn a_clip_that_ends_with_a_fragment_that_was_not_listed_is_not_taken_for_what_was_planned() {
    // Of 400 ms each: the bound of the last request, 500 ms after the last start, lets the next one in.
    let camera = Camera::steady("gate").grid(|grid| {
        grid.fragment_ms = 400;
        grid.server_jitter_ms = 0;
    });
    let range = after_midnight(5_000, 17_000);
    let late = camera.fragments(range, TimestampKind::Server).pop().expect("fragments");
    let fault = Fault::ListLate { fragment: late.number.clone(), listings: 1 };
    let faults = vec![FaultRule::always(Api::ListFragments, fault)];
    let config = EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera]) };
    let scene = Scene::new(config);
    let job = Job::new("night", "gate", range);
    scene.write_jobs("attempts = 1", std::slice::from_ref(&job));
    let run = scene.run().expect_code(3);
    let error = run.export("night")["error"].as_str().expect("an error");
    assert!(error.contains("holds more fragments in this time than when it was listed"), "{error}");
    let log = scene.log();
    assert!(served(&log).iter().any(|clip| clip.fragments.contains(&late.number)), "it was in a clip");
}
