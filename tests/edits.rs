//! What an edited job file does: each edit planned, run and looked at afterwards.
//!
//! `plan` must say before what `run` does then, `status` what became of it, and the emulator's log that nothing
//! that was fetched is fetched again.

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "support/place.rs"]
mod place;

use std::collections::BTreeSet;

use kvs_export::emulator::Camera;
use kvs_export::model::plan_report::{PlanAction, PlannedExport};
use kvs_export::model::report::{ExportReport, ExportStatus, RunReport};
use kvs_export::model::{TimeRange, UtcMillis};
use serde_json::Value;

use place::{DAY, HOUR, MINUTE, Place, Planned, Service, TUESDAY, only_export};

/// When last night is over.
const MORNING: i64 = TUESDAY + 3 * MINUTE;

/// Chunks of a night: no chunk spans a gap, of which each night has two, nor an hour.
const CHUNKS: u64 = 4;

/// A night of two minutes around midnight.
const NIGHT: &str = r#"
[[job]]
name = "night"
streams = ["gate"]
time_zone = "UTC"
from = "yesterday 23:59"
to = "today 00:01"
output = "out/{stream}-{from:%Y-%m-%d}.mp4"
"#;

/// The same night by fixed times.
const FIXED: &str = r#"
[[job]]
name = "night"
streams = ["gate"]
from = 2024-03-04T23:59:00Z
to = 2024-03-05T00:01:00Z
output = "out/{stream}-{from:%Y-%m-%d}.mp4"
"#;

/// The last two minutes, whenever they are.
const LATEST: &str = r#"
[[job]]
name = "latest"
streams = ["gate"]
last = "2m"
settle = "0s"
output = "out/{from:%Y-%m-%d}.mp4"
"#;

fn camera(name: &str) -> Camera {
    let mut camera = Camera::steady(name);
    for midnight in (0..3).map(|day| UtcMillis::new(TUESDAY + day * DAY)) {
        for at in [-40_000, 20_000] {
            let gap = TimeRange::new(midnight + at, midnight + at + 4_000).expect("a gap");
            camera = camera.gap(gap);
        }
    }
    camera
}

fn place() -> Place {
    // One request at a time: which of them fails is the same every time.
    Place { requests_in_flight: 1, ..Place::with(["gate", "yard"].map(camera)) }
}

/// A plan and the run after it.
struct Went {
    plan: Planned,
    run: RunReport,
    clips: usize,
}

/// Plans and runs; panics unless the run does what the plan says and `status` shows what both say.
#[track_caller]
fn go_only(place: &Place, jobs: &str, only: &[&str], now: i64, service: Service) -> Went {
    let plan = place.plan(jobs, only, now);
    let (run, clips) = place.run_only(jobs, only, now, service);
    let planned: Vec<&PlannedExport> =
        plan.exports.iter().filter(|export| export.action != PlanAction::Superseded).collect();
    assert_eq!(planned.len(), run.exports.len(), "{plan:#?}\n{run:#?}");
    for (planned, ran) in planned.iter().zip(&run.exports) {
        assert_eq!((&planned.job, &planned.stream), (&ran.job, &ran.stream));
        assert_eq!((planned.from, planned.to), (ran.from, ran.to));
        expect_as_planned(planned, ran, service);
    }
    if service == Service::Good {
        assert_eq!(clips as u64, plan.report.totals.calls.get_clip, "{plan:#?}");
    }
    let superseded = |plan: &Planned| -> BTreeSet<String> {
        let exports = plan.exports.iter().filter(|export| export.action == PlanAction::Superseded);
        exports.map(|export| export.id.as_ref().expect("it is known").to_string()).collect()
    };
    assert_eq!(superseded(&plan), shown_as_superseded(place));
    Went { plan, run, clips }
}

#[track_caller]
fn go(place: &Place, jobs: &str, now: i64, service: Service) -> Went {
    go_only(place, jobs, &[], now, service)
}

