//! `kvs-export run`: a job file becomes merged, proven videos.

use std::sync::Arc;

use super::afterwards::Afterwards;
use super::asking;
use super::error::CommandError;
use super::plan;
use super::session::{self, Undertaking};
use super::{complain, print, signals, stderr_color, stdout_color};
use crate::cli::{GlobalArgs, RunArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::model::report::RunReport;
use crate::report::{self, OutputFormat};

/// Runs and reports; standard output holds one document whatever happens.
pub(super) async fn run(args: &RunArgs, global: &GlobalArgs) -> u8 {
    if args.dry_run {
        return plan::plan(&args.asking(), plan::Listing::Forget, global).await;
    }
    let mut afterwards = None;
    let result = prepare(args, global, &mut afterwards).await;
    let (report, code) = tell(result, global);
    if let Some(afterwards) = afterwards {
        afterwards.notify(&report, code, global).await;
    }
    code
}

/// Writes the document of a run that ended, or could not begin; gives it with its exit code.
pub(super) fn tell(result: Result<RunReport, CommandError>, global: &GlobalArgs) -> (RunReport, u8) {
    match result {
        Ok(report) => {
            let code = show(&report, global);
            (report, code)
        }
        Err(error) => {
            complain(&error, stderr_color(global));
            let report = RunReport::refused(error.outcome(), error.told());
            let code = match global.format {
                OutputFormat::Json => show(&report, global),
                OutputFormat::Text => exit_code::of(report.outcome),
            };
            (report, code)
        }
    }
}

fn show(report: &RunReport, global: &GlobalArgs) -> u8 {
    let code = exit_code::of(report.outcome);
    let document = match global.format {
        OutputFormat::Text if global.quiet && code == exit_code::DONE => return code,
        OutputFormat::Text => report::summary(report, stdout_color(global)),
        OutputFormat::Json => match report::json(report) {
            Ok(document) => document,
            Err(error) => {
                let error = CommandError::Io { what: "write the report as JSON", source: error.into() };
                complain(&error, stderr_color(global));
                return exit_code::UNEXPECTED;
            }
        },
    };
    print(&document, code, stderr_color(global))
}

/// Checks everything that can be checked before a request is sent, in the order of cost, then runs.
///
/// Whom to notify afterwards is known as soon as the job file is read, whatever comes of it then.
async fn prepare(
    args: &RunArgs,
    global: &GlobalArgs,
    afterwards: &mut Option<Afterwards>,
) -> Result<RunReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let read = asking::read(&args.asking(), &*clock, |command, state| {
        *afterwards = Some(Afterwards { command, state, cancel: cancel.clone() });
    })?;
    let undertaking = Undertaking {
        file: read.file,
        asked: read.asked,
        whole_file: args.only.is_empty(),
        job_file: Some(read.facts),
        demo: args.emulator.then(asking::demo_archive),
    };
    session::carry_out(undertaking, clock, cancel, global).await
}
