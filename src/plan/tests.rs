//! The planner against a naive oracle, on listings with everything that cameras do.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::{
    Edges, Fragment, FragmentNumber, GapTolerance, RequestBounds, TimeRange, TimestampKind, UtcMillis,
};

const HOUR: i64 = 3_600_000;
const CASES: u64 = 3_000;

/// What a generated case contains; each must appear in at least one case in twenty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trait {
    EqualStarts,
    StartsOneMsApart,
    ZeroLength,
    OverlappingSessions,
    StartOnWindowEdge,
    StartOnRangeBound,
    Gap,
    LateIngestion,
    BigFragments,
    ManyFragments,
}

const TRAITS: [Trait; 10] = [
    Trait::EqualStarts,
    Trait::StartsOneMsApart,
    Trait::ZeroLength,
    Trait::OverlappingSessions,
    Trait::StartOnWindowEdge,
    Trait::StartOnRangeBound,
    Trait::Gap,
    Trait::LateIngestion,
    Trait::BigFragments,
    Trait::ManyFragments,
];

struct Case {
    archive: Vec<Fragment>,
    range: TimeRange,
    timestamps: TimestampKind,
    edges: Edges,
    gap_tolerance: GapTolerance,
}

fn at(ms: i64) -> UtcMillis {
    UtcMillis::new(ms)
}

/// A 47-digit number, as the service gives them.
fn number(index: usize) -> FragmentNumber {
    FragmentNumber::parse(&format!("9134385233318143239268206260774392{index:013}")).expect("a number")
}

/// A fragment of 2 s.
pub(super) fn two_seconds(number: u64, producer: i64, server: i64) -> Fragment {
    Fragment {
        number: FragmentNumber::parse(&number.to_string()).expect("number"),
        producer: at(producer),
        server: at(server),
        length_ms: 2_000,
        size_bytes: 1,
    }
}

/// Producer starts, lengths and sizes of one session.
fn session(rng: &mut fastrand::Rng, start: i64, count: usize) -> Vec<(i64, u32, u64)> {
    let usual = *rng.choice(&[1_000, 1_856, 2_000, 3_000, 10_000]).expect("not empty");
    let zero_lengths = rng.u8(..6) == 0;
    let last_frame_left_out = rng.bool();
    let gap_every = if rng.u8(..3) == 0 { rng.usize(3..40) } else { usize::MAX };
    let big = rng.u8(..6) == 0;
    let mut now = start;
    (0..count)
        .map(|index| {
            let step = usual + rng.i64(-20..=20);
            let length = if zero_lengths && rng.bool() {
                0
            } else {
                u32::try_from(step - if last_frame_left_out { 60 } else { 0 }).expect("length")
            };
            let size = if big { rng.u64(1_000_000..20_000_000) } else { rng.u64(100..900_000) };
            let this = (now, length, size);
            now += step + if index % gap_every == gap_every - 1 { rng.i64(6_000..90_000) } else { 0 };
            this
        })
        .collect()
}

