//! A shell script in ffmpeg's place.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes a script that is run for everything but the version, and goes on with the real ffmpeg where it ends.
///
/// In it `REAL` stands for the real one, and `$PPID` is the program under test.
pub(crate) fn write(folder: &Path, script: &str) -> PathBuf {
    let real = std::env::var("KVS_EXPORT_FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned());
    let path = folder.join("fake-ffmpeg");
    let text =
        format!("#!/bin/sh\n[ \"$1\" = -version ] && exec REAL -version\n{script}\nexec REAL \"$@\"\n");
    // Not written by this process: another test's child, just forked, would still have it open for writing, and
    // what is being written cannot be executed.
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
        .arg(text.replace("REAL", &format!("'{real}'")))
        .arg(&path)
        .status()
        .expect("a shell starts");
    assert!(written.success(), "{written}");
    path
}
