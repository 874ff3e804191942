//! The validated job file: defaults applied, every value in its type, nothing left that could be wrong by itself.
//!
//! What the time of day decides is left to `resolve`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::JobSource;
use super::duration::Duration;
use super::errors::{Context, Located, Place, Refusal};
use super::paths;
use super::raw::{RawAws, RawFile, RawJob, RawLimits};
use super::reader::Entry;
use super::streams::JobStreams;
use super::template::{Template, missing_case};
use super::time::{Side, TimeExpression, Zone};
use super::windows::{Daily, Days, Split, check_split};
use crate::model::{
    Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, TimeRange, Timeline, TimestampKind, UtcMillis,
};

const DEFAULT_REQUESTS_IN_FLIGHT: u32 = 8;
const DEFAULT_STREAM_BUDGET: f64 = 0.7;
const DEFAULT_ATTEMPTS: u32 = 8;
const DEFAULT_MERGES: u32 = 1;
const DEFAULT_OUTAGE_MS: u64 = 30 * 60_000;
const DEFAULT_MIN_FREE: u64 = 5_000_000_000;
const DEFAULT_SETTLE_MS: u64 = 60_000;
const RANGE_ACCEPTED: &str = "`from` and `to`, or `last`, or `ranges`";

/// A job file without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// The state file, absolute.
    pub state: PathBuf,
    /// The folder in which chunks wait for their merge, absolute.
    pub work: PathBuf,
    /// How to reach AWS.
    pub aws: AwsSettings,
    /// How much to do at once.
    pub limits: Limits,
    /// What to run after every run: a program, absolute unless it is to be found in `PATH`, and its arguments.
    pub notify: Option<Vec<String>>,
    /// The jobs, in the file's order.
    pub jobs: Vec<JobSpec>,
    /// The file's folder, which relative outputs are taken from.
    pub(super) folder: PathBuf,
    /// The file as its user named it.
    pub(super) display: String,
    /// Its text, for the lines of what turns out to be wrong only later.
    pub(super) text: String,
}

/// `[aws]`: what is `None` is decided by the SDK's usual chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region of streams given by name.
    pub region: Option<String>,
    /// The profile of the shared configuration.
    pub profile: Option<String>,
    /// The control plane's URL, `http://…` or `https://…`.
    pub endpoint_url: Option<String>,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests at a time over the whole run, 1 to 64.
    pub requests_in_flight: usize,
    /// The share of each stream's KVS points to use, more than 0 and at most 1.
    pub stream_budget: f64,
    /// Attempts per chunk and run, at least 1.
    pub attempts: u32,
    /// Bytes per second over the whole run; `None`: as many as there are.
    pub bandwidth: Option<u64>,
    /// Milliseconds to wait for a service that is away.
    pub outage_ms: u64,
    /// Merges at a time, at least 1.
    pub merges: usize,
    /// Bytes that stay free on every disk that is written to: fetching pauses below.
    pub min_free: u64,
    /// The most bytes that a run may plan to fetch; `None`: any number.
    pub max_bytes: Option<u64>,
}

/// A `[[job]]` with the defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// The line of its `[[job]]`.
    pub line: usize,
    /// Its streams.
    pub streams: JobStreams,
    /// Its ranges; not empty.
    pub ranges: Vec<RangeSpec>,
    /// The zone of local times and of templates.
    pub time_zone: Option<Zone>,
    /// The clock that selects and orders.
    pub timestamps: TimestampKind,
    /// Which fragments at the start belong to a range.
    pub edges: Edges,
    /// How a range is cut into requests.
    pub chunk: Chunking,
    /// Where a range, or a daily window of it, is cut into exports. Has a zone.
    pub split: Option<Split>,
    /// The daily windows that are exported of a range. Has a zone.
    pub daily: Option<Daily>,
    /// What the output's clock does over a gap.
    pub timeline: Timeline,
    /// Whether a gap makes an export incomplete.
    pub gaps: GapPolicy,
    /// How much time between two fragments is still no gap.
    pub gap_tolerance: GapTolerance,
    /// Milliseconds to wait after a range's end before listing.
    pub settle_ms: u64,
    /// Where the output goes.
    pub output: Template,
    /// What a codec change does.
    pub on_codec_change: OnCodecChange,
    /// Whether the fetched masters stay beside the output.
    pub keep_chunks: bool,
    /// Case reference for the manifest.
    pub case: Option<String>,
    /// Operator for the manifest.
    pub operator: Option<String>,
    /// Note for the manifest.
    pub note: Option<String>,
    /// Where `output` stands, or would stand.
    pub(super) output_place: Place,
}

