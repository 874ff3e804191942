//! Golden tests of the text that a run ends with.

use std::path::PathBuf;

use super::super::exports::until;
use super::*;
use crate::model::report::{ChunkTally, RUN_SCHEMA};
use crate::model::{ExportId, UtcMillis};

const START: i64 = 1_772_438_400_000;

fn export(stream: &str, status: ExportStatus) -> ExportReport {
    let start = UtcMillis::new(START);
    ExportReport {
        id: Some(ExportId("9f86d081884c7d65".to_owned())),
        job: "demo".to_owned(),
        stream: stream.to_owned(),
        from: start,
        to: start + 90_000,
        status,
        already: false,
        resumed_chunks: None,
        output: Vec::new(),
        manifest: None,
        chunks: ChunkTally { total: 6, fetched: 6, ..ChunkTally::default() },
        chunk: "auto".to_owned(),
        fragments: Some(45),
        bytes: 6_150_000,
        media_ms: 90_000,
        gaps: Vec::new(),
        warnings: Vec::new(),
        error: None,
    }
}

fn done(stream: &str) -> ExportReport {
    ExportReport {
        output: vec![PathBuf::from(format!("/srv/exports/{stream}.mp4"))],
        manifest: Some(PathBuf::from(format!("/srv/exports/{stream}.manifest.json"))),
        ..export(stream, ExportStatus::Done)
    }
}

fn already(stream: &str) -> ExportReport {
    ExportReport { already: true, ..done(stream) }
}

fn with_gaps(mut export: ExportReport, count: i64) -> ExportReport {
    let gap = |n: i64| {
        let from = UtcMillis::new(START + 10_000 + n * 2000);
        GapReport { from, to: from + 1500, ms: 1500 }
    };
    export.gaps = (0..count).map(gap).collect();
    export
}

/// A report in which every key has a value.
pub(crate) fn everything() -> RunReport {
    report(Outcome::Done, vec![with_gaps(done("front-gate"), 1)])
}

fn report(outcome: Outcome, exports: Vec<ExportReport>) -> RunReport {
    let totals = RunTotals { bytes_received: 12_300_000, elapsed_ms: 4200, ..RunReport::sum(&exports) };
    RunReport { schema: RUN_SCHEMA, outcome, error: None, exports, totals }
}

