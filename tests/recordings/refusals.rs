//! Which recordings cannot be exported, and what the user must be told.

/// What is right for a recording that does not come out whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// The recording.
    recording: &'static str,
    /// Words of the reason.
    pub(crate) reason: &'static [&'static str],
}

const REFUSALS: [Refusal; 5] = [
    Refusal { recording: "mjpeg", reason: &["UnsupportedStreamMediaType", "H.264 and H.265"] },
    Refusal { recording: "mu-law", reason: &["UnsupportedStreamMediaType", "H.264 and H.265"] },
    Refusal { recording: "h265-with-a-law", reason: &["UnsupportedStreamMediaType", "H.264 and H.265"] },
    Refusal { recording: "without-codec-private-data", reason: &["MissingCodecPrivateData"] },
    Refusal { recording: "retention-0", reason: &["retention"] },
];

/// What must be said of a recording, where it must be refused.
pub(crate) fn of(recording: &str) -> Option<Refusal> {
    REFUSALS.into_iter().find(|refusal| recording.split(' ').next() == Some(refusal.recording))
}
