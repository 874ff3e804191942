//! `retry`, `redo` and `prune`, from outside: what they do, what they refuse, what they leave alone.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::store::StateLock;
use rusqlite::Connection;
use serde_json::Value;

use support::scene::{Job, Run, Scene};
use support::{after_midnight, expect_exact};

/// Retention of the emulator's cameras: the scene's day is long past, so all of it is kept.
fn camera(name: &str) -> Camera {
    Camera::steady(name).gap(after_midnight(20_000, 24_000))
}

fn job(name: &str) -> Job {
    Job::new(name, name, after_midnight(5_500, 45_500))
}

fn config(faults: Vec<FaultRule>) -> EmulatorConfig {
    EmulatorConfig { faults, ..EmulatorConfig::with_cameras(["gate", "yard"].map(camera)) }
}

/// Both jobs done, or the first of them failed by one chunk.
fn scene(faults: Vec<FaultRule>, jobs: &[Job]) -> Scene {
    let scene = Scene::new(config(faults));
    scene.write_jobs("requests_in_flight = 1\nattempts = 1", jobs);
    scene
}

fn one_failed() -> Scene {
    let scene =
        scene(vec![FaultRule::nth(Api::GetClip, 2, Fault::InternalFailure)], &[job("gate"), job("yard")]);
    let run = scene.run().expect_code(3);
    assert_eq!((run.status("gate"), run.status("yard")), ("failed", "done"));
    scene
}

fn id(run: &Run, job: &str) -> String {
    run.export(job)["id"].as_str().expect("an id").to_owned()
}

fn of(scene: &Scene, command: &str, arguments: &[&str]) -> Run {
    Run::of(scene.command_of(command).args(arguments))
}

fn status(scene: &Scene) -> Run {
    of(scene, "status", &[])
}

fn clips(scene: &Scene) -> usize {
    scene.requests(Api::GetClip).len()
}

/// Everything in a folder, by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("listed").flatten();
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())))
        .map(|(name, content)| (name, content.expect("read")))
        .collect()
}

#[test]
fn retry_fetches_what_a_failed_export_lacks_and_begins_nothing() {
    let scene = one_failed();
    let new = Job { name: "new".into(), range: after_midnight(50_000, 60_000), ..job("gate") };
    scene.write_jobs("requests_in_flight = 1\nattempts = 1", &[new, job("gate"), job("yard")]);
    let before = clips(&scene);
    let planned = of(&scene, "retry", &["--dry-run"]).expect_code(0);
    assert_eq!(planned.report["schema"], "kvs-export/plan/1");
    assert_eq!((planned.report["exports"].as_array().expect("exports").len(), clips(&scene)), (1, before));
    let run = of(&scene, "retry", &[]).expect_code(0);
    assert_eq!(run.report["exports"].as_array().expect("exports").len(), 1);
    assert_eq!((run.status("gate"), clips(&scene) - before), ("done", 1));
    expect_exact(&run, &job("gate"), &camera("gate"));
    let run = of(&scene, "retry", &[]).expect_code(0);
    assert_eq!(run.report["exports"], Value::Array(Vec::new()), "nothing has failed");
}

#[test]
fn the_job_files_own_state_named_once_more_has_its_chunks() {
    let scene = one_failed();
    let before = clips(&scene);
    let state = scene.state();
    let run = of(&scene, "retry", &["--state", state.to_str().expect("text")]).expect_code(0);
    assert_eq!((run.status("gate"), clips(&scene) - before), ("done", 1), "what was fetched is there");
}

#[test]
fn retry_takes_the_beginning_of_an_id_and_says_what_it_cannot_take() {
    let scene = one_failed();
    let shown = status(&scene);
    let (gate, yard) = (id(&shown, "gate"), id(&shown, "yard"));
    let before = scene.log().len();
    let refused = |arguments: &[&str], told: &str| {
        let run = of(&scene, "retry", arguments).expect_code(2);
        let error = run.report["error"].as_str().expect("an error");
        assert!(error.contains(told), "{error}");
    };
    refused(&[&yard], "has not failed, it is done");
    refused(&["gate"], "no export's id begins with \"gate\"");
    refused(&[""], "no export's id begins with \"\"");
    let typo = format!("{}{}", &gate[..15], if gate.ends_with('0') { '1' } else { '0' });
    refused(&[&typo], &format!("did you mean {gate}?"));
    assert_eq!(scene.log().len(), before, "nothing was asked of the service");
    let run = of(&scene, "retry", &[&gate[..10]]).expect_code(0);
    assert_eq!(run.status("gate"), "done");
}

