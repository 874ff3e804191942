//! A `[[job]]` as written, and `[defaults]`, which has the same keys but the name.

use std::collections::HashSet;

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use crate::job::duration::Duration;
use crate::job::errors::{Located, Place, Refusal};
use crate::job::reader::{Entry, Keys, Table, not_yet, text, word, wrong_type};
use crate::job::schema;
use crate::job::template::Template;
use crate::job::time::{TimeExpression, Zone};
use crate::job::windows::{Days, Hours, Split};
use crate::model::{
    Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, StreamPattern, Timeline, TimestampKind,
};

pub(in crate::job) static JOB_KEYS: Keys = Keys {
    known: &[
        "name",
        "streams",
        "from",
        "to",
        "last",
        "ranges",
        "time_zone",
        "timestamps",
        "edges",
        "except",
        "allow_empty",
        "fetch",
        "chunk",
        "split",
        "daily",
        "days",
        "timeline",
        "gaps",
        "gap_tolerance",
        "settle",
        "output",
        "on_codec_change",
        "keep_chunks",
        "case",
        "operator",
        "note",
    ],
};
pub(in crate::job) static RANGE_KEYS: Keys = Keys { known: &["from", "to"] };

const STREAMS_ACCEPTED: &str =
    "a list of stream names, ARNs, or prefixes with a * at the end: [\"front-gate\", \"yard-*\"]";
const NAME_ACCEPTED: &str = "1 to 64 of a-z, A-Z, 0-9, '_', '.', '-', not only dots";
const CHUNK_ACCEPTED: &str = "\"auto\", or a length of time from \"1s\" to \"24h\" such as \"3m\"";
const RANGES_ACCEPTED: &str = "[{ from = …, to = … }, …]";

/// One end of a range.
pub(in crate::job) type RawTime = Entry<TimeExpression>;

/// One element of `ranges`; both ends are there.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::job) struct RawRange {
    /// The first instant inside.
    #[schemars(with = "TimeExpression")]
    pub(in crate::job) from: Located<TimeExpression>,
    /// The first instant after.
    #[schemars(with = "TimeExpression")]
    pub(in crate::job) to: Located<TimeExpression>,
}

/// What names streams, each with its place.
pub(in crate::job) type RawStreams = Vec<Located<StreamPattern>>;

