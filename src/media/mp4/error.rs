//! Why a file could not be read as MP4.

use std::io;

/// The file is not an MP4 that can be read whole and exactly.
#[derive(Debug, thiserror::Error)]
pub enum Mp4Error {
    /// The reader failed.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// A box reaches beyond the end of what holds it: the file was cut off or altered.
    #[error("the box {kind:?} ends {missing} bytes beyond the end")]
    Truncated {
        /// Its four-character code.
        kind: String,
        /// How much is not there.
        missing: u64,
    },
    /// A box that every MP4 has is not there.
    #[error("the box {0:?} is missing")]
    Missing(&'static str),
    /// A box holds what it must not.
    #[error("the box {kind:?} is damaged: {what}")]
    Damaged {
        /// Its four-character code.
        kind: String,
        /// What is wrong.
        what: String,
    },
    /// The sample tables of a track contradict each other.
    #[error("the tables of track {track} disagree: {what}")]
    TablesDisagree {
        /// The track's id.
        track: u32,
        /// In what.
        what: &'static str,
    },
    /// A sample is not inside the file.
    #[error("sample {sample} of track {track} reaches beyond the end of the file")]
    SampleOutside {
        /// The track's id.
        track: u32,
        /// Its place in decode order, from 0.
        sample: u64,
    },
    /// A number too large to be meant.
    #[error("absurd {0}")]
    Absurd(&'static str),
    /// A track changes its sample description on the way: a shorter clip may not.
    #[error("a track with more than one sample description cannot be read")]
    SeveralDescriptions,
    /// Legal, but not what this program reads.
    #[error("{0} cannot be read")]
    Unsupported(&'static str),
}

impl From<io::Error> for Mp4Error {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
