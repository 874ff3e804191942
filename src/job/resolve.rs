//! From a job file and the time of day to the exports it asks for.

use super::errors::{Context, JobErrors, JobProblem, Place, Refusal, nearest};
use super::outputs::Outputs;
use super::spec::{JobFile, JobSpec, RangeExpression, RangeSpec, not_after};
use super::template::TemplateValues;
use super::time::{Side, TimeExpression};
use super::windows::{Bound, Window, Windows};
use crate::model::spec::RangeAnchor;
use crate::model::{ExportSpec, RangeText, UtcMillis};

const MILLIS_PER_MINUTE: i64 = 60_000;

/// A clip's end must be later than its start, and both are inside.
const SHORTEST_WINDOW_MS: i64 = 2;

/// An export that a job file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What to export.
    pub spec: ExportSpec,
    /// Whether its window is not over yet, so that a later run takes it.
    pub pending: bool,
    /// The line of its job in the file.
    pub line: usize,
}

/// What became of a file's jobs at some time of day.
pub(super) struct Resolution {
    /// The exports of what could be resolved.
    pub(super) exports: Vec<Resolved>,
    /// What is wrong with the rest.
    pub(super) problems: Vec<JobProblem>,
    /// See [`JobFile::left_out`].
    pub(super) left_out: Vec<String>,
}

/// A range with its windows.
struct ResolvedRange {
    windows: Windows,
    text: RangeText,
    /// The time of day that decides what is over.
    now: UtcMillis,
}

impl JobFile {
    /// Resolves the jobs called `only` (all, if it is empty) at `now`, in the file's order: jobs, ranges, windows, streams.
    ///
    /// Refuses names that no job has, fixed ranges that reach into the future and are not cut into windows, empty
    /// ranges, and outputs that leave their folder or are one file on some file system.
    pub fn resolve(&self, now: UtcMillis, only: &[String]) -> Result<Vec<Resolved>, JobErrors> {
        let names: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
        let mut problems = Self::check_names(only, &names);
        let resolution = self.resolve_partly(now, only);
        problems.extend(resolution.problems);
        if problems.is_empty() {
            Ok(resolution.exports)
        } else {
            Err(JobErrors::new(&self.display, problems))
        }
    }

    /// What can be resolved, and the problems of the rest.
    pub(super) fn resolve_partly(&self, now: UtcMillis, only: &[String]) -> Resolution {
        // Places are known by now; the text they came from is not needed.
        let context = Context::of("");
        let mut outputs = Outputs::default();
        let mut exports = Vec::new();
        let mut left_out = Vec::new();
        for job in self.jobs.iter().filter(|job| only.is_empty() || only.contains(&job.name)) {
            for range in &job.ranges {
                let Some(range) = resolve_range(&context, job, range, now) else { continue };
                left_out
                    .extend(range.windows.left_out.iter().map(|what| format!("job {}: {what}", job.name)));
                for window in &range.windows.windows {
                    let pending = window.range.end() > range.now;
                    for spec in self.exports(&context, job, &range.text, window) {
                        exports.push(Resolved { spec, pending, line: job.line });
                        outputs.add_last(&context, job, &exports);
                    }
                }
            }
        }
        Resolution { exports, problems: context.into_problems(), left_out }
    }

    /// Refuses names of `only` that `known` does not have.
    pub(super) fn check_names(only: &[String], known: &[&str]) -> Vec<JobProblem> {
        let place = Place { line: 0, column: 0, key: "--job".to_owned() };
        let unknown = only.iter().filter(|name| !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                let near = nearest(name, known.iter().copied()).map(|near| format!("{near:?}"));
                let refusal = Refusal::new(format!("no job is called {name:?}"));
                JobProblem::at(&place, refusal.accepts(known.join(", ")).suggests(near))
            })
            .collect()
    }

    fn exports(
        &self,
        context: &Context<'_>,
        job: &JobSpec,
        range_text: &RangeText,
        window: &Window,
    ) -> Vec<ExportSpec> {
        let mut exports = Vec::new();
        for stream in &job.streams {
            let values = TemplateValues {
                job: &job.name,
                stream: stream.name(),
                range: window.range,
                zone: job.time_zone.as_ref(),
                case: job.case.as_deref(),
            };
            match job.output.render(&self.folder, &values) {
                Err(refusal) => context.report(&job.output_place, refusal),
                Ok(output) => exports.push(ExportSpec {
                    job: job.name.clone(),
                    stream: stream.clone(),
                    range: window.range,
                    range_text: range_text.clone(),
                    timestamps: job.timestamps,
                    edges: job.edges,
                    chunk: job.chunk,
                    timeline: job.timeline,
                    gaps: job.gaps,
                    gap_tolerance: job.gap_tolerance,
                    settle_ms: job.settle_ms,
                    on_codec_change: job.on_codec_change,
                    keep_chunks: job.keep_chunks,
                    output,
                    output_template: job.output.as_str().to_owned(),
                    time_zone: job.time_zone.as_ref().map(|zone| zone.name().to_owned()),
                    case: job.case.clone(),
                    operator: job.operator.clone(),
                    note: job.note.clone(),
                    warnings: window.warnings.clone(),
                }),
            }
        }
        exports
    }
}

