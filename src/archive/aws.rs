//! The AWS implementation: the SDK's clients, one endpoint per stream and API, bodies with an idle time-out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use media::types as kvs;
use tokio::sync::OnceCell;

use super::classify::CallName;
use super::{
    Archive, ArchiveError, CallObserver, ClipQuery, ClipSink, FailureKind, FragmentPage, ListQuery,
    StreamDescription,
};
use crate::error::chain;
use crate::model::{
    Fragment, FragmentNumber, RequestBounds, StreamArn, StreamSelector, TimestampKind, UtcMillis,
};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may be silent, before its head and inside its body. GetClip works before it answers.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

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

type DataClient = Arc<OnceCell<media::Client>>;

/// The archive behind AWS's API.
#[derive(Debug)]
pub struct AwsArchive {
    settings: AwsSettings,
    config: Mutex<SdkConfig>,
    /// Whether the credentials were refused since the configuration was loaded.
    refused: AtomicBool,
    control: Mutex<HashMap<String, control::Client>>,
    data: Mutex<HashMap<(StreamArn, &'static str), DataClient>>,
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
        provider.provide_credentials().await.map_err(|error| ConnectError::Credentials(chain(&error)))?;
        Ok(Self {
            settings: settings.clone(),
            config: Mutex::new(config),
            refused: AtomicBool::new(false),
            control: Mutex::default(),
            data: Mutex::default(),
        })
    }

    fn config(&self) -> SdkConfig {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the configuration anew if the credentials were refused: a profile or a token file may have new ones,
    /// which the SDK's cache would not look at before the old ones are due.
    async fn renew(&self) {
        if self.refused.swap(false, Ordering::SeqCst) {
            let config = load(&self.settings).await;
            *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
            self.control.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.data.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn control(&self, region: Option<&str>) -> control::Client {
        let config = self.config();
        let default = config.region().map(Region::as_ref).unwrap_or_default();
        let region = region.unwrap_or(default);
        let mut clients = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let config = control::config::Builder::from(&config).region(Region::new(region.to_owned()));
            control::Client::from_conf(config.build())
        };
        clients.entry(region.to_owned()).or_insert_with(make).clone()
    }

    /// The client of one API of one stream; GetDataEndpoint is asked once however many wait for it.
    async fn data(&self, stream: &StreamArn, api: &'static str) -> Result<media::Client, ArchiveError> {
        self.renew().await;
        let cell = {
            let mut clients = self.data.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(clients.entry((stream.clone(), api)).or_default())
        };
        cell.get_or_try_init(|| self.find_endpoint(stream, api)).await.cloned()
    }

    async fn find_endpoint(&self, stream: &StreamArn, api: &str) -> Result<media::Client, ArchiveError> {
        let call = CallName { api: "GetDataEndpoint", stream: stream.name() };
        let name = match api {
            "ListFragments" => ApiName::ListFragments,
            _ => ApiName::GetClip,
        };
        let request = self
            .control(Some(stream.region()))
            .get_data_endpoint()
            .stream_arn(stream.as_str())
            .api_name(name);
        let answer = idle(call, request.send()).await?.map_err(|error| self.classify(call, &error))?;
        let endpoint = answer
            .data_endpoint()
            .ok_or_else(|| call.error(FailureKind::Transient, "the answer names no endpoint"))?;
        let config = media::config::Builder::from(&self.config())
            .region(Region::new(stream.region().to_owned()))
            .endpoint_url(endpoint);
        Ok(media::Client::from_conf(config.build()))
    }

    /// Classifies an error and remembers that credentials were refused.
    fn classify<E>(&self, call: CallName<'_>, error: &SdkError<E, HttpResponse>) -> ArchiveError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let classified = call.sdk_error(error);
        if classified.kind == FailureKind::Auth {
            self.refused.store(true, Ordering::SeqCst);
        }
        classified
    }

    /// Classifies an error and drops the endpoint where a new one may help.
    fn failed<E>(
        &self,
        call: CallName<'_>,
        stream: &StreamArn,
        error: &SdkError<E, HttpResponse>,
    ) -> ArchiveError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let classified = self.classify(call, error);
        let unreachable = matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_));
        if unreachable || matches!(classified.kind, FailureKind::Auth | FailureKind::Denied) {
            let mut clients = self.data.lock().unwrap_or_else(PoisonError::into_inner);
            clients.remove(&(stream.clone(), call.api));
        }
        classified
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

/// Waits for an answer's head, or the next part of its body, but not for ever.
async fn idle<T>(call: CallName<'_>, answer: impl Future<Output = T>) -> Result<T, ArchiveError> {
    tokio::time::timeout(IDLE_TIMEOUT, answer).await.map_err(|_| {
        call.error(FailureKind::Transient, format!("no byte came for {} s", IDLE_TIMEOUT.as_secs()))
    })
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
        self.renew().await;
        let request = match stream {
            StreamSelector::Name(name) => self.control(None).describe_stream().stream_name(name),
            StreamSelector::Arn(arn) => {
                self.control(Some(arn.region())).describe_stream().stream_arn(arn.as_str())
            }
        };
        let answer = idle(call, request.send()).await?.map_err(|error| self.classify(call, &error))?;
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

    async fn list_tags(
        &self,
        stream: &StreamArn,
        observer: &dyn CallObserver,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let call = CallName { api: "ListTagsForStream", stream: stream.name() };
        self.renew().await;
        let mut tags = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .control(Some(stream.region()))
                .list_tags_for_stream()
                .stream_arn(stream.as_str())
                .set_next_token(token);
            let answer = idle(call, request.send()).await?.map_err(|error| self.classify(call, &error))?;
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

    async fn list_fragments(
        &self,
        query: &ListQuery,
        observer: &dyn CallObserver,
    ) -> Result<FragmentPage, ArchiveError> {
        let call = CallName { api: "ListFragments", stream: query.stream.name() };
        let client = self.data(&query.stream, call.api).await?;
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
            .list_fragments()
            .stream_arn(query.stream.as_str())
            .fragment_selector(selector)
            .max_results(i64::from(query.page_size))
            .set_next_token(query.next_token.clone());
        let answer =
            idle(call, request.send()).await?.map_err(|error| self.failed(call, &query.stream, &error))?;
        observer.answered(answer.request_id());
        // The SDK reads a body without a byte as an answer without a list; nothing found is a list without entries.
        let Some(listed) = &answer.fragments else {
            return Err(call.error(FailureKind::Transient, "the answer has no list of fragments"));
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
        let client = self.data(&query.stream, call.api).await?;
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
        let request = client.get_clip().stream_arn(query.stream.as_str()).clip_fragment_selector(selector);
        let answer =
            idle(call, request.send()).await?.map_err(|error| self.failed(call, &query.stream, &error))?;
        let request_id = answer.request_id().map(str::to_owned);
        observer.answered(request_id.as_deref());
        let mut body = answer.payload;
        let broken = |message: String| ArchiveError {
            request_id: request_id.clone(),
            ..call.error(FailureKind::Transient, message)
        };
        let mut received = 0;
        while let Some(part) = idle(call, body.next()).await? {
            let part = part.map_err(|error| broken(chain(&error)))?;
            sink.write(&part).map_err(local)?;
            received += part.len() as u64;
            observer.bytes(part.len() as u64);
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
