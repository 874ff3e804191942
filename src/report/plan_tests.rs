//! Tests of the plan's text.

use std::path::PathBuf;

use super::*;
use crate::model::plan_report::{PlanListing, PlanSink, PlanTotals, PlannedChunks};
use crate::model::report::{GapReport, Outcome};
use crate::model::{ExportId, UtcMillis};
use crate::report::{PlanForm, PlanPrinter};

const START: UtcMillis = UtcMillis::new(1_772_438_400_000);

/// An export of twelve hours of 4 Mbit/s.
fn export(action: PlanAction, stream: &str) -> PlannedExport {
    let outstanding = Outstanding { chunks: 108, fragments: 21_600, bytes: 21_600_000_000 };
    PlannedExport {
        id: Some(ExportId("0123456789abcdef".to_owned())),
        job: "nightly".to_owned(),
        stream: stream.to_owned(),
        from: START,
        to: START + 43_200_000,
        action,
        output: PathBuf::from(format!("/jobs/exports/{stream}.mp4")),
        chunks: PlannedChunks { total: 108, fetched: 0 },
        chunk: "auto".to_owned(),
        fragments: Some(21_600),
        bytes: Some(21_600_000_000),
        media_ms: Some(43_200_000),
        gaps: Vec::new(),
        expires_at: Some(START + 86_400_000),
        expires_before_turn: false,
        outstanding,
        calls: PlannedCalls { get_clip: 108, list_tags_for_stream: 1, ..PlannedCalls::default() },
        cost_usd: Some(outstanding.cost_usd()),
        time_ms: Some(61_715),
        warnings: Vec::new(),
        error: None,
    }
}

/// One that nothing is to be done for.
fn idle(action: PlanAction, stream: &str) -> PlannedExport {
    PlannedExport {
        outstanding: Outstanding::default(),
        calls: PlannedCalls::default(),
        cost_usd: Some(0.0),
        time_ms: Some(0),
        expires_at: None,
        ..export(action, stream)
    }
}

fn gap(from: i64, ms: i64) -> GapReport {
    GapReport { from: START + from, to: START + from + ms, ms }
}

/// A plan with its exports.
type Plan = (Vec<PlannedExport>, PlanReport);

fn written((exports, report): &Plan, form: PlanForm) -> String {
    let mut text = Vec::new();
    let printer = PlanPrinter::new(form, &mut text);
    for export in exports {
        printer.export(export);
    }
    for export in exports.iter().filter(|export| export.expires_before_turn) {
        printer.late(export);
    }
    printer.finish(report).expect("written");
    drop(printer);
    String::from_utf8(text).expect("UTF-8")
}

fn plan_text(plan: &Plan, folder: &Path, color: bool) -> String {
    written(plan, PlanForm::Text { folder: folder.to_owned(), color })
}

/// The document of a plan in which everything occurs.
pub(in crate::report) fn document() -> String {
    written(&everything(), PlanForm::Json)
}

fn report(exports: Vec<PlannedExport>) -> Plan {
    let mut totals = PlanTotals::default();
    for export in &exports {
        totals.add(export);
    }
    totals.calls.describe_stream = 3;
    totals.calls.get_data_endpoint = 5;
    totals.cost_usd = totals.outstanding.cost_usd();
    totals.time_ms = 123_430;
    let listing = PlanListing { list_fragments: 26, windows_kept: 13, not_kept: Some("locked".to_owned()) };
    (exports, PlanReport { outcome: Outcome::Incomplete, error: None, totals, listing })
}

