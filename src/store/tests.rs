//! The store as its callers see it, and the file as the next version will find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::{Connection, named_params};

use super::*;
use crate::clock::SetClock;
use crate::model::spec::RangeAnchor;
use crate::model::*;

const NOW: UtcMillis = UtcMillis::new(1_711_100_000_000);
const FROM: i64 = 1_711_065_600_000;
const HOUR: i64 = 3_600_000;

pub(super) fn arn() -> StreamArn {
    StreamArn::parse("arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/1511852108513")
        .expect("valid")
}

pub(super) fn spec(job: &str) -> ExportSpec {
    ExportSpec {
        job: job.into(),
        stream: StreamSelector::Name("front-gate".into()),
        range: range(0, 2),
        range_text: RangeText {
            text: "yesterday 18:00 | today 06:00 | UTC".into(),
            anchor: RangeAnchor::Day,
        },
        timestamps: TimestampKind::Server,
        edges: Edges::Cover,
        chunk: Chunking::Auto,
        timeline: Timeline::Compact,
        gaps: GapPolicy::Accept,
        gap_tolerance: GapTolerance::Auto,
        settle_ms: 60_000,
        on_codec_change: OnCodecChange::Split,
        keep_chunks: false,
        output: "/exports/front-gate.mp4".into(),
        output_template: "exports/{stream}.mp4".into(),
        time_zone: Some("UTC".into()),
        case: None,
        operator: None,
        note: None,
        warnings: vec![],
    }
}

fn range(from_hour: i64, to_hour: i64) -> TimeRange {
    let at = |hour| UtcMillis::new(FROM + hour * HOUR);
    TimeRange::new(at(from_hour), at(to_hour)).expect("not empty")
}

fn fragment(index: u32) -> Fragment {
    Fragment {
        number: FragmentNumber::parse(&format!("9134385233318143239268206260774392014615{index:07}"))
            .expect("47"),
        producer: UtcMillis::new(FROM + i64::from(index) * 2000),
        server: UtcMillis::new(FROM + i64::from(index) * 2000 + 900),
        length_ms: 2000,
        size_bytes: 1000,
    }
}

fn new_chunk(first_fragment: u32, fragment_count: u32) -> NewChunk {
    let at = |index: u32| UtcMillis::new(FROM + i64::from(index) * 2000);
    NewChunk {
        first_fragment,
        fragment_count,
        bounds: RequestBounds { start: at(first_fragment), end: at(first_fragment + fragment_count) - 1 },
        planned_bytes: u64::from(fragment_count) * 1000,
    }
}

/// `chunks` chunks of five fragments each.
fn plan(chunks: u32) -> WindowPlan {
    WindowPlan {
        listed_at: NOW,
        fragments: (0..chunks * 5).map(fragment).collect(),
        dropped: vec![(fragment(9_999_999), "equal producer timestamp".into())],
        chunks: (0..chunks).map(|i| new_chunk(i * 5, 5)).collect(),
        media_ms: u64::from(chunks) * 10_000,
    }
}

fn digest(byte: u8) -> Sha256Digest {
    Sha256Digest([byte; 32])
}

fn refused(code: &str) -> ChunkError {
    ChunkError { code: code.into(), detail: "in a sentence".into() }
}

fn clock() -> Arc<SetClock> {
    Arc::new(SetClock::at(NOW))
}

/// A state file in a folder of its own.
struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state/jobs.db");
        let mut store = Store::open(&path, clock()).expect("opened");
        let run = NewRun { tool_version: "0.1.0".into(), job_file: None, job_file_sha256: None };
        store.begin_run(&run).expect("begun");
        Self { _folder: folder, path, store }
    }

    /// An export of two windows, both planned, in `fetching`.
    fn with_chunks(chunks: u32) -> (Self, ExportId, Vec<ChunkId>) {
        let mut bench = Self::new();
        let export = bench.insert("night");
        let mut ids = bench.store.store_window_plan(&export, 1, &plan(chunks)).expect("planned");
        ids.splice(0..0, bench.store.store_window_plan(&export, 0, &plan(chunks)).expect("planned"));
        bench.move_export(&export, ExportState::Planning, ExportEvent::Planned);
        (bench, export, ids)
    }

    fn insert(&mut self, job: &str) -> ExportId {
        let (stream, spec) = (arn(), spec(job));
        let windows = vec![range(0, 1), range(1, 2)];
        let new = NewExport { stream: &stream, spec: &spec, windows };
        self.store.insert_exports([new]).expect("inserted");
        ExportIdentity::of(&spec, &stream).id
    }

    fn fetch_all(&mut self, ids: &[ChunkId]) {
        for id in ids {
            self.fetch(*id);
        }
    }

    fn fetch(&mut self, id: ChunkId) {
        self.start(id);
        self.store.record_fetched(id, 1100, &digest(7)).expect("recorded");
    }

    fn start(&mut self, id: ChunkId) {
        self.store.move_chunk(id, ChunkState::Planned, ChunkEvent::Started).expect("taken");
    }

    fn move_export(&mut self, id: &ExportId, from: ExportState, event: ExportEvent) {
        self.store.move_export(id, from, event).expect("moved");
    }

    fn state(&self, id: &ExportId) -> ExportState {
        self.store.export(id).expect("read").expect("there").state
    }
}

fn outputs() -> Vec<ExpectedOutput> {
    let output = |role, part, path: &str, byte| ExpectedOutput {
        role,
        part,
        path: path.into(),
        size_bytes: 5,
        sha256: digest(byte),
    };
    vec![
        output(OutputRole::Video, 1, "/exports/a-part1.mp4", 1),
        output(OutputRole::Video, 2, "/exports/a-part2.mp4", 2),
        output(OutputRole::Manifest, 1, "/exports/a.manifest.json", 3),
        output(OutputRole::Checksum, 1, "/exports/a.sha256", 4),
    ]
}

fn finish(event: ExportEvent) -> Finish<'static> {
    Finish { event, manifest: None, warnings: &[], error: None }
}

// The file.

#[test]
fn a_new_state_file_is_whole_private_and_leaves_nothing_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let folder = bench.path.parent().expect("folder");
    assert_eq!(mode(&bench.path), 0o640);
    assert_eq!(mode(&bench.path.with_extension("db-wal")), 0o640);
    assert_eq!(mode(folder) & 0o027, 0, "not writable by the group, closed to others");
    let path = bench.path.clone();
    let Bench { _folder, store, .. } = bench;
    drop(store);
    let names: Vec<_> = std::fs::read_dir(path.parent().expect("folder")).expect("list").collect();
    assert_eq!(names.len(), 1, "{names:?}");
    Store::open(&path, clock()).expect("opens again");
}

