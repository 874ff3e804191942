//! How streams are named: by name in a job file, by ARN everywhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stream's ARN, `arn:PARTITION:kinesisvideo:REGION:ACCOUNT:stream/NAME/CREATION`.
///
/// It ends in the stream's creation time: a stream that was deleted and made again under its name has another
/// ARN, so the ARN and not the name identifies what was exported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamArn(String);

/// The text is neither a stream name nor a stream ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStream {
    /// Not of the ARN's form.
    #[error("{0:?} is not a stream ARN (arn:aws:kinesisvideo:REGION:ACCOUNT:stream/NAME/CREATION)")]
    Arn(String),
    /// Not of the name's form.
    #[error("{0:?} is not a stream name (1 to 256 of a-z, A-Z, 0-9, '_', '.', '-')")]
    Name(String),
    /// Not of a prefix's form.
    #[error("{0:?} is not a prefix of stream names (one * at the end)")]
    Prefix(String),
}

/// Whether a name can have that character.
pub(super) fn is_name_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Whether `text` is a legal stream name: 1 to 256 of `a-zA-Z0-9_.-`, and not a relative path element.
fn is_stream_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(is_name_character) && text != "." && text != ".."
}

impl StreamArn {
    /// Parses an ARN and checks all of its parts.
    pub fn parse(text: &str) -> Result<Self, InvalidStream> {
        let invalid = || InvalidStream::Arn(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else {
            return Err(invalid());
        };
        let resource: Vec<&str> = resource.split('/').collect();
        let [kind, name, creation] = resource[..] else {
            return Err(invalid());
        };
        let words =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let valid = arn == "arn"
            && words(partition)
            && service == "kinesisvideo"
            && words(region)
            && digits(account)
            && kind == "stream"
            && is_stream_name(name)
            && digits(creation);
        if valid { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// The region that serves the stream.
    pub fn region(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }

    /// The account that owns the stream.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl fmt::Display for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for StreamArn {
    type Error = InvalidStream;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<StreamArn> for String {
    fn from(arn: StreamArn) -> Self {
        arn.0
    }
}

/// What a job file writes to name one stream: its name or its ARN.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamSelector {
    /// A name in the configured region and account.
    Name(String),
    /// An ARN; its region decides which client asks.
    Arn(StreamArn),
}

impl StreamSelector {
    /// Parses a name or an ARN; what begins with `arn:` must be one.
    pub fn parse(text: &str) -> Result<Self, InvalidStream> {
        if text.starts_with("arn:") {
            StreamArn::parse(text).map(Self::Arn)
        } else if is_stream_name(text) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(InvalidStream::Name(text.to_owned()))
        }
    }

    /// The stream's name, whichever form was written.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Arn(arn) => arn.name(),
        }
    }
}

impl fmt::Display for StreamSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Arn(arn) => f.write_str(arn.as_str()),
        }
    }
}

impl TryFrom<String> for StreamSelector {
    type Error = InvalidStream;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<StreamSelector> for String {
    fn from(selector: StreamSelector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_gives_its_parts() {
        let arn =
            StreamArn::parse("arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/1511852108513")
                .expect("valid");
        assert_eq!((arn.name(), arn.region(), arn.account()), ("front-gate", "us-west-2", "123456789012"));
    }

    #[test]
    fn names_that_could_escape_a_folder_are_refused() {
        for text in ["", ".", "..", "a/b", "a b", "ä", "arn:aws:s3:::bucket", &"x".repeat(257)] {
            assert!(StreamSelector::parse(text).is_err(), "{text:?}");
        }
        assert!(StreamSelector::parse("yard-1_a.b").is_ok());
    }
}
