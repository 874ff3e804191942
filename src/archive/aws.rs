//! The AWS implementation: the SDK's clients, one endpoint per stream and API, bodies with an idle time-out,
//! credentials that are loaded anew when they were refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_kinesisvideo as control;
use aws_sdk_kinesisvideo::types::ApiName;
use aws_sdk_kinesisvideoarchivedmedia as media;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_types::request_id::RequestId;
use media::types as kvs;

use super::classify::{CallName, Classified};
use super::redact::redact;
use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, DataApi, FailureKind, FragmentPage, ListQuery,
    StreamDescription, StreamPage, StreamQuery,
};
use crate::clock::{Clock, SystemClock};
use crate::error::chain;
use crate::model::{
    Fragment, FragmentNumber, ListedStream, RequestBounds, StreamArn, StreamSelector, StreamStatus,
    TimestampKind, UtcMillis,
};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may be silent, before its head and inside its body. GetClip works before it answers.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Streams on a page of ListStreams: the account's few calls a second are for large pages.
const STREAM_PAGE_SIZE: i32 = 1_000;

/// How to reach AWS; what is `None` is decided by the SDK's usual chain.
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    /// Region of streams that are given by name.
    pub region: Option<String>,
    /// Profile in the shared configuration.
    pub profile: Option<String>,
    /// Endpoint of the control plane.
    pub endpoint_url: Option<String>,
    /// Access key id and secret to use instead of the chain (the emulator's).
    pub static_credentials: Option<(String, String)>,
    /// How long an answer may be silent, before its head and inside its body; a minute, if not given.
    pub idle_timeout: Option<Duration>,
}

/// The configuration does not lead to a usable client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says which region to ask.
    #[error("no AWS region is configured")]
    NoRegion,
    /// No credentials, or a provider that failed.
    #[error("no usable AWS credentials: {0}")]
    Credentials(String),
}

/// The configuration, and how often it was loaded anew.
#[derive(Debug)]
struct Loaded {
    config: SdkConfig,
    generation: u64,
    /// The generation whose credentials were refused.
    refused: Option<u64>,
    control: HashMap<String, control::Client>,
    data: HashMap<(StreamArn, DataApi), DataClient>,
}

/// A client of one endpoint, made from the configuration of a generation.
#[derive(Debug, Clone)]
struct DataClient {
    client: Arc<media::Client>,
    generation: u64,
}

/// The archive behind AWS's API.
#[derive(Debug)]
pub struct AwsArchive {
    settings: AwsSettings,
    idle_timeout: Duration,
    loaded: Mutex<Loaded>,
    /// Held while the configuration is loaded anew.
    renewing: tokio::sync::Mutex<()>,
}

