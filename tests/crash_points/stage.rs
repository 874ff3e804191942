//! An export to be killed, what its state file says, and what must hold after each kill and in the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use kvs_export::emulator::{Api, Camera, EmulatorConfig, Fault, FaultRule, Script, ScriptedFragment};
use kvs_export::model::{ChunkId, TimeRange, Timeline, TimestampKind};
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::cases::{Damage, Kind};
use crate::support::after_midnight;
use crate::support::oracle::{self, Frame};
use crate::support::scene::{Job, Run, Scene};
use crate::support::truth::{self, Difference};

/// The inclusive bounds of a request, in milliseconds.
type Bounds = (i64, i64);

const NAME: &str = "gate";

/// The edge of an hour, in milliseconds after midnight: the range lies across it, in two windows.
const EDGE: i64 = 3_600_000;

fn range(kind: Kind) -> TimeRange {
    match kind {
        Kind::Empty => after_midnight(EDGE - 6_500, EDGE - 5_000),
        _ => after_midnight(EDGE - 12_000, EDGE + 12_000),
    }
}

/// Records 4 s, then nothing for 4 s: no chunk spans a gap, so there are several.
fn camera(kind: Kind) -> Camera {
    let gap = |at: i64| after_midnight(EDGE + at, EDGE + at + 4_000);
    let camera = Camera::steady(NAME).gap(gap(-8_000)).gap(gap(4_000));
    if kind != Kind::Parts {
        return camera;
    }
    let around = after_midnight(EDGE - 60_000, EDGE + 60_000);
    let change = after_midnight(EDGE + 6_000, EDGE + 7_000).start();
    let fragments = camera.fragments(around, TimestampKind::Producer).into_iter();
    let fragments = fragments.map(|fragment| {
        let video = usize::from(fragment.producer > change);
        ScriptedFragment { video, ..fragment }
    });
    Camera::with_script(NAME, Script::Fragments(fragments.collect()))
}

/// A job of the same stream that asks for something else.
pub(crate) fn another_job() -> Job {
    Job::new("another", NAME, after_midnight(0, 1_000))
}

/// An export to be killed, and what it has to be in the end.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    kind: Kind,
    /// What each of its videos holds.
    expected: Vec<Vec<ScriptedFragment>>,
    /// The chunk that was damaged: its file and its request.
    damaged: RefCell<Option<(PathBuf, Bounds)>>,
}

impl Stage {
    pub(crate) fn new(kind: Kind) -> Self {
        let camera = camera(kind);
        let job = Job::new(NAME, NAME, range(kind));
        let mut fragments = truth::fragments(&camera, &job);
        let mut faults = Vec::new();
        match kind {
            Kind::Split => faults.push(FaultRule::nth(Api::GetClip, 1, Fault::ShortClip { missing: 1 })),
            Kind::Failing => faults.push(FaultRule::nth(Api::GetClip, 2, Fault::InternalFailure)),
            Kind::Partial => {
                let refused = fragments.remove(3).number;
                faults.push(FaultRule::always(Api::GetClip, Fault::RefuseFragment(refused)));
            }
            Kind::Plain | Kind::Masters | Kind::Parts | Kind::Empty => {}
        }
        let second = fragments.iter().position(|fragment| fragment.video == 1).unwrap_or(fragments.len());
        let rest = fragments.split_off(second);
        let expected = [fragments, rest].into_iter().filter(|part| !part.is_empty()).collect();
        let scene = Scene::new(EmulatorConfig { faults, ..EmulatorConfig::with_cameras([camera]) });
        let job = if kind == Kind::Masters { job.with("keep_chunks = true") } else { job };
        scene.write_jobs("requests_in_flight = 1\nattempts = 1", &[job]);
        let stage = Self { scene, kind, expected, damaged: RefCell::default() };
        if kind == Kind::Failing {
            let run = stage.scene.run().expect_code(3);
            assert_eq!(run.status(NAME), "failed", "{:#}", run.report);
        }
        stage
    }

    /// The names of everything that it leaves beside its masters.
    pub(crate) fn output_names(&self) -> BTreeSet<String> {
        let videos: &[&str] = match self.expected.len() {
            0 => &["manifest.json", "sha256"],
            1 => &["mp4", "manifest.json", "sha256"],
            _ => return ["-part1.mp4", "-part2.mp4", ".manifest.json", ".sha256"].map(named).into(),
        };
        videos.iter().map(|end| format!("{NAME}.{end}")).collect()
    }

