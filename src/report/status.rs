//! The text of `status`: its first line answers "did last night work?", what is not there comes next.

use super::answer::{rank, reason};
use super::exports::{COLUMNS, ExportRow, chunks, produced, section};
use super::state::seconds;
use super::table::{Align, Paint, Table};
use super::units::{bytes, counted, millis, one_line};
use crate::model::ExportState;
use crate::model::status::{ExportRecordReport, StatusReport, StatusTotals};

/// More finished exports than these are only counted.
const MOST_FINISHED: usize = 50;

/// The state as text: the answer, a table of the exports, the troubled ones first, their errors and their sums.
///
/// Of many finished exports only the number is told, unless `all` are wanted.
pub fn status_text(report: &StatusReport, all: bool, color: bool) -> String {
    let paint = Paint(color);
    let mut text = headline(report, paint);
    if report.error.is_some() {
        return text;
    }
    if let Some(error) = report.last_run.as_ref().and_then(reason) {
        text += &format!("{} {}\n", paint.red("error:"), one_line(error));
    }
    text += &state_files(report);
    if report.exports.is_empty() {
        return text;
    }
    let (shown, hidden) = chosen(&report.exports, all);
    if !shown.is_empty() {
        text += &format!("\n{}", table(&shown).render(paint));
    }
    if hidden > 0 {
        text +=
            &format!("\n{} done or empty, not shown; --all shows them\n", counted(hidden as u64, "export"));
    }
    text += &section("outputs", &outputs(&shown), paint);
    text += &section("errors", &errors(&shown), paint);
    text + &sums(&report.totals) + &way_out(report) + &room(report)
}

fn headline(report: &StatusReport, paint: Paint) -> String {
    let answer = one_line(&report.answer);
    // The capitals in front say it all.
    let word = answer.find(|c: char| !(c.is_ascii_uppercase() || c == ' ')).unwrap_or(0);
    let (word, rest) = answer.split_at(word);
    let word = match report.ok {
        Some(true) => paint.green(word),
        Some(false) => paint.red(word),
        None => paint.yellow(word),
    };
    format!("{word}{rest}\n")
}

/// Where there are several, a line each, the worst first.
fn state_files(report: &StatusReport) -> String {
    if report.state_files.len() < 2 {
        return String::new();
    }
    let mut files: Vec<_> = report.state_files.iter().collect();
    files.sort_by_key(|file| rank(file.answer.ok, file.last_run.as_ref()));
    let line = |path: String, answer: &str| format!("{path}: {answer}\n");
    let lines = files.into_iter().map(|file| line(file.path.display().to_string(), &file.answer.text));
    format!("\n{}", lines.collect::<String>())
}

/// The exports to show, the troubled ones first, and how many finished ones are not shown.
fn chosen(exports: &[ExportRecordReport], all: bool) -> (Vec<&ExportRecordReport>, usize) {
    let finished = |export: &&ExportRecordReport| order(export) == LAST;
    let mut shown: Vec<_> = exports.iter().collect();
    // Stable: among equals the order of creation stays.
    shown.sort_by_key(|export| order(export));
    let count = shown.iter().filter(|export| finished(export)).count();
    if all || count <= MOST_FINISHED {
        return (shown, 0);
    }
    shown.retain(|export| !finished(export));
    (shown, count)
}

/// The place of finished exports among the others.
const LAST: u8 = 4;

fn order(export: &ExportRecordReport) -> u8 {
    match export.status {
        _ if export.superseded => 3,
        ExportState::Failed => 0,
        ExportState::Partial => 1,
        ExportState::Planning | ExportState::Fetching | ExportState::Merging => 2,
        ExportState::Done | ExportState::Empty => LAST,
    }
}

fn table(exports: &[&ExportRecordReport]) -> Table {
    let columns = [[("export", Align::Left)].as_slice(), &COLUMNS].concat();
    let mut table = Table::new(&columns);
    for export in exports {
        let status = if export.superseded { "superseded" } else { export.status.as_str() };
        let row = ExportRow {
            job: &export.job,
            stream: &export.stream,
            from: export.from,
            to: export.to,
            status: status.to_owned(),
            chunks: &export.chunks,
            media_ms: export.media_ms,
            bytes: export.bytes,
        };
        table.row(status, [export.id.to_string()].into_iter().chain(row.cells()).collect());
    }
    table
}

