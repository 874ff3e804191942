//! `init` and `completions`, from outside.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::stage::Stage;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[track_caller]
fn ends_with(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn what_init_writes_is_right_and_runs_without_aws() {
    let stage = Stage::empty();
    ends_with(&stage.program(&["init", "cameras/first.toml", "--time-zone", "Europe/Berlin"]), 0);
    let mode =
        stage.folder().join("cameras/first.toml").metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    stage.without_min_free("cameras/first.toml");
    let validated = stage.program(&["validate", "cameras/first.toml", "--no-aws"]);
    ends_with(&validated, 0);
    assert!(text(&validated.stdout).contains("no problem"), "{}", text(&validated.stdout));
    let run =
        stage.program(&["run", "cameras/first.toml", "--emulator", "--format", "json", "--progress", "none"]);
    ends_with(&run, 0);
    let report: Value = serde_json::from_slice(&run.stdout).expect("one document");
    let export = &report["exports"][0];
    assert_eq!((&export["job"], &export["status"]), (&"first-try".into(), &"done".into()), "{report:#}");
    assert!(export["media_ms"].as_u64().is_some_and(|ms| ms >= 900_000), "{report:#}");
}

#[test]
fn init_never_overwrites_a_file() {
    let stage = Stage::empty();
    stage.write("jobs.toml", "mine");
    std::os::unix::fs::symlink("nowhere", stage.folder().join("link.toml")).expect("a link");
    for file in ["jobs.toml", "link.toml"] {
        let refused = stage.program(&["init", file, "--format", "json"]);
        ends_with(&refused, 2);
        let said = text(&refused.stderr);
        assert!(said.contains("never overwritten") && said.contains("hint: name another file"), "{said}");
        let report: Value = serde_json::from_slice(&refused.stdout).expect("one document");
        assert_eq!((&report["schema"], &report["file"]), (&"kvs-export/init/1".into(), &Value::Null));
        assert!(report["error"].as_str().is_some_and(|error| error.contains(file)), "{report:#}");
    }
    assert_eq!(stage.read("jobs.toml"), "mine");
    assert_eq!(stage.files(), ["jobs.toml", "link.toml"]);
}

#[test]
fn init_tells_the_file_that_it_wrote() {
    let stage = Stage::empty();
    let report = stage.program(&["init", "--format", "json"]);
    ends_with(&report, 0);
    let report: Value = serde_json::from_slice(&report.stdout).expect("one document");
    let file = stage.folder().join("jobs.toml");
    assert_eq!((report["file"].as_str(), &report["error"]), (file.to_str(), &Value::Null));
}

#[test]
fn init_prints_what_it_would_write_whatever_the_format() {
    let stage = Stage::empty();
    let printed = stage.program(&["init", "-", "--stream", "gate", "--format", "json"]);
    ends_with(&printed, 0);
    assert!(stage.files().is_empty());
    ends_with(&stage.program(&["init", "--stream", "gate"]), 0);
    assert_eq!(stage.read("jobs.toml"), text(&printed.stdout));
}

#[test]
fn init_takes_the_zone_of_the_machine() {
    let stage = Stage::empty();
    let zone = |tz: &str| {
        let printed = stage.command(&["init", "-"]).env("TZ", tz).output().expect("it starts");
        let text = text(&printed.stdout).to_owned();
        text.lines().find(|line| line.starts_with("time_zone")).expect("a zone").to_owned()
    };
    assert_eq!(zone("Asia/Kathmandu"), "time_zone = \"Asia/Kathmandu\"");
    assert_eq!(zone("Etc/UTC"), "time_zone = \"UTC\"");
}

/// What bash offers for the last of these words.
fn offered_by_bash(stage: &Stage, words: &[&str]) -> Vec<String> {
    // The function tells nothing by its exit code, nor cares for variables without a value.
    let script = format!(
        "eval \"$(kvs-export completions bash)\"\n\
         complete_it=$(complete -p kvs-export | sed 's/.* -F \\([^ ]*\\) .*/\\1/')\n\
         COMP_WORDS=({words}) COMP_CWORD={last}\n\
         set +eu\n\
         $complete_it kvs-export {now} {before}\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = words.join(" "),
        last = words.len() - 1,
        now = words[words.len() - 1],
        before = words[words.len() - 2],
    );
    let output = stage.shell(&script).output().expect("bash starts");
    ends_with(&output, 0);
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let stage = Stage::empty();
    assert_eq!(offered_by_bash(&stage, &["kvs-export", "val"]), ["validate"]);
    assert_eq!(offered_by_bash(&stage, &["kvs-export", "run", "--dr"]), ["--dry-run"]);
    assert_eq!(offered_by_bash(&stage, &["kvs-export", "run", "--format", "j"]), ["json"]);
}

#[test]
fn every_shells_completions_name_every_command() {
    let stage = Stage::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = stage.program(&["completions", shell, "--format", "json"]);
        ends_with(&printed, 0);
        for command in ["run", "validate", "completions"] {
            assert!(text(&printed.stdout).contains(command), "{shell}: {command}");
        }
    }
    let refused = stage.program(&["completions", "csh", "--format", "json"]);
    ends_with(&refused, 2);
    let report: Value = serde_json::from_slice(&refused.stdout).expect("one document");
    assert_eq!(report["schema"], "kvs-export/completions/1");
}

#[test]
fn shells_that_are_installed_can_read_their_completions() {
    let stage = Stage::empty();
    for (shell, check) in [("bash", "bash -n"), ("zsh", "zsh -n"), ("fish", "fish --no-execute")] {
        let is_there = Command::new(shell).arg("--version").output().is_ok();
        if shell == "bash" || is_there {
            let script = format!("kvs-export completions {shell} > completions && {check} completions");
            ends_with(&stage.shell(&script).output().expect("bash starts"), 0);
        }
    }
}
