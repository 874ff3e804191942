//! Files that survive a crash: the only place that writes through `std::fs`.
//!
//! Everything durable is made in the same order (`design/lifecycle.md`): temporary name → write → fsync →
//! rename → fsync of the folder. Files are created 0640, folders 0750.

#![expect(clippy::disallowed_methods, reason = "this is the module that may")]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::crash_point::{Durable, lasts};

/// An operation on a file or folder failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FsError {
    /// What was tried, as a verb phrase: `create`, `sync`, ….
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// Whether the disk, or the user's quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether writing is not possible there: not permitted, or a file has the place of a folder.
    pub fn is_not_writable(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
        )
    }
}

/// Makes a closure that says which operation on which path failed.
pub fn failed_to<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FsError + 'a {
    move |source| FsError { operation, path: path.to_owned(), source }
}

/// The folder in which state and chunks lie where nobody names another.
pub const OWN_FOLDER: &str = ".kvs-export";

/// The file in it that keeps git from looking into it, as build tools' caches have one.
const IGNORE_FILE: &str = ".gitignore";

/// Creates a folder and its parents, 0750, so that they last; no error when it is there. An [`OWN_FOLDER`] among them
/// ignores itself.
pub fn create_dir_all(path: &Path) -> Result<(), FsError> {
    let created = missing_folders(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(failed_to("create the folder", path))?;
    let own = created.iter().filter(|folder| folder.file_name().is_some_and(|name| name == OWN_FOLDER));
    own.copied().try_for_each(ignore_itself)?;
    // What is synced into a new folder is lost with it, if its own entry never reached the disk.
    created.into_iter().rev().map(parent).try_for_each(sync_dir)
}

/// Makes git ignore a folder with all that is in it. What it loses in a crash is no more than a convenience.
fn ignore_itself(folder: &Path) -> Result<(), FsError> {
    let path = folder.join(IGNORE_FILE);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&path)
        .and_then(|mut file| file.write_all(b"*\n"))
        .map_err(failed_to("write", &path))
}

/// The folders that are not there yet, from `path` upwards.
fn missing_folders(path: &Path) -> Vec<&Path> {
    let named = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    named.take_while(|folder| !folder.exists()).collect()
}

/// The folder that holds `path`'s entry.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Takes an exclusive advisory lock on a folder, which dies with the process; `None` if somebody else has it.
pub fn lock_folder(path: &Path) -> Result<Option<File>, FsError> {
    let folder = File::open(path).map_err(failed_to("open the folder", path))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(failed_to("lock the folder", path)(error)),
    }
}

/// Creates a new file for writing, 0640; an old one of that name is replaced.
pub fn create(path: &Path) -> Result<File, FsError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)
        .map_err(failed_to("create", path))?;
    lasts(Durable::Created, path);
    Ok(file)
}

/// Opens a file for reading that somebody else names: neither through a symbolic link nor anything but a file.
pub fn open_plain(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::Errno;
    // Without NONBLOCK a pipe would be waited for until somebody writes into it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let not_a_file = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let file = match open(path, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(Errno::LOOP) => return Err(not_a_file("it is a symbolic link, which is not followed")),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file("it is not a file")) }
}

/// Syncs a file's content and size to the disk.
pub fn sync_file(file: &File, path: &Path) -> Result<(), FsError> {
    file.sync_all().map_err(failed_to("sync", path))?;
    lasts(Durable::Synced, path);
    Ok(())
}

/// Syncs a folder, so that renames and new files in it last.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed_to("sync the folder", path))?;
    lasts(Durable::FolderSynced, path);
    Ok(())
}

/// Renames within one file system; the caller syncs the folder.
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(failed_to("rename a file to", to))?;
    lasts(Durable::Named, to);
    Ok(())
}

/// Renames, failing if something already has that name: unlike [`rename`], this never replaces a file that
/// appeared meanwhile. The caller syncs the folder.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), FsError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that cannot exclude: the check leaves a moment open, which is all they offer.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(io::ErrorKind::AlreadyExists.into()),
        result => result.map_err(io::Error::from),
    };
    renamed.map_err(failed_to("rename a file to", to))?;
    lasts(Durable::Named, to);
    Ok(())
}

/// Gives a file a second name, or copies and syncs it where the file system, or two of them, cannot.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<(), FsError> {
    if std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let mut source = File::open(from).map_err(failed_to("open", from))?;
    let mut copy = create(to)?;
    io::copy(&mut source, &mut copy).map_err(failed_to("write", to))?;
    sync_file(&copy, to)
}

