//! The one classifier: what the SDK reports → [`FailureKind`]. The table is KVS.md's "Errors on the wire".

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::error::{ArchiveError, FailureKind};
use crate::error::chain;

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
            message: message.into(),
            request_id: None,
            source: None,
        }
    }

    /// Classifies an error of the SDK.
    pub(super) fn sdk_error<E>(self, error: &SdkError<E, HttpResponse>) -> ArchiveError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let Some(response) = error.raw_response() else {
            let kind = if caused_by_credentials(error) { FailureKind::Auth } else { FailureKind::Transient };
            return self.error(kind, chain(error));
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).map(str::to_owned);
        let service = error.as_service_error();
        // The SDK reads one spelling of the header, the documentation has the other.
        let code = service
            .and_then(|error| error.code().map(str::to_owned))
            .or_else(|| header("x-amzn-errortype"))
            .or_else(|| header("x-amz-errortype"))
            .map(|code| code.split(':').next().unwrap_or_default().to_owned())
            .filter(|code| !code.is_empty());
        let message = service
            .and_then(|error| error.message().map(str::to_owned))
            .filter(|message| !message.is_empty())
            .unwrap_or_else(|| chain(error));
        let kind = kind_of(self.api, status, code.as_deref().unwrap_or_default(), &message);
        let words = match &code {
            Some(code) => format!("{code}: {message} (HTTP {status})"),
            None => format!("{message} (HTTP {status})"),
        };
        ArchiveError { code, request_id: header("x-amzn-requestid"), ..self.error(kind, words) }
    }
}

fn kind_of(api: &str, status: u16, code: &str, message: &str) -> FailureKind {
    match code {
        "ClientLimitExceededException"
        | "ConnectionLimitExceededException"
        | "FragmentLimitExceeded"
        | "FragmentLimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException" => FailureKind::Throttled,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "NotAuthorizedException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired" => FailureKind::Auth,
        "AccessDeniedException" | "AccessDenied" => FailureKind::Denied,
        "ResourceNotFoundException" if api == "GetClip" => FailureKind::NoMedia,
        "ResourceNotFoundException" => FailureKind::StreamNotFound,
        "InvalidCodecPrivateDataException"
        | "InvalidCodecPrivateData"
        | "MissingCodecPrivateDataException"
        | "MissingCodecPrivateData"
        | "InvalidMediaFrameException"
        | "InvalidMediaFrame" => FailureKind::MediaRefused,
        "UnsupportedStreamMediaTypeException" | "UnsupportedStreamMediaType" => FailureKind::MediaUnsupported,
        "NoDataRetentionException" | "NoDataRetention" => FailureKind::OutsideRetention,
        "InvalidArgumentException" if message.contains("retention") => FailureKind::OutsideRetention,
        _ => match status {
            429 => FailureKind::Throttled,
            401 => FailureKind::Auth,
            403 => FailureKind::Denied,
            // A 2xx that the SDK could not read is a broken body; 408 is a time-out.
            ..300 | 408 | 500.. => FailureKind::Transient,
            _ => FailureKind::Invalid,
        },
    }
}

fn caused_by_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() || error.to_string().contains("credential") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_404_of_get_clip_is_no_media_and_elsewhere_a_missing_stream() {
        assert_eq!(kind_of("GetClip", 404, "ResourceNotFoundException", ""), FailureKind::NoMedia);
        assert_eq!(
            kind_of("DescribeStream", 404, "ResourceNotFoundException", ""),
            FailureKind::StreamNotFound
        );
    }

    #[test]
    fn media_of_a_kind_without_clips_is_told_from_media_that_is_damaged() {
        let kind = |code| kind_of("GetClip", 400, code, "");
        assert_eq!(kind("UnsupportedStreamMediaTypeException"), FailureKind::MediaUnsupported);
        assert_eq!(kind("InvalidMediaFrameException"), FailureKind::MediaRefused);
    }

    #[test]
    fn unknown_codes_are_classified_by_their_status() {
        let kinds =
            [(500, FailureKind::Transient), (599, FailureKind::Transient), (429, FailureKind::Throttled)];
        for (status, kind) in kinds {
            assert_eq!(kind_of("GetClip", status, "SomethingNew", ""), kind);
        }
        assert_eq!(kind_of("GetClip", 400, "SomethingNew", ""), FailureKind::Invalid);
        assert_eq!(kind_of("GetClip", 200, "", ""), FailureKind::Transient);
    }
}
