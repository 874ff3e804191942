//! The text of `status`: its first line answers "did last night work?".

use super::state::seconds;
use super::summary::{chunks, measured, until};
use super::table::{Align, Paint, Table};
use super::units::{bytes, counted, millis, one_line};
use crate::model::status::{ExportRecordReport, LastRun, StatusReport, StatusTotals};

/// The state as text: the last run first, then a table of all exports, their errors and their sums.
pub fn status_text(report: &StatusReport, color: bool) -> String {
    let paint = Paint(color);
    if let Some(error) = &report.error {
        return format!("{} {}\n", paint.red("error:"), error.trim_end());
    }
    let mut text = headline(report.last_run.as_ref(), &report.totals, paint);
    if let Some(error) = report.last_run.as_ref().and_then(|run| run.error.as_ref()) {
        text += &format!("{} {}\n", paint.red("error:"), one_line(error));
    }
    if report.state_files.len() > 1 {
        text.push('\n');
        for file in &report.state_files {
            text += &format!("{}: {}\n", file.path.display(), how_it_ended(file.last_run.as_ref(), paint));
        }
    }
    if report.exports.is_empty() {
        return text;
    }
    text.push('\n');
    text += &table(&report.exports).render(paint);
    let failed: Vec<&ExportRecordReport> =
        report.exports.iter().filter(|export| export.error.is_some()).collect();
    if !failed.is_empty() {
        text += &format!("\n{}\n", paint.bold("errors:"));
    }
    for export in failed {
        let error = export.error.as_deref().unwrap_or_default();
        let name = format!("{} {} {}", export.job, export.stream, seconds(export.from));
        text += &format!("  {name}: {}\n", one_line(error));
    }
    text + &sums(&report.totals)
}

fn headline(run: Option<&LastRun>, totals: &StatusTotals, paint: Paint) -> String {
    let killed = run.is_some_and(|run| run.outcome.is_none() && run.running_holder.is_none());
    let hint = if killed { "; run the same command again to resume" } else { "" };
    format!("last run: {}: {}{hint}\n", how_it_ended(run, paint), counts(totals))
}

fn how_it_ended(run: Option<&LastRun>, paint: Paint) -> String {
    let Some(run) = run else { return "none yet".to_owned() };
    if let Some(holder) = &run.running_holder {
        let since = seconds(run.started);
        return format!("still running since {since} (process {} on {})", holder.pid, one_line(&holder.host));
    }
    let (Some(outcome), Some(ended)) = (&run.outcome, run.ended) else {
        let killed = paint.red("killed");
        return format!("{killed}, started {}", seconds(run.started));
    };
    let code = run.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    format!("{}, ended {} ({code})", paint.status(outcome, outcome), seconds(ended))
}

fn counts(totals: &StatusTotals) -> String {
    if totals.exports == 0 {
        return "no exports".to_owned();
    }
    let counts = [
        (totals.failed, "failed"),
        (totals.partial, "partial"),
        (totals.planning + totals.fetching + totals.merging, "unfinished"),
        (totals.done, "done"),
        (totals.empty, "empty"),
    ];
    let mut told: Vec<String> = Vec::new();
    for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let counted = if told.is_empty() { counted(count, "export") } else { count.to_string() };
        told.push(format!("{counted} {word}"));
    }
    told.join(", ")
}

