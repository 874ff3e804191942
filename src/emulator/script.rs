//! What a camera has recorded: scripts that yield fragments, from a list or from a rule.

use crate::model::{Fragment, FragmentNumber, TimeRange, TimestampKind, UtcMillis};

use super::hash;

/// One fragment of a script: what the listing says of it, and what a clip holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedFragment {
    /// Its number, growing with ingestion.
    pub number: FragmentNumber,
    /// The camera's clock at its first frame.
    pub producer: UtcMillis,
    /// The service's clock at its ingestion.
    pub server: UtcMillis,
    /// Length as listed, in milliseconds; need not be the length of its media.
    pub length_ms: u32,
    /// Size as listed, in bytes of Matroska; its frames are padded to fill it.
    pub size_bytes: u64,
    /// Frames in it; the first is a key frame, the others refer to it.
    pub frames: u32,
    /// Frames per second.
    pub frame_rate: u32,
    /// Which of the camera's videos it comes from; videos differ in codec private data.
    pub video: usize,
    /// Which group of pictures of that video it shows, modulo their number.
    pub picture: u64,
    /// What it holds of sound, if its producer sends a track of it.
    pub sound: Option<SoundSpan>,
    /// Which of its producer's sessions sent it; nothing that the service tells.
    pub session: u32,
}

/// The sound of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoundSpan {
    /// Which of the camera's sounds it comes from; they differ in codec private data.
    pub sound: usize,
    /// When its first frame begins, in nanoseconds after the key frame.
    pub first_ns: i64,
    /// Which frame of the recording that is.
    pub index: u64,
    /// How many frames begin in the fragment.
    pub frames: u32,
}

impl ScriptedFragment {
    /// Its start on the clock `kind`.
    pub fn start(&self, kind: TimestampKind) -> UtcMillis {
        match kind {
            TimestampKind::Server => self.server,
            TimestampKind::Producer => self.producer,
        }
    }

    /// The fragment as `ListFragments` describes it.
    pub fn listed(&self) -> Fragment {
        Fragment {
            number: self.number.clone(),
            producer: self.producer,
            server: self.server,
            length_ms: self.length_ms,
            size_bytes: self.size_bytes,
        }
    }
}

/// What a camera has recorded.
#[derive(Debug, Clone)]
pub enum Script {
    /// Exactly these fragments, in any order.
    Fragments(Vec<ScriptedFragment>),
    /// Fragments of one length, one after the other since 1970, except in gaps.
    Grid(Grid),
}

/// The rule of a [`Script::Grid`]; fragments are computed on demand, so that years cost nothing.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Milliseconds from one fragment's start to the next, and their length as listed.
    pub fragment_ms: u32,
    /// Frames per second; a fragment holds as many whole frames as fit.
    pub frame_rate: u32,
    /// Producer time of the first fragment, in milliseconds after 1970: shifts all of them.
    pub phase_ms: u32,
    /// Producer times without media: fragments that reach into one are left out.
    pub gaps: Vec<TimeRange>,
    /// Milliseconds by which every server timestamp is later than the producer timestamp.
    pub server_delay_ms: u32,
    /// Up to so many further milliseconds, differently for each fragment; kept below `fragment_ms`, since
    /// ingestion on one connection keeps the order.
    pub server_jitter_ms: u32,
    /// How large the fragments are.
    pub sizes: FragmentSizes,
}

/// How large a grid's fragments are, as listed.
#[derive(Debug, Clone)]
pub enum FragmentSizes {
    /// So many bytes for each second of media.
    BytesPerSecond(u64),
    /// As the video's groups of pictures are, in turn.
    PerPicture(Vec<u64>),
}

/// Decimal digits in front of a fragment's counter: with its 31 digits, 47 as the service has.
const NUMBER_PREFIX: &str = "9134385233318143";

/// The number of the fragment that was ingested as the `index`th.
pub(super) fn fragment_number(index: u64) -> FragmentNumber {
    FragmentNumber::parse(&format!("{NUMBER_PREFIX}{index:031}"))
        .expect("decimal digits without leading zero")
}

/// A condition on a fragment: its start on that clock lies in that range.
pub(super) type StartIn = (TimestampKind, TimeRange);