/// What version 1 wrote. Never edit: a later migration must bring exactly this to its own form.
const VERSION_1_ROWS: &str = r#"
    insert into run (id, started_ms, ended_ms, pid, host, tool_version, job_file, job_file_sha256, outcome,
                     exit_code, error)
    values (1, 1000, 2000, 42, 'host', '0.1.0', '/jobs.toml', zeroblob(32), 'done', 0, null),
           (2, 3000, null, 43, 'host', '0.1.0', null, null, null, null, null);
    insert into export (id, content_id, resume_key, stream_arn, start_ms, end_ms, job, spec, output_path,
                        output_key, state, created_ms, updated_ms, finished_ms, run_id, error, warnings,
                        manifest_path, windows_total, windows_planned, fragments, planned_bytes, media_ms)
    values ('0123456789abcdef', 'c', 'r',
            'arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/1511852108513', 0, 7200000, 'night',
            '{"job":"night","stream":"front-gate","range":{"start":0,"end":7200000},
              "range_text":{"text":"t","anchor":"day"},"timestamps":"server","edges":"cover",
              "timeline":"compact","gaps":"accept","gap_tolerance":{"fixed":500},"settle_ms":60000,
              "on_codec_change":"split","keep_chunks":false,"output":"/a.mp4","output_template":"a.mp4",
              "time_zone":null,"case":null,"operator":null,"note":null,"warnings":[]}',
            '/a.mp4', '/a.mp4', 'fetching', 1000, 1500, null, 1, null, '["clock"]', null, 2, 1, 2, 1000, 4000);
    insert into window (export_id, seq, start_ms, end_ms, listed_at_ms, fragment_count, dropped_count,
                        chunk_count, planned_bytes, media_ms, fragments)
    values ('0123456789abcdef', 0, 0, 3600000, 1200, 2, 0, 1, 1000, 4000,
            x'01789c63d2b734343631b6303532363636b43034313632b63432b330323033323330373701f20c0c4dcc0c4d2d0dcd2c811c860ebe0bfc5f9849d466bc407e913c481f03004ba6194a'),
           ('0123456789abcdef', 1, 3600000, 7200000, null, 0, 0, 0, 0, 0, null);
    insert into chunk (id, export_id, window_seq, first_fragment, fragment_count, request_start_ms,
                       request_end_ms, planned_bytes, state, size_bytes, sha256, parent_id, error_code,
                       error_detail, attempts, request_id)
    values (1, '0123456789abcdef', 0, 0, 2, 0, 3999, 1000, 'split', null, null, null, null, null, 1, 'q1'),
           (2, '0123456789abcdef', 0, 0, 1, 0, 1999, 500, 'fetched', 550, zeroblob(32), 1, null, null, 1, 'q2'),
           (3, '0123456789abcdef', 0, 1, 1, 2000, 3999, 500, 'fetching', null, null, 1, null, null, 0, null);
    insert into attempt (run_id, export_id, chunk_id, api, started_ms, duration_ms, outcome, request_id, error,
                         bytes)
    values (1, '0123456789abcdef', 2, 'GetClip', 1300, 20, 'succeeded', 'q2', null, 550);
    insert into output (export_id, role, part, path, size_bytes, sha256)
    values ('0123456789abcdef', 'video', 1, '/a.mp4', 5, zeroblob(32));
"#;

/// What version 2 wrote beside that. Never edit.
const VERSION_2_ROWS: &str = "
    insert into listing (stream_arn, timestamps, start_ms, end_ms, listed_at_ms, used, fragments)
    select stream_arn, 'server', 3600000, 7200000, 7300000, 0, window.fragments
    from export join window on export_id = id where window.seq = 0;
";

/// What version 3 wrote beside that. Never edit.
const VERSION_3_ROWS: &str = "
    update export set former_amount = 2;
    insert into former_output (export_id, role, part, path, size_bytes, sha256)
    select export_id, role, part, path, size_bytes, sha256 from output;
";

/// A state file as an older version left it, with rows in every table that it had.
fn file_of_version(version: usize) -> (tempfile::TempDir, PathBuf) {
    const STEPS: [(&str, &str); 3] = [
        (include_str!("../../migrations/0001_begin.sql"), VERSION_1_ROWS),
        (include_str!("../../migrations/0002_listing.sql"), VERSION_2_ROWS),
        (include_str!("../../migrations/0003_redo.sql"), VERSION_3_ROWS),
    ];
    assert_eq!(STEPS.len(), usize::try_from(SCHEMA_VERSION).expect("small"), "every version has its rows");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("state.db");
    let connection = Connection::open(&path).expect("made");
    for (migration, _) in &STEPS[..version] {
        connection.execute_batch(migration).expect("the version's schema");
    }
    for (_, rows) in &STEPS[..version] {
        connection.execute_batch(rows).expect("rows");
    }
    connection.pragma_update(None, "user_version", i64::try_from(version).expect("small")).expect("version");
    (folder, path)
}

#[test]
fn a_file_of_every_version_opens_with_its_rows() {
    for version in [1, 2, 3] {
        let (_folder, path) = file_of_version(version);
        expect_rows_of_version_1(&path);
        let store = Store::open(&path, clock()).expect("opened");
        let key = ListingKey {
            stream: arn(),
            timestamps: TimestampKind::Server,
            window: TimeRange::new(UtcMillis::new(HOUR), UtcMillis::new(2 * HOUR)).expect("not empty"),
        };
        let kept = store.kept_listing(&key).expect("read");
        assert_eq!(kept.is_some(), version >= 2);
        let kept = kept.map(|kept| (kept.listed_at.get(), kept.fragments.unpack().expect("whole").len()));
        assert!(kept.is_none_or(|kept| kept == (7_300_000, 2)), "{kept:?}");
        let former = store.former(&ExportId("0123456789abcdef".into())).expect("read");
        let former = former.map(|former| (former.amount, former.outputs.len()));
        assert_eq!(former, (version >= 3).then_some((2, 1)));
    }
}

#[test]
fn a_kept_listing_comes_back_until_it_is_used_or_old() {
    let mut bench = Bench::new();
    let key = |hour, timestamps| ListingKey { stream: arn(), timestamps, window: range(hour, hour + 1) };
    let listing = |listed_at: i64, fragments: &[Fragment]| Listing {
        listed_at: NOW + listed_at,
        fragments: PackedFragments::pack(fragments).expect("packed"),
    };
    let fragments = [fragment(3), fragment(1), fragment(2)];
    let (server, producer) = (TimestampKind::Server, TimestampKind::Producer);
    let store = &mut bench.store;
    let first = (key(0, server), listing(0, &fragments));
    let both = [first.clone(), (key(1, server), listing(5, &[]))];
    store.keep_listings(&both).expect("kept");
    let kept = store.kept_listing(&first.0).expect("read").expect("there");
    assert_eq!(kept.fragments.unpack().expect("whole"), fragments, "in the order of the listing");
    assert_eq!(store.kept_listing(&key(0, producer)).expect("read"), None, "by the other clock");

    store.use_listing(&first.0).expect("marked");
    assert!(store.kept_listing(&first.0).expect("read").is_some(), "another export may want it");
    assert_eq!(store.drop_listings(NOW).expect("dropped"), 1);
    assert_eq!(store.kept_listing(&first.0).expect("read"), None);
    assert!(store.kept_listing(&both[1].0).expect("read").is_some());

    store.keep_listings(&[(key(1, server), listing(9, &fragments))]).expect("replaced");
    assert_eq!(store.kept_listing(&both[1].0).expect("read").map(|kept| kept.listed_at), Some(NOW + 9));
    assert_eq!(store.drop_listings(NOW + 9).expect("dropped"), 0);
    assert_eq!(store.drop_listings(NOW + 10).expect("dropped"), 1);
}

