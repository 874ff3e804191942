//! The ledger alone, and against disks that are really filled.

use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;

use super::*;

/// Disks that are as full as a test says; a folder `out…` lies on the second where there are two.
struct FakeDisks(Mutex<Vec<Space>>);

impl FakeDisks {
    fn of(sizes: &[u64]) -> Arc<Self> {
        let space =
            |(device, size): (usize, &u64)| Space { device: device as u64, free: *size, total: *size };
        Arc::new(Self(Mutex::new(sizes.iter().enumerate().map(space).collect())))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Space>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn volume(&self, folder: &Path) -> usize {
        let is_output = folder.to_string_lossy().starts_with("out");
        self.with(|disks| if is_output { disks.len() - 1 } else { 0 })
    }
}

impl Disks for FakeDisks {
    fn space(&self, folder: &Path) -> io::Result<Space> {
        let volume = self.volume(folder);
        Ok(self.with(|disks| disks[volume]))
    }
}

const FOLDERS: (&str, &str) = ("work", "out");

fn ledger(disks: &Arc<FakeDisks>, min_free: u64) -> Ledger {
    let disks = Arc::clone(disks) as Arc<dyn Disks>;
    Ledger::new(&DiskLimits { min_free, max_bytes: None, disks })
}

fn open(ledger: &mut Ledger, export: usize, planned: u64) {
    let folders = (Path::new(FOLDERS.0), Path::new(FOLDERS.1));
    ledger.open(export, folders, false, (planned, 0)).expect("fake disks answer");
}

/// Opens an export that is listed to its end.
fn open_listed(ledger: &mut Ledger, export: usize, planned: u64) {
    open(ledger, export, planned);
    ledger.listed(export);
}

#[test]
fn an_export_needs_its_bytes_twice_and_what_stays_free_is_not_for_it() {
    let disks = FakeDisks::of(&[1_000]);
    let mut ledger = ledger(&disks, 100);
    open_listed(&mut ledger, 0, 451);
    let shortage = Shortage { folder: "work".into(), free: 900, needed: 902 };
    assert_eq!(ledger.grant(0..1), Some((0, shortage.clone())));
    assert_eq!(ledger.never_fits(0), Some(shortage));
    open_listed(&mut ledger, 1, 450);
    ledger.release(0);
    assert_eq!((ledger.grant(1..2), ledger.never_fits(1)), (None, None));
    assert!(ledger.may_fetch(1, 450));
}

#[test]
fn two_file_systems_are_counted_apart() {
    let disks = FakeDisks::of(&[500, 700]);
    let mut ledger = ledger(&disks, 0);
    open_listed(&mut ledger, 0, 500);
    assert_eq!(ledger.grant(0..1), None);
    open_listed(&mut ledger, 1, 1);
    let (waiting, shortage) = ledger.grant(0..2).expect("no room for chunks");
    assert_eq!((waiting, shortage.folder), (1, PathBuf::from("work")));
}

#[test]
fn kept_chunks_are_copied_to_the_outputs_disk() {
    let disks = FakeDisks::of(&[500, 999]);
    let mut ledger = ledger(&disks, 0);
    ledger.open(0, (Path::new("work"), Path::new("out")), true, (500, 0)).expect("opened");
    ledger.listed(0);
    let shortage = Shortage { folder: "out".into(), free: 999, needed: 1_000 };
    assert_eq!(ledger.grant(0..1), Some((0, shortage)));
}

#[test]
fn only_one_export_is_fetched_before_it_is_listed() {
    let disks = FakeDisks::of(&[1_000]);
    let mut ledger = ledger(&disks, 0);
    for export in 0..2 {
        open(&mut ledger, export, 100);
    }
    assert_eq!(ledger.grant(0..2), None);
    assert!(ledger.may_fetch(0, 100) && !ledger.may_fetch(1, 1));
    ledger.planned(0, 50);
    assert!(!ledger.may_fetch(0, 101), "not reserved yet");
    assert_eq!(ledger.grant(0..2), None);
    assert!(ledger.may_fetch(0, 150));
    ledger.listed(0);
    assert_eq!(ledger.grant(0..2), None);
    assert!(ledger.may_fetch(1, 100), "its turn, now that the first is listed");
}

#[test]
fn exports_of_unknown_size_go_on_side_by_side_after_a_restart() {
    let disks = FakeDisks::of(&[1_000]);
    let mut ledger = ledger(&disks, 0);
    for export in 0..2 {
        ledger.open(export, (Path::new("work"), Path::new("work")), false, (100, 100)).expect("opened");
        ledger.may_bring(export, 100);
    }
    assert_eq!(ledger.grant(0..2), None);
    assert_eq!((ledger.reserve_more(0, 100), ledger.reserve_more(1, 100)), (Ok(true), Ok(true)));

    // Where not all of it fits, one at a time.
    let disks = FakeDisks::of(&[500]);
    let mut ledger = self::ledger(&disks, 0);
    for export in 0..2 {
        ledger.open(export, (Path::new("work"), Path::new("work")), false, (100, 100)).expect("opened");
        ledger.may_bring(export, 100);
    }
    assert_eq!(ledger.grant(0..2), None);
    assert_eq!((ledger.reserve_more(0, 100), ledger.reserve_more(1, 100)), (Ok(true), Ok(false)));
}

#[test]
fn what_is_not_known_beforehand_is_reserved_chunk_by_chunk() {
    let disks = FakeDisks::of(&[1_000]);
    let mut ledger = ledger(&disks, 0);
    for export in 0..2 {
        open(&mut ledger, export, 0);
        ledger.may_bring(export, 400);
    }
    assert_eq!(ledger.grant(0..2), None);
    assert_eq!(ledger.reserve_more(0, 100), Ok(true));
    ledger.hand_out(0, 100);
    // 800 and their copies do not fit: several could each hold what the other needs.
    assert_eq!(ledger.reserve_more(1, 100), Ok(false), "not its turn");
    assert_eq!(ledger.room(0), 800);
    // The chunk is smaller than was feared.
    ledger.land_as(0, 100, 30);
    disks.with(|disks| disks[0].free -= 30);
    ledger.refresh().expect("fake disks answer");
    assert_eq!(ledger.room(0), 1_000 - 2 * 30);
    // It takes what it needs, and what is unknown of it gets less; then there is room for the other beside it.
    assert_eq!(ledger.reserve_more(0, 100), Ok(true));
    ledger.land_as(0, 100, 0);
    assert_eq!(ledger.reserve_more(0, 200), Ok(true));
    ledger.land_as(0, 200, 0);
    assert_eq!(ledger.reserve_more(1, 100), Ok(true), "all that is unknown fits");
    ledger.commit(0);
    assert_eq!(ledger.grant(1..2), None);
    assert!(!ledger.is_early(0), "its size is known now");
    let shortage = Shortage { folder: "work".into(), free: 1_000 - 2 * 30 - 200, needed: 1_600 };
    assert_eq!(ledger.reserve_more(1, 800), Err(shortage));
}

#[test]
fn a_smaller_one_goes_first_only_into_space_that_the_first_will_not_need() {
    let disks = FakeDisks::of(&[1_000]);
    let mut ledger = ledger(&disks, 0);
    open_listed(&mut ledger, 0, 300);
    assert_eq!(ledger.grant(0..1), None);
    // 400 are left; when export 0 has ended, 700 will be.
    open_listed(&mut ledger, 1, 300);
    open_listed(&mut ledger, 2, 51);
    open_listed(&mut ledger, 3, 50);
    assert_eq!(ledger.grant(0..4).map(|(waiting, _)| waiting), Some(1));
    assert!(!ledger.may_fetch(2, 1), "with 102 of 700 gone, 600 would not be left");
    assert!(ledger.may_fetch(3, 50));
}

#[test]
fn a_disk_below_what_stays_free_stops_even_what_is_reserved() {
    let disks = FakeDisks::of(&[1_000, 1_000]);
    let mut ledger = ledger(&disks, 100);
    open_listed(&mut ledger, 0, 10);
    assert_eq!(ledger.grant(0..1), None);
    assert!(ledger.may_fetch(0, 10));
    disks.with(|disks| disks[1].free = 99);
    ledger.refresh().expect("fake disks answer");
    assert!(!ledger.may_fetch(0, 10));
    assert_eq!(ledger.low_for(0), Some(Shortage { folder: "out".into(), free: 99, needed: 100 }));
    disks.with(|disks| disks[1].free = 100);
    ledger.refresh().expect("fake disks answer");
    assert!(ledger.may_fetch(0, 10));
}

#[test]
fn what_a_worker_does_not_bring_is_not_reserved_any_more() {
    let disks = FakeDisks::of(&[100]);
    let mut ledger = ledger(&disks, 0);
    open_listed(&mut ledger, 0, 50);
    assert_eq!(ledger.grant(0..1), None);
    ledger.hand_out(0, 50);
    assert!(!ledger.may_fetch(0, 1));
    ledger.take_back(0, 50);
    assert!(ledger.may_fetch(0, 50));
    ledger.hand_out(0, 30);
    ledger.forgo(0, 30);
    open_listed(&mut ledger, 1, 30);
    assert_eq!(ledger.grant(0..2), None);
}

#[test]
fn this_machine_tells_of_its_disks_also_for_folders_to_be_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = SystemDisks.space(folder.path()).expect("told");
    let below = SystemDisks.space(&folder.path().join("a/b")).expect("told");
    assert_eq!((there.device, there.total), (below.device, below.total));
    assert!(there.total > 0 && there.free <= there.total, "{there:?}");
}