/// What to export: every stream in every range, each to a video of its own.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(in crate::job) struct RawJob {
    #[schemars(skip)]
    pub(in crate::job) place: Place,
    /// Whether each of its values is right by itself.
    #[schemars(skip)]
    pub(in crate::job) sound: bool,
    /// The job's name, unique in the file.
    #[schemars(extend("title" = "name", "pattern" = schema::NAME, "examples" = ["nightly-evidence"]))]
    pub(in crate::job) name: Entry<String>,
    /// The streams to export: names, ARNs, or a prefix with `*` at its end, which takes all streams whose names begin so.
    #[schemars(extend(
        "title" = "list of streams",
        "minItems" = 1,
        "uniqueItems" = true,
        "examples" = [["front-gate", "yard-*"]]
    ))]
    pub(in crate::job) streams: Entry<RawStreams>,
    /// The first instant of the range [from, to): a date-time with an offset, a local one (which takes `time_zone`), or text:
    /// `now`, `today`, `yesterday 18:00`, `2024-03-01 18:00`, `-90m`, `-2d`.
    #[schemars(extend("examples" = ["yesterday 18:00", "2024-03-01T00:00:00"]))]
    pub(in crate::job) from: RawTime,
    /// The first instant after the range, in the same forms. One that counts from today may lie ahead: the range is left for a
    /// later run then.
    #[schemars(extend("examples" = ["today 06:00", "2024-04-01T00:00:00"]))]
    pub(in crate::job) to: RawTime,
    /// A range so long up to the start of the current minute, instead of `from` and `to`.
    #[schemars(extend("examples" = ["24h"]))]
    pub(in crate::job) last: Entry<Duration>,
    /// Several ranges, instead of `from` and `to`.
    #[schemars(extend(
        "title" = "list of ranges",
        "minItems" = 1,
        "examples" = [[{ "from": "2025-03-02 21:10", "to": "2025-03-02 21:25" }]]
    ))]
    pub(in crate::job) ranges: Entry<Vec<RawRange>>,
    /// The zone of local times, of windows and of the times in the output's name (which are UTC without it): an IANA name or
    /// `UTC`. Local times need one.
    #[schemars(extend("examples" = ["America/Los_Angeles"]))]
    pub(in crate::job) time_zone: Entry<Zone>,
    /// The clock that selects and orders: `server` is AWS's, at ingestion, `producer` the camera's.
    #[schemars(extend("default" = "server"))]
    pub(in crate::job) timestamps: Entry<TimestampKind>,
    /// `cover` also takes the fragment that began before `from` and reaches into the range; `inside` does not.
    #[schemars(extend("default" = "cover"))]
    pub(in crate::job) edges: Entry<Edges>,
    /// Streams that a prefix in `streams` must not take: names, ARNs, or prefixes.
    #[schemars(extend("title" = "list of streams", "uniqueItems" = true, "default" = [], "examples" = [["yard-test-*"]]))]
    pub(in crate::job) except: Entry<RawStreams>,
    /// Whether a prefix in `streams` may match no stream.
    #[schemars(extend("default" = false))]
    pub(in crate::job) allow_empty: Entry<bool>,
    /// How the media is fetched. This version knows only this.
    #[schemars(with = "String", extend("enum" = ["clip"], "default" = "clip"))]
    pub(in crate::job) fetch: Entry<()>,
    /// How the range is cut into requests: `auto` asks the archive for its list of fragments first; a length of time from `1s`
    /// to `24h` makes windows of it and needs no permission to list, but `edges = "inside"` and `timeline = "compact"`.
    #[schemars(extend("default" = "auto", "examples" = ["3m"]))]
    pub(in crate::job) chunk: Entry<Chunking>,
    /// One export an hour, local day or ISO week: `"1h"`, `"1d"`, `"1w"`. Cuts stand where these begin in `time_zone`; the
    /// first and the last window end with the range. With `daily` it may only cut a window smaller.
    #[schemars(extend("examples" = ["1d"]))]
    pub(in crate::job) split: Entry<Split>,
    /// A window of each day, `"18:00-06:00"`, over midnight too: each is one export, clipped to the range.
    #[schemars(extend("examples" = ["18:00-06:00"]))]
    pub(in crate::job) daily: Entry<Hours>,
    /// The local days on which a daily window begins, `["mon", "tue"]`; every day unless said. Needs `daily`.
    #[schemars(extend("examples" = [["mon", "tue"]]))]
    pub(in crate::job) days: Entry<Days>,
    /// `compact` closes gaps in the output; `wallclock` keeps them, so that file time is wall time.
    #[schemars(extend("default" = "compact"))]
    pub(in crate::job) timeline: Entry<Timeline>,
    /// Whether a gap, or no media at all, is noted in the manifest (`accept`) or fails the export (`fail`).
    #[schemars(extend("default" = "accept"))]
    pub(in crate::job) gaps: Entry<GapPolicy>,
    /// How much time between two fragments is still no gap; `auto` goes by the fragments' usual length.
    #[schemars(extend("default" = "auto", "examples" = ["500ms"]))]
    pub(in crate::job) gap_tolerance: Entry<GapTolerance>,
    /// How long after `to` to wait for fragments that are still on their way.
    #[schemars(with = "Duration", rename = "settle", extend("default" = "60s"))]
    pub(in crate::job) settle_ms: Entry<u64>,
    /// Where the output goes: `{job}` `{stream}` `{from}` `{to}` `{case}`, the times with a strftime format after a colon, in
    /// `time_zone`. It ends in `.mp4` and never leaves the folder that it names.
    #[schemars(extend("default" = Template::DEFAULT, "examples" = ["exports/{stream}_{from:%Y-%m-%d}.mp4"]))]
    pub(in crate::job) output: Entry<Template>,
    /// When the codec changes within a range: `split` begins a new part (`-part1`, `-part2`, …), `fail` is an error.
    #[schemars(extend("default" = "split"))]
    pub(in crate::job) on_codec_change: Entry<OnCodecChange>,
    /// Whether the fetched chunks are kept beside the output.
    #[schemars(extend("default" = false))]
    pub(in crate::job) keep_chunks: Entry<bool>,
    /// The case reference, for the manifest and the output's name.
    #[schemars(extend("title" = "text", "examples" = ["2026-0042"]))]
    pub(in crate::job) case: Entry<String>,
    /// Who exports, for the manifest.
    #[schemars(extend("title" = "text", "examples" = ["A. Person"]))]
    pub(in crate::job) operator: Entry<String>,
    /// A note, for the manifest.
    #[schemars(extend("title" = "text", "examples" = ["requested by counsel"]))]
    pub(in crate::job) note: Entry<String>,
}

