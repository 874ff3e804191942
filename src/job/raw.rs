//! The job file as written: which keys stand where, and the form of each value taken by itself.
//!
//! What depends on several keys, on the defaults or on the time of day is `spec`'s and `resolve`'s.

use std::collections::HashSet;

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration::Duration;
use super::errors::{Context, Located, Place, Refusal};
use super::paths;
use super::reader::{Entry, Keys, Table, integer, not_yet, text, word, wrong_type};
use super::schema;
use super::size;
use super::template::Template;
use super::time::{TimeExpression, Zone};
use super::windows::{Days, Hours, Split};
use crate::model::{
    Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, StreamPattern, Timeline, TimestampKind,
};

/// The version of the format.
const VERSION: u32 = 1;

pub(super) static ROOT_KEYS: Keys =
    Keys { known: &["version", "state", "work", "aws", "limits", "notify", "defaults", "job"], later: &[] };
pub(super) static AWS_KEYS: Keys = Keys { known: &["region", "profile", "endpoint_url"], later: &[] };
pub(super) static LIMITS_KEYS: Keys = Keys {
    known: &[
        "requests_in_flight",
        "stream_budget",
        "bandwidth",
        "attempts",
        "outage",
        "merges",
        "min_free",
        "max_bytes",
    ],
    later: &[],
};
pub(super) static NOTIFY_KEYS: Keys = Keys { known: &["command"], later: &[] };
pub(super) static JOB_KEYS: Keys = Keys {
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
    later: &[],
};
pub(super) static RANGE_KEYS: Keys = Keys { known: &["from", "to"], later: &[] };

const STREAMS_ACCEPTED: &str =
    "a list of stream names, ARNs, or prefixes with a * at the end: [\"front-gate\", \"yard-*\"]";
const NAME_ACCEPTED: &str = "1 to 64 of a-z, A-Z, 0-9, '_', '.', '-', not only dots";
const COMMAND_ACCEPTED: &str = "a program and its arguments, each in quotes: [\"./tell.sh\", \"nightly\"]";
const CHUNK_ACCEPTED: &str = "\"auto\", or a length of time from \"1s\" to \"24h\" such as \"3m\"";
const RANGES_ACCEPTED: &str = "[{ from = …, to = … }, …]";

/// What to export from Kinesis Video Streams archives, and how. Relative paths are relative to the job file's folder,
/// wherever the command is started.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawFile {
    /// The version of the format; always the first thing to say.
    #[schemars(with = "u32", extend("const" = VERSION))]
    #[expect(dead_code, reason = "read before all other keys, which another version may lack")]
    pub(super) version: (),
    /// The state of every chunk (SQLite), on a local disk. `--state` stands against it.
    #[schemars(
        extend("title" = "path", "pattern" = schema::PATH, "x-default" = ".kvs-export/STEM/state.db"),
        extend("examples" = ["/var/lib/kvs-export/nightly.db"])
    )]
    pub(super) state: Entry<String>,
    /// Where fetched chunks wait until their export is merged.
    #[schemars(
        extend("title" = "path", "pattern" = schema::PATH, "x-default" = ".kvs-export/STEM/chunks"),
        extend("examples" = ["/scratch/kvs-export"])
    )]
    pub(super) work: Entry<String>,
    pub(super) aws: RawAws,
    pub(super) limits: RawLimits,
    pub(super) notify: RawNotify,
    #[schemars(
        extend("description" = "Any key of a job but its name; taken where the job does not say otherwise.")
    )]
    pub(super) defaults: RawJob,
    /// The jobs, each under a `[[job]]` of its own.
    #[schemars(rename = "job")]
    pub(super) jobs: Vec<RawJob>,
}

/// How to reach AWS. What is not said is found in the usual way of AWS's programs: environment, shared configuration, the
/// machine's role.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawAws {
    /// The region of streams given by name; an ARN names its own.
    #[schemars(extend("title" = "region", "pattern" = "^[A-Za-z0-9-]+$", "examples" = ["us-west-2"]))]
    pub(super) region: Entry<String>,
    /// The profile of `~/.aws/config`.
    #[schemars(extend("title" = "profile", "pattern" = "[^ ]", "examples" = ["evidence"]))]
    pub(super) profile: Entry<String>,
    /// The control plane's URL: a VPC endpoint, or an emulator on this machine.
    #[schemars(extend("title" = "URL", "pattern" = "^https?://[^/]", "examples" = ["http://127.0.0.1:8700"]))]
    pub(super) endpoint_url: Entry<String>,
}