impl Script {
    /// How many fragments at most a selection has to look at.
    pub(super) fn candidates(&self, conditions: &[StartIn]) -> u64 {
        match self {
            Self::Fragments(list) => list.len() as u64,
            Self::Grid(grid) => {
                let indices = grid.indices(conditions);
                u64::try_from(indices.end.saturating_sub(indices.start)).unwrap_or(0)
            }
        }
    }

    /// The fragments that meet all `conditions`, in order of the first one's clock, then of ingestion.
    pub(super) fn select(&self, conditions: &[StartIn]) -> Vec<ScriptedFragment> {
        let meets = |fragment: &ScriptedFragment| {
            conditions.iter().all(|(kind, range)| range.contains(fragment.start(*kind)))
        };
        let mut selected: Vec<ScriptedFragment> = match self {
            Self::Fragments(list) => list.iter().filter(|fragment| meets(fragment)).cloned().collect(),
            Self::Grid(grid) => {
                grid.indices(conditions).filter_map(|index| grid.fragment(index)).filter(meets).collect()
            }
        };
        let kind = conditions.first().map_or(TimestampKind::Server, |(kind, _)| *kind);
        selected.sort_by(|a, b| (a.start(kind), &a.number).cmp(&(b.start(kind), &b.number)));
        selected
    }
}

impl Grid {
    /// Whole frames in a fragment, at least one.
    pub fn frames(&self) -> u32 {
        let frames = u64::from(self.fragment_ms) * u64::from(self.frame_rate) / 1000;
        u32::try_from(frames).unwrap_or(u32::MAX).max(1)
    }

    /// The indices that can meet `conditions`: all that do, and a few more.
    fn indices(&self, conditions: &[StartIn]) -> std::ops::Range<i64> {
        let step = i64::from(self.fragment_ms);
        let (mut first, mut end) = (0, i64::MAX);
        for (kind, range) in conditions {
            let (earliest, latest) = match kind {
                TimestampKind::Producer => (0, 0),
                TimestampKind::Server => {
                    (i64::from(self.server_delay_ms), i64::from(self.server_delay_ms) + step)
                }
            };
            let phase = i64::from(self.phase_ms);
            first = first.max((range.start() - (latest + phase)).get().div_euclid(step));
            end = end.min((range.end() - (earliest + phase)).get().div_euclid(step).saturating_add(1));
        }
        first..end
    }

    /// The fragment at `index`, unless it is in a gap.
    fn fragment(&self, index: i64) -> Option<ScriptedFragment> {
        let fragment = self.ungapped_fragment(index)?;
        let start = fragment.producer;
        let in_gap = |gap: &TimeRange| gap.start() < start + i64::from(self.fragment_ms) && start < gap.end();
        if self.gaps.iter().any(in_gap) { None } else { Some(fragment) }
    }

    /// The fragment that stands at `index` where there is no gap.
    pub(super) fn ungapped_fragment(&self, index: i64) -> Option<ScriptedFragment> {
        let step = i64::from(self.fragment_ms);
        let ingested = u64::try_from(index).ok()?;
        let producer = UtcMillis::new(i64::from(self.phase_ms) + index.checked_mul(step)?);
        let jitter_steps = u64::from(self.server_jitter_ms.min(self.fragment_ms.saturating_sub(1))) + 1;
        let jitter = i64::try_from(hash::of(&ingested) % jitter_steps).ok()?;
        let size_bytes = match &self.sizes {
            FragmentSizes::BytesPerSecond(rate) => rate * u64::from(self.fragment_ms) / 1000,
            FragmentSizes::PerPicture(sizes) => {
                let pictures = u64::try_from(sizes.len()).ok()?;
                *sizes.get(usize::try_from(ingested.checked_rem(pictures)?).ok()?)?
            }
        };
        Some(ScriptedFragment {
            number: fragment_number(ingested),
            producer,
            server: producer + i64::from(self.server_delay_ms) + jitter,
            length_ms: self.fragment_ms,
            size_bytes,
            frames: self.frames(),
            frame_rate: self.frame_rate,
            video: 0,
            picture: ingested,
            sound: None,
            session: 0,
        })
    }
}
