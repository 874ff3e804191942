//! Fetches one chunk: asks for its clip, until that can be kept or there is a reason to stop trying.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::cancelled;
use super::list::list_all;
use super::receive::{Expected, FileSink, Kept, keep};
use super::stop::Stop;
use super::window;
use crate::archive::{self, Archive, ArchiveError, CallObserver, ClipQuery, FailureKind};
use crate::clock::Clock;
use crate::model::event::PauseReason;
use crate::model::{
    Attempt, ChunkId, ExportId, Fragment, RequestBounds, Sha256Digest, StreamArn, TimestampKind, UtcMillis,
};
use crate::plan::{self, PlannedChunk};
use crate::store::ChunkError;

/// Fetches of a clip that cannot be used, before it is taken apart.
const UNUSABLE_BEFORE_SPLIT: u32 = 2;

/// How long before a window that was said to be without media is asked for again.
const DOUBT: Duration = Duration::from_millis(500);

/// What to do about a stream that cannot be exported.
pub(super) const WAY_OUT: &str = "exported are H.264 and H.265 video, alone or with AAC or G.711 sound: take the stream out of \
                       `streams`, or name it in `except`";

/// What every fetch of a run needs.
pub(super) struct FetchContext {
    pub(super) archive: Arc<dyn Archive>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) work: PathBuf,
    /// Attempts per chunk: requests that fail in passing, and clips that are not what was asked for.
    pub(super) attempts: u32,
    /// Becomes true when the run ends before its tasks do.
    pub(super) stop: watch::Sender<bool>,
}

impl FetchContext {
    /// Carries out what a task does, unless the run stops before; then its request is cut.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            done = work => Some(done),
            () = cancelled(&mut stop) => None,
        }
    }
}

/// One chunk to fetch.
pub(super) struct FetchJob {
    pub(super) export: ExportId,
    pub(super) chunk: ChunkId,
    pub(super) stream: StreamArn,
    pub(super) retention_hours: u32,
    pub(super) timestamps: TimestampKind,
    pub(super) bounds: RequestBounds,
    /// None of a fixed window.
    pub(super) fragments: Vec<Fragment>,
}