#[test]
fn a_failed_export_that_the_job_file_does_not_ask_for_is_not_tried_again() {
    let scene = one_failed();
    let gate = id(&status(&scene), "gate");
    scene.write_jobs("", &[job("yard")]);
    let before = clips(&scene);
    assert_eq!(of(&scene, "retry", &[]).expect_code(0).report["exports"], Value::Array(Vec::new()));
    let run = of(&scene, "retry", &[&gate]).expect_code(3);
    let error = run.export("gate")["error"].as_str().expect("an error");
    assert!(error.contains("no job of the job file asks for export"), "{error}");
    assert_eq!(clips(&scene), before);
}

#[test]
fn redo_replaces_a_finished_export_by_one_that_is_as_exact() {
    let scene = scene(Vec::new(), &[job("gate"), job("yard")]);
    let first = scene.run().expect_code(0);
    let before = clips(&scene);
    let yard = contents(&scene.outputs()).remove("yard.mp4");
    let gate = id(&first, "gate");
    let planned = of(&scene, "redo", &[&gate, "--dry-run"]).expect_code(0);
    assert_eq!((planned.export("gate")["action"].as_str(), clips(&scene)), (Some("redo"), before));
    let run = of(&scene, "redo", &[&gate[..8]]).expect_code(0);
    assert_eq!(run.report["exports"].as_array().expect("exports").len(), 1);
    assert_eq!((id(&run, "gate"), run.status("gate")), (gate, "done"));
    assert_eq!(clips(&scene) - before, 2);
    expect_exact(&run, &job("gate"), &camera("gate"));
    scene.check_sums("gate");
    assert_eq!(contents(&scene.outputs()).remove("yard.mp4"), yard);
    let names: Vec<String> = contents(&scene.outputs()).into_keys().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let again = scene.run().expect_code(0);
    assert!(again.export("gate")["already"].as_bool().expect("told") && clips(&scene) - before == 2);
}

#[test]
fn a_partial_export_is_made_whole_when_the_service_gives_everything() {
    let refused = support::truth::fragments(&camera("gate"), &job("gate"))[3].number.clone();
    let faults = vec![FaultRule::always(Api::GetClip, Fault::RefuseFragment(refused))];
    let mut scene = scene(faults, &[job("gate")]);
    let run = scene.run().expect_code(3);
    assert_eq!(run.status("gate"), "partial");
    let old = std::fs::read(scene.outputs().join("gate.mp4")).expect("read");
    scene.restart_emulator(config(Vec::new()));
    scene.write_jobs("", &[job("gate")]);
    assert_eq!(scene.run().expect_code(0).status("gate"), "partial", "only redo makes it again");
    let run = of(&scene, "redo", &[&id(&run, "gate")]).expect_code(0);
    expect_exact(&run, &job("gate"), &camera("gate"));
    assert_ne!(std::fs::read(scene.outputs().join("gate.mp4")).expect("read"), old);
    scene.check_sums("gate");
}

#[test]
fn the_old_video_stays_until_the_new_one_is_proven_and_the_next_run_goes_on() {
    let mut scene = scene(Vec::new(), &[job("gate")]);
    let gate = id(&scene.run().expect_code(0), "gate");
    let old = contents(&scene.outputs());
    scene.restart_emulator(config(vec![FaultRule::nth(Api::GetClip, 2, Fault::InternalFailure)]));
    scene.write_jobs("requests_in_flight = 1\nattempts = 1", &[job("gate")]);
    let failed = of(&scene, "redo", &[&gate]).expect_code(3);
    assert_eq!(failed.status("gate"), "failed");
    assert_eq!(contents(&scene.outputs()), old, "nothing has changed");
    let before = clips(&scene);
    let run = scene.run().expect_code(0);
    assert_eq!((run.status("gate"), clips(&scene) - before), ("done", 1));
    expect_exact(&run, &job("gate"), &camera("gate"));
    scene.check_sums("gate");
}