/// How much to do at once, and how much at all.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawLimits {
    /// Requests at a time over the whole run.
    #[schemars(extend("minimum" = 1, "maximum" = 64, "default" = 8))]
    pub(super) requests_in_flight: Entry<u32>,
    /// The share of each stream's request quota to use; the rest is left to live viewers and other programs.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1, "default" = 0.7))]
    pub(super) stream_budget: Entry<f64>,
    /// Bytes per second over the whole run; as many as there are unless said.
    #[schemars(with = "schema::Rate", extend("examples" = ["200 MB/s"]))]
    pub(super) bandwidth: Entry<u64>,
    /// Attempts per chunk and run; throttles and outages do not count.
    #[schemars(extend("minimum" = 1, "maximum" = u32::MAX, "default" = 8))]
    pub(super) attempts: Entry<u32>,
    /// How long to wait for a service that is away.
    #[schemars(with = "Duration", rename = "outage", extend("default" = "30m"))]
    pub(super) outage_ms: Entry<u64>,
    /// Merges at a time.
    #[schemars(extend("minimum" = 1, "maximum" = u32::MAX, "default" = 1))]
    pub(super) merges: Entry<u32>,
    /// Stays free on every disk that is written to: fetching pauses below it, merges go on and make room. An export is begun
    /// when its chunks and the merged copy fit beside this.
    #[schemars(with = "schema::Size", extend("default" = "5 GB"))]
    pub(super) min_free: Entry<u64>,
    /// A run that is planned to fetch more than this lists, says so, and fetches nothing; any number unless said.
    #[schemars(with = "schema::Size", extend("examples" = ["5 TB"]))]
    pub(super) max_bytes: Entry<u64>,
}

/// A program to run after every run, also a failed one, with `KVS_EXPORT_OUTCOME`, `KVS_EXPORT_EXIT_CODE` and
/// `KVS_EXPORT_REPORT` (the path of the run's JSON) in its environment.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawNotify {
    /// The program and its arguments, without a shell. It is given a minute.
    #[schemars(
        extend("title" = "list of text", "minItems" = 1, "examples" = [["./tell.sh"]])
    )]
    pub(super) command: Entry<Vec<String>>,
}

/// One end of a range.
pub(super) type RawTime = Entry<TimeExpression>;

/// One element of `ranges`; both ends are there.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawRange {
    /// The first instant inside.
    #[schemars(with = "TimeExpression")]
    pub(super) from: Located<TimeExpression>,
    /// The first instant after.
    #[schemars(with = "TimeExpression")]
    pub(super) to: Located<TimeExpression>,
}

/// What names streams, each with its place.
pub(super) type RawStreams = Vec<Located<StreamPattern>>;

