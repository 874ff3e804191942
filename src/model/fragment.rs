//! Fragments, the unit that Kinesis Video stores, and their numbers.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::spec::TimestampKind;
use super::time::UtcMillis;

/// A fragment's number: a decimal string of 1 to 128 digits.
///
/// It does not fit any integer type (47 digits in practice). Numbers grow with ingestion, not with capture:
/// `Ord` compares by length, then by digits, which is the numeric order of strings without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FragmentNumber(Box<str>);

/// The text is not a decimal number of 1 to 128 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fragment number (1 to 128 decimal digits)")]
pub struct InvalidFragmentNumber(pub String);

impl FragmentNumber {
    /// Parses a number as the service writes it.
    ///
    /// Leading zeros would break the order by length and are refused with everything that is not a digit.
    pub fn parse(text: &str) -> Result<Self, InvalidFragmentNumber> {
        let digits = !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_digit());
        let canonical = text.len() == 1 || !text.starts_with('0');
        if digits && canonical { Ok(Self(text.into())) } else { Err(InvalidFragmentNumber(text.to_owned())) }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for FragmentNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for FragmentNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FragmentNumber {
    type Error = InvalidFragmentNumber;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<FragmentNumber> for String {
    fn from(number: FragmentNumber) -> Self {
        number.0.into()
    }
}

/// One fragment as ListFragments describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fragment {
    /// Its number, in order of ingestion.
    pub number: FragmentNumber,
    /// The camera's clock at its first frame.
    pub producer: UtcMillis,
    /// AWS's clock at its ingestion.
    pub server: UtcMillis,
    /// Length as listed, in milliseconds; may be 0 or leave the last frame out.
    pub length_ms: u32,
    /// Size as listed, in bytes of Matroska; the MP4 of a clip differs by its container's overhead.
    pub size_bytes: u64,
}

impl Fragment {
    /// Its start on the clock `kind`.
    pub fn start(&self, kind: TimestampKind) -> UtcMillis {
        match kind {
            TimestampKind::Server => self.server,
            TimestampKind::Producer => self.producer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_by_length_then_digits() {
        let number = |text: &str| FragmentNumber::parse(text).expect("valid");
        assert!(number("9") < number("10"));
        assert!(
            number("91343852333181432392682062607743920146159169392")
                < number("91343852333181432392682062607743920146159169393")
        );
    }

    #[test]
    fn anything_but_a_canonical_decimal_is_refused() {
        for text in ["", "-1", "1a", "007", "１", &"9".repeat(129)] {
            assert!(FragmentNumber::parse(text).is_err(), "{text:?}");
        }
        assert!(FragmentNumber::parse(&"9".repeat(128)).is_ok());
        assert!(FragmentNumber::parse("0").is_ok());
    }
}