    /// The same export of a camera without the change of the sample description: one video.
    pub(crate) fn without_change(mut self) -> Self {
        let camera = camera(Kind::Plain);
        let job = Job::new(NAME, NAME, range(Kind::Plain));
        self.expected = vec![truth::fragments(&camera, &job)];
        self.kind = Kind::Plain;
        self.scene.restart_emulator(EmulatorConfig::with_cameras([camera]));
        self.scene.write_jobs("requests_in_flight = 1\nattempts = 1", &[job]);
        self
    }

    /// Runs, and lets it die at a point.
    #[track_caller]
    pub(crate) fn crash(&self, at: &str) {
        let output = self.run_until(at);
        let said = String::from_utf8_lossy(&output.stderr);
        let killed = output.status.signal() == Some(Signal::KILL.as_raw());
        assert!(killed, "{:?} never came to {at}: {:?}\n{said}", self.kind, output.status);
    }

    /// Runs, and lets it die at a point if it comes there; checks what must hold either way.
    pub(crate) fn run_until(&self, at: &str) -> Output {
        let (records, before) = (Records::read(&self.scene), self.scene.log().len());
        let output = self.scene.command().env("KVS_EXPORT_CRASH_AT", at).output().expect("it starts");
        self.assert_nothing_requested_again(&records, before);
        self.assert_nothing_half_made();
        output
    }

    /// Runs to the end; then once more, with nothing left to do.
    #[track_caller]
    pub(crate) fn finish(&self) {
        let (records, before) = (Records::read(&self.scene), self.scene.log().len());
        // A partial export is told by the code of the run that made it.
        let made_here = !records.is_final();
        let run = self.scene.run().expect_code(if self.kind == Kind::Partial && made_here { 3 } else { 0 });
        self.assert_nothing_requested_again(&records, before);
        self.assert_nothing_half_made();
        self.assert_exact(&run);
        self.assert_no_stray_file();
        let (before, files) = (self.scene.log().len(), contents(&self.scene.outputs()));
        self.scene.run().expect_code(0);
        let media = |api: Api| matches!(api, Api::GetClip | Api::ListFragments);
        let asked = self.scene.log()[before..].iter().filter(|record| media(record.api)).count();
        assert_eq!(asked, 0, "{:?}: a further run has nothing to do", self.kind);
        assert!(files == contents(&self.scene.outputs()), "{:?}: a further run changes nothing", self.kind);
        self.assert_no_stray_file();
    }

    #[track_caller]
    fn assert_exact(&self, run: &Run) {
        let status = match self.kind {
            Kind::Empty => "empty",
            Kind::Partial => "partial",
            _ => "done",
        };
        assert_eq!(run.status(NAME), status, "{:#}", run.report);
        let videos: Vec<PathBuf> = match self.expected.len() {
            0 => Vec::new(),
            1 => vec![self.scene.outputs().join(named(".mp4"))],
            parts => (1..=parts).map(|n| self.scene.outputs().join(format!("{NAME}-part{n}.mp4"))).collect(),
        };
        let told = run.export(NAME)["output"].as_array().expect("its videos");
        assert!(self.expected.is_empty() || told.len() == videos.len(), "{told:?}");
        for (video, fragments) in videos.iter().zip(&self.expected) {
            let frames: Vec<Frame> = oracle::frames(video);
            let expected = truth::frames(fragments, Timeline::Compact);
            let difference = Difference::between(&frames, &expected, NAME);
            assert!(difference.is_none(), "{:?}: {}: {difference}", self.kind, video.display());
        }
        if !videos.is_empty() {
            self.scene.check_sums(NAME);
        }
    }

    /// Nothing but the job file, the state and what the export leaves.
    #[track_caller]
    fn assert_no_stray_file(&self) {
        let mut names = self.output_names();
        if self.kind == Kind::Masters {
            names.insert(named(".chunks"));
        }
        assert_eq!(names_in(&self.scene.outputs()), names, "{:?}", self.kind);
        assert_eq!(names_in(&self.scene.work()), BTreeSet::new(), "{:?}", self.kind);
        let mut top = names_in(self.scene.folder());
        // This test's own look into the state file leaves its log there.
        top.retain(|name| !name.starts_with("state.db-"));
        let expected = ["chunks", "jobs.toml", "out", "state.db", "state.db.lock"].map(str::to_owned);
        assert_eq!(top, expected.into(), "{:?}", self.kind);
    }

