//! `kvs-export run`: a job file becomes merged, proven videos.

use std::sync::Arc;

use super::afterwards::Afterwards;
use super::asking;
use super::document::{self, Document};
use super::error::CommandError;
use super::plan;
use super::session::{self, Undertaking};
use super::signals;
use crate::cli::{GlobalArgs, RunArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::model::report::RunReport;
use crate::report;

/// Runs and reports; standard output holds one document whatever happens.
pub(super) async fn run(args: &RunArgs, global: &GlobalArgs) -> u8 {
    if args.dry_run {
        return plan::plan(&args.asked, plan::Listing::Forget, global).await;
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
            let code = exit_code::of(report.outcome);
            let code = document::show(&report, code, global, |color| report::summary(&report, color));
            (report, code)
        }
        Err(error) => {
            let code = document::refuse(Document::Run, &error, global);
            (RunReport::refused(error.outcome(), error.told()), code)
        }
    }
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
    let read = asking::read(&args.asked, &*clock, |command, state| {
        *afterwards = Some(Afterwards { command, state, cancel: cancel.clone() });
    })?;
    let undertaking = Undertaking {
        file: read.file,
        asking: read.asking,
        whole_file: args.asked.only.is_empty(),
        again: None,
        job_file: Some(read.facts),
        demo: args.asked.emulator.then(asking::demo_archive),
    };
    session::carry_out(undertaking, clock, cancel, global).await
}