#[track_caller]
fn expect_as_planned(planned: &PlannedExport, ran: &ExportReport, service: Service) {
    let worked = match service {
        Service::Good => planned.error.is_none(),
        Service::OneClipFails => ran.error.is_none(),
        Service::NoClips => false,
    };
    let is_done = |expected: bool| assert_eq!(ran.status == ExportStatus::Done, expected, "{ran:#?}");
    match planned.action {
        PlanAction::New => {
            assert!(!ran.already && ran.resumed_chunks.is_none(), "{ran:#?}");
            is_done(worked);
        }
        PlanAction::Resume => {
            assert!(!ran.already && ran.id == planned.id, "{ran:#?}");
            assert_eq!(ran.resumed_chunks.unwrap_or(0), planned.chunks.fetched, "{ran:#?}");
            is_done(worked);
        }
        PlanAction::Done => assert!(ran.already && ran.id == planned.id, "{ran:#?}"),
        PlanAction::Pending => assert_eq!(ran.status, ExportStatus::Pending),
        PlanAction::Superseded | PlanAction::Redo => panic!("{planned:#?}"),
    }
}

fn shown_as_superseded(place: &Place) -> BTreeSet<String> {
    let status = place.status();
    let exports = status["exports"].as_array().expect("exports").iter();
    let superseded = exports.filter(|export| export["superseded"] == true);
    superseded.map(|export| export["id"].as_str().expect("an id").to_owned()).collect()
}

/// What a plan would do, a word for each export, with the chunks that are there of a resumed one.
fn actions(plan: &Planned) -> Vec<String> {
    let word = |export: &PlannedExport| match export.action {
        PlanAction::Resume => format!("resume {} of {}", export.chunks.fetched, export.chunks.total),
        _ if export.error.is_some() => "error".to_owned(),
        action => format!("{action:?}").to_lowercase(),
    };
    plan.exports.iter().map(word).collect()
}

fn resumed() -> String {
    format!("resume {} of {CHUNKS}", CHUNKS - 1)
}

/// A night of which one chunk could not be fetched.
fn unfinished(jobs: &str) -> Place {
    unfinished_at(jobs, MORNING)
}

fn unfinished_at(jobs: &str, now: i64) -> Place {
    let place = place();
    let went = go(&place, jobs, now, Service::OneClipFails);
    assert_eq!(only_export(&went.run).chunks.fetched, CHUNKS - 1, "{:#?}", went.run);
    place
}

fn done(jobs: &str) -> Place {
    let place = place();
    assert_eq!(only_export(&go(&place, jobs, MORNING, Service::Good).run).status, ExportStatus::Done);
    place
}

#[test]
fn a_renamed_job_goes_on_with_what_it_had() {
    let renamed = NIGHT.replace("\"night\"", "\"evidence\"");
    let place = unfinished(NIGHT);
    let went = go(&place, &renamed, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec![resumed()], 1));
    assert_eq!(place.status()["exports"][0]["job"], "evidence");
    let again = go(&place, NIGHT, MORNING, Service::Good);
    assert_eq!((actions(&again.plan), again.clips), (vec!["done".to_owned()], 0));
}

#[test]
fn a_job_that_is_renamed_and_names_its_output_begins_anew_unless_it_was_done() {
    let named = NIGHT.replace("{stream}-", "{job}-");
    let renamed = named.replace("\"night\"", "\"evidence\"");
    let place = unfinished(&named);
    assert_eq!(actions(&go(&place, &renamed, MORNING, Service::Good).plan), ["new", "superseded"]);
    let place = done(&named);
    let went = go(&place, &renamed, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned()], 0));
    assert_eq!(place.videos(), ["night-2024-03-04.mp4"]);
}

#[test]
fn a_changed_fixed_range_is_new_and_the_one_before_is_resumed_when_it_is_put_back() {
    let place = unfinished(FIXED);
    let changed = FIXED.replace("T23:59", "T23:58").replace("{from:%Y-%m-%d}", "early");
    assert_eq!(actions(&go(&place, &changed, MORNING, Service::Good).plan), ["new", "superseded"]);
    let back = FIXED.replace("\"night\"", "\"back\"");
    let went = go(&place, &format!("{changed}{back}"), MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned(), resumed()], 1));
    assert_eq!(shown_as_superseded(&place), BTreeSet::new());
    assert_eq!(place.videos(), ["gate-2024-03-04.mp4", "gate-early.mp4"]);
}

#[test]
fn a_changed_relative_range_is_new_and_last_nights_is_resumed_only_under_its_text() {
    let place = unfinished(NIGHT);
    let changed = NIGHT.replace("23:59", "23:58");
    let next = MORNING + DAY;
    let went = go(&place, &changed, next, Service::NoClips);
    assert_eq!(actions(&went.plan), ["new", "superseded"]);
    let went = go(&place, NIGHT, next, Service::Good);
    assert_eq!(actions(&went.plan), [&resumed(), "new", "superseded"]);
    assert_eq!(went.clips as u64, 1 + CHUNKS);
}

