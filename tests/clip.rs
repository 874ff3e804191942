//! `clip`, through the real binary: exact, resumed by the same command, and never over another's file.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvs_export::clock::{Clock, SystemClock};
use kvs_export::emulator::{Api, ByteTrigger, Camera, EmulatorConfig, Fault, FaultRule};
use kvs_export::job::{self, AwsSettings, ClipRange, ClipWords};
use kvs_export::model::{Edges, StreamArn, TimeRange, Timeline, TimestampKind, UtcMillis};
use kvs_export::plan;
use kvs_export::store::{NewExport, StateLock, Store};
use rustix::process::{Pid, Signal, kill_process};
use support::scene::{Job, Run, Scene};
use support::{after_midnight, expect_exact};

/// Ten seconds of media, three without, so that there are several chunks.
const PERIOD_MS: i64 = 14_000;
const RANGE: [&str; 4] = ["--from", "2024-03-01T00:00:01Z", "--to", "2024-03-01T00:01:24Z"];
const NAME: &str = "gate_20240301T000001+0000_20240301T000124+0000";

fn camera() -> Camera {
    let gap = |period: i64| after_midnight(period * PERIOD_MS + 10_000, (period + 1) * PERIOD_MS);
    (0..6).map(gap).fold(Camera::steady("gate"), Camera::gap)
}

/// What the truth is worked out from: the job that the clip is.
fn job() -> Job {
    Job::new("clip", "gate", after_midnight(1_000, 84_000))
}

fn scene() -> Scene {
    Scene::new(EmulatorConfig::with_cameras([camera()]))
}

/// `kvs-export clip gate …` against the scene's emulator.
fn command(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = scene.program();
    command
        .args(["--format", "json", "--progress", "none", "clip", "gate", "--region", "us-west-2"])
        .args(["--endpoint-url", &scene.endpoint()])
        .args(arguments);
    command
}

fn clip(scene: &Scene, arguments: &[&str]) -> Run {
    Run::read(&command(scene, arguments).output().expect("the binary starts"))
}

/// The state folder of the only clip under way.
fn state_folder(scene: &Scene) -> Option<PathBuf> {
    let entries = fs::read_dir(scene.folder().join(".kvs-export")).ok()?;
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.retain(|path| path.is_dir());
    assert!(folders.len() <= 1, "one clip is under way");
    folders.pop()
}