/// A range before it is resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSpec {
    /// What it says.
    pub expression: RangeExpression,
    pub(super) from_place: Place,
    pub(super) to_place: Place,
}

/// What a range says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeExpression {
    /// `[from, to)`.
    Between {
        /// The first instant inside.
        from: TimeExpression,
        /// The first instant after.
        to: TimeExpression,
    },
    /// So long, up to the start of the current minute.
    Last(Duration),
}

/// Puts the file together from its sound jobs and reports what is wrong between its keys.
pub(super) fn build(context: &Context<'_>, raw: RawFile, source: JobSource<'_>) -> JobFile {
    let JobSource { text, file, display } = source;
    let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let path = |entry: Entry<String>, name: &str| {
        let text = entry.value().unwrap_or_else(|| format!(".kvs-export/{stem}/{name}"));
        paths::absolute(&folder, &text)
    };
    let place =
        [&raw.work, &raw.state].into_iter().find_map(|entry| entry.clone().located()).map(|at| at.place);
    let (state, work) = (path(raw.state, "state.db"), path(raw.work, "chunks"));
    if work.starts_with(&state) {
        let place = place.unwrap_or_else(|| context.place(0..0, "work"));
        let refusal = Refusal::new("`state` is a file, and `work` a folder that cannot lie in it");
        context.report(&place, refusal.accepts("two paths, neither in the other"));
    }
    check_range_form(context, &raw.defaults);
    JobFile {
        aws: aws(raw.aws),
        limits: limits(raw.limits),
        notify: raw.notify.command.value().map(|words| notify(&folder, words)),
        jobs: jobs(context, raw.jobs, &raw.defaults),
        state,
        work,
        folder,
        display: display.to_owned(),
        text: text.to_owned(),
    }
}

fn aws(raw: RawAws) -> AwsSettings {
    AwsSettings {
        region: raw.region.value(),
        profile: raw.profile.value(),
        endpoint_url: raw.endpoint_url.value(),
    }
}

/// The limits, defaults applied.
pub(super) fn limits(raw: RawLimits) -> Limits {
    let count = |entry: Entry<u32>, default| entry.value().unwrap_or(default);
    Limits {
        requests_in_flight: count(raw.requests_in_flight, DEFAULT_REQUESTS_IN_FLIGHT) as usize,
        stream_budget: raw.stream_budget.value().unwrap_or(DEFAULT_STREAM_BUDGET),
        attempts: count(raw.attempts, DEFAULT_ATTEMPTS),
        bandwidth: raw.bandwidth.value(),
        outage_ms: raw.outage_ms.value().unwrap_or(DEFAULT_OUTAGE_MS),
        merges: count(raw.merges, DEFAULT_MERGES) as usize,
        min_free: raw.min_free.value().unwrap_or(DEFAULT_MIN_FREE),
        max_bytes: raw.max_bytes.value(),
    }
}

/// A program that is named by a path is taken from the job file's folder, as every path in the file.
fn notify(folder: &Path, mut words: Vec<String>) -> Vec<String> {
    if let Some(program) = words.first_mut()
        && program.contains('/')
    {
        *program = paths::absolute(folder, program).to_string_lossy().into_owned();
    }
    words
}

fn jobs(context: &Context<'_>, raw: Vec<RawJob>, defaults: &RawJob) -> Vec<JobSpec> {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut jobs = Vec::new();
    for job in raw {
        let before = context.count();
        check_range_form(context, &job);
        if let Entry::Valid(name) = &job.name {
            if let Some(line) = names.get(&name.value) {
                let message = format!("the job on line {line} is called {:?} too", name.value);
                context.report(&name.place, Refusal::new(message).accepts("a name of its own for each job"));
            } else {
                names.insert(name.value.clone(), job.place.line);
            }
        }
        let job = job.over(defaults);
        let sound = job.sound;
        let built = build_job(context, job);
        if sound && context.count() == before {
            jobs.extend(built);
        }
    }
    jobs
}

