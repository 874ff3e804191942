//! The job files in examples/: right, and exported from an archive.

use std::path::Path;
use std::process::Command;

use kvs_export::job::{self, JobSource, Resolved};
use kvs_export::model::{Timeline, TimestampKind, UtcMillis};
use serde_json::Value;

use crate::stage::Stage;
use crate::{checkout, text_of};

/// A day when all of them are over.
const LATER: &str = "2026-05-05T20:00:00Z";

fn resolved(example: &str) -> Vec<Resolved> {
    let text = text_of(&format!("examples/{example}"));
    let now: jiff::Timestamp = LATER.parse().expect("a time");
    let source = JobSource { text: &text, file: &Path::new("/srv/jobs").join(example), display: example };
    let (_, exports) = job::load(source, UtcMillis::new(now.as_millisecond()), &[])
        .unwrap_or_else(|errors| panic!("{errors}"));
    exports
}

fn outputs(exports: &[Resolved]) -> Vec<&str> {
    exports.iter().map(|export| export.spec.output.to_str().expect("text")).collect()
}

/// Runs an example in a folder of its own, with the changes that make it short.
fn run(example: &str, changes: &[(&str, &str)]) -> (Stage, Value) {
    let stage = Stage::with_archive();
    let mut text = text_of(&format!("examples/{example}"));
    for (from, to) in changes {
        assert!(text.contains(from), "{example} has no {from}");
        text = text.replace(from, to);
    }
    stage.write(
        example,
        &text.replace("/var/lib/kvs-export", &stage.folder().join("var").display().to_string()),
    );
    stage.without_min_free(example);
    std::fs::copy(checkout("examples/tell.sh"), stage.folder().join("tell.sh")).expect("copied");
    let output = stage.program(&["run", example, "--format", "json", "--progress", "none"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{report:#}");
    (stage, report)
}

#[test]
fn nightly_evidence_is_named_by_the_clocks_on_site() {
    let exports = resolved("nightly-evidence.toml");
    assert_eq!(
        outputs(&exports),
        ["front-gate", "loading-dock"].map(|stream| format!(
            "/srv/jobs/evidence/2026-0042/{stream}/2026-05-04/{stream}_2026-05-04_1800-0700_2026-05-05_0600-0700.mp4"
        ))
    );
    assert!(exports.iter().all(|export| export.spec.operator.is_some() && export.spec.note.is_some()));
}

#[test]
fn nightly_evidence_runs_and_keeps_its_state_elsewhere() {
    let short = [("\"yesterday 18:00\"", "\"yesterday 03:00\""), ("\"today 06:00\"", "\"yesterday 03:30\"")];
    let (stage, report) = run("nightly-evidence.toml", &short);
    assert_eq!(report["totals"]["done"], 2, "{report:#}");
    assert!(stage.folder().join("var/nightly-evidence/state.db").exists());
    assert!(!stage.folder().join(".kvs-export").exists());
}

#[test]
fn an_incident_is_one_video_a_camera_and_pass_at_the_times_on_site() {
    let exports = resolved("incident.toml");
    assert_eq!(outputs(&exports).len(), 5);
    assert!(exports.iter().all(|export| export.spec.timestamps == TimestampKind::Producer
        && export.spec.timeline == Timeline::Wallclock
        && export.spec.keep_chunks));
    let (stage, report) = run("incident.toml", &[]);
    assert_eq!(report["totals"]["done"], 5, "{report:#}");
    let verified = stage.program(&["verify", "evidence"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn a_backfill_of_a_fleet_is_one_video_a_camera_and_day() {
    // Of the prefix nothing is known here.
    let exports = resolved("fleet-backfill.toml");
    let hours: Vec<i64> = exports.iter().map(|export| export.spec.range.length_ms() / 3_600_000).collect();
    assert_eq!((hours.len(), hours.iter().sum::<i64>(), hours[8]), (30, 30 * 24 - 1, 23));
    assert_eq!(outputs(&exports)[8], "/srv/jobs/backfill/front-gate/2025-03/front-gate_2025-03-09.mp4");
    let short =
        [("2025-03-31T00:00:00", "2025-03-02T00:10:00"), ("2025-03-01T00:00:00", "2025-03-01T23:50:00")];
    let (stage, report) = run("fleet-backfill.toml", &short);
    let mut names: Vec<String> = Vec::new();
    for export in report["exports"].as_array().expect("exports") {
        let path = export["output"][0].as_str().expect("a video");
        assert_eq!(export["status"], "done", "{report:#}");
        names.push(path.rsplit('/').next().unwrap_or_default().to_owned());
    }
    names.sort();
    let of = |stream: &str| ["01", "02"].map(|day| format!("{stream}_2025-03-{day}.mp4"));
    assert_eq!(names, [of("front-gate"), of("yard-1"), of("yard-2")].concat());
    assert!(stage.folder().join("var/fleet-backfill/state.db").exists());
}

#[test]
fn tell_speaks_only_of_what_is_not_done() {
    let said = |outcome: &str, code: &str| {
        let mut command = Command::new(checkout("examples/tell.sh"));
        let told = command
            .env_remove("TELL_URL")
            .env("KVS_EXPORT_OUTCOME", outcome)
            .env("KVS_EXPORT_EXIT_CODE", code);
        let output = told.env("KVS_EXPORT_REPORT", "/srv/x.json").output().expect("it starts");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(said("done", "0"), "");
    assert_eq!(said("incomplete", "3"), "kvs-export: incomplete (exit code 3); report: /srv/x.json\n");
}

#[test]
fn every_example_has_a_test() {
    let mut found: Vec<String> = std::fs::read_dir(checkout("examples"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    assert_eq!(found, ["fleet-backfill.toml", "incident.toml", "nightly-evidence.toml"]);
}