/// What to export: every stream in every range, each to a video of its own.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RawJob {
    #[schemars(skip)]
    pub(super) place: Place,
    /// Whether each of its values is right by itself.
    #[schemars(skip)]
    pub(super) sound: bool,
    /// The job's name, unique in the file.
    #[schemars(extend("title" = "name", "pattern" = schema::NAME, "examples" = ["nightly-evidence"]))]
    pub(super) name: Entry<String>,
    /// The streams to export: names, ARNs, or a prefix with `*` at its end, which takes all streams whose names begin so.
    #[schemars(extend(
        "title" = "list of streams",
        "minItems" = 1,
        "uniqueItems" = true,
        "examples" = [["front-gate", "yard-*"]]
    ))]
    pub(super) streams: Entry<RawStreams>,
    /// The first instant of the range [from, to): a date-time with an offset, a local one (which takes `time_zone`), or text:
    /// `now`, `today`, `yesterday 18:00`, `2024-03-01 18:00`, `-90m`, `-2d`.
    #[schemars(extend("examples" = ["yesterday 18:00", "2024-03-01T00:00:00"]))]
    pub(super) from: RawTime,
    /// The first instant after the range, in the same forms. One that counts from today may lie ahead: the range is left for a
    /// later run then.
    #[schemars(extend("examples" = ["today 06:00", "2024-04-01T00:00:00"]))]
    pub(super) to: RawTime,
    /// A range so long up to the start of the current minute, instead of `from` and `to`.
    #[schemars(extend("examples" = ["24h"]))]
    pub(super) last: Entry<Duration>,
    /// Several ranges, instead of `from` and `to`.
    #[schemars(extend(
        "title" = "list of ranges",
        "minItems" = 1,
        "examples" = [[{ "from": "2025-03-02 21:10", "to": "2025-03-02 21:25" }]]
    ))]
    pub(super) ranges: Entry<Vec<RawRange>>,
    /// The zone of local times, of windows and of the times in the output's name (which are UTC without it): an IANA name or
    /// `UTC`. Local times need one.
    #[schemars(extend("examples" = ["America/Los_Angeles"]))]
    pub(super) time_zone: Entry<Zone>,
    /// The clock that selects and orders: `server` is AWS's, at ingestion, `producer` the camera's.
    #[schemars(extend("default" = "server"))]
    pub(super) timestamps: Entry<TimestampKind>,
    /// `cover` also takes the fragment that began before `from` and reaches into the range; `inside` does not.
    #[schemars(extend("default" = "cover"))]
    pub(super) edges: Entry<Edges>,
    /// Streams that a prefix in `streams` must not take: names, ARNs, or prefixes.
    #[schemars(extend("title" = "list of streams", "uniqueItems" = true, "default" = [], "examples" = [["yard-test-*"]]))]
    pub(super) except: Entry<RawStreams>,
    /// Whether a prefix in `streams` may match no stream.
    #[schemars(extend("default" = false))]
    pub(super) allow_empty: Entry<bool>,
    /// How the media is fetched. This version knows only this.
    #[schemars(with = "String", extend("enum" = ["clip"], "default" = "clip"))]
    pub(super) fetch: Entry<()>,
    /// How the range is cut into requests: `auto` asks the archive for its list of fragments first; a length of time from `1s`
    /// to `24h` makes windows of it and needs no permission to list, but `edges = "inside"` and `timeline = "compact"`.
    #[schemars(extend("default" = "auto", "examples" = ["3m"]))]
    pub(super) chunk: Entry<Chunking>,
    /// One export an hour, local day or ISO week: `"1h"`, `"1d"`, `"1w"`. Cuts stand where these begin in `time_zone`; the
    /// first and the last window end with the range. With `daily` it may only cut a window smaller.
    #[schemars(extend("examples" = ["1d"]))]
    pub(super) split: Entry<Split>,
    /// A window of each day, `"18:00-06:00"`, over midnight too: each is one export, clipped to the range.
    #[schemars(extend("examples" = ["18:00-06:00"]))]
    pub(super) daily: Entry<Hours>,
    /// The local days on which a daily window begins, `["mon", "tue"]`; every day unless said. Needs `daily`.
    #[schemars(extend("examples" = [["mon", "tue"]]))]
    pub(super) days: Entry<Days>,
    /// `compact` closes gaps in the output; `wallclock` keeps them, so that file time is wall time.
    #[schemars(extend("default" = "compact"))]
    pub(super) timeline: Entry<Timeline>,
    /// Whether a gap, or no media at all, is noted in the manifest (`accept`) or fails the export (`fail`).
    #[schemars(extend("default" = "accept"))]
    pub(super) gaps: Entry<GapPolicy>,
    /// How much time between two fragments is still no gap; `auto` goes by the fragments' usual length.
    #[schemars(extend("default" = "auto", "examples" = ["500ms"]))]
    pub(super) gap_tolerance: Entry<GapTolerance>,
    /// How long after `to` to wait for fragments that are still on their way.
    #[schemars(with = "Duration", rename = "settle", extend("default" = "60s"))]
    pub(super) settle_ms: Entry<u64>,
    /// Where the output goes: `{job}` `{stream}` `{from}` `{to}` `{case}`, the times with a strftime format after a colon, in
    /// `time_zone`. It ends in `.mp4` and never leaves the folder that it names.
    #[schemars(extend("default" = Template::DEFAULT, "examples" = ["exports/{stream}_{from:%Y-%m-%d}.mp4"]))]
    pub(super) output: Entry<Template>,
    /// When the codec changes within a range: `split` begins a new part (`-part1`, `-part2`, …), `fail` is an error.
    #[schemars(extend("default" = "split"))]
    pub(super) on_codec_change: Entry<OnCodecChange>,
    /// Whether the fetched chunks are kept beside the output.
    #[schemars(extend("default" = false))]
    pub(super) keep_chunks: Entry<bool>,
    /// The case reference, for the manifest and the output's name.
    #[schemars(extend("title" = "text", "examples" = ["2026-0042"]))]
    pub(super) case: Entry<String>,
    /// Who exports, for the manifest.
    #[schemars(extend("title" = "text", "examples" = ["A. Person"]))]
    pub(super) operator: Entry<String>,
    /// A note, for the manifest.
    #[schemars(extend("title" = "text", "examples" = ["requested by counsel"]))]
    pub(super) note: Entry<String>,
}