/// A plan in which everything occurs.
fn everything() -> Plan {
    let half = Outstanding { chunks: 54, fragments: 10_800, bytes: 10_800_000_000 };
    let nothing = PlannedExport {
        chunks: PlannedChunks::default(),
        fragments: Some(0),
        bytes: Some(0),
        media_ms: Some(0),
        ..idle(PlanAction::New, "cellar")
    };
    report(vec![
        PlannedExport {
            gaps: (0..12).map(|n| gap(n * 60_000, 4_200)).collect(),
            warnings: vec!["the local hour 02:00 does not exist".to_owned()],
            ..export(PlanAction::New, "front-gate")
        },
        PlannedExport {
            chunks: PlannedChunks { total: 108, fetched: 54 },
            outstanding: half,
            cost_usd: Some(half.cost_usd()),
            expires_before_turn: true,
            ..export(PlanAction::Resume, "loading-dock")
        },
        PlannedExport {
            gaps: vec![gap(0, 43_200_000)],
            calls: PlannedCalls { list_fragments: 1, list_tags_for_stream: 1, ..PlannedCalls::default() },
            expires_at: Some(START + 86_400_000),
            ..nothing.clone()
        },
        idle(PlanAction::Done, "yard-1"),
        PlannedExport { id: None, error: Some("no permission".to_owned()), ..nothing.clone() },
        PlannedExport { action: PlanAction::Pending, id: None, ..nothing },
        PlannedExport {
            chunks: PlannedChunks { total: 108, fetched: 54 },
            ..idle(PlanAction::Superseded, "yard-2")
        },
    ])
}

