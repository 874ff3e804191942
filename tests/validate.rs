//! `validate`, from outside: what it finds, what it asks of the service, what it leaves behind.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeSet;

use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use serde_json::{Value, json};

use support::after_midnight;
use support::scene::{Job, Run, Scene};

fn job(name: &str, stream: &str) -> Job {
    Job::new(name, stream, after_midnight(5_500, 65_500))
}

fn scene_of(config: EmulatorConfig, jobs: &[Job]) -> Scene {
    let scene = Scene::new(config);
    scene.write_jobs("min_free = \"1 MB\"", jobs);
    scene
}

fn steady() -> EmulatorConfig {
    EmulatorConfig::with_cameras(["gate", "yard"].map(Camera::steady))
}

fn validate(scene: &Scene) -> Run {
    let mut command = scene.command_of("validate");
    command.env_remove("KVS_EXPORT_FFMPEG");
    Run::of(&mut command)
}

/// The checks of that status, as `subject, check`.
fn of_status<'a>(run: &'a Run, status: &str) -> Vec<(&'a str, &'a str)> {
    let checks = run.report["checks"].as_array().expect("checks").iter();
    let word = |check: &'a Value, key: &str| check[key].as_str().expect("a text");
    checks
        .filter(|check| check["status"] == status)
        .map(|check| (word(check, "subject"), word(check, "check")))
        .collect()
}

fn message<'a>(run: &'a Run, subject: &str, check: &str) -> &'a str {
    let mut checks = run.report["checks"].as_array().expect("checks").iter();
    let found = checks.find(|of| of["subject"] == subject && of["check"] == check);
    found
        .and_then(|of| of["message"].as_str())
        .unwrap_or_else(|| panic!("{subject}, {check}: {:#}", run.report))
}

#[test]
fn every_permission_that_a_run_needs_is_tried_once_and_nothing_is_left_behind() {
    let scene = scene_of(steady(), &[job("east", "gate"), job("west", "yard"), job("more", "gate")]);
    let files = |scene: &Scene| std::fs::read_dir(scene.folder()).expect("the folder").count();
    let before = files(&scene);
    let run = validate(&scene).expect_code(0);
    assert_eq!(files(&scene), before);
    assert_eq!((&run.report["outcome"], &run.report["totals"]["problems"]), (&json!("done"), &json!(0)));
    let ok: BTreeSet<&str> = of_status(&run, "ok")
        .into_iter()
        .filter(|(of, _)| *of == "stream gate")
        .map(|(_, check)| check)
        .collect();
    let apis = ["DescribeStream", "GetDataEndpoint", "ListFragments", "GetClip", "ListTagsForStream"];
    for api in apis {
        assert!(ok.contains(&*format!("kinesisvideo:{api}")), "{ok:?}");
    }
    let count = |api| scene.requests(api).iter().filter(|record| record.stream == "gate").count();
    assert_eq!(
        [Api::DescribeStream, Api::ListFragments, Api::GetClip, Api::ListTagsForStream].map(count),
        [1; 4]
    );
    assert_eq!(count(Api::GetDataEndpoint), 2);
    assert!(scene.requests(Api::ListFragments).iter().all(|page| page.max_results == Some(1)));
    assert!(scene.requests(Api::GetClip).iter().all(|clip| clip.fragments.len() == 1));
}

