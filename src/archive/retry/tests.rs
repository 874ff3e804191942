//! Calls through all decorators against an archive that fails on order, in paused time.

use std::collections::BTreeSet;
use std::io;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::archive::{Assembled, LimitSettings, assemble};
use crate::model::event::PauseReason;
use crate::model::{Attempt, AttemptOutcome, RequestBounds, TimestampKind, UtcMillis};

/// How long the service takes to answer.
const LATENCY: Duration = Duration::from_millis(50);

/// A request as the service had it.
#[derive(Debug, Clone)]
struct Sent {
    api: &'static str,
    stream: String,
    /// Which chunk of the stream; 0 for other calls.
    chunk: i64,
    at: Duration,
}

type Behaviour = Box<dyn Fn(&Sent) -> Result<(), FailureKind> + Send + Sync>;

/// An archive that answers as it is told.
struct Scripted {
    begin: Instant,
    behaviour: Behaviour,
    sent: Arc<Mutex<Vec<Sent>>>,
    has_endpoint: Mutex<BTreeSet<(StreamArn, &'static str)>>,
}

impl Scripted {
    async fn request(&self, api: &'static str, stream: &str, chunk: i64) -> Result<(), ArchiveError> {
        let sent = Sent { api, stream: stream.to_owned(), chunk, at: self.begin.elapsed() };
        self.sent.lock().expect("no panic").push(sent.clone());
        tokio::time::sleep(LATENCY).await;
        (self.behaviour)(&sent).map_err(|kind| ArchiveError {
            api,
            stream: sent.stream,
            kind,
            code: None,
            message: "as ordered".to_owned(),
            request_id: None,
            source: None,
        })
    }
}

fn api_name(api: DataApi) -> &'static str {
    match api {
        DataApi::ListFragments => "ListFragments",
        DataApi::GetClip => "GetClip",
    }
}

#[async_trait]
impl Archive for Scripted {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        _: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        self.request("DescribeStream", stream.name(), 0).await?;
        Ok(StreamDescription {
            arn: arn(stream.name()),
            created: None,
            retention_hours: 24,
            kms_key: None,
            media_type: None,
        })
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        _: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        self.request("ListStreams", &query.prefix.to_string(), 0).await?;
        Ok(StreamPage::default())
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        _: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        self.request("ListTagsForStream", stream.name(), 0).await?;
        Ok(Vec::new())
    }

    fn needs_endpoint(&self, stream: &StreamArn, api: DataApi) -> bool {
        !self.has_endpoint.lock().expect("no panic").contains(&(stream.clone(), api_name(api)))
    }

    async fn find_endpoint(
        &self,
        stream: &StreamArn,
        api: DataApi,
        _: &dyn CallObserver,
    ) -> Result<(), ArchiveError> {
        self.request("GetDataEndpoint", stream.name(), 0).await?;
        self.has_endpoint.lock().expect("no panic").insert((stream.clone(), api_name(api)));
        Ok(())
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        _: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        self.request("ListFragments", query.stream.name(), 0).await?;
        Ok(FragmentPage::default())
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let result = self.request("GetClip", query.stream.name(), query.bounds.start.get()).await;
        if result.as_ref().is_err_and(|error| error.kind == FailureKind::Auth) {
            self.has_endpoint.lock().expect("no panic").remove(&(query.stream.clone(), "GetClip"));
        }
        result?;
        observer.answered(Some("its id"));
        for _ in 0..10 {
            sink.write(&[0; 1_000]).expect("it takes everything");
            observer.bytes(1_000);
            sink.ready().await;
        }
        Ok(10_000)
    }
}

#[derive(Default)]
struct Nowhere;

impl ClipSink for Nowhere {
    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// What the user is told.
#[derive(Debug, Default)]
struct Heard {
    attempts: Mutex<Vec<Attempt>>,
    pauses: Mutex<Vec<Option<PauseReason>>>,
    spent: Mutex<u32>,
    answered: Mutex<Vec<String>>,
}

impl CallObserver for Arc<Heard> {
    fn answered(&self, request_id: Option<&str>) {
        self.answered.lock().expect("no panic").extend(request_id.map(str::to_owned));
    }

    fn attempt(&self, attempt: Attempt) {
        self.attempts.lock().expect("no panic").push(attempt);
    }

    fn retrying(&self, _: &ArchiveError, _: u32, _: u64) {}

    fn bytes(&self, _: u64) {}