    /// What has a final name is whole and known by its hash; who sees the last video can rely on everything.
    #[track_caller]
    fn assert_nothing_half_made(&self) {
        let records = Records::read(&self.scene);
        let found = contents(&self.scene.outputs());
        for (path, content) in &found {
            let masters = path.starts_with(named(".chunks"));
            let known = if masters {
                records.fetched.values().any(|(size, hash)| is(content, *size, hash))
            } else {
                records.outputs.get(path).is_some_and(|(size, hash)| is(content, *size, hash))
            };
            assert!(known, "{:?}: {} is not what is recorded", self.kind, path.display());
        }
        if found.keys().any(|path| is_video(path) && !path.starts_with(named(".chunks"))) {
            for sidecar in records.outputs.keys().filter(|path| !is_video(path)) {
                assert!(found.contains_key(sidecar), "a video before {}", sidecar.display());
            }
        }
        if records.is_final() {
            assert!(
                records.outputs.keys().all(|path| found.contains_key(path)),
                "final, and something lacks"
            );
        } else {
            let damaged = self.damaged.borrow();
            let damaged = damaged.as_ref().map(|(file, _)| file);
            for (file, (size, hash)) in records.fetched.iter().filter(|(file, _)| damaged != Some(file)) {
                let content = fs::read(self.scene.work().join(file)).unwrap_or_default();
                assert!(is(&content, *size, hash), "{} is recorded and not there (I2)", file.display());
            }
        }
        assert_eq!(records.counted, records.counters, "counters (I9)");
    }

    /// What was recorded as fetched or split before a run is not asked for in it, nor anything twice.
    #[track_caller]
    fn assert_nothing_requested_again(&self, records: &Records, before: usize) {
        let log = self.scene.log();
        let log = &log[before..];
        let damaged = self.damaged.borrow().as_ref().map(|(_, bounds)| *bounds);
        let mut asked = BTreeSet::new();
        for clip in log.iter().filter(|record| record.api == Api::GetClip) {
            // A request that the kill cut short asks for nothing yet.
            let Some(range) = clip.selector else { continue };
            let bounds = (range.start.get(), range.end.get());
            let settled = records.settled.contains(&bounds) && damaged != Some(bounds);
            assert!(!settled, "{bounds:?} was recorded and is requested again");
            // A split is asked for in other bounds; nothing here is retried.
            assert!(asked.insert(bounds), "{bounds:?} is requested twice in one run");
        }
        let listings = log.iter().filter(|record| record.api == Api::ListFragments && !record.continued);
        // An empty range is asked for by the other clock as well.
        if self.kind != Kind::Empty {
            assert!(listings.count() <= records.unplanned, "a planned window is listed again");
        }
    }

    /// Does damage, and forgets what was recorded of it.
    pub(crate) fn damage(&self, damage: Damage) {
        let chunk = || {
            let records = Records::read(&self.scene);
            let (file, _) = records.fetched.iter().nth(records.fetched.len() / 2).expect("a chunk");
            let chunk = (file.clone(), records.requests[file]);
            self.damaged.replace(Some(chunk));
            self.scene.work().join(file)
        };
        match damage {
            Damage::None => {}
            Damage::ChunkDeleted => fs::remove_file(chunk()).expect("removed"),
            Damage::ChunkCut => {
                let file = fs::OpenOptions::new().write(true).open(chunk()).expect("opened");
                file.set_len(file.metadata().expect("told").len() - 1).expect("cut");
            }
            Damage::ChunkAltered => {
                let chunk = chunk();
                let mut bytes = fs::read(&chunk).expect("read");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&chunk, bytes).expect("written");
            }
            Damage::VideoDeleted => {
                let mut videos = Vec::new();
                for folder in fs::read_dir(self.scene.outputs()).expect("listed").flatten() {
                    videos.push(folder.path());
                    videos.push(folder.path().join(named(".mp4")));
                }
                videos.retain(|path| path.file_name().is_some_and(|name| name == &*named(".mp4")));
                assert_eq!(videos.iter().filter(|path| fs::remove_file(path).is_ok()).count(), 1);
            }
        }
    }
}

