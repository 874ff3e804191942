//! Outputs: the files an export leaves, known by hash before they have their names; and the last step.

use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::exports::{ExportFacts, ExportStep, conflict, find_state};
use super::values::{Unsigned, path_text};
use crate::model::{ExportEvent, ExportId, ExportState, Sha256Digest};

/// What a file of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputRole {
    /// A video, or one of its parts.
    Video,
    /// The manifest.
    Manifest,
    /// The checksums.
    Checksum,
}

impl OutputRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Video, Self::Manifest, Self::Checksum];

    /// The word in the state file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Manifest => "manifest",
            Self::Checksum => "checksum",
        }
    }
}

impl FromSql for OutputRole {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or(FromSqlError::InvalidType)
    }
}

/// A file that an export leaves, by the hash it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedOutput {
    /// What it is.
    pub role: OutputRole,
    /// Which of several videos, from 1; 1 for the others.
    pub part: u32,
    /// Its final path.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: Sha256Digest,
}

/// What an export was that is being made again: it stands until the new one is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// How much it holds: fragments, or with fixed windows milliseconds of its videos.
    pub amount: u64,
    /// Its files.
    pub outputs: Vec<ExpectedOutput>,
}

/// How an export ends, in this run or for good.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// `Completed`, `CompletedPartly`, `FoundEmpty` or `GaveUp`.
    pub event: ExportEvent,
    /// The manifest, where one was written.
    pub manifest: Option<&'a Path>,
    /// Everything its reader should know, found while it was carried out.
    pub warnings: &'a [String],
    /// Why it failed.
    pub error: Option<&'a str>,
}

impl Store {
    /// Notes how long the videos of an export are whose fragments were not listed.
    pub fn learn_media_ms(&mut self, export: &ExportId, media_ms: u64) -> Result<(), StoreError> {
        const UPDATE: &str = "update export set media_ms = :media_ms where id = :export";
        self.write(|transaction| {
            let values = named_params! { ":export": export, ":media_ms": Unsigned(media_ms) };
            transaction.execute(UPDATE, values).during("note the length of an output").map(drop)
        })
    }

    /// Stores which files an export is about to rename into place, instead of any stored before.
    ///
    /// On the disk when this returns (I10): a power cut after the first rename must not leave files that no row knows,
    /// for they would be taken for somebody else's.
    pub fn set_outputs(&mut self, export: &ExportId, outputs: &[ExpectedOutput]) -> Result<(), StoreError> {
        const INSERT: &str = "
            insert into output (export_id, role, part, path, size_bytes, sha256)
            values (:export, :role, :part, :path, :size, :sha256)";
        self.write_durably(|transaction| {
            match find_state(transaction, export)? {
                Some(ExportState::Merging | ExportState::Fetching) => {}
                _ => return Err(conflict(transaction, export, "merging or fetching")),
            }
            delete_outputs(transaction, export)?;
            for output in outputs {
                let values = named_params! {
                    ":export": export,
                    ":role": output.role.as_str(),
                    ":part": output.part,
                    ":path": path_text(&output.path)?,
                    ":size": Unsigned(output.size_bytes),
                    ":sha256": output.sha256,
                };
                transaction.execute(INSERT, values).during("store expected files")?;
            }
            Ok(())
        })
    }

    /// The files that an export leaves or was about to: videos by part, then manifest, then checksums.
    pub fn outputs(&self, export: &ExportId) -> Result<Vec<ExpectedOutput>, StoreError> {
        const SELECT: &str = "
            select role, part, path, size_bytes, sha256 from output where export_id = :export
            order by case role when 'video' then 0 when 'manifest' then 1 else 2 end, part";
        self.select_outputs(SELECT, export)
    }

    /// What an export that is made again was before; `None` for any other.
    pub fn former(&self, export: &ExportId) -> Result<Option<Former>, StoreError> {
        const AMOUNT: &str =
            "select former_amount from export where id = :export and former_amount is not null";
        const SELECT: &str = "
            select role, part, path, size_bytes, sha256 from former_output where export_id = :export
            order by case role when 'video' then 0 when 'manifest' then 1 else 2 end, part";
        let mut select = self.connection.prepare_cached(AMOUNT).during("read what an export was before")?;
        let amount = select.query_row(named_params! { ":export": export }, |row| row.get::<_, Unsigned>(0));
        match amount.optional().during("read what an export was before")? {
            Some(Unsigned(amount)) => {
                Ok(Some(Former { amount, outputs: self.select_outputs(SELECT, export)? }))
            }
            None => Ok(None),
        }
    }

    fn select_outputs(&self, query: &str, export: &ExportId) -> Result<Vec<ExpectedOutput>, StoreError> {
        let read = |row: &Row<'_>| {
            Ok(ExpectedOutput {
                role: row.get("role")?,
                part: row.get("part")?,
                path: PathBuf::from(row.get::<_, String>("path")?),
                size_bytes: row.get::<_, Unsigned>("size_bytes")?.0,
                sha256: row.get("sha256")?,
            })
        };
        let mut select = self.connection.prepare_cached(query).during("read expected files")?;
        let rows =
            select.query_map(named_params! { ":export": export }, read).during("read expected files")?;
        rows.collect::<rusqlite::Result<_>>().during("read expected files")
    }

    /// Ends an export, believed to be in `from`; on the disk when this returns, with everything recorded before
    /// (I12). Only after this may its chunks be deleted (I13).
    pub fn finish_export(
        &mut self,
        id: &ExportId,
        from: ExportState,
        finish: &Finish<'_>,
    ) -> Result<ExportState, StoreError> {
        let Finish { event, manifest, warnings, error } = *finish;
        let (now, run) = (self.clock.now(), self.run);
        self.write_durably(|transaction| {
            let step = ExportStep { id, from, event, now, run };
            step.apply(transaction, &ExportFacts { error, manifest, warnings: Some(warnings) })
        })
    }
}

/// Forgets the files of an export.
pub(super) fn delete_outputs(transaction: &Transaction<'_>, export: &ExportId) -> Result<(), StoreError> {
    const DELETE: &str = "delete from output where export_id = :export";
    transaction.execute(DELETE, named_params! { ":export": export }).during("forget expected files")?;
    Ok(())
}

/// Makes the files of a finished export those that it had before it is made again.
pub(super) fn keep_as_former(transaction: &Transaction<'_>, export: &ExportId) -> Result<(), StoreError> {
    const INSERT: &str = "
        insert into former_output (export_id, role, part, path, size_bytes, sha256)
        select export_id, role, part, path, size_bytes, sha256 from output where export_id = :export";
    transaction.execute(INSERT, named_params! { ":export": export }).during("keep what an export was")?;
    delete_outputs(transaction, export)
}

/// Forgets what an export was before it was made again.
pub(super) fn delete_former(transaction: &Transaction<'_>, export: &ExportId) -> Result<(), StoreError> {
    const DELETE: &str = "delete from former_output where export_id = :export";
    let mut delete = transaction.prepare_cached(DELETE).during("forget what an export was")?;
    delete.execute(named_params! { ":export": export }).during("forget what an export was").map(drop)
}