fn table(exports: &[ExportRecordReport]) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("export", Left),
        ("job", Left),
        ("stream", Left),
        ("from", Left),
        ("to", Left),
        ("status", Left),
        ("chunks", Right),
        ("video", Right),
        ("size", Right),
        ("output", Left),
    ]);
    for export in exports {
        let status = if export.superseded { "superseded" } else { export.status.as_str() };
        let output =
            export.output.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        table.row(
            status,
            vec![
                export.id.to_string(),
                export.job.clone(),
                export.stream.clone(),
                seconds(export.from),
                until(export.from, export.to),
                status.to_owned(),
                chunks(&export.chunks),
                measured(export.media_ms, millis),
                measured(export.bytes, bytes),
                output,
            ],
        );
    }
    table
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
    use crate::model::status::{RunningHolder, StateFileStatus};
    use crate::model::{ExportId, ExportState, UtcMillis};

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
            fragments: 21_600,
            bytes: 10_800_000_000,
            media_ms: 43_200_000,
            finished_at: None,
            error: None,
        }
    }

    fn report(run: Option<LastRun>, exports: Vec<ExportRecordReport>) -> StatusReport {
        let file = |path: &str, last_run| StateFileStatus { path: PathBuf::from(path), last_run };
        StatusReport::new(vec![file("/srv/state.db", run)], exports)
    }

    /// A report in which every key has a value.
    pub(crate) fn everything() -> StatusReport {
        let holder = RunningHolder { pid: 4711, host: "nas".to_owned(), since: UtcMillis::new(START) };
        let running = LastRun { running_holder: Some(holder), ..killed() };
        report(Some(running), vec![export("yard", ExportState::Fetching)])
    }

    fn first_line(report: &StatusReport) -> String {
        status_text(report, false).lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_good_night_is_answered_in_the_first_line() {
        let exports = vec![export("front-gate", ExportState::Done), export("yard", ExportState::Done)];
        insta::assert_snapshot!(status_text(&report(Some(run("done", 0)), exports), false), @"
        last run: done, ended 2026-11-21T06:12:03Z (exit code 0): 2 exports done

        export            job      stream      from                  to                    status      chunks       video     size  output
        9f86d081884c7d65  nightly  front-gate  2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done    130 of 130  12 h 0 min  10.8 GB  /srv/front-gate.mp4
        9f86d081884c7d65  nightly  yard        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done    130 of 130  12 h 0 min  10.8 GB  /srv/yard.mp4

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
        insta::assert_snapshot!(status_text(&report(Some(run("incomplete", 3)), exports), false), @"
        last run: incomplete, ended 2026-11-21T06:12:03Z (exit code 3): 1 export failed, 1 done

        export            job      stream      from                  to                    status                    chunks       video     size  output
        9f86d081884c7d65  nightly  front-gate  2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  done                  130 of 130  12 h 0 min  10.8 GB  /srv/front-gate.mp4
        9f86d081884c7d65  nightly  yard        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  failed      60 of 130, 70 failed  12 h 0 min  10.8 GB  /srv/yard.mp4
        9f86d081884c7d65  nightly  dock        2026-11-20T18:03:20Z  2026-11-21T06:03:20Z  superseded            130 of 130  12 h 0 min  10.8 GB  /srv/dock.mp4

        errors:
          nightly yard 2026-11-20T18:03:20Z: cannot fetch: access denied; allow kinesisvideo:GetClip

        2 exports: chunks 190 of 260, 70 failed; 1 d 0 h of video, 21.6 GB, 1 superseded (their text left the job file; they are not resumed)
        ");
    }

    #[test]
    fn the_first_line_tells_running_from_killed_from_never() {
        let holder = RunningHolder { pid: 4711, host: "nas".to_owned(), since: UtcMillis::new(START) };
        let running = LastRun { running_holder: Some(holder), ..killed() };
        let lines = [Some(running), Some(killed()), None]
            .map(|run| first_line(&report(run, vec![export("yard", ExportState::Fetching)])));
        insta::assert_snapshot!(lines.join("\n"), @"
        last run: still running since 2026-11-21T06:03:20Z (process 4711 on nas): 1 export unfinished
        last run: killed, started 2026-11-21T06:03:20Z: 1 export unfinished; run the same command again to resume
        last run: none yet: 1 export unfinished
        ");
    }

    #[test]
    fn of_several_state_files_the_latest_run_stands_first() {
        let later = LastRun { started: UtcMillis::new(START) + 1, ..run("incomplete", 3) };
        let file = |path: &str, last_run| StateFileStatus { path: PathBuf::from(path), last_run };
        let files =
            vec![file("/a.db", Some(later)), file("/b.db", Some(run("done", 0))), file("/c.db", None)];
        insta::assert_snapshot!(status_text(&StatusReport::new(files, Vec::new()), false), @"
        last run: incomplete, ended 2026-11-21T06:12:03Z (exit code 3): no exports

        /a.db: incomplete, ended 2026-11-21T06:12:03Z (exit code 3)
        /b.db: done, ended 2026-11-21T06:12:03Z (exit code 0)
        /c.db: none yet
        ");
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