impl AwsArchive {
    /// Loads the configuration and checks that credentials can be had.
    pub async fn connect(settings: &AwsSettings) -> Result<Self, ConnectError> {
        let config = load(settings).await;
        if config.region().is_none() {
            return Err(ConnectError::NoRegion);
        }
        let provider = config
            .credentials_provider()
            .ok_or_else(|| ConnectError::Credentials("no credentials provider is configured".to_owned()))?;
        let refused = |error| ConnectError::Credentials(redact(&chain(&error)));
        provider.provide_credentials().await.map_err(refused)?;
        Ok(Self {
            settings: settings.clone(),
            idle_timeout: settings.idle_timeout.unwrap_or(IDLE_TIMEOUT),
            loaded: Mutex::new(Loaded {
                config,
                generation: 0,
                refused: None,
                control: HashMap::new(),
                data: HashMap::new(),
            }),
            renewing: tokio::sync::Mutex::new(()),
        })
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the configuration anew if its credentials were refused: a profile, a token file or a process may have
    /// new ones, which the SDK's cache would not look at before the old ones are due.
    async fn renew(&self) {
        let is_refused = |loaded: &Loaded| loaded.refused == Some(loaded.generation);
        if !is_refused(&self.loaded()) {
            return;
        }
        // Requests that were refused together wait here, and all of them go on with what the first has loaded.
        let _renewing = self.renewing.lock().await;
        if is_refused(&self.loaded()) {
            let config = load(&self.settings).await;
            let mut loaded = self.loaded();
            loaded.config = config;
            loaded.generation += 1;
            loaded.control.clear();
            loaded.data.clear();
        }
    }

    /// A client of the control plane, and the generation it was made from.
    async fn control(&self, region: Option<&str>) -> (control::Client, u64) {
        self.renew().await;
        let mut loaded = self.loaded();
        let Loaded { config, generation, control, .. } = &mut *loaded;
        let default = config.region().map(Region::as_ref).unwrap_or_default();
        let region = region.unwrap_or(default).to_owned();
        let make = || {
            let config = control::config::Builder::from(&*config).region(Region::new(region.clone()));
            control::Client::from_conf(config.build())
        };
        (control.entry(region.clone()).or_insert_with(make).clone(), *generation)
    }

    /// The client of one API of one stream.
    async fn data(
        &self,
        stream: &StreamArn,
        api: DataApi,
        observer: &dyn CallObserver,
    ) -> Result<DataClient, ArchiveError> {
        self.renew().await;
        let key = (stream.clone(), api);
        if let Some(client) = self.loaded().data.get(&key) {
            return Ok(client.clone());
        }
        // The credentials were renewed a moment ago, or nobody asked before.
        let client = self.ask_for_endpoint(stream, api, observer).await?;
        Ok(self.loaded().data.entry(key).or_insert(client).clone())
    }

    async fn ask_for_endpoint(
        &self,
        stream: &StreamArn,
        api: DataApi,
        observer: &dyn CallObserver,
    ) -> Result<DataClient, ArchiveError> {
        let call = CallName { api: "GetDataEndpoint", stream: stream.name() };
        let name = match api {
            DataApi::ListFragments => ApiName::ListFragments,
            DataApi::GetClip => ApiName::GetClip,
        };
        let (client, generation) = self.control(Some(stream.region())).await;
        let request = client.get_data_endpoint().stream_arn(stream.as_str()).api_name(name);
        let answer = self
            .idle(call, request.send())
            .await?
            .map_err(|error| self.classify(call, &error, generation))?;
        observer.answered(answer.request_id());
        let endpoint = answer.data_endpoint().ok_or_else(|| ArchiveError {
            request_id: answer.request_id().map(str::to_owned),
            ..call.error(FailureKind::Transient, "the answer names no endpoint")
        })?;
        let config = media::config::Builder::from(&self.loaded().config)
            .region(Region::new(stream.region().to_owned()))
            .endpoint_url(endpoint);
        Ok(DataClient { client: Arc::new(media::Client::from_conf(config.build())), generation })
    }

    /// Classifies an error and remembers that credentials were refused.
    fn classify<E>(
        &self,
        call: CallName<'_>,
        error: &SdkError<E, HttpResponse>,
        generation: u64,
    ) -> ArchiveError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        self.judge(call, error, generation).error
    }

    fn judge<E>(&self, call: CallName<'_>, error: &SdkError<E, HttpResponse>, generation: u64) -> Classified
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let classified = call.sdk_error(error, SystemClock.now());
        // Where the clock is to blame, the SDK has measured by how much, and signs the next request of the same
        // client by that: a new client would have to learn it again.
        if classified.error.kind == FailureKind::Auth && !classified.is_clock_off {
            let mut loaded = self.loaded();
            if loaded.generation == generation {
                loaded.refused = Some(generation);
            }
        }
        classified
    }