/// An export of the simulation: its chunks by window, and how far it is.
#[derive(Debug, Clone)]
struct Simulated {
    windows: Vec<Vec<u64>>,
    keep_chunks: bool,
    listed: usize,
    to_fetch: Vec<u64>,
    in_hand: Vec<u64>,
    landed: u64,
    ended: bool,
}

impl Simulated {
    fn bytes(&self) -> u64 {
        self.windows.iter().flatten().sum()
    }
}

/// A run that lists, fetches and merges in any order the ledger lets it.
struct Simulation {
    disks: Arc<FakeDisks>,
    ledger: Ledger,
    min_free: u64,
    exports: Vec<Simulated>,
    given_up: Vec<usize>,
}

impl Simulation {
    fn new(sizes: &[u64], min_free: u64, exports: Vec<Simulated>) -> Self {
        let disks = FakeDisks::of(sizes);
        let mut ledger = ledger(&disks, min_free);
        for (index, export) in exports.iter().enumerate() {
            let folders = (Path::new(FOLDERS.0), Path::new(FOLDERS.1));
            ledger.open(index, folders, export.keep_chunks, (0, 0)).expect("opened");
        }
        Self { disks, ledger, min_free, exports, given_up: Vec::new() }
    }

    fn write(&self, folder: &str, bytes: u64) {
        let volume = self.disks.volume(Path::new(folder));
        let free = self.disks.with(|disks| {
            disks[volume].free = disks[volume].free.checked_sub(bytes).expect("the disk is full");
            disks[volume].free
        });
        assert!(free >= self.min_free, "{folder}: {free} of {} free", self.min_free);
    }

