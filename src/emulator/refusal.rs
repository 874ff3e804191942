//! Errors as the service answers them.

use std::borrow::Cow;

use serde::Deserialize;

use super::media::MediaProblem;

/// How errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorStyle {
    /// As they are seen on the wire: header `x-amzn-ErrorType`, member `Message`.
    #[default]
    Wire,
    /// As the documentation and the model have them: header `x-amz-ErrorType`, member `message`.
    Documented,
}

impl ErrorStyle {
    /// The header that names the error.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Wire => "x-amzn-errortype",
            Self::Documented => "x-amz-errortype",
        }
    }

    /// The member of the body that holds the words.
    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Wire => "Message",
            Self::Documented => "message",
        }
    }
}

/// An error answer: status, code of the `x-amzn-ErrorType` header, and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    pub(super) fn invalid_argument(message: &str) -> Self {
        Self::new(400, "InvalidArgumentException", message)
    }

    pub(super) fn no_data_retention(stream: &str) -> Self {
        let message = format!("Stream {stream} does not retain data (DataRetentionInHours is 0).");
        Self::new(400, "NoDataRetentionException", message)
    }

    /// No media in the range; the stream itself exists.
    pub(super) fn no_fragments() -> Self {
        Self::new(404, "ResourceNotFoundException", "No fragments found in the stream for the clip request.")
    }

    pub(super) fn no_stream(account: &str, stream: &str) -> Self {
        let message =
            format!("The requested stream {stream} is not found or not active (account {account}).");
        Self::new(404, "ResourceNotFoundException", message)
    }

    pub(super) fn invalid_codec_private_data() -> Self {
        let message = "The codec private data of the fragments in the clip request is not the same.";
        Self::new(400, "InvalidCodecPrivateDataException", message)
    }

    pub(super) fn invalid_media_frame(fragment: &str) -> Self {
        let message = format!("One or more frames of fragment {fragment} could not be parsed.");
        Self::new(400, "InvalidMediaFrameException", message)
    }

    pub(super) fn media(problem: MediaProblem) -> Self {
        match problem {
            MediaProblem::MissingCodecPrivateData => Self::new(
                400,
                "MissingCodecPrivateDataException",
                "No codec private data was found in at least one of the tracks.",
            ),
            MediaProblem::Unsupported => Self::new(
                400,
                "UnsupportedStreamMediaTypeException",
                "The type of the media could not be determined from the codec IDs of the tracks in the first \
                 fragment for a playback session.",
            ),
        }
    }

    pub(super) fn client_limit_exceeded() -> Self {
        let message = "Rate exceeded. You have exceeded the limit of allowed client calls. Try again later.";
        Self::new(400, "ClientLimitExceededException", message)
    }

    pub(super) fn internal_failure() -> Self {
        Self::new(500, "InternalFailure", "The request processing has failed because of an unknown error.")
    }

    pub(super) fn service_unavailable() -> Self {
        let message = "The request has failed due to a temporary failure of the server.";
        Self::new(503, "ServiceUnavailable", message)
    }

    pub(super) fn expired_token() -> Self {
        let message = "The security token included in the request is expired";
        Self::new(403, "ExpiredTokenException", message)
    }

    pub(super) fn unsigned() -> Self {
        Self::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    }

    pub(super) fn bad_signature(problem: &str) -> Self {
        Self::new(403, "InvalidSignatureException", problem)
    }

    /// The model's status is 401, though the text of the documentation says 403.
    pub(super) fn not_authorized(message: &str) -> Self {
        Self::new(401, "NotAuthorizedException", message)
    }

    pub(super) fn access_denied(account: &str, action: &str, resource: &str) -> Self {
        let message = format!(
            "User: arn:aws:iam::{account}:user/exporter is not authorized to perform: kinesisvideo:{action} on \
             resource: {resource} because no identity-based policy allows the kinesisvideo:{action} action"
        );
        Self::new(403, "AccessDeniedException", message)
    }

    pub(super) fn unknown_operation() -> Self {
        Self::new(404, "UnknownOperationException", "Unknown operation")
    }

    pub(super) fn serialization(problem: &str) -> Self {
        Self::new(400, "SerializationException", problem)
    }
}