    /// Classifies an error and drops the endpoint where a new one may help.
    fn failed<E>(
        &self,
        call: CallName<'_>,
        (stream, api): (&StreamArn, DataApi),
        client: &DataClient,
        error: &SdkError<E, HttpResponse>,
    ) -> ArchiveError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let Classified { error: classified, is_clock_off } = self.judge(call, error, client.generation);
        let unreachable = matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_));
        let refused = matches!(classified.kind, FailureKind::Auth | FailureKind::Denied);
        if unreachable || (refused && !is_clock_off) {
            let mut loaded = self.loaded();
            let key = (stream.clone(), api);
            // Another request may have found a new endpoint already.
            if loaded.data.get(&key).is_some_and(|kept| Arc::ptr_eq(&kept.client, &client.client)) {
                loaded.data.remove(&key);
            }
        }
        classified
    }

    /// Waits for an answer's head, or the next part of its body, but not for ever.
    async fn idle<T>(&self, call: CallName<'_>, answer: impl Future<Output = T>) -> Result<T, ArchiveError> {
        tokio::time::timeout(self.idle_timeout, answer).await.map_err(|_| {
            let silence = self.idle_timeout.as_secs_f64();
            call.error(FailureKind::Transient, format!("the service sent no byte for {silence} s"))
        })
    }
}

/// Loads the SDK's configuration with this program's own ideas of retries and time-outs.
async fn load(settings: &AwsSettings) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        // Attempts are counted, paced and recorded by this crate's own decorators.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        // Its grace period takes a clip that is being made for a stalled one; `IDLE_TIMEOUT` is used instead.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((key, secret)) = &settings.static_credentials {
        loader = loader.credentials_provider(Credentials::new(key, secret, None, None, "static"));
    }
    loader.load().await
}

fn to_wire(instant: UtcMillis) -> DateTime {
    DateTime::from_millis(instant.get())
}

fn from_wire(time: &DateTime) -> UtcMillis {
    // The wire carries a binary fraction of seconds: round, do not cut, or 0.513 becomes 0.512.
    let ms = i64::from(time.subsec_nanos()).saturating_add(500_000).div_euclid(1_000_000);
    UtcMillis::new(time.secs().saturating_mul(1_000).saturating_add(ms))
}

fn timestamp_range(bounds: RequestBounds) -> kvs::builders::TimestampRangeBuilder {
    kvs::TimestampRange::builder().start_timestamp(to_wire(bounds.start)).end_timestamp(to_wire(bounds.end))
}

fn fragment(listed: &kvs::Fragment) -> Option<Fragment> {
    Some(Fragment {
        number: FragmentNumber::parse(listed.fragment_number()?).ok()?,
        producer: from_wire(listed.producer_timestamp()?),
        server: from_wire(listed.server_timestamp()?),
        length_ms: u32::try_from(listed.fragment_length_in_milliseconds()).ok()?,
        size_bytes: u64::try_from(listed.fragment_size_in_bytes()).ok()?,
    })
}

#[async_trait]
impl Archive for AwsArchive {
    async fn describe_stream(
        &self,
        stream: &StreamSelector,
        observer: &dyn CallObserver,
    ) -> Result<StreamDescription, ArchiveError> {
        let call = CallName { api: "DescribeStream", stream: stream.name() };
        let region = match stream {
            StreamSelector::Name(_) => None,
            StreamSelector::Arn(arn) => Some(arn.region()),
        };
        let (client, generation) = self.control(region).await;
        let request = match stream {
            StreamSelector::Name(name) => client.describe_stream().stream_name(name),
            StreamSelector::Arn(arn) => client.describe_stream().stream_arn(arn.as_str()),
        };
        let answer = self
            .idle(call, request.send())
            .await?
            .map_err(|error| self.classify(call, &error, generation))?;
        observer.answered(answer.request_id());
        let unreadable = |what: String| call.error(FailureKind::Invalid, what);
        let info = answer
            .stream_info()
            .ok_or_else(|| call.error(FailureKind::Transient, "the answer describes no stream"))?;
        let arn = StreamArn::parse(info.stream_arn().unwrap_or_default())
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(StreamDescription {
            arn,
            created: info.creation_time().map(from_wire),
            retention_hours: info
                .data_retention_in_hours()
                .and_then(|hours| hours.try_into().ok())
                .unwrap_or(0),
            kms_key: info.kms_key_id().map(str::to_owned),
            media_type: info.media_type().map(str::to_owned),
        })
    }