#[test]
fn a_fixed_text_for_a_relative_one_is_the_same_export() {
    let place = unfinished(NIGHT);
    let went = go(&place, FIXED, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec![resumed()], 1));
}

#[test]
fn a_changed_output_of_a_done_export_says_where_it_is_and_of_an_unfinished_one_begins_anew() {
    let moved = NIGHT.replace("out/", "elsewhere/");
    let place = done(NIGHT);
    let went = go(&place, &moved, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned()], 0));
    let there = &only_export(&went.run).output[0];
    assert!(there.ends_with("out/gate-2024-03-04.mp4") && went.plan.exports[0].output == *there);
    let place = unfinished(NIGHT);
    assert_eq!(actions(&go(&place, &moved, MORNING, Service::Good).plan), ["new", "superseded"]);
}

#[test]
fn a_done_export_whose_file_was_moved_away_is_not_fetched_again() {
    let place = done(NIGHT);
    std::fs::remove_dir_all(place.folder.path().join("out")).expect("removed");
    let went = go(&place, NIGHT, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned()], 0));
}

#[test]
fn streams_come_and_go_and_come_back() {
    let both = NIGHT.replace("[\"gate\"]", "[\"gate\", \"yard\"]");
    let yard = NIGHT.replace("[\"gate\"]", "[\"yard\"]");
    let place = unfinished(NIGHT);
    let went = go(&place, &yard, MORNING, Service::Good);
    assert_eq!(actions(&went.plan), ["new", "superseded"]);
    let went = go(&place, &both, MORNING, Service::Good);
    assert_eq!(actions(&went.plan), [&resumed(), "done"]);
    assert_eq!((went.clips, shown_as_superseded(&place).len()), (1, 0));
    let went = go(&place, NIGHT, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned()], 0));
    assert_eq!(place.videos(), ["gate-2024-03-04.mp4", "yard-2024-03-04.mp4"]);
}

/// Each setting that decides the content, as a change of the defaults.
const DECISIVE: [&str; 6] = [
    "timestamps = \"producer\"",
    "edges = \"inside\"",
    "edges = \"inside\"\nchunk = \"1m\"",
    "gap_tolerance = \"900ms\"",
    "timeline = \"wallclock\"",
    "on_codec_change = \"fail\"",
];

#[test]
fn a_default_that_decides_the_content_supersedes_what_is_unfinished() {
    let place = unfinished(NIGHT);
    for defaults in DECISIVE {
        let edited = format!("[defaults]\n{defaults}\n{NIGHT}");
        assert_eq!(actions(&place.plan(&edited, &[], MORNING)), ["new", "superseded"], "{defaults}");
    }
    let edited = format!("[defaults]\n{}\n{NIGHT}", DECISIVE[4]);
    let went = go(&place, &edited, MORNING, Service::Good);
    assert_eq!((went.clips as u64, place.videos().len()), (CHUNKS, 1));
    // What is put back now finds its path taken, and says so before it fetches.
    assert_eq!(actions(&place.plan(NIGHT, &[], MORNING)), ["error"]);
    let (back, clips) = place.run(NIGHT, MORNING, Service::Good);
    assert_eq!((clips, shown_as_superseded(&place).len()), (0, 1));
    assert!(only_export(&back).error.as_deref().is_some_and(|error| error.contains("is that of export")));
}

#[test]
fn a_default_that_decides_the_content_leaves_what_is_done_and_needs_another_output() {
    let place = done(NIGHT);
    let before = std::fs::read(place.folder.path().join("out/gate-2024-03-04.mp4")).expect("read");
    for defaults in DECISIVE {
        let edited = format!("[defaults]\n{defaults}\n{NIGHT}");
        assert_eq!(actions(&place.plan(&edited, &[], MORNING)), ["error"], "{defaults}");
    }
    let edited = format!("[defaults]\n{}\n{NIGHT}", DECISIVE[4]);
    let went = go(&place, &edited, MORNING, Service::Good);
    assert_eq!(went.clips, 0);
    let after = std::fs::read(place.folder.path().join("out/gate-2024-03-04.mp4")).expect("read");
    assert_eq!(before, after);
    let elsewhere = edited.replace("out/", "out/wallclock-");
    assert_eq!(actions(&go(&place, &elsewhere, MORNING, Service::Good).plan), ["new"]);
}