impl FetchJob {
    /// Whether nothing was listed: what is in the window is not known.
    pub(super) fn is_fixed(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Whether smaller requests could get what this one cannot.
    pub(super) fn is_divisible(&self) -> bool {
        if self.is_fixed() { plan::is_halvable(self.bounds) } else { self.fragments.len() > 1 }
    }

    /// What the request is taken to cost.
    fn points(&self) -> u32 {
        if self.is_fixed() {
            plan::fixed_points(self.bounds)
        } else {
            u32::try_from(self.fragments.len()).unwrap_or(u32::MAX)
        }
    }

    fn whole(&self) -> PlannedChunk {
        let bytes = 0;
        PlannedChunk { first: 0, count: self.fragments.len(), bounds: self.bounds, bytes }
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) enum FetchOutcome {
    /// Its file is whole, synced, under its final name.
    Fetched { size_bytes: u64, sha256: Sha256Digest },
    /// A fixed window without media.
    Empty,
    /// Smaller requests may get what this one did not.
    TakeApart { error: ChunkError, refused: bool },
    /// The service refuses its only fragment.
    Rejected(ChunkError),
    /// Its fragments are past retention.
    Expired(ChunkError),
    /// Given up in this run.
    Failed(ChunkError),
    /// The stream's other chunks would fail in the same way.
    StreamFailed(ArchiveError),
    /// The run cannot go on.
    Stop(Stop),
}

/// Where a chunk's file lies.
pub(super) fn chunk_path(work: &Path, export: &ExportId, chunk: ChunkId) -> PathBuf {
    export_folder(work, export).join(chunk_name(chunk))
}

/// What a chunk's file is called; the only place that names it.
pub(super) fn chunk_name(chunk: ChunkId) -> String {
    format!("{chunk}.mp4")
}

/// The chunk whose file is called so.
pub(super) fn chunk_of(path: &Path) -> Option<ChunkId> {
    let chunk = path.file_stem()?.to_str()?.parse().ok().map(ChunkId)?;
    (path.file_name()? == chunk_name(chunk).as_str()).then_some(chunk)
}

/// Where the chunks of an export wait for their merge.
pub(super) fn export_folder(work: &Path, export: &ExportId) -> PathBuf {
    work.join(&export.0)
}

/// Fetches a chunk until its file is whole or there is a reason to stop trying.
///
/// When the run stops, the request that is under way is cut, and the observer is told of it before this returns; a
/// file that is whole is kept all the same.
pub(super) async fn fetch(
    context: &FetchContext,
    job: &FetchJob,
    observer: &dyn CallObserver,
) -> FetchOutcome {
    let path = chunk_path(&context.work, &job.export, job.chunk);
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut query = ClipQuery {
        stream: job.stream.clone(),
        timestamps: job.timestamps,
        bounds: job.bounds,
        fragments: job.points(),
        attempts: context.attempts,
        may_list: !job.is_fixed(),
    };
    let several = job.is_divisible();
    // Whether the service has said of a fixed window that it has no media.
    let mut doubted = false;
    let counter = SpentCounter { observer, spent: AtomicU32::new(0) };
    // Answers that were no use; the counter has the requests that had none.
    let mut useless = 0;
    loop {
        let mut sink = FileSink::new(part.clone());
        let asking = async {
            match context.archive.get_clip(&query, &mut sink, &counter).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let kind = error.kind;
                    let meaning = if job.is_fixed() {
                        window::meaning(context, job, error, doubted, &counter).await
                    } else {
                        classify(context, job, error, observer).await
                    };
                    Err((kind, meaning))
                }
            }
        };
        let Some(asked) = context.unless_stopped(asking).await else {
            return FetchOutcome::Stop(Stop::Interrupted);
        };
        let problem = match asked {
            Ok(()) => match keep(sink, Expected::of(job), path.clone()).await {
                Ok(Kept::Whole { size_bytes, sha256 }) => {
                    return FetchOutcome::Fetched { size_bytes, sha256 };
                }
                Ok(Kept::Short(error)) if several => {
                    return FetchOutcome::TakeApart { error, refused: false };
                }
                Ok(Kept::Short(error)) if job.is_fixed() => return FetchOutcome::Failed(error),
                Ok(Kept::Refused(error)) if several => {
                    return FetchOutcome::TakeApart { error, refused: true };
                }
                Ok(Kept::Refused(error)) => return FetchOutcome::Rejected(error),
                Ok(Kept::Unusable(error))
                    if job.is_fixed() && !window::may_be_divided_for_use(job.bounds) =>
                {
                    error
                }
                Ok(Kept::Unusable(error)) if several && useless + 1 >= UNUSABLE_BEFORE_SPLIT => {
                    return FetchOutcome::TakeApart { error, refused: false };
                }
                Ok(Kept::Short(error) | Kept::Unusable(error)) => error,
                Ok(Kept::NeverUsable(reason)) => {
                    return FetchOutcome::StreamFailed(never_usable(job, &reason));
                }
                Err(error) => return FetchOutcome::Stop(Stop::of_fs(error)),
            },
            Err((_, Ok(outcome))) => return outcome,
            Err((FailureKind::NoMedia, Err(_))) if job.is_fixed() => {
                doubted = true;
                query.attempts = left(context, useless, &counter).max(1);
                if context.unless_stopped(tokio::time::sleep(DOUBT)).await.is_none() {
                    return FetchOutcome::Stop(Stop::Interrupted);
                }
                continue;
            }
            Err((FailureKind::OutsideRetention, Err(_))) if query.bounds.start < first_start(job) => {
                // Retention has passed the bound, and not yet the fragment: ask from there, while it lives.
                query.bounds.start = first_start(job);
                query.attempts = left(context, useless, &counter).max(1);
                continue;
            }
            Err((_, Err(transient))) => transient,
        };
        useless += 1;
        let stream = job.stream.name();
        tracing::info!(stream, code = problem.code, error = problem.detail, "answer of no use");
        query.attempts = left(context, useless, &counter);
        if query.attempts == 0 {
            return FetchOutcome::Failed(problem);
        }
        if context.unless_stopped(tokio::time::sleep(archive::jitter(useless))).await.is_none() {
            return FetchOutcome::Stop(Stop::Interrupted);
        }
    }
}

