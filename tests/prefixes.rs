//! Streams by prefix, from outside: what is listed, what becomes of it, what is not asked.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::model::StreamStatus;
use serde_json::Value;

use support::scene::{Run, Scene};

fn cameras(names: &[&str]) -> EmulatorConfig {
    EmulatorConfig::with_cameras(names.iter().copied().map(Camera::steady))
}

fn arn(name: &str) -> String {
    format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{name}/1514764800000")
}

/// Writes a job file; each job is its name with its further lines.
fn write_jobs(scene: &Scene, jobs: &[(&str, &str)]) {
    let mut text = format!(
        "version = 1\nstate = \"state.db\"\nwork = \"chunks\"\n[aws]\nregion = \"us-west-2\"\nendpoint_url = \"{}\"\n\
         [limits]\nmin_free = \"0 B\"\nattempts = 1\n[defaults]\noutput = \"out/{{job}}/{{stream}}.mp4\"\n\
         from = 2024-03-01T00:00:05Z\nto = 2024-03-01T00:00:15Z\n",
        scene.endpoint()
    );
    text.extend(jobs.iter().map(|(name, lines)| format!("[[job]]\nname = \"{name}\"\n{lines}\n")));
    std::fs::write(scene.job_file(), text).expect("the job file is written");
}

/// A scene with one job, called `yards`.
fn scene(config: EmulatorConfig, lines: &str) -> Scene {
    let scene = Scene::new(config);
    write_jobs(&scene, &[("yards", lines)]);
    scene
}

fn dry_run(scene: &Scene) -> Run {
    Run::of(scene.command().arg("--dry-run"))
}

/// The exports as `stream word`, the word being their status or action.
fn exports(run: &Run) -> Vec<String> {
    let word = |export: &Value| {
        let word =
            export.get("status").or(export.get("action")).and_then(Value::as_str).expect("a word").to_owned();
        let already = if export["already"] == true { "already " } else { "" };
        format!("{} {already}{word}", export["stream"].as_str().expect("a stream"))
    };
    run.report["exports"].as_array().expect("exports").iter().map(word).collect()
}

fn error<'a>(run: &'a Run, stream: &str) -> &'a str {
    let mut exports = run.report["exports"].as_array().expect("exports").iter();
    let found =
        exports.find(|export| export["stream"] == stream).unwrap_or_else(|| panic!("{stream}: {run:?}"));
    found["error"].as_str().unwrap_or_else(|| panic!("{stream}: {run:?}"))
}

#[test]
fn a_prefix_takes_the_streams_of_all_pages_and_of_them_those_that_are_not_left_out() {
    let names: Vec<String> = (0..2_500).map(|number| format!("cam-{number:04}")).collect();
    let others = ["aaa".to_owned(), "zzz".to_owned()];
    let config = EmulatorConfig::with_cameras(names.iter().chain(&others).map(Camera::steady));
    let except =
        "except = [\"cam-0*\", \"cam-1*\", \"cam-20*\", \"cam-21*\", \"cam-22*\", \"cam-23*\", \"cam-2401\"]";
    let scene = scene(config, &format!("streams = [\"cam-*\"]\n{except}"));
    let plan = dry_run(&scene).expect_code(0);
    let left: Vec<String> = names
        .iter()
        .skip(2_400)
        .filter(|name| *name != "cam-2401")
        .map(|name| format!("{name} new"))
        .collect();
    assert_eq!(exports(&plan), left);
    let pages = scene.requests(Api::ListStreams);
    assert_eq!(pages.len(), 3);
    assert_eq!(pages.iter().filter(|page| page.continued).count(), 2);
    assert_eq!(plan.report["totals"]["calls"]["list_streams"], 3);
    assert_eq!(scene.requests(Api::DescribeStream).len(), left.len(), "nobody else is asked about");
}

