//! Streams by prefix: what a job file may write in place of names, and what the service lists for it.

use std::fmt;
use std::path::PathBuf;

use super::spec::Chunking;
use super::stream::{InvalidStream, StreamArn, StreamSelector, is_name_character};
use super::time::TimeRange;

/// The longest name a stream can have, and so the longest prefix of one.
const LONGEST_PREFIX: usize = 256;

/// What the names of streams begin with: `yard-*`; `*` alone is every stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamPrefix(String);

/// What a job file writes to name streams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StreamPattern {
    /// One stream.
    One(StreamSelector),
    /// All streams whose names begin so.
    Prefix(StreamPrefix),
}

impl StreamPrefix {
    /// Parses a prefix with its `*`.
    pub fn parse(text: &str) -> Result<Self, InvalidStream> {
        let prefix = text.strip_suffix('*').unwrap_or_default();
        let valid =
            text.ends_with('*') && prefix.len() <= LONGEST_PREFIX && prefix.bytes().all(is_name_character);
        if valid { Ok(Self(prefix.to_owned())) } else { Err(InvalidStream::Prefix(text.to_owned())) }
    }

    /// The prefix without its `*`; empty for every stream.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a stream of that name is among its streams.
    pub fn takes(&self, name: &str) -> bool {
        name.starts_with(&self.0)
    }

    /// Whether all streams of `other` are among its streams.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for StreamPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.0)
    }
}

impl StreamPattern {
    /// Parses a name, an ARN, or a prefix with its `*`.
    pub fn parse(text: &str) -> Result<Self, InvalidStream> {
        if text.contains('*') {
            StreamPrefix::parse(text).map(Self::Prefix)
        } else {
            StreamSelector::parse(text).map(Self::One)
        }
    }

    /// Whether it speaks of a stream that was listed.
    pub fn takes(&self, stream: &StreamArn) -> bool {
        match self {
            Self::One(StreamSelector::Name(name)) => name == stream.name(),
            Self::One(StreamSelector::Arn(arn)) => arn == stream,
            Self::Prefix(prefix) => prefix.takes(stream.name()),
        }
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(stream) => stream.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// Where a stream stands between its creation and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamStatus {
    /// It is being made: nothing is in it yet.
    Creating,
    /// It can be read.
    #[default]
    Active,
    /// It can be read, and a setting is being changed.
    Updating,
    /// It is being deleted, with all that is in it.
    Deleting,
}

impl StreamStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Creating, Self::Active, Self::Updating, Self::Deleting];

    /// The service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }

    /// The status of that word; one that is not known is taken for a stream that can be read.
    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|status| status.as_str() == word).unwrap_or_default()
    }

    /// Whether its footage can be asked for.
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::Active | Self::Updating)
    }
}

/// A stream as the service lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedStream {
    /// Its ARN.
    pub arn: StreamArn,
    /// Where it stands.
    pub status: StreamStatus,
}

/// Why streams could not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotListed {
    /// The reason, with the way out.
    pub error: String,
    /// Whether a missing permission is the reason.
    pub denied: bool,
}

/// A range of a prefix whose streams could not be listed: there is no telling how many exports it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedRange {
    /// The job's name.
    pub job: String,
    /// The prefix.
    pub prefix: StreamPrefix,
    /// The range.
    pub range: TimeRange,
    /// Whether its window is not over yet.
    pub pending: bool,
    /// How the range would be cut.
    pub chunk: Chunking,
    /// The output, with the prefix in the place of the stream.
    pub output: PathBuf,
    /// Why nothing is listed.
    pub why: NotListed,
}

/// What was listed for the prefixes of a job file.
#[derive(Debug, Clone, Default)]
pub struct StreamListings(Vec<(StreamPrefix, Result<Vec<ListedStream>, NotListed>)>);