/// How many of the chunk's attempts are left.
fn left(context: &FetchContext, useless: u32, counter: &SpentCounter<'_>) -> u32 {
    context.attempts.saturating_sub(useless + counter.spent.load(Ordering::Relaxed))
}

/// When the chunk's first fragment begins; its request's bound lies a little earlier.
fn first_start(job: &FetchJob) -> UtcMillis {
    let starts = job.fragments.iter().map(|fragment| fragment.start(job.timestamps));
    starts.min().unwrap_or(job.bounds.start)
}

/// Adds up what the calls for clips have cost, on their way to the observer.
struct SpentCounter<'a> {
    observer: &'a dyn CallObserver,
    spent: AtomicU32,
}

impl CallObserver for SpentCounter<'_> {
    fn answered(&self, request_id: Option<&str>) {
        self.observer.answered(request_id);
    }

    fn attempt(&self, attempt: Attempt) {
        self.observer.attempt(attempt);
    }

    fn retrying(&self, error: &ArchiveError, attempt: u32, delay_ms: u64) {
        self.observer.retrying(error, attempt, delay_ms);
    }

    fn bytes(&self, count: u64) {
        self.observer.bytes(count);
    }

    fn spent(&self, attempts: u32) {
        self.spent.fetch_add(attempts, Ordering::Relaxed);
        self.observer.spent(attempts);
    }

    fn paused(&self, stream: &str, reason: PauseReason, retry: Duration) {
        self.observer.paused(stream, reason, retry);
    }

    fn resumed(&self, stream: &str) {
        self.observer.resumed(stream);
    }
}

/// What a failed request means for the chunk; `Err` is worth another attempt.
async fn classify(
    context: &FetchContext,
    job: &FetchJob,
    error: ArchiveError,
    observer: &dyn CallObserver,
) -> Result<FetchOutcome, ChunkError> {
    let words = words_of(&error);
    if !matches!(error.kind, FailureKind::NoMedia | FailureKind::OutsideRetention) {
        return Ok(outcome_of(error, words, job.is_divisible()));
    }
    // "No fragments" for fragments that were listed is never a gap: ask the listing again.
    let listed = list_all(&*context.archive, &job.stream, job.timestamps, job.bounds, observer).await;
    match listed {
        Ok(listed) => {
            let past_retention = error.kind == FailureKind::OutsideRetention;
            missing(context, job, &listed, (words, past_retention))
        }
        Err(error) if error.kind == FailureKind::Auth => Ok(FetchOutcome::Stop(Stop::Auth(Box::new(error)))),
        Err(error) if error.kind == FailureKind::Away => Ok(FetchOutcome::StreamFailed(error)),
        Err(error) => {
            let detail = format!("{}; and it cannot be listed again: {}", words.detail, error.message);
            Ok(FetchOutcome::Failed(ChunkError { code: words.code, detail }))
        }
    }
}

/// What the state file records of a failed request.
pub(super) fn words_of(error: &ArchiveError) -> ChunkError {
    let code = error.code.clone().unwrap_or_else(|| format!("{:?}", error.kind));
    ChunkError { code, detail: error.message.clone() }
}