fn last_line_of(report: &RunReport) -> String {
    summary(report, false).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_run_that_did_everything_says_so_last() {
    let resumed = ExportReport { resumed_chunks: Some(4), ..with_gaps(done("loading-dock"), 1) };
    let report = report(Outcome::Done, vec![done("front-gate"), resumed]);
    insta::assert_snapshot!(summary(&report, false), @"
    job   stream        from                  to         status  chunks       video    size  gaps
    demo  front-gate    2026-03-02T08:00:00Z  08:01:30Z  done    6 of 6  1 min 30 s  6.2 MB  -
    demo  loading-dock  2026-03-02T08:00:00Z  08:01:30Z  done    6 of 6  1 min 30 s  6.2 MB  1 (1.5 s)

    outputs:
      /srv/exports/front-gate.mp4
      /srv/exports/loading-dock.mp4

    gaps:
      loading-dock: 2026-03-02T08:00:10.000Z to 2026-03-02T08:00:11.500Z (1.5 s)

    done: 2 exports, 0 failed, resumed 4 of 12 chunks, 3 min 0 s of video, 12.3 MB fetched in 4.2 s
    ");
}

#[test]
fn what_failed_is_named_with_the_way_out() {
    let failed = ExportReport {
        chunks: ChunkTally { total: 6, fetched: 4, failed: 2, ..ChunkTally::default() },
        error: Some("cannot fetch: access denied\n  allow kinesisvideo:GetClip on the stream".to_owned()),
        ..export("yard", ExportStatus::Failed)
    };
    let partial = ExportReport {
        chunks: ChunkTally { total: 6, fetched: 5, expired: 1, ..ChunkTally::default() },
        warnings: vec!["the camera's clock is 26 h ahead: server times order the video".to_owned()],
        ..done("gate-2")
    };
    let partial = ExportReport { status: ExportStatus::Partial, ..partial };
    let unknown = ExportReport {
        id: None,
        chunks: ChunkTally::default(),
        fragments: Some(0),
        bytes: 0,
        media_ms: 0,
        error: Some("there is no stream \"ghost\" in us-west-2".to_owned()),
        ..export("ghost", ExportStatus::Failed)
    };
    let empty = ExportReport {
        chunks: ChunkTally::default(),
        bytes: 0,
        media_ms: 0,
        manifest: Some(PathBuf::from("/srv/exports/silo.manifest.json")),
        ..export("silo", ExportStatus::Empty)
    };
    let report = report(Outcome::Incomplete, vec![done("front-gate"), failed, partial, unknown, empty]);
    insta::assert_snapshot!(summary(&report, false), @r#"
    job   stream      from                  to         status              chunks       video    size  gaps
    demo  front-gate  2026-03-02T08:00:00Z  08:01:30Z  done                6 of 6  1 min 30 s  6.2 MB  -
    demo  yard        2026-03-02T08:00:00Z  08:01:30Z  failed    4 of 6, 2 failed  1 min 30 s  6.2 MB  -
    demo  gate-2      2026-03-02T08:00:00Z  08:01:30Z  partial  5 of 6, 1 expired  1 min 30 s  6.2 MB  -
    demo  ghost       2026-03-02T08:00:00Z  08:01:30Z  failed                   -           -       -  -
    demo  silo        2026-03-02T08:00:00Z  08:01:30Z  empty                    -           -       -  -

    outputs:
      /srv/exports/front-gate.mp4
      /srv/exports/gate-2.mp4
      /srv/exports/silo.manifest.json

    warnings:
      demo gate-2 2026-03-02T08:00:00Z: the camera's clock is 26 h ahead: server times order the video

    errors:
      demo yard 2026-03-02T08:00:00Z: cannot fetch: access denied; allow kinesisvideo:GetClip on the stream
      demo gate-2 2026-03-02T08:00:00Z: some fragments are not in the video; the manifest names them and says why
      demo ghost 2026-03-02T08:00:00Z: there is no stream "ghost" in us-west-2

    incomplete: 1 of 5 exports done, 2 failed, 1 partial, 1 empty, 4 min 30 s of video, 12.3 MB fetched in 4.2 s; run the same command again to resume
    "#);
}

#[test]
fn a_second_run_says_that_everything_is_already_done() {
    let all = report(Outcome::Done, vec![already("front-gate"), already("loading-dock")]);
    insta::assert_snapshot!(summary(&all, false), @"
    job   stream        from                  to         status        chunks       video    size  gaps
    demo  front-gate    2026-03-02T08:00:00Z  08:01:30Z  already done  6 of 6  1 min 30 s  6.2 MB  -
    demo  loading-dock  2026-03-02T08:00:00Z  08:01:30Z  already done  6 of 6  1 min 30 s  6.2 MB  -

    outputs:
      /srv/exports/front-gate.mp4
      /srv/exports/loading-dock.mp4

    already done: 2 exports, nothing was fetched
    ");
    let one = report(Outcome::Done, vec![already("front-gate"), done("loading-dock")]);
    insta::assert_snapshot!(last_line_of(&one), @"done: 2 exports (1 already done), 0 failed, 3 min 0 s of video, 12.3 MB fetched in 4.2 s");
}

#[test]
fn resuming_counts_the_chunks_of_exports_that_were_finished_before() {
    let resumed = ExportReport { resumed_chunks: Some(1), ..done("loading-dock") };
    let text = last_line_of(&report(Outcome::Done, vec![already("front-gate"), resumed]));
    assert!(text.contains("resumed 7 of 12 chunks"), "{text}");
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let pending = ExportReport {
        chunks: ChunkTally { total: 6, fetched: 3, ..ChunkTally::default() },
        ..export("yard", ExportStatus::Pending)
    };
    insta::assert_snapshot!(last_line_of(&report(Outcome::Interrupted, vec![done("front-gate"), pending])), @"interrupted: 1 of 2 exports done, 0 failed, 1 pending, 3 min 0 s of video, 12.3 MB fetched in 4.2 s; run the same command again to resume");
}

#[test]
fn partial_exports_alone_are_no_reason_to_run_again() {
    let partial = ExportReport { status: ExportStatus::Partial, ..done("front-gate") };
    insta::assert_snapshot!(last_line_of(&report(Outcome::Incomplete, vec![partial])), @"incomplete: 0 of 1 exports done, 0 failed, 1 partial, 1 min 30 s of video, 12.3 MB fetched in 4.2 s; partial exports are final");
}

#[test]
fn a_run_that_could_not_begin_says_why_and_that_nothing_was_done() {
    let refused = RunReport::refused(
        Outcome::Locked,
        "another run holds /srv/state.db (process 4711 on nas since 2026-03-02T08:00:00.000Z)".to_owned(),
    );
    insta::assert_snapshot!(summary(&refused, false), @"
    error: another run holds /srv/state.db (process 4711 on nas since 2026-03-02T08:00:00.000Z)
    locked: nothing was done
    ");
}

#[test]
fn many_gaps_are_summed_up() {
    let text = summary(&report(Outcome::Done, vec![with_gaps(done("yard"), 14)]), false);
    assert_eq!(text.matches("yard: 2026-03-02T").count(), MAX_GAPS);
    assert!(text.contains("yard: 4 more in its manifest"), "{text}");
    assert!(text.contains("14 (21 s)"), "{text}");
}

#[test]
fn a_range_over_midnight_shows_both_dates() {
    let evening = UtcMillis::new(START) + 15 * 3_600_000;
    assert_eq!(until(evening, evening + 7_200_000), "2026-03-03T01:00:00Z");
    assert_eq!(until(evening, evening + 60_000), "23:01:00Z");
}

#[test]
fn json_is_one_document_with_its_schema_and_utc_times() {
    let text =
        crate::report::json(&report(Outcome::Done, vec![with_gaps(done("front-gate"), 1)])).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(value["schema"], "kvs-export/run/1");
    assert_eq!(value["exports"][0]["from"], "2026-03-02T08:00:00.000Z");
    assert_eq!(value["exports"][0]["gaps"][0]["ms"], 1500);
    assert!(text.ends_with("}\n"));
}