#[test]
fn redo_refuses_a_file_that_is_not_as_it_was_left_and_makes_one_that_was_moved_away() {
    let scene = scene(Vec::new(), &[job("gate")]);
    let gate = id(&scene.run().expect_code(0), "gate");
    let video = scene.outputs().join("gate.mp4");
    let whole = std::fs::read(&video).expect("read");
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let longer = [&whole[..], b"x"].concat();
    for other in [altered, longer] {
        std::fs::write(&video, &other).expect("written");
        let before = clips(&scene);
        let run = of(&scene, "redo", &[&gate]).expect_code(3);
        let error = run.export("gate")["error"].as_str().expect("an error");
        assert!(error.contains("gate.mp4 is not as the export left it"), "{error}");
        assert_eq!((clips(&scene), std::fs::read(&video).expect("read")), (before, other));
        assert_eq!(status(&scene).status("gate"), "done");
    }
    std::fs::rename(&video, scene.folder().join("elsewhere.mp4")).expect("moved");
    let run = of(&scene, "redo", &[&gate]).expect_code(0);
    expect_exact(&run, &job("gate"), &camera("gate"));
}

#[test]
fn redo_refuses_what_the_stream_no_longer_keeps_and_masters_that_stand() {
    let masters = Job { name: "masters".into(), ..job("yard").with("keep_chunks = true") };
    let mut scene = scene(Vec::new(), &[job("gate"), masters.clone()]);
    let run = scene.run().expect_code(0);
    let old = std::fs::read(scene.outputs().join("gate.mp4")).expect("read");
    let refused = of(&scene, "redo", &[&id(&run, "masters")]).expect_code(3);
    let error = refused.export("masters")["error"].as_str().expect("an error");
    assert!(error.contains("masters.chunks holds its masters"), "{error}");
    scene.restart_emulator(EmulatorConfig::with_cameras(
        ["gate", "yard"].map(|name| camera(name).retention_hours(1)),
    ));
    scene.write_jobs("", &[job("gate"), masters]);
    let planned = of(&scene, "redo", &[&id(&run, "gate"), "--dry-run"]);
    let refused = of(&scene, "redo", &[&id(&run, "gate")]).expect_code(3);
    for told in [&planned, &refused] {
        let error = told.export("gate")["error"].as_str().expect("an error");
        assert!(error.contains("a new video would hold less than the old one"), "{error}");
    }
    assert_eq!(std::fs::read(scene.outputs().join("gate.mp4")).expect("read"), old);
    assert_eq!((status(&scene).status("gate"), clips(&scene)), ("done", 0));
}

#[test]
fn what_would_hold_less_does_not_replace_the_old_video() {
    let mut scene = scene(Vec::new(), &[job("gate")]);
    let gate = id(&scene.run().expect_code(0), "gate");
    let old = contents(&scene.outputs());
    let less = Camera::steady("gate").gap(after_midnight(20_000, 34_000));
    scene.restart_emulator(EmulatorConfig::with_cameras([less]));
    scene.write_jobs("", &[job("gate")]);
    let run = of(&scene, "redo", &[&gate]).expect_code(3);
    let error = run.export("gate")["error"].as_str().expect("an error");
    assert!(error.contains("the old one stays as it is"), "{error}");
    assert_eq!(contents(&scene.outputs()), old);
}

#[test]
fn only_what_is_finished_is_made_again() {
    let scene = one_failed();
    let run = of(&scene, "redo", &[&id(&status(&scene), "gate")]).expect_code(2);
    let error = run.report["error"].as_str().expect("an error");
    assert!(error.contains("is not finished, it is failed: kvs-export run"), "{error}");
}

/// Makes every export look as if it had changed last so many days ago.
fn age(scene: &Scene, days: i64) {
    let rows = Connection::open(scene.state()).expect("opened");
    let update = "update export set updated_ms = updated_ms - ?1 * 86400000";
    assert!(rows.execute(update, [days]).expect("changed") > 0);
}