    fn delete(&self, folder: &str, bytes: u64) {
        let volume = self.disks.volume(Path::new(folder));
        self.disks.with(|disks| disks[volume].free += bytes);
    }

    /// Everything that could be done next, as a kind and an export.
    fn possible(&self) -> Vec<(u8, usize)> {
        let mut possible = Vec::new();
        for (index, export) in self.exports.iter().enumerate().filter(|(_, export)| !export.ended) {
            if export.listed < export.windows.len() {
                possible.push((0, index));
            }
            if let Some(bytes) = export.to_fetch.first()
                && self.ledger.may_fetch(index, *bytes)
            {
                possible.push((1, index));
            }
            if !export.in_hand.is_empty() {
                possible.push((2, index));
            }
            let is_fetched = export.to_fetch.is_empty() && export.in_hand.is_empty();
            if is_fetched && export.listed == export.windows.len() {
                possible.push((3, index));
            }
        }
        possible
    }

    fn act(&mut self, (kind, index): (u8, usize)) {
        let shared = self.disks.with(|disks| disks.len() == 1);
        let export = &mut self.exports[index];
        match kind {
            0 => {
                let window = export.windows[export.listed].clone();
                export.listed += 1;
                self.ledger.planned(index, window.iter().sum());
                export.to_fetch.extend(window);
                if export.listed == export.windows.len() {
                    self.ledger.listed(index);
                }
            }
            1 => {
                let bytes = export.to_fetch.remove(0);
                export.in_hand.push(bytes);
                self.ledger.hand_out(index, bytes);
            }
            2 => {
                let bytes = export.in_hand.remove(0);
                export.landed += bytes;
                self.ledger.land(index, bytes);
                self.write(FOLDERS.0, bytes);
            }
            _ => {
                let (landed, keep) = (export.landed, export.keep_chunks);
                export.ended = true;
                self.ledger.commit(index);
                self.write(FOLDERS.1, landed);
                if keep && !shared {
                    self.write(FOLDERS.1, landed);
                }
                if !keep || !shared {
                    self.delete(FOLDERS.0, landed);
                }
                self.ledger.release(index);
            }
        }
    }

