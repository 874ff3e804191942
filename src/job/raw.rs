//! The job file as written: which keys stand where, and the form of each value taken by itself.
//!
//! What depends on several keys, on the defaults or on the time of day is `spec`'s and `resolve`'s.

mod job;

use schemars::JsonSchema;
use toml::de::{DeTable, DeValue};

use super::duration::Duration;
use super::errors::{Context, Place, Refusal};
use super::paths;
use super::reader::{Entry, Keys, Table, integer, text, wrong_type};
use super::schema;
use super::size;

use job::{read_defaults, read_job, read_jobs};

#[cfg(test)]
pub(super) use job::RANGE_KEYS;
pub(super) use job::{JOB_KEYS, RawJob, RawStreams};

/// The version of the format.
const VERSION: u32 = 1;

pub(super) static ROOT_KEYS: Keys =
    Keys { known: &["version", "state", "work", "aws", "limits", "notify", "defaults", "job"] };
pub(super) static AWS_KEYS: Keys = Keys { known: &["region", "profile", "endpoint_url"] };
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
};
pub(super) static NOTIFY_KEYS: Keys = Keys { known: &["command"] };

const COMMAND_ACCEPTED: &str = "a program and its arguments, each in quotes: [\"./tell.sh\", \"nightly\"]";

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