/// Writes a whole small file durably under its final name: temporary name, fsync, rename, fsync of the folder.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), FsError> {
    let temporary = write_temporary(path, content)?;
    rename(&temporary, path)?;
    sync_dir(parent(path))
}

/// The same, failing if something has that name already: no file is ever replaced.
pub fn write_new_durably(path: &Path, content: &[u8]) -> Result<(), FsError> {
    let temporary = write_temporary(path, content)?;
    if let Err(error) = rename_new(&temporary, path) {
        // What went wrong is the name; a temporary file that stays as well means nothing.
        drop(remove_file(&temporary));
        return Err(error);
    }
    sync_dir(parent(path))
}

/// Writes and syncs a file under its temporary name, and gives that.
fn write_temporary(path: &Path, content: &[u8]) -> Result<PathBuf, FsError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let mut file = create(&temporary)?;
    file.write_all(content).map_err(failed_to("write", &temporary))?;
    sync_file(&file, &temporary)?;
    Ok(temporary)
}

/// Removes a file; no error when it is not there.
pub fn remove_file(path: &Path) -> Result<(), FsError> {
    gone_is_fine(std::fs::remove_file(path)).map_err(failed_to("remove", path))?;
    lasts(Durable::Removed, path);
    Ok(())
}

/// Removes a folder with all that is in it; no error when it is not there.
pub fn remove_dir_all(path: &Path) -> Result<(), FsError> {
    gone_is_fine(std::fs::remove_dir_all(path)).map_err(failed_to("remove the folder", path))?;
    lasts(Durable::Removed, path);
    Ok(())
}

/// Removes an [`OWN_FOLDER`] that holds nothing but what makes git ignore it; no error when it does, or is not there.
pub fn remove_own_folder_if_empty(path: &Path) -> Result<(), FsError> {
    let holds_only_that = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == IGNORE_FILE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed_to("read the folder", path)(error)),
    };
    if !holds_only_that {
        return Ok(());
    }
    remove_file(&path.join(IGNORE_FILE))?;
    match std::fs::remove_dir(path) {
        // Somebody has just put something into it.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => ignore_itself(path),
        result => gone_is_fine(result).map_err(failed_to("remove the folder", path)),
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_leaves_one_file_with_tight_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.json");
        write_durably(&path, b"one").expect("written");
        write_durably(&path, b"two").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn every_new_folder_and_no_other_is_known_with_the_one_to_sync() {
        let folder = tempfile::tempdir().expect("folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("a/b"));
        assert_eq!(missing_folders(&b), [&*b, &*a]);
        assert_eq!((parent(&b), parent(&a)), (&*a, folder.path()));
        create_dir_all(&b).expect("created");
        assert!(b.is_dir() && missing_folders(&b).is_empty());
        create_dir_all(&b).expect("it is there");
        assert_eq!((missing_folders(Path::new("")), parent(Path::new("a"))), (vec![], Path::new(".")));
    }

    #[test]
    fn the_programs_own_folder_ignores_itself_and_goes_when_nothing_else_is_in_it() {
        let folder = tempfile::tempdir().expect("folder");
        let own = folder.path().join(OWN_FOLDER);
        create_dir_all(&own.join("jobs/chunks")).expect("created");
        assert_eq!(std::fs::read(own.join(".gitignore")).expect("read"), b"*\n");
        assert!(!own.join("jobs/.gitignore").exists() && !folder.path().join(".gitignore").exists());
        remove_own_folder_if_empty(&own).expect("it stays");
        assert!(own.join(".gitignore").exists(), "it holds the state of jobs");
        remove_dir_all(&own.join("jobs")).expect("removed");
        remove_own_folder_if_empty(&own).expect("removed");
        assert!(!own.exists());
        remove_own_folder_if_empty(&own).expect("it is gone already");
    }

    #[test]
    fn an_ignore_file_that_was_taken_out_is_not_made_again() {
        let folder = tempfile::tempdir().expect("folder");
        let own = folder.path().join(OWN_FOLDER);
        create_dir_all(&own).expect("created");
        std::fs::remove_file(own.join(".gitignore")).expect("removed");
        create_dir_all(&own.join("jobs")).expect("created");
        assert!(!own.join(".gitignore").exists());
    }

    #[test]
    fn a_new_file_never_replaces_one_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("jobs.toml");
        write_new_durably(&path, b"one").expect("written");
        let error = write_new_durably(&path, b"two").expect_err("it is there");
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("read"), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn rename_new_never_replaces_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path().join("new"), folder.path().join("old"));
        write_durably(&from, b"new").expect("written");
        write_durably(&to, b"old").expect("written");
        assert!(rename_new(&from, &to).is_err());
        assert_eq!(std::fs::read(&to).expect("read"), b"old");
    }
}