/// The windows of a range, reported where it has none that can be.
fn resolve_range(
    context: &Context<'_>,
    job: &JobSpec,
    range: &RangeSpec,
    now: UtcMillis,
) -> Option<ResolvedRange> {
    let zone = job.time_zone.as_ref();
    let (from, to, now) = match range.expression {
        RangeExpression::Between { from, to } => (from, to, now),
        RangeExpression::Last(length) => {
            let minute = UtcMillis::new(now.get().div_euclid(MILLIS_PER_MINUTE) * MILLIS_PER_MINUTE);
            (TimeExpression::Ago(length), TimeExpression::Ago(super::Duration::default()), minute)
        }
    };
    let resolve = |time: TimeExpression, side: Side, place: &Place| {
        time.resolve(side, now, zone).map_err(|refusal| context.report(place, refusal)).ok()
    };
    let start = resolve(from, Side::From, &range.from_place);
    let end = resolve(to, Side::To, &range.to_place);
    let (start, end) = (Bound::from(start?), Bound::from(end?));
    let refuse = |refusal: Refusal| context.report(&range.to_place, refusal);
    let is_cut = job.split.is_some() || job.daily.is_some();
    if end.instant > now && to.is_absolute() && !is_cut {
        let message = format!("`to` ({}) lies in the future: it is {now}", end.instant);
        let accepted = "a time that is past, a relative one such as \"today 06:00\", which waits until it is over, or \
                        `split` or `daily`, whose windows wait until they are over";
        refuse(Refusal::new(message).accepts(accepted));
        return None;
    }
    let Some(whole) = Windows::whole(start.clone(), end.clone()) else {
        refuse(not_after(start.instant, end.instant));
        return None;
    };
    let windows = if is_cut {
        let zone = zone.ok_or_else(TimeExpression::zone_needed);
        let cut = zone.and_then(|zone| Windows::cut(&start, &end, job.split, job.daily, zone));
        cut.map_err(refuse).ok()?
    } else {
        Windows { windows: vec![whole], left_out: Vec::new() }
    };
    if let Some(refusal) = check_windows(job, &windows, from.is_absolute() && to.is_absolute()) {
        context.report(&range.to_place, refusal);
        return None;
    }
    Some(ResolvedRange { windows, text: range_text(job, &range.expression), now })
}

/// What no run could make an export of.
fn check_windows(job: &JobSpec, windows: &Windows, for_ever: bool) -> Option<Refusal> {
    let of_daily = job.daily.filter(|_| windows.windows.is_empty() && for_ever);
    if let Some(daily) = of_daily {
        // A range that moves has a window on another day.
        let mut message = format!("no daily window ({daily}) lies in the range");
        for left_out in &windows.left_out {
            message.push_str("; ");
            message.push_str(left_out);
        }
        return Some(
            Refusal::new(message).accepts("a range with a window of `daily` that begins on one of `days`"),
        );
    }
    let too_short = |window: &Window| window.range.length_ms() < SHORTEST_WINDOW_MS;
    if job.chunk.is_fixed() && windows.windows.iter().any(too_short) {
        let message = "a range of 1 ms cannot be asked for with fixed windows";
        return Some(Refusal::new(message).accepts("a longer range, or chunk = \"auto\""));
    }
    None
}

/// The canonical text of everything that decides a range's windows: all of them have this one. The zone is in it only
/// where it decides.
fn range_text(job: &JobSpec, range: &RangeExpression) -> RangeText {
    let (mut text, anchor, zoned) = match range {
        RangeExpression::Last(length) => (format!("last {length}"), RangeAnchor::Now, length.days > 0),
        RangeExpression::Between { from, to } => {
            let anchors = [from.anchor(), to.anchor()];
            let anchor = [RangeAnchor::Now, RangeAnchor::Day]
                .into_iter()
                .find(|anchor| anchors.contains(anchor))
                .unwrap_or(RangeAnchor::Absolute);
            (format!("from {from} to {to}"), anchor, from.depends_on_zone() || to.depends_on_zone())
        }
    };
    if let Some(daily) = job.daily {
        text.extend([" daily ", &daily.to_string()]);
    }
    if let Some(split) = job.split {
        text.extend([" split ", split.as_str()]);
    }
    let zoned = zoned || job.daily.is_some() || job.split.is_some();
    if let Some(zone) = job.time_zone.as_ref().filter(|_| zoned) {
        text.push_str(" in ");
        text.push_str(zone.name());
    }
    RangeText { text, anchor }
}