/// What the state file says.
#[derive(Debug, Default)]
struct Records {
    state: Option<String>,
    /// Windows that are not planned; as many as there are, if there is no export yet.
    unplanned: usize,
    /// Requests of chunks that were fetched or split.
    settled: BTreeSet<Bounds>,
    /// Requests of fetched chunks, by the path of their file.
    requests: BTreeMap<PathBuf, Bounds>,
    /// Size and hash of the files of fetched chunks, by their path below the work folder.
    fetched: BTreeMap<PathBuf, (u64, Vec<u8>)>,
    /// Size and hash of outputs, by their path below the folder of outputs.
    outputs: BTreeMap<PathBuf, (u64, Vec<u8>)>,
    /// Chunks by state, as counted now and as the counters say.
    counted: BTreeMap<String, i64>,
    counters: BTreeMap<String, i64>,
}

impl Records {
    fn read(scene: &Scene) -> Self {
        let mut records = Self { unplanned: 2, ..Self::default() };
        if !scene.state().exists() {
            return records;
        }
        let state = Connection::open_with_flags(scene.state(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let state = state.expect("opened");
        let each = |query: &str, take: &mut dyn FnMut(&rusqlite::Row<'_>)| {
            let mut statement = state.prepare(query).expect("a query");
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                take(row);
            }
        };
        each("select state from export", &mut |row| records.state = value(row, 0));
        if records.state.is_some() {
            each("select count(*) from window where listed_at_ms is null", &mut |row| {
                records.unplanned = value::<u32>(row, 0) as usize;
            });
        }
        let settled =
            "select request_start_ms, request_end_ms from chunk where state in ('fetched', 'split')";
        each(settled, &mut |row| {
            records.settled.insert((value(row, 0), value(row, 1)));
        });
        let fetched = "
            select export_id, id, size_bytes, sha256, request_start_ms, request_end_ms
            from chunk where state = 'fetched'";
        each(fetched, &mut |row| {
            let file = PathBuf::from(format!("{}/{}.mp4", value::<String>(row, 0), ChunkId(value(row, 1))));
            records.requests.insert(file.clone(), (value(row, 4), value(row, 5)));
            records.fetched.insert(file, (size(row, 2), value(row, 3)));
        });
        each("select path, size_bytes, sha256 from output", &mut |row| {
            let path = PathBuf::from(value::<String>(row, 0));
            let name = path.file_name().expect("a name");
            records.outputs.insert(name.into(), (size(row, 1), value(row, 2)));
        });
        each("select state, count(*) from chunk group by state", &mut |row| {
            records.counted.insert(value(row, 0), value(row, 1));
        });
        each("select state, chunks from chunk_count where chunks > 0", &mut |row| {
            records.counters.insert(value(row, 0), value(row, 1));
        });
        records
    }

    fn is_final(&self) -> bool {
        self.state.as_deref().is_some_and(|state| ["done", "partial", "empty"].contains(&state))
    }
}

fn value<T: rusqlite::types::FromSql>(row: &rusqlite::Row<'_>, column: usize) -> T {
    row.get(column).expect("a value")
}

fn size(row: &rusqlite::Row<'_>, column: usize) -> u64 {
    u64::try_from(value::<i64>(row, column)).expect("not negative")
}

/// `gate` with an ending.
pub(crate) fn named(end: &str) -> String {
    format!("{NAME}{end}")
}

/// Whether that is the name of a video.
pub(crate) fn is_video(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "mp4")
}

fn is(content: &[u8], size: u64, sha256: &[u8]) -> bool {
    content.len() as u64 == size && Sha256::digest(content).as_slice() == sha256
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The files below a folder that are not in a fresh folder, by their path below it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names_in(folder).iter().filter(|name| !name.starts_with(".kvs-export-")) {
        let path = folder.join(name);
        if path.is_dir() {
            let below = contents(&path).into_iter();
            found.extend(below.map(|(file, content)| (Path::new(name).join(file), content)));
        } else {
            found.insert(name.into(), fs::read(path).expect("read"));
        }
    }
    found
}