/// Reads the document, reporting what is wrong with it; `None` where nothing in it can be understood.
pub(super) fn read(context: &Context<'_>, text: &str) -> Option<RawFile> {
    let (document, broken) = DeTable::parse_recoverable(text);
    let mut breaks: Vec<(Place, &str)> = broken
        .iter()
        .map(|error| (context.place(error.span().unwrap_or(0..0), ""), error.message()))
        .collect();
    // The parser goes on where it can; more on one line is only what follows from the first.
    breaks.sort_by_key(|(place, _)| (place.line, place.column));
    breaks.dedup_by_key(|(place, _)| place.line);
    for (place, message) in &breaks {
        context.report(place, Refusal::new(format!("broken TOML: {message}")));
    }
    if !broken.is_empty() {
        return None;
    }
    read_document(context, document.get_ref())
}

fn read_document<'t>(context: &Context<'t>, document: &DeTable<'t>) -> Option<RawFile> {
    // Before the keys: another version's keys are not unknown ones.
    if let Some(version) = document.get("version") {
        let place = context.place(version.span(), "version");
        if let Err(refusal) = check_version(version.get_ref()) {
            context.report(&place, refusal);
            return None;
        }
    }
    let root = Table::root(context, document, &ROOT_KEYS);
    if !root.is_there("version") {
        let place = root.place_of_missing("version");
        root.report(&place, Refusal::new("the file does not say its version").accepts("version = 1"));
    }
    Some(RawFile {
        version: (),
        state: path(&root, "state"),
        work: path(&root, "work"),
        aws: root.table("aws", &AWS_KEYS).map(|table| read_aws(&table)).unwrap_or_default(),
        limits: root.table("limits", &LIMITS_KEYS).map(|table| read_limits(&table)).unwrap_or_default(),
        notify: root.table("notify", &NOTIFY_KEYS).map(|table| read_notify(&table)).unwrap_or_default(),
        defaults: read_defaults(&root),
        jobs: read_jobs(&root),
    })
}

/// Settings from outside of the file, by its keys; those of all jobs under `job`.
#[derive(Debug)]
pub(super) struct RawOverlay {
    state: Entry<String>,
    work: Entry<String>,
    aws: RawAws,
    limits: RawLimits,
    job: Option<RawJob>,
}

/// Reads settings from outside of the file.
pub(super) fn read_overlay<'t>(context: &Context<'t>, document: &DeTable<'t>) -> RawOverlay {
    let root = Table::root(context, document, &ROOT_KEYS);
    RawOverlay {
        state: path(&root, "state"),
        work: path(&root, "work"),
        aws: root.table("aws", &AWS_KEYS).map(|table| read_aws(&table)).unwrap_or_default(),
        limits: root.table("limits", &LIMITS_KEYS).map(|table| read_limits(&table)).unwrap_or_default(),
        job: root.table("job", &JOB_KEYS).map(|table| read_job(&table)),
    }
}

impl RawOverlay {
    /// The file with these in the place of its own.
    pub(super) fn over(self, file: RawFile) -> RawFile {
        let (aws, limits) = (file.aws, file.limits);
        RawFile {
            state: self.state.or(file.state),
            work: self.work.or(file.work),
            aws: RawAws {
                region: self.aws.region.or(aws.region),
                profile: self.aws.profile.or(aws.profile),
                endpoint_url: self.aws.endpoint_url.or(aws.endpoint_url),
            },
            limits: RawLimits {
                requests_in_flight: self.limits.requests_in_flight.or(limits.requests_in_flight),
                stream_budget: self.limits.stream_budget.or(limits.stream_budget),
                bandwidth: self.limits.bandwidth.or(limits.bandwidth),
                attempts: self.limits.attempts.or(limits.attempts),
                outage_ms: self.limits.outage_ms.or(limits.outage_ms),
                merges: self.limits.merges.or(limits.merges),
                min_free: self.limits.min_free.or(limits.min_free),
                max_bytes: self.limits.max_bytes.or(limits.max_bytes),
            },
            jobs: match &self.job {
                Some(outside) => file.jobs.into_iter().map(|job| outside.clone().onto(job)).collect(),
                None => file.jobs,
            },
            ..file
        }
    }
}

fn check_version(value: &DeValue<'_>) -> Result<(), Refusal> {
    let refusal = match integer(value, 0..=u32::MAX) {
        Ok(VERSION) => return Ok(()),
        Ok(other) => {
            Refusal::new(format!("the file is of version {other}, which this program does not read"))
        }
        Err(refusal) => refusal,
    };
    Err(refusal.accepts("version = 1"))
}

fn path(table: &Table<'_, '_>, key: &str) -> Entry<String> {
    table.parsed(key, "a path in quotes", |text| paths::check(text).map(|()| text.to_owned()))
}

