//! Fixed windows: what their clips and the service's refusals say, where no listing may be asked.
//!
//! The rules and their reasons are in `design/fixed-windows.md`.

use std::io;

use super::fetch::{FetchContext, FetchJob, FetchOutcome};
use crate::archive::{Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, FailureKind};
use crate::media::clip::WholeClip;
use crate::model::{RequestBounds, StreamArn, TimestampKind};
use crate::plan;
use crate::store::ChunkError;

/// A clip with so many key frames, and so perhaps fragments, may have been cut off by the service.
const FULL_KEY_FRAMES: usize = 190;

/// A clip of so many bytes may have been cut off by the service.
const FULL_BYTES: u64 = 90_000_000;

/// Where the service cuts a clip off: a fragment that would go beyond is left out.
///
/// Less than the 100 MB that are documented: the service may count other bytes than the clip's, such as those of its own
/// container.
const CUT_BYTES: u64 = 96_000_000;

/// How much larger than the heaviest 20 s of a clip the next fragment may be: bit rates change with the light.
const GROWTH: u64 = 2;

/// The largest fragment that a stream takes.
const LARGEST_FRAGMENT: u64 = 50_000_000;

/// A shorter window holds fewer fragments than a clip, however many key frames: a stream takes five a second at most, and
/// by the camera's clock several sessions may lie over each other.
const COUNTED_MS: i64 = 10_000;

/// Shorter windows are not divided to find what makes their clips unusable: that is no property of the media, or it would
/// have shown in longer ones.
const UNUSABLE_MS: i64 = 2_000;

/// Room that the file of a window is given on the disk before its size is known: the service's limit, read as 100 MiB.
pub(super) const EXPECTED_BYTES: u64 = 104_857_600;

/// The longest time that one clip can be asked for.
const LONGEST_CLIP_MS: i64 = 86_400_000;

/// Why a clip cannot be taken for all of its window, or `None`.
///
/// The service leaves out silently what does not fit. The next fragment is not known; it is taken to be twice as large as
/// the heaviest 20 s of the clip, the longest that a fragment can be, or the largest that there can be.
pub(super) fn may_be_cut(bounds: RequestBounds, size_bytes: u64, clip: &WholeClip) -> Option<ChunkError> {
    let by_count = clip.key_frames >= FULL_KEY_FRAMES && bounds.end - bounds.start >= COUNTED_MS;
    let next = clip.heaviest.saturating_mul(GROWTH).min(LARGEST_FRAGMENT);
    let by_bytes = size_bytes >= FULL_BYTES || size_bytes.saturating_add(next) > CUT_BYTES;
    (by_count || by_bytes).then(|| {
        let detail = format!(
            "the clip of the window has {} key frames and {size_bytes} bytes: the service may have left out what did not \
             fit in it",
            clip.key_frames
        );
        ChunkError { code: "full".to_owned(), detail }
    })
}

/// Whether the window of an unusable clip is long enough to be divided.
pub(super) fn may_be_divided_for_use(bounds: RequestBounds) -> bool {
    bounds.end - bounds.start >= UNUSABLE_MS
}

/// What a failed request means for a window; `Err` is worth another attempt.
///
/// `again` says that the service has said before that there is no media: once could be a moment's error.
pub(super) async fn meaning(
    context: &FetchContext,
    job: &FetchJob,
    error: ArchiveError,
    again: bool,
    observer: &dyn CallObserver,
) -> Result<FetchOutcome, ChunkError> {
    let words = super::fetch::words_of(&error);
    match error.kind {
        FailureKind::NoMedia if !again => Err(words),
        FailureKind::NoMedia => Ok(without_media(context, job, words)),
        FailureKind::OutsideRetention => Ok(overtaken(context, job, words, observer).await),
        _ => Ok(super::fetch::outcome_of(error, words, job.is_divisible())),
    }
}