fn expect_rows_of_version_1(path: &Path) {
    let mut store = Store::open(path, clock()).expect("opened");
    assert_eq!(store.last_run().expect("read").map(|run| (run.id, run.ended)), Some((RunId(2), None)));
    let recovery = store.recover().expect("recovered");
    assert_eq!((recovery.interrupted_runs, recovery.interrupted_chunks), (1, 1));
    let export = store.exports(0, 10).expect("read").remove(0);
    assert_eq!((export.state, export.spec.gap_tolerance), (ExportState::Fetching, GapTolerance::Fixed(500)));
    assert_eq!(export.warnings, ["clock"]);
    let id = export.identity.id;
    let (fragments, dropped) = store.window_fragments(&id, 0).expect("unpacked");
    let second = &fragments[1];
    assert_eq!((second.producer.get(), second.server.get(), second.size_bytes), (2000, 2901, 500));
    assert!(second.number.as_str().ends_with("159169393") && fragments.len() == 2 && dropped.is_empty());
    assert_eq!(store.windows(&id).expect("read").len(), 2);
    let leaves: Vec<_> = store.leaf_chunks(&id).map(|chunk| chunk.expect("read").state).collect();
    assert_eq!(leaves, [ChunkState::Fetched, ChunkState::Planned]);
    assert_eq!(store.chunk_counts(&id).expect("read").leaves().chunks, 2);
    assert_eq!(store.attempts(ChunkId(2)).expect("read").len(), 1);
    assert_eq!(store.outputs(&id).expect("read").len(), 1);
}

/// The file must be refused and its folder stay byte for byte as it was.
fn assert_refused_untouched(path: &Path, is_right: fn(&StoreError) -> bool) {
    let content = |path: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(path.parent().expect("folder")).expect("list");
        let paths = files.map(|file| file.expect("entry").path()).filter(|path| path.is_file());
        paths.map(|path| (path.clone(), std::fs::read(&path).expect("read"))).collect()
    };
    let before = content(path);
    for result in [Store::open(path, clock()), Store::open_read_only(path, clock())] {
        let error = result.expect_err("refused");
        assert!(is_right(&error), "{error:?}");
    }
    assert_eq!(content(path), before);
}

#[test]
fn a_newer_version_is_refused_and_untouched() {
    let Bench { _folder, path, store } = Bench::new();
    drop(store);
    let connection = Connection::open(&path).expect("opened");
    connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).expect("set");
    drop(connection);
    assert_refused_untouched(&path, |error| matches!(error, StoreError::Newer { found: 4, known: 3, .. }));
}

#[test]
fn a_foreign_file_is_refused_and_untouched() {
    let is_foreign = |error: &StoreError| matches!(error, StoreError::Foreign { .. });
    let folder = tempfile::tempdir().expect("folder");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database").expect("written");
    assert_refused_untouched(&text, is_foreign);

    let database = folder.path().join("other.db");
    let connection = Connection::open(&database).expect("made");
    connection.execute_batch("create table theirs (a); insert into theirs values (1)").expect("filled");
    drop(connection);
    assert_refused_untouched(&database, is_foreign);
    let inner = folder.path().join("folder.db");
    std::fs::create_dir(&inner).expect("made");
    assert_refused_untouched(&inner, is_foreign);
}

#[test]
fn an_empty_file_becomes_a_state_file_and_a_missing_one_is_not_made_by_a_reader() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("state.db");
    let missing = Store::open_read_only(&path, clock()).expect_err("missing");
    assert!(matches!(missing, StoreError::Missing { .. }));
    assert!(!path.exists());
    std::fs::write(&path, "").expect("touched");
    Store::open(&path, clock()).expect("made");
}

#[test]
fn a_reader_sees_what_is_committed_while_a_run_writes() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    let reader = Store::open_read_only(&bench.path, clock()).expect("opened");
    let fetched =
        |store: &Store| store.chunk_counts(&export).expect("read").in_state(ChunkState::Fetched).chunks;
    assert_eq!(fetched(&reader), 0);
    bench.fetch(ids[0]);
    assert_eq!(fetched(&reader), 1);
}

#[test]
fn a_transaction_that_fails_midway_leaves_nothing() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    bench.start(ids[0]);
    let before = bench.store.chunk_counts(&export).expect("read");
    let result = bench.store.write(|transaction| {
        transaction
            .execute("update chunk set state = 'split' where state = 'fetching'", [])
            .expect("written");
        Err::<(), _>(StoreError::NoRun)
    });
    assert!(matches!(result, Err(StoreError::NoRun)));
    assert_eq!(bench.store.chunk_counts(&export).expect("read"), before);
}

#[test]
fn a_process_that_dies_keeps_what_it_committed_and_nothing_else() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    bench.fetch(ids[0]);
    let transaction = bench.store.connection.transaction().expect("begun");
    transaction.execute("delete from chunk", []).expect("deleted");
    // As the disk is now: the log's frames of an open transaction may be there, their commit is not.
    let copy = tempfile::tempdir().expect("folder");
    let path = copy.path().join("jobs.db");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(&bench.path), name(&path)).expect("copied");
    }
    drop(transaction);
    let mut store = Store::open(&path, clock()).expect("opened");
    assert_eq!(store.recover().expect("recovered").interrupted_chunks, 0);
    let counts = store.chunk_counts(&export).expect("read");
    assert_eq!((counts.in_state(ChunkState::Fetched).chunks, counts.leaves().chunks), (1, 4));
}

// Runs.

