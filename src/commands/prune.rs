//! `kvs-export prune`: forgets old exports. No request is sent.

use std::sync::Arc;

use tokio::sync::watch;

use super::asking::{self, Read};
use super::document::{self, Document};
use super::error::CommandError;
use super::expansion::Asking;
use super::plan::{self, Listing};
use super::signals;
use crate::cli::{AskedArgs, GlobalArgs, PruneArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::fs;
use crate::job::{Duration, JobFile};
use crate::model::prune_report::PruneReport;
use crate::model::{ExportSpec, UtcMillis};
use crate::report;
use crate::run::{self as runner, PruneRequest};
use crate::store::{StateLock, Store};

/// A day is 24 hours here: nobody's local days are meant.
const MILLIS_PER_DAY: i64 = 86_400_000;

/// Forgets and reports; standard output holds one document whatever happens.
pub(super) fn prune(args: &PruneArgs, global: &GlobalArgs) -> u8 {
    match forget(args) {
        Ok(report) => {
            let code = exit_code::of(report.outcome);
            document::show(&report, code, global, |color| report::prune_text(&report, color))
        }
        Err(error) => document::refuse(Document::Prune, &error, global),
    }
}

fn forget(args: &PruneArgs) -> Result<PruneReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let before = before(&args.older_than, clock.now())?;
    let asked = AskedArgs {
        jobs: args.jobs.clone(),
        only: Vec::new(),
        state: args.state.clone(),
        emulator: args.emulator,
        set: Vec::new(),
    };
    let Read { file, asking, .. } = asking::read(&asked, &*clock, |_, _| ())?;
    let cancel = signals::cancel_on_signals()?;
    // Where there is nothing yet, nothing is made.
    if args.dry_run || !file.state.exists() {
        let mut store = plan::open(&file.state, Listing::Forget, &clock)?;
        return forget_in(&mut store, &file, asking, before, args.dry_run, &cancel);
    }
    let lock = StateLock::acquire(&file.state, &*clock)?;
    let mut store = Store::open(&file.state, Arc::clone(&clock))?;
    fs::create_dir_all(&file.work)?;
    let work_lock =
        fs::lock_folder(&file.work)?.ok_or_else(|| CommandError::WorkLocked { path: file.work.clone() })?;
    let report = forget_in(&mut store, &file, asking, before, false, &cancel);
    drop((store, work_lock, lock));
    report
}

fn forget_in(
    store: &mut Store,
    file: &JobFile,
    asking: Asking,
    before: UtcMillis,
    dry_run: bool,
    cancel: &watch::Receiver<bool>,
) -> Result<PruneReport, CommandError> {
    let asked: Vec<ExportSpec> =
        asking.complete_as_recorded(file, store)?.into_iter().map(|asked| asked.spec).collect();
    let stopped = || *cancel.borrow();
    let request = PruneRequest { asked: &asked, before, work: &file.work, dry_run, stopped: &stopped };
    Ok(runner::prune(store, &request))
}

/// When an export must have changed last that is of that age now.
fn before(age: &str, now: UtcMillis) -> Result<UtcMillis, CommandError> {
    let age = Duration::parse(age).map_err(|refusal| {
        let accepted = refusal.accepted.map(|form| format!("; accepted: {form}")).unwrap_or_default();
        CommandError::Usage(format!("--older-than: {}{accepted}", refusal.message))
    })?;
    let millis = i64::try_from(age.millis).unwrap_or(i64::MAX);
    Ok(now - (i64::from(age.days) * MILLIS_PER_DAY).saturating_add(millis))
}