#[test]
fn each_missing_permission_is_named() {
    for (api, untested) in [
        (Api::DescribeStream, vec!["GetDataEndpoint", "ListFragments", "GetClip", "ListTagsForStream"]),
        (Api::GetDataEndpoint, vec!["ListFragments", "GetClip"]),
        (Api::ListFragments, vec!["GetClip"]),
        (Api::GetClip, vec![]),
    ] {
        let denied = vec![("yard".to_owned(), api)];
        let scene =
            scene_of(EmulatorConfig { denied, ..steady() }, &[job("east", "gate"), job("west", "yard")]);
        let run = validate(&scene).expect_code(2);
        let action = format!("kinesisvideo:{}", api.as_str());
        assert_eq!(of_status(&run, "problem"), [("stream yard", &*action)]);
        let told = message(&run, "stream yard", &action);
        assert!(told.contains(&format!("grant {action}")), "{told}");
        let expected: Vec<String> = untested.iter().map(|api| format!("kinesisvideo:{api}")).collect();
        let found: Vec<&str> = of_status(&run, "untested").into_iter().map(|(_, check)| check).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn tags_are_a_nicety() {
    let denied = vec![("*".to_owned(), Api::ListTagsForStream)];
    let scene = scene_of(EmulatorConfig { denied, ..steady() }, &[job("east", "gate")]);
    let run = validate(&scene).expect_code(0);
    assert_eq!(of_status(&run, "note"), [("stream gate", "kinesisvideo:ListTagsForStream")]);
}

#[test]
fn where_every_stream_is_denied_the_exit_code_says_so() {
    let denied = vec![("*".to_owned(), Api::GetClip)];
    let scene = scene_of(EmulatorConfig { denied, ..steady() }, &[job("east", "gate"), job("west", "yard")]);
    let run = validate(&scene).expect_code(5);
    assert_eq!((&run.report["outcome"], of_status(&run, "problem").len()), (&json!("auth"), 2));
}

#[test]
fn a_stream_without_fragments_in_the_range_is_not_tested_for_clips() {
    let camera = Camera::steady("gate").gap(after_midnight(0, 120_000));
    let scene = scene_of(EmulatorConfig::with_cameras([camera]), &[job("east", "gate")]);
    let run = validate(&scene).expect_code(0);
    assert_eq!(of_status(&run, "untested"), [("stream gate", "kinesisvideo:GetClip")]);
    assert!(message(&run, "stream gate", "kinesisvideo:GetClip").starts_with("nothing there"));
    assert!(scene.requests(Api::GetClip).is_empty());
}

#[test]
fn media_that_no_clip_can_be_made_of_is_told_with_the_way_out() {
    let faults = vec![FaultRule::always(Api::GetClip, Fault::UnsupportedMedia)];
    let scene = scene_of(EmulatorConfig { faults, ..steady() }, &[job("east", "gate")]);
    let run = validate(&scene).expect_code(2);
    let problems = of_status(&run, "problem");
    assert_eq!(problems, [("stream gate", "media type")]);
    let told = run.report["checks"].to_string();
    assert!(
        told.contains("UnsupportedStreamMediaTypeException") && told.contains("take the stream out"),
        "{told}"
    );
}

#[test]
fn a_stream_that_no_longer_has_the_range_is_told() {
    let cameras = [Camera::steady("gate").retention_hours(1), Camera::steady("yard").retention_hours(0)];
    let scene = scene_of(EmulatorConfig::with_cameras(cameras), &[job("east", "gate"), job("west", "yard")]);
    let run = validate(&scene).expect_code(2);
    assert_eq!(of_status(&run, "problem"), [("stream gate", "retention"), ("stream yard", "retention")]);
    assert!(message(&run, "stream gate", "retention").contains("1 of 1 ranges"), "{:#}", run.report);
    assert!(message(&run, "stream yard", "retention").contains("keeps nothing"), "{:#}", run.report);
}

#[test]
fn all_problems_of_file_machine_and_streams_are_told_at_once() {
    let scene = scene_of(steady(), &[job("east", "cellar").with("output = \"blocked/{job}.mp4\"")]);
    std::fs::write(scene.folder().join("blocked"), "a file").expect("written");
    let mut command = scene.command_of("validate");
    command.env("KVS_EXPORT_FFMPEG", scene.folder().join("no-ffmpeg"));
    let run = Run::of(&mut command).expect_code(2);
    let subjects: Vec<&str> = of_status(&run, "problem").into_iter().map(|(subject, _)| subject).collect();
    let blocked = format!("output folder {}", scene.folder().join("blocked").display());
    assert_eq!(subjects, ["ffmpeg", &*blocked, "stream cellar"], "{:#}", run.report);
}

#[test]
fn too_little_room_is_a_problem() {
    let scene = Scene::new(steady());
    scene.write_jobs("min_free = \"900000 TB\"", &[job("east", "gate")]);
    let run = validate(&scene).expect_code(2);
    assert!(of_status(&run, "problem").iter().all(|(_, check)| *check == "free space"), "{:#}", run.report);
    assert!(!of_status(&run, "problem").is_empty());
}

#[test]
fn a_state_file_that_git_could_clean_away_is_noted() {
    let scene = scene_of(steady(), &[job("east", "gate")]);
    let validate = || Run::of(scene.command_of("validate").arg("--no-aws")).expect_code(0);
    assert_eq!(of_status(&validate(), "note"), []);
    // A work tree that `git worktree add` made has a file there.
    std::fs::write(scene.folder().join(".git"), "gitdir: elsewhere").expect("written");
    let subject = format!("state file {}", scene.state().display());
    assert_eq!(of_status(&validate(), "note"), [(&*subject, "place")]);
}

#[test]
fn without_aws_no_request_is_sent() {
    let scene = scene_of(steady(), &[job("east", "gate")]);
    let run = Run::of(scene.command_of("validate").arg("--no-aws")).expect_code(0);
    assert!(scene.log().is_empty());
    assert!(
        of_status(&run, "ok").iter().all(|(subject, _)| !subject.starts_with("stream")),
        "{:#}",
        run.report
    );
}

#[test]
fn every_problem_of_a_job_file_has_its_line() {
    let scene = scene_of(steady(), &[job("east", "gate").with("timline = \"wallclock\"\ngaps = \"maybe\"")]);
    let run = validate(&scene).expect_code(2);
    let checks: Vec<&str> = of_status(&run, "problem").into_iter().map(|(_, check)| check).collect();
    assert_eq!(checks, ["job[1].timline", "job[1].gaps"], "{:#}", run.report);
    assert!(of_status(&run, "ok").contains(&("ffmpeg", "version")), "the machine is looked at all the same");
    assert!(scene.log().is_empty());
}

#[test]
fn missing_credentials_are_a_problem_beside_the_others() {
    let scene = scene_of(steady(), &[job("east", "gate")]);
    let mut command = scene.command_of("validate");
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let run = Run::of(&mut command).expect_code(5);
    assert_eq!(of_status(&run, "problem"), [("AWS", "credentials")]);
    assert!(of_status(&run, "ok").contains(&("ffmpeg", "version")));
}