#[test]
fn a_run_is_recorded_from_its_begin_to_its_end() {
    let mut bench = Bench::new();
    let run = NewRun {
        tool_version: "0.1.0".into(),
        job_file: Some("/jobs.toml".into()),
        job_file_sha256: Some(digest(9)),
    };
    let id = bench.store.begin_run(&run).expect("begun");
    bench.store.end_run(id, "failed", 1, Some("why")).expect("ended");
    let last = bench.store.last_run().expect("read").expect("there");
    assert_eq!((last.id, last.started, last.ended), (id, NOW, Some(NOW)));
    assert_eq!((last.job_file, last.job_file_sha256), (run.job_file, run.job_file_sha256));
    assert_eq!(
        (last.outcome.as_deref(), last.exit_code, last.error.as_deref()),
        (Some("failed"), Some(1), Some("why"))
    );
    assert_eq!(last.pid, std::process::id());
    assert!(matches!(bench.store.end_run(id, "done", 0, None), Err(StoreError::Conflict { .. })));
}

// Exports.

#[test]
fn an_export_is_found_by_each_of_its_hashes() {
    let mut bench = Bench::new();
    let id = bench.insert("night");
    let (stream, specs) = (arn(), [ExportSpec { range: range(1, 2), ..spec("night") }, spec("renamed")]);
    let new = specs.iter().map(|spec| NewExport { stream: &stream, spec, windows: Vec::new() });
    let again = bench.store.insert_exports(new);
    assert_eq!(bench.store.exports(0, 9).expect("read").len(), 1, "all of them are begun, or none");
    assert!(
        matches!(again, Err(StoreError::ExportExists(same)) if same == id),
        "the job's name is no identity"
    );

    let record = bench.store.export(&id).expect("read").expect("there");
    assert_eq!((record.spec.clone(), record.stream_arn.clone()), (spec("night"), arn()));
    assert_eq!((record.state, record.created, record.totals.windows), (ExportState::Planning, NOW, 2));
    let of_text = bench.store.unfinished_with_resume_key(&record.identity.resume_key).expect("read");
    assert_eq!(of_text, std::slice::from_ref(&record));
    let unfinished =
        UnfinishedExport { id: id.clone(), stream: arn(), job: "night".into(), superseded: false };
    assert_eq!(bench.store.unfinished().expect("read"), [unfinished]);
    let collisions = bench.store.exports_with_output_key(&output_key(Path::new("/EXPORTS/front-gate.MP4")));
    assert_eq!(collisions.expect("read").len(), 1);
    assert_eq!(bench.store.done_with_content(&record.identity.content_id).expect("read"), None);
    assert_eq!(bench.store.exports(record.seq, 10).expect("read"), []);

    bench.move_export(&id, ExportState::Planning, ExportEvent::GaveUp);
    assert_eq!(bench.store.unfinished().expect("read").len(), 1, "failed is not finished");
    bench.store.set_superseded(&id, true).expect("marked");
    assert!(bench.store.export(&id).expect("read").expect("there").superseded);
    bench.store.update_spec(&spec("renamed"), &arn()).expect("renewed");
    assert_eq!(bench.store.export(&id).expect("read").expect("there").spec.job, "renamed");
    let nowhere = ExportId("ffffffffffffffff".into());
    assert!(matches!(bench.store.set_superseded(&nowhere, true), Err(StoreError::NoExport(_))));
}

#[test]
fn a_finished_export_is_found_by_its_content_wherever_its_file_should_be() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    bench.fetch_all(&ids);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.set_outputs(&export, &outputs()).expect("stored");
    bench.store.set_outputs(&export, &outputs()).expect("stored again");
    assert_eq!(bench.store.outputs(&export).expect("read"), outputs());
    let finish = Finish {
        event: ExportEvent::Completed,
        manifest: Some(Path::new("/exports/a.manifest.json")),
        warnings: &["clock".into()],
        error: None,
    };
    bench.store.finish_export(&export, ExportState::Merging, &finish).expect("finished");

    let mut moved = spec("night");
    moved.output = "/elsewhere.mp4".into();
    let moved = ExportIdentity::of(&moved, &arn());
    let found = bench.store.done_with_content(&moved.content_id).expect("read").expect("found");
    assert!(found.identity.id == export && moved.id != export);
    assert_eq!((found.state, found.finished), (ExportState::Done, Some(NOW)));
    assert_eq!((found.warnings.len(), found.manifest), (1, finish.manifest.map(Into::into)));
    assert_eq!(bench.store.unfinished().expect("read"), []);
    assert!(matches!(bench.store.set_outputs(&export, &[]), Err(StoreError::Conflict { .. })), "final");
}

#[test]
fn the_durable_steps_leave_the_connection_as_it_was() {
    let (mut bench, export, _) = Bench::with_chunks(1);
    let level = |store: &Store| -> i64 {
        store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("read")
    };
    assert_eq!(level(&bench.store), 1, "NORMAL");
    bench.store.finish_export(&export, ExportState::Fetching, &finish(ExportEvent::GaveUp)).expect("failed");
    assert_eq!(level(&bench.store), 1);
    let conflict = bench.store.finish_export(&export, ExportState::Fetching, &finish(ExportEvent::GaveUp));
    assert!(conflict.is_err());
    assert_eq!(level(&bench.store), 1);
    let during = bench.store.write_durably(|transaction| {
        Ok(transaction.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).expect("read"))
    });
    assert_eq!(during.expect("written"), 2, "FULL");
}

#[test]
fn an_export_moves_only_from_the_state_it_is_in() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let result = bench.store.move_export(&export, ExportState::Fetching, ExportEvent::GaveUp);
    let Err(StoreError::Conflict { expected: "fetching", found, .. }) = result else { panic!("{result:?}") };
    assert_eq!((found.as_str(), bench.state(&export)), ("planning", ExportState::Planning));
}

#[test]
fn every_step_that_is_not_in_the_diagrams_is_refused() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    let events = [
        ExportEvent::Planned,
        ExportEvent::MergeStarted,
        ExportEvent::Completed,
        ExportEvent::CompletedPartly,
        ExportEvent::FoundEmpty,
        ExportEvent::GaveUp,
        ExportEvent::Interrupted,
        ExportEvent::Reopened,
        ExportEvent::ReopenedToPlan,
        ExportEvent::Redone,
    ];
    for (state, event) in ExportState::ALL.into_iter().flat_map(|state| events.map(|event| (state, event))) {
        if state.after(event).is_none() {
            let result = bench.store.move_export(&export, state, event);
            assert!(matches!(result, Err(StoreError::IllegalExportEvent { .. })), "{state:?} {event:?}");
        }
    }
    let events = [
        ChunkEvent::Started,
        ChunkEvent::Fetched,
        ChunkEvent::FoundEmpty,
        ChunkEvent::Refused,
        ChunkEvent::Expired,
        ChunkEvent::GaveUp,
        ChunkEvent::Split,
        ChunkEvent::Interrupted,
        ChunkEvent::Lost,
        ChunkEvent::Reopened,
    ];
    for (state, event) in ChunkState::ALL.into_iter().flat_map(|state| events.map(|event| (state, event))) {
        let result = bench.store.move_chunk(ids[0], state, event);
        match state.after(event) {
            None => {
                assert!(matches!(result, Err(StoreError::IllegalChunkEvent { .. })), "{state:?} {event:?}");
            }
            Some(_) if state == ChunkState::Planned => {
                bench
                    .store
                    .move_chunk(ids[0], ChunkState::Fetching, ChunkEvent::Interrupted)
                    .expect("put back");
            }
            Some(_) => assert!(
                matches!(result, Err(StoreError::Conflict { .. } | StoreError::NeedsFacts { .. })),
                "{state:?} {event:?}"
            ),
        }
    }
    assert_eq!(bench.store.chunk(ids[0]).expect("read").state, ChunkState::Planned);
    let failure = bench.store.record_failure(ids[0], ChunkEvent::Fetched, &refused("x"));
    assert!(matches!(failure, Err(StoreError::IllegalChunkEvent { .. })));
}