#[test]
fn a_plan_is_told_export_by_export_with_its_totals() {
    insta::assert_snapshot!(plan_text(&everything(), Path::new("/jobs"), false), @r"
    + new  nightly  front-gate  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/front-gate.mp4
        video: 12 h 0 min in 21600 fragments, 21.6 GB
        fetch: 108 clips, 21600 fragments, 21.6 GB, about $0.18, 1 min 2 s at the quotas
        gap: 2026-03-02T08:00:00.000Z to 2026-03-02T08:00:04.200Z (4.2 s)
        gap: 2026-03-02T08:01:00.000Z to 2026-03-02T08:01:04.200Z (4.2 s)
        gap: 2026-03-02T08:02:00.000Z to 2026-03-02T08:02:04.200Z (4.2 s)
        gap: 2026-03-02T08:03:00.000Z to 2026-03-02T08:03:04.200Z (4.2 s)
        gap: 2026-03-02T08:04:00.000Z to 2026-03-02T08:04:04.200Z (4.2 s)
        gap: 2026-03-02T08:05:00.000Z to 2026-03-02T08:05:04.200Z (4.2 s)
        gap: 2026-03-02T08:06:00.000Z to 2026-03-02T08:06:04.200Z (4.2 s)
        gap: 2026-03-02T08:07:00.000Z to 2026-03-02T08:07:04.200Z (4.2 s)
        gap: 2026-03-02T08:08:00.000Z to 2026-03-02T08:08:04.200Z (4.2 s)
        gap: 2026-03-02T08:09:00.000Z to 2026-03-02T08:09:04.200Z (4.2 s)
        gap: 2 more
        kept by the stream until: 2026-03-03T08:00:00.000Z
        warning: the local hour 02:00 does not exist
    ~ resume 54 of 108  nightly  loading-dock  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/loading-dock.mp4
        video: 12 h 0 min in 21600 fragments, 21.6 GB
        fetch: 54 clips, 10800 fragments, 10.8 GB, about $0.09, 1 min 2 s at the quotas
        kept by the stream until: 2026-03-03T08:00:00.000Z
    + new  nightly  cellar  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/cellar.mp4
        fetch: nothing, the range is empty
        gap: 2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z (12 h 0 min)
        kept by the stream until: 2026-03-03T08:00:00.000Z
    = done  nightly  yard-1  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/yard-1.mp4
        video: 12 h 0 min in 21600 fragments, 21.6 GB
    ! new  nightly  cellar  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/cellar.mp4
        error: no permission
    . pending  nightly  cellar  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/cellar.mp4
    - superseded  nightly  yard-2  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/yard-2.mp4
        video: 12 h 0 min in 21600 fragments, 21.6 GB
    warning: this footage expires before its turn: nightly  loading-dock  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z

    7 exports: 3 new, 1 to resume, 1 done, 1 superseded, 1 pending, 1 with an error
    fetch: 162 clips, 32400 fragments, 32.4 GB, 2 min 3 s at the quotas
    requests: 3 DescribeStream, 5 GetDataEndpoint, 1 ListFragments, 216 GetClip, 3 ListTagsForStream
    cost: about $0.28 for consumed media, an estimate for us-east-1; egress is extra
    ");
}

#[test]
fn another_export_changes_no_line_of_the_others() {
    let two =
        vec![export(PlanAction::New, "gate"), idle(PlanAction::Done, "a-much-longer-name-than-the-others")];
    let before = plan_text(&report(two.clone()), Path::new("/"), false);
    let one = plan_text(&report(two[..1].to_vec()), Path::new("/"), false);
    let block = one.split("\n\n").next().expect("a block");
    assert!(before.starts_with(block), "{before}");
}

#[test]
fn colour_is_on_the_marks_alone() {
    let coloured = plan_text(&everything(), Path::new("/jobs"), true);
    let mut plain = coloured.clone();
    for code in ["\u{1b}[0m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"] {
        plain = plain.replace(code, "");
    }
    assert_ne!(plain, coloured);
    assert_eq!(plain, plan_text(&everything(), Path::new("/jobs"), false));
}

#[test]
fn a_plan_that_could_not_be_made_tells_why() {
    let refused = PlanReport::refused(Outcome::Auth, "sign in again".to_owned());
    assert_eq!(plan_text(&(Vec::new(), refused), Path::new("/"), false), "error: sign in again\n");
    assert_eq!(plan_text(&report(Vec::new()), Path::new("/"), false), "nothing to export\n");
}

#[test]
fn the_document_is_one_and_whole_however_many_exports_it_has() {
    let (exports, end) = everything();
    for count in [0, 1, exports.len()] {
        let plan = (exports[..count].to_vec(), end.clone());
        let text = written(&plan, PlanForm::Json);
        let value: serde_json::Value = serde_json::from_str(&text).expect("one document");
        assert_eq!(
            (&value["schema"], &value["outcome"]),
            (&"kvs-export/plan/1".into(), &"incomplete".into())
        );
        assert_eq!(value["exports"], serde_json::to_value(&plan.0).expect("JSON"));
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(6), "{text}");
        assert!(text.starts_with("{\n  \"schema\"") && text.ends_with("\n}\n"), "{text}");
    }
    let none = written(&(Vec::new(), end.clone()), PlanForm::Json);
    assert_eq!(none, crate::report::plan_json(&end).expect("JSON"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
    struct Refusing(std::io::ErrorKind);
    impl std::io::Write for Refusing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (exports, end) = everything();
    for (kind, is_failure) in
        [(std::io::ErrorKind::BrokenPipe, false), (std::io::ErrorKind::StorageFull, true)]
    {
        let printer = PlanPrinter::new(PlanForm::Json, Refusing(kind));
        for export in &exports {
            printer.export(export);
        }
        assert_eq!(printer.finish(&end).is_err(), is_failure, "{kind}");
    }
}

#[test]
fn a_small_cost_is_not_told_as_none() {
    let of = |bytes| cost(&Outstanding { bytes, ..Outstanding::default() });
    assert_eq!(
        (of(0), of(1), of(50_000_000)),
        ("about $0.00".into(), "under $0.01".into(), "under $0.01".into())
    );
    let day = Outstanding { bytes: 43_200_000_000, ..Outstanding::default() };
    assert_eq!(cost(&day), "about $0.37");
}

#[test]
fn fixed_windows_are_told_without_numbers_that_nobody_knows() {
    let windows = PlannedExport {
        chunk: "3m".to_owned(),
        chunks: PlannedChunks { total: 240, fetched: 0 },
        fragments: None,
        bytes: None,
        media_ms: None,
        cost_usd: None,
        time_ms: None,
        outstanding: Outstanding { chunks: 240, ..Outstanding::default() },
        calls: PlannedCalls { get_clip: 240, list_tags_for_stream: 1, ..PlannedCalls::default() },
        ..export(PlanAction::New, "yard")
    };
    let text = plan_text(&report(vec![windows]), Path::new("/jobs"), false);
    insta::assert_snapshot!(text, @r"
    + new  nightly  yard  2026-03-02T08:00:00.000Z to 2026-03-02T20:00:00.000Z
        output: exports/yard.mp4
        video: 240 windows of 3m; what is in them is known when they are fetched
        fetch: 240 clips at least
        kept by the stream until: 2026-03-03T08:00:00.000Z

    1 export: 1 new
    fetch: 240 clips of fixed windows, at least; bytes, time and cost are known when they are fetched
    requests: 3 DescribeStream, 5 GetDataEndpoint, 0 ListFragments, 240 GetClip, 1 ListTagsForStream
    ");
}
