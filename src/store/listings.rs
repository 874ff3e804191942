//! Listings that `plan` made and `run` need not make again.

use rusqlite::{OptionalExtension, Row, named_params};

use super::Store;
use super::codec::{self, CodecError};
use super::error::{During, StoreError};
use crate::model::{Fragment, StreamArn, TimeRange, TimestampKind, UtcMillis};

/// What was listed: a stream's window by one of its clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingKey {
    /// The stream.
    pub stream: StreamArn,
    /// The clock that selects.
    pub timestamps: TimestampKind,
    /// The window, without the surroundings that are listed with it.
    pub window: TimeRange,
}

/// Fragments in the few bytes that they take in the state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFragments(Vec<u8>);

impl PackedFragments {
    /// Packs fragments, which keep their order.
    pub fn pack(fragments: &[Fragment]) -> Result<Self, StoreError> {
        let packed = codec::encode(fragments, &[]);
        packed.map(Self).map_err(|source| StoreError::Listing(CodecError::Damaged(source)))
    }

    /// The fragments.
    pub fn unpack(&self) -> Result<Vec<Fragment>, StoreError> {
        Ok(codec::decode(&self.0).map_err(StoreError::Listing)?.0)
    }

    /// The bytes they take.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// Everything that was listed for a window and its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// When.
    pub listed_at: UtcMillis,
    /// What.
    pub fragments: PackedFragments,
}

impl Store {
    /// Keeps listings for a later run, in place of earlier ones of the same windows.
    pub fn keep_listings(&mut self, listings: &[(ListingKey, Listing)]) -> Result<(), StoreError> {
        const INSERT: &str = "
            insert or replace into listing (stream_arn, timestamps, start_ms, end_ms, listed_at_ms, fragments)
            values (:stream, :timestamps, :start, :end, :listed_at, :fragments)";
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT).during("keep a listing")?;
            for (key, listing) in listings {
                let values = named_params! {
                    ":stream": key.stream,
                    ":timestamps": key.timestamps.as_str(),
                    ":start": key.window.start(),
                    ":end": key.window.end(),
                    ":listed_at": listing.listed_at,
                    ":fragments": listing.fragments.0,
                };
                insert.execute(values).during("keep a listing")?;
            }
            Ok(())
        })
    }

    /// The listing that was kept of a window.
    pub fn kept_listing(&self, key: &ListingKey) -> Result<Option<Listing>, StoreError> {
        const SELECT: &str = "
            select listed_at_ms, fragments from listing
            where stream_arn = :stream and timestamps = :timestamps and start_ms = :start and end_ms = :end";
        let read = |row: &Row<'_>| {
            let fragments = PackedFragments(row.get("fragments")?);
            Ok(Listing { listed_at: row.get("listed_at_ms")?, fragments })
        };
        let values = named_params! {
            ":stream": key.stream,
            ":timestamps": key.timestamps.as_str(),
            ":start": key.window.start(),
            ":end": key.window.end(),
        };
        let mut select = self.connection.prepare_cached(SELECT).during("read a kept listing")?;
        select.query_row(values, read).optional().during("read a kept listing")
    }

    /// Marks a listing as one that a window was planned from; other exports may still want it in this run.
    pub fn use_listing(&mut self, key: &ListingKey) -> Result<(), StoreError> {
        const UPDATE: &str = "
            update listing set used = 1
            where stream_arn = :stream and timestamps = :timestamps and start_ms = :start and end_ms = :end";
        self.write(|transaction| {
            let values = named_params! {
                ":stream": key.stream,
                ":timestamps": key.timestamps.as_str(),
                ":start": key.window.start(),
                ":end": key.window.end(),
            };
            let mut update = transaction.prepare_cached(UPDATE).during("mark a listing as used")?;
            update.execute(values).during("mark a listing as used")?;
            Ok(())
        })
    }

    /// Removes the listings that were used, and those made before `oldest`; returns how many.
    pub fn drop_listings(&mut self, oldest: UtcMillis) -> Result<usize, StoreError> {
        const DELETE: &str = "delete from listing where used = 1 or listed_at_ms < :oldest";
        self.write(|transaction| {
            transaction.execute(DELETE, named_params! { ":oldest": oldest }).during("remove kept listings")
        })
    }
}