fn generate(seed: u64) -> Case {
    let mut rng = fastrand::Rng::with_seed(seed);
    // Around an hour's edge, so that windows meet inside the case.
    let origin = 470_000 * HOUR - rng.i64(0..200_000);
    let count = if rng.u8(..8) == 0 { rng.usize(300..900) } else { rng.usize(1..120) };
    let mut media = session(&mut rng, origin, count);
    if rng.u8(..3) == 0 {
        // A second session that overlaps the first, ingested after it or between its fragments.
        let offset = *rng.choice(&[0, 1, 3, 700, 1_000]).expect("not empty");
        let from = rng.usize(0..media.len());
        let start = media[from].0 + offset;
        let replay = rng.usize(1..40);
        let second = session(&mut rng, start, replay);
        if rng.bool() {
            media.extend(second);
        } else {
            let mut both: Vec<_> = media.into_iter().chain(second).collect();
            both.sort_by_key(|(start, ..)| *start);
            media = both;
        }
    }
    if rng.u8(..5) == 0 {
        // A stretch that was buffered and came later than what follows it.
        let first = rng.usize(0..media.len());
        let last = rng.usize(first..media.len());
        let late: Vec<_> = media.drain(first..last).collect();
        media.extend(late);
    }
    if rng.u8(..5) == 0 {
        // Replays with the very same, or nearly the same, producer timestamp.
        for _ in 0..rng.usize(1..5) {
            let (start, length, size) = media[rng.usize(0..media.len())];
            media.push((start + rng.i64(0..=2), length, size));
        }
    }
    if rng.bool() {
        let index = rng.usize(0..media.len());
        let edge = (media[index].0.div_euclid(HOUR) + 1) * HOUR;
        media[index].0 = edge + *rng.choice(&[-2, -1, 0, 0, 1]).expect("not empty");
    }
    let skew = rng.i64(-4_000..4_000);
    let mut server = 0;
    let archive: Vec<Fragment> = media
        .iter()
        .enumerate()
        .map(|(index, (producer, length_ms, size_bytes))| {
            // Ingestion time grows with the number; it hops, and bursts stand close together.
            let step = if rng.u8(..12) == 0 { rng.i64(0..=3) } else { rng.i64(40..200) };
            server = (producer + skew + rng.i64(0..700)).max(server + step);
            Fragment {
                number: number(index),
                producer: at(*producer),
                server: at(server),
                length_ms: *length_ms,
                size_bytes: *size_bytes,
            }
        })
        .collect();
    let timestamps = if rng.bool() { TimestampKind::Producer } else { TimestampKind::Server };
    let some_start = |rng: &mut fastrand::Rng| archive[rng.usize(0..archive.len())].start(timestamps);
    let from =
        some_start(&mut rng) + if rng.u8(..3) == 0 { rng.i64(-2..=2) } else { rng.i64(-30_000..30_000) };
    let to = some_start(&mut rng) + if rng.u8(..3) == 0 { rng.i64(-2..=2) } else { rng.i64(-3_000..90_000) };
    let range = TimeRange::new(from, to)
        .or_else(|| TimeRange::new(to, from))
        .filter(|range| range.length_ms() > 10)
        .unwrap_or_else(|| TimeRange::new(from, from + 60_000).expect("not empty"));
    Case {
        range,
        timestamps,
        edges: if rng.bool() { Edges::Cover } else { Edges::Inside },
        gap_tolerance: if rng.bool() { GapTolerance::Auto } else { GapTolerance::Fixed(rng.u32(100..3_000)) },
        archive,
    }
}

fn traits(case: &Case) -> BTreeSet<Trait> {
    let mut found = BTreeSet::new();
    let mut starts: Vec<i64> = case.archive.iter().map(|f| f.start(case.timestamps).get()).collect();
    starts.sort_unstable();
    for pair in starts.windows(2) {
        match pair[1] - pair[0] {
            0 => drop(found.insert(Trait::EqualStarts)),
            1 => drop(found.insert(Trait::StartsOneMsApart)),
            pause if pause > 5_000 => drop(found.insert(Trait::Gap)),
            _ => {}
        }
    }
    if case.archive.iter().any(|f| f.length_ms == 0) {
        found.insert(Trait::ZeroLength);
    }
    if starts.iter().any(|start| start % HOUR == 0) {
        found.insert(Trait::StartOnWindowEdge);
    }
    if starts.iter().any(|start| *start == case.range.start().get() || *start == case.range.end().get()) {
        found.insert(Trait::StartOnRangeBound);
    }
    let mut by_producer: Vec<&Fragment> = case.archive.iter().collect();
    by_producer.sort_by_key(|f| f.producer);
    for pair in by_producer.windows(2) {
        if pair[1].producer - pair[0].producer < i64::from(pair[0].length_ms) / 2 {
            found.insert(Trait::OverlappingSessions);
        }
        if pair[1].number < pair[0].number {
            found.insert(Trait::LateIngestion);
        }
    }
    if case.archive.iter().map(|f| f.size_bytes).sum::<u64>() > 3 * MAX_CLIP_BYTES {
        found.insert(Trait::BigFragments);
    }
    if case.archive.len() > MAX_CLIP_FRAGMENTS {
        found.insert(Trait::ManyFragments);
    }
    found
}

