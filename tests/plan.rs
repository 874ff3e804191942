//! `plan` and `run --dry-run`, from outside: what they say, what they ask of the service, what they leave.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::model::{Edges, Sha256Digest, Timeline, TimestampKind};
use kvs_export::store::StateLock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use support::planned::calls;
use support::scene::{Job, Run, Scene};
use support::{MIDNIGHT, after_midnight, expect_exact};

fn job(name: &str, stream: &str) -> Job {
    Job::new(name, stream, after_midnight(5_500, 125_500))
}

fn scene() -> Scene {
    Scene::new(EmulatorConfig::with_cameras(["gate", "yard"].map(Camera::steady)))
}

/// The plan of a job.
fn planned<'a>(plan: &'a Run, job: &str) -> &'a Value {
    plan.export(job)
}

fn actions(plan: &Run) -> Vec<(&str, &str)> {
    let exports = plan.report["exports"].as_array().expect("exports").iter();
    exports
        .map(|export| {
            (export["job"].as_str().expect("a name"), export["action"].as_str().expect("an action"))
        })
        .collect()
}

/// Every file and folder below, the files with a hash of their bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Sha256Digest>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path.clone());
                all.insert(path, None);
            } else {
                let hash = Sha256::digest(std::fs::read(&path).expect("a file"));
                all.insert(path, Some(Sha256Digest(hash.into())));
            }
        }
    }
    all
}

