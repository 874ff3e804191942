//! Streams by prefix: listed before anything is decided, and told as failed where they could not be.

use std::sync::Arc;

use futures_util::future::join_all;

use super::observe::Observer;
use super::stop::Stop;
use crate::archive::{Archive, ArchiveError, FailureKind, StreamQuery};
use crate::error::chain;
use crate::model::event::EventSink;
use crate::model::listing::widest;
use crate::model::plan_report::{Outstanding, PlanAction, PlannedCalls, PlannedChunks, PlannedExport};
use crate::model::report::{ChunkTally, ExportReport, ExportStatus};
use crate::model::{AttemptOutcome, ListedStream, NotListed, StreamListings, StreamPrefix, UnlistedRange};

/// The streams of a job file's prefixes.
#[derive(Debug, Default)]
pub struct ListedPrefixes {
    /// What was listed.
    pub listings: StreamListings,
    /// Pages that were answered for it.
    pub pages: u64,
}

/// Lists the streams of all these prefixes, each stream once however many prefixes take it.
///
/// The error is one of the credentials as such; what befalls a single listing stands in its place.
pub async fn list_streams(
    archive: &dyn Archive,
    events: &Arc<dyn EventSink>,
    prefixes: Vec<StreamPrefix>,
) -> Result<ListedPrefixes, Stop> {
    let listed = widest(prefixes).into_iter().map(|prefix| async {
        let observer = Observer::new(events);
        let listed = list_prefix(archive, &prefix, &observer).await;
        let answered = observer.into_attempts();
        let answered = answered.iter().filter(|sent| sent.outcome == AttemptOutcome::Succeeded).count();
        (prefix, listed, answered as u64)
    });
    let mut all = ListedPrefixes::default();
    for (prefix, listed, pages) in join_all(listed).await {
        let listed = match listed {
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            listed => listed.map_err(|error| NotListed {
                denied: error.kind == FailureKind::Denied,
                error: listing_refused(&error),
            }),
        };
        all.listings.add(prefix, listed);
        all.pages += pages;
    }
    Ok(all)
}

/// All pages.
async fn list_prefix(
    archive: &dyn Archive,
    prefix: &StreamPrefix,
    observer: &Observer,
) -> Result<Vec<ListedStream>, ArchiveError> {
    let mut query = StreamQuery { prefix: prefix.clone(), next_token: None };
    let mut streams = Vec::new();
    loop {
        let page = archive.list_streams(&query, observer).await?;
        streams.extend(page.streams);
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            return Ok(streams);
        }
    }
}

fn listing_refused(error: &ArchiveError) -> String {
    match error.kind {
        FailureKind::Denied => format!(
            "the credentials may not list the streams of {}: grant {}, or name them one by one ({})",
            error.stream,
            error.iam_action(),
            error.message
        ),
        _ => chain(error),
    }
}

/// Why they fail; nothing is tried of what is pending.
fn error(unlisted: &UnlistedRange) -> Option<String> {
    (!unlisted.pending).then(|| unlisted.why.error.clone())
}

/// What a run tells of streams that it could not list.
pub(super) fn reported(unlisted: &UnlistedRange) -> ExportReport {
    let status = if unlisted.pending { ExportStatus::Pending } else { ExportStatus::Failed };
    ExportReport {
        id: None,
        job: unlisted.job.clone(),
        stream: unlisted.prefix.to_string(),
        from: unlisted.range.start(),
        to: unlisted.range.end(),
        status,
        already: false,
        resumed_chunks: None,
        output: Vec::new(),
        manifest: None,
        chunks: ChunkTally::default(),
        chunk: unlisted.chunk.to_string(),
        fragments: (!unlisted.chunk.is_fixed()).then_some(0),
        bytes: 0,
        media_ms: 0,
        gaps: Vec::new(),
        warnings: Vec::new(),
        error: error(unlisted),
    }
}

/// What a plan tells of them.
pub(super) fn planned(unlisted: &UnlistedRange) -> PlannedExport {
    let action = if unlisted.pending { PlanAction::Pending } else { PlanAction::New };
    let known = (!unlisted.chunk.is_fixed()).then_some(0);
    PlannedExport {
        id: None,
        job: unlisted.job.clone(),
        stream: unlisted.prefix.to_string(),
        from: unlisted.range.start(),
        to: unlisted.range.end(),
        action,
        output: unlisted.output.clone(),
        chunks: PlannedChunks::default(),
        chunk: unlisted.chunk.to_string(),
        fragments: known,
        bytes: known,
        media_ms: known,
        gaps: Vec::new(),
        expires_at: None,
        expires_before_turn: false,
        outstanding: Outstanding::default(),
        calls: PlannedCalls::default(),
        cost_usd: Some(0.0),
        time_ms: known,
        warnings: Vec::new(),
        error: error(unlisted),
    }
}

/// Of what was tried, whether each failed for a missing permission; nothing was tried of what is pending.
pub(super) fn denials(unlisted: &[UnlistedRange]) -> impl Iterator<Item = bool> {
    unlisted.iter().filter(|unlisted| !unlisted.pending).map(|unlisted| unlisted.why.denied)
}