/// Refuses more than one of the three forms of a range in one table.
fn check_range_form(context: &Context<'_>, job: &RawJob) {
    let mut forms: Vec<(&str, Place)> = Vec::new();
    let from = place_of(&job.from, job, "from").or_else(|| place_of(&job.to, job, "to"));
    forms.extend(from.map(|place| ("from", place)));
    forms.extend(place_of(&job.last, job, "last").map(|place| ("last", place)));
    forms.extend(place_of(&job.ranges, job, "ranges").map(|place| ("ranges", place)));
    forms.sort_by_key(|(_, place)| (place.line, place.column));
    if let [(first, _), (second, at), ..] = forms.as_slice() {
        let refusal =
            Refusal::new(format!("`{second}` stands beside `{first}`: a job has its range in one form"));
        context.report(at, refusal.accepts(RANGE_ACCEPTED));
    }
}

/// Where a key of a job stands, if it is there; the job's header for a value that could not be read.
fn place_of<T>(entry: &Entry<T>, job: &RawJob, key: &str) -> Option<Place> {
    match entry {
        Entry::Absent => None,
        Entry::Invalid => Some(job.place_of(key)),
        Entry::Valid(located) => Some(located.place.clone()),
    }
}

/// The job, unless something of it is missing or wrong; reported in any case.
fn build_job(context: &Context<'_>, raw: RawJob) -> Option<JobSpec> {
    let missing = |key: &str, message: &str, accepted: &str| {
        context.report(&raw.place_of(key), Refusal::new(message).accepts(accepted));
    };
    if raw.name.is_absent() {
        missing("name", "the job has no name", "name = \"…\", unique in the file");
    }
    if raw.streams.is_absent() {
        missing("streams", "the job has no streams", "streams = [\"…\"]");
    }
    if !raw.has_range() {
        missing("from", "the job has no range", RANGE_ACCEPTED);
    }
    let zone_is_known = !matches!(raw.time_zone, Entry::Invalid);
    let time_zone = raw.time_zone.clone().value();
    let ranges = ranges(context, &raw);
    if zone_is_known {
        for range in &ranges {
            check_range(context, range, time_zone.as_ref());
        }
    }
    check_chunk(context, &raw);
    check_windows(context, &raw);
    let streams = JobStreams::build(context, &raw);
    let output_place = match &raw.output {
        Entry::Valid(output) => output.place.clone(),
        _ => raw.place_of("output"),
    };
    let output = match raw.output.value() {
        Some(output) => output,
        None => Template::parse(Template::DEFAULT)
            .map_err(|refusal| context.report(&output_place, refusal))
            .ok()?,
    };
    if output.uses_case() && raw.case.is_absent() {
        context.report(&output_place, missing_case());
    }
    Some(JobSpec {
        name: raw.name.value()?,
        line: raw.place.line,
        streams: streams?,
        ranges,
        time_zone,
        timestamps: raw.timestamps.value().unwrap_or_default(),
        edges: raw.edges.value().unwrap_or_default(),
        chunk: raw.chunk.value().unwrap_or_default(),
        split: raw.split.value(),
        daily: raw.daily.value().map(|hours| Daily { hours, days: raw.days.value().unwrap_or(Days::ALL) }),
        timeline: raw.timeline.value().unwrap_or_default(),
        gaps: raw.gaps.value().unwrap_or_default(),
        gap_tolerance: raw.gap_tolerance.value().unwrap_or_default(),
        settle_ms: raw.settle_ms.value().unwrap_or(DEFAULT_SETTLE_MS),
        output,
        on_codec_change: raw.on_codec_change.value().unwrap_or_default(),
        keep_chunks: raw.keep_chunks.value().unwrap_or(false),
        case: raw.case.value(),
        operator: raw.operator.value(),
        note: raw.note.value(),
        output_place,
    })
}

