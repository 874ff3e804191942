//! Runs: who changed the file, when, and how that ended.

use std::path::PathBuf;

use rusqlite::{OptionalExtension, Row, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::lock::Holder;
use super::values::{path_text, text_path};
use crate::model::{Sha256Digest, UtcMillis};

/// A run's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

/// What a run says about itself when it begins; process and host are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// This program's version.
    pub tool_version: String,
    /// The job file, if there is one.
    pub job_file: Option<PathBuf>,
    /// Its hash.
    pub job_file_sha256: Option<Sha256Digest>,
}

/// A run as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// When it began.
    pub started: UtcMillis,
    /// When it ended; `None` while it goes on, or when it was killed and no run came after.
    pub ended: Option<UtcMillis>,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// The version of this program.
    pub tool_version: String,
    /// Its job file.
    pub job_file: Option<PathBuf>,
    /// The job file's hash.
    pub job_file_sha256: Option<Sha256Digest>,
    /// How it ended: the word of the exit code's table.
    pub outcome: Option<String>,
    /// Its exit code; `None` also when it was killed.
    pub exit_code: Option<u8>,
    /// The error that ended it.
    pub error: Option<String>,
}

impl RunRecord {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            started: row.get("started_ms")?,
            ended: row.get("ended_ms")?,
            pid: row.get("pid")?,
            host: row.get("host")?,
            tool_version: row.get("tool_version")?,
            job_file: text_path(row.get("job_file")?),
            job_file_sha256: row.get("job_file_sha256")?,
            outcome: row.get("outcome")?,
            exit_code: row.get("exit_code")?,
            error: row.get("error")?,
        })
    }
}

impl Store {
    /// Records that a run begins; later changes are booked on it.
    ///
    /// Call [`Store::recover`] first: it closes the runs that were killed.
    pub fn begin_run(&mut self, run: &NewRun) -> Result<RunId, StoreError> {
        const INSERT: &str = "
            insert into run (started_ms, pid, host, tool_version, job_file, job_file_sha256)
            values (:started, :pid, :host, :tool_version, :job_file, :sha256)";
        let process = Holder::this_process(&*self.clock);
        let job_file = run.job_file.as_deref().map(path_text).transpose()?;
        let id = self.write(|transaction| {
            let values = named_params! {
                ":started": process.since,
                ":pid": process.pid,
                ":host": process.host,
                ":tool_version": run.tool_version,
                ":job_file": job_file,
                ":sha256": run.job_file_sha256,
            };
            transaction.execute(INSERT, values).during("record a run")?;
            Ok(RunId(transaction.last_insert_rowid()))
        })?;
        self.run = Some(id);
        Ok(id)
    }

    /// Records how a run ended.
    pub fn end_run(
        &mut self,
        id: RunId,
        outcome: &str,
        exit_code: u8,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        const UPDATE: &str = "
            update run set ended_ms = :now, outcome = :outcome, exit_code = :exit_code, error = :error
            where id = :id and ended_ms is null";
        let now = self.clock.now();
        self.write(|transaction| {
            let values = named_params! {
                ":id": id, ":now": now, ":outcome": outcome, ":exit_code": exit_code, ":error": error,
            };
            match transaction.execute(UPDATE, values).during("record the end of a run")? {
                1 => Ok(()),
                _ => Err(StoreError::Conflict {
                    row: format!("run {}", id.0),
                    expected: "going on",
                    found: "ended or missing".into(),
                }),
            }
        })
    }

    /// The run that began last.
    pub fn last_run(&self) -> Result<Option<RunRecord>, StoreError> {
        const SELECT: &str = "select * from run order by id desc limit 1";
        let mut select = self.connection.prepare_cached(SELECT).during("read the last run")?;
        select.query_row([], RunRecord::from_row).optional().during("read the last run")
    }
}
