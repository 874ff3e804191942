//! Files that survive a crash: the only place that writes through `std::fs`.
//!
//! Everything durable is made in the same order (`design/lifecycle.md`): temporary name → write → fsync →
//! rename → fsync of the folder. Files are created 0640, folders 0750.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

    /// Whether writing is not permitted there.
    pub fn is_not_writable(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Makes a closure that says which operation on which path failed.
pub fn failed_to<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FsError + 'a {
    move |source| FsError { operation, path: path.to_owned(), source }
}

/// Creates a folder and its parents, 0750; no error when it is there.
pub fn create_dir_all(path: &Path) -> Result<(), FsError> {
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(failed_to("create the folder", path))
}

/// Creates a new file for writing, 0640; an old one of that name is replaced.
pub fn create(path: &Path) -> Result<File, FsError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)
        .map_err(failed_to("create", path))
}

/// Syncs a file's content and size to the disk.
pub fn sync_file(file: &File, path: &Path) -> Result<(), FsError> {
    file.sync_all().map_err(failed_to("sync", path))
}

/// Syncs a folder, so that renames and new files in it last.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed_to("sync the folder", path))
}

/// Renames within one file system; the caller syncs the folder.
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(failed_to("rename a file to", to))
}

/// Gives a file a second name, failing if something already has that name.
///
/// Unlike `rename`, this never replaces a file that appeared meanwhile.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::hard_link(from, to).map_err(failed_to("create", to))?;
    remove_file(from)
}

/// Writes a whole small file durably under its final name: temporary name, fsync, rename, fsync of the folder.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), FsError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let mut file = create(&temporary)?;
    file.write_all(content).map_err(failed_to("write", &temporary))?;
    sync_file(&file, &temporary)?;
    rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Removes a file; no error when it is not there.
pub fn remove_file(path: &Path) -> Result<(), FsError> {
    gone_is_fine(std::fs::remove_file(path)).map_err(failed_to("remove", path))
}

/// Removes a folder with all that is in it; no error when it is not there.
pub fn remove_dir_all(path: &Path) -> Result<(), FsError> {
    gone_is_fine(std::fs::remove_dir_all(path)).map_err(failed_to("remove the folder", path))
}

/// Removes a folder if it is empty; a folder that is not, or not there, is left alone.
pub fn remove_dir_if_empty(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => gone_is_fine(result).map_err(failed_to("remove the folder", path)),
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Free bytes for this user on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> Result<u64, FsError> {
    let stat =
        rustix::fs::statvfs(path).map_err(|errno| failed_to("measure free space at", path)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
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
    fn rename_new_never_replaces_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path().join("new"), folder.path().join("old"));
        write_durably(&from, b"new").expect("written");
        write_durably(&to, b"old").expect("written");
        assert!(rename_new(&from, &to).is_err());
        assert_eq!(std::fs::read(&to).expect("read"), b"old");
    }
}