/// What ListFragments answers, in no order.
fn list(case: &Case, bounds: RequestBounds, rng: &mut fastrand::Rng) -> Vec<Fragment> {
    let inside = |f: &&Fragment| (bounds.start..=bounds.end).contains(&f.start(case.timestamps));
    let mut listed: Vec<Fragment> = case.archive.iter().filter(inside).cloned().collect();
    rng.shuffle(&mut listed);
    listed
}

/// What GetClip selects: inclusive ends; of equal producer timestamps the oldest ingested.
fn select(case: &Case, bounds: RequestBounds) -> BTreeSet<FragmentNumber> {
    let mut selected: BTreeMap<(UtcMillis, usize), &FragmentNumber> = BTreeMap::new();
    for (index, fragment) in case.archive.iter().enumerate() {
        let start = fragment.start(case.timestamps);
        if bounds.start <= start && start <= bounds.end {
            let key = (start, if case.timestamps == TimestampKind::Producer { 0 } else { index });
            let number = selected.entry(key).or_insert(&fragment.number);
            *number = (*number).min(&fragment.number);
        }
    }
    selected.into_values().cloned().collect()
}

fn plan(case: &Case, seed: u64) -> Vec<PlannedWindow> {
    let mut rng = fastrand::Rng::with_seed(seed);
    windows(case.range, case.edges)
        .into_iter()
        .map(|window| {
            let query = WindowQuery {
                window,
                range: case.range,
                timestamps: case.timestamps,
                edges: case.edges,
                gap_tolerance: case.gap_tolerance,
            };
            plan_window(&query, list(case, list_bounds(window), &mut rng))
        })
        .collect()
}

/// Those that start in the range, each producer timestamp once; and those before it that reach into it for
/// certain, which a covering export must have.
fn expected(case: &Case) -> (BTreeSet<FragmentNumber>, BTreeSet<FragmentNumber>) {
    let oldest_of_its_time = |f: &Fragment| {
        case.timestamps == TimestampKind::Server
            || !case.archive.iter().any(|other| other.producer == f.producer && other.number < f.number)
    };
    let numbers = |keep: &dyn Fn(&Fragment) -> bool| {
        case.archive.iter().filter(|f| keep(f) && oldest_of_its_time(f)).map(|f| f.number.clone()).collect()
    };
    let inside = numbers(&|f| {
        let start = f.start(case.timestamps);
        case.range.start() <= start && start < case.range.end()
    });
    let reaching = numbers(&|f| {
        let start = f.start(case.timestamps);
        start < case.range.start() && start + i64::from(f.length_ms) > case.range.start()
    });
    (inside, reaching)
}

#[test]
fn every_fragment_is_in_exactly_one_chunk_and_requests_select_exactly_theirs() {
    let mut seen: BTreeMap<Trait, u64> = BTreeMap::new();
    for seed in 0..CASES {
        let case = generate(seed);
        for found in traits(&case) {
            *seen.entry(found).or_default() += 1;
        }
        let planned = plan(&case, seed);
        let (inside, reaching) = expected(&case);
        let mut exported: BTreeSet<FragmentNumber> = BTreeSet::new();
        let mut last_key = None;
        for window in &planned {
            let mut next = 0;
            for chunk in &window.chunks {
                assert_eq!(chunk.first, next, "seed {seed}: chunks tile the window");
                next += chunk.count;
                let fragments = &window.fragments[chunk.first..next];
                check_chunk(&case, chunk, fragments, seed);
                for fragment in fragments {
                    assert!(
                        exported.insert(fragment.number.clone()),
                        "seed {seed}: {} twice",
                        fragment.number
                    );
                    let key = Some((fragment.start(case.timestamps), fragment.number.clone()));
                    assert!(key > last_key, "seed {seed}: out of order");
                    last_key = key;
                }
            }
            assert_eq!(next, window.fragments.len(), "seed {seed}: chunks tile the window");
        }
        let before: BTreeSet<_> = exported.difference(&inside).cloned().collect();
        assert!(inside.is_subset(&exported), "seed {seed}: lost {:?}", inside.difference(&exported));
        check_before(&case, &before, &reaching, seed);
    }
    for kind in TRAITS {
        let share = seen.get(&kind).copied().unwrap_or(0) * 100 / CASES;
        assert!(share >= 5, "{kind:?} in {share} % of cases: the generator no longer tests it");
    }
}