    async fn list_streams(
        &self,
        query: &StreamQuery,
        observer: &dyn CallObserver,
    ) -> Result<StreamPage, ArchiveError> {
        let prefix = query.prefix.to_string();
        let call = CallName { api: "ListStreams", stream: &prefix };
        let (client, generation) = self.control(None).await;
        // A condition needs a value of at least one character.
        let condition = (!query.prefix.as_str().is_empty()).then(|| {
            control::types::StreamNameCondition::builder()
                .comparison_operator(control::types::ComparisonOperator::BeginsWith)
                .comparison_value(query.prefix.as_str())
                .build()
        });
        let request = client
            .list_streams()
            .max_results(STREAM_PAGE_SIZE)
            .set_stream_name_condition(condition)
            .set_next_token(query.next_token.clone());
        let answer = self
            .idle(call, request.send())
            .await?
            .map_err(|error| self.classify(call, &error, generation))?;
        observer.answered(answer.request_id());
        let incomplete = |kind, what: String| ArchiveError {
            request_id: answer.request_id().map(str::to_owned),
            ..call.error(kind, what)
        };
        // A body without a byte is read as an answer without a list; no streams are a list without entries.
        let Some(listed) = &answer.stream_info_list else {
            return Err(incomplete(FailureKind::Transient, "the answer has no list of streams".to_owned()));
        };
        let mut streams = Vec::with_capacity(listed.len());
        for info in listed {
            // To go on without it would leave a camera out in silence.
            let arn = StreamArn::parse(info.stream_arn().unwrap_or_default()).map_err(|error| {
                incomplete(FailureKind::Invalid, format!("a stream cannot be read: {error}"))
            })?;
            let status = info.status().map(|status| StreamStatus::of(status.as_str())).unwrap_or_default();
            streams.push(ListedStream { arn, status });
        }
        let next_token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(StreamPage { streams, next_token })
    }

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let call = CallName { api: "ListTagsForStream", stream: stream.name() };
        let (client, generation) = self.control(Some(stream.region())).await;
        let mut tags = Vec::new();
        let mut token = None;
        loop {
            let request = client.list_tags_for_stream().stream_arn(stream.as_str()).set_next_token(token);
            let answer = self
                .idle(call, request.send())
                .await?
                .map_err(|error| self.classify(call, &error, generation))?;
            observer.answered(answer.request_id());
            tags.extend(answer.tags().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
            token = answer.next_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        tags.sort();
        Ok(tags)
    }

    fn needs_endpoint(&self, stream: &StreamArn, api: DataApi) -> bool {
        let loaded = self.loaded();
        // With new credentials every client is made anew.
        loaded.refused == Some(loaded.generation) || !loaded.data.contains_key(&(stream.clone(), api))
    }

    async fn find_endpoint(
        &self,
        stream: &StreamArn,
        api: DataApi,
        observer: &dyn CallObserver,
    ) -> Result<(), ArchiveError> {
        let client = self.ask_for_endpoint(stream, api, observer).await?;
        self.loaded().data.insert((stream.clone(), api), client);
        Ok(())
    }

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let call = CallName { api: "ListFragments", stream: query.stream.name() };
        let client = self.data(&query.stream, DataApi::ListFragments, observer).await?;
        let kind = match query.timestamps {
            TimestampKind::Server => kvs::FragmentSelectorType::ServerTimestamp,
            TimestampKind::Producer => kvs::FragmentSelectorType::ProducerTimestamp,
        };
        let invalid = |error: &dyn std::error::Error| call.error(FailureKind::Invalid, chain(error));
        let range = timestamp_range(query.bounds).build().map_err(|error| invalid(&error))?;
        let selector = kvs::FragmentSelector::builder()
            .fragment_selector_type(kind)
            .timestamp_range(range)
            .build()
            .map_err(|error| invalid(&error))?;
        let request = client
            .client
            .list_fragments()
            .stream_arn(query.stream.as_str())
            .fragment_selector(selector)
            .max_results(i64::from(query.page_size))
            .set_next_token(query.next_token.clone());
        let place = (&query.stream, DataApi::ListFragments);
        let answer = self
            .idle(call, request.send())
            .await?
            .map_err(|error| self.failed(call, place, &client, &error))?;
        observer.answered(answer.request_id());
        // The SDK reads a body without a byte as an answer without a list; nothing found is a list without entries.
        let Some(listed) = &answer.fragments else {
            return Err(ArchiveError {
                request_id: answer.request_id().map(str::to_owned),
                ..call.error(FailureKind::Transient, "the answer has no list of fragments")
            });
        };
        let fragments: Vec<Fragment> = listed.iter().filter_map(fragment).collect();
        if fragments.len() < listed.len() {
            // To plan without it would lose it in silence.
            let bad = listed.iter().find(|listed| fragment(listed).is_none());
            return Err(call.error(FailureKind::Invalid, format!("a fragment cannot be read: {bad:?}")));
        }
        Ok(FragmentPage { fragments, next_token: answer.next_token().map(str::to_owned) })
    }