/// Refuses what fixed windows cannot give: nothing is listed, so neither the fragment that reaches into the range nor the
/// time of any fragment is known.
fn check_chunk(context: &Context<'_>, raw: &RawJob) {
    let Entry::Valid(chunk) = &raw.chunk else { return };
    if !chunk.value.is_fixed() {
        return;
    }
    let needs = |place: &Place, found: &str, needed: &str| {
        let message = format!(
            "fixed windows (`chunk` on line {}) cannot be had with {found}: nothing is listed that would tell",
            chunk.place.line
        );
        context.report(place, Refusal::new(message).accepts(format!("{needed}, or chunk = \"auto\"")));
    };
    match &raw.edges {
        Entry::Valid(edges) if edges.value == Edges::Cover => {
            needs(&edges.place, "edges = \"cover\"", "edges = \"inside\"");
        }
        Entry::Absent => needs(&chunk.place, "edges = \"cover\", the default", "edges = \"inside\""),
        Entry::Valid(_) | Entry::Invalid => {}
    }
    if let Entry::Valid(timeline) = &raw.timeline
        && timeline.value == Timeline::Wallclock
    {
        needs(&timeline.place, "timeline = \"wallclock\"", "timeline = \"compact\"");
    }
}

/// Refuses windows without a zone, days without windows, and a split that would cut no window.
fn check_windows(context: &Context<'_>, raw: &RawJob) {
    let without_zone = |key: &str, place: Option<&Place>| {
        if let (Entry::Absent, Some(place)) = (&raw.time_zone, place) {
            let refusal = Refusal::new(format!("`{key}` needs a time_zone"));
            context.report(place, refusal.accepts(Zone::ACCEPTED_KEY));
        }
    };
    without_zone("split", raw.split.place());
    without_zone("daily", raw.daily.place());
    if let (Entry::Absent, Some(place)) = (&raw.daily, raw.days.place()) {
        let refusal = Refusal::new("`days` stands without `daily`, whose windows begin on them");
        context.report(place, refusal.accepts("daily = \"18:00-06:00\" (or another) beside it"));
    }
    if let (Entry::Valid(split), Entry::Valid(daily)) = (&raw.split, &raw.daily)
        && let Err(refusal) = check_split(split.value, daily.value)
    {
        context.report(&split.place, refusal);
    }
}

fn ranges(context: &Context<'_>, raw: &RawJob) -> Vec<RangeSpec> {
    let between = |from: Located<TimeExpression>, to: Located<TimeExpression>| RangeSpec {
        expression: RangeExpression::Between { from: from.value, to: to.value },
        from_place: from.place,
        to_place: to.place,
    };
    if let Entry::Valid(last) = &raw.last {
        let place = &last.place;
        return vec![RangeSpec {
            expression: RangeExpression::Last(last.value),
            from_place: place.clone(),
            to_place: place.clone(),
        }];
    }
    if let Entry::Valid(ranges) = &raw.ranges {
        return ranges.value.iter().map(|range| between(range.from.clone(), range.to.clone())).collect();
    }
    let alone = |there: &Located<TimeExpression>, what: &str, other: &str| {
        context.report(
            &there.place,
            Refusal::new(format!("`{what}` stands without `{other}`")).accepts(RANGE_ACCEPTED),
        );
    };
    match (&raw.from, &raw.to) {
        (Entry::Valid(from), Entry::Valid(to)) => return vec![between(from.clone(), to.clone())],
        (Entry::Valid(from), Entry::Absent) => alone(from, "from", "to"),
        (Entry::Absent, Entry::Valid(to)) => alone(to, "to", "from"),
        _ => {}
    }
    Vec::new()
}

/// Checks what of a range is known without the time of day.
fn check_range(context: &Context<'_>, range: &RangeSpec, zone: Option<&Zone>) {
    let RangeExpression::Between { from, to } = range.expression else { return };
    let fixed = |time: TimeExpression, side: Side, place: &Place| {
        if time.needs_zone() && zone.is_none() {
            context.report(place, TimeExpression::zone_needed());
            return None;
        }
        if !time.is_absolute() {
            return None;
        }
        let resolved = time.resolve(side, UtcMillis::new(0), zone);
        resolved.map_err(|refusal| context.report(place, refusal)).ok()
    };
    let from = fixed(from, Side::From, &range.from_place);
    let to = fixed(to, Side::To, &range.to_place);
    if let (Some(from), Some(to)) = (from, to)
        && TimeRange::new(from.instant, to.instant).is_none()
    {
        context.report(&range.to_place, not_after(from.instant, to.instant));
    }
}

/// The refusal of a range that ends before it begins.
pub(super) fn not_after(from: UtcMillis, to: UtcMillis) -> Refusal {
    Refusal::new(format!("`to` ({to}) is not after `from` ({from})")).accepts("a `to` later than `from`")
}
