//! What follows a run, however it ended: the `[notify]` command of its job file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::stderr_color;
use crate::cli::GlobalArgs;
use crate::error::chain;
use crate::fs::{self, FsError};
use crate::model::report::{Outcome, RunReport};
use crate::notify::{self, Notice, Notified};
use crate::report::units::one_line;
use crate::report::{self, ProgressEvent};

/// Whom to tell of a run.
pub(super) struct Afterwards {
    /// The command.
    pub(super) command: Vec<String>,
    /// The state file of the run, beside which its report is written.
    pub(super) state: PathBuf,
    /// Changes with every signal.
    pub(super) cancel: watch::Receiver<bool>,
}

impl Afterwards {
    /// Writes the run's report beside the state file and runs the command. What fails is told and changes nothing.
    pub(super) async fn notify(mut self, run: &RunReport, exit_code: u8, global: &GlobalArgs) {
        let path = report_path(&self.state, run.outcome);
        let report = match write_report(&path, run) {
            Ok(()) => Some(&*path),
            Err(why) => {
                warn(global, &format!("the report for the [notify] command cannot be written: {why}"));
                None
            }
        };
        // The signal that ended the run is not meant for the command; another one is.
        self.cancel.mark_unchanged();
        let interrupted = async {
            if self.cancel.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (outcome, limit) = (run.outcome, notify::LIMIT);
        let notice = Notice { command: &self.command, outcome, exit_code, report, limit };
        let Notified { output, result } = notify::notify(notice, interrupted).await;
        if !global.quiet || result.is_err() {
            output.lines().for_each(|line| pass_on(global, line));
        }
        if let Err(error) = result {
            warn(global, &chain(&error));
        }
    }
}

/// Where the report goes. A run that was refused because another one goes on must not take the place of that
/// one's report.
fn report_path(state: &Path, outcome: Outcome) -> PathBuf {
    state.with_extension(if outcome == Outcome::Locked { "locked-run.json" } else { "last-run.json" })
}

fn write_report(path: &Path, run: &RunReport) -> Result<(), String> {
    let told = |error: FsError| chain(&error);
    let document = report::json(run).map_err(|error| chain(&error))?;
    // A run that is refused early has not made the folder yet.
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(told)?;
    fs::write_durably(path, document.as_bytes()).map_err(told)
}

fn pass_on(global: &GlobalArgs, line: &str) {
    let line = one_line(line);
    if stderr_color(global).events {
        ProgressEvent::NotifyOutput { line: &line }.tell();
    } else {
        say(&format!("notify: {line}"));
    }
}

fn warn(global: &GlobalArgs, message: &str) {
    if stderr_color(global).events {
        ProgressEvent::Warning { message }.tell();
    } else {
        say(&format!("warning: {message}"));
    }
}

fn say(line: &str) {
    // Where standard error is closed there is nobody to tell.
    drop(io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}