#[test]
fn a_default_that_does_not_decide_the_content_changes_nothing() {
    let (half, whole) = (unfinished(NIGHT), done(NIGHT));
    for defaults in [
        "settle = \"90s\"",
        "keep_chunks = true",
        "case = \"4711\"",
        "operator = \"night shift\"",
        "note = \"for the court\"",
        "gaps = \"fail\"",
    ] {
        let edited = format!("[defaults]\n{defaults}\n{NIGHT}");
        let plan = half.plan(&edited, &[], MORNING);
        assert_eq!(plan.exports.len(), 1, "{defaults}");
        assert_eq!(
            (plan.exports[0].action, plan.exports[0].chunks.fetched),
            (PlanAction::Resume, CHUNKS - 1)
        );
        assert_eq!(actions(&whole.plan(&edited, &[], MORNING)), ["done"], "{defaults}");
    }
    let edited = format!("[defaults]\ncase = \"4711\"\n{NIGHT}");
    let went = go(&half, &edited, MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec![resumed()], 1));
    let manifest =
        std::fs::read(only_export(&went.run).manifest.as_ref().expect("a manifest")).expect("read");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert!(manifest.to_string().contains("4711"), "the resumed export follows the file");
}

#[test]
fn jobs_that_are_merged_or_split_keep_their_exports() {
    let yard = NIGHT.replace("[\"gate\"]", "[\"yard\"]").replace("\"night\"", "\"yard\"");
    let (apart, merged) = (format!("{NIGHT}{yard}"), NIGHT.replace("[\"gate\"]", "[\"gate\", \"yard\"]"));
    let place = place();
    // One of them is half done, the other whole.
    go(&place, &apart, MORNING, Service::OneClipFails);
    let went = go(&place, &merged, MORNING, Service::NoClips);
    let resumed_and_done = BTreeSet::from([resumed(), "done".to_owned()]);
    assert_eq!(actions(&went.plan).into_iter().collect::<BTreeSet<_>>(), resumed_and_done);
    let went = go(&place, &apart, MORNING, Service::Good);
    assert_eq!(actions(&went.plan).into_iter().collect::<BTreeSet<_>>(), resumed_and_done);
    assert_eq!(went.clips, 1);
    assert_eq!(actions(&go(&place, &merged, MORNING, Service::Good).plan), ["done", "done"]);
}

#[test]
fn of_a_removed_job_what_is_unfinished_is_superseded_but_not_by_a_run_of_other_jobs() {
    let yard = NIGHT.replace("[\"gate\"]", "[\"yard\"]").replace("\"night\"", "\"yard\"");
    let place = unfinished(NIGHT);
    let went = go_only(&place, &yard, &["yard"], MORNING, Service::Good);
    assert_eq!(actions(&went.plan), ["new"]);
    let went = go(&place, &yard, MORNING, Service::Good);
    assert_eq!(actions(&went.plan), ["done", "superseded"]);
    // Superseded ones are no reason to say that something is wrong.
    assert_eq!((&place.status()["ok"], &place.status()["totals"]["superseded"]), (&true.into(), &1.into()));
    let went = go(&place, &format!("{yard}{NIGHT}"), MORNING, Service::Good);
    assert_eq!((actions(&went.plan), went.clips), (vec!["done".to_owned(), resumed()], 1));
}

