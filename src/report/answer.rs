//! "Did last night work?", answered in one line: what `status` begins with.

use super::state::seconds;
use super::units::{counted, one_line};
use crate::model::UtcMillis;
use crate::model::status::{Answer, LastRun, StateFileStatus, StatusTotals};

/// A reason is cut here: the line is to fit the subject of a mail.
const LONGEST_REASON: usize = 160;

/// The answer of all the state files: the worst of theirs.
pub fn answer(files: &[StateFileStatus]) -> Answer {
    let worst = files.iter().min_by_key(|file| rank(file.answer.ok, file.last_run.as_ref()));
    let Some(worst) = worst else {
        return Answer { ok: Some(false), text: "NEVER RUN: no state file was asked for".to_owned() };
    };
    if files.len() == 1 {
        return worst.answer.clone();
    }
    let good = files.iter().filter(|file| file.answer.ok == Some(true)).count();
    let text =
        format!("{} ({good} of {} state files OK; {})", worst.answer.text, files.len(), worst.path.display());
    Answer { ok: worst.answer.ok, text }
}

/// The order of state files, the worst first.
pub(super) fn rank(ok: Option<bool>, run: Option<&LastRun>) -> u8 {
    match (ok, run) {
        (Some(false), Some(_)) => 0,
        (Some(false), None) => 1,
        (None, _) => 2,
        (Some(true), _) => 3,
    }
}

/// The answer of one state file: its last run, and what the exports that are not superseded say.
pub fn answer_of(run: Option<&LastRun>, totals: &StatusTotals) -> Answer {
    let Some(run) = run else {
        let text = format!("NEVER RUN: no run is recorded, {}", exports(totals));
        return Answer { ok: Some(false), text };
    };
    let started = to_second(run.started);
    if let Some(holder) = &run.running_holder {
        let host = one_line(&holder.host);
        let text =
            format!("RUNNING since {started} UTC (process {} on {host}): {}", holder.pid, exports(totals));
        return Answer { ok: None, text };
    }
    let (Some(outcome), Some(ended)) = (run.outcome.as_deref(), run.ended) else {
        let text = format!(
            "NOT OK: KILLED: the run of {started} UTC did not end: {}; run the same command again to resume",
            exports(totals)
        );
        return Answer { ok: Some(false), text };
    };
    let last_run = format!("last run {started} to {} UTC", end(run.started, ended));
    let code = run.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit {code}"));
    // A run of one job can end well while another job's exports are not there.
    let missing = totals.failed + unfinished(totals);
    if outcome == "done" && missing == 0 {
        let text = format!("OK: {last_run} finished: {}", exports(totals));
        return Answer { ok: Some(true), text };
    }
    let why = reason(run).map_or_else(String::new, |error| format!(": {}", shortened(error)));
    let text = match (missing, totals.partial) {
        (0, 1..) if outcome == "incomplete" && run.error.is_none() => {
            format!("{} of {} partial; ", totals.partial, counted(totals.exports, "export"))
        }
        (0, _) => String::new(),
        _ => format!("{}; ", trouble(totals)),
    };
    Answer { ok: Some(false), text: format!("NOT OK: {text}{last_run} ended {outcome} ({code}){why}") }
}

/// Why a run ended early, where that says more than its outcome does.
pub(super) fn reason(run: &LastRun) -> Option<&str> {
    run.error.as_deref().filter(|error| run.outcome.as_deref() != Some(*error))
}

fn unfinished(totals: &StatusTotals) -> u64 {
    totals.planning + totals.fetching + totals.merging
}

/// What is not there, of how many.
fn trouble(totals: &StatusTotals) -> String {
    let all = counted(totals.exports, "export");
    let mut parts = Vec::new();
    for (count, word) in
        [(totals.failed, "failed"), (unfinished(totals), "unfinished"), (totals.partial, "partial")]
    {
        match (count, parts.is_empty()) {
            (0, _) => {}
            (_, true) => parts.push(format!("{count} of {all} {word}")),
            (_, false) => parts.push(format!("{count} {word}")),
        }
    }
    parts.join(", ")
}

/// Every count, failures among them even when there are none.
fn exports(totals: &StatusTotals) -> String {
    if totals.exports == 0 {
        return "no exports".to_owned();
    }
    let mut text = format!("{} done, {} failed", counted(totals.done, "export"), totals.failed);
    let others = [(unfinished(totals), "unfinished"), (totals.partial, "partial"), (totals.empty, "empty")];
    for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!(", {count} {word}");
    }
    text
}

