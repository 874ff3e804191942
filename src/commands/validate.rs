//! `kvs-export validate`: is everything there that a run of the job file needs?

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::document::{self, Document};
use super::error::CommandError;
use super::expansion::{self, Lister};
use super::job_file::{self, JobFileText};
use super::{machine, session, signals};
use crate::archive::Archive;
use crate::cli::{GlobalArgs, ValidateArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::job::{self, ExpandedPrefix, JobErrors, JobFile, KnownStreams, Resolved};
use crate::model::report::Outcome;
use crate::model::validate_report::{Check, CheckStatus, ValidateReport};
use crate::model::{StreamPrefix, UtcMillis};
use crate::report;
use crate::report::units::counted;
use crate::run::{self as runner, ListedPrefixes, NoEvents, Stop};

const LIST_STREAMS: &str = "kinesisvideo:ListStreams";

/// Checks and reports; standard output holds one document whatever happens.
pub(super) async fn validate(args: &ValidateArgs, global: &GlobalArgs) -> u8 {
    let found = match check(args).await {
        Ok(found) => found,
        Err(error) => return document::refuse(Document::Validate, &error, global),
    };
    let Found { report, errors } = &found;
    let code = exit_code::of(report.outcome);
    document::show(report, code, global, |color| report::validate_text(report, errors.as_ref(), color))
}

/// What was found.
struct Found {
    report: ValidateReport,
    /// What is wrong with the job file; each of it is a check of the report as well.
    errors: Option<JobErrors>,
}

impl From<ValidateReport> for Found {
    fn from(report: ValidateReport) -> Self {
        Self { report, errors: None }
    }
}

async fn check(args: &ValidateArgs) -> Result<Found, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut cancel = signals::cancel_on_signals()?;
    let text = JobFileText::read(&args.jobs)?;
    let now = clock.now();
    let overlay = job_file::overlay(&args.set);
    let source = text.source(&text.path);
    let loaded = source.and_then(|source| job::load_over(source, &overlay, now, &[]));
    let mut checks = Vec::new();
    let (file, named) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            checks.extend(job_problems(&errors));
            checks.push(machine::check_ffmpeg());
            let message = "the job file has to be mended first";
            checks.push(Check::new("streams and folders", "all", CheckStatus::Untested, message));
            return Ok(Found { report: ValidateReport::new(checks, None), errors: Some(errors) });
        }
    };
    checks.push(content(&file, &named));
    let settings = match text.source(&text.path) {
        Ok(source) if args.show => Some(job::show(source, &overlay)),
        _ => None,
    };
    let report = |checks, stopped| ValidateReport { settings, ..ValidateReport::new(checks, stopped) };
    checks.push(machine::check_ffmpeg());
    let prefixes = file.prefixes(&[]);
    if args.no_aws {
        checks.extend(machine::check_folders(&file, &named, &clock));
        checks.extend(prefixes.iter().map(|prefix| {
            let message = "which streams it takes only AWS knows: no request is sent";
            Check::new(&subject(prefix), LIST_STREAMS, CheckStatus::Untested, message)
        }));
        return Ok(report(checks, None).into());
    }
    let assembled = session::connect(&file, None).await;
    let archive = assembled.as_ref().ok().map(|assembled| &*assembled.archive);
    let (mut of_prefixes, mut asked, mut stopped) = (Vec::new(), named, None);
    if let Some(archive) = archive.filter(|_| !prefixes.is_empty()) {
        let lister = Lister { archive, events: Arc::new(NoEvents), cancel: cancel.clone() };
        match lister.list(&file, &[]).await {
            Ok(prefixes) => asked = check_prefixes(&file, now, &prefixes, &mut of_prefixes),
            Err(stop) => stopped = Some(stop),
        }
    }
    checks.extend(machine::check_folders(&file, &asked, &clock));
    checks.append(&mut of_prefixes);
    let stopped = match (assembled, stopped) {
        (Err(error), _) => no_connection(&error, &mut checks),
        (Ok(_), Some(stop)) => Some(stopped_by(&stop, &mut checks)),
        (Ok(assembled), None) => {
            check_streams(&*assembled.archive, asked, now, &mut cancel, &mut checks).await
        }
    };
    Ok(report(checks, stopped).into())
}

