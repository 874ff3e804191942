//! From a job file and the time of day to the exports it asks for.

use std::collections::{HashMap, HashSet};

use super::errors::{Context, JobErrors, JobProblem, Place, Refusal, nearest};
use super::spec::{JobFile, JobSpec, RangeExpression, RangeSpec, not_after};
use super::template::TemplateValues;
use super::time::{Side, TimeExpression, Zone};
use crate::model::spec::RangeAnchor;
use crate::model::{ExportSpec, RangeText, TimeRange, UtcMillis, path_key};

const MILLIS_PER_MINUTE: i64 = 60_000;

/// A clip's end must be later than its start, and both are inside.
const SHORTEST_WINDOW_MS: i64 = 2;

/// An export that a job file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What to export.
    pub spec: ExportSpec,
    /// Whether its relative window is not over yet, so that a later run takes it.
    pub pending: bool,
    /// The line of its job in the file.
    pub line: usize,
}

/// A range with its instants.
struct ResolvedRange {
    range: TimeRange,
    text: RangeText,
    pending: bool,
    warnings: Vec<String>,
}

impl JobFile {
    /// Resolves the jobs called `only` (all, if it is empty) at `now`, in the file's order: jobs, ranges, streams.
    ///
    /// Refuses names that no job has, fixed ranges that reach into the future, empty ranges, and outputs that
    /// leave their folder or are one file on some file system.
    pub fn resolve(&self, now: UtcMillis, only: &[String]) -> Result<Vec<Resolved>, JobErrors> {
        let names: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
        let mut problems = Self::check_names(only, &names);
        let (resolved, more) = self.resolve_partly(now, only);
        problems.extend(more);
        if problems.is_empty() { Ok(resolved) } else { Err(JobErrors::new(&self.display, problems)) }
    }

    /// What can be resolved, and the problems of the rest.
    pub(super) fn resolve_partly(&self, now: UtcMillis, only: &[String]) -> (Vec<Resolved>, Vec<JobProblem>) {
        // Places are known by now; the text they came from is not needed.
        let context = Context::of("");
        let mut outputs = Outputs::default();
        let mut resolved = Vec::new();
        for job in self.jobs.iter().filter(|job| only.is_empty() || only.contains(&job.name)) {
            for range in &job.ranges {
                let Some(range) = resolve_range(&context, job, range, now) else { continue };
                for export in self.exports(&context, job, &range) {
                    outputs.add(&context, job, &export);
                    resolved.push(Resolved { spec: export, pending: range.pending, line: job.line });
                }
            }
        }
        (resolved, context.into_problems())
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

    fn exports(&self, context: &Context<'_>, job: &JobSpec, range: &ResolvedRange) -> Vec<ExportSpec> {
        let mut exports = Vec::new();
        for stream in &job.streams {
            let values = TemplateValues {
                job: &job.name,
                stream: stream.name(),
                range: range.range,
                zone: job.time_zone.as_ref(),
                case: job.case.as_deref(),
            };
            match job.output.render(&self.folder, &values) {
                Err(refusal) => context.report(&job.output_place, refusal),
                Ok(output) => exports.push(ExportSpec {
                    job: job.name.clone(),
                    stream: stream.clone(),
                    range: range.range,
                    range_text: range.text.clone(),
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
                    warnings: range.warnings.clone(),
                }),
            }
        }
        exports
    }
}

/// The outputs so far, to find two exports with one file.
#[derive(Default)]
struct Outputs {
    taken: HashMap<String, ExportSpec>,
    /// Pairs of jobs already reported: one template that tells nothing apart is one mistake.
    reported: HashSet<(String, String)>,
}

impl Outputs {
    fn add(&mut self, context: &Context<'_>, job: &JobSpec, export: &ExportSpec) {
        let key = path_key(&export.output);
        let Some(other) = self.taken.get(&key) else {
            self.taken.insert(key, export.clone());
            return;
        };
        if !self.reported.insert((other.job.clone(), export.job.clone())) {
            return;
        }
        let named = |export: &ExportSpec| {
            format!(
                "{} of job {:?} ({}, {})",
                export.output.display(),
                export.job,
                export.stream,
                export.range
            )
        };
        context.report(
            &job.output_place,
            Refusal::new(format!("two exports have one output: {} and {}", named(other), named(export)))
                .accepts("a template that tells them apart, by {job}, {stream}, {from} and {to} say"),
        );
    }
}

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
    let (start, end) = (start?, end?);
    let in_future = end.instant > now;
    if in_future && to.is_absolute() {
        let message = format!("`to` ({}) lies in the future: it is {now}", end.instant);
        let accepted =
            "a time that is past, or a relative one such as \"today 06:00\", which waits until it is over";
        context.report(&range.to_place, Refusal::new(message).accepts(accepted));
        return None;
    }
    let Some(instants) = TimeRange::new(start.instant, end.instant) else {
        context.report(&range.to_place, not_after(start.instant, end.instant));
        return None;
    };
    if job.chunk.is_fixed() && instants.length_ms() < SHORTEST_WINDOW_MS {
        let message = "a range of 1 ms cannot be asked for with fixed windows";
        context.report(&range.to_place, Refusal::new(message).accepts("a longer range, or chunk = \"auto\""));
        return None;
    }
    Some(ResolvedRange {
        range: instants,
        text: range_text(&range.expression, zone),
        pending: in_future,
        warnings: [start.warning, end.warning].into_iter().flatten().collect(),
    })
}

/// The canonical text of everything that decides the range. The zone is in it only where it does.
fn range_text(range: &RangeExpression, zone: Option<&Zone>) -> RangeText {
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
    if let Some(zone) = zone.filter(|_| zoned) {
        text.push_str(" in ");
        text.push_str(zone.name());
    }
    RangeText { text, anchor }
}