/// What a failure means that says nothing of whether media is there; `words` are to be recorded.
pub(super) fn outcome_of(error: ArchiveError, words: ChunkError, is_divisible: bool) -> FetchOutcome {
    match error.kind {
        FailureKind::Throttled
        | FailureKind::Transient
        | FailureKind::Invalid
        | FailureKind::NoMedia
        | FailureKind::OutsideRetention => FetchOutcome::Failed(words),
        FailureKind::Auth => FetchOutcome::Stop(Stop::Auth(Box::new(error))),
        FailureKind::Local => FetchOutcome::Stop(Stop::of_archive(error)),
        FailureKind::Denied | FailureKind::StreamNotFound | FailureKind::Away => {
            FetchOutcome::StreamFailed(error)
        }
        FailureKind::MediaUnsupported => {
            let message = format!("{}; {WAY_OUT}", error.message);
            FetchOutcome::StreamFailed(ArchiveError { message, ..error })
        }
        FailureKind::MediaRefused if is_divisible => FetchOutcome::TakeApart { error: words, refused: true },
        FailureKind::MediaRefused => FetchOutcome::Rejected(words),
    }
}

/// What a chunk is that the service had no media for, given what it lists now, its words, and whether they say that
/// retention has passed: the stream's may have been shortened since it was described.
fn missing(
    context: &FetchContext,
    job: &FetchJob,
    listed: &[Fragment],
    (words, past_retention): (ChunkError, bool),
) -> Result<FetchOutcome, ChunkError> {
    let gone: Vec<&Fragment> = job
        .fragments
        .iter()
        .filter(|planned| !listed.iter().any(|listed| listed.number == planned.number))
        .collect();
    if gone.is_empty() {
        // Listings and clips are eventually consistent with each other.
        return Err(words);
    }
    let horizon = context.clock.now() - i64::from(job.retention_hours) * 3_600_000;
    let past_retention = past_retention || gone.iter().all(|fragment| fragment.server < horizon);
    Ok(if gone.len() < job.fragments.len() {
        let detail = if is_separable(job) {
            words.detail
        } else {
            format!(
                "{}; {} of its {} fragments are not listed any more, and the others start so close to them that no \
                 request can ask for them alone",
                words.detail,
                gone.len(),
                job.fragments.len()
            )
        };
        FetchOutcome::TakeApart { error: ChunkError { code: words.code, detail }, refused: false }
    } else if past_retention {
        FetchOutcome::Expired(words)
    } else {
        let detail =
            format!("{}; its fragments are not listed any more, though not past retention", words.detail);
        FetchOutcome::Failed(ChunkError { code: words.code, detail })
    })
}

/// Whether smaller requests can ask for fewer of the chunk's fragments.
fn is_separable(job: &FetchJob) -> bool {
    plan::split_chunk(&job.whole(), &job.fragments, job.timestamps).is_some()
}