impl StreamListings {
    /// Adds what was listed for a prefix; its streams come in the order of their names from now on.
    pub fn add(&mut self, prefix: StreamPrefix, mut listed: Result<Vec<ListedStream>, NotListed>) {
        if let Ok(streams) = &mut listed {
            streams.sort_by(|a, b| a.arn.name().cmp(b.arn.name()));
            // What was made while the pages were read may stand on two of them.
            streams.dedup_by(|a, b| a.arn == b.arn);
        }
        self.0.push((prefix, listed));
    }

    /// What was listed, prefix by prefix.
    pub fn iter(&self) -> impl Iterator<Item = (&StreamPrefix, Result<&[ListedStream], &NotListed>)> {
        self.0.iter().map(|(prefix, listed)| (prefix, listed.as_deref()))
    }

    /// The streams of a prefix, from a listing of its own or of a wider one; `None` where neither was made.
    pub fn of<'a>(
        &'a self,
        prefix: &'a StreamPrefix,
    ) -> Option<Result<impl Iterator<Item = &'a ListedStream>, &'a NotListed>> {
        let (_, listed) = self.0.iter().find(|(wide, _)| wide.covers(prefix))?;
        Some(match listed {
            Ok(streams) => Ok(streams.iter().filter(|stream| prefix.takes(stream.arn.name()))),
            Err(why) => Err(why),
        })
    }
}

/// The prefixes that have to be listed so that the streams of all of them are known: those that no other covers.
pub fn widest(mut prefixes: Vec<StreamPrefix>) -> Vec<StreamPrefix> {
    // A prefix stands before all that begin with it.
    prefixes.sort();
    prefixes.dedup_by(|narrow, wide| wide.covers(narrow));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> StreamPrefix {
        StreamPrefix::parse(text).expect("a prefix")
    }

    fn listed(name: &str) -> ListedStream {
        let arn = format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{name}/1514764800000");
        ListedStream { arn: StreamArn::parse(&arn).expect("an ARN"), status: StreamStatus::Active }
    }

    #[test]
    fn a_prefix_has_one_star_and_it_stands_at_the_end() {
        for text in ["yard-*", "*", "a.b_c*"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        for text in [
            "*yard",
            "ya*rd",
            "yard-**",
            "yard",
            "",
            "y d*",
            "a/b*",
            "arn:aws:*",
            &format!("{}*", "x".repeat(257)),
        ] {
            assert!(StreamPrefix::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wider_prefix_serves_the_narrower_ones() {
        let of = |texts: &[&str]| {
            widest(texts.iter().map(|text| prefix(text)).collect())
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&["yard-1*", "gate*", "yard-*", "yard-*", "yard-12*"]), ["gate*", "yard-*"]);
        assert_eq!(of(&["yard-*", "*", "gate*"]), ["*"]);
        assert_eq!(of(&["ab*", "a-*", "a*"]), ["a*"]);

        let mut listings = StreamListings::default();
        listings.add(prefix("yard-*"), Ok(["yard-2", "yard-10", "yard-1", "yard-2"].map(listed).to_vec()));
        let names = |text: &str| -> Option<Vec<String>> {
            let prefix = prefix(text);
            let streams = listings.of(&prefix)?.ok()?;
            Some(streams.map(|stream| stream.arn.name().to_owned()).collect())
        };
        assert_eq!(names("yard-1*"), Some(vec!["yard-1".to_owned(), "yard-10".to_owned()]));
        assert_eq!(names("yard-*").map(|names| names.len()), Some(3));
        assert_eq!(names("gate*"), None);
    }

    #[test]
    fn only_streams_that_are_being_made_or_deleted_cannot_be_read() {
        let readable: Vec<&str> =
            StreamStatus::ALL.into_iter().filter(|of| of.is_readable()).map(StreamStatus::as_str).collect();
        assert_eq!(readable, ["ACTIVE", "UPDATING"]);
        assert_eq!(StreamStatus::of("DELETING"), StreamStatus::Deleting);
        assert!(StreamStatus::of("A NEW ONE").is_readable());
    }
}
