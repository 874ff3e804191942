//! What the watcher of a run sees, from the real program: the notified command, quiet, progress as events, and the
//! first line of `status`.

#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use kvs_export::clock::SystemClock;
use kvs_export::emulator::{Api, Camera, EmulatorConfig};
use kvs_export::store::StateLock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::after_midnight;
use support::scene::{Job, Scene};

/// Notes the environment that it is given, and a copy of the report.
const TELL: &str = "#!/bin/sh
cd \"$(dirname \"$0\")\"
echo \"$KVS_EXPORT_OUTCOME $KVS_EXPORT_EXIT_CODE $KVS_EXPORT_REPORT\" >> told
if [ -n \"$KVS_EXPORT_REPORT\" ]; then cp \"$KVS_EXPORT_REPORT\" report.json; fi
echo on its way \"$@\"
";

struct Place {
    scene: Scene,
}

/// What the command was told.
struct Told {
    outcome: String,
    exit_code: i32,
    report: Option<PathBuf>,
}

impl Place {
    fn new(config: EmulatorConfig) -> Self {
        let place = Self { scene: Scene::new(config) };
        place.script(TELL);
        place.jobs("[notify]\ncommand = [\"./tell.sh\", \"now\"]");
        place
    }

    fn script(&self, text: &str) {
        let path = self.scene.folder().join("tell.sh");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// Two cameras; `more` are tables before the jobs.
    fn jobs(&self, more: &str) {
        let job = |stream: &str| Job::new(stream, stream, after_midnight(0, 20_000));
        self.scene.write_jobs(&format!("attempts = 2\n{more}"), &[job("gate"), job("yard")]);
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.scene.job_file()).expect("read");
        assert!(text.contains(from), "{text}");
        fs::write(self.scene.job_file(), text.replace(from, to)).expect("written");
    }

    /// The program with these arguments, in the environment of the scene.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scene.program();
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it starts")
    }

    /// What the command was told, in the order of the runs.
    fn told(&self) -> Vec<Told> {
        let told = fs::read_to_string(self.scene.folder().join("told")).unwrap_or_default();
        let of = |line: &str| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let mut next = || words.next().expect("three words");
            let (outcome, exit_code) = (next(), next().parse().expect("a code"));
            Told {
                outcome,
                exit_code,
                report: Some(next()).filter(|path| !path.is_empty()).map(PathBuf::from),
            }
        };
        told.lines().map(of).collect()
    }

    /// Panics unless the last run told its command that outcome, with a report that says the same.
    fn assert_told(&self, output: &Output, outcome: &str, exit_code: i32) {
        let stderr = text(&output.stderr);
        let told = self.told().pop().unwrap_or_else(|| panic!("nobody was told\n{stderr}"));
        assert_eq!((told.outcome.as_str(), told.exit_code), (outcome, exit_code), "{stderr}");
        assert_eq!(output.status.code(), Some(exit_code), "{stderr}");
        assert!(told.report.is_some_and(|report| report.is_absolute()), "{stderr}");
        let report = fs::read(self.scene.folder().join("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        assert_eq!((&report["schema"], &report["outcome"]), (&"kvs-export/run/1".into(), &outcome.into()));
    }
}

fn archive() -> EmulatorConfig {
    EmulatorConfig::with_cameras([Camera::steady("gate"), Camera::steady("yard")])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(child: &Child) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("an id");
    kill_process(id, Signal::INT).expect("it is there");
}

/// Waits until a file is there, or the program has ended without it.
fn wait_for(child: &mut Child, path: &std::path::Path) {
    while !path.exists() {
        assert!(child.try_wait().expect("waited").is_none(), "it ended before {}", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn after_every_run_that_read_its_job_file_the_command_is_told_how_it_ended() {
    let denied = [("yard".to_owned(), Api::GetClip)].into();
    let place = Place::new(EmulatorConfig { denied, ..archive() });

    let output = place.run(&["run", "jobs.toml"]);
    place.assert_told(&output, "incomplete", 3);
    assert!(text(&output.stderr).contains("notify: on its way now\n"), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("on its way"));

    let output = place.run(&["run", "jobs.toml", "--job", "gate"]);
    place.assert_told(&output, "done", 0);

    let lock = StateLock::acquire(&place.scene.state(), &SystemClock).expect("free");
    let before = fs::read(place.scene.state().with_extension("last-run.json")).expect("the report before");
    let output = place.run(&["run", "jobs.toml"]);
    place.assert_told(&output, "locked", 4);
    let after = fs::read(place.scene.state().with_extension("last-run.json")).expect("the report before");
    assert_eq!(before, after, "the report of the run that goes on stays");
    drop(lock);

    place.edit("name = \"yard\"", "nmae = \"yard\"");
    let output = place.run(&["run", "jobs.toml"]);
    place.assert_told(&output, "usage", 2);
    assert_eq!(place.told().len(), 4);
}

#[test]
fn a_report_that_cannot_be_written_is_told_and_the_command_runs_without_it() {
    let place = Place::new(archive());
    fs::write(place.scene.folder().join("held"), "a file").expect("written");
    place.edit("\"state.db\"", "\"held/state.db\"");
    let output = place
        .command(&["run", "jobs.toml"])
        .env("KVS_EXPORT_REPORT", "/of/another/run.json")
        .output()
        .expect("it starts");
    let told = place.told().pop().expect("told");
    assert_eq!((told.outcome.as_str(), told.exit_code, told.report), ("usage", 2, None));
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("warning: the report for the [notify] command cannot be written: "), "{stderr}");
}

#[test]
fn an_interrupted_run_tells_its_command_and_a_second_signal_ends_that() {
    let place = Place::new(archive());
    place.script(&format!("{TELL}touch started\nexec sleep 1000\n"));
    let mut child = place.command(&["run", "jobs.toml"]);
    // A run that is not alone in its group is not reached by a signal for the test.
    let mut child =
        child.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for(&mut child, &place.scene.state());
    signal(&child);
    wait_for(&mut child, &place.scene.folder().join("started"));
    signal(&child);
    let output = child.wait_with_output().expect("it ends");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("tell.sh was killed: interrupted\n"), "{stderr}");
    place.assert_told(&output, "interrupted", 130);
}

#[test]
fn a_command_that_fails_changes_no_exit_code() {
    let place = Place::new(archive());
    place.script(&format!("{TELL}exit 7\n"));
    let output = place.run(&["run", "jobs.toml", "-q"]);
    place.assert_told(&output, "done", 0);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("notify: on its way now\n") && stderr.contains("ended with exit code 7\n"),
        "{stderr}"
    );
}

#[test]
fn quiet_prints_nothing_on_success_and_the_errors_of_a_failure() {
    let denied = [("yard".to_owned(), Api::GetClip)].into();
    let place = Place::new(EmulatorConfig { denied, ..archive() });
    let output = place.run(&["run", "-q", "jobs.toml", "--job", "gate"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
    assert_eq!((output.status.code(), place.told().len()), (Some(0), 1));

    let output = place.run(&["run", "-q", "--format", "json", "jobs.toml", "--job", "gate"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!((report["outcome"].as_str(), text(&output.stderr)), (Some("done"), String::new()));

    let output = place.run(&["run", "-q", "jobs.toml", "--state", "another.db"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("kinesisvideo:GetClip"), "{}", text(&output.stderr));
}

#[test]
fn progress_as_json_is_an_event_a_line_from_the_begin_to_the_end() {
    let place = Place::new(archive());
    let output = place.run(&["run", "jobs.toml", "--progress", "json", "-vv"]);
    let stderr = text(&output.stderr);
    let lines: Vec<Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let (events, logs): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.get("schema").is_some());
    assert!(logs.iter().all(|line| line["level"].is_string() && line["target"].is_string()), "{stderr}");
    let clips = logs.iter().filter(|line| line["api"] == "GetClip");
    assert!(
        clips.clone().count() > 1 && clips.clone().all(|line| line["request_id"].is_string()),
        "{stderr}"
    );
    let names: Vec<_> = events.iter().map(|line| line["event"].as_str().unwrap_or_default()).collect();
    assert_eq!((names[0], names[1]), ("began", "run_started"), "{stderr}");
    assert_eq!(
        (&events[0]["version"], &events[1]["exports"]),
        (&env!("CARGO_PKG_VERSION").into(), &2.into())
    );
    assert_eq!(names[names.len() - 3..], ["totals", "ended", "notify_output"], "{stderr}");
    let totals = &events[names.len() - 3];
    assert!(totals["planned_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{totals}");
    assert_eq!(totals["planned_bytes"], totals["fetched_bytes"]);
    assert_eq!((&totals["exports_finished"], &totals["planned_all"]), (&2.into(), &true.into()));

    let refused = place.run(&["run", "nowhere.toml", "--progress", "json"]);
    let error: Value = serde_json::from_slice(&refused.stderr).expect("one event");
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &2.into()));
    let refused = place.run(&["run", "--progress", "json", "--unknown"]);
    let error: Value = serde_json::from_slice(&refused.stderr).expect("one event");
    assert_eq!((&error["event"], &error["outcome"]), (&"error".into(), &"usage".into()));
}

#[test]
fn lines_hold_no_control_character_and_every_milestone() {
    let place = Place::new(archive());
    let stderr = text(&place.run(&["run", "jobs.toml", "--progress", "bars"]).stderr);
    assert!(!stderr.contains('\u{1b}') && !stderr.contains('\r'), "{stderr:?}");
    for milestone in [": started, up to ", ": merging ", ": done\n"] {
        assert_eq!(stderr.matches(milestone).count(), 2, "{milestone}: {stderr}");
    }
}

#[test]
fn the_first_line_of_status_answers_whether_last_night_worked() {
    let denied = [("yard".to_owned(), Api::GetClip)].into();
    let place = Place::new(EmulatorConfig { denied, ..archive() });
    let first = |arguments: &[&str]| {
        let output = place.run(arguments);
        (text(&output.stdout).lines().next().unwrap_or_default().to_owned(), output.status.code())
    };
    let status = ["status", "jobs.toml"];
    assert_eq!(first(&status), ("NEVER RUN: no run is recorded, no exports".to_owned(), Some(0)));
    place.run(&["run", "jobs.toml", "--job", "gate"]);
    let (good, code) = first(&status);
    assert!(
        good.starts_with("OK: last run ") && good.ends_with(" UTC finished: 1 export done, 0 failed"),
        "{good}"
    );
    assert_eq!(code, Some(0));
    place.run(&["run", "jobs.toml"]);
    let (line, _) = first(&status);
    assert!(line.starts_with("NOT OK: 1 of 2 exports failed; last run "), "{line}");
    assert!(line.contains(" ended auth (exit 5): the credentials may read none"), "{line}");
    place.run(&["run", "jobs.toml", "--job", "gate"]);
    let (line, _) = first(&status);
    assert!(line.starts_with("NOT OK: 1 of 2 exports failed; last run "), "a good run of one job: {line}");
    assert!(line.ends_with(" ended done (exit 0)"), "{line}");
    let json = place.run(&["status", "jobs.toml", "--format", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("a document");
    assert_eq!((&json["ok"], json["answer"].as_str()), (&false.into(), Some(line.as_str())));
    let elsewhere = ["--state", "elsewhere/state.db"];
    place.run(&[&["run", "jobs.toml", "--job", "gate"], &elsewhere[..]].concat());
    let (line, _) = first(&[&status, &elsewhere[..]].concat());
    assert!(line.starts_with("NOT OK: last run "), "{line}");
    assert!(line.contains("1 export could not be begun: job gate, stream gate: "), "{line}");
    assert!(line.contains("gate.mp4 is already there"), "{line}");
    let (line, code) = first(&["status", "--state", "nowhere.db"]);
    assert!(line.starts_with("UNKNOWN: ") && code == Some(2), "{line} {code:?}");
}