/// What a covering export has from before its range: all that reaches in, nothing that cannot.
fn check_before(
    case: &Case,
    before: &BTreeSet<FragmentNumber>,
    reaching: &BTreeSet<FragmentNumber>,
    seed: u64,
) {
    let from = case.range.start();
    match case.edges {
        Edges::Inside => assert!(before.is_empty(), "seed {seed}: {before:?} begin outside the range"),
        Edges::Cover => {
            assert!(reaching.is_subset(before), "seed {seed}: lost {:?}", reaching.difference(before));
            for fragment in case.archive.iter().filter(|f| before.contains(&f.number)) {
                let start = fragment.start(case.timestamps);
                assert!(start < from && from - start <= 20_000, "seed {seed}: {start} does not reach {from}");
            }
        }
    }
}

fn check_chunk(case: &Case, chunk: &PlannedChunk, fragments: &[Fragment], seed: u64) {
    let numbers: BTreeSet<_> = fragments.iter().map(|f| f.number.clone()).collect();
    assert_eq!(select(case, chunk.bounds), numbers, "seed {seed}: {chunk:?} selects its fragments");
    assert!(chunk.count >= 1 && chunk.count <= MAX_CLIP_FRAGMENTS, "seed {seed}: {chunk:?}");
    let starts: Vec<i64> = fragments.iter().map(|f| f.start(case.timestamps).get()).collect();
    let inseparable = starts.windows(2).all(|pair| pair[1] - pair[0] < 4);
    assert_eq!(chunk.bytes, fragments.iter().map(|f| f.size_bytes).sum::<u64>(), "seed {seed}");
    assert!(chunk.bytes <= MAX_CLIP_BYTES || inseparable, "seed {seed}: {chunk:?}");
    assert!(chunk.bounds.start < chunk.bounds.end, "seed {seed}: {chunk:?}: the service wants end > start");
    assert!(starts[0] - chunk.bounds.start.get() <= 500, "seed {seed}: {chunk:?}");
    assert!(chunk.bounds.end.get() - starts[starts.len() - 1] <= 500, "seed {seed}: {chunk:?}");
    for pair in fragments.windows(2) {
        if pair[1].start(case.timestamps) - pair[0].start(case.timestamps) < 4 {
            continue;
        }
        assert!(pair[0].number < pair[1].number, "seed {seed}: {chunk:?} spans two sessions");
        // Of a length that is listed as 0 only the most is known.
        let length = if pair[0].length_ms == 0 { 20_000 } else { i64::from(pair[0].length_ms) };
        let pause = pair[1].producer - pair[0].producer - length;
        let tolerance = match case.gap_tolerance {
            GapTolerance::Fixed(ms) => i64::from(ms),
            GapTolerance::Auto => 5_100,
        };
        assert!(pause <= tolerance, "seed {seed}: {chunk:?} spans a gap of {pause} ms");
    }
}