    fn spent(&self, attempts: u32) {
        *self.spent.lock().expect("no panic") += attempts;
    }

    fn paused(&self, _: &str, reason: PauseReason, _: Duration) {
        self.pauses.lock().expect("no panic").push(Some(reason));
    }

    fn resumed(&self, _: &str) {
        self.pauses.lock().expect("no panic").push(None);
    }
}

fn arn(stream: &str) -> StreamArn {
    let text = format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{stream}/1511852108513");
    StreamArn::parse(&text).expect("an ARN")
}

fn clip(stream: &str, chunk: i64) -> ClipQuery {
    ClipQuery {
        stream: arn(stream),
        timestamps: TimestampKind::Server,
        bounds: RequestBounds { start: UtcMillis::new(chunk), end: UtcMillis::new(chunk + 1) },
        fragments: 50,
        attempts: u32::MAX,
        may_list: true,
    }
}

/// An archive within its decorators, and what the service and the user see.
struct Scene {
    assembled: Assembled,
    begin: Instant,
    sent: Arc<Mutex<Vec<Sent>>>,
    heard: Arc<Heard>,
}

const LIMITS: LimitSettings = LimitSettings { requests_in_flight: 8, stream_budget: 1.0, bandwidth: None };

impl Scene {
    fn new(behaviour: impl Fn(&Sent) -> Result<(), FailureKind> + Send + Sync + 'static) -> Self {
        Self::with(LIMITS, behaviour)
    }

    fn with(
        limits: LimitSettings,
        behaviour: impl Fn(&Sent) -> Result<(), FailureKind> + Send + Sync + 'static,
    ) -> Self {
        let (begin, sent) = (Instant::now(), Arc::default());
        let scripted = Scripted {
            begin,
            behaviour: Box::new(behaviour),
            sent: Arc::clone(&sent),
            has_endpoint: Mutex::default(),
        };
        let retries = RetrySettings { attempts: 8, outage: Duration::from_mins(30) };
        Self { assembled: assemble(scripted, limits, retries), begin, sent, heard: Arc::default() }
    }

    /// Gets ten clips of 200 fragments, one after the other in the queue for points.
    async fn get_large(&self, stream: &str) {
        let query = ClipQuery { fragments: 200, ..clip(stream, 1) };
        let mut sinks: [Nowhere; 10] = Default::default();
        let calls = sinks.iter_mut().map(|sink| self.assembled.archive.get_clip(&query, sink, &self.heard));
        futures_util::future::join_all(calls).await;
    }

    async fn get(&self, stream: &str, chunk: i64) -> Result<u64, ArchiveError> {
        self.assembled.archive.get_clip(&clip(stream, chunk), &mut Nowhere, &self.heard).await
    }

    /// Gets chunks 1 to `count` of a stream, all at once; what became of each.
    async fn get_all(&self, stream: &str, count: i64) -> Vec<Result<u64, ArchiveError>> {
        let mut tasks = JoinSet::new();
        for chunk in 1..=count {
            let (archive, heard) = (Arc::clone(&self.assembled.archive), Arc::clone(&self.heard));
            let query = clip(stream, chunk);
            tasks.spawn(async move { (chunk, archive.get_clip(&query, &mut Nowhere, &heard).await) });
        }
        let mut results = tasks.join_all().await;
        results.sort_by_key(|(chunk, _)| *chunk);
        let (_, results): (Vec<i64>, Vec<_>) = results.into_iter().unzip();
        results
    }

