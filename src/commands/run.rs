//! `kvs-export run`: a job file becomes merged, proven videos.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::CommandError;
use super::job_file::JobFileText;
use super::session::{self, Undertaking};
use super::{complain, print, signals, stderr_color, stdout_color};
use crate::cli::{GlobalArgs, RunArgs};
use crate::clock::{Clock, SystemClock};
use crate::emulator::{Camera, EmulatorConfig};
use crate::exit_code;
use crate::job::{self, JobFile, Resolved};
use crate::model::report::RunReport;
use crate::model::{Sha256Digest, TimeRange, UtcMillis};
use crate::report::{self, OutputFormat};
use crate::run::JobFileFacts;

/// Where `--emulator` keeps everything, below the current folder.
pub(super) const DEMO_FOLDER: &str = "demo";

/// How slow the embedded archive answers with `--emulator`: like a service that is some way off.
const DEMO_LATENCY: Duration = Duration::from_millis(250);

/// What it gives each connection, in bytes per second: little enough that progress can be watched.
const DEMO_BYTES_PER_SECOND: u64 = 150_000;

/// Runs and reports; standard output holds one document whatever happens.
pub(super) async fn run(args: &RunArgs, global: &GlobalArgs) -> u8 {
    tell(prepare(args, global).await, global)
}

/// Writes the document of a run that ended, or could not begin; gives the exit code.
pub(super) fn tell(result: Result<RunReport, CommandError>, global: &GlobalArgs) -> u8 {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            complain(&error, stderr_color(global));
            let report = RunReport::refused(error.outcome(), error.told());
            return match global.format {
                OutputFormat::Json => show(&report, global),
                OutputFormat::Text => exit_code::of(report.outcome),
            };
        }
    };
    show(&report, global)
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

/// A job file as it was read.
struct Read {
    file: JobFile,
    asked: Vec<Resolved>,
    facts: JobFileFacts,
}

/// Checks everything that can be checked before a request is sent, in the order of cost, then runs.
async fn prepare(args: &RunArgs, global: &GlobalArgs) -> Result<RunReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let mut read = read(args, &*clock)?;
    if let Some(state) = &args.state {
        read.file.state = std::path::absolute(state)
            .map_err(|source| CommandError::Io { what: "find the current folder", source })?;
        // Chunks are named by the rows of their state: another state's must not lie among them.
        read.file.work = read.file.state.with_extension("chunks");
    }
    let undertaking = Undertaking {
        file: read.file,
        asked: read.asked,
        whole_file: args.only.is_empty(),
        job_file: Some(read.facts),
        demo: args.emulator.then(demo_archive),
    };
    session::carry_out(undertaking, clock, cancel, global).await
}

/// Reads and resolves the job file.
fn read(args: &RunArgs, clock: &dyn Clock) -> Result<Read, CommandError> {
    let read = JobFileText::read(&args.jobs)?;
    let folder = demo_folder(args)?;
    // In a trial everything relative lies below the trial's folder, as if the job file lay there.
    let located = match (&folder, read.path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => read.path.clone(),
    };
    let (mut file, asked) = job::load(read.source(&located)?, clock.now(), &args.only)?;
    if let Some(folder) = folder {
        file.state = folder.join("state.db");
        file.work = folder.join("chunks");
        if let Some(outside) = asked.iter().find(|asked| !asked.spec.output.starts_with(&folder)) {
            return Err(CommandError::Usage(format!(
                "with --emulator everything is written below {}, but job {} names {}",
                folder.display(),
                outside.spec.job,
                outside.spec.output.display()
            )));
        }
    }
    let facts = JobFileFacts { sha256: Sha256Digest(Sha256::digest(&read.bytes).into()), path: read.path };
    Ok(Read { file, asked, facts })
}

fn demo_folder(args: &RunArgs) -> Result<Option<PathBuf>, CommandError> {
    if !args.emulator {
        return Ok(None);
    }
    let folder = std::path::absolute(Path::new(DEMO_FOLDER))
        .map_err(|source| CommandError::Io { what: "find the current folder", source })?;
    Ok(Some(folder))
}

/// The archive of `--emulator`: any stream at any time; `loading-dock` has a gap in the example's range.
pub(super) fn demo_archive() -> EmulatorConfig {
    let gap = TimeRange::new(UtcMillis::new(1_740_988_840_000), UtcMillis::new(1_740_988_850_000));
    let dock = Camera::steady("loading-dock");
    EmulatorConfig {
        any_stream: true,
        latency: DEMO_LATENCY,
        bytes_per_second: Some(DEMO_BYTES_PER_SECOND),
        ..EmulatorConfig::with_cameras([match gap {
            Some(gap) => dock.gap(gap),
            None => dock,
        }])
    }
}