/// The plan as text.
fn text(scene: &Scene) -> String {
    let output = scene.command_of("plan").args(["--format", "text"]).output().expect("the binary starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_run_lists_nothing_that_its_plan_has_listed() {
    let scene = scene();
    let jobs = [job("east", "gate"), job("west", "yard")];
    scene.write_jobs("", &jobs);
    let plan = scene.plan().expect_code(0);
    let pages = scene.requests(Api::ListFragments).len();
    assert!(pages > 0);
    assert_eq!(plan.report["listing"]["list_fragments"], pages);
    assert_eq!(plan.report["listing"]["not_kept"], Value::Null);
    assert_eq!(plan.report["totals"]["calls"]["list_fragments"], 0);

    let listed_at = scene.log().iter().map(|record| record.at).max().expect("requests");
    let run = scene.run().expect_code(0);
    assert_eq!(scene.requests(Api::ListFragments).len(), pages, "the run lists nothing");
    for (job, name) in jobs.iter().zip(["gate", "yard"]) {
        expect_exact(&run, job, &Camera::steady(name));
        let manifest = run.manifest(&job.name);
        let told = manifest["listed_at"][1].as_str().expect("a time");
        assert!(told <= listed_at.to_string().as_str(), "{told}: when it was listed, not when it was used");
    }

    // What was used is gone: another export of the same windows is listed anew.
    let again = [job("again", "gate").with("output = \"out/again.mp4\"").of(
        TimestampKind::Server,
        Edges::Cover,
        Timeline::Wallclock,
    )];
    scene.write_jobs("", &again);
    scene.run().expect_code(0);
    assert!(scene.requests(Api::ListFragments).len() > pages);
}

#[test]
fn a_plan_is_the_same_when_it_is_made_again_and_lists_nothing_twice() {
    let scene = scene();
    scene.write_jobs("", &[job("east", "gate"), job("west", "yard")]);
    let first = text(&scene);
    let pages = scene.requests(Api::ListFragments).len();
    let second = text(&scene);
    assert_eq!(first, second);
    assert_eq!(scene.requests(Api::ListFragments).len(), pages);
    assert!(
        first.starts_with("+ new  east  gate  2024-03-01T00:00:05.500Z to 2024-03-01T00:02:05.500Z\n"),
        "{first}"
    );
    assert!(first.contains("\n    output: out/east.mp4\n"), "{first}");
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing_at_all() {
    let scene = scene();
    scene.write_jobs("", &[job("east", "gate")]);
    let before = tree(scene.folder());
    let dry = Run::of(scene.command().arg("--dry-run")).expect_code(0);
    assert_eq!(tree(scene.folder()), before, "without a state file");
    assert_eq!(actions(&dry), [("east", "new")]);
    assert!(dry.report["totals"]["calls"]["list_fragments"].as_u64().is_some_and(|pages| pages > 0));
    assert!(!scene.folder().join("out").exists());

    let plan = scene.plan().expect_code(0);
    for key in ["fragments", "bytes", "media_ms", "outstanding", "gaps", "id", "chunks"] {
        assert_eq!(planned(&dry, "east")[key], planned(&plan, "east")[key], "{key}");
    }
    scene.run().expect_code(0);
    let before = tree(scene.folder());
    let dry = Run::of(scene.command().arg("--dry-run")).expect_code(0);
    assert_eq!(tree(scene.folder()), before, "with a state file");
    assert_eq!(actions(&dry), [("east", "done")]);
    assert_eq!(dry.report["totals"]["calls"]["get_clip"], 0);
}

#[test]
fn a_plan_works_beside_a_run_and_says_that_nothing_is_kept() {
    let scene = scene();
    scene.write_jobs("", &[job("east", "gate")]);
    let lock = StateLock::acquire(&scene.state(), &SystemClock).expect("free");
    let plan = scene.plan().expect_code(0);
    drop(lock);
    let reason = plan.report["listing"]["not_kept"].as_str().expect("a reason");
    assert!(reason.contains("another run holds the state file"), "{reason}");
    assert!(plan.stderr.contains("note: the listing is not kept"), "{}", plan.stderr);
    let pages = scene.requests(Api::ListFragments).len();
    assert_eq!(planned(&plan, "east")["calls"]["list_fragments"], pages);
    let before = scene.log().len();
    scene.run().expect_code(0);
    assert_eq!(calls(&scene.log()[before..]), plan.report["totals"]["calls"]);
}

#[test]
fn an_interrupted_export_is_planned_as_what_is_left_of_it() {
    // So short that two minutes of them make several chunks.
    let camera = Camera::steady("gate").grid(|grid| grid.fragment_ms = 400);
    let rule = FaultRule::nth(Api::GetClip, 3, Fault::NoFragments);
    let mut scene =
        Scene::new(EmulatorConfig { faults: vec![rule], ..EmulatorConfig::with_cameras([camera.clone()]) });
    let jobs =
        [job("east", "gate"), job("gone", "gate").with("output = \"out/gone.mp4\"\nkeep_chunks = true")];
    scene.write_jobs("attempts = 1", &jobs[..1]);
    scene.run().expect_code(3);

    scene.restart_emulator(EmulatorConfig::with_cameras([camera.clone()]));
    scene.write_jobs("", &jobs[..1]);
    let plan = scene.plan().expect_code(0);
    let export = planned(&plan, "east");
    let (total, fetched) = (&export["chunks"]["total"], &export["chunks"]["fetched"]);
    assert_eq!(export["action"], "resume");
    assert_eq!(
        export["outstanding"]["chunks"],
        total.as_u64().expect("a count") - fetched.as_u64().expect("a count")
    );
    assert!(fetched.as_u64() > Some(0) && export["outstanding"]["chunks"].as_u64() > Some(0), "{export:#}");
    assert!(
        text(&scene).starts_with(&format!("~ resume {fetched} of {total}  east  gate")),
        "{}",
        text(&scene)
    );
    let before = scene.log().len();
    let run = scene.run().expect_code(0);
    assert_eq!(calls(&scene.log()[before..]), plan.report["totals"]["calls"]);
    expect_exact(&run, &jobs[0], &camera);
    assert_eq!(actions(&scene.plan().expect_code(0)), [("east", "done")]);
}

#[test]
fn an_export_that_left_the_job_file_unfinished_comes_last_as_superseded() {
    let rule = FaultRule::nth(Api::GetClip, 1, Fault::NoFragments);
    let cameras = ["gate", "yard"].map(Camera::steady);
    let mut scene =
        Scene::new(EmulatorConfig { faults: vec![rule], ..EmulatorConfig::with_cameras(cameras.clone()) });
    scene.write_jobs("attempts = 1", &[job("left", "gate")]);
    scene.run().expect_code(3);
    scene.restart_emulator(EmulatorConfig::with_cameras(cameras));
    scene.write_jobs("", &[job("east", "yard")]);
    for _ in 0..2 {
        let plan = scene.plan().expect_code(0);
        assert_eq!(actions(&plan), [("east", "new"), ("left", "superseded")]);
        assert_eq!(planned(&plan, "left")["outstanding"]["chunks"], 0);
    }
    // A plan has marked nothing: with its text back in the file, the export is resumed.
    scene.write_jobs("", &[job("left", "gate")]);
    assert_eq!(actions(&scene.plan().expect_code(0)), [("left", "resume")]);
}

#[test]
fn the_text_tells_each_export_when_it_is_listed_and_the_document_is_whole_when_planning_breaks_off() {
    let rule = FaultRule::always(Api::ListFragments, Fault::ExpiredToken).on_stream("yard");
    let cameras = ["gate", "dock", "yard"].map(Camera::steady);
    let scene = Scene::new(EmulatorConfig { faults: vec![rule], ..EmulatorConfig::with_cameras(cameras) });
    scene.write_jobs("", &[job("one", "gate"), job("two", "dock"), job("three", "yard")]);
    let told = text(&scene);
    assert!(told.starts_with("+ new  one  gate  "), "{told}");
    assert!(told.contains("\nerror: AWS does not accept the credentials"), "{told}");
    assert!(!told.contains("three"), "{told}");
    let plan = scene.plan().expect_code(5);
    assert_eq!((&plan.report["outcome"], &plan.report["exports"]), (&json!("auth"), &json!([])));
    assert!(plan.report["totals"].is_object() && plan.report["listing"].is_object(), "{:#}", plan.report);
}

#[test]
fn a_window_that_is_not_over_is_pending_and_costs_nothing() {
    let scene = scene();
    let pending = format!(
        "version = 1\nstate = \"state.db\"\n[aws]\nregion = \"us-west-2\"\nendpoint_url = \"{}\"\n\
         [[job]]\nname = \"later\"\nstreams = [\"gate\"]\ntime_zone = \"UTC\"\nfrom = \"today 00:00\"\nto = \"today 23:59:59\"\n",
        scene.endpoint()
    );
    std::fs::write(scene.job_file(), pending).expect("written");
    let plan = scene.plan().expect_code(0);
    // In the last second of a day it is over.
    if actions(&plan) == [("later", "pending")] {
        assert_eq!(plan.report["totals"]["calls"]["get_clip"], 0);
        assert!(text(&scene).starts_with(". pending  later  gate"), "{}", text(&scene));
        assert!(scene.requests(Api::ListFragments).is_empty());
    }
}

#[test]
fn a_stream_that_is_denied_or_unknown_has_its_error_and_the_others_their_plan() {
    let config = EmulatorConfig {
        denied: vec![("yard".to_owned(), Api::ListFragments)],
        ..EmulatorConfig::with_cameras(["gate", "yard"].map(Camera::steady))
    };
    let scene = Scene::new(config);
    scene.write_jobs("", &[job("east", "gate"), job("west", "yard"), job("none", "cellar")]);
    let plan = scene.plan().expect_code(3);
    assert_eq!(actions(&plan), [("east", "new"), ("west", "new"), ("none", "new")]);
    let error = |job| planned(&plan, job)["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(planned(&plan, "east")["error"], Value::Null);
    assert!(error("west").contains("kinesisvideo:ListFragments"), "{}", error("west"));
    assert!(error("none").contains("there is no stream cellar"), "{}", error("none"));
    assert_eq!(
        (&plan.report["totals"]["failed"], &plan.report["outcome"]),
        (&json!(2), &json!("incomplete"))
    );
    assert!(text(&scene).contains("\n! new  none  cellar"), "{}", text(&scene));
    let before = scene.log().len();
    scene.run().expect_code(3);
    let sent = calls(&scene.log()[before..]);
    assert_eq!(sent["get_clip"], plan.report["totals"]["calls"]["get_clip"]);

    scene.write_jobs("", &[job("west", "yard")]);
    assert_eq!(scene.plan().expect_code(5).report["outcome"], "auth");
}

#[test]
fn footage_that_retention_overtakes_is_told() {
    let now = SystemClock.now();
    let kept_hours = u32::try_from((now - MIDNIGHT) / 3_600_000).expect("some years");
    // The head of the stream is in the hour of the range.
    let camera = Camera::steady("gate").retention_hours(kept_hours);
    let scene = Scene::new(EmulatorConfig::with_cameras([camera]));
    scene.write_jobs("", &[Job::new("old", "gate", after_midnight(0, 7_200_000))]);
    let plan = scene.plan().expect_code(0);
    let export = planned(&plan, "old");
    assert_eq!(export["expires_before_turn"], true, "{export:#}");
    assert_eq!(export["expires_at"], (MIDNIGHT + i64::from(kept_hours) * 3_600_000).to_string());
    assert!(text(&scene).contains("warning: this footage expires before its turn"), "{}", text(&scene));
}

#[test]
fn a_plan_larger_than_max_bytes_is_refused_as_the_run_would_be() {
    let scene = scene();
    scene.write_jobs("max_bytes = \"1 MB\"", &[job("east", "gate")]);
    let plan = scene.plan().expect_code(2);
    let error = plan.report["error"].as_str().expect("an error");
    assert!(error.contains("max_bytes"), "{error}");
    assert_eq!(actions(&plan), [("east", "new")], "it is shown all the same");
}

#[test]
fn a_job_file_that_is_wrong_gives_a_document_all_the_same() {
    let scene = scene();
    std::fs::write(scene.job_file(), "version = 1\nstaet = 1\n").expect("written");
    let plan = scene.plan().expect_code(2);
    assert_eq!(
        (&plan.report["schema"], &plan.report["outcome"]),
        (&json!("kvs-export/plan/1"), &json!("usage"))
    );
    assert!(plan.report["error"].as_str().is_some_and(|error| error.contains("staet")), "{:#}", plan.report);
}

#[test]
fn the_example_can_be_planned_without_aws() {
    let folder = tempfile::tempdir().expect("a folder");
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs.example.toml");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kvs-export"));
    command.current_dir(folder.path()).arg("plan").arg(jobs).args(["--emulator", "--format", "json"]);
    let plan = Run::of(&mut command).expect_code(0);
    assert!(plan.report["totals"]["outstanding"]["chunks"].as_u64() > Some(0), "{:#}", plan.report);
}
