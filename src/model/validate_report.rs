//! What `validate` found: the document of `validate --format json`, from which the text is made too.
//!
//! Its keys are documented in `docs/json.md` and only grow.

use serde::Serialize;

use super::report::Outcome;

/// The name and version of the document.
pub const VALIDATE_SCHEMA: &str = "kvs-export/validate/1";

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it must be.
    Ok,
    /// A run would fail of it.
    Problem,
    /// A run gets along with it.
    Note,
    /// It could not be found out.
    Untested,
}

impl CheckStatus {
    /// The words in the text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Problem => "problem",
            Self::Note => "note",
            Self::Untested => "not tested",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is a check of: `job file`, `ffmpeg`, `stream NAME`, ….
    pub subject: String,
    /// What of it: `kinesisvideo:GetClip`, `retention`, `writable`, ….
    pub check: String,
    /// What was found.
    pub status: CheckStatus,
    /// In a sentence, with the way out of a problem.
    pub message: String,
}

impl Check {
    /// Makes a check's result.
    pub fn new(subject: &str, check: &str, status: CheckStatus, message: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), check: check.to_owned(), status, message: message.into() }
    }
}

/// A value that holds, with `--show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingReport {
    /// `limits.merges`, `job[1].time_zone`.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// Where it was taken from: `jobs.toml:12`, `[defaults], line 7`, `KVS_EXPORT_TIME_ZONE`, `--set time_zone`, `built-in`.
    pub from: String,
}

/// How many checks found what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ValidateTotals {
    /// As it must be.
    pub ok: u64,
    /// A run would fail.
    pub problems: u64,
    /// A run gets along.
    pub notes: u64,
    /// Not found out.
    pub untested: u64,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidateReport {
    /// [`VALIDATE_SCHEMA`].
    pub schema: &'static str,
    /// `done` without a problem, `usage` with one, `auth` where the credentials stop everything.
    pub outcome: Outcome,
    /// Why nothing, or not everything, was checked.
    pub error: Option<String>,
    /// The checks: the file, this machine, then the streams in the order of the file.
    pub checks: Vec<Check>,
    /// Their numbers.
    pub totals: ValidateTotals,
    /// What the job file comes to, if that was asked for and it is not broken.
    pub settings: Option<Vec<SettingReport>>,
}

impl ValidateReport {
    /// Sums up the checks; `stopped` says how and why not all of them could be made.
    pub fn new(checks: Vec<Check>, stopped: Option<(Outcome, String)>) -> Self {
        let mut totals = ValidateTotals::default();
        for check in &checks {
            *match check.status {
                CheckStatus::Ok => &mut totals.ok,
                CheckStatus::Problem => &mut totals.problems,
                CheckStatus::Note => &mut totals.notes,
                CheckStatus::Untested => &mut totals.untested,
            } += 1;
        }
        let found = if totals.problems > 0 { Outcome::Usage } else { Outcome::Done };
        let (outcome, error) = match stopped {
            Some((outcome, error)) => (outcome, Some(error)),
            None => (found, None),
        };
        Self { schema: VALIDATE_SCHEMA, outcome, error, checks, totals, settings: None }
    }
}