#[test]
fn no_merge_begins_while_something_is_outstanding() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    bench.store.store_window_plan(&export, 0, &plan(1)).expect("planned");
    let early = bench.store.move_export(&export, ExportState::Planning, ExportEvent::Planned);
    assert!(matches!(early, Err(StoreError::Outstanding { windows: 1, .. })), "{early:?}");
    bench.store.store_window_plan(&export, 1, &plan(1)).expect("planned");
    bench.move_export(&export, ExportState::Planning, ExportEvent::Planned);
    let early = bench.store.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    assert!(matches!(early, Err(StoreError::Outstanding { windows: 0, chunks: 2, .. })), "{early:?}");
}

// Windows and chunks.

#[test]
fn a_window_is_planned_once_and_keeps_its_fragments() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let missing = bench.store.window_fragments(&export, 0);
    assert!(matches!(missing, Err(StoreError::NoWindow { window: 0, .. })));
    let ids = bench.store.store_window_plan(&export, 0, &plan(3)).expect("planned");
    assert_eq!(ids.len(), 3);
    let (fragments, dropped) = bench.store.window_fragments(&export, 0).expect("read");
    assert_eq!((fragments, dropped), (plan(3).fragments, plan(3).dropped));
    let again = bench.store.store_window_plan(&export, 0, &plan(1));
    assert!(matches!(again, Err(StoreError::AlreadyPlanned { window: 0, .. })));
    assert!(matches!(bench.store.store_window_plan(&export, 2, &plan(1)), Err(StoreError::NoWindow { .. })));

    let windows = bench.store.windows(&export).expect("read");
    assert_eq!((windows[0].listed_at, windows[0].range), (Some(NOW), range(0, 1)));
    assert_eq!((windows[0].fragments, windows[0].dropped, windows[0].chunks), (15, 1, 3));
    assert_eq!((windows[1].listed_at, windows[1].chunks), (None, 0));
    let totals = bench.store.export(&export).expect("read").expect("there").totals;
    let expected = ExportTotals {
        windows: 2,
        windows_planned: 1,
        fragments: 15,
        planned_bytes: 15_000,
        media_ms: 30_000,
    };
    assert_eq!(totals, expected);

    bench.store.store_window_plan(&export, 1, &plan(0)).expect("an hour without media");
    bench.move_export(&export, ExportState::Planning, ExportEvent::Planned);
    let late = bench.store.store_window_plan(&export, 1, &plan(0));
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

#[test]
fn a_plan_whose_chunks_do_not_cover_its_fragments_is_refused() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let bad: [&[NewChunk]; 6] = [
        &[],
        &[new_chunk(0, 4)],
        &[new_chunk(0, 5), new_chunk(4, 6)],
        &[new_chunk(0, 5), new_chunk(6, 4)],
        &[new_chunk(0, 10), new_chunk(10, 0)],
        &[new_chunk(0, 5), new_chunk(5, 6)],
    ];
    for chunks in bad {
        let result =
            bench.store.store_window_plan(&export, 0, &WindowPlan { chunks: chunks.to_vec(), ..plan(2) });
        assert!(matches!(result, Err(StoreError::DoesNotTile { .. })), "{chunks:?}");
    }
    assert_eq!(bench.store.chunks_to_fetch(&export, 10).expect("read"), []);
}

/// Fixed windows of the first hour, cut at these of its minutes.
fn fixed_windows(minutes: &[i64]) -> Vec<NewChunk> {
    let at = |minute: i64| UtcMillis::new(FROM + minute * 60_000);
    let window = |pair: &[i64]| NewChunk {
        first_fragment: u32::try_from(pair[0] + pair[1]).expect("a place"),
        fragment_count: 0,
        bounds: RequestBounds { start: at(pair[0]), end: at(pair[1]) - 1 },
        planned_bytes: 0,
    };
    minutes.windows(2).map(window).collect()
}

#[test]
fn fixed_windows_tile_their_time_and_halves_their_whole() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let mut reversed = fixed_windows(&[0, 20, 60]);
    reversed.reverse();
    let mut of_one_place = fixed_windows(&[0, 20, 60]);
    of_one_place[1].first_fragment = of_one_place[0].first_fragment;
    for bad in [
        fixed_windows(&[0, 59]),
        fixed_windows(&[1, 60]),
        fixed_windows(&[0, 61]),
        [fixed_windows(&[0, 20]), fixed_windows(&[21, 60])].concat(),
        [fixed_windows(&[0, 60]), fixed_windows(&[60, 61])].concat(),
        reversed,
        of_one_place,
    ] {
        let refused =
            bench.store.store_window_plan(&export, 0, &WindowPlan { chunks: bad.clone(), ..plan(0) });
        assert!(matches!(refused, Err(StoreError::DoesNotTileTime { .. })), "{bad:?}");
    }
    let whole = WindowPlan { chunks: fixed_windows(&[0, 20, 60]), ..plan(0) };
    let ids = bench.store.store_window_plan(&export, 0, &whole).expect("planned");
    bench.start(ids[0]);
    for bad in [fixed_windows(&[0, 20]), fixed_windows(&[0, 10, 19]), vec![new_chunk(0, 5), new_chunk(5, 5)]]
    {
        let refused = bench.store.split_chunk(ids[0], &bad);
        assert!(refused.is_err(), "{bad:?}");
    }
    let halves = bench.store.split_chunk(ids[0], &fixed_windows(&[0, 10, 20])).expect("halved");
    let leaves: Vec<_> = bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read").id).collect();
    assert_eq!(leaves, [halves[0], halves[1], ids[1]]);
}

