//! Runs on other days and of edited job files: what is resumed, new, done, superseded.
//!
//! In one process with an injected clock, against the emulator through the real AWS SDK.

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "support/place.rs"]
mod place;

use std::sync::Arc;

use kvs_export::emulator::Camera;
use kvs_export::model::report::{ExportStatus, Outcome, RunReport};
use kvs_export::model::{TimeRange, UtcMillis};
use kvs_export::store::Store;

use place::{DAY, HOUR, MINUTE, Place, Service, TUESDAY, only_export};

/// A night that is over three minutes after midnight.
const NIGHT: &str = r#"
[[job]]
name = "night"
streams = ["gate"]
time_zone = "UTC"
from = "yesterday 23:59"
to = "today 00:01"
output = "out/{from:%Y-%m-%d}.mp4"
"#;

/// The last two minutes, whenever they are.
const LATEST: &str = r#"
[[job]]
name = "latest"
streams = ["gate"]
last = "2m"
settle = "0s"
output = "out/{from:%H%M}.mp4"
"#;

fn statuses(report: &RunReport) -> Vec<ExportStatus> {
    report.exports.iter().map(|export| export.status).collect()
}

#[test]
fn last_nights_unfinished_export_is_finished_after_midnight_though_tonight_is_not_over() {
    let place = Place::new();
    let (failed, _) = place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::NoClips);
    assert_eq!(statuses(&failed), [ExportStatus::Failed]);
    let (after, _) = place.run(NIGHT, TUESDAY + DAY + MINUTE / 2, Service::Good);
    assert_eq!(statuses(&after), [ExportStatus::Done, ExportStatus::Pending], "{after:#?}");
    assert_eq!(after.outcome, Outcome::Done);
    assert_eq!(place.videos(), ["2024-03-04.mp4"]);
    let (next, _) = place.run(NIGHT, TUESDAY + DAY + 3 * MINUTE, Service::Good);
    assert_eq!(statuses(&next), [ExportStatus::Done]);
    assert_eq!(place.videos(), ["2024-03-04.mp4", "2024-03-05.mp4"]);
}

#[test]
fn a_night_that_failed_is_finished_together_with_the_next_one() {
    let place = Place::new();
    place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::NoClips);
    let (both, _) = place.run(NIGHT, TUESDAY + DAY + 3 * MINUTE, Service::Good);
    assert_eq!(statuses(&both), [ExportStatus::Done, ExportStatus::Done]);
    assert_eq!(place.videos(), ["2024-03-04.mp4", "2024-03-05.mp4"]);
}

#[test]
fn the_latest_minutes_are_resolved_anew_only_when_the_unfinished_ones_are_done() {
    let place = Place::new();
    place.run(LATEST, TUESDAY + HOUR + MINUTE / 2, Service::NoClips);
    let (resumed, _) = place.run(LATEST, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&resumed).from, UtcMillis::new(TUESDAY + HOUR - 2 * MINUTE));
    assert_eq!(place.videos(), ["0058.mp4"]);
    let (new, _) = place.run(LATEST, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&new).from, UtcMillis::new(TUESDAY + 2 * HOUR - 2 * MINUTE));
    assert_eq!(place.videos(), ["0058.mp4", "0158.mp4"]);
}

/// A gap in the two minutes before one o'clock.
fn with_a_gap() -> Camera {
    let gap = |minutes: i64| UtcMillis::new(TUESDAY + HOUR) - minutes * MINUTE;
    let range = TimeRange::new(gap(2) + 30_000, gap(1)).expect("a range");
    Camera::steady("gate").gap(range)
}

