//! Exports: created once, found by their hashes, moved by compare-and-set.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, named_params};

use super::Store;
use super::error::{During, StoreError};
use super::identity::{ExportIdentity, output_key};
use super::outputs::delete_former;
use super::runs::RunId;
use super::values::{Unsigned, path_text, text_path};
use super::windows::insert_windows;
use crate::model::{ExportEvent, ExportId, ExportSpec, ExportState, StreamArn, TimeRange, UtcMillis};

/// What an export's planned windows add up to; final when all windows are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportTotals {
    /// Windows of the whole range.
    pub windows: u64,
    /// Of these, planned ones.
    pub windows_planned: u64,
    /// Fragments to fetch.
    pub fragments: u64,
    /// Their bytes, as listed.
    pub planned_bytes: u64,
    /// Milliseconds of media in them.
    pub media_ms: u64,
}

/// An export as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRecord {
    /// Its place in the order of creation; the cursor of [`Store::exports`].
    pub seq: i64,
    /// Its hashes.
    pub identity: ExportIdentity,
    /// Its stream.
    pub stream_arn: StreamArn,
    /// What it was resolved to.
    pub spec: ExportSpec,
    /// Where it stands.
    pub state: ExportState,
    /// Whether its text left the job file before it was finished.
    pub superseded: bool,
    /// When it was created.
    pub created: UtcMillis,
    /// When its state changed last.
    pub updated: UtcMillis,
    /// When it became done, partial or empty.
    pub finished: Option<UtcMillis>,
    /// The run that changed it last.
    pub run: Option<RunId>,
    /// Why it failed.
    pub error: Option<String>,
    /// What its reader should know, found while it was carried out (the spec has those found before).
    pub warnings: Vec<String>,
    /// Its manifest.
    pub manifest: Option<PathBuf>,
    /// What its planned windows add up to.
    pub totals: ExportTotals,
}

/// What is soon read of an export that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedExport {
    /// Its id.
    pub id: ExportId,
    /// Its stream.
    pub stream: StreamArn,
    /// Its job's name.
    pub job: String,
    /// Whether its text left the job file.
    pub superseded: bool,
}

/// What changes with an export's state.
pub(super) struct ExportFacts<'a> {
    pub(super) error: Option<&'a str>,
    pub(super) manifest: Option<&'a Path>,
    /// `None` leaves them as they are.
    pub(super) warnings: Option<&'a [String]>,
}

impl ExportFacts<'_> {
    pub(super) const NONE: Self = Self { error: None, manifest: None, warnings: None };
}

impl ExportRecord {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Result<Self, StoreError>> {
        let spec = serde_json::from_str(row.get_ref("spec")?.as_str()?);
        let warnings = serde_json::from_str(row.get_ref("warnings")?.as_str()?);
        let (spec, warnings) = match (spec, warnings) {
            (Ok(spec), Ok(warnings)) => (spec, warnings),
            (Err(source), _) => return Ok(Err(StoreError::Json { what: "export", source })),
            (_, Err(source)) => return Ok(Err(StoreError::Json { what: "list of warnings", source })),
        };
        let unsigned = |column| row.get::<_, Unsigned>(column).map(|value| value.0);
        Ok(Ok(Self {
            seq: row.get("seq")?,
            identity: ExportIdentity {
                id: row.get("id")?,
                content_id: row.get("content_id")?,
                resume_key: row.get("resume_key")?,
            },
            stream_arn: row.get("stream_arn")?,
            spec,
            state: row.get("state")?,
            superseded: row.get("superseded")?,
            created: row.get("created_ms")?,
            updated: row.get("updated_ms")?,
            finished: row.get("finished_ms")?,
            run: row.get("run_id")?,
            error: row.get("error")?,
            warnings,
            manifest: text_path(row.get("manifest_path")?),
            totals: ExportTotals {
                windows: unsigned("windows_total")?,
                windows_planned: unsigned("windows_planned")?,
                fragments: unsigned("fragments")?,
                planned_bytes: unsigned("planned_bytes")?,
                media_ms: unsigned("media_ms")?,
            },
        }))
    }
}

/// An export that is to be created.
#[derive(Debug, Clone)]
pub struct NewExport<'a> {
    /// The stream that it is of.
    pub stream: &'a StreamArn,
    /// What it is asked to be.
    pub spec: &'a ExportSpec,
    /// Its windows, in order of time; their place becomes their number, from 0.
    pub windows: Vec<TimeRange>,
}

