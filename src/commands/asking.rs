//! What the commands that take a job file ask for: its exports, and where their state lies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::CommandError;
use super::expansion::Asking;
use super::job_file::{self, JobFileText};
use crate::cli::AskedArgs;
use crate::clock::Clock;
use crate::emulator::{Camera, EmulatorConfig};
use crate::job::{self, JobFile};
use crate::model::{Sha256Digest, TimeRange, UtcMillis};
use crate::run::JobFileFacts;

/// Where `--emulator` keeps everything, below the current folder.
pub(super) const DEMO_FOLDER: &str = "demo";

/// How slow the embedded archive answers with `--emulator`: like a service that is some way off.
const DEMO_LATENCY: Duration = Duration::from_millis(250);

/// What it gives each connection, in bytes per second: little enough that progress can be watched.
const DEMO_BYTES_PER_SECOND: u64 = 500_000;

/// A job file as it was read.
pub(super) struct Read {
    pub(super) file: JobFile,
    pub(super) asking: Asking,
    pub(super) facts: JobFileFacts,
}

/// Reads and resolves the job file; hands its `[notify]` command and the state file over even when the rest of it
/// is broken.
pub(super) fn read(
    args: &AskedArgs,
    clock: &dyn Clock,
    notify: impl FnOnce(Vec<String>, PathBuf),
) -> Result<Read, CommandError> {
    let read = JobFileText::read(&args.jobs)?;
    let folder = if args.emulator { Some(demo_folder()?) } else { None };
    // In a trial everything relative lies below the trial's folder, as if the job file lay there.
    let located = match (&folder, read.path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => read.path.clone(),
    };
    let given_state = match &args.state {
        Some(state) => Some(
            std::path::absolute(state)
                .map_err(|source| CommandError::Io { what: "find the current folder", source })?,
        ),
        None => None,
    };
    let demo_state = folder.as_deref().map(|folder| folder.join("state.db"));
    let source = read.source(&located)?;
    let overlay = job_file::overlay(&args.set);
    if let Some((command, state)) = job::whom_to_notify(source, &overlay) {
        notify(command, given_state.clone().or_else(|| demo_state.clone()).unwrap_or(state));
    }
    let now = clock.now();
    let (mut file, named) = job::load_over(source, &overlay, now, &args.only)?;
    if let (Some(folder), Some(state)) = (&folder, demo_state) {
        file.state = state;
        file.work = folder.join("chunks");
    }
    let asking = Asking { named, now, only: args.only.clone(), expands: true, below: folder };
    asking.check_place(&asking.named)?;
    // The job file's own state, named once more, has its chunks where they are: without them it would lose them all.
    if let Some(state) = given_state.filter(|given| !is_one_file(given, &file.state)) {
        // Chunks are named by the rows of their state: another state's must not lie among them.
        file.work = state.with_extension("chunks");
        file.state = state;
    }
    let facts = JobFileFacts { sha256: Sha256Digest(Sha256::digest(&read.bytes).into()), path: read.path };
    Ok(Read { file, asking, facts })
}

/// Whether two absolute paths lead to one file.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

fn demo_folder() -> Result<PathBuf, CommandError> {
    std::path::absolute(Path::new(DEMO_FOLDER))
        .map_err(|source| CommandError::Io { what: "find the current folder", source })
}

/// The archive of `--emulator`: any stream at any time; `loading-dock` has a gap in the example's range.
pub(super) fn demo_archive() -> EmulatorConfig {
    let gap = TimeRange::new(UtcMillis::new(1_740_988_840_000), UtcMillis::new(1_740_988_850_000));
    let dock = Camera::steady("loading-dock");
    let dock = match gap {
        Some(gap) => dock.gap(gap),
        None => dock,
    };
    // Those that a prefix finds; any other name is answered too.
    let others = ["front-gate", "yard-1", "yard-2", "yard-3"].map(Camera::steady);
    EmulatorConfig {
        any_stream: true,
        latency: DEMO_LATENCY,
        bytes_per_second: Some(DEMO_BYTES_PER_SECOND),
        ..EmulatorConfig::with_cameras(others.into_iter().chain([dock]))
    }
}
