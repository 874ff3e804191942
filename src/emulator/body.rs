//! Bodies on their way: paced, counted, and cut where a fault says so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::log::Entry;
use super::service::Service;

/// The largest piece handed over at once.
const PIECE: usize = 64 * 1024;

/// At least so many pieces are handed over in a second of a slow body.
const PIECES_PER_SECOND: u64 = 10;

/// Time for what was handed over to leave before a connection is broken.
const FLUSH: Duration = Duration::from_millis(20);

/// How a body ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    Close,
    Reset,
    /// Nothing comes any more, until the client hangs up.
    Stall,
}

/// A body to be sent.
pub(super) struct Sending {
    pub(super) service: Arc<Service>,
    pub(super) entry: Entry,
    pub(super) size: u64,
    pub(super) pieces: Box<dyn Iterator<Item = Bytes> + Send>,
    /// Whether its bytes count as media.
    pub(super) is_media: bool,
    /// After how many bytes it breaks off.
    pub(super) broken: Option<(u64, Break)>,
    /// Bytes a second; `None`: as fast as they are read.
    pub(super) pace: Option<u64>,
    /// Tells the connection to reset itself.
    pub(super) reset: Arc<Notify>,
}

struct Progress {
    sending: Sending,
    current: Bytes,
    sent: u64,
    started: Instant,
}

impl Sending {
    /// The body for the HTTP server.
    pub(super) fn into_body(self) -> Body {
        if self.size == 0 {
            self.service.log.update(self.entry, |record| record.completed = true);
            return Body::empty();
        }
        let progress = Progress { sending: self, current: Bytes::new(), sent: 0, started: Instant::now() };
        Body::from_stream(stream::unfold(progress, Progress::advance))
    }
}

impl Progress {
    async fn advance(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut most = PIECE as u64;
        if let Some(pace) = self.sending.pace {
            // A slow body comes in small pieces, not in large ones with long pauses.
            most = most.min((pace / PIECES_PER_SECOND).max(1));
        }
        if let Some((after, how)) = self.sending.broken {
            most = most.min(after.saturating_sub(self.sent));
            if most == 0 {
                sleep(FLUSH).await;
                if how == Break::Reset {
                    self.sending.reset.notify_one();
                }
                if how != Break::Close {
                    std::future::pending::<()>().await;
                }
                return Some((Err(io::Error::other("body cut on order")), self));
            }
        }
        if self.current.is_empty() {
            self.current = self.sending.pieces.next()?;
        }
        if let Some(pace) = self.sending.pace {
            sleep_until(self.started + Duration::from_secs_f64(self.sent as f64 / pace.max(1) as f64)).await;
        }
        let length = self.current.len().min(usize::try_from(most).unwrap_or(PIECE));
        let piece = self.current.split_to(length);
        let bytes = piece.len() as u64;
        self.sent += bytes;
        let completed = self.sent >= self.sending.size;
        self.sending.service.log.update(self.sending.entry, |record| {
            record.bytes_sent += bytes;
            record.completed = completed;
        });
        if self.sending.is_media {
            self.sending.service.count_media_bytes(bytes);
        }
        Some((Ok(piece), self))
    }
}