pub(super) fn read_defaults(root: &Table<'_, '_>) -> RawJob {
    let Some(table) = root.table("defaults", &JOB_KEYS) else {
        let none = RawJob::empty(root.place_of_missing("defaults"));
        return if root.is_there("defaults") { none.unreadable() } else { none };
    };
    let mut defaults = read_job(&table);
    if let Entry::Valid(name) = &defaults.name {
        let refusal = Refusal::new("a name cannot be a default: each job has its own");
        table.report(&name.place, refusal.accepts("name in each [[job]]"));
        defaults.sound = false;
    }
    defaults
}

pub(super) fn read_jobs(root: &Table<'_, '_>) -> Vec<RawJob> {
    let mut jobs = Vec::new();
    let list = root.list("job", "[[job]] before each job", |root, place, value| {
        let table = root.element_table(place, value.get_ref(), &JOB_KEYS, "[[job]]")?;
        jobs.push(read_job(&table));
        Some(())
    });
    if list.is_absent() {
        let place = root.place_of_missing("job");
        root.report(
            &place,
            Refusal::new("the file has no job").accepts("[[job]] with name, streams and a range"),
        );
    }
    jobs
}

pub(super) fn read_job(table: &Table<'_, '_>) -> RawJob {
    let before = table.problems();
    let mut job = RawJob {
        place: table.place.clone(),
        sound: true,
        name: table.parsed("name", NAME_ACCEPTED, name),
        streams: table.list("streams", STREAMS_ACCEPTED, each_stream_once()),
        from: time(table, "from"),
        to: time(table, "to"),
        last: table.parsed("last", Duration::ACCEPTED, |text| match Duration::parse(text)? {
            last if last.is_zero() => {
                Err(Refusal::new("`last` is no time at all").accepts(Duration::ACCEPTED))
            }
            last => Ok(last),
        }),
        ranges: read_ranges(table),
        time_zone: table.parsed("time_zone", Zone::ACCEPTED, Zone::parse),
        timestamps: table.read("timestamps", |value| {
            word(value, &[TimestampKind::Server, TimestampKind::Producer].map(|kind| (kind.as_str(), kind)))
        }),
        edges: table.read("edges", |value| {
            word(value, &[Edges::Cover, Edges::Inside].map(|edges| (edges.as_str(), edges)))
        }),
        except: table.list_or_none("except", STREAMS_ACCEPTED, each_stream_once()),
        allow_empty: table.read("allow_empty", yes_or_no),
        fetch: table.read("fetch", read_fetch),
        chunk: table.parsed("chunk", CHUNK_ACCEPTED, chunking),
        split: table.read("split", |value| word(value, &Split::WORDS)),
        daily: table.parsed("daily", Hours::ACCEPTED, Hours::parse),
        days: read_days(table),
        timeline: table.read("timeline", |value| {
            word(
                value,
                &[Timeline::Compact, Timeline::Wallclock].map(|timeline| (timeline.as_str(), timeline)),
            )
        }),
        gaps: table
            .read("gaps", |value| word(value, &[("accept", GapPolicy::Accept), ("fail", GapPolicy::Fail)])),
        gap_tolerance: table.parsed(
            "gap_tolerance",
            "\"auto\" or a length of time such as \"500ms\"",
            tolerance,
        ),
        settle_ms: table
            .parsed("settle", Duration::ACCEPTED, |text| Duration::parse(text).map(Duration::total_millis)),
        output: table.parsed(
            "output",
            "a template in quotes, such as \"exports/{stream}_{from}.mp4\"",
            Template::parse,
        ),
        on_codec_change: table.read("on_codec_change", |value| {
            word(value, &[OnCodecChange::Split, OnCodecChange::Fail].map(|change| (change.as_str(), change)))
        }),
        keep_chunks: table.read("keep_chunks", yes_or_no),
        case: free_text(table, "case"),
        operator: free_text(table, "operator"),
        note: free_text(table, "note"),
    };
    job.sound = table.problems() == before;
    job
}

/// Only its default is built: it may be said, anything else is refused.
fn read_fetch(value: &DeValue<'_>) -> Result<(), Refusal> {
    match text(value)? {
        later @ ("fragments" | "auto") => Err(not_yet(&format!("fetch = {later:?}")).accepts("\"clip\"")),
        _ => word(value, &[("clip", ())]),
    }
}