impl Store {
    /// The export of that identity.
    pub fn export(&self, id: &ExportId) -> Result<Option<ExportRecord>, StoreError> {
        const SELECT: &str = "select * from export where id = :id";
        Ok(self.select_exports(SELECT, named_params! { ":id": id })?.pop())
    }

    /// Up to `limit` exports created after the one whose `seq` is `after` (0 for the first), oldest first.
    pub fn exports(&self, after: i64, limit: u32) -> Result<Vec<ExportRecord>, StoreError> {
        const SELECT: &str = "select * from export where seq > :after order by seq limit :limit";
        self.select_exports(SELECT, named_params! { ":after": after, ":limit": limit })
    }

    /// Every export that is not done, partial or empty, superseded ones included, oldest first.
    pub fn unfinished(&self) -> Result<Vec<UnfinishedExport>, StoreError> {
        const SELECT: &str = "
            select id, stream_arn, job, superseded from export
            where state in ('planning', 'fetching', 'merging', 'failed') order by seq";
        let read = |row: &Row<'_>| {
            Ok(UnfinishedExport {
                id: row.get(0)?,
                stream: row.get(1)?,
                job: row.get(2)?,
                superseded: row.get(3)?,
            })
        };
        let mut select = self.connection.prepare_cached(SELECT).during("read unfinished exports")?;
        let rows = select.query_map([], read).during("read unfinished exports")?;
        rows.collect::<rusqlite::Result<_>>().during("read unfinished exports")
    }

    /// The unfinished exports that one entry of a job file created, superseded ones included, oldest first.
    pub fn unfinished_with_resume_key(&self, resume_key: &str) -> Result<Vec<ExportRecord>, StoreError> {
        const SELECT: &str = "
            select * from export
            where resume_key = :key and state in ('planning', 'fetching', 'merging', 'failed')
            order by seq";
        self.select_exports(SELECT, named_params! { ":key": resume_key })
    }

    /// The ids that begin with `prefix`, in their order; all, if it is empty.
    pub fn ids_with_prefix(&self, prefix: &str) -> Result<Vec<ExportId>, StoreError> {
        // After every digit of an id; so the index is used, as it is not with `like`.
        const SELECT: &str = "select id from export where id >= :prefix and id < :prefix || 'g' order by id";
        let mut select = self.connection.prepare_cached(SELECT).during("look up an export's id")?;
        let rows = select.query_map(named_params! { ":prefix": prefix }, |row| row.get(0));
        rows.during("look up an export's id")?
            .collect::<rusqlite::Result<_>>()
            .during("look up an export's id")
    }

    /// Every stream that has an export.
    pub fn streams(&self) -> Result<Vec<StreamArn>, StoreError> {
        const SELECT: &str = "select distinct stream_arn from export";
        let mut select = self.connection.prepare_cached(SELECT).during("read streams")?;
        let rows = select.query_map([], |row| row.get(0)).during("read streams")?;
        rows.collect::<rusqlite::Result<_>>().during("read streams")
    }

    /// The failed exports that are not superseded, oldest first.
    pub fn failed(&self) -> Result<Vec<ExportId>, StoreError> {
        const SELECT: &str = "select id from export where state = 'failed' and superseded = 0 order by seq";
        let mut select = self.connection.prepare_cached(SELECT).during("read failed exports")?;
        let rows = select.query_map([], |row| row.get(0)).during("read failed exports")?;
        rows.collect::<rusqlite::Result<_>>().during("read failed exports")
    }

    /// The finished export of that content, whatever its output path; the latest if there are several.
    pub fn done_with_content(&self, content_id: &str) -> Result<Option<ExportRecord>, StoreError> {
        const SELECT: &str = "
            select * from export
            where content_id = :content_id and state in ('done', 'partial', 'empty')
            order by finished_ms desc, seq desc limit 1";
        Ok(self.select_exports(SELECT, named_params! { ":content_id": content_id })?.pop())
    }

    /// The exports, of any state, whose output path has that key (see [`output_key`]), oldest first.
    pub fn exports_with_output_key(&self, key: &str) -> Result<Vec<ExportRecord>, StoreError> {
        const SELECT: &str = "select * from export where output_key = :key order by seq";
        self.select_exports(SELECT, named_params! { ":key": key })
    }

    fn select_exports(
        &self,
        query: &str,
        values: &[(&str, &dyn ToSql)],
    ) -> Result<Vec<ExportRecord>, StoreError> {
        let mut select = self.connection.prepare_cached(query).during("read exports")?;
        let rows = select.query_map(values, ExportRecord::from_row).during("read exports")?;
        rows.map(|row| row.during("read exports")?).collect()
    }

    /// Creates exports in `planning`, with their windows still to be planned, all in one transaction (I5): a text that
    /// stands for many exports is begun as a whole or not at all.
    pub fn insert_exports<'a>(
        &mut self,
        new: impl IntoIterator<Item = NewExport<'a>>,
    ) -> Result<(), StoreError> {
        const INSERT: &str = "
            insert into export (id, content_id, resume_key, stream_arn, start_ms, end_ms, job, spec, output_path,
                                output_key, state, created_ms, updated_ms, run_id, windows_total)
            values (:id, :content_id, :resume_key, :stream_arn, :start, :end, :job, :spec, :output_path,
                    :output_key, :state, :now, :now, :run, :windows)";
        let (now, run) = (self.clock.now(), self.run);
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT).during("create an export")?;
            for NewExport { stream, spec, windows } in new {
                let identity = ExportIdentity::of(spec, stream);
                if find_state(transaction, &identity.id)?.is_some() {
                    return Err(StoreError::ExportExists(identity.id));
                }
                let values = named_params! {
                    ":id": identity.id,
                    ":content_id": identity.content_id,
                    ":resume_key": identity.resume_key,
                    ":stream_arn": stream,
                    ":start": spec.range.start(),
                    ":end": spec.range.end(),
                    ":job": spec.job,
                    ":spec": spec_json(spec)?,
                    ":output_path": path_text(&spec.output)?,
                    ":output_key": output_key(&spec.output),
                    ":state": ExportState::Planning,
                    ":now": now,
                    ":run": run,
                    ":windows": Unsigned(windows.len() as u64),
                };
                insert.execute(values).during("create an export")?;
                insert_windows(transaction, &identity.id, &windows)?;
            }
            Ok(())
        })
    }

    /// Replaces what an export was resolved to where that does not change its identity (job name, notes, `gaps`).
    pub fn update_spec(&mut self, spec: &ExportSpec, stream: &StreamArn) -> Result<(), StoreError> {
        const UPDATE: &str = "
            update export set spec = :spec, job = :job, resume_key = :resume_key where id = :id";
        const IS_SO: &str = "
            select 1 from export where id = :id and spec = :spec and job = :job and resume_key = :resume_key";
        let identity = ExportIdentity::of(spec, stream);
        let json = spec_json(spec)?;
        let values = named_params! {
            ":id": identity.id, ":spec": json, ":job": spec.job, ":resume_key": identity.resume_key,
        };
        // Thousands of exports are resumed as they were: no transaction for each.
        let mut is_so = self.connection.prepare_cached(IS_SO).during("compare an export's settings")?;
        if is_so.exists(values).during("compare an export's settings")? {
            return Ok(());
        }
        drop(is_so);
        self.write(|transaction| {
            let values = named_params! {
                ":id": identity.id, ":spec": json, ":job": spec.job, ":resume_key": identity.resume_key,
            };
            match transaction.execute(UPDATE, values).during("renew an export's settings")? {
                0 => Err(StoreError::NoExport(identity.id)),
                _ => Ok(()),
            }
        })
    }

    /// Records whether an unfinished export's text has left the job file.
    pub fn set_superseded(&mut self, id: &ExportId, superseded: bool) -> Result<(), StoreError> {
        const UPDATE: &str = "update export set superseded = :superseded, updated_ms = :now where id = :id";
        let now = self.clock.now();
        self.write(|transaction| {
            let values = named_params! { ":id": id, ":superseded": superseded, ":now": now };
            match transaction.execute(UPDATE, values).during("mark an export as superseded")? {
                0 => Err(StoreError::NoExport(id.clone())),
                _ => Ok(()),
            }
        })
    }

    /// Moves an export, believed to be in `from`, by `event`; returns its new state.
    ///
    /// `Planned` needs every window planned, `MergeStarted` every chunk settled as well (I8). Steps that finish or
    /// fail an export carry facts: [`Store::finish_export`].
    pub fn move_export(
        &mut self,
        id: &ExportId,
        from: ExportState,
        event: ExportEvent,
    ) -> Result<ExportState, StoreError> {
        let (now, run) = (self.clock.now(), self.run);
        let change = |transaction: &Transaction<'_>| {
            let step = ExportStep { id, from, event, now, run };
            step.apply(transaction, &ExportFacts::NONE)
        };
        if from.after(event).is_some_and(ExportState::is_final) {
            self.write_durably(change)
        } else {
            self.write(change)
        }
    }
}