#[test]
fn the_bytes_of_a_fixed_window_are_known_while_its_file_is_there() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let whole = WindowPlan { chunks: fixed_windows(&[0, 20, 60]), ..plan(0) };
    let ids = bench.store.store_window_plan(&export, 0, &whole).expect("planned");
    let bytes = |store: &Store| {
        let planned = store.export(&export).expect("read").expect("there").totals.planned_bytes;
        (planned, store.chunk_counts(&export).expect("read").leaves().planned_bytes)
    };
    assert_eq!(bytes(&bench.store), (0, 0));
    bench.fetch_all(&ids);
    assert_eq!(bytes(&bench.store), (2_200, 2_200));
    bench.store.lose_chunk(ids[0]).expect("lost");
    assert_eq!(bytes(&bench.store), (1_100, 1_100));
    bench.fetch(ids[0]);
    assert_eq!(bytes(&bench.store), (2_200, 2_200));
    // Those of a chunk that was listed do not change.
    let (bench, export, ids) = Bench::with_chunks(1);
    let before = bench.store.export(&export).expect("read").expect("there").totals.planned_bytes;
    let mut bench = bench;
    bench.fetch_all(&ids);
    assert_eq!(bench.store.export(&export).expect("read").expect("there").totals.planned_bytes, before);
}

#[test]
fn a_specification_without_the_way_of_cutting_is_of_an_export_that_was_listed() {
    let mut stored = serde_json::to_value(spec("night")).expect("JSON");
    assert_eq!(stored["chunk"], "auto");
    stored.as_object_mut().expect("an object").remove("chunk");
    assert_eq!(serde_json::from_value::<ExportSpec>(stored).expect("read"), spec("night"));
    let fixed = ExportSpec { chunk: Chunking::Fixed(180_000), ..spec("night") };
    let stored = serde_json::to_string(&fixed).expect("JSON");
    assert_eq!(serde_json::from_str::<ExportSpec>(&stored).expect("read"), fixed);
}

#[test]
fn chunks_wait_in_the_order_of_the_output() {
    let (mut bench, export, ids) = Bench::with_chunks(3);
    let waiting = |store: &Store, limit| -> Vec<ChunkId> {
        store.chunks_to_fetch(&export, limit).expect("read").iter().map(|chunk| chunk.id).collect()
    };
    assert_eq!(waiting(&bench.store, 10), ids, "window 1 was planned first, window 0 is fetched first");
    bench.fetch(ids[0]);
    bench.start(ids[2]);
    assert_eq!(waiting(&bench.store, 2), [ids[1], ids[3]]);
    let leaves: Vec<_> = bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read").id).collect();
    assert_eq!(leaves, ids);
}

#[test]
fn leaves_are_read_across_pages() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    let ids = bench.store.store_window_plan(&export, 0, &plan(1100)).expect("planned");
    let leaves: Vec<_> = bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read").id).collect();
    assert_eq!(leaves, ids);
}

#[test]
fn a_chunk_is_taken_once_and_recorded_with_its_facts() {
    let (mut bench, _, ids) = Bench::with_chunks(2);
    bench.start(ids[0]);
    let taken = bench.store.move_chunk(ids[0], ChunkState::Planned, ChunkEvent::Started);
    assert!(matches!(taken, Err(StoreError::Conflict { expected: "planned", .. })), "{taken:?}");
    bench.store.record_fetched(ids[0], 1234, &digest(1)).expect("recorded");
    assert_eq!(bench.store.chunk(ids[0]).expect("read").file, Some((1234, digest(1))));
    assert!(matches!(bench.store.record_fetched(ids[0], 1, &digest(2)), Err(StoreError::Conflict { .. })));
    assert!(matches!(bench.store.record_fetched(ids[1], 1, &digest(2)), Err(StoreError::Conflict { .. })));
    assert!(matches!(bench.store.record_fetched(ChunkId(999), 1, &digest(2)), Err(StoreError::NoChunk(_))));

    bench.start(ids[1]);
    bench.store.record_failure(ids[1], ChunkEvent::Refused, &refused("InvalidMedia")).expect("recorded");
    let chunk = bench.store.chunk(ids[1]).expect("read");
    assert_eq!((chunk.state, chunk.error), (ChunkState::Rejected, Some(refused("InvalidMedia"))));
}

#[test]
fn a_split_covers_its_parent_exactly_or_changes_nothing() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    let parent = ids[1];
    let planned = bench.store.split_chunk(parent, &[new_chunk(5, 2), new_chunk(7, 3)]);
    assert!(matches!(planned, Err(StoreError::Conflict { .. })), "not in hand");
    bench.start(parent);
    let bad: [&[NewChunk]; 5] = [
        &[],
        &[new_chunk(5, 5)],
        &[new_chunk(5, 2), new_chunk(8, 2)],
        &[new_chunk(0, 2), new_chunk(2, 3)],
        &[new_chunk(5, 2), new_chunk(7, 4)],
    ];
    for children in bad {
        let result = bench.store.split_chunk(parent, children);
        assert!(matches!(result, Err(StoreError::DoesNotTile { .. })), "{children:?}");
    }
    assert_eq!(bench.store.chunk(parent).expect("read").state, ChunkState::Fetching);

    let children = bench.store.split_chunk(parent, &[new_chunk(5, 2), new_chunk(7, 3)]).expect("split");
    assert_eq!(bench.store.chunk(parent).expect("read").state, ChunkState::Split);
    assert_eq!(bench.store.chunk(children[1]).expect("read").parent, Some(parent));
    let leaves: Vec<_> = bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read").id).collect();
    assert_eq!(leaves, [ids[0], children[0], children[1], ids[2], ids[3]]);
    let counts = bench.store.chunk_counts(&export).expect("read");
    assert_eq!((counts.leaves().chunks, counts.leaves().fragments), (5, 20));
}

#[test]
fn fetched_files_are_those_of_the_chunks_that_are_fetched_now() {
    let (mut bench, export, ids) = Bench::with_chunks(4);
    let files = |bench: &Bench| -> Vec<(ChunkId, u64)> {
        bench.store.fetched_files(&export).map(|file| file.expect("read")).collect()
    };
    assert_eq!(files(&bench), []);
    bench.fetch_all(&[ids[3], ids[0], ids[2]]);
    let size = |id| bench.store.chunk(id).expect("read").file.expect("a file").0;
    let expected = [ids[0], ids[2], ids[3]].map(|id| (id, size(id)));
    assert_eq!(files(&bench), expected, "in the order of the output");
    bench.store.lose_chunk(ids[2]).expect("lost");
    assert_eq!(files(&bench), [expected[0], expected[2]]);
}

#[test]
fn a_lost_chunk_takes_its_export_back_to_fetching() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    bench.fetch_all(&ids);
    bench.store.lose_chunk(ids[0]).expect("lost before the merge");
    assert_eq!(bench.state(&export), ExportState::Fetching);
    bench.fetch(ids[0]);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.lose_chunk(ids[0]).expect("lost in the merge");
    assert_eq!(bench.state(&export), ExportState::Fetching);
    let chunk = bench.store.chunk(ids[0]).expect("read");
    assert_eq!((chunk.state, chunk.file), (ChunkState::Planned, None));
    bench.fetch(ids[0]);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.finish_export(&export, ExportState::Merging, &finish(ExportEvent::Completed)).expect("done");
    assert!(bench.store.lose_chunk(ids[0]).is_err(), "a finished export is not touched");
    assert_eq!(bench.store.chunk(ids[0]).expect("read").state, ChunkState::Fetched);
}