/// What the file holds.
fn content(file: &JobFile, named: &[Resolved]) -> Check {
    let mut message =
        format!("{}, {}", counted(file.jobs.len() as u64, "job"), counted(named.len() as u64, "export"));
    if !file.prefixes(&[]).is_empty() {
        message += ", and those of the streams that prefixes take";
    }
    Check::new("job file", "content", CheckStatus::Ok, message)
}

fn subject(prefix: &StreamPrefix) -> String {
    format!("streams {prefix}")
}

/// Tells what each prefix came to; gives the exports with those of its streams.
fn check_prefixes(
    file: &JobFile,
    now: UtcMillis,
    listed: &ListedPrefixes,
    checks: &mut Vec<Check>,
) -> Vec<Resolved> {
    // Exports that are not finished are no matter of a check.
    let unfinished = HashMap::new();
    let known = KnownStreams { listings: &listed.listings, unfinished: &unfinished };
    let (expansion, errors) = file.expand(now, &[], known);
    for (prefix, streams) in listed.listings.iter() {
        let (status, message) = match streams {
            Ok(streams) => (CheckStatus::Ok, counted(streams.len() as u64, "stream")),
            Err(why) => (CheckStatus::Problem, why.error.clone()),
        };
        checks.push(Check::new(&subject(prefix), LIST_STREAMS, status, message));
    }
    for ExpandedPrefix { job, prefix, taken } in expansion.prefixes {
        let Some(taken) = taken.filter(|taken| !taken.streams.is_empty()) else { continue };
        let mut message = vec![counted(taken.streams.len() as u64, "stream")];
        message.extend(taken.others());
        let message = message.join(", ");
        checks.push(Check::new(&format!("job {job}"), &prefix.to_string(), CheckStatus::Ok, message));
    }
    checks.extend(errors.iter().flat_map(job_problems));
    expansion.exports
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

/// Notes that AWS cannot be asked at all; says how and why nothing of it could be checked.
fn no_connection(error: &CommandError, checks: &mut Vec<Check>) -> Option<(Outcome, String)> {
    let mut message = error.told();
    for hint in error.hints() {
        message = format!("{message}; {hint}");
    }
    checks.push(Check::new("AWS", "credentials", CheckStatus::Problem, message));
    (error.outcome() == Outcome::Auth).then(|| (Outcome::Auth, error.told()))
}

/// Notes what ended the checks before their end.
fn stopped_by(stop: &Stop, checks: &mut Vec<Check>) -> (Outcome, String) {
    let message = stop.told();
    if !matches!(stop, Stop::Interrupted) {
        checks.push(Check::new("AWS", "credentials", CheckStatus::Problem, message.clone()));
    }
    (stop.outcome(), message)
}

/// Checks the streams; says how and why not all of it could be done.
async fn check_streams(
    archive: &dyn Archive,
    asked: Vec<Resolved>,
    now: UtcMillis,
    cancel: &mut watch::Receiver<bool>,
    checks: &mut Vec<Check>,
) -> Option<(Outcome, String)> {
    let asked = expansion::asked(asked);
    let checked = tokio::select! {
        checked = runner::check_streams(archive, &asked, now) => checked,
        _ = cancel.wait_for(|stop| *stop) => Err(Stop::Interrupted),
    };
    match checked {
        Ok(of_streams) => {
            checks.extend(of_streams.checks);
            let denied = "the credentials lack a permission on every stream";
            of_streams.all_denied.then(|| (Outcome::Auth, denied.to_owned()))
        }
        Err(stop) => Some(stopped_by(&stop, checks)),
    }
}