/// The error of a clip that no other request would make better.
fn never_usable(job: &FetchJob, reason: &str) -> ArchiveError {
    ArchiveError {
        api: "GetClip",
        stream: job.stream.name().to_owned(),
        kind: FailureKind::MediaUnsupported,
        code: None,
        message: format!("{reason}; {WAY_OUT}"),
        request_id: None,
        source: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::archive::{
        ClipSink, FragmentPage, LimitSettings, ListQuery, RetrySettings, StreamDescription, StreamPage,
        StreamQuery,
    };
    use crate::clock::SystemClock;
    use crate::model::event::EventSink;
    use crate::model::{FragmentNumber, StreamSelector, UtcMillis};
    use crate::run::observe::Observer;
    use crate::run::planner::NoEvents;

    /// An archive that is asked for nothing but clips, and never answers.
    pub(in crate::run) struct SilentArchive;

    #[async_trait::async_trait]
    impl Archive for SilentArchive {
        async fn describe_stream(
            &self,
            _: &StreamSelector,
            _: &dyn CallObserver,
        ) -> Result<StreamDescription, ArchiveError> {
            unreachable!("not asked")
        }

        async fn list_streams(
            &self,
            _: &StreamQuery,
            _: &dyn CallObserver,
        ) -> Result<StreamPage, ArchiveError> {
            unreachable!("not asked")
        }

        async fn list_tags(
            &self,
            _: &StreamArn,
            _: &dyn CallObserver,
        ) -> Result<Vec<(String, String)>, ArchiveError> {
            unreachable!("not asked")
        }

        async fn list_fragments(
            &self,
            _: &ListQuery,
            _: &dyn CallObserver,
        ) -> Result<FragmentPage, ArchiveError> {
            unreachable!("not asked")
        }

        async fn get_clip(
            &self,
            _: &ClipQuery,
            _: &mut dyn ClipSink,
            _: &dyn CallObserver,
        ) -> Result<u64, ArchiveError> {
            std::future::pending().await
        }
    }

    fn context(archive: Arc<dyn Archive>, work: &Path) -> FetchContext {
        FetchContext {
            archive,
            clock: Arc::new(SystemClock),
            work: work.to_owned(),
            attempts: 8,
            stop: watch::Sender::new(false),
        }
    }

    fn fragment(number: &str, at: UtcMillis) -> Fragment {
        Fragment {
            number: FragmentNumber::parse(number).expect("number"),
            producer: at,
            server: at,
            length_ms: 2_000,
            size_bytes: 10,
        }
    }

    fn job(fragments: &[Fragment]) -> FetchJob {
        let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/1511852108513";
        FetchJob {
            export: ExportId("0123456789abcdef".to_owned()),
            chunk: ChunkId(1),
            stream: StreamArn::parse(arn).expect("ARN"),
            retention_hours: 24,
            timestamps: TimestampKind::Server,
            bounds: RequestBounds { start: UtcMillis::new(4_500), end: UtcMillis::new(9_000) },
            fragments: fragments.to_vec(),
        }
    }

    fn words() -> ChunkError {
        ChunkError { code: "ResourceNotFoundException".to_owned(), detail: "none".to_owned() }
    }

    #[test]
    fn retention_that_was_shortened_since_expires_a_chunk_by_the_services_words() {
        let context = context(Arc::new(SilentArchive), Path::new(""));
        let young = fragment("1", context.clock.now() - 3_600_000);
        let outcome = |past_retention| {
            missing(&context, &job(std::slice::from_ref(&young)), &[], (words(), past_retention))
        };
        assert!(matches!(outcome(true), Ok(FetchOutcome::Expired(_))), "{:?}", outcome(true));
        assert!(matches!(outcome(false), Ok(FetchOutcome::Failed(_))), "{:?}", outcome(false));
    }

    #[test]
    fn one_of_an_inseparable_pair_that_expired_is_told_so() {
        let context = context(Arc::new(SilentArchive), Path::new(""));
        let told = |distance: i64| {
            let first = UtcMillis::new(5_000);
            let fragments = [fragment("1", first), fragment("2", first + distance)];
            match missing(&context, &job(&fragments), &fragments[1..], (words(), false)) {
                Ok(FetchOutcome::TakeApart { error, refused: false }) => error.detail,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(4), "none");
        assert!(told(3).starts_with("none; 1 of its 2 fragments are not listed any more"), "{}", told(3));
    }

    #[tokio::test]
    async fn a_fetch_ends_when_the_run_stops_and_the_request_that_was_cut_is_recorded() {
        let limits = LimitSettings { requests_in_flight: 1, stream_budget: 1.0, bandwidth: None };
        let retries = RetrySettings { attempts: 8, outage: Duration::from_mins(1) };
        let folder = tempfile::tempdir().expect("a folder");
        let context = context(archive::assemble(SilentArchive, limits, retries).archive, folder.path());
        let job = job(&[]);
        let events: Arc<dyn EventSink> = Arc::new(NoEvents);
        let observer = Observer::new(&events);
        let (outcome, ()) = tokio::join!(fetch(&context, &job, &observer), async {
            tokio::task::yield_now().await;
            context.stop.send_replace(true);
        });
        assert!(matches!(outcome, FetchOutcome::Stop(Stop::Interrupted)), "{outcome:?}");
        let outcomes: Vec<_> = observer.into_attempts().iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(outcomes, [crate::model::AttemptOutcome::Cancelled]);
    }
}