#[test]
fn a_stream_that_is_named_and_taken_is_exported_once_and_a_later_one_joins_the_next_run() {
    let config = cameras(&["gate", "yard-1", "yard-2", "yard-3"]);
    let lines = format!("streams = [\"yard-2\", \"yard-*\", \"gate\", \"{}\"]", arn("yard-3"));
    let mut scene = scene(config, &lines);
    let run = scene.run().expect_code(0);
    let last = arn("yard-3");
    assert_eq!(exports(&run), ["yard-2 done", "yard-1 done", "gate done", &format!("{last} done")]);
    assert_eq!(scene.requests(Api::ListStreams).len(), 1);

    scene.restart_emulator(cameras(&["gate", "yard-0", "yard-1", "yard-2", "yard-3"]));
    write_jobs(&scene, &[("yards", &lines)]);
    let run = scene.run().expect_code(0);
    let already = format!("{last} already done");
    assert_eq!(
        exports(&run),
        ["yard-2 already done", "yard-0 done", "yard-1 already done", "gate already done", &already]
    );
    let fetched: Vec<String> = scene.requests(Api::GetClip).into_iter().map(|clip| clip.stream).collect();
    assert!(!fetched.is_empty() && fetched.iter().all(|stream| stream == "yard-0"), "{fetched:?}");
}

#[test]
fn one_listing_serves_all_jobs_and_none_is_made_that_nobody_needs() {
    let scene = Scene::new(cameras(&["gate", "yard-1", "yard-2"]));
    let jobs = [
        ("one", "streams = [\"yard-*\"]"),
        ("two", "streams = [\"yard-1*\"]"),
        ("three", "streams = [\"yard-*\"]\nexcept = [\"yard-1\"]"),
        ("named", "streams = [\"gate\"]"),
    ];
    write_jobs(&scene, &jobs);
    let plan = dry_run(&scene).expect_code(0);
    assert_eq!(exports(&plan), ["yard-1 new", "yard-2 new", "yard-1 new", "yard-2 new", "gate new"]);
    assert_eq!(scene.requests(Api::ListStreams).len(), 1);
    Run::of(scene.command().args(["--dry-run", "--job", "named"])).expect_code(0);
    assert_eq!(scene.requests(Api::ListStreams).len(), 1);
    // A lone star is every stream, which no condition can say.
    write_jobs(&scene, &[("all", "streams = [\"*\"]"), ("one", "streams = [\"yard-*\"]")]);
    let plan = dry_run(&scene).expect_code(0);
    assert_eq!(exports(&plan), ["gate new", "yard-1 new", "yard-2 new", "yard-1 new", "yard-2 new"]);
    assert_eq!(scene.requests(Api::ListStreams).len(), 2);
}