#[test]
fn requests_are_kept_and_counted_but_throttles_cost_nothing() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    let record = |outcome, request_id: Option<&str>| AttemptRecord {
        export: export.clone(),
        chunk: Some(ids[0]),
        attempt: Attempt {
            api: "GetClip".into(),
            started: NOW,
            duration_ms: 12,
            outcome,
            request_id: request_id.map(Into::into),
            error: None,
            bytes: 5,
        },
    };
    let records = [
        record(AttemptOutcome::Throttled, Some("q1")),
        record(AttemptOutcome::Transient, None),
        record(AttemptOutcome::Succeeded, Some("q3")),
        AttemptRecord { chunk: None, ..record(AttemptOutcome::Succeeded, Some("list")) },
    ];
    bench.store.record_attempts(&records).expect("recorded");
    let chunk = bench.store.chunk(ids[0]).expect("read");
    assert_eq!((chunk.attempts, chunk.request_id.as_deref()), (2, Some("q3")));
    let kept = bench.store.attempts(ids[0]).expect("read");
    assert!(kept.iter().eq(records[..3].iter().map(|record| &record.attempt)), "{kept:?}");
    let mut idle = Store::open(&bench.path.with_extension("other"), clock()).expect("made");
    assert!(matches!(idle.record_attempts(&records), Err(StoreError::NoRun)));
}

// The file itself.

#[test]
#[cfg(target_os = "linux")]
fn a_state_file_is_written_by_one_also_when_its_lock_is_gone() {
    let bench = Bench::new();
    let second = Store::open(&bench.path, clock());
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    Store::open_read_only(&bench.path, clock()).expect("readers may");
    let Bench { store, path, _folder } = bench;
    drop(store);
    Store::open(&path, clock()).expect("it is free");
}

#[test]
fn a_state_file_without_its_name_takes_no_more_rows() {
    let mut bench = Bench::new();
    bench.store.recover().expect("it is in its place");
    let aside = bench.path.with_extension("aside");
    std::fs::rename(&bench.path, &aside).expect("renamed");
    let taken_away = |result: Result<Recovery, StoreError>| {
        let error = result.expect_err("its row would be lost");
        assert!(matches!(&error, StoreError::TakenAway { path } if *path == bench.path), "{error:?}");
    };
    taken_away(bench.store.recover());
    std::fs::copy(&aside, &bench.path).expect("copied");
    taken_away(bench.store.recover());
    std::fs::rename(&aside, &bench.path).expect("put back");
    bench.store.recover().expect("it is in its place");
}

// Recovery.

#[test]
fn recovery_returns_chunks_closes_runs_and_reports_merges() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    bench.start(ids[0]);
    bench.fetch(ids[1]);
    let recovery = bench.store.recover().expect("recovered");
    assert_eq!(recovery, Recovery { interrupted_runs: 1, interrupted_chunks: 1, merging: vec![] });
    let run = bench.store.last_run().expect("read").expect("there");
    assert_eq!((run.outcome.as_deref(), run.exit_code), (Some("interrupted"), None));
    assert_eq!(bench.store.recover().expect("recovered"), Recovery::default(), "nothing the second time");

    bench.fetch_all(&[ids[0], ids[2], ids[3]]);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    assert_eq!(bench.store.recover().expect("recovered").merging, std::slice::from_ref(&export));
    assert_eq!(bench.state(&export), ExportState::Merging, "the caller compares the files first");
}

#[test]
fn a_failed_export_is_reopened_with_its_failed_chunks_only() {
    let (mut bench, export, ids) = Bench::with_chunks(2);
    bench.fetch(ids[0]);
    for (id, event) in [(ids[1], ChunkEvent::GaveUp), (ids[2], ChunkEvent::Expired)] {
        bench.start(id);
        bench.store.record_failure(id, event, &refused("gone")).expect("recorded");
    }
    let finish = Finish { error: Some("why"), ..finish(ExportEvent::GaveUp) };
    bench.store.finish_export(&export, ExportState::Fetching, &finish).expect("failed");
    assert_eq!(bench.store.export(&export).expect("read").expect("there").error.as_deref(), Some("why"));

    assert_eq!(bench.store.reopen_failed(&export).expect("reopened"), ExportState::Fetching);
    let states = ids.iter().map(|id| bench.store.chunk(*id).expect("read").state).collect::<Vec<_>>();
    assert_eq!(states, [ChunkState::Fetched, ChunkState::Planned, ChunkState::Expired, ChunkState::Planned]);
    assert_eq!(bench.store.export(&export).expect("read").expect("there").error, None);
    assert!(matches!(bench.store.reopen_failed(&export), Err(StoreError::Conflict { .. })));
}

#[test]
fn an_export_that_failed_while_planned_is_reopened_to_plan() {
    let mut bench = Bench::new();
    let export = bench.insert("night");
    bench.move_export(&export, ExportState::Planning, ExportEvent::GaveUp);
    assert_eq!(bench.store.reopen_failed(&export).expect("reopened"), ExportState::Planning);
}

#[test]
fn a_redone_export_starts_from_nothing_but_its_requests() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    bench.start(ids[0]);
    let children = bench.store.split_chunk(ids[0], &[new_chunk(0, 2), new_chunk(2, 3)]).expect("split");
    bench.fetch_all(&[children[0], children[1], ids[1]]);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.set_outputs(&export, &outputs()).expect("stored");
    bench.store.finish_export(&export, ExportState::Merging, &finish(ExportEvent::Completed)).expect("done");

    let windows = [range(0, 2)];
    let redo = Redo { export: &export, from: ExportState::Done, amount: 5, windows: &windows };
    bench.store.redo_export(&redo).expect("redone");
    let former = Former { amount: 5, outputs: outputs() };
    assert_eq!(bench.store.former(&export).expect("read"), Some(former), "what stands is still known");
    assert_eq!(bench.state(&export), ExportState::Planning);
    assert_eq!(bench.store.windows(&export).expect("read").len(), 1);
    assert_eq!(bench.store.chunk_counts(&export).expect("read"), ChunkCounts::default());
    assert_eq!(bench.store.outputs(&export).expect("read"), []);
    bench.store.store_window_plan(&export, 0, &plan(2)).expect("planned anew");
}

