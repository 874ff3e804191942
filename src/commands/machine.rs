//! What a job needs of this machine: ffmpeg, folders that can be written, room on their disks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::error::chain;
use crate::fs;
use crate::job::{JobFile, Resolved};
use crate::merge::Ffmpeg;
use crate::model::validate_report::{Check, CheckStatus};
use crate::report::units::bytes;
use crate::store::{Store, StoreError, refuse_network};

/// Checks that there is an ffmpeg.
pub(super) fn check_ffmpeg() -> Check {
    match Ffmpeg::find() {
        Ok(ffmpeg) => {
            let found = format!("{} {}", ffmpeg.path.display(), ffmpeg.version);
            Check::new("ffmpeg", "version", CheckStatus::Ok, found)
        }
        Err(error) => Check::new("ffmpeg", "version", CheckStatus::Problem, chain(&error)),
    }
}

/// Checks the state file and every folder that a run writes to; leaves nothing behind.
pub(super) fn check_folders(file: &JobFile, asked: &[Resolved], clock: &Arc<dyn Clock>) -> Vec<Check> {
    let mut checks = vec![check_state(&file.state, clock)];
    checks.extend(check_checkout(&file.state));
    let state = file.state.parent().unwrap_or(Path::new("/"));
    let mut folders = vec![("state", state), ("work", &*file.work)];
    let outputs: BTreeSet<&Path> = asked.iter().filter_map(|asked| asked.spec.output.parent()).collect();
    folders.extend(outputs.into_iter().map(|folder| ("output", folder)));
    // Exports by the thousand have as many folders that are not there yet, in one that is.
    let mut seen = BTreeSet::new();
    for (what, folder) in folders {
        let there = nearest(folder);
        if !seen.insert((what, there.clone())) {
            continue;
        }
        let subject = format!("{what} folder {}", there.display());
        checks.push(match try_to_write(&there) {
            Ok(()) => Check::new(&subject, "writable", CheckStatus::Ok, "it can be written"),
            Err(error) => {
                let message = format!("{}; make it writable, or name another folder", chain(&error));
                Check::new(&subject, "writable", CheckStatus::Problem, message)
            }
        });
        checks.push(check_room(&subject, &there, file.limits.min_free));
    }
    checks
}

fn check_state(state: &Path, clock: &Arc<dyn Clock>) -> Check {
    let subject = format!("state file {}", state.display());
    let result = refuse_network(state, &nearest(state.parent().unwrap_or(Path::new("/"))))
        .and_then(|()| Store::open_read_only(state, Arc::clone(clock)).map(drop));
    match result {
        Ok(()) => Check::new(&subject, "usable", CheckStatus::Ok, "it can be read"),
        Err(StoreError::Missing { .. }) => {
            Check::new(&subject, "usable", CheckStatus::Ok, "the first run makes it")
        }
        Err(error @ StoreError::Older { .. }) => {
            Check::new(&subject, "usable", CheckStatus::Note, chain(&error))
        }
        Err(error) => Check::new(&subject, "usable", CheckStatus::Problem, chain(&error)),
    }
}

/// Notes that the state file lies in a git work tree. That git ignores it keeps it out of commits, but not from
/// `git clean -x`, nor does it come along into the next checkout.
fn check_checkout(state: &Path) -> Option<Check> {
    // A work tree of its own and a submodule have a file of that name.
    let top = state.ancestors().skip(1).find(|folder| folder.join(".git").symlink_metadata().is_ok())?;
    let message = format!(
        "it lies in the git work tree {}: git clean -fdx, or a fresh checkout, would take the record of what is done \
         away, and fetched chunks with it; name a path outside it, with `state` and `work` or with --state",
        top.display()
    );
    Some(Check::new(&format!("state file {}", state.display()), "place", CheckStatus::Note, message))
}

/// The folder itself, or the nearest above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// Makes a file in a folder and removes it: permissions alone do not tell of quotas and read-only mounts.
fn try_to_write(folder: &Path) -> Result<(), fs::FsError> {
    let probe = folder.join(format!(".kvs-export-check-{}", std::process::id()));
    drop(fs::create(&probe)?);
    fs::remove_file(&probe)
}

fn check_room(subject: &str, folder: &Path, min_free: u64) -> Check {
    let free = match rustix::fs::statvfs(folder) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(errno) => {
            let message = format!("its free space cannot be read: {errno}");
            return Check::new(subject, "free space", CheckStatus::Untested, message);
        }
    };
    if free < min_free {
        let message = format!(
            "{} are free, fewer than min_free ({}): a run would fetch nothing and end incomplete",
            bytes(free),
            bytes(min_free)
        );
        return Check::new(subject, "free space", CheckStatus::Problem, message);
    }
    Check::new(subject, "free space", CheckStatus::Ok, format!("more than min_free ({})", bytes(min_free)))
}
