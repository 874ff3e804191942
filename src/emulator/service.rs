//! Answers calls: everything between a request that was read and an answer that can be sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};
use crate::model::{StreamArn, StreamPrefix, StreamSelector, UtcMillis};

use super::api::{Api, ENDPOINT_NAMES};
use super::archive::{Archive, PageToken, listing_fingerprint, page};
use super::camera::Camera;
use super::clip::{Clip, ClipForm};
use super::config::EmulatorConfig;
use super::endpoints::Endpoints;
use super::fault::{Fault, Faults};
use super::hash;
use super::log::{Entry, Log};
use super::media::Coded;
use super::points::{Cost, Points, SecondClientTally};
use super::refusal::Refusal;
use super::wire::{RawRequest, timestamp};

/// The most results of a page of `ListFragments`, and their number where the request does not say.
const LIST_FRAGMENTS_RESULTS: (u32, u32) = (1_000, 100);

/// The most results of a page of `ListStreams`, also their number where the request does not say.
const LIST_STREAMS_RESULTS: u32 = 10_000;

/// What goes into an answer with status 200.
pub(super) enum Content {
    Json(Value),
    Clip(Clip),
    /// What no client can read.
    Raw(Bytes),
}

/// The state that all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) config: EmulatorConfig,
    /// Where the control plane listens.
    endpoint: String,
    cameras: BTreeMap<String, Arc<Camera>>,
    points: Mutex<Points>,
    pub(super) faults: Faults,
    pub(super) log: Log,
    endpoints: Mutex<Endpoints>,
    /// Fingerprints of the credentials that are refused.
    expired_credentials: Mutex<HashSet<u64>>,
    /// Where retention has got to ahead of its time, by stream.
    heads: Mutex<HashMap<String, UtcMillis>>,
    /// On the configuration's clock.
    started: UtcMillis,
    requests: AtomicU64,
    media_bytes: AtomicU64,
    triggered: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(super) fn new(config: EmulatorConfig, endpoint: String) -> Self {
        let cameras =
            config.cameras.iter().map(|camera| (camera.name.clone(), Arc::new(camera.clone()))).collect();
        Self {
            endpoint,
            cameras,
            points: Mutex::new(Points::new(config.points, config.second_clients.clone())),
            faults: Faults::new(config.faults.clone(), config.seed),
            log: Log::default(),
            endpoints: Mutex::default(),
            expired_credentials: Mutex::default(),
            heads: Mutex::default(),
            started: config.clock.now(),
            requests: AtomicU64::new(0),
            media_bytes: AtomicU64::new(0),
            triggered: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The service's own time, which dates answers and judges signatures.
    pub(super) fn service_time(&self) -> UtcMillis {
        SystemClock.now() + self.config.clock_offset_ms
    }

    /// Time since the start, for the windows of faults.
    pub(super) fn elapsed(&self) -> Duration {
        let ms = self.config.clock.now() - self.started;
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    pub(super) fn second_client_tally(&self, stream: &str) -> SecondClientTally {
        locked(&self.points).second_client_tally(stream, Instant::now())
    }

    pub(super) fn media_bytes(&self) -> u64 {
        self.media_bytes.load(Ordering::SeqCst)
    }

    /// Counts bytes of media and pulls the trigger when there are enough.
    pub(super) fn count_media_bytes(&self, bytes: u64) {
        let total = self.media_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if let Some(trigger) = &self.config.on_bytes
            && total >= trigger.at
            && !self.triggered.swap(true, Ordering::SeqCst)
        {
            (trigger.action)();
        }
    }

    /// A new request's id, of the form the service's have.
    pub(super) fn request_id(&self) -> String {
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        let (high, low) = (hash::of(&(self.config.seed, count, 0)), hash::of(&(self.config.seed, count, 1)));
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }

    fn camera(&self, name: &str) -> Option<Arc<Camera>> {
        let any = || self.config.any_stream.then(|| Arc::new(Camera::steady(name)));
        self.cameras.get(name).cloned().or_else(any)
    }

    fn arn(&self, camera: &Camera) -> String {
        let (region, account) = (&self.config.region, &self.config.account);
        format!("arn:aws:kinesisvideo:{region}:{account}:stream/{}/{}", camera.name, camera.created.get())
    }

    /// The name of the stream that a request is about; empty for a call on no stream.
    pub(super) fn stream_name(request: &RawRequest, api: Api) -> Result<String, Refusal> {
        let invalid = |problem: &dyn std::fmt::Display| Refusal::invalid_argument(&problem.to_string());
        let by_arn = match &request.stream_arn {
            Some(arn) => Some(StreamArn::parse(arn).map_err(|problem| invalid(&problem))?.name().to_owned()),
            None => None,
        };
        let by_name = match &request.stream_name {
            Some(name) => match StreamSelector::parse(name) {
                Ok(StreamSelector::Name(name)) => Some(name),
                Ok(StreamSelector::Arn(_)) => return Err(invalid(&"StreamName must not be an ARN.")),
                Err(problem) => return Err(invalid(&problem)),
            },
            None => None,
        };
        match (by_name, by_arn) {
            (Some(name), Some(of_arn)) if name != of_arn => {
                Err(invalid(&"StreamName and StreamARN name different streams."))
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) if api == Api::ListStreams => Ok(String::new()),
            (None, None) => Err(invalid(&"Either StreamName or StreamARN is required.")),
        }
    }

    fn existing(&self, request: &RawRequest, name: &str) -> Result<Arc<Camera>, Refusal> {
        let camera = self.camera(name).ok_or_else(|| Refusal::no_stream(&self.config.account, name))?;
        match &request.stream_arn {
            // An ARN of another region, account or creation time is another stream. Where any stream is
            // answered, so is any ARN.
            Some(arn) if !self.config.any_stream && *arn != self.arn(&camera) => {
                Err(Refusal::no_stream(&self.config.account, arn))
            }
            _ => Ok(camera),
        }
    }

    /// Checks that a data-plane call came to an endpoint that was given out for it.
    ///
    /// How the service answers a call at the wrong endpoint is not documented; `NotAuthorizedException` is
    /// the error that makes a client fetch its endpoint anew, and cannot be taken for an empty range.
    pub(super) fn check_endpoint(&self, token: Option<&str>, api: Api, stream: &str) -> Result<(), Refusal> {
        if locked(&self.endpoints).serves(token, api, stream) {
            return Ok(());
        }
        Err(Refusal::not_authorized(&format!(
            "This endpoint does not serve {} of stream {stream}; call GetDataEndpoint.",
            api.as_str()
        )))
    }

    /// Lets the endpoint expire that a request came to.
    pub(super) fn expire_endpoint(&self, token: Option<&str>) {
        locked(&self.endpoints).expire(token);
    }

    /// Refuses credentials that have expired.
    pub(super) fn check_credentials(&self, fingerprint: u64) -> Result<(), Refusal> {
        if locked(&self.expired_credentials).contains(&fingerprint) {
            return Err(Refusal::expired_token());
        }
        Ok(())
    }

    /// Lets credentials expire.
    pub(super) fn expire_credentials(&self, fingerprint: u64) {
        locked(&self.expired_credentials).insert(fingerprint);
    }

    /// Moves the head of a stream's archive; never back.
    pub(super) fn move_head(&self, stream: &str, head: UtcMillis) {
        let mut heads = locked(&self.heads);
        let old = heads.entry(stream.to_owned()).or_insert(head);
        *old = head.max(*old);
    }

    fn archive<'a>(&self, camera: &'a Camera) -> Archive<'a> {
        let head = locked(&self.heads).get(&camera.name).copied();
        Archive { camera, now: self.config.clock.now(), head }
    }

    /// Refuses what the caller has no permission for.
    pub(super) fn check_permission(&self, api: Api, stream: &str) -> Result<(), Refusal> {
        let is_denied = |(of, call): &(String, Api)| *call == api && (of == stream || of == "*");
        if self.config.denied.iter().any(is_denied) {
            return Err(self.access_denied(api, stream));
        }
        Ok(())
    }

    pub(super) fn access_denied(&self, api: Api, stream: &str) -> Refusal {
        let resource = match self.camera(stream) {
            Some(camera) if !stream.is_empty() => self.arn(&camera),
            _ => format!("arn:aws:kinesisvideo:{}:{}:*", self.config.region, self.config.account),
        };
        Refusal::access_denied(&self.config.account, api.as_str(), &resource)
    }

    fn spend(&self, entry: Entry, stream: &str, cost: Cost) -> Result<(), Refusal> {
        let allowed = locked(&self.points).spend(stream, cost, Instant::now());
        self.log.update(entry, |record| {
            record.over_quota = !allowed;
            record.points = match cost {
                Cost::Listing(points) | Cost::Clip(points) if allowed => points,
                _ => 0,
            };
        });
        if allowed { Ok(()) } else { Err(Refusal::client_limit_exceeded()) }
    }

    /// Carries out a call that is signed, well-formed and permitted.
    pub(super) fn answer(
        &self,
        api: Api,
        stream: &str,
        request: &RawRequest,
        faults: &[Fault],
        entry: Entry,
    ) -> Result<Content, Refusal> {
        if !api.is_data_plane() {
            self.spend(entry, stream, Cost::Call(api))?;
        }
        match api {
            Api::ListStreams => self.list_streams(request),
            Api::GetDataEndpoint => {
                self.existing(request, stream)?;
                self.get_data_endpoint(request, stream)
            }
            Api::DescribeStream => {
                let camera = self.existing(request, stream)?;
                Ok(Content::Json(json!({ "StreamInfo": self.stream_info(&camera) })))
            }
            Api::ListTagsForStream => {
                let camera = self.existing(request, stream)?;
                let tags = camera.tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
                Ok(Content::Json(json!({ "Tags": tags.collect::<Map<_, _>>() })))
            }
            Api::ListFragments => self.list_fragments(&*self.existing(request, stream)?, request, entry),
            Api::GetClip => self.get_clip(&*self.existing(request, stream)?, request, faults, entry),
        }
    }

    fn stream_info(&self, camera: &Camera) -> Value {
        json!({
            "StreamName": camera.name,
            "StreamARN": self.arn(camera),
            "MediaType": camera.media_type(),
            "KmsKeyId": format!(
                "arn:aws:kms:{}:{}:alias/aws/kinesisvideo", self.config.region, self.config.account
            ),
            "Version": format!("{:016x}", hash::of(&camera.name)),
            "Status": camera.status.as_str(),
            "CreationTime": timestamp(camera.created),
            "DataRetentionInHours": camera.retention_hours,
        })
    }

    fn list_streams(&self, request: &RawRequest) -> Result<Content, Refusal> {
        let (max_results, _) = max_results(request, (LIST_STREAMS_RESULTS, LIST_STREAMS_RESULTS))?;
        let condition = request.stream_name_condition.as_ref();
        if condition.is_some_and(|of| of.comparison_operator.as_deref().is_some_and(|op| op != "BEGINS_WITH"))
        {
            return Err(Refusal::invalid_argument("ComparisonOperator must be BEGINS_WITH."));
        }
        let prefix = match condition.and_then(|of| of.comparison_value.as_deref()) {
            None => "",
            // The value of a condition is of the form of a stream's name.
            Some(value) if StreamPrefix::parse(&format!("{value}*")).is_ok() && !value.is_empty() => value,
            Some(_) => {
                return Err(Refusal::invalid_argument(
                    "ComparisonValue must satisfy the regular expression pattern [a-zA-Z0-9_.-]+.",
                ));
            }
        };
        let mut cameras: Vec<Arc<Camera>> =
            self.cameras.values().filter(|camera| camera.name.starts_with(prefix)).cloned().collect();
        if cameras.is_empty() && self.config.any_stream && !prefix.is_empty() {
            // Where every name is a stream, a prefix must find some.
            cameras.extend((1..=2).map(|count| Arc::new(Camera::steady(format!("{prefix}{count}")))));
        }
        // A token belongs to its condition.
        let token_of = |name: &str| format!("{:016x}", hash::of(&(prefix, name)));
        if let Some(token) = request.next_token.as_deref().filter(|token| !token.is_empty()) {
            let Some(last) = cameras.iter().position(|camera| token_of(&camera.name) == token) else {
                return Err(Refusal::invalid_argument("NextToken is not valid."));
            };
            cameras.drain(..=last);
        }
        let more = cameras.len() > max_results;
        cameras.truncate(max_results);
        let infos: Vec<Value> = cameras.iter().map(|camera| self.stream_info(camera)).collect();
        let mut answer = json!({ "StreamInfoList": infos });
        if let (true, Some(last)) = (more, cameras.last()) {
            answer["NextToken"] = token_of(&last.name).into();
        }
        Ok(Content::Json(answer))
    }

    fn get_data_endpoint(&self, request: &RawRequest, stream: &str) -> Result<Content, Refusal> {
        let asked = request.api_name.as_deref().unwrap_or_default();
        let Some((api_name, _)) = ENDPOINT_NAMES.into_iter().find(|(name, _)| *name == asked) else {
            return Err(Refusal::invalid_argument(&format!("APIName {asked:?} is not one of the APIs.")));
        };
        let token = locked(&self.endpoints).give_out(self.config.seed, stream, api_name);
        Ok(Content::Json(json!({ "DataEndpoint": format!("{}/data/{token}", self.endpoint) })))
    }

    fn list_fragments(
        &self,
        camera: &Camera,
        request: &RawRequest,
        entry: Entry,
    ) -> Result<Content, Refusal> {
        let selector = request.fragment_selector.as_ref().map(super::wire::RawSelector::parse).transpose()?;
        let (max_results, points) = max_results(request, LIST_FRAGMENTS_RESULTS)?;
        self.log.update(entry, |record| {
            record.selector = selector;
            record.max_results = Some(points);
        });
        if selector.is_some_and(|selector| selector.end < selector.start) {
            return Err(Refusal::invalid_argument("EndTimestamp must not be before StartTimestamp."));
        }
        let listing = listing_fingerprint(&camera.name, selector, self.config.seed);
        let token = match request.next_token.as_deref() {
            None => None,
            Some(text) => match PageToken::parse(text) {
                Some(token) if token.listing == listing => Some(token),
                _ => return Err(Refusal::invalid_argument("NextToken does not belong to this request.")),
            },
        };
        self.spend(entry, &camera.name, Cost::Listing(points))?;
        let archive = self.archive(camera);
        archive.check_length(selector)?;
        let mut fragments = archive.listed(selector);
        let elapsed = self.elapsed();
        fragments.retain(|fragment| {
            let hidden = self.faults.hides(&camera.name, &fragment.number, token.is_none(), elapsed);
            if let Some(fault) = hidden {
                self.log.befell(entry, fault);
            }
            hidden.is_none()
        });
        let page = page(fragments, listing, token, max_results);
        self.log.update(entry, |record| {
            record.fragments = page.fragments.iter().map(|fragment| fragment.number.clone()).collect();
        });
        let described = page.fragments.iter().map(|fragment| {
            json!({
                "FragmentNumber": fragment.number.as_str(),
                "FragmentSizeInBytes": fragment.size_bytes,
                "ProducerTimestamp": timestamp(fragment.producer),
                "ServerTimestamp": timestamp(fragment.server),
                "FragmentLengthInMilliseconds": fragment.length_ms,
            })
        });
        let mut answer = json!({ "Fragments": described.collect::<Vec<_>>() });
        if let Some(next) = page.next {
            answer["NextToken"] = next.to_text().into();
        }
        Ok(Content::Json(answer))
    }

    fn get_clip(
        &self,
        camera: &Camera,
        request: &RawRequest,
        faults: &[Fault],
        entry: Entry,
    ) -> Result<Content, Refusal> {
        let Some(selector) = &request.clip_fragment_selector else {
            return Err(Refusal::invalid_argument("ClipFragmentSelector is required."));
        };
        let selector = selector.parse()?;
        self.log.update(entry, |record| record.selector = Some(selector));
        let archive = self.archive(camera);
        let mut fragments = archive.clip(selector, self.config.clip_limits)?;
        for fault in faults {
            match fault {
                Fault::ShortClip { missing } => {
                    let left = fragments.len().saturating_sub(*missing).max(1);
                    if left < fragments.len() {
                        self.log.befell(entry, fault);
                    }
                    fragments.truncate(left);
                }
                Fault::RefuseFragment(number) if fragments.iter().any(|of| of.number == *number) => {
                    self.log.befell(entry, fault);
                    return Err(Refusal::invalid_media_frame(number.as_str()));
                }
                _ => {}
            }
        }
        let points = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
        self.spend(entry, &camera.name, Cost::Clip(points))?;
        self.log.update(entry, |record| {
            record.fragments = fragments.iter().map(|fragment| fragment.number.clone()).collect();
        });
        let mut sources = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            // Encoded when the emulator started; it cannot fail any more.
            let coded = Coded::of(camera, &fragment).map_err(|_| Refusal::internal_failure())?;
            sources.push((fragment, coded));
        }
        let form = ClipForm {
            inner_timing: self.config.inner_timing,
            movie: self.config.movie,
            created: archive.now,
        };
        Ok(Content::Clip(Clip::new(&camera.name, sources, form)))
    }
}

/// `MaxResults` within its bounds, as a count and as points.
fn max_results(request: &RawRequest, (most, default): (u32, u32)) -> Result<(usize, u32), Refusal> {
    let asked = request.max_results.map_or(Ok(default), u32::try_from);
    match asked {
        Ok(asked) if (1..=most).contains(&asked) => Ok((usize::try_from(asked).unwrap_or(usize::MAX), asked)),
        _ => Err(Refusal::invalid_argument(&format!("MaxResults must be between 1 and {most}."))),
    }
}