#[test]
fn halves_of_a_chunk_select_what_the_chunk_did() {
    let mut splits = 0;
    for seed in 0..CASES / 4 {
        let case = generate(seed);
        for window in plan(&case, seed) {
            let mut open: Vec<PlannedChunk> = window.chunks.clone();
            while let Some(chunk) = open.pop() {
                let fragments = &window.fragments[chunk.first..chunk.first + chunk.count];
                check_chunk(&case, &chunk, fragments, seed);
                if let Some(halves) = split_chunk(&chunk, fragments, case.timestamps) {
                    splits += 1;
                    assert_eq!(halves[0].first, chunk.first, "seed {seed}");
                    assert_eq!(halves[0].first + halves[0].count, halves[1].first, "seed {seed}");
                    assert_eq!(halves[0].count + halves[1].count, chunk.count, "seed {seed}");
                    open.extend(halves);
                } else {
                    let start = |f: &Fragment| f.start(case.timestamps).get();
                    assert!(
                        fragments.windows(2).all(|pair| start(&pair[1]) - start(&pair[0]) < 4),
                        "seed {seed}: {chunk:?} could be split"
                    );
                }
            }
        }
    }
    assert!(splits > 1_000, "only {splits} splits were tried");
}

#[test]
fn adjacent_exports_share_no_fragment_and_lose_none() {
    for seed in 0..CASES / 4 {
        let mut case = generate(seed);
        case.edges = Edges::Inside;
        let whole: Vec<FragmentNumber> = numbers(&plan(&case, seed));
        let middle = case.range.start() + case.range.length_ms() / 2;
        let halves = [(case.range.start(), middle), (middle, case.range.end())];
        let mut parts = Vec::new();
        for (start, end) in halves {
            case.range = TimeRange::new(start, end).expect("longer than 10 ms");
            parts.extend(numbers(&plan(&case, seed + 1)));
        }
        assert_eq!(whole, parts, "seed {seed}");
    }
}

fn numbers(planned: &[PlannedWindow]) -> Vec<FragmentNumber> {
    planned.iter().flat_map(|window| window.fragments.iter().map(|f| f.number.clone())).collect()
}

#[test]
fn planning_again_gives_the_same_whatever_the_order_of_the_listing() {
    for seed in 0..200 {
        let case = generate(seed);
        assert_eq!(plan(&case, 1), plan(&case, 2), "seed {seed}");
    }
}

/// Sizes of the chunks of a window, of a steady camera's export of so many fragments of 2 s.
fn sizes(count: usize, size_bytes: u64, window: usize) -> Vec<usize> {
    let start = |index: usize| at(470_000 * HOUR + i64::try_from(index).expect("small") * 2_000);
    let fragment = |index| Fragment {
        number: number(index),
        producer: start(index),
        server: start(index),
        length_ms: 2_000,
        size_bytes,
    };
    let case = Case {
        archive: (0..count).map(fragment).collect(),
        range: TimeRange::new(start(0), start(count)).expect("not empty"),
        timestamps: TimestampKind::Producer,
        edges: Edges::Cover,
        gap_tolerance: GapTolerance::Auto,
    };
    plan(&case, 7)[window].chunks.iter().map(|chunk| chunk.count).collect()
}

#[test]
fn a_long_export_is_cut_by_the_services_limits_alone() {
    for window in [0, 1] {
        assert_eq!(sizes(3_600, 9, window), [200; 9], "window {window}");
    }
    // 85 MB.
    assert_eq!(sizes(3_600, 850_000, 1), [[100; 18]].concat());
    assert_eq!(sizes(1_810, 9, 1), [10], "the second window of an export is not a short export");
    assert_eq!(sizes(1_900, 9, 1), [100]);
}

#[test]
fn an_export_of_one_window_is_cut_into_equal_clips_for_several_connections() {
    assert_eq!(sizes(1_800, 9, 0), [200; 9], "more than eight full clips");
    assert_eq!(sizes(1_600, 9, 0), [200; 8]);
    assert_eq!(sizes(900, 9, 0), [113, 113, 113, 113, 113, 113, 113, 109]);
    assert_eq!(sizes(300, 9, 0), [50; 6], "no clip is smaller than it is worth");
    assert_eq!(sizes(149, 9, 0), [75, 74]);
    assert_eq!(sizes(99, 9, 0), [99]);
    assert_eq!(sizes(3, 9, 0), [3]);
    assert_eq!(sizes(40, 10_000_000, 0), [8; 5], "as many as the bytes need");
}