fn name(text: &str) -> Result<String, Refusal> {
    let right = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.bytes().any(|b| b != b'.');
    if right {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(format!("{text:?} is not a job's name")).accepts(NAME_ACCEPTED))
    }
}

fn free_text(table: &Table<'_, '_>, key: &str) -> Entry<String> {
    table.parsed(key, "text in quotes", |text| Ok(text.to_owned()))
}

fn tolerance(text: &str) -> Result<GapTolerance, Refusal> {
    const ACCEPTED: &str = "\"auto\" or a length of time such as \"500ms\"";
    if text == "auto" {
        return Ok(GapTolerance::Auto);
    }
    Duration::parse(text)
        .ok()
        .and_then(|length| u32::try_from(length.total_millis()).ok())
        .map(GapTolerance::Fixed)
        .ok_or_else(|| Refusal::new(format!("{text:?} is not a tolerance")).accepts(ACCEPTED))
}

/// `auto`, or the length of fixed windows: a clip spans a day at most.
fn chunking(text: &str) -> Result<Chunking, Refusal> {
    if text == "auto" {
        return Ok(Chunking::Auto);
    }
    let length = Duration::parse(text).map_err(|refusal| refusal.accepts(CHUNK_ACCEPTED))?.total_millis();
    u32::try_from(length)
        .ok()
        .filter(|ms| (1_000..=86_400_000).contains(ms))
        .map(Chunking::Fixed)
        .ok_or_else(|| Refusal::new(format!("a window cannot be {text:?} long")).accepts(CHUNK_ACCEPTED))
}

fn time(table: &Table<'_, '_>, key: &str) -> RawTime {
    table.read(key, |value| match value {
        DeValue::String(text) => TimeExpression::parse(text),
        DeValue::Datetime(datetime) => TimeExpression::parse_absolute(&datetime.to_string()),
        _ => Err(wrong_type(value, "a date-time or text").accepts(TimeExpression::ACCEPTED)),
    })
}

fn read_ranges(table: &Table<'_, '_>) -> Entry<Vec<RawRange>> {
    table.list("ranges", RANGES_ACCEPTED, |table, place, value| {
        let range = table.element_table(place, value.get_ref(), &RANGE_KEYS, RANGES_ACCEPTED)?;
        let end = |key: &str| {
            let end = time(&range, key);
            if end.is_absent() {
                let place = range.place_of_missing(key);
                range.report(
                    &place,
                    Refusal::new(format!("the range has no `{key}`")).accepts(RANGES_ACCEPTED),
                );
            }
            end.located()
        };
        let (from, to) = (end("from"), end("to"));
        Some(RawRange { from: from?, to: to? })
    })
}

fn yes_or_no(value: &DeValue<'_>) -> Result<bool, Refusal> {
    match value {
        DeValue::Boolean(yes) => Ok(*yes),
        _ => Err(wrong_type(value, "true or false").accepts("true or false, without quotes")),
    }
}

fn read_days(table: &Table<'_, '_>) -> Entry<Days> {
    let mut seen = Vec::new();
    let list = table.list("days", Days::ACCEPTED, |table, place, value| {
        let day = word(value.get_ref(), &Days::WORDS).and_then(|day| {
            if seen.contains(&day) {
                return Err(Refusal::new("a day stands twice in the list").accepts(Days::ACCEPTED));
            }
            seen.push(day);
            Ok(day)
        });
        day.map_err(|refusal| table.report(&place, refusal)).ok()
    });
    list.map(|days| Days::of(&days))
}

/// Reads the elements of a list of streams, none of which may stand there twice.
fn each_stream_once<'t, 'c>()
-> impl FnMut(&Table<'t, 'c>, Place, &'c Spanned<DeValue<'t>>) -> Option<Located<StreamPattern>> {
    let mut seen = HashSet::new();
    move |table, place, value| {
        let stream = stream(value.get_ref()).and_then(|stream| {
            if seen.insert(stream.clone()) {
                return Ok(stream);
            }
            Err(Refusal::new(format!("{:?} stands twice in the list", stream.to_string()))
                .accepts("each stream once"))
        });
        match stream {
            Ok(value) => Some(Located { value, place }),
            Err(refusal) => {
                table.report(&place, refusal);
                None
            }
        }
    }
}

fn stream(value: &DeValue<'_>) -> Result<StreamPattern, Refusal> {
    let text = text(value).map_err(|refusal| refusal.accepts(STREAMS_ACCEPTED))?;
    StreamPattern::parse(text).map_err(|error| Refusal::new(error.to_string()).accepts(STREAMS_ACCEPTED))
}