    async fn get_clip(
        &self,
        query: &ClipQuery,
        sink: &mut dyn ClipSink,
        observer: &dyn CallObserver,
    ) -> Result<u64, ArchiveError> {
        let call = CallName { api: "GetClip", stream: query.stream.name() };
        let local = |error: std::io::Error| ArchiveError {
            source: Some(error),
            ..call.error(FailureKind::Local, "the clip cannot be kept")
        };
        sink.restart().map_err(local)?;
        let client = self.data(&query.stream, DataApi::GetClip, observer).await?;
        let kind = match query.timestamps {
            TimestampKind::Server => kvs::ClipFragmentSelectorType::ServerTimestamp,
            TimestampKind::Producer => kvs::ClipFragmentSelectorType::ProducerTimestamp,
        };
        let invalid = |error: &dyn std::error::Error| call.error(FailureKind::Invalid, chain(error));
        let range = kvs::ClipTimestampRange::builder()
            .start_timestamp(to_wire(query.bounds.start))
            .end_timestamp(to_wire(query.bounds.end))
            .build()
            .map_err(|error| invalid(&error))?;
        let selector = kvs::ClipFragmentSelector::builder()
            .fragment_selector_type(kind)
            .timestamp_range(range)
            .build()
            .map_err(|error| invalid(&error))?;
        let request =
            client.client.get_clip().stream_arn(query.stream.as_str()).clip_fragment_selector(selector);
        let place = (&query.stream, DataApi::GetClip);
        let answer = self
            .idle(call, request.send())
            .await?
            .map_err(|error| self.failed(call, place, &client, &error))?;
        let request_id = answer.request_id().map(str::to_owned);
        observer.answered(request_id.as_deref());
        let mut body = answer.payload;
        let broken = |message: String| ArchiveError {
            request_id: request_id.clone(),
            ..call.error(FailureKind::Transient, message)
        };
        let mut received = 0;
        while let Some(part) = self
            .idle(call, body.next())
            .await
            .map_err(|error| ArchiveError { request_id: request_id.clone(), ..error })?
        {
            let part = part.map_err(|error| {
                broken(format!("the answer broke off after {received} bytes: {}", chain(&error)))
            })?;
            sink.write(&part).map_err(local)?;
            received += part.len() as u64;
            observer.bytes(part.len() as u64);
            sink.ready().await;
        }
        if received == 0 {
            return Err(broken("the answer has no body".to_owned()));
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_the_wires_binary_fraction() {
        for ms in [0_i64, 1, 513, 999] {
            #[expect(clippy::cast_precision_loss, reason = "this is what the wire does")]
            let seconds = 1_511_852_108.0 + ms as f64 / 1_000.0;
            assert_eq!(from_wire(&DateTime::from_secs_f64(seconds)).get(), 1_511_852_108_000 + ms);
        }
    }
}
