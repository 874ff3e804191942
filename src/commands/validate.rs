//! `kvs-export validate`: is everything there that a run of the job file needs?

use std::sync::Arc;

use tokio::sync::watch;

use super::document::{self, Document};
use super::error::CommandError;
use super::job_file::JobFileText;
use super::{machine, session, signals};
use crate::cli::{GlobalArgs, ValidateArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::job::{self, JobErrors, JobFile, Resolved};
use crate::model::report::Outcome;
use crate::model::validate_report::{Check, CheckStatus, ValidateReport};
use crate::report;
use crate::report::units::counted;
use crate::run::{self as runner, Asked};

/// Checks and reports; standard output holds one document whatever happens.
pub(super) async fn validate(args: &ValidateArgs, global: &GlobalArgs) -> u8 {
    let report = match check(args).await {
        Ok(report) => report,
        Err(error) => return document::refuse(Document::Validate, &error, global),
    };
    let code = exit_code::of(report.outcome);
    document::show(&report, code, global, |color| report::validate_text(&report, color))
}

async fn check(args: &ValidateArgs) -> Result<ValidateReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut cancel = signals::cancel_on_signals()?;
    let text = JobFileText::read(&args.jobs)?;
    let loaded = text.source(&text.path).and_then(|source| job::load(source, clock.now(), &[]));
    let mut checks = Vec::new();
    let (file, asked) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            checks.extend(job_problems(&errors));
            checks.push(machine::check_ffmpeg());
            let message = "the job file has to be mended first";
            checks.push(Check::new("streams and folders", "all", CheckStatus::Untested, message));
            return Ok(ValidateReport::new(checks, None));
        }
    };
    let message =
        format!("{}, {}", counted(file.jobs.len() as u64, "job"), counted(asked.len() as u64, "export"));
    checks.push(Check::new("job file", "content", CheckStatus::Ok, message));
    checks.push(machine::check_ffmpeg());
    checks.extend(machine::check_folders(&file, &asked, &clock));
    if args.no_aws {
        return Ok(ValidateReport::new(checks, None));
    }
    let stopped = check_aws(&file, asked, &*clock, &mut cancel, &mut checks).await;
    Ok(ValidateReport::new(checks, stopped))
}

/// One check for each problem of a job file.
fn job_problems(errors: &JobErrors) -> Vec<Check> {
    let told = |problem: &job::JobProblem| {
        let subject = match problem.line {
            0 => format!("job file {}", errors.file()),
            line => format!("job file {}:{line}:{}", errors.file(), problem.column),
        };
        let check = if problem.key.is_empty() { "content" } else { &problem.key };
        let mut message = problem.message.clone();
        if let Some(accepted) = &problem.accepted {
            message = format!("{message}; accepted: {accepted}");
        }
        if let Some(suggestion) = &problem.suggestion {
            message = format!("{message}; did you mean {suggestion}?");
        }
        Check::new(&subject, check, CheckStatus::Problem, message)
    };
    errors.problems().iter().map(told).collect()
}

/// Checks the credentials and the streams; says how and why not all of it could be done.
async fn check_aws(
    file: &JobFile,
    asked: Vec<Resolved>,
    clock: &dyn Clock,
    cancel: &mut watch::Receiver<bool>,
    checks: &mut Vec<Check>,
) -> Option<(Outcome, String)> {
    let assembled = match session::connect(file, None).await {
        Ok(assembled) => assembled,
        Err(error) => {
            let mut message = error.told();
            for hint in error.hints() {
                message = format!("{message}; {hint}");
            }
            checks.push(Check::new("AWS", "credentials", CheckStatus::Problem, message));
            return (error.outcome() == Outcome::Auth).then(|| (Outcome::Auth, error.told()));
        }
    };
    let asked: Vec<Asked> =
        asked.into_iter().map(|Resolved { spec, pending, .. }| Asked { spec, pending }).collect();
    let checked = tokio::select! {
        checked = runner::check_streams(&*assembled.archive, &asked, clock.now()) => checked,
        _ = cancel.wait_for(|stop| *stop) => return Some((Outcome::Interrupted, "interrupted".to_owned())),
    };
    match checked {
        Ok(of_streams) => {
            checks.extend(of_streams.checks);
            let denied = "the credentials lack a permission on every stream";
            of_streams.all_denied.then(|| (Outcome::Auth, denied.to_owned()))
        }
        Err(stop) => {
            let message = stop.told();
            checks.push(Check::new("AWS", "credentials", CheckStatus::Problem, message.clone()));
            Some((stop.outcome(), message))
        }
    }
}