/// The reason alone, in one line that fits a subject: the ways out are told below it.
fn shortened(error: &str) -> String {
    let reason = error.split_once("\n  hint: ").map_or(error, |(reason, _)| reason);
    let text = one_line(reason);
    match text.char_indices().nth(LONGEST_REASON) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// `2026-03-05 06:00:12`.
fn to_second(instant: UtcMillis) -> String {
    seconds(instant).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// The end of a run, without the date where it is the begin's.
fn end(started: UtcMillis, ended: UtcMillis) -> String {
    let (started, ended) = (to_second(started), to_second(ended));
    match (started.split_once(' '), ended.split_once(' ')) {
        (Some((day, _)), Some((same, time))) if day == same => time.to_owned(),
        _ => ended,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::status::RunningHolder;

    /// 2026-03-05T06:00:12Z.
    const START: i64 = 1_772_690_412_000;

    fn run(outcome: &str, exit_code: u8) -> LastRun {
        LastRun {
            started: UtcMillis::new(START),
            ended: Some(UtcMillis::new(START) + 2_451_000),
            outcome: Some(outcome.to_owned()),
            exit_code: Some(exit_code),
            job_file: None,
            error: None,
            running_holder: None,
        }
    }

    fn killed() -> LastRun {
        LastRun { ended: None, outcome: None, exit_code: None, ..run("done", 0) }
    }

    fn running() -> LastRun {
        let holder = RunningHolder { pid: 4711, host: "nas".to_owned(), since: UtcMillis::new(START) };
        LastRun { running_holder: Some(holder), ..killed() }
    }

    fn totals(done: u64, failed: u64, fetching: u64, partial: u64) -> StatusTotals {
        let exports = done + failed + fetching + partial;
        StatusTotals { exports, fetching, done, partial, failed, ..StatusTotals::default() }
    }

    #[test]
    fn the_first_line_alone_says_whether_last_night_worked() {
        let error = |text: &str, run: LastRun| LastRun { error: Some(text.to_owned()), ..run };
        let over_midnight = LastRun { ended: Some(UtcMillis::new(START) + 86_400_000), ..run("done", 0) };
        let cases = [
            (Some(run("done", 0)), totals(12, 0, 0, 0)),
            (Some(over_midnight), totals(12, 0, 0, 1)),
            (Some(run("done", 0)), totals(0, 0, 0, 0)),
            (Some(run("incomplete", 3)), totals(12, 2, 0, 0)),
            (Some(run("incomplete", 3)), totals(12, 0, 0, 2)),
            (Some(run("done", 0)), totals(11, 1, 2, 0)),
            (Some(run("interrupted", 130)), totals(3, 0, 9, 0)),
            (Some(error("the disk is full\n  make room", run("incomplete", 3))), totals(3, 0, 9, 0)),
            (Some(error("the credentials have expired", run("auth", 5))), totals(3, 0, 9, 0)),
            (Some(error("there is no ffmpeg", run("usage", 2))), totals(12, 0, 0, 0)),
            (Some(running()), totals(3, 0, 9, 0)),
            (Some(killed()), totals(3, 0, 9, 0)),
            (None, totals(0, 0, 0, 0)),
        ];
        let lines: Vec<_> = cases
            .into_iter()
            .map(|(run, totals)| answer_of(run.as_ref(), &totals))
            .map(|Answer { ok, text }| {
                format!("{:>5}  {text}", ok.map_or("?".to_owned(), |ok| ok.to_string()))
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
         true  OK: last run 2026-03-05 06:00:12 to 06:41:03 UTC finished: 12 exports done, 0 failed
         true  OK: last run 2026-03-05 06:00:12 to 2026-03-06 06:00:12 UTC finished: 12 exports done, 0 failed, 1 partial
         true  OK: last run 2026-03-05 06:00:12 to 06:41:03 UTC finished: no exports
        false  NOT OK: 2 of 14 exports failed; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended incomplete (exit 3)
        false  NOT OK: 2 of 14 exports partial; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended incomplete (exit 3)
        false  NOT OK: 1 of 14 exports failed, 2 unfinished; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended done (exit 0)
        false  NOT OK: 9 of 12 exports unfinished; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended interrupted (exit 130)
        false  NOT OK: 9 of 12 exports unfinished; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended incomplete (exit 3): the disk is full; make room
        false  NOT OK: 9 of 12 exports unfinished; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended auth (exit 5): the credentials have expired
        false  NOT OK: last run 2026-03-05 06:00:12 to 06:41:03 UTC ended usage (exit 2): there is no ffmpeg
            ?  RUNNING since 2026-03-05 06:00:12 UTC (process 4711 on nas): 3 exports done, 0 failed, 9 unfinished
        false  NOT OK: KILLED: the run of 2026-03-05 06:00:12 UTC did not end: 3 exports done, 0 failed, 9 unfinished; run the same command again to resume
        false  NEVER RUN: no run is recorded, no exports
        ");
    }

    #[test]
    fn of_several_state_files_the_worst_answers_for_all() {
        let file = |path: &str, last_run: Option<LastRun>, totals: StatusTotals| StateFileStatus {
            path: PathBuf::from(path),
            answer: answer_of(last_run.as_ref(), &totals),
            last_run,
        };
        let good = file("/a.db", Some(run("done", 0)), totals(12, 0, 0, 0));
        let bad = file("/b.db", Some(run("incomplete", 3)), totals(12, 2, 0, 0));
        let never = file("/c.db", None, totals(0, 0, 0, 0));
        let busy = file("/d.db", Some(running()), totals(3, 0, 9, 0));
        let mut lines = Vec::new();
        for files in [
            vec![good.clone(), good.clone()],
            vec![good.clone(), busy.clone()],
            vec![good.clone(), never.clone(), busy.clone()],
            vec![good, never, bad, busy],
        ] {
            lines.push(answer(&files).text);
        }
        insta::assert_snapshot!(lines.join("\n"), @"
        OK: last run 2026-03-05 06:00:12 to 06:41:03 UTC finished: 12 exports done, 0 failed (2 of 2 state files OK; /a.db)
        RUNNING since 2026-03-05 06:00:12 UTC (process 4711 on nas): 3 exports done, 0 failed, 9 unfinished (1 of 2 state files OK; /d.db)
        NEVER RUN: no run is recorded, no exports (1 of 3 state files OK; /c.db)
        NOT OK: 2 of 14 exports failed; last run 2026-03-05 06:00:12 to 06:41:03 UTC ended incomplete (exit 3) (1 of 4 state files OK; /b.db)
        ");
    }

    #[test]
    fn a_long_reason_still_fits_a_subject() {
        let run = LastRun { error: Some("x".repeat(1000)), ..run("failed", 1) };
        let answer = answer_of(Some(&run), &totals(1, 0, 0, 0));
        assert!(answer.text.chars().count() < 300, "{}", answer.text);
    }
}
