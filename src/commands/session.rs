//! What the commands that speak to an archive have in common: the way to it, and a run from the lock to the report.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::CommandError;
use super::expansion::{AskedFor, Asking, Lister};
use super::stderr_color;
use crate::archive::{self, Assembled, AwsArchive, AwsSettings, LimitSettings, RetrySettings};
use crate::cli::GlobalArgs;
use crate::clock::Clock;
use crate::emulator::{Emulator, EmulatorConfig};
use crate::exit_code;
use crate::fs;
use crate::job::JobFile;
use crate::merge::Ffmpeg;
use crate::model::report::RunReport;
use crate::report::{self, ProgressEvent, ProgressMode, ProgressOptions};
use crate::run::{self as runner, Again, DiskLimits, JobFileFacts, RunRequest, SystemDisks};
use crate::store::{StateLock, Store};

/// What is to be carried out.
pub(super) struct Undertaking {
    /// Where state and chunks lie, how to reach AWS, how much to do at once.
    pub(super) file: JobFile,
    /// What is asked for.
    pub(super) asking: Asking,
    /// Whether they are all that the file asks for.
    pub(super) whole_file: bool,
    /// Which of those that were begun before are meant, where not all that is asked for is.
    pub(super) again: Option<Again>,
    /// The job file, where there is one.
    pub(super) job_file: Option<JobFileFacts>,
    /// The embedded archive to use in place of AWS.
    pub(super) demo: Option<EmulatorConfig>,
}

/// Takes the locks, runs, and reports.
pub(super) async fn carry_out(
    undertaking: Undertaking,
    clock: Arc<dyn Clock>,
    cancel: watch::Receiver<bool>,
    global: &GlobalArgs,
) -> Result<RunReport, CommandError> {
    let Undertaking { file, asking, whole_file, again, job_file, demo } = undertaking;
    let ffmpeg = Ffmpeg::find()?;
    let lock = StateLock::acquire(&file.state, &*clock)?;
    let mut store = Store::open(&file.state, Arc::clone(&clock))?;
    fs::create_dir_all(&file.work)?;
    let work_lock =
        fs::lock_folder(&file.work)?.ok_or_else(|| CommandError::WorkLocked { path: file.work.clone() })?;
    let emulator = match demo {
        Some(config) => Some(Emulator::start(config).await?),
        None => None,
    };
    let refused = |error: &CommandError, store: &mut Store| {
        let report = RunReport::refused(error.outcome(), error.told());
        runner::record_refused(store, job_file.as_ref(), &report);
    };
    let Assembled { archive, pace } = match connect(&file, emulator.as_ref()).await {
        Ok(assembled) => assembled,
        Err(error) => {
            refused(&error, &mut store);
            return Err(error);
        }
    };
    let progress = report::progress(&ProgressOptions {
        mode: global.progress,
        color: stderr_color(global).color,
        quiet: global.quiet,
        logs: global.verbose > 0,
        outage: Some(Duration::from_millis(file.limits.outage_ms)),
        job_file: job_file.as_ref().map(|job_file| job_file.path.clone()),
        state: file.state.clone(),
    });
    let lister = Lister { archive: &*archive, events: progress.sink(), cancel: cancel.clone() };
    let AskedFor { asked, unlisted, .. } = match asking.complete(&file, &store, lister).await {
        Ok(asked) => asked,
        Err(error) => {
            refused(&error, &mut store);
            progress.finish(error.outcome());
            return Err(error);
        }
    };
    let limits = &file.limits;
    let request = RunRequest {
        asked,
        unlisted,
        whole_file,
        store,
        state: file.state.clone(),
        work: file.work.clone(),
        archive,
        pace,
        requests_in_flight: limits.requests_in_flight,
        attempts: limits.attempts,
        merges: limits.merges,
        disk: DiskLimits {
            min_free: limits.min_free,
            max_bytes: limits.max_bytes,
            disks: Arc::new(SystemDisks),
        },
        ffmpeg,
        clock,
        events: progress.sink(),
        cancel,
        job_file,
    };
    let report = match &again {
        Some(again) => runner::run_again(request, again).await,
        None => runner::run(request).await,
    };
    progress.finish(report.outcome);
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    drop((work_lock, lock));
    if global.progress == ProgressMode::Json {
        let (outcome, exit_code) = (report.outcome, exit_code::of(report.outcome));
        ProgressEvent::Ended { outcome, exit_code }.tell();
    }
    Ok(report)
}

/// The archive that a job file names, or the embedded one, within its decorators.
pub(super) async fn connect(file: &JobFile, emulator: Option<&Emulator>) -> Result<Assembled, CommandError> {
    let archive = AwsArchive::connect(&aws_settings(file, emulator)).await?;
    let limits = &file.limits;
    Ok(archive::assemble(
        archive,
        LimitSettings {
            requests_in_flight: limits.requests_in_flight,
            stream_budget: limits.stream_budget,
            bandwidth: limits.bandwidth,
        },
        RetrySettings { attempts: limits.attempts, outage: Duration::from_millis(limits.outage_ms) },
    ))
}

fn aws_settings(file: &JobFile, emulator: Option<&Emulator>) -> AwsSettings {
    match emulator {
        Some(emulator) => AwsSettings {
            region: Some(EmulatorConfig::default().region),
            profile: None,
            endpoint_url: Some(emulator.endpoint()),
            static_credentials: Some(("emulator".to_owned(), "emulator".to_owned())),
            idle_timeout: None,
        },
        None => AwsSettings {
            region: file.aws.region.clone(),
            profile: file.aws.profile.clone(),
            endpoint_url: file.aws.endpoint_url.clone(),
            static_credentials: None,
            idle_timeout: None,
        },
    }
}
