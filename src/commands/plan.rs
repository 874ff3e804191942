//! `kvs-export plan`, and `run --dry-run`: what a run would do.

use std::io::{self, Stdout};
use std::path::Path;
use std::sync::Arc;

use super::asking::{self, Read};
use super::document::{self, Document};
use super::error::CommandError;
use super::expansion::{AskedFor, Lister};
use super::{session, signals, stdout_color};
use crate::archive::Assembled;
use crate::cli::{AskedArgs, GlobalArgs};
use crate::clock::{Clock, SystemClock};
use crate::emulator::Emulator;
use crate::exit_code;
use crate::model::plan_report::PlanReport;
use crate::report::{OutputFormat, PlanForm, PlanPrinter};
use crate::run::{self as runner, Again, NoEvents, PlanLimits, PlanRequest};
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
pub(super) async fn plan(args: &AskedArgs, listing: Listing, global: &GlobalArgs) -> u8 {
    plan_selected(args, listing, global, |_, _| Ok(None)).await
}

/// Plans what is asked for of the exports that were begun before, where `select` finds any.
pub(super) async fn plan_selected(
    args: &AskedArgs,
    listing: Listing,
    global: &GlobalArgs,
    select: impl FnOnce(&mut Read, &Store) -> Result<Option<Again>, CommandError>,
) -> u8 {
    let (report, printer) = match make(args, listing, global, select).await {
        Ok(made) => made,
        Err(error) => return document::refuse(Document::Plan, &error, global),
    };
    if let Some(reason) =
        report.listing.not_kept.as_ref().filter(|_| listing == Listing::Keep && !global.quiet)
    {
        tell(&format!("the listing is not kept for the next run: {reason}"));
    }
    document::written(printer.finish(&report), exit_code::of(report.outcome), global)
}

fn tell(note: &str) {
    use std::io::Write;
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "note: {note}"));
}

/// Plans, and writes the exports.
async fn make(
    args: &AskedArgs,
    listing: Listing,
    global: &GlobalArgs,
    select: impl FnOnce(&mut Read, &Store) -> Result<Option<Again>, CommandError>,
) -> Result<(PlanReport, Arc<PlanPrinter<Stdout>>), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let mut read = asking::read(args, &*clock, |_, _| ())?;
    let store = open(&read.file.state, listing, &clock)?;
    let again = select(&mut read, &store)?;
    let (file, limits) = (&read.file, read.file.limits);
    let emulator = if args.emulator { Some(Emulator::start(asking::demo_archive()).await?) } else { None };
    let Assembled { archive, .. } = session::connect(file, emulator.as_ref()).await?;
    let lister = Lister { archive: &*archive, events: Arc::new(NoEvents), cancel: cancel.clone() };
    let AskedFor { asked, unlisted, pages } = read.asking.complete(file, &store, lister).await?;
    let form = match global.format {
        OutputFormat::Json => PlanForm::Json,
        OutputFormat::Text => PlanForm::Text {
            folder: read.facts.path.parent().unwrap_or(Path::new("/")).to_owned(),
            color: stdout_color(global),
        },
    };
    let printer = Arc::new(PlanPrinter::new(form, io::stdout()));
    let request = PlanRequest {
        asked,
        unlisted,
        list_streams: pages,
        whole_file: args.only.is_empty(),
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
        told: printer.clone(),
        cancel,
    };
    let report = match &again {
        Some(again) => runner::plan_again(request, again).await,
        None => runner::plan(request).await,
    };
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    Ok((report, printer))
}

/// Opens the state file for reading; where there is none, an empty one that is nowhere.
pub(super) fn open(state: &Path, listing: Listing, clock: &Arc<dyn Clock>) -> Result<Store, CommandError> {
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