/// A window for which the service has said twice that it has no media.
fn without_media(context: &FetchContext, job: &FetchJob, words: ChunkError) -> FetchOutcome {
    // By the server's clock the service refuses what lies before retention. By the camera's it does not: there may have
    // been something.
    let horizon = context.clock.now() - i64::from(job.retention_hours) * 3_600_000;
    if job.timestamps == TimestampKind::Producer && job.bounds.start < horizon {
        let detail = format!("{}; the window begins before the stream's retention", words.detail);
        return FetchOutcome::Expired(ChunkError { code: words.code, detail });
    }
    FetchOutcome::Empty
}

/// A window that begins before retention: expired, unless its end is still kept.
async fn overtaken(
    context: &FetchContext,
    job: &FetchJob,
    words: ChunkError,
    observer: &dyn CallObserver,
) -> FetchOutcome {
    if !job.is_divisible() {
        return FetchOutcome::Expired(words);
    }
    // Retention may have been shortened since the stream was described, and clocks differ: only the service knows.
    let end = RequestBounds { start: job.bounds.end - 1, end: job.bounds.end };
    match glance(&*context.archive, (&job.stream, job.timestamps), end, context.attempts, observer).await {
        Err(error) if error.kind == FailureKind::OutsideRetention => FetchOutcome::Expired(words),
        Ok(_) => FetchOutcome::TakeApart { error: words, refused: false },
        Err(error) if error.kind == FailureKind::MediaRefused => {
            FetchOutcome::TakeApart { error: words, refused: false }
        }
        Err(error) => {
            let detail = format!("{}; and its end cannot be asked for: {}", words.detail, error.message);
            super::fetch::outcome_of(error, ChunkError { code: words.code, detail }, false)
        }
    }
}

/// Whether there is media between inclusive bounds of another clock, asked with clips of a day at most.
pub(super) async fn any_media(
    archive: &dyn Archive,
    stream: &StreamArn,
    timestamps: TimestampKind,
    bounds: RequestBounds,
    observer: &dyn CallObserver,
) -> Result<bool, ArchiveError> {
    let mut start = bounds.start;
    while start < bounds.end {
        // A last millisecond by itself could not be asked for: a clip needs two.
        let end =
            if bounds.end - start <= LONGEST_CLIP_MS { bounds.end } else { start + LONGEST_CLIP_MS - 2 };
        let asked = RequestBounds { start, end };
        match glance(archive, (stream, timestamps), asked, u32::MAX, observer).await {
            Ok(false) => {}
            // By the server's clock, what lies before retention cannot be asked for: nothing of it is left.
            Err(error) if error.kind == FailureKind::OutsideRetention => {}
            Ok(true) => return Ok(true),
            // What is refused is there.
            Err(error) if error.kind == FailureKind::MediaRefused => return Ok(true),
            Err(error) => return Err(error),
        }
        start = end + 1;
    }
    Ok(false)
}

/// Asks for a clip and hangs up when its first bytes come; whether there are any.
pub(super) async fn glance(
    archive: &dyn Archive,
    (stream, timestamps): (&StreamArn, TimestampKind),
    bounds: RequestBounds,
    attempts: u32,
    observer: &dyn CallObserver,
) -> Result<bool, ArchiveError> {
    let query = ClipQuery {
        stream: stream.clone(),
        timestamps,
        bounds,
        fragments: plan::fixed_points(bounds),
        attempts,
        may_list: false,
    };
    let mut sink = Glance::default();
    match archive.get_clip(&query, &mut sink, observer).await {
        Ok(_) => Ok(true),
        Err(_) if sink.has_seen_media => Ok(true),
        Err(error) if error.kind == FailureKind::NoMedia => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the first bytes of a clip and wants no more.
#[derive(Debug, Default)]
pub(super) struct Glance {
    pub(super) has_seen_media: bool,
}

impl ClipSink for Glance {
    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.has_seen_media |= !bytes.is_empty();
        Err(io::Error::other("enough was seen"))
    }
}