/// What finished exports have become. Not in the table: with their paths no row would fit a terminal.
fn outputs(exports: &[&ExportRecordReport]) -> Vec<String> {
    let finished =
        exports.iter().filter(|export| matches!(export.status, ExportState::Done | ExportState::Partial));
    finished.flat_map(|export| produced(&export.output, export.manifest.as_ref())).collect()
}

/// Why exports are not there, or not whole.
fn errors(exports: &[&ExportRecordReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for export in exports.iter().filter(|export| !export.superseded) {
        let why = match (&export.error, export.status) {
            (Some(error), _) => one_line(error),
            (None, ExportState::Partial) => {
                let manifest = export
                    .manifest
                    .as_ref()
                    .map_or_else(|| "the manifest".to_owned(), |path| path.display().to_string());
                format!("some fragments are not in the video, and will not be; {manifest} says which and why")
            }
            (None, _) => continue,
        };
        let name = format!("{} {} {}", export.job, export.stream, seconds(export.from));
        lines.push(format!("{name}: {why}"));
    }
    lines
}

/// What to do about exports that failed or are not finished.
fn way_out(report: &StatusReport) -> String {
    let totals = &report.totals;
    let open = totals.failed + totals.planning + totals.fetching + totals.merging;
    if open == 0 || report.ok.is_none() {
        return String::new();
    }
    let jobs = report.last_run.as_ref().and_then(|run| run.job_file.as_ref());
    match jobs {
        Some(jobs) => format!("to go on with what is not done: kvs-export run {}\n", jobs.display()),
        None => "to go on with what is not done, run the same command again\n".to_owned(),
    }
}

/// What superseded exports keep on the disk, and how to free it.
fn room(report: &StatusReport) -> String {
    let held = report.totals.superseded_bytes;
    if held == 0 {
        return String::new();
    }
    let jobs = report.last_run.as_ref().and_then(|run| run.job_file.as_ref());
    let jobs = jobs.map_or_else(|| "JOBS".to_owned(), |jobs| jobs.display().to_string());
    format!(
        "superseded exports hold {} of chunks; to free them: kvs-export prune {jobs} --older-than 0d\n",
        bytes(held)
    )
}

fn sums(totals: &StatusTotals) -> String {
    let superseded = match totals.superseded {
        0 => String::new(),
        count => format!(", {count} superseded (their text left the job file; they are not resumed)"),
    };
    format!(
        "\n{}: chunks {}; {} of video, {}{superseded}\n",
        counted(totals.exports, "export"),
        chunks(&totals.chunks),
        millis(totals.media_ms),
        bytes(totals.bytes),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::report::ChunkTally;
    use crate::model::status::{LastRun, RunningHolder, StateFileStatus};
    use crate::model::{ExportId, UtcMillis};
    use crate::report::{answer, answer_of};

    const START: i64 = 1_795_241_000_000;

    fn run(outcome: &str, exit_code: u8) -> LastRun {
        LastRun {
            started: UtcMillis::new(START),
            ended: Some(UtcMillis::new(START) + 523_000),
            outcome: Some(outcome.to_owned()),
            exit_code: Some(exit_code),
            job_file: Some(PathBuf::from("/etc/jobs.toml")),
            error: None,
            running_holder: None,
        }
    }

    fn killed() -> LastRun {
        LastRun { ended: None, outcome: None, exit_code: None, ..run("done", 0) }
    }

    fn export(stream: &str, status: ExportState) -> ExportRecordReport {
        let from = UtcMillis::new(START) - 43_200_000;
        ExportRecordReport {
            id: ExportId("9f86d081884c7d65".to_owned()),
            job: "nightly".to_owned(),
            stream: stream.to_owned(),
            from,
            to: UtcMillis::new(START),
            status,
            superseded: false,
            output: vec![PathBuf::from(format!("/srv/{stream}.mp4"))],
            manifest: None,
            chunks: ChunkTally { total: 130, fetched: 130, ..ChunkTally::default() },
            chunk: "auto".to_owned(),
            fragments: Some(21_600),
            bytes: 10_800_000_000,
            media_ms: 43_200_000,
            waiting_bytes: 0,
            finished_at: None,
            error: None,
        }
    }

    fn file(path: &str, last_run: Option<LastRun>, exports: &[ExportRecordReport]) -> StateFileStatus {
        let answer = answer_of(last_run.as_ref(), &StatusTotals::of(exports));
        StateFileStatus { path: PathBuf::from(path), answer, last_run }
    }

    fn report(run: Option<LastRun>, exports: Vec<ExportRecordReport>) -> StatusReport {
        let files = vec![file("/srv/state.db", run, &exports)];
        let answer = answer(&files);
        StatusReport::new(files, exports, answer)
    }

    /// A report in which every key has a value.
    pub(crate) fn everything() -> StatusReport {
        let holder = RunningHolder { pid: 4711, host: "nas".to_owned(), since: UtcMillis::new(START) };
        let running = LastRun { running_holder: Some(holder), ..killed() };
        report(Some(running), vec![export("yard", ExportState::Fetching)])
    }

    fn first_line(report: &StatusReport) -> String {
        status_text(report, false, false).lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_good_night_is_answered_in_the_first_line() {
        let exports = vec![export("front-gate", ExportState::Done), export("yard", ExportState::Done)];
        insta::assert_snapshot!(status_text(&report(Some(run("done", 0)), exports), false, false), @"
        OK: last run 2026-11-21 06:03:20 to 06:12:03 UTC finished: 2 exports done, 0 failed

        export            job      stream      from                  to                    status      chunks       video     size
        9f86d081884c7d65  nightly  front-gate  2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done    130 of 130  12 h 0 min  10.8 GB
        9f86d081884c7d65  nightly  yard        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done    130 of 130  12 h 0 min  10.8 GB

        outputs:
          /srv/front-gate.mp4
          /srv/yard.mp4

        2 exports: chunks 260 of 260; 1 d 0 h of video, 21.6 GB
        ");
    }

    #[test]
    fn a_bad_night_names_the_failures_first() {
        let failed = ExportRecordReport {
            error: Some("cannot fetch: access denied\n  allow kinesisvideo:GetClip".to_owned()),
            chunks: ChunkTally { total: 130, fetched: 60, failed: 70, ..ChunkTally::default() },
            ..export("yard", ExportState::Failed)
        };
        let old = ExportRecordReport { superseded: true, ..export("dock", ExportState::Fetching) };
        let exports = vec![export("front-gate", ExportState::Done), failed, old];
        insta::assert_snapshot!(status_text(&report(Some(run("incomplete", 3)), exports), false, false), @"
        NOT OK: 1 of 2 exports failed; last run 2026-11-21 06:03:20 to 06:12:03 UTC ended incomplete (exit 3)

        export            job      stream      from                  to                    status                    chunks       video     size
        9f86d081884c7d65  nightly  yard        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  failed      60 of 130, 70 failed  12 h 0 min  10.8 GB
        9f86d081884c7d65  nightly  dock        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  superseded            130 of 130  12 h 0 min  10.8 GB
        9f86d081884c7d65  nightly  front-gate  2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done                  130 of 130  12 h 0 min  10.8 GB

        outputs:
          /srv/front-gate.mp4

        errors:
          nightly yard 2026-11-20T18:03:20Z: cannot fetch: access denied; allow kinesisvideo:GetClip

        2 exports: chunks 190 of 260, 70 failed; 1 d 0 h of video, 21.6 GB, 1 superseded (their text left the job file; they are not resumed)
        to go on with what is not done: kvs-export run /etc/jobs.toml
        ");
    }

    #[test]
    fn the_first_line_tells_running_from_killed_from_never() {
        let holder = RunningHolder { pid: 4711, host: "nas".to_owned(), since: UtcMillis::new(START) };
        let running = LastRun { running_holder: Some(holder), ..killed() };
        let lines = [Some(running), Some(killed()), None]
            .map(|run| first_line(&report(run, vec![export("yard", ExportState::Fetching)])));
        insta::assert_snapshot!(lines.join("\n"), @"
        RUNNING since 2026-11-21 06:03:20 UTC (process 4711 on nas): 0 exports done, 0 failed, 1 unfinished
        NOT OK: KILLED: the run of 2026-11-21 06:03:20 UTC did not end: 0 exports done, 0 failed, 1 unfinished; run the same command again to resume
        NEVER RUN: no run is recorded, 0 exports done, 0 failed, 1 unfinished
        ");
    }

    #[test]
    fn of_several_state_files_the_worst_stands_first() {
        let later = LastRun { started: UtcMillis::new(START) + 1, ..run("incomplete", 3) };
        let files = vec![
            file("/b.db", Some(run("done", 0)), &[]),
            file("/c.db", None, &[]),
            file("/a.db", Some(later), &[]),
        ];
        let answer = answer(&files);
        insta::assert_snapshot!(status_text(&StatusReport::new(files, Vec::new(), answer), false, false), @"
        NOT OK: last run 2026-11-21 06:03:20 to 06:12:03 UTC ended incomplete (exit 3) (1 of 3 state files OK; /a.db)

        /a.db: NOT OK: last run 2026-11-21 06:03:20 to 06:12:03 UTC ended incomplete (exit 3)
        /c.db: NEVER RUN: no run is recorded, no exports
        /b.db: OK: last run 2026-11-21 06:03:20 to 06:12:03 UTC finished: no exports
        ");
    }

    #[test]
    fn of_many_finished_exports_only_the_number_is_told() {
        let mut exports: Vec<_> = (0..=MOST_FINISHED).map(|_| export("gate", ExportState::Done)).collect();
        exports.push(ExportRecordReport {
            manifest: Some(PathBuf::from("/srv/yard.manifest.json")),
            ..export("yard", ExportState::Partial)
        });
        let report = report(Some(run("incomplete", 3)), exports);
        insta::assert_snapshot!(status_text(&report, false, false), @"
        NOT OK: 1 of 52 exports partial; last run 2026-11-21 06:03:20 to 06:12:03 UTC ended incomplete (exit 3)

        export            job      stream  from                  to                    status       chunks       video     size
        9f86d081884c7d65  nightly  yard    2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  partial  130 of 130  12 h 0 min  10.8 GB

        51 exports done or empty, not shown; --all shows them

        outputs:
          /srv/yard.mp4

        errors:
          nightly yard 2026-11-20T18:03:20Z: some fragments are not in the video, and will not be; /srv/yard.manifest.json says which and why

        52 exports: chunks 6760 of 6760; 26 d 0 h of video, 562 GB
        ");
        assert_eq!(status_text(&report, true, false).matches("/srv/gate.mp4").count(), MOST_FINISHED + 1);
    }

    #[test]
    fn an_answer_that_cannot_be_given_is_one_line() {
        let refused = StatusReport::refused("cannot open the state file\n  mend it".to_owned());
        assert_eq!(status_text(&refused, false, false), "UNKNOWN: cannot open the state file; mend it\n");
    }

    #[test]
    fn what_superseded_exports_hold_is_told_with_the_way_to_free_it() {
        let old = ExportRecordReport {
            superseded: true,
            waiting_bytes: 1_200_000_000,
            ..export("dock", ExportState::Fetching)
        };
        let exports =
            vec![old, ExportRecordReport { waiting_bytes: 5, ..export("yard", ExportState::Fetching) }];
        let text = status_text(&report(Some(run("done", 0)), exports), false, false);
        let last = text.lines().last().unwrap_or_default();
        insta::assert_snapshot!(last, @"superseded exports hold 1.2 GB of chunks; to free them: kvs-export prune /etc/jobs.toml --older-than 0d");
    }

    #[test]
    fn superseded_exports_are_in_no_other_sum() {
        let old = ExportRecordReport { superseded: true, ..export("dock", ExportState::Failed) };
        let totals = report(None, vec![old, export("yard", ExportState::Done)]).totals;
        assert_eq!((totals.exports, totals.superseded, totals.failed, totals.chunks.total), (1, 1, 0, 130));
    }

    #[test]
    fn json_tells_times_as_text_and_what_is_unknown_as_null() {
        let text = crate::report::json(&report(Some(killed()), vec![export("yard", ExportState::Fetching)]));
        let value: serde_json::Value = serde_json::from_str(&text.expect("JSON")).expect("one document");
        assert_eq!(value["schema"], "kvs-export/status/1");
        assert_eq!(value["last_run"]["ended"], serde_json::Value::Null);
        assert_eq!(value["last_run"]["started"], "2026-11-21T06:03:20.000Z");
        assert_eq!(value["exports"][0]["status"], "fetching");
        assert_eq!(value["exports"][0]["finished_at"], serde_json::Value::Null);
    }
}
