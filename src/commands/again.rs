//! `kvs-export retry` and `redo`: exports that were begun before, again, on the way that `run` takes.

use std::path::Path;
use std::sync::Arc;

use super::afterwards::Afterwards;
use super::asking::{self, Read};
use super::error::CommandError;
use super::plan::{self, Listing};
use super::session::{self, Undertaking};
use super::{run, signals};
use crate::cli::{AskedArgs, GlobalArgs, RedoArgs, RetryArgs};
use crate::clock::{Clock, SystemClock};
use crate::job::{Resolved, nearest};
use crate::model::ExportId;
use crate::model::report::RunReport;
use crate::run::{Again, may_be_redone, may_be_retried};
use crate::store::{ExportRecord, Store};

/// More exports than these are not named where a beginning of an id is not enough.
const MOST_NAMED: usize = 5;

/// Which exports are meant.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    /// The failed ones with these ids, or all.
    Failed(&'a [String]),
    /// The finished one with that id.
    Finished(&'a str),
}

/// Tries failed exports again.
pub(super) async fn retry(args: &RetryArgs, global: &GlobalArgs) -> u8 {
    again(&args.asked, Wanted::Failed(&args.exports), args.dry_run, global).await
}

/// Makes a finished export again.
pub(super) async fn redo(args: &RedoArgs, global: &GlobalArgs) -> u8 {
    let asked = AskedArgs {
        jobs: args.jobs.clone(),
        only: Vec::new(),
        state: args.state.clone(),
        emulator: args.emulator,
        set: Vec::new(),
    };
    again(&asked, Wanted::Finished(&args.export), args.dry_run, global).await
}

async fn again(args: &AskedArgs, wanted: Wanted<'_>, dry_run: bool, global: &GlobalArgs) -> u8 {
    if dry_run {
        let select = |read: &mut Read, store: &Store| select(read, store, wanted, &args.jobs).map(Some);
        return plan::plan_selected(args, Listing::Forget, global, select).await;
    }
    let mut afterwards = None;
    let result = carry_out(args, wanted, global, &mut afterwards).await;
    let (report, code) = run::tell(result, global);
    if let Some(afterwards) = afterwards {
        afterwards.notify(&report, code, global).await;
    }
    code
}

async fn carry_out(
    args: &AskedArgs,
    wanted: Wanted<'_>,
    global: &GlobalArgs,
    afterwards: &mut Option<Afterwards>,
) -> Result<RunReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let mut read = asking::read(args, &*clock, |command, state| {
        *afterwards = Some(Afterwards { command, state, cancel: cancel.clone() });
    })?;
    let store = plan::open(&read.file.state, Listing::Keep, &clock)?;
    let again = select(&mut read, &store, wanted, &args.jobs)?;
    drop(store);
    let undertaking = Undertaking {
        file: read.file,
        asking: read.asking,
        whole_file: args.only.is_empty(),
        again: Some(again),
        job_file: Some(read.facts),
        demo: args.emulator.then(asking::demo_archive),
    };
    session::carry_out(undertaking, clock, cancel, global).await
}

/// Finds the exports that are meant. A finished one is made again as it was resolved, whatever the job file asks for.
fn select(read: &mut Read, store: &Store, wanted: Wanted<'_>, jobs: &Path) -> Result<Again, CommandError> {
    match wanted {
        Wanted::Failed(texts) => {
            let ids = texts.iter().map(|text| {
                let record = find(store, text, jobs)?;
                if may_be_retried(&record) { Ok(record.identity.id) } else { Err(not_failed(&record, jobs)) }
            });
            Ok(Again::Failed(ids.collect::<Result<_, _>>()?))
        }
        Wanted::Finished(text) => {
            let record = find(store, text, jobs)?;
            if !may_be_redone(store, &record)? {
                return Err(CommandError::Usage(format!(
                    "export {} is not finished, it is {}: kvs-export run {} goes on with it",
                    record.identity.id,
                    record.state.as_str(),
                    jobs.display()
                )));
            }
            let ExportRecord { identity, spec, .. } = record;
            read.asking.named = vec![Resolved { spec, pending: false, line: 0 }];
            read.asking.expands = false;
            Ok(Again::Finished(identity.id))
        }
    }
}

fn not_failed(record: &ExportRecord, jobs: &Path) -> CommandError {
    let (id, state, jobs) = (&record.identity.id, record.state.as_str(), jobs.display());
    let way_out = if record.state.is_final() {
        format!("kvs-export redo {jobs} {id} makes it again")
    } else {
        format!("kvs-export run {jobs} goes on with it")
    };
    CommandError::Usage(format!("export {id} has not failed, it is {state}: {way_out}"))
}

/// The export whose id begins with `text`.
fn find(store: &Store, text: &str, jobs: &Path) -> Result<ExportRecord, CommandError> {
    let is_id = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found = if is_id { store.ids_with_prefix(&text.to_ascii_lowercase())? } else { Vec::new() };
    let record = match found.as_slice() {
        [id] => store.export(id)?,
        [] => None,
        several => {
            let named: Vec<&str> = several.iter().take(MOST_NAMED).map(|id| id.0.as_str()).collect();
            let more = if several.len() > MOST_NAMED { ", …" } else { "" };
            return Err(CommandError::Usage(format!(
                "{} exports begin with {text:?}: {}{more}; give more of the one that is meant",
                several.len(),
                named.join(", ")
            )));
        }
    };
    match record {
        Some(record) => Ok(record),
        None => Err(unknown(&store.ids_with_prefix("")?, text, jobs)),
    }
}

fn unknown(ids: &[ExportId], text: &str, jobs: &Path) -> CommandError {
    let near = nearest(text, ids.iter().map(|id| id.0.as_str()));
    let meant = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    CommandError::Usage(format!(
        "no export's id begins with {text:?}{meant}; the ids are shown by: kvs-export status {}",
        jobs.display()
    ))
}