fn files(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.folder()).expect("listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// A scene whose emulator sends a signal to the target after so many bytes of clips.
type Target = Arc<Mutex<Option<Pid>>>;

fn scene_with_trigger(camera: Camera, at: u64, signal: Signal) -> (Scene, Target) {
    let target = Target::default();
    let aim = Arc::clone(&target);
    let action = move || {
        let pid = aim.lock().unwrap_or_else(PoisonError::into_inner);
        kill_process(pid.expect("it is running"), signal).expect("it is sent");
    };
    let scene = Scene::new(EmulatorConfig {
        latency: Duration::from_millis(20),
        on_bytes: Some(ByteTrigger { at, action: Arc::new(action) }),
        ..EmulatorConfig::with_cameras([camera])
    });
    (scene, target)
}

fn run_aimed_at(mut command: Command, target: &Target) -> Output {
    let mut slot = target.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    drop(slot);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_clip_is_exact_has_its_sidecars_and_leaves_no_state() {
    let scene = scene();
    let run = clip(&scene, &RANGE).expect_code(0);
    expect_exact(&run, &job(), &camera());
    let expected = ["mp4", "manifest.json", "sha256"].map(|end| format!("{NAME}.{end}"));
    let mut expected = Vec::from(expected);
    expected.sort();
    assert_eq!(files(&scene), expected);
    assert_eq!(run.report["schema"], "kvs-export/run/1");
    let manifest = run.manifest("clip");
    assert_eq!((&manifest["job"], &manifest["job_file"]), (&"clip".into(), &serde_json::Value::Null));
    let verified = scene.program().args(["verify", "."]).output().expect("the binary starts");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn every_setting_of_a_clip_is_exact() {
    let scene = scene();
    for (number, job) in Job::matrix("clip", job().range, |_| "gate".to_owned()).into_iter().enumerate() {
        let file = format!("new/{{{number}}}.mp4");
        let words = [job.timestamps.as_str(), job.edges.as_str(), job.timeline.as_str()];
        let mut arguments = vec!["-o", &file, "--time-zone", "Europe/Berlin"];
        arguments.extend(["--from", "2024-03-01 01:00:01", "--to", "2024-03-01 01:01:24"]);
        arguments.extend(["--timestamps", words[0], "--edges", words[1], "--timeline", words[2]]);
        let run = clip(&scene, &arguments).expect_code(0);
        assert_eq!(run.video("clip"), fs::canonicalize(scene.folder()).expect("there").join(&file));
        expect_exact(&run, &Job { name: "clip".to_owned(), ..job }, &camera());
    }
    assert_eq!(files(&scene), ["new"]);
}

#[test]
fn a_killed_clip_is_resumed_by_the_same_command_and_fetches_nothing_twice() {
    let (scene, target) = scene_with_trigger(camera(), 700_000, Signal::KILL);
    let killed = run_aimed_at(command(&scene, &RANGE), &target);
    assert_eq!(killed.status.signal(), Some(Signal::KILL.as_raw()), "{killed:?}");
    let state = state_folder(&scene).expect("the state stays");
    assert_eq!(files(&scene), [".kvs-export"]);
    let store = Store::open_read_only(&state.join("state.db"), Arc::new(SystemClock)).expect("readable");
    let id = store.exports(0, 9).expect("exports")[0].identity.id.clone();
    let fetched = store.chunk_counts(&id).expect("counts").tally().fetched;
    drop(store);

    let before = scene.requests(Api::GetClip).len() as u64;
    let run = clip(&scene, &RANGE).expect_code(0);
    expect_exact(&run, &job(), &camera());
    let export = run.export("clip");
    assert_eq!(export["resumed_chunks"].as_u64().unwrap_or(0), fetched, "{export:#}");
    let again = scene.requests(Api::GetClip).len() as u64 - before;
    assert_eq!(again + fetched, export["chunks"]["total"].as_u64().expect("a number"));
    assert!(!scene.folder().join(".kvs-export").exists());
}

#[test]
fn a_stopped_clip_ends_with_130_keeps_its_state_and_is_resumed() {
    let (scene, target) = scene_with_trigger(camera(), 500_000, Signal::TERM);
    let stopped = Run::read(&run_aimed_at(command(&scene, &RANGE), &target)).expect_code(130);
    assert_eq!(stopped.report["outcome"], "interrupted");
    let state = state_folder(&scene).expect("the state stays");
    // Other words are another clip, with a state of its own.
    let other = clip(&scene, &["-o", "other.mp4", RANGE[0], RANGE[1], RANGE[2], RANGE[3]]).expect_code(0);
    expect_exact(&other, &job(), &camera());
    assert_eq!(state_folder(&scene), Some(state.clone()));
    // While another process has it, nothing is done to it.
    let lock = StateLock::acquire(&state.join("state.db"), &SystemClock).expect("free");
    clip(&scene, &RANGE).expect_code(4);
    drop(lock);
    expect_exact(&clip(&scene, &RANGE).expect_code(0), &job(), &camera());
    assert_eq!(state_folder(&scene), None);
}

const LAST: [&str; 4] = ["--last", "1m", "--settle", "0s"];

#[test]
fn an_unfinished_clip_of_the_last_minutes_is_resumed_with_the_range_it_had() {
    let steady = Camera::steady("gate");
    let (scene, target) = scene_with_trigger(steady.clone(), 100_000, Signal::KILL);
    let killed = run_aimed_at(command(&scene, &LAST), &target);
    assert_eq!(killed.status.signal(), Some(Signal::KILL.as_raw()), "{killed:?}");
    // The same command, begun a quarter of an hour ago.
    let state = state_folder(&scene).expect("the state stays").join("state.db");
    let earlier = SystemClock.now() - 15 * 60_000;
    let spec = {
        let words = ClipWords {
            stream: "gate",
            range: ClipRange::Last("1m"),
            output: None,
            time_zone: None,
            timestamps: TimestampKind::Server,
            edges: Edges::Cover,
            timeline: Timeline::Compact,
            settle: "0s",
            aws: AwsSettings::default(),
        };
        let folder = fs::canonicalize(scene.folder()).expect("there");
        let file = job::clip(&words, &folder).expect("accepted");
        file.resolve(earlier, &[]).expect("resolved").remove(0).spec
    };
    let arn = {
        let store = Store::open_read_only(&state, Arc::new(SystemClock)).expect("readable");
        let arn: StreamArn = store.exports(0, 9).expect("exports")[0].stream_arn.clone();
        arn
    };
    let folder = state.parent().expect("a folder");
    fs::remove_dir_all(folder).expect("removed");
    fs::create_dir(folder).expect("made");
    let mut store = Store::open(&state, Arc::new(SystemClock)).expect("made");
    let windows = plan::windows(spec.range, spec.edges);
    store.insert_exports([NewExport { stream: &arn, spec: &spec, windows }]).expect("stored");
    drop(store);

    let run = clip(&scene, &LAST).expect_code(0);
    let job = Job::new("clip", "gate", spec.range);
    expect_exact(&run, &job, &steady);
    assert_eq!(run.report["exports"].as_array().map(Vec::len), Some(1), "only that: {:#}", run.report);
    assert_eq!(run.video("clip"), spec.output);
    assert_eq!(state_folder(&scene), None);
    // Now it is finished, the words mean the last minute again.
    let next = clip(&scene, &LAST).expect_code(0);
    assert_ne!(next.video("clip"), spec.output);
}

#[test]
fn the_same_clip_again_is_already_done_and_asks_the_archive_nothing() {
    let scene = scene();
    let first = clip(&scene, &RANGE).expect_code(0);
    let asked = scene.log().len();
    let again = clip(&scene, &RANGE).expect_code(0);
    assert_eq!(scene.log().len(), asked);
    let (before, after) = (first.export("clip"), again.export("clip"));
    assert_eq!((&before["already"], &after["already"]), (&false.into(), &true.into()));
    for key in [
        "id",
        "from",
        "to",
        "status",
        "output",
        "manifest",
        "chunks",
        "fragments",
        "bytes",
        "media_ms",
        "gaps",
    ] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(state_folder(&scene), None);
    // The same name in another region is another stream's.
    let mut elsewhere = command(&scene, &RANGE);
    let elsewhere = Run::read(&elsewhere.args(["--region", "eu-west-1"]).output().expect("it starts"));
    assert_ne!(elsewhere.code, Some(0));

    let video = first.video("clip");
    let mut bytes = fs::read(&video).expect("read");
    bytes[1_000] ^= 1;
    fs::write(&video, &bytes).expect("written");
    let refused = clip(&scene, &RANGE).expect_code(2);
    assert!(refused.stderr.contains("kvs-export verify"), "{}", refused.stderr);
    assert_eq!(fs::read(&video).expect("read"), bytes);
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let scene = scene();
    for there in ["door.mp4", "door-part1.mp4", "door.manifest.json", "door.sha256"] {
        fs::write(scene.folder().join(there), b"somebody else's").expect("written");
        let run = clip(&scene, &[&RANGE[..], &["-o", "door.mp4"]].concat()).expect_code(2);
        assert!(run.stderr.contains(there) && run.stderr.contains("never overwritten"), "{}", run.stderr);
        assert_eq!(run.report["outcome"], "usage");
        assert_eq!(files(&scene), [there]);
        assert_eq!(fs::read(scene.folder().join(there)).expect("read"), b"somebody else's");
        fs::remove_file(scene.folder().join(there)).expect("removed");
    }
    // Another range under the name of a clip that is done.
    clip(&scene, &[&RANGE[..], &["-o", "door.mp4"]].concat()).expect_code(0);
    let other = ["--from", "2024-03-01T00:00:02Z", "--to", "2024-03-01T00:00:24Z", "-o", "door.mp4"];
    let run = clip(&scene, &other).expect_code(2);
    assert!(run.stderr.contains("never overwritten"), "{}", run.stderr);
    assert!(scene.requests(Api::DescribeStream).len() == 1, "nothing was asked for the refused ones");
}

#[test]
fn a_range_without_media_and_one_with_a_refused_fragment_are_final() {
    let range = TimeRange::new(UtcMillis::new(1_709_251_200_000), UtcMillis::new(1_709_251_290_000));
    let fragments = camera().fragments(range.expect("a range"), TimestampKind::Server);
    let fault = Fault::RefuseFragment(fragments[6].number.clone());
    let scene = Scene::new(EmulatorConfig {
        faults: vec![FaultRule::always(Api::GetClip, fault)],
        ..EmulatorConfig::with_cameras([camera()])
    });
    let run = clip(&scene, &RANGE).expect_code(3);
    assert_eq!((run.status("clip"), state_folder(&scene)), ("partial", None));
    assert_eq!(clip(&scene, &RANGE).expect_code(0).status("clip"), "partial");

    let empty = ["--from", "2024-03-01T00:00:10.500Z", "--to", "2024-03-01T00:00:13Z", "-o", "none.mp4"];
    let run = clip(&scene, &empty).expect_code(0);
    assert_eq!((run.status("clip"), state_folder(&scene)), ("empty", None));
    assert!(scene.folder().join("none.sha256").exists() && !scene.folder().join("none.mp4").exists());
    assert_eq!(clip(&scene, &empty).expect_code(0).status("clip"), "empty");
}

#[test]
fn a_clip_that_failed_keeps_its_state_and_one_that_could_not_begin_leaves_none() {
    let scene = Scene::new(EmulatorConfig {
        faults: vec![FaultRule::always(Api::GetClip, Fault::AccessDenied)],
        ..EmulatorConfig::with_cameras([camera()])
    });
    let run = clip(&scene, &RANGE);
    assert!(matches!(run.code, Some(3 | 5)), "{run:?}");
    assert!(state_folder(&scene).is_some_and(|folder| folder.join("state.db").exists()), "{run:?}");

    let scene = self::scene();
    let mut command = scene.program();
    command.args(["--format", "json", "clip", "nobody", "--region", "us-west-2"]);
    command.args(["--endpoint-url", &scene.endpoint()]).args(RANGE);
    let run = Run::read(&command.output().expect("the binary starts"));
    assert_eq!((run.code, run.status("clip")), (Some(3), "failed"), "{}", run.stderr);
    assert_eq!(files(&scene), Vec::<String>::new());
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_option() {
    let scene = scene();
    for (arguments, option) in [
        (
            &["--from", "2024-03-01 00:00", "--to", "2024-03-01T00:01:00Z"][..],
            "--from: a local time needs --time-zone",
        ),
        (
            &["--from", "yesterday", "--to", "now", "--time-zone", "Europe/Berln"][..],
            "did you mean \"Europe/Berlin\"?",
        ),
        (&["--from", "2024-03-01T00:01:00Z", "--to", "2024-03-01T00:00:00Z"][..], "--to: "),
        (&["--from", "now", "--to", "2999-01-01T00:00:00Z"][..], "--to: "),
        (&["--last", "5"][..], "--last: "),
        (&["--last", "5m", "-o", "x.mkv"][..], "--output: "),
        (&["--last", "5m", "--settle", "later"][..], "--settle: "),
        (
            &["--last", "5m", "--emulator", "-o", "../x.mp4"][..],
            "with --emulator everything is written below",
        ),
    ] {
        let run = clip(&scene, arguments).expect_code(2);
        assert!(run.stderr.contains(option), "{option}: {}", run.stderr);
        assert_eq!(run.report["outcome"], "usage");
    }
    assert!(scene.log().is_empty() && files(&scene).is_empty());
}

#[test]
fn a_trial_needs_no_aws_and_stays_in_its_folder() {
    let scene = scene();
    let arguments = ["--from", "2025-03-03T08:00:00Z", "--to", "2025-03-03T08:00:04Z", "--emulator"];
    let run = clip(&scene, &arguments).expect_code(0);
    assert!(scene.log().is_empty(), "the scene's emulator is not asked");
    assert_eq!(files(&scene), ["demo"]);
    assert!(run.video("clip").starts_with(fs::canonicalize(scene.folder()).expect("there").join("demo")));
    assert!(!Path::new(&run.video("clip")).parent().expect("a folder").join(".kvs-export").exists());
    assert_eq!(clip(&scene, &arguments).expect_code(0).export("clip")["already"], true);
}