#[test]
fn what_an_export_was_is_forgotten_when_it_is_finished_anew() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    bench.fetch_all(&ids);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.set_outputs(&export, &outputs()).expect("stored");
    bench.store.finish_export(&export, ExportState::Merging, &finish(ExportEvent::Completed)).expect("done");
    let windows = [range(0, 1)];
    let redo = Redo { export: &export, from: ExportState::Done, amount: 5, windows: &windows };
    bench.store.redo_export(&redo).expect("redone");
    bench.store.store_window_plan(&export, 0, &plan(1)).expect("planned anew");
    bench.move_export(&export, ExportState::Planning, ExportEvent::GaveUp);
    assert!(bench.store.former(&export).expect("read").is_some(), "failed is not finished");
    bench.store.reopen_failed(&export).expect("reopened");
    let chunks: Vec<ChunkId> =
        bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read").id).collect();
    bench.fetch_all(&chunks);
    bench.move_export(&export, ExportState::Fetching, ExportEvent::MergeStarted);
    bench.store.finish_export(&export, ExportState::Merging, &finish(ExportEvent::Completed)).expect("done");
    assert_eq!(bench.store.former(&export).expect("read"), None);
}

#[test]
fn only_finished_and_superseded_exports_are_forgotten_and_nothing_of_them_is_left() {
    let (mut bench, export, ids) = Bench::with_chunks(1);
    bench.start(ids[0]);
    let children = bench.store.split_chunk(ids[0], &[new_chunk(0, 2), new_chunk(2, 3)]).expect("split");
    bench.fetch_all(&[children[0]]);
    assert!(matches!(bench.store.forget_export(&export), Err(StoreError::Conflict { .. })));
    assert!(!bench.store.chunk_counts(&export).expect("read").tally().eq(&ChunkCounts::default().tally()));
    bench.store.set_superseded(&export, true).expect("marked");
    bench.store.lose_fetched(&export).expect("given up");
    assert_eq!(bench.store.chunk_counts(&export).expect("read").in_state(ChunkState::Fetched).chunks, 0);
    bench.store.forget_export(&export).expect("forgotten");
    for table in ["export", "window", "chunk", "chunk_count", "attempt", "output", "former_output"] {
        let count = format!("select count(*) from {table}");
        let left: i64 = bench.store.connection.query_row(&count, [], |row| row.get(0)).expect("counted");
        assert_eq!(left, 0, "{table}");
    }
}

#[test]
fn no_look_up_of_an_asked_export_reads_the_whole_table() {
    let bench = Bench::new();
    for condition in [
        "id = 'x'",
        "id >= 'x' and id < 'xg'",
        "content_id = 'x' and state in ('done', 'partial', 'empty') order by finished_ms desc, seq desc limit 1",
        "resume_key = 'x' and state in ('planning', 'fetching', 'merging', 'failed') order by seq",
        "output_key = 'x' order by seq",
        "state = 'failed' and superseded = 0 order by seq",
    ] {
        let explain = format!("explain query plan select * from export where {condition}");
        let mut plan = bench.store.connection.prepare(&explain).expect("valid");
        let steps: Vec<String> = plan
            .query_map([], |row| row.get("detail"))
            .expect("read")
            .collect::<Result<_, _>>()
            .expect("read");
        assert!(steps[0].starts_with("SEARCH export USING INDEX"), "{condition}: {steps:?}");
    }
}

// Counters.

/// What the counters must say, counted from the chunks themselves.
fn recount(store: &Store, export: &ExportId) -> Vec<(String, [i64; 4])> {
    const SELECT: &str = "
        select state, count(*), sum(fragment_count), sum(planned_bytes), sum(coalesce(size_bytes, 0))
        from chunk where export_id = :export group by state order by state";
    let mut select = store.connection.prepare(SELECT).expect("valid");
    let rows = select.query_map(named_params! { ":export": export }, |row| {
        Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]))
    });
    rows.expect("read").collect::<Result<_, _>>().expect("read")
}

fn counters(store: &Store, export: &ExportId) -> Vec<(String, [i64; 4])> {
    let counts = store.chunk_counts(export).expect("read");
    let mut rows: Vec<_> = ChunkState::ALL
        .into_iter()
        .map(|state| {
            let n = counts.in_state(state);
            let values = [n.chunks, n.fragments, n.planned_bytes, n.size_bytes];
            (state.as_str().to_owned(), values.map(|value| i64::try_from(value).expect("small")))
        })
        .filter(|(_, values)| values[0] > 0)
        .collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_the_counters_equal_a_recount_and_the_leaves_cover_every_fragment(
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..10_u8), 1..60),
    ) {
        let (mut bench, export, mut ids) = Bench::with_chunks(4);
        for (which, step) in steps {
            let id = *which.get(&ids);
            let chunk = bench.store.chunk(id).expect("read");
            let legal = |event| chunk.state.after(event).is_some();
            let (changed, expected) = match step {
                // Twice as likely, for the others need a chunk in hand.
                0..=2 => {
                    let result = bench.store.move_chunk(id, ChunkState::Planned, ChunkEvent::Started);
                    (result.is_ok(), legal(ChunkEvent::Started))
                }
                3 => (bench.store.record_fetched(id, 77, &digest(3)).is_ok(), legal(ChunkEvent::Fetched)),
                4 | 5 => {
                    let event = if step == 4 { ChunkEvent::GaveUp } else { ChunkEvent::Expired };
                    (bench.store.record_failure(id, event, &refused("x")).is_ok(), legal(event))
                }
                6 => {
                    let (first, count) = (chunk.planned.first_fragment, chunk.planned.fragment_count);
                    let halves = [new_chunk(first, count / 2), new_chunk(first + count / 2, count - count / 2)];
                    let result = bench.store.split_chunk(id, &halves);
                    let changed = result.is_ok();
                    ids.extend(result.unwrap_or_default());
                    (changed, legal(ChunkEvent::Split) && count > 1)
                }
                7 => (bench.store.lose_chunk(id).is_ok(), legal(ChunkEvent::Lost)),
                8 => {
                    let result = bench.store.move_chunk(id, ChunkState::Failed, ChunkEvent::Reopened);
                    (result.is_ok(), legal(ChunkEvent::Reopened))
                }
                _ => {
                    bench.store.recover().expect("recovered");
                    (true, true)
                }
            };
            prop_assert_eq!(changed, expected, "step {} on {:?}", step, chunk);
        }
        prop_assert_eq!(counters(&bench.store, &export), recount(&bench.store, &export));
        let covered: Vec<_> = bench.store.leaf_chunks(&export).map(|chunk| chunk.expect("read")).flat_map(|chunk| {
            let first = chunk.planned.first_fragment;
            (first..first + chunk.planned.fragment_count).map(move |index| (chunk.window_seq, index))
        }).collect();
        let all: Vec<_> = (0..2).flat_map(|window| (0..20).map(move |index| (window, index))).collect();
        prop_assert_eq!(covered, all);
    }
}
