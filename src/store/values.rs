//! How the model's values stand in columns.

use std::path::{Path, PathBuf};

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

use super::error::StoreError;
use super::runs::RunId;
use crate::model::{
    AttemptOutcome, ChunkId, ChunkState, ExportId, ExportState, Sha256Digest, StreamArn, UtcMillis,
};

/// A count or a size: never negative in a column, at most `i64::MAX`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsigned(pub(super) u64);

impl ToSql for Unsigned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = i64::try_from(self.0);
        value.map(Into::into).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    }
}

impl FromSql for Unsigned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = value.as_i64()?;
        u64::try_from(value).map(Self).map_err(|_| FromSqlError::OutOfRange(value))
    }
}

/// A word of an enum that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a known word here")]
struct UnknownWord(String);

macro_rules! words {
    ($($enum:ty),+) => {$(
        impl ToSql for $enum {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $enum {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                Self::parse(word).ok_or_else(|| FromSqlError::Other(Box::new(UnknownWord(word.to_owned()))))
            }
        }
    )+};
}

words!(AttemptOutcome, ChunkState, ExportState);

macro_rules! integers {
    ($($id:ty => $get:expr, $make:expr);+) => {$(
        impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let get: fn(&Self) -> i64 = $get;
                Ok(get(self).into())
            }
        }

        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_i64().map($make)
            }
        }
    )+};
}

integers!(
    ChunkId => |id| id.0, ChunkId;
    RunId => |id| id.0, RunId;
    UtcMillis => |instant| instant.get(), UtcMillis::new
);

impl ToSql for ExportId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for ExportId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str().map(|id| Self(id.to_owned()))
    }
}

impl ToSql for StreamArn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for StreamArn {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Sha256Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_slice().into())
    }
}

impl FromSql for Sha256Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(Self)
    }
}

/// A path as a column holds it.
pub(super) fn path_text(path: &Path) -> Result<&str, StoreError> {
    path.to_str().ok_or_else(|| StoreError::PathNotUtf8 { path: path.to_owned() })
}

/// A column's path.
pub(super) fn text_path(text: Option<String>) -> Option<PathBuf> {
    text.map(PathBuf::from)
}