    /// Carries everything out in an order that `choices` decide.
    fn run(&mut self, choices: &[usize]) {
        let mut choices = choices.iter().cycle();
        loop {
            self.ledger.refresh().expect("fake disks answer");
            let open = (0..self.exports.len()).filter(|index| !self.exports[*index].ended);
            let open: Vec<usize> = open.collect();
            if open.is_empty() {
                return;
            }
            let no_room = self.ledger.grant(open.iter().copied());
            let possible = self.possible();
            if let Some(chosen) = choices.next().filter(|_| !possible.is_empty()) {
                self.act(possible[chosen % possible.len()]);
                continue;
            }
            // Nothing goes on: whoever is given up is alone with what it holds, else it would only have to wait.
            let (index, shortage) = no_room.expect("nothing is possible, and nobody lacks room");
            assert!(shortage.needed > shortage.free, "{shortage:?}");
            let holders: Vec<usize> = open
                .iter()
                .copied()
                .filter(|other| *other != index && self.ledger.claims[other].granted > 0)
                .collect();
            assert!(holders.is_empty(), "{holders:?} have space and cannot go on");
            self.exports[index].ended = true;
            self.given_up.push(index);
            self.ledger.release(index);
        }
    }
}

fn exports() -> impl Strategy<Value = Vec<Simulated>> {
    let windows = prop::collection::vec(prop::collection::vec(1..60_u64, 0..4), 1..4);
    let export = (windows, any::<bool>()).prop_map(|(windows, keep_chunks)| Simulated {
        windows,
        keep_chunks,
        listed: 0,
        to_fetch: Vec::new(),
        in_hand: Vec::new(),
        landed: 0,
        ended: false,
    });
    prop::collection::vec(export, 1..7)
}

proptest! {
    #[test]
    fn what_has_its_space_is_finished_and_min_free_is_never_touched(
        sizes in prop::collection::vec(100..1_500_u64, 1..3),
        min_free in 0..80_u64,
        exports in exports(),
        choices in prop::collection::vec(any::<usize>(), 200),
    ) {
        Simulation::new(&sizes, min_free, exports).run(&choices);
    }

    #[test]
    fn nothing_is_given_up_on_a_disk_that_holds_everything(
        exports in exports(),
        choices in prop::collection::vec(any::<usize>(), 200),
    ) {
        let all: u64 = exports.iter().map(Simulated::bytes).sum();
        // The outputs and kept chunks of all others, and twice the bytes of the one that is under way.
        let mut simulation = Simulation::new(&[3 * all + 1], 1, exports);
        simulation.run(&choices);
        prop_assert_eq!(simulation.given_up, [] as [usize; 0]);
    }
}