fn read_aws(table: &Table<'_, '_>) -> RawAws {
    RawAws {
        region: table.parsed("region", "a region such as \"us-west-2\"", |text| {
            let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if right {
                Ok(text.to_owned())
            } else {
                Err(not_accepted(text, "a region such as \"us-west-2\""))
            }
        }),
        profile: table.parsed("profile", "the name of a profile", |text| {
            let right = !text.trim().is_empty() && !text.chars().any(char::is_control);
            if right { Ok(text.to_owned()) } else { Err(not_accepted(text, "the name of a profile")) }
        }),
        endpoint_url: table.parsed("endpoint_url", "http://HOST or https://HOST", |text| {
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            let right = host.is_some_and(|host| {
                !host.starts_with('/') && !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic())
            });
            if right { Ok(text.to_owned()) } else { Err(not_accepted(text, "http://HOST or https://HOST")) }
        }),
    }
}

fn not_accepted(text: &str, accepted: &str) -> Refusal {
    Refusal::new(format!("{text:?} is not {accepted}")).accepts(accepted)
}

fn read_limits(table: &Table<'_, '_>) -> RawLimits {
    RawLimits {
        requests_in_flight: table.read("requests_in_flight", |value| integer(value, 1..=64)),
        stream_budget: table.read("stream_budget", share),
        bandwidth: table.parsed("bandwidth", size::RATE_ACCEPTED, size::parse_rate),
        attempts: table.read("attempts", |value| integer(value, 1..=u32::MAX)),
        outage_ms: table
            .parsed("outage", Duration::ACCEPTED, |text| Duration::parse(text).map(Duration::total_millis)),
        merges: table.read("merges", |value| integer(value, 1..=u32::MAX)),
        min_free: table.parsed("min_free", size::ACCEPTED, size::parse),
        max_bytes: table.parsed("max_bytes", size::ACCEPTED, size::parse),
    }
}

fn read_notify(table: &Table<'_, '_>) -> RawNotify {
    let command = table.list("command", COMMAND_ACCEPTED, |table, place, value| {
        let word =
            text(value.get_ref()).map_err(|refusal| refusal.accepts(COMMAND_ACCEPTED)).and_then(|word| {
                if word.contains('\0') {
                    return Err(
                        Refusal::new("a word of a command cannot hold a NUL").accepts(COMMAND_ACCEPTED)
                    );
                }
                Ok(word.to_owned())
            });
        word.map_err(|refusal| table.report(&place, refusal)).ok()
    });
    if command.is_absent() {
        let place = table.place_of_missing("command");
        table.report(&place, Refusal::new("[notify] has no command").accepts(COMMAND_ACCEPTED));
    }
    if let Entry::Valid(words) = &command
        && words.value.first().is_some_and(String::is_empty)
    {
        table.report(&words.place, Refusal::new("the command names no program").accepts(COMMAND_ACCEPTED));
    }
    RawNotify { command }
}

/// A share: more than 0, at most 1.
fn share(value: &DeValue<'_>) -> Result<f64, Refusal> {
    const ACCEPTED: &str = "a share more than 0 and at most 1, such as 0.7";
    let number: f64 = match value {
        DeValue::Float(number) => number.as_str().parse(),
        DeValue::Integer(number) => number.as_str().parse(),
        _ => return Err(wrong_type(value, "a number").accepts(ACCEPTED)),
    }
    .map_err(|_| Refusal::new("the number cannot be read").accepts(ACCEPTED))?;
    if number > 0.0 && number <= 1.0 {
        Ok(number)
    } else {
        Err(Refusal::new(format!("{number} is out of range")).accepts(ACCEPTED))
    }
}

fn read_defaults(root: &Table<'_, '_>) -> RawJob {
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

fn read_jobs(root: &Table<'_, '_>) -> Vec<RawJob> {
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

fn read_job(table: &Table<'_, '_>) -> RawJob {
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
    pub(super) fn place_of(&self, key: &str) -> Place {
        Place { key: format!("{}.{key}", self.place.key), ..self.place.clone() }
    }

    /// Whether it names a range in any of the three forms.
    pub(super) fn has_range(&self) -> bool {
        !(self.from.is_absent() && self.to.is_absent() && self.last.is_absent() && self.ranges.is_absent())
    }

    /// That job with what these settings say instead of its own.
    fn onto(self, job: Self) -> Self {
        let mut set = self.over(&job);
        (set.place, set.name) = (job.place, job.name);
        set
    }

    /// This job with what it does not say taken from the defaults.
    ///
    /// A range is taken as one thing: a job's `last` stands against a default `from` and `to`. Only a lone `from`
    /// or `to` is completed by the other end's default.
    pub(super) fn over(self, defaults: &Self) -> Self {
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
