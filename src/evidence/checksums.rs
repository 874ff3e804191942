//! `NAME.sha256`, for `sha256sum -c`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::fs::{FsError, failed_to};
use crate::model::Sha256Digest;

/// The text of a checksum file: one line a file, as `sha256sum` writes them, with names relative to its folder.
pub fn checksums<'a>(files: impl IntoIterator<Item = (&'a str, Sha256Digest)>) -> String {
    files.into_iter().fold(String::new(), |text, (name, digest)| text + &format!("{digest}  {name}\n"))
}

/// Size and SHA-256 of a file, read once with a small buffer.
pub fn hash_file(path: &Path) -> Result<(u64, Sha256Digest), FsError> {
    let hashed = hash_file_unless(path, &|| false)?;
    hashed.ok_or_else(|| failed_to("read", path)(std::io::ErrorKind::Interrupted.into()))
}

/// Like [`hash_file`]; asks `stopped` before each block, and gives `None` once it says so.
pub fn hash_file_unless(
    path: &Path,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<(u64, Sha256Digest)>, FsError> {
    let mut file = File::open(path).map_err(failed_to("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        if stopped() {
            return Ok(None);
        }
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(Some((size, Sha256Digest(hasher.finalize().into())))),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed_to("read", path)(error)),
        };
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("abc.mp4");
        std::fs::write(&path, b"abc").expect("written");
        let (size, digest) = hash_file(&path).expect("hashed");
        assert_eq!(size, 3);
        assert_eq!(hash_file_unless(&path, &|| true).expect("stopped"), None);
        let text = checksums([("abc.mp4", digest)]);
        let line = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc.mp4\n";
        assert_eq!(text, line);
    }
}