/// One change of an export's state.
pub(super) struct ExportStep<'a> {
    pub(super) id: &'a ExportId,
    pub(super) from: ExportState,
    pub(super) event: ExportEvent,
    pub(super) now: UtcMillis,
    pub(super) run: Option<RunId>,
}

impl ExportStep<'_> {
    /// The only place that changes an export's state.
    pub(super) fn apply(
        &self,
        transaction: &Transaction<'_>,
        facts: &ExportFacts<'_>,
    ) -> Result<ExportState, StoreError> {
        const UPDATE: &str = "
            update export set
              state = :to, updated_ms = :now, finished_ms = :finished, run_id = coalesce(:run, run_id),
              error = :error, manifest_path = :manifest, warnings = coalesce(:warnings, warnings),
              former_amount = case when :finished is null then former_amount end
            where id = :id and state = :from";
        let Self { id, from, event, now, run } = *self;
        let to = from.after(event).ok_or(StoreError::IllegalExportEvent { state: from, event })?;
        self.refuse_to_leave_work_behind(transaction)?;
        let warnings = facts.warnings.map(serde_json::to_string).transpose();
        let warnings = warnings.map_err(|source| StoreError::Json { what: "list of warnings", source })?;
        let values = named_params! {
            ":id": id,
            ":from": from,
            ":to": to,
            ":now": now,
            ":finished": to.is_final().then_some(now),
            ":run": run,
            ":error": facts.error,
            ":manifest": facts.manifest.map(path_text).transpose()?,
            ":warnings": warnings,
        };
        if to.is_final() {
            delete_former(transaction, id)?;
        }
        let mut update = transaction.prepare_cached(UPDATE).during("change an export's state")?;
        match update.execute(values).during("change an export's state")? {
            1 => Ok(to),
            _ => Err(conflict(transaction, id, from.as_str())),
        }
    }

    fn refuse_to_leave_work_behind(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        const SELECT: &str = "
            select windows_total - windows_planned,
                   (select coalesce(sum(chunks), 0) from chunk_count
                    where export_id = export.id and state in ('planned', 'fetching', 'failed'))
            from export where id = :id";
        let needs_chunks = match self.event {
            ExportEvent::Planned => false,
            ExportEvent::MergeStarted => true,
            _ => return Ok(()),
        };
        let read = |row: &Row<'_>| Ok((row.get::<_, Unsigned>(0)?.0, row.get::<_, Unsigned>(1)?.0));
        let found = transaction.query_row(SELECT, named_params! { ":id": self.id }, read).optional();
        match found.during("read what an export still needs")? {
            Some((windows, chunks)) if windows > 0 || (needs_chunks && chunks > 0) => {
                Err(StoreError::Outstanding { export: self.id.clone(), windows, chunks })
            }
            _ => Ok(()),
        }
    }
}

/// An export's state as recorded.
pub(super) fn find_state(connection: &Connection, id: &ExportId) -> Result<Option<ExportState>, StoreError> {
    const SELECT: &str = "select state from export where id = :id";
    let mut select = connection.prepare_cached(SELECT).during("read an export's state")?;
    select
        .query_row(named_params! { ":id": id }, |row| row.get(0))
        .optional()
        .during("read an export's state")
}

/// The error for an export that is not as `expected`.
pub(super) fn conflict(connection: &Connection, id: &ExportId, expected: &'static str) -> StoreError {
    match find_state(connection, id) {
        Ok(Some(found)) => {
            StoreError::Conflict { row: format!("export {id}"), expected, found: found.as_str().into() }
        }
        Ok(None) => StoreError::NoExport(id.clone()),
        Err(error) => error,
    }
}

fn spec_json(spec: &ExportSpec) -> Result<String, StoreError> {
    serde_json::to_string(spec).map_err(|source| StoreError::Json { what: "export", source })
}
