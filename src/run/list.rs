//! Lists a window, all pages, and plans it.

use crate::archive::{Archive, ArchiveError, CallObserver, ListQuery};
use crate::clock::Clock;
use crate::model::{Fragment, RequestBounds, StreamArn, TimestampKind, UtcMillis};
use crate::plan::{self, PlannedWindow, WindowQuery};

/// A window, listed and planned.
#[derive(Debug)]
pub(super) struct ListedWindow {
    pub(super) listed_at: UtcMillis,
    pub(super) planned: PlannedWindow,
}

/// Lists everything between inclusive bounds: all pages, in whatever order they come.
pub(super) async fn list_all(
    archive: &dyn Archive,
    stream: &StreamArn,
    timestamps: TimestampKind,
    bounds: RequestBounds,
    observer: &dyn CallObserver,
) -> Result<Vec<Fragment>, ArchiveError> {
    let mut query = ListQuery {
        stream: stream.clone(),
        timestamps,
        bounds,
        page_size: plan::list_page_size(bounds),
        next_token: None,
    };
    let mut fragments = Vec::new();
    loop {
        let page = archive.list_fragments(&query, observer).await?;
        fragments.extend(page.fragments);
        query.next_token = page.next_token;
        if query.next_token.is_none() {
            return Ok(fragments);
        }
    }
}

/// Whether anything is listed between inclusive bounds.
pub(super) async fn any_fragment(
    archive: &dyn Archive,
    stream: &StreamArn,
    timestamps: TimestampKind,
    bounds: RequestBounds,
    observer: &dyn CallObserver,
) -> Result<bool, ArchiveError> {
    let mut query = ListQuery { stream: stream.clone(), timestamps, bounds, page_size: 1, next_token: None };
    loop {
        let page = archive.list_fragments(&query, observer).await?;
        query.next_token = page.next_token;
        if !page.fragments.is_empty() || query.next_token.is_none() {
            return Ok(!page.fragments.is_empty());
        }
    }
}

/// Lists a window with its surroundings and plans it.
pub(super) async fn list_window(
    archive: &dyn Archive,
    stream: &StreamArn,
    query: &WindowQuery,
    clock: &dyn Clock,
    observer: &dyn CallObserver,
) -> Result<ListedWindow, ArchiveError> {
    let listed_at = clock.now();
    let bounds = plan::list_bounds(query.window);
    let listed = list_all(archive, stream, query.timestamps, bounds, observer).await?;
    Ok(ListedWindow { listed_at, planned: plan::plan_window(query, listed) })
}