#[test]
fn a_prefix_that_takes_nothing_stops_the_run_before_anything_is_fetched() {
    let scene = scene(
        cameras(&["gate", "yard-7"]),
        "streams = [\"yard-*\", \"dock-*\", \"gate\"]\nexcept = [\"yard-7\"]",
    );
    for run in [scene.run(), scene.plan(), dry_run(&scene)] {
        let run = run.expect_code(2);
        let told = run.report["error"].as_str().expect("an error");
        for part in [
            "jobs.toml:16:12: job[1].streams[1]: no stream of job \"yards\" begins with \"yard-\", apart from 1 left out",
            "jobs.toml:16:22: job[1].streams[2]: no stream of job \"yards\" begins with \"dock-\"",
            "allow_empty = true",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    assert_eq!(scene.requests(Api::DescribeStream).len(), 0);
    let status = Run::of(scene.program().args(["--format", "json", "status", "--state", "state.db"]));
    assert_eq!(status.report["last_run"]["outcome"], "usage", "{:#}", status.report);

    write_jobs(
        &scene,
        &[("yards", "streams = [\"dock-*\"]\nallow_empty = true"), ("gate", "streams = [\"gate\"]")],
    );
    assert_eq!(exports(&scene.run().expect_code(0)), ["gate done"]);
}

#[test]
fn a_listing_that_is_denied_fails_its_jobs_and_the_others_go_on() {
    let denied = || vec![("*".to_owned(), Api::ListStreams)];
    let scene = Scene::new(EmulatorConfig { denied: denied(), ..cameras(&["gate", "yard-1"]) });
    let yards = ("yards", "streams = [\"yard-*\"]");
    write_jobs(&scene, &[yards, ("gate", "streams = [\"gate\"]")]);
    let plan = scene.plan().expect_code(3);
    assert_eq!(exports(&plan), ["gate new", "yard-* new"]);
    let run = scene.run().expect_code(3);
    assert_eq!(exports(&run), ["gate done", "yard-* failed"]);
    for told in [error(&plan, "yard-*"), error(&run, "yard-*")] {
        assert!(told.contains("grant kinesisvideo:ListStreams, or name them one by one"), "{told}");
    }
    write_jobs(&scene, &[yards]);
    assert_eq!(scene.plan().expect_code(5).report["outcome"], "auth");
    assert_eq!(scene.run().expect_code(5).report["outcome"], "auth");
}

#[test]
fn a_listing_that_is_throttled_is_made_again_and_costs_no_attempt() {
    let faults = (1..=3).map(|nth| FaultRule::nth(Api::ListStreams, nth, Fault::Throttle)).collect();
    let scene = scene(EmulatorConfig { faults, ..cameras(&["yard-1"]) }, "streams = [\"yard-*\"]");
    assert_eq!(exports(&scene.run().expect_code(0)), ["yard-1 done"]);
    let asked: Vec<Option<u16>> =
        scene.requests(Api::ListStreams).iter().map(|record| record.status).collect();
    assert_eq!(asked, [Some(400), Some(400), Some(400), Some(200)], "each once, by one who repeats");
}

#[test]
fn an_unfinished_export_of_a_stream_that_is_gone_is_told_until_it_is_given_up() {
    let gone = FaultRule::always(Api::GetClip, Fault::NoFragments).on_stream("yard-2");
    let config = |names: &[&str]| EmulatorConfig { faults: vec![gone.clone()], ..cameras(names) };
    let mut scene = scene(config(&["yard-1", "yard-2"]), "streams = [\"yard-*\"]");
    assert_eq!(exports(&scene.run().expect_code(3)), ["yard-1 done", "yard-2 failed"]);

    scene.restart_emulator(config(&["yard-1"]));
    write_jobs(&scene, &[("yards", "streams = [\"yard-*\"]")]);
    for _ in 0..2 {
        let plan = scene.plan().expect_code(3);
        assert_eq!(exports(&plan), ["yard-1 done", "yard-2 new"]);
        let run = scene.run().expect_code(3);
        assert_eq!(exports(&run), ["yard-1 already done", "yard-2 failed"]);
        assert!(error(&run, "yard-2").contains("there is no stream yard-2"), "{run:?}");
    }
    write_jobs(&scene, &[("yards", "streams = [\"yard-*\"]\nexcept = [\"yard-2\"]")]);
    assert_eq!(exports(&scene.plan().expect_code(0)), ["yard-1 done", "yard-2 superseded"]);
    scene.run().expect_code(0);
}

#[test]
fn what_a_prefix_took_is_not_given_up_because_it_cannot_be_listed_once() {
    let gone = FaultRule::always(Api::GetClip, Fault::NoFragments).on_stream("yard-2");
    let names = ["yard-1", "yard-2"];
    let mut scene = scene(EmulatorConfig { faults: vec![gone], ..cameras(&names) }, "streams = [\"yard-*\"]");
    scene.run().expect_code(3);
    let denied = vec![("*".to_owned(), Api::ListStreams)];
    scene.restart_emulator(EmulatorConfig { denied, ..cameras(&names) });
    // Also where the job has another name meanwhile.
    write_jobs(&scene, &[("yards", "streams = [\"gate\"]"), ("renamed", "streams = [\"yard-*\"]")]);
    let plan = scene.plan();
    assert!(!exports(&plan).iter().any(|export| export.ends_with("superseded")), "{plan:?}");
    scene.run();
    scene.restart_emulator(cameras(&names));
    write_jobs(&scene, &[("yards", "streams = [\"yard-*\"]")]);
    assert_eq!(exports(&scene.plan().expect_code(0)), ["yard-1 done", "yard-2 resume"]);
    assert_eq!(exports(&scene.run().expect_code(0)), ["yard-1 already done", "yard-2 done"]);
}

#[test]
fn streams_that_are_being_made_or_deleted_are_left_for_later() {
    let of = |(name, status)| Camera::steady(name).status(status);
    let yards = [
        ("yard-1", StreamStatus::Active),
        ("yard-2", StreamStatus::Creating),
        ("yard-3", StreamStatus::Updating),
        ("yard-4", StreamStatus::Deleting),
    ];
    let scene = scene(EmulatorConfig::with_cameras(yards.map(of)), "streams = [\"yard-*\"]");
    assert_eq!(exports(&dry_run(&scene).expect_code(0)), ["yard-1 new", "yard-3 new"]);
}

/// The checks on prefixes, as `status subject, check: message`.
fn checks(run: &Run) -> Vec<String> {
    let word = |check: &Value, key: &str| check[key].as_str().expect("a text").to_owned();
    let checks = run.report["checks"].as_array().expect("checks").iter();
    checks
        .map(|of| {
            format!(
                "{} {}, {}: {}",
                word(of, "status"),
                word(of, "subject"),
                word(of, "check"),
                word(of, "message")
            )
        })
        .filter(|line| line.contains('*') || line.contains("jobs.toml:"))
        .collect()
}

#[test]
fn validate_says_what_each_prefix_takes() {
    let config = || cameras(&["gate", "yard-1", "yard-2", "yard-7"]);
    let mut scene = Scene::new(config());
    let jobs = [
        ("yards", "streams = [\"yard-*\", \"gate\"]\nexcept = [\"yard-7\"]"),
        ("docks", "streams = [\"dock-*\"]"),
    ];
    write_jobs(&scene, &jobs);
    let validate = |scene: &Scene, more: &[&str]| Run::of(scene.command_of("validate").args(more));
    let run = validate(&scene, &[]).expect_code(2);
    assert_eq!(
        checks(&run)[..3],
        [
            "ok streams dock-*, kinesisvideo:ListStreams: 0 streams",
            "ok streams yard-*, kinesisvideo:ListStreams: 3 streams",
            "ok job yards, yard-*: 2 streams, 1 left out by `except`",
        ]
    );
    let problem = &checks(&run)[3];
    assert!(
        problem.contains("jobs.toml:20:12, job[2].streams[1]: no stream of job \"docks\" begins"),
        "{problem}"
    );
    let described: Vec<String> =
        scene.requests(Api::DescribeStream).into_iter().map(|of| of.stream).collect();
    assert_eq!(described.len(), 3, "the streams are checked all the same: {described:?}");

    let sent = scene.log().len();
    let run = validate(&scene, &["--no-aws"]).expect_code(0);
    assert_eq!(scene.log().len(), sent);
    assert!(
        checks(&run)[0].starts_with("untested streams yard-*, kinesisvideo:ListStreams"),
        "{:?}",
        checks(&run)
    );

    scene.restart_emulator(EmulatorConfig { denied: vec![("*".to_owned(), Api::ListStreams)], ..config() });
    write_jobs(&scene, &jobs[..1]);
    let run = validate(&scene, &[]).expect_code(2);
    assert!(
        checks(&run)[0].starts_with("problem streams yard-*, kinesisvideo:ListStreams"),
        "{:?}",
        checks(&run)
    );
    assert!(checks(&run)[0].contains("grant kinesisvideo:ListStreams"), "{:?}", checks(&run));
}

#[test]
fn a_prefix_finds_streams_in_the_embedded_archive() {
    let scene = scene(cameras(&[]), "streams = [\"yard-*\"]\nexcept = [\"yard-3\"]");
    let plan = Run::of(scene.command_of("plan").arg("--emulator")).expect_code(0);
    assert_eq!(exports(&plan), ["yard-1 new", "yard-2 new"]);
    assert_eq!(scene.log().len(), 0);
}