#[test]
fn prune_forgets_what_is_old_and_not_asked_for_and_deletes_no_video() {
    let scene = scene(Vec::new(), &[job("gate"), job("yard")]);
    let run = scene.run().expect_code(0);
    let outputs = contents(&scene.outputs());
    age(&scene, 91);
    scene.write_jobs("", &[job("yard")]);
    let before = scene.log().len();
    let pruned = |arguments: &[&str]| of(&scene, "prune", arguments).expect_code(0);
    let counts =
        |run: &Run| (run.report["totals"]["exports"].clone(), run.report["totals"]["asked_for"].clone());
    assert_eq!(counts(&pruned(&["--older-than", "92d"])), (0.into(), 0.into()));
    let dry = pruned(&["--older-than", "90d", "--dry-run"]);
    assert_eq!((counts(&dry), dry.report["dry_run"].clone()), ((1.into(), 1.into()), true.into()));
    assert_eq!(status(&scene).report["totals"]["exports"], 2);
    let done = pruned(&["--older-than", "90d"]);
    assert_eq!((counts(&done), id(&done, "gate")), ((1.into(), 1.into()), id(&run, "gate")));
    assert_eq!(status(&scene).report["totals"]["exports"], 1);
    assert_eq!((contents(&scene.outputs()), scene.log().len()), (outputs, before));
    // What the job file still asks for is still known as done.
    let again = scene.run().expect_code(0);
    assert!(again.export("yard")["already"].as_bool().expect("told"));
    assert_eq!(counts(&pruned(&["--older-than", "0d"])), (0.into(), 1.into()));
}

#[test]
fn prune_frees_the_chunks_of_superseded_exports_unless_their_text_is_back() {
    let scene = one_failed();
    scene.write_jobs("", &[job("yard")]);
    scene.run().expect_code(0);
    let held = status(&scene).report["totals"]["superseded_bytes"].as_u64().expect("bytes");
    assert!(held > 0 && scene.work().join(id(&status(&scene), "gate")).is_dir());
    age(&scene, 1);
    scene.write_jobs("", &[job("gate"), job("yard")]);
    let kept = of(&scene, "prune", &["--older-than", "0d"]).expect_code(0);
    assert_eq!(
        (&kept.report["totals"]["exports"], &kept.report["totals"]["asked_for"]),
        (&0.into(), &2.into())
    );
    scene.write_jobs("", &[job("yard")]);
    let pruned = of(&scene, "prune", &["--older-than", "0d"]).expect_code(0);
    assert_eq!(pruned.report["totals"]["freed_bytes"], held);
    assert_eq!((pruned.export("gate")["superseded"].clone(), pruned.status("gate")), (true.into(), "failed"));
    assert_eq!(std::fs::read_dir(scene.work()).expect("listed").count(), 0);
    assert_eq!(status(&scene).report["totals"]["superseded"], 0);
}

#[test]
fn what_a_prefix_asks_for_is_not_forgotten_and_nothing_is_listed_for_that() {
    let scene = scene(Vec::new(), &[job("gate"), job("yard")]);
    scene.run().expect_code(0);
    age(&scene, 91);
    let jobs = std::fs::read_to_string(scene.job_file()).expect("read");
    let by_prefix = jobs.replace("streams = [\"yard\"]", "streams = [\"ya*\"]");
    let by_prefix = by_prefix.replace("streams = [\"gate\"]", "streams = [\"dock-*\"]");
    std::fs::write(scene.job_file(), by_prefix).expect("written");
    let before = scene.log().len();
    let pruned = of(&scene, "prune", &["--older-than", "90d"]).expect_code(0);
    let exports = pruned.report["exports"].as_array().expect("exports").iter();
    assert_eq!(exports.map(|export| export["job"].as_str().expect("a name")).collect::<Vec<_>>(), ["gate"]);
    assert_eq!((&pruned.report["totals"]["asked_for"], scene.log().len()), (&1.into(), before));
}

#[test]
fn prune_waits_for_no_run_and_needs_an_age() {
    let scene = scene(Vec::new(), &[job("gate")]);
    assert_eq!(of(&scene, "prune", &["--older-than", "0d"]).expect_code(0).report["totals"]["exports"], 0);
    assert!(!scene.state().exists(), "nothing is made where nothing is");
    let gate = id(&scene.run().expect_code(0), "gate");
    let lock = StateLock::acquire(&scene.state(), &kvs_export::clock::SystemClock).expect("free");
    for command in [["prune", "--older-than", "0d"].as_slice(), &["redo", &gate], &["retry"]] {
        of(&scene, command[0], &command[1..]).expect_code(4);
    }
    drop(lock);
    let run = of(&scene, "prune", &["--older-than", "soon"]).expect_code(2);
    assert!(run.report["error"].as_str().expect("an error").contains("\"soon\" is not a length of time"));
}