#[test]
fn comments_order_and_writing_change_nothing() {
    let yard = NIGHT.replace("[\"gate\"]", "[\"yard\"]").replace("\"night\"", "\"yard\"");
    let place = place();
    go(&place, &format!("{NIGHT}{yard}"), MORNING, Service::OneClipFails);
    let written = r#"
        # The yard first.
        [[job]]
        output    = 'out/{stream}-{from:%Y-%m-%d}.mp4' # one a night
        time_zone = 'UTC'
        to = """today 00:01"""
        from = "yesterday 23:59"
        streams = [
            "yard",
        ]
        name = "yard"
    "#;
    let went = go(&place, &format!("{written}{NIGHT}"), MORNING, Service::Good);
    let expected = BTreeSet::from([resumed(), "done".to_owned()]);
    assert_eq!(actions(&went.plan).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(went.clips, 1);
}

#[test]
fn tonights_run_finishes_last_nights_too_and_fetches_only_what_is_missing() {
    let place = unfinished(NIGHT);
    let went = go(&place, NIGHT, MORNING + DAY, Service::Good);
    assert_eq!(actions(&went.plan), [&resumed(), "new"]);
    assert_eq!(went.clips as u64, 1 + CHUNKS);
    assert_eq!(place.videos(), ["gate-2024-03-04.mp4", "gate-2024-03-05.mp4"]);
}

#[test]
fn a_half_done_last_is_finished_before_a_new_one_begins() {
    let place = unfinished_at(LATEST, TUESDAY + MINUTE);
    let later = MORNING + 5 * HOUR;
    let went = go(&place, LATEST, later, Service::Good);
    assert_eq!(went.plan.exports.len(), 1);
    assert_eq!((went.plan.exports[0].action, went.clips), (PlanAction::Resume, 1));
    let went = go(&place, LATEST, later, Service::Good);
    assert_eq!(actions(&went.plan), ["new"]);
}

/// The job cut into one export an hour: a night's two share its text.
fn split(jobs: &str) -> String {
    jobs.replace("{from:%Y-%m-%d}", "{from:%d-%H%M}") + "split = \"1h\"\n"
}

#[test]
fn windows_of_one_text_are_each_themselves() {
    let (place, night) = (place(), split(NIGHT));
    let first = go(&place, &night, MORNING, Service::OneClipFails);
    assert_eq!(actions(&first.plan), ["new", "new"]);
    let again = go(&place, &night, MORNING, Service::NoClips);
    assert_eq!(actions(&again.plan), ["resume 1 of 2", "done"]);
    let next = go(&place, &night, MORNING + DAY, Service::Good);
    assert_eq!(actions(&next.plan), ["resume 1 of 2", "new", "new"]);
    assert_eq!((next.clips as u64, place.videos().len(), place.records().len()), (1 + CHUNKS, 4, 4));
}

#[test]
fn windows_of_a_text_that_hangs_on_the_time_of_day_are_finished_before_new_ones_begin() {
    let (place, latest) = (place(), split(LATEST) + "time_zone = \"UTC\"\n");
    let begun = TUESDAY + MINUTE;
    assert_eq!(actions(&go(&place, &latest, begun, Service::NoClips).plan), ["new", "new"]);
    // A minute later the windows would be others, and none of them is begun.
    let later = go(&place, &latest, begun + MINUTE, Service::OneClipFails);
    assert_eq!(actions(&later.plan), ["resume 0 of 2", "resume 0 of 2"]);
    assert!(later.plan.exports.iter().all(|export| export.to.get() <= begun), "{:#?}", later.plan);
    let rest = go(&place, &latest, begun + MINUTE, Service::Good);
    assert_eq!((actions(&rest.plan), rest.clips), (vec!["resume 1 of 2".to_owned()], 1));
    let new = go(&place, &latest, begun + DAY, Service::Good);
    assert_eq!(actions(&new.plan), ["new", "new"]);
}

#[test]
fn a_window_that_is_pending_is_pending_whatever_else_its_text_has_left() {
    let (place, night) = (place(), split(NIGHT) + "settle = \"0s\"\n");
    go(&place, &night, MORNING, Service::NoClips);
    // Half a minute after midnight the second of the two windows is not over.
    let went = go(&place, &night, TUESDAY + DAY + 30_000, Service::Good);
    assert_eq!(actions(&went.plan), ["resume 0 of 2", "resume 0 of 2", "new", "pending"]);
    let went = go(&place, &night, MORNING + DAY, Service::Good);
    assert_eq!(actions(&went.plan), ["done", "new"]);
}

#[test]
fn windows_of_a_changed_text_are_superseded_but_those_that_it_still_has() {
    let (place, night) = (place(), split(NIGHT));
    go(&place, &night, MORNING, Service::NoClips);
    let went = go(&place, &night.replace("23:59", "23:58"), MORNING, Service::NoClips);
    assert_eq!(actions(&went.plan), ["new", "resume 0 of 2", "superseded"]);
    let moved = night.replace("out/", "out/other-");
    let went = go(&place, &moved, MORNING, Service::Good);
    assert_eq!(actions(&went.plan), ["new", "new", "superseded", "superseded", "superseded"]);
}