#[test]
fn an_export_that_its_gaps_have_failed_does_not_keep_later_ones_from_their_turn() {
    let place = Place::of(with_a_gap());
    let strict = format!("{LATEST}gaps = \"fail\"\n");
    let (failed, _) = place.run(&strict, TUESDAY + HOUR + MINUTE / 2, Service::Good);
    let error = only_export(&failed).error.as_deref().expect("an error");
    assert!(error.contains("gaps = \"fail\""), "{error}");
    let (later, _) = place.run(&strict, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(statuses(&later), [ExportStatus::Done], "{later:#?}");
    assert_eq!(place.videos(), ["0158.mp4"]);
    // Who accepts gaps after all gets the earlier one too.
    let (accepted, _) = place.run(LATEST, TUESDAY + 3 * HOUR + MINUTE / 2, Service::Good);
    assert_eq!(only_export(&accepted).status, ExportStatus::Done);
    assert_eq!(place.videos(), ["0058.mp4", "0158.mp4"]);
}

#[test]
fn an_edited_setting_supersedes_the_unfinished_export_and_takes_its_path() {
    for only in [&[] as &[&str], &["night"]] {
        let place = Place::new();
        let now = TUESDAY + 3 * MINUTE;
        place.run(NIGHT, now, Service::NoClips);
        let edited = format!("{NIGHT}timeline = \"wallclock\"\n");
        let (done, _) = place.run_only(&edited, only, now, Service::Good);
        assert_eq!(only_export(&done).status, ExportStatus::Done, "{done:#?}");
        assert_eq!(place.videos(), ["2024-03-04.mp4"]);
        let superseded: Vec<bool> = place.records().iter().map(|record| record.superseded).collect();
        assert_eq!(superseded, [true, false]);
    }
}

#[test]
fn a_job_that_is_not_run_is_not_superseded() {
    let place = Place::new();
    let now = TUESDAY + 3 * MINUTE;
    let other = NIGHT.replace("\"night\"", "\"other\"").replace("out/", "out/other-");
    let both = format!("{NIGHT}{other}");
    place.run(&both, now, Service::NoClips);
    let (one, _) = place.run_only(&both, &["other"], now, Service::Good);
    assert_eq!(only_export(&one).job, "other");
    let (rest, _) = place.run(&both, now, Service::Good);
    assert_eq!(statuses(&rest), [ExportStatus::Done, ExportStatus::Done]);
    assert_eq!(rest.exports.iter().map(|export| export.already).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_renamed_job_and_a_changed_path_fetch_nothing_again() {
    let place = Place::new();
    let now = TUESDAY + 3 * MINUTE;
    place.run(NIGHT, now, Service::Good);
    let renamed = NIGHT.replace("\"night\"", "\"evidence\"");
    let moved = NIGHT.replace("out/", "elsewhere/");
    for edited in [renamed, moved] {
        let (report, clips) = place.run(&edited, now, Service::Good);
        let export = only_export(&report);
        assert!(export.already && export.status == ExportStatus::Done && clips == 0, "{report:#?}");
        assert!(export.output[0].ends_with("out/2024-03-04.mp4"), "{:?}", export.output);
    }
    assert!(!place.folder.path().join("elsewhere").exists());
}

#[test]
fn exports_that_fail_at_once_leave_the_others_their_turn() {
    let place = Place { requests_in_flight: 1, ..Place::of(with_a_gap()) };
    let job = |name: &str, from: i64, more: &str| {
        let from = UtcMillis::new(from);
        format!(
            "\n[[job]]\nname = \"{name}\"\nstreams = [\"gate\"]\nfrom = {from}\nto = {}\n\
             output = \"out/{name}.mp4\"\n{more}\n",
            from + MINUTE
        )
    };
    let mut jobs = String::new();
    for number in 0..6 {
        let from = TUESDAY + HOUR - 2 * MINUTE + number * 1_000;
        jobs += &job(&format!("strict-{number}"), from, "gaps = \"fail\"");
    }
    place.run(&jobs, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    // A later range expires later, so its turn comes last.
    jobs += &job("good", TUESDAY + HOUR, "");
    let (report, _) = place.run(&jobs, TUESDAY + 2 * HOUR + MINUTE / 2, Service::Good);
    let mut expected = vec![ExportStatus::Failed; 6];
    expected.push(ExportStatus::Done);
    assert_eq!(statuses(&report), expected, "{report:#?}");
}

#[test]
fn a_run_that_cannot_begin_is_the_last_run() {
    let place = Place::new();
    place.run(NIGHT, TUESDAY + 3 * MINUTE, Service::Good);
    let state = place.folder.path().join(".kvs-export/jobs/state.db");
    let mut store = Store::open(&state, Arc::new(kvs_export::clock::SystemClock)).expect("the state");
    let refused = RunReport::refused(Outcome::Auth, "no usable AWS credentials".to_owned());
    kvs_export::run::record_refused(&mut store, None, &refused);
    let last = store.last_run().expect("a query").expect("a run");
    assert_eq!((last.outcome.as_deref(), last.exit_code), (Some("auth"), Some(5)));
}
