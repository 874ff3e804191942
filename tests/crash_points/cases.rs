//! Where the program is killed: each case is a kill in each of the first runs, then one run to the end.

/// What kind of export is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two windows of two or three chunks each.
    Plain,
    /// Its masters are kept.
    Masters,
    /// A clip comes short: its chunk is split.
    Split,
    /// The service refuses one fragment: it ends `partial`.
    Partial,
    /// A change of the sample description: two videos.
    Parts,
    /// Nothing lies in its range.
    Empty,
    /// Its first run fails, for one chunk could not be fetched.
    Failing,
}

/// What is done to the files after the first kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    None,
    /// A fetched chunk is deleted.
    ChunkDeleted,
    /// A fetched chunk is cut short.
    ChunkCut,
    /// One bit of a fetched chunk is another, its size the same.
    ChunkAltered,
    /// The video is deleted, wherever it lies.
    VideoDeleted,
}

/// A kill in each of the first runs, then one to the end.
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// Where each run dies: `NAME` or `NAME:nth`.
    pub(crate) crashes: &'static [&'static str],
    pub(crate) damage: Damage,
}

const fn case(kind: Kind, crashes: &'static [&'static str]) -> Case {
    Case { kind, crashes, damage: Damage::None }
}

const fn damaged(damage: Damage, kind: Kind, crashes: &'static [&'static str]) -> Case {
    Case { kind, crashes, damage }
}

/// Before the first chunk: the state file, the run, the export, its windows.
pub(crate) const BEGINNINGS: &[Case] = &[
    case(Kind::Plain, &["I4.made"]),
    case(Kind::Plain, &["I4.named"]),
    case(Kind::Plain, &["run.begun"]),
    case(Kind::Plain, &["I5"]),
    case(Kind::Plain, &["I6"]),
    case(Kind::Plain, &["I6:2"]),
    case(Kind::Plain, &["I8.planned"]),
];

pub(crate) const CHUNKS: &[Case] = &[
    case(Kind::Plain, &["I1.created"]),
    case(Kind::Plain, &["I1.created:3"]),
    case(Kind::Plain, &["I1.written"]),
    case(Kind::Plain, &["I1.synced:2"]),
    case(Kind::Plain, &["I1.named"]),
    case(Kind::Plain, &["I1.named:4"]),
    case(Kind::Plain, &["I1.folder:2"]),
    case(Kind::Plain, &["I1.recorded"]),
    case(Kind::Plain, &["I1.recorded:4"]),
    case(Kind::Split, &["I7"]),
    case(Kind::Split, &["I7", "I1.named"]),
];

pub(crate) const MERGES: &[Case] = &[
    case(Kind::Plain, &["I8.merging"]),
    case(Kind::Plain, &["M1"]),
    case(Kind::Plain, &["M2"]),
    case(Kind::Plain, &["M2:3"]),
    case(Kind::Plain, &["M3"]),
    case(Kind::Plain, &["M4"]),
    case(Kind::Parts, &["M3:2"]),
    case(Kind::Parts, &["M4"]),
];

pub(crate) const ENDS: &[Case] = &[
    case(Kind::Masters, &["F1.masters"]),
    case(Kind::Plain, &["F1.manifest"]),
    case(Kind::Plain, &["F1"]),
    case(Kind::Plain, &["F2"]),
    case(Kind::Plain, &["F3"]),
    case(Kind::Plain, &["F4"]),
    case(Kind::Plain, &["F4:2"]),
    case(Kind::Plain, &["F5"]),
    case(Kind::Plain, &["F6"]),
    case(Kind::Plain, &["F7"]),
    case(Kind::Plain, &["F8"]),
    case(Kind::Plain, &["F9"]),
    case(Kind::Plain, &["run.ended"]),
];

/// Ends of more than one video, with masters, with a fragment missing, and without any media.
pub(crate) const OTHER_ENDS: &[Case] = &[
    case(Kind::Parts, &["F4:2"]),
    case(Kind::Parts, &["F5"]),
    case(Kind::Parts, &["F5:2"]),
    case(Kind::Masters, &["F4"]),
    case(Kind::Masters, &["F5"]),
    case(Kind::Partial, &["F3"]),
    case(Kind::Partial, &["F5"]),
    case(Kind::Partial, &["F7"]),
    case(Kind::Empty, &["M1"]),
    case(Kind::Empty, &["F1.manifest"]),
    case(Kind::Empty, &["F2"]),
    case(Kind::Empty, &["F3"]),
    case(Kind::Empty, &["F4"]),
    case(Kind::Empty, &["F6"]),
    case(Kind::Empty, &["F7"]),
    case(Kind::Empty, &["F8"]),
    case(Kind::Empty, &["F9"]),
    case(Kind::Empty, &["F4", "R3.output"]),
];

/// A first run dies so that the recovery of the second has something to do, and the second dies in it.
pub(crate) const RECOVERIES: &[Case] = &[
    case(Kind::Plain, &["I1.created", "R1"]),
    case(Kind::Plain, &["I1.created:2", "R2"]),
    case(Kind::Plain, &["M4", "R3.folder"]),
    case(Kind::Plain, &["F2", "R3.unstored"]),
    case(Kind::Plain, &["F3", "F4"]),
    case(Kind::Plain, &["F3", "F4:2"]),
    case(Kind::Plain, &["F4", "F5"]),
    case(Kind::Plain, &["F4:2", "F6"]),
    case(Kind::Plain, &["F4", "F7"]),
    case(Kind::Plain, &["F4", "R3.staged"]),
    case(Kind::Plain, &["F5", "F6"]),
    case(Kind::Plain, &["F5", "F8"]),
    case(Kind::Plain, &["F6", "R3.standing"]),
    case(Kind::Plain, &["F7", "R4"]),
    case(Kind::Plain, &["F8", "F9"]),
    case(Kind::Plain, &["I1.named", "R5"]),
    case(Kind::Plain, &["I1.written:2", "R5"]),
    case(Kind::Plain, &["I6:2", "I8.planned"]),
    case(Kind::Failing, &["R7"]),
    case(Kind::Failing, &["R7", "I1.named"]),
];

pub(crate) const DAMAGES: &[Case] = &[
    damaged(Damage::ChunkDeleted, Kind::Plain, &["I8.merging", "R8"]),
    damaged(Damage::ChunkCut, Kind::Plain, &["I8.merging", "R8"]),
    damaged(Damage::ChunkAltered, Kind::Plain, &["I8.merging", "M2"]),
    damaged(Damage::ChunkAltered, Kind::Plain, &["I1.recorded:3"]),
    damaged(Damage::VideoDeleted, Kind::Plain, &["F4", "R3.output"]),
    damaged(Damage::VideoDeleted, Kind::Plain, &["F5", "R3.output:2"]),
    damaged(Damage::VideoDeleted, Kind::Plain, &["F6", "R3.undone"]),
    damaged(Damage::VideoDeleted, Kind::Masters, &["F4", "R3.masters"]),
];

pub(crate) const ALL: &[&[Case]] = &[BEGINNINGS, CHUNKS, MERGES, ENDS, OTHER_ENDS, RECOVERIES, DAMAGES];
