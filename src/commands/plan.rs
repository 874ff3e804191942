//! `kvs-export plan`, and `run --dry-run`: what a run would do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::asking::{self, Asking};
use super::error::CommandError;
use super::session;
use super::{complain, print, signals, stderr_color, stdout_color};
use crate::archive::Assembled;
use crate::cli::GlobalArgs;
use crate::clock::{Clock, SystemClock};
use crate::emulator::Emulator;
use crate::exit_code;
use crate::job::Resolved;
use crate::model::plan_report::PlanReport;
use crate::report::{self, OutputFormat};
use crate::run::{self as runner, Asked, PlanLimits, PlanRequest};
use crate::store::{StateLock, Store, StoreError};

/// What becomes of the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is kept in the state file for the next run.
    Keep,
    /// Nothing at all is written.
    Forget,
}

/// Plans and reports; standard output holds one document whatever happens.
pub(super) async fn plan(asking: &Asking<'_>, listing: Listing, global: &GlobalArgs) -> u8 {
    let color = stderr_color(global);
    let (report, folder) = match make(asking, listing).await {
        Ok(made) => made,
        Err(error) => {
            complain(&error, color);
            let refused = PlanReport::refused(error.outcome(), error.told());
            match global.format {
                OutputFormat::Json => (refused, PathBuf::new()),
                OutputFormat::Text => return exit_code::of(refused.outcome),
            }
        }
    };
    if let Some(reason) =
        report.listing.not_kept.as_ref().filter(|_| listing == Listing::Keep && !global.quiet)
    {
        tell(&format!("the listing is not kept for the next run: {reason}"));
    }
    let document = match global.format {
        OutputFormat::Text => report::plan_text(&report, &folder, stdout_color(global)),
        OutputFormat::Json => match report::json(&report) {
            Ok(document) => document,
            Err(error) => {
                let error = CommandError::Io { what: "write the plan as JSON", source: error.into() };
                complain(&error, color);
                return exit_code::UNEXPECTED;
            }
        },
    };
    print(&document, exit_code::of(report.outcome), color)
}

fn tell(note: &str) {
    use std::io::Write;
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "note: {note}"));
}

/// Plans; also gives the job file's folder.
async fn make(asking: &Asking<'_>, listing: Listing) -> Result<(PlanReport, PathBuf), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let read = asking::read(asking, &*clock, |_, _| ())?;
    let (file, limits) = (&read.file, read.file.limits);
    let store = open(&file.state, listing, &clock)?;
    let emulator = if asking.emulator { Some(Emulator::start(asking::demo_archive()).await?) } else { None };
    let Assembled { archive, .. } = session::connect(file, emulator.as_ref()).await?;
    let report = runner::plan(PlanRequest {
        asked: read.asked.into_iter().map(|Resolved { spec, pending, .. }| Asked { spec, pending }).collect(),
        whole_file: asking.only.is_empty(),
        store,
        keep_in: match listing {
            Listing::Keep => Ok(file.state.clone()),
            Listing::Forget => Err("nothing is written by a dry run".to_owned()),
        },
        archive,
        limits: PlanLimits {
            requests_in_flight: limits.requests_in_flight,
            stream_budget: limits.stream_budget,
            bandwidth: limits.bandwidth,
            max_bytes: limits.max_bytes,
        },
        clock,
        cancel,
    })
    .await;
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    let folder = read.facts.path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((report, folder))
}

/// Opens the state file for reading; where there is none, an empty one that is nowhere.
fn open(state: &Path, listing: Listing, clock: &Arc<dyn Clock>) -> Result<Store, CommandError> {
    match Store::open_read_only(state, Arc::clone(clock)) {
        Err(StoreError::Missing { .. }) => Ok(Store::in_memory(Arc::clone(clock))?),
        Err(StoreError::Older { .. }) if listing == Listing::Keep => {
            let _lock = StateLock::acquire(state, &**clock)?;
            drop(Store::open(state, Arc::clone(clock))?);
            Ok(Store::open_read_only(state, Arc::clone(clock))?)
        }
        opened => Ok(opened?),
    }
}
