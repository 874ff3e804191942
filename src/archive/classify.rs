//! The one classifier: what the SDK reports → [`FailureKind`]. The table is KVS.md's "Errors on the wire".

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};

use super::error::{ArchiveError, FailureKind};
use super::redact::redact;
use crate::error::chain;
use crate::model::UtcMillis;

/// How far a request's time may be off, either way, before the service refuses its signature.
const SIGNATURE_LIFETIME: Duration = Duration::from_mins(5);

/// Which call failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallName<'a> {
    pub(super) api: &'static str,
    pub(super) stream: &'a str,
}

impl CallName<'_> {
    /// Makes the error of this call.
    pub(super) fn error(self, kind: FailureKind, message: impl Into<String>) -> ArchiveError {
        ArchiveError {
            api: self.api,
            stream: self.stream.to_owned(),
            kind,
            code: None,
            message: redact(&message.into()),
            request_id: None,
            source: None,
        }
    }

    /// Classifies an error of the SDK; `now` is what this machine takes the time for.
    pub(super) fn sdk_error<E>(self, error: &SdkError<E, HttpResponse>, now: UtcMillis) -> Classified
    where
        E: Error + Send + Sync + 'static,
    {
        let Some(response) = error.raw_response() else {
            let kind = kind_without_answer(error);
            let what = match error {
                _ if kind == FailureKind::Auth => "no credentials can be had",
                SdkError::DispatchFailure(_) => "the connection failed",
                SdkError::TimeoutError(_) => "the service took too long",
                SdkError::ResponseError(_) => "the answer cannot be read",
                _ => "the request cannot be sent",
            };
            let why = error.source().map_or_else(|| chain(error), chain);
            return Classified { error: self.error(kind, format!("{what}: {why}")), is_clock_off: false };
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).map(str::to_owned);
        let body = ErrorBody::read(response);
        // The SDK knows one spelling of the header, the documentation has the other; of an answer without the one it
        // knows the SDK keeps not even the message.
        let code = header("x-amzn-errortype")
            .or_else(|| header("x-amz-errortype"))
            .or(body.code)
            .map(|code| bare_code(&code).to_owned())
            .filter(|code| !code.is_empty());
        let said = body.message.filter(|message| !message.is_empty());
        let kind = kind_of(self.api, status, code.as_deref(), said.as_deref().unwrap_or_default());
        let mut message = match (&code, said) {
            (Some(code), Some(said)) => format!("{code}: {said} (HTTP {status})"),
            (Some(code), None) => format!("{code} (HTTP {status}, without a message)"),
            (None, Some(said)) => format!("{said} (HTTP {status})"),
            (None, None) if (200..300).contains(&status) => {
                let why = error.source().map_or_else(|| chain(error), chain);
                format!("the answer cannot be read: {why} (HTTP {status})")
            }
            (None, None) => format!("HTTP {status}, without an error code or a message"),
        };
        let clock = (kind == FailureKind::Auth).then(|| clock_error(header("date")?.as_str(), now)).flatten();
        if let Some(clock) = &clock {
            message = format!("{message}; {clock}");
        }
        let request_id = header("x-amzn-requestid").or_else(|| header("x-amz-request-id"));
        let error = ArchiveError { code, request_id, ..self.error(kind, message) };
        Classified { error, is_clock_off: clock.is_some() }
    }
}

/// An error, classified.
pub(super) struct Classified {
    pub(super) error: ArchiveError,
    /// Whether this machine's clock explains it.
    pub(super) is_clock_off: bool,
}

/// What the body of an error says.
#[derive(Debug, Default)]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

impl ErrorBody {
    fn read(response: &HttpResponse) -> Self {
        let body: serde_json::Value =
            response.body().bytes().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let text =
            |names: [&str; 2]| names.iter().find_map(|name| body.get(name)?.as_str()).map(str::to_owned);
        Self { code: text(["__type", "code"]), message: text(["message", "Message"]) }
    }
}

