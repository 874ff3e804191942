//! Reads the job file that a command line names.

use std::path::{Path, PathBuf};

use super::error::CommandError;
use crate::job::{self, JobErrors, JobSource, Overlay};

/// A job file's bytes.
pub(super) struct JobFileText {
    /// Its absolute path.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// Its path as the user wrote it, for messages.
    display: String,
}

impl JobFileText {
    /// Reads it.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let failed = |source| CommandError::ReadJobFile { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        let bytes = std::fs::read(&absolute).map_err(failed)?;
        Ok(Self { path: absolute, bytes, display: path.display().to_string() })
    }

    /// What is to be parsed, as if it lay at `located`: relative paths in it are relative to that folder.
    pub(super) fn source<'a>(&'a self, located: &'a Path) -> Result<JobSource<'a>, JobErrors> {
        let text = job::decode(&self.bytes, &self.display)?;
        Ok(JobSource { text, file: located, display: &self.display })
    }
}

/// What is set from outside of the job file: by the environment, and by `--set`.
pub(super) fn overlay(set: &[String]) -> Overlay {
    let variables = std::env::vars_os().map(|(name, value)| {
        // A name that is not UTF-8 is none of this program's.
        (name.to_string_lossy().into_owned(), value.into_string().ok())
    });
    Overlay::of(variables, set.iter().map(String::as_str))
}
