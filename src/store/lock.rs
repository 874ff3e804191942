//! The lock that one run at a time holds on a state file.
//!
//! It is an advisory lock (flock) on a file beside the state file, so it dies with its process, whatever the
//! file says; the text inside only names the holder. The file itself is never removed: a second process could
//! otherwise lock a name that no longer exists.

#![expect(clippy::disallowed_methods, reason = "a lock file is opened as it is, never replaced")]

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::place::identity;
use super::{folder_of, local};
use crate::clock::Clock;
use crate::fs::{create_dir_all, failed_to};
use crate::model::UtcMillis;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// When it took the lock.
    pub since: UtcMillis,
}

impl Holder {
    /// This process, from now on.
    pub(super) fn this_process(clock: &dyn Clock) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { pid: std::process::id(), host, since: clock.now() }
    }
}

/// The exclusive right to change a state file; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of the state file at `state_path`, or fails with [`StoreError::Locked`] at once.
    ///
    /// Creates the state file's folder. What an earlier, dead holder left in the file is replaced.
    pub fn acquire(state_path: &Path, clock: &dyn Clock) -> Result<Self, StoreError> {
        /// [`StateLock::holder`] in another process holds a shared lock for an instant.
        const TRIES_AGAINST_PROBES: u32 = 200;
        const BETWEEN_TRIES: Duration = Duration::from_millis(5);

        let folder = folder_of(state_path);
        create_dir_all(folder)?;
        local::refuse_network(state_path, folder)?;
        let path = lock_path(state_path);
        let mut file = open(&path)?;
        for _ in 0..TRIES_AGAINST_PROBES {
            match Try::once(&file, &path)? {
                // A lock on a file that has lost its name excludes nobody.
                Try::Taken if !has_name(&file, &path) => file = open(&path)?,
                Try::Taken => {
                    write_holder(&mut file, &path, &Holder::this_process(clock))?;
                    return Ok(Self { _file: file });
                }
                Try::Probed => std::thread::sleep(BETWEEN_TRIES),
                Try::Held => break,
            }
        }
        Err(StoreError::Locked { path: state_path.to_owned(), holder: read_holder(&mut file) })
    }

    /// Whether a run holds the lock of the state file at `state_path` now, and who.
    ///
    /// `None` also when the lock's file cannot be opened: then no run of this user's is going on.
    pub fn holder(state_path: &Path) -> Result<Option<Holder>, StoreError> {
        let path = lock_path(state_path);
        let Ok(mut file) = File::open(&path) else { return Ok(None) };
        if try_lock(file.try_lock_shared(), &path)? {
            return Ok(None);
        }
        Ok(read_holder(&mut file))
    }
}

/// How a try for the exclusive lock ended.
#[derive(Debug, PartialEq, Eq)]
enum Try {
    /// It is this process's now.
    Taken,
    /// Only a probe has it, shared and for an instant.
    Probed,
    /// A run has it.
    Held,
}

impl Try {
    fn once(file: &File, path: &Path) -> Result<Self, StoreError> {
        if try_lock(file.try_lock(), path)? {
            return Ok(Self::Taken);
        }
        // A run's lock excludes even a shared one, a probe's does not.
        if !try_lock(file.try_lock_shared(), path)? {
            return Ok(Self::Held);
        }
        file.unlock().map_err(failed_to("unlock", path))?;
        Ok(Self::Probed)
    }
}

fn lock_path(state_path: &Path) -> PathBuf {
    let mut path = OsString::from(state_path);
    path.push(".lock");
    PathBuf::from(path)
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    Ok(options.open(path).map_err(failed_to("open the lock", path))?)
}

/// Whether that name leads to that file.
fn has_name(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(named)) => identity(&file) == identity(&named),
        _ => false,
    }
}

pub(super) fn try_lock(result: Result<(), TryLockError>, path: &Path) -> Result<bool, StoreError> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(failed_to("lock", path)(error).into()),
    }
}

fn write_holder(file: &mut File, path: &Path, holder: &Holder) -> Result<(), StoreError> {
    let text =
        serde_json::to_vec(holder).map_err(|source| StoreError::Json { what: "lock holder", source })?;
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)
    };
    Ok(write(file).map_err(failed_to("write the lock", path))?)
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SetClock;

    fn clock() -> SetClock {
        SetClock::at(UtcMillis::new(1_711_065_600_000))
    }

    #[test]
    fn a_second_run_is_refused_and_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("deep/er/state.db");
        let lock = StateLock::acquire(&state, &clock()).expect("free");
        let error = StateLock::acquire(&state, &clock()).expect_err("held");
        let StoreError::Locked { holder: Some(holder), .. } = &error else { panic!("{error:?}") };
        assert_eq!((holder.pid, holder.since), (std::process::id(), clock().now()));
        let message = error.to_string();
        assert!(message.contains(&format!("process {}", holder.pid)), "{message}");
        assert!(message.contains("2024-03-22T00:00:00.000Z"), "{message}");
        assert_eq!(StateLock::holder(&state).expect("probed").as_ref(), Some(holder));
        drop(lock);
        assert_eq!(StateLock::holder(&state).expect("probed"), None);
        StateLock::acquire(&state, &clock()).expect("free again");
    }

    #[test]
    fn what_a_dead_holder_left_is_taken_over() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state.db");
        let long_dead = format!(r#"{{"pid":1,"host":"{}","since":0}}"#, "h".repeat(300));
        std::fs::write(lock_path(&state), long_dead).expect("written");
        assert_eq!(StateLock::holder(&state).expect("probed"), None);
        let _lock = StateLock::acquire(&state, &clock()).expect("not held");
        let holder = StateLock::holder(&state).expect("probed").expect("held");
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn a_lock_file_that_lost_its_name_is_known_as_such() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state.db.lock");
        let file = open(&path).expect("made");
        assert!(has_name(&file, &path));
        std::fs::remove_file(&path).expect("removed");
        assert!(!has_name(&file, &path), "it is gone");
        let new = open(&path).expect("made");
        assert!(has_name(&new, &path) && !has_name(&file, &path), "another has its name");
    }

    #[test]
    fn a_probe_does_not_turn_a_run_away() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state.db");
        drop(StateLock::acquire(&state, &clock()).expect("free"));
        let path = lock_path(&state);
        let (run, probe) = (File::open(&path).expect("opened"), File::open(&path).expect("opened"));
        probe.lock_shared().expect("shared");
        assert_eq!(Try::once(&run, &path).expect("tried"), Try::Probed);
        drop(probe);
        assert_eq!(Try::once(&run, &path).expect("tried"), Try::Taken);
        let second = File::open(&path).expect("opened");
        assert_eq!(Try::once(&second, &path).expect("tried"), Try::Held);
    }
}