    fn requests(&self, api: &str) -> Vec<Sent> {
        let sent = self.sent.lock().expect("no panic");
        sent.iter().filter(|sent| sent.api == api).cloned().collect()
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_two_minutes_away_costs_no_attempt_and_is_probed_every_15_s() {
    let scene = Scene::new(|sent| match sent.at {
        at if at > seconds(1) && at < seconds(121) => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    let results = scene.get_all("gate", 60).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(*scene.heard.spent.lock().expect("no panic"), 0);
    assert!(scene.begin.elapsed() < seconds(145), "{:?}", scene.begin.elapsed());
    let pauses = scene.heard.pauses.lock().expect("no panic").clone();
    assert_eq!((pauses.first(), pauses.last()), (Some(&Some(PauseReason::Away)), Some(&None)));
    // From the pause on one clip every 15 s: between its first probe and the service's return.
    let probes = scene
        .requests("GetClip")
        .iter()
        .filter(|sent| sent.at > seconds(15) && sent.at < seconds(121))
        .count();
    assert!((6..=8).contains(&probes), "{probes} probes");
}

#[tokio::test(start_paused = true)]
async fn that_a_clip_is_answered_is_told_before_it_is_there() {
    let scene = Scene::new(|sent| if sent.at < seconds(1) { Err(FailureKind::Transient) } else { Ok(()) });
    scene.get("gate", 1).await.expect("answered at last");
    assert_eq!(*scene.heard.answered.lock().expect("no panic"), ["its id"]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_chunk_fails_after_its_attempts_while_the_others_succeed() {
    let scene = Scene::new(|sent| match (sent.api, sent.chunk) {
        ("GetClip", 3) => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    let results = scene.get_all("gate", 100).await;
    assert!(results.iter().enumerate().all(|(index, result)| result.is_ok() == (index != 2)));
    let tries = scene.requests("GetClip").iter().filter(|sent| sent.chunk == 3).count();
    assert!((8..=16).contains(&tries), "{tries} tries");
    assert_eq!(*scene.heard.spent.lock().expect("no panic"), 8);
}

#[tokio::test(start_paused = true)]
async fn the_last_chunk_that_always_fails_needs_no_outage_when_listings_are_answered() {
    let scene = Scene::new(|sent| if sent.api == "GetClip" { Err(FailureKind::Transient) } else { Ok(()) });
    let error = scene.get("gate", 1).await.expect_err("it always fails");
    assert_eq!(error.kind, FailureKind::Transient);
    assert_eq!(*scene.heard.spent.lock().expect("no panic"), 8);
    let sent: Vec<Duration> = scene.requests("GetClip").iter().map(|sent| sent.at).collect();
    // One attempt are those of the first seconds, at distances of chance; the others come 20 s apart.
    let (first, others) = sent.split_at(sent.len() - 7);
    let last_of_first = *first.last().expect("one at least");
    assert!(last_of_first < seconds(25), "{sent:?}");
    let mut before = last_of_first;
    for at in others {
        assert!((before + seconds(20)..before + seconds(21)).contains(at), "{sent:?}");
        before = *at;
    }
    assert!(scene.begin.elapsed() < last_of_first + seconds(142), "{:?}", scene.begin.elapsed());
    assert!(!scene.requests("ListFragments").is_empty(), "the listing showed it");
}

#[tokio::test(start_paused = true)]
async fn the_last_chunk_survives_two_minutes_in_which_nothing_is_answered() {
    let scene = Scene::new(|sent| if sent.at < seconds(120) { Err(FailureKind::Transient) } else { Ok(()) });
    scene.get("gate", 1).await.expect("the service came back");
    assert_eq!(*scene.heard.spent.lock().expect("no panic"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_few_bad_chunks_hold_the_stream_up_for_their_probes_and_not_for_the_outage() {
    let scene = Scene::new(|sent| if sent.api == "GetClip" { Err(FailureKind::Transient) } else { Ok(()) });
    let results = scene.get_all("gate", 2).await;
    assert!(
        results.iter().all(|result| result.as_ref().is_err_and(|error| error.kind == FailureKind::Transient))
    );
    assert!(scene.begin.elapsed() < Duration::from_mins(6), "{:?}", scene.begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn clips_alone_may_be_away_for_two_minutes_when_several_are_wanted() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", at, .. } if *at < seconds(120) => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    let results = scene.get_all("gate", 8).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn clips_alone_may_be_away_for_two_minutes_when_only_one_is_wanted() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", at, .. } if *at < seconds(120) => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    scene.get("gate", 1).await.expect("clips came back");
    assert!(*scene.heard.spent.lock().expect("no panic") < 8);
}

#[tokio::test(start_paused = true)]
async fn clips_alone_may_be_away_while_listings_go_on() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", at, .. } if *at < seconds(100) => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    let listing = async {
        let query = ListQuery {
            stream: arn("gate"),
            timestamps: TimestampKind::Server,
            bounds: RequestBounds { start: UtcMillis::new(1), end: UtcMillis::new(2) },
            page_size: 10,
            next_token: None,
        };
        loop {
            scene.assembled.archive.list_fragments(&query, &scene.heard).await.expect("it answers");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        results = scene.get_all("gate", 8) => assert!(results.iter().all(Result::is_ok), "{results:?}"),
        () = listing => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_began_before_its_stream_was_given_up_makes_no_probe_of_its_own() {
    let scene = Scene::new(|_| Err(FailureKind::Transient));
    let gate = arn("gate");
    let waiting = scene.assembled.pace.call(gate.as_str(), gate.name());
    scene.get("gate", 1).await.expect_err("nothing is answered");
    tokio::time::advance(seconds(1)).await;
    let begin = Instant::now();
    let cost = crate::archive::limit::Cost::Control("GetDataEndpoint");
    assert!(waiting.admit(cost, Pass::Ordinary).await.is_err());
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_away_fails_the_call_after_the_outage_and_says_how_to_go_on() {
    let scene = Scene::new(|_| Err(FailureKind::Transient));
    let results = scene.get_all("gate", 20).await;
    for result in results {
        let error = result.expect_err("nothing is answered");
        assert_eq!(error.kind, FailureKind::Away);
        assert!(error.message.contains("for 30 min"), "{error}");
        assert!(error.message.contains("as ordered; run the same command again to resume"), "{error}");
    }
    let elapsed = scene.begin.elapsed();
    assert!(elapsed > Duration::from_mins(30) && elapsed < Duration::from_mins(31), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_throttled_or_away_does_not_slow_another_down() {
    let scene = Scene::new(|sent| match sent.stream.as_str() {
        "gate" => Err(FailureKind::Throttled),
        "yard" => Err(FailureKind::Transient),
        _ => Ok(()),
    });
    let slow = async { tokio::join!(scene.get_all("gate", 8), scene.get_all("yard", 8)) };
    let quick = async {
        let results = scene.get_all("dock", 100).await;
        (results, scene.begin.elapsed())
    };
    tokio::select! {
        (results, elapsed) = quick => {
            assert!(results.iter().all(Result::is_ok));
            // 100 clips of 50 fragments at 500 points a second, one second's worth at once.
            assert!(elapsed < seconds(10), "{elapsed:?}");
        }
        _ = slow => panic!("nothing of those streams succeeds before the outage is over"),
    }
}

#[tokio::test(start_paused = true)]
async fn throttles_cost_no_attempt_however_many_there_are() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", at, .. } if *at < Duration::from_mins(5) => Err(FailureKind::Throttled),
        _ => Ok(()),
    });
    scene.get("gate", 1).await.expect("throttles pass");
    assert!(scene.requests("GetClip").len() > 8);
    assert_eq!(*scene.heard.spent.lock().expect("no panic"), 0);
    let pauses = scene.heard.pauses.lock().expect("no panic").clone();
    assert_eq!((pauses.first(), pauses.last()), (Some(&Some(PauseReason::Throttled)), Some(&None)));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_refused_together_halve_the_rate_once() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", at, .. } if *at < Duration::from_millis(75) => Err(FailureKind::Throttled),
        _ => Ok(()),
    });
    assert!(scene.get_all("gate", 8).await.iter().all(Result::is_ok));
    assert_eq!(scene.requests("GetClip").len(), 16, "each was refused once");
    // 400 points at half of 500 a second, and what it regains: 1.5 s. Halved eight times it would take 4.7 s.
    let elapsed = scene.begin.elapsed();
    assert!(elapsed > seconds(1) && elapsed < Duration::from_millis(2_500), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_is_asked_for_once_and_anew_twice_at_most_where_it_is_refused() {
    let scene = Scene::new(|sent| match sent {
        Sent { api: "GetClip", chunk: 99, .. } => Err(FailureKind::Auth),
        _ => Ok(()),
    });
    assert!(scene.get_all("gate", 8).await.iter().all(Result::is_ok));
    assert_eq!(scene.requests("GetDataEndpoint").len(), 1);
    let error = scene.get("gate", 99).await.expect_err("it is refused again");
    assert_eq!(error.kind, FailureKind::Auth);
    assert_eq!(scene.requests("GetDataEndpoint").len(), 3);
    let attempts = scene.heard.attempts.lock().expect("no panic");
    assert_eq!(attempts.iter().filter(|attempt| attempt.api == "GetDataEndpoint").count(), 3);
    assert_eq!(scene.requests("GetClip").len(), 8 + 3);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_pass_is_not_repeated() {
    for kind in [
        FailureKind::NoMedia,
        FailureKind::OutsideRetention,
        FailureKind::MediaRefused,
        FailureKind::MediaUnsupported,
        FailureKind::Invalid,
        FailureKind::StreamNotFound,
        FailureKind::Local,
    ] {
        let scene = Scene::new(move |sent| if sent.api == "GetClip" { Err(kind) } else { Ok(()) });
        assert_eq!(scene.get("gate", 1).await.expect_err("as ordered").kind, kind);
        assert_eq!(scene.requests("GetClip").len(), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn points_are_spent_when_a_request_is_sent_and_a_cancelled_one_gives_its_turn_back() {
    let scene = Scene::new(|_| Ok(()));
    let pace = &scene.assembled.pace;
    let gate = arn("gate");
    assert!(scene.get_all("gate", 10).await.iter().all(Result::is_ok));
    let before = pace.until_clip(&gate, 200);
    {
        // Ten clips that wait for points, dropped before they are sent.
        let waiting = scene.get_large("gate");
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            () = &mut waiting => panic!("their points are not there yet"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        assert!(pace.until_clip(&gate, 200) > before, "they stand before a new one");
    }
    assert!(pace.until_clip(&gate, 200) <= before, "{:?} {before:?}", pace.until_clip(&gate, 200));
    assert_eq!(scene.requests("GetClip").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_paused_stream_says_how_long_it_waits_and_a_request_that_is_stopped_is_recorded() {
    let scene = Scene::new(|_| Err(FailureKind::Transient));
    {
        let call = scene.get_all("gate", 3);
        tokio::pin!(call);
        // When the request comes whose failure pauses the stream is a matter of chance.
        let is_paused = || !scene.heard.pauses.lock().expect("no panic").is_empty();
        while !is_paused() {
            tokio::select! {
                _ = &mut call => panic!("nothing is answered"),
                () = tokio::time::sleep(seconds(1)) => {}
            }
            assert!(scene.begin.elapsed() < seconds(60), "it is never paused");
        }
        let gate = arn("gate");
        let wait = scene.assembled.pace.until_clip(&gate, 1);
        assert!(wait > Duration::ZERO && wait <= seconds(15), "{wait:?}");
        assert!(scene.assembled.pace.until_listing(&gate, 1) > Duration::ZERO);
        assert_eq!(scene.assembled.pace.until_clip(&arn("yard"), 1), Duration::ZERO);
    }
    let scene = Scene::new(|_| Ok(()));
    {
        let call = scene.get("gate", 1);
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("the answer takes longer"),
            () = tokio::time::sleep(LATENCY + LATENCY / 2) => {}
        }
    }
    let attempts = scene.heard.attempts.lock().expect("no panic");
    let last = attempts.last().expect("a request");
    assert_eq!((last.api.as_str(), last.outcome), ("GetClip", AttemptOutcome::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn bodies_keep_to_the_bandwidth() {
    let limits = LimitSettings { bandwidth: Some(10_000), ..LIMITS };
    let scene = Scene::with(limits, |_| Ok(()));
    assert!(scene.get_all("gate", 10).await.iter().all(Result::is_ok));
    let elapsed = scene.begin.elapsed().as_secs_f64();
    assert!((9.5..11.0).contains(&elapsed), "100 kB at 10 kB/s in {elapsed} s");
}

#[tokio::test(start_paused = true)]
async fn calls_of_the_control_plane_keep_to_five_a_second() {
    let scene = Scene::new(|_| Ok(()));
    let stream = StreamSelector::parse("gate").expect("a name");
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (archive, heard) = (Arc::clone(&scene.assembled.archive), Arc::clone(&scene.heard));
        let stream = stream.clone();
        tasks.spawn(async move { archive.describe_stream(&stream, &heard).await.is_ok() });
    }
    assert!(tasks.join_all().await.into_iter().all(|done| done));
    let sent = scene.requests("DescribeStream");
    for (index, request) in sent.iter().enumerate() {
        let within = sent[index..].iter().take_while(|later| later.at < request.at + seconds(1)).count();
        // A second's worth may be saved up.
        assert!(within <= 10, "{within} calls in a second");
    }
    assert!(sent.last().expect("calls").at >= seconds(3), "{:?}", sent.last());
}

#[test]
fn pauses_grow_to_the_cap_and_are_spread_over_all_of_it() {
    let pauses: Vec<Duration> = (0..2_000).map(|_| jitter(40)).collect();
    assert!(pauses.iter().all(|pause| *pause <= CAP));
    assert!(pauses.iter().any(|pause| *pause < CAP / 4) && pauses.iter().any(|pause| *pause > CAP * 3 / 4));
    assert!((0..200).all(|_| jitter(1) <= BASE));
}