/// The name in `namespace#Name:url`.
fn bare_code(code: &str) -> &str {
    let name = code.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

/// What to say of this machine's clock, if the service's differs by more than a signature may be old.
fn clock_error(date: &str, now: UtcMillis) -> Option<String> {
    let service = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let ahead = now - UtcMillis::from(service);
    let by = Duration::from_millis(ahead.unsigned_abs());
    if by <= SIGNATURE_LIFETIME {
        return None;
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let seconds = by.as_secs();
    Some(format!(
        "this machine's clock is {seconds} s {direction} the service's (its answer is dated {date}), and a signature \
         is good for {} s: set the clock",
        SIGNATURE_LIFETIME.as_secs()
    ))
}

fn kind_of(api: &str, status: u16, code: Option<&str>, message: &str) -> FailureKind {
    let Some(code) = code else { return kind_of_status(status, message) };
    // Modelled names end in `Exception` on the wire, in the tables of the documentation some do not.
    match code.strip_suffix("Exception").unwrap_or(code) {
        "ClientLimitExceeded"
        | "ConnectionLimitExceeded"
        | "FragmentLimitExceeded"
        | "LimitExceeded"
        | "Throttling"
        | "Throttled"
        | "ThrottledRequest"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "TooManyRequests" => FailureKind::Throttled,
        "InternalFailure"
        | "InternalError"
        | "InternalServer"
        | "InternalServerError"
        | "InternalService"
        | "ServiceUnavailable"
        | "RequestTimeout" => FailureKind::Transient,
        "ExpiredToken"
        | "NotAuthorized"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "AuthFailure"
        | "RequestTimeTooSkewed"
        | "RequestExpired" => FailureKind::Auth,
        "AccessDenied" => FailureKind::Denied,
        "ResourceNotFound" if api == "GetClip" => FailureKind::NoMedia,
        "ResourceNotFound" => FailureKind::StreamNotFound,
        "InvalidCodecPrivateData" | "MissingCodecPrivateData" | "InvalidMediaFrame" => {
            FailureKind::MediaRefused
        }
        "UnsupportedStreamMediaType" => FailureKind::MediaUnsupported,
        "NoDataRetention" => FailureKind::OutsideRetention,
        "InvalidArgument" if message.contains("retention") => FailureKind::OutsideRetention,
        "InvalidArgument" => FailureKind::Invalid,
        _ => kind_of_status(status, message),
    }
}

/// What a status means whose code says nothing.
fn kind_of_status(status: u16, message: &str) -> FailureKind {
    match status {
        429 => FailureKind::Throttled,
        401 => FailureKind::Auth,
        403 if message.contains("Signature expired") || message.contains("Signature not yet current") => {
            FailureKind::Auth
        }
        403 => FailureKind::Denied,
        // A 2xx that the SDK could not read is a broken body; 408 is a time-out.
        ..300 | 408 | 500.. => FailureKind::Transient,
        _ => FailureKind::Invalid,
    }
}

/// The class of an error without an answer: the connection failed, or no credentials could be had to sign with.
fn kind_without_answer(error: &(dyn Error + 'static)) -> FailureKind {
    let mut kind = FailureKind::Transient;
    let mut cause = Some(error);
    while let Some(error) = cause {
        let provider = error.downcast_ref::<CredentialsError>();
        if provider.is_some() || error.to_string().contains("credential") {
            kind = FailureKind::Auth;
        }
        // Where the credentials come from is away, as the service may be: they are not refused.
        let is_out_of_reach =
            matches!(provider, Some(CredentialsError::ProviderTimedOut(_))) || error.is::<ConnectorError>();
        if is_out_of_reach {
            return FailureKind::Transient;
        }
        cause = error.source();
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_404_of_get_clip_is_no_media_and_elsewhere_a_missing_stream() {
        assert_eq!(kind_of("GetClip", 404, Some("ResourceNotFoundException"), ""), FailureKind::NoMedia);
        assert_eq!(
            kind_of("DescribeStream", 404, Some("ResourceNotFoundException"), ""),
            FailureKind::StreamNotFound
        );
    }

    #[test]
    fn media_of_a_kind_without_clips_is_told_from_media_that_is_damaged() {
        let kind = |code| kind_of("GetClip", 400, Some(code), "");
        assert_eq!(kind("UnsupportedStreamMediaTypeException"), FailureKind::MediaUnsupported);
        assert_eq!(kind("InvalidMediaFrameException"), FailureKind::MediaRefused);
    }

    #[test]
    fn unknown_codes_are_classified_by_their_status() {
        let kinds =
            [(500, FailureKind::Transient), (599, FailureKind::Transient), (429, FailureKind::Throttled)];
        for (status, kind) in kinds {
            assert_eq!(kind_of("GetClip", status, Some("SomethingNew"), ""), kind);
        }
        assert_eq!(kind_of("GetClip", 400, Some("SomethingNew"), ""), FailureKind::Invalid);
        assert_eq!(kind_of("GetClip", 200, None, ""), FailureKind::Transient);
    }

    #[test]
    fn a_clock_is_blamed_when_it_is_off_by_more_than_a_signature_may_be_old() {
        let date = "Sat, 01 Mar 2025 12:00:00 GMT";
        let noon: UtcMillis = "2025-03-01T12:00:00Z".parse::<jiff::Timestamp>().expect("a time").into();
        for within in [0, 300_000, -300_000] {
            assert_eq!(clock_error(date, noon + within), None);
        }
        let behind = clock_error(date, noon + -3_600_000).expect("off by an hour");
        assert!(
            behind.contains("is 3600 s behind the service's (its answer is dated Sat, 01 Mar"),
            "{behind}"
        );
        let ahead = clock_error(date, noon + 301_000).expect("off by 301 s");
        assert!(ahead.contains("is 301 s ahead of"), "{ahead}");
        assert_eq!(clock_error("yesterday", noon), None);
    }

    #[test]
    fn credentials_that_cannot_be_had_are_told_from_a_provider_that_is_out_of_reach() {
        let connection = || ConnectorError::timeout("no route".into());
        assert_eq!(kind_without_answer(&connection()), FailureKind::Transient);
        assert_eq!(kind_without_answer(&CredentialsError::not_loaded("none")), FailureKind::Auth);
        assert_eq!(kind_without_answer(&CredentialsError::provider_error("signed out")), FailureKind::Auth);
        assert_eq!(
            kind_without_answer(&CredentialsError::provider_error(connection())),
            FailureKind::Transient
        );
        let slow = CredentialsError::provider_timed_out(Duration::from_secs(5));
        assert_eq!(kind_without_answer(&slow), FailureKind::Transient);
    }
}