impl RawJob {
    fn empty(place: Place) -> Self {
        Self {
            place,
            sound: true,
            name: Entry::Absent,
            streams: Entry::Absent,
            from: Entry::Absent,
            to: Entry::Absent,
            last: Entry::Absent,
            ranges: Entry::Absent,
            time_zone: Entry::Absent,
            timestamps: Entry::Absent,
            edges: Entry::Absent,
            except: Entry::Absent,
            allow_empty: Entry::Absent,
            fetch: Entry::Absent,
            chunk: Entry::Absent,
            split: Entry::Absent,
            daily: Entry::Absent,
            days: Entry::Absent,
            timeline: Entry::Absent,
            gaps: Entry::Absent,
            gap_tolerance: Entry::Absent,
            settle_ms: Entry::Absent,
            output: Entry::Absent,
            on_codec_change: Entry::Absent,
            keep_chunks: Entry::Absent,
            case: Entry::Absent,
            operator: Entry::Absent,
            note: Entry::Absent,
        }
    }

    /// Defaults that cannot be read: what a job needs may be among them.
    fn unreadable(self) -> Self {
        Self {
            sound: false,
            streams: Entry::Invalid,
            from: Entry::Invalid,
            to: Entry::Invalid,
            time_zone: Entry::Invalid,
            case: Entry::Invalid,
            ..self
        }
    }

    /// The place of a key that is not there: the job's header.
    pub(in crate::job) fn place_of(&self, key: &str) -> Place {
        Place { key: format!("{}.{key}", self.place.key), ..self.place.clone() }
    }

    /// Whether it names a range in any of the three forms.
    pub(in crate::job) fn has_range(&self) -> bool {
        !(self.from.is_absent() && self.to.is_absent() && self.last.is_absent() && self.ranges.is_absent())
    }

    /// That job with what these settings say instead of its own.
    pub(super) fn onto(self, job: Self) -> Self {
        let mut set = self.over(&job);
        (set.place, set.name) = (job.place, job.name);
        set
    }

    /// This job with what it does not say taken from the defaults.
    ///
    /// A range is taken as one thing: a job's `last` stands against a default `from` and `to`. Only a lone `from`
    /// or `to` is completed by the other end's default.
    pub(in crate::job) fn over(self, defaults: &Self) -> Self {
        let (from, to, last, ranges) = if !self.has_range() {
            (defaults.from.clone(), defaults.to.clone(), defaults.last.clone(), defaults.ranges.clone())
        } else if self.last.is_absent() && self.ranges.is_absent() {
            (
                self.from.or(defaults.from.clone()),
                self.to.or(defaults.to.clone()),
                Entry::Absent,
                Entry::Absent,
            )
        } else {
            (self.from, self.to, self.last, self.ranges)
        };
        Self {
            place: self.place,
            sound: self.sound && defaults.sound,
            name: self.name,
            streams: self.streams.or(defaults.streams.clone()),
            from,
            to,
            last,
            ranges,
            time_zone: self.time_zone.or(defaults.time_zone.clone()),
            timestamps: self.timestamps.or(defaults.timestamps.clone()),
            edges: self.edges.or(defaults.edges.clone()),
            except: self.except.or(defaults.except.clone()),
            allow_empty: self.allow_empty.or(defaults.allow_empty.clone()),
            fetch: self.fetch.or(defaults.fetch.clone()),
            chunk: self.chunk.or(defaults.chunk.clone()),
            split: self.split.or(defaults.split.clone()),
            daily: self.daily.or(defaults.daily.clone()),
            days: self.days.or(defaults.days.clone()),
            timeline: self.timeline.or(defaults.timeline.clone()),
            gaps: self.gaps.or(defaults.gaps.clone()),
            gap_tolerance: self.gap_tolerance.or(defaults.gap_tolerance.clone()),
            settle_ms: self.settle_ms.or(defaults.settle_ms.clone()),
            output: self.output.or(defaults.output.clone()),
            on_codec_change: self.on_codec_change.or(defaults.on_codec_change.clone()),
            keep_chunks: self.keep_chunks.or(defaults.keep_chunks.clone()),
            case: self.case.or(defaults.case.clone()),
            operator: self.operator.or(defaults.operator.clone()),
            note: self.note.or(defaults.note.clone()),
        }
    }
}
