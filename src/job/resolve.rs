//! From a job file and the time of day to the exports it asks for.

use super::errors::{Context, JobErrors, JobProblem, Place, Refusal, nearest};
use super::outputs::Outputs;
use super::spec::{JobFile, JobSpec, RangeExpression, RangeSpec, not_after};
use super::streams::{Chosen, ExpandedPrefix, KnownStreams};
use super::template::TemplateValues;
use super::time::{Side, TimeExpression};
use super::windows::{Bound, Cutter, Window, Windows};
use crate::model::spec::RangeAnchor;
use crate::model::{ExportSpec, RangeText, StreamPrefix, TimeRange, UnlistedRange, UtcMillis};

const MILLIS_PER_MINUTE: i64 = 60_000;
const MILLIS_PER_DAY: i64 = 1_440 * MILLIS_PER_MINUTE;

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

/// What a job file asks for where its prefixes are expanded.
#[derive(Debug, Default)]
pub struct Expansion {
    /// The exports, in the file's order: jobs, ranges, streams.
    pub exports: Vec<Resolved>,
    /// The ranges of prefixes whose streams could not be listed.
    pub unlisted: Vec<UnlistedRange>,
    /// What each prefix came to.
    pub prefixes: Vec<ExpandedPrefix>,
}

/// What became of a file's jobs at some time of day.
pub(super) struct Resolution {
    /// What could be resolved.
    pub(super) expansion: Expansion,
    /// What is wrong with the rest.
    pub(super) problems: Vec<JobProblem>,
}

/// A range with its windows.
struct ResolvedRange {
    windows: Vec<Window>,
    /// Whether they are none of the range as it is today, which has none, but the next: they wait in any case.
    to_come: bool,
    /// Where the window begins that the range's end cuts and that waits to be whole.
    cut_short: Option<UtcMillis>,
    text: RangeText,
    /// The time of day that decides what is over.
    now: UtcMillis,
}

impl JobFile {
    /// Resolves the jobs called `only` (all, if it is empty) at `now`, in the file's order: jobs, ranges, windows, streams.
    /// Prefixes are left out: [`JobFile::expand`] resolves them.
    ///
    /// Refuses names that no job has, fixed ranges that reach into the future and are not cut into windows, empty
    /// ranges, and outputs that leave their folder or are one file on some file system.
    pub fn resolve(&self, now: UtcMillis, only: &[String]) -> Result<Vec<Resolved>, JobErrors> {
        let names: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
        let mut problems = Self::check_names(only, &names);
        let resolution = self.resolve_partly(now, only);
        problems.extend(resolution.problems);
        if problems.is_empty() {
            Ok(resolution.expansion.exports)
        } else {
            Err(JobErrors::in_text(&self.display, &self.text, problems))
        }
    }

    /// The prefixes of the jobs called `only` (all, if it is empty), whose streams have to be listed.
    pub fn prefixes(&self, only: &[String]) -> Vec<StreamPrefix> {
        self.asked(only).flat_map(|job| job.streams.prefixes()).cloned().collect()
    }

    /// Resolves as [`JobFile::resolve`] does, with the streams that the prefixes take; gives the problems beside what can be
    /// resolved.
    pub fn expand(
        &self,
        now: UtcMillis,
        only: &[String],
        known: KnownStreams<'_>,
    ) -> (Expansion, Option<JobErrors>) {
        let Resolution { expansion, problems, .. } = self.resolve_known(now, only, Some(known));
        let errors = (!problems.is_empty()).then(|| JobErrors::in_text(&self.display, &self.text, problems));
        (expansion, errors)
    }

    /// What can be resolved without knowing which streams there are, and the problems of the rest.
    pub(super) fn resolve_partly(&self, now: UtcMillis, only: &[String]) -> Resolution {
        self.resolve_known(now, only, None)
    }

    fn asked(&self, only: &[String]) -> impl Iterator<Item = &JobSpec> {
        self.jobs.iter().filter(|job| only.is_empty() || only.contains(&job.name))
    }

    fn resolve_known(&self, now: UtcMillis, only: &[String], known: Option<KnownStreams<'_>>) -> Resolution {
        // Places are known by now; the text they came from is not needed.
        let context = Context::of("");
        let mut outputs = Outputs::default();
        let mut expansion = Expansion::default();
        for job in self.asked(only) {
            let mut chosen = job.streams.choose(&context, &job.name, known);
            expansion.prefixes.append(&mut chosen.expanded);
            for range in &job.ranges {
                let Some(range) = resolve_range(&context, job, range, now) else { continue };
                for window in &range.windows {
                    let is_cut_short = range.cut_short == Some(window.range.start());
                    let pending = range.to_come || is_cut_short || window.range.end() > range.now;
                    for spec in self.exports(&context, job, (&chosen, &range.text), window) {
                        expansion.exports.push(Resolved { spec, pending, line: job.line });
                        if !range.to_come {
                            outputs.add_last(&context, job, &expansion.exports);
                        }
                    }
                    expansion.unlisted.extend(self.unlisted(&context, job, &chosen, (window.range, pending)));
                }
            }
        }
        Resolution { expansion, problems: context.into_problems() }
    }

    /// What stands for the exports of prefixes that could not be listed; the outputs of those that are not listed yet are
    /// checked as far as can be.
    fn unlisted(
        &self,
        context: &Context<'_>,
        job: &JobSpec,
        chosen: &Chosen,
        (range, pending): (TimeRange, bool),
    ) -> Vec<UnlistedRange> {
        let mut unlisted = Vec::new();
        for (prefix, why) in &chosen.unlisted {
            let rendered = job.output.render(&self.folder, &values(job, &prefix.to_string(), range));
            match (rendered, why) {
                (Err(refusal), _) => context.report(&job.output_place, refusal),
                (Ok(_), None) => {}
                (Ok(output), Some(why)) => unlisted.push(UnlistedRange {
                    job: job.name.clone(),
                    prefix: prefix.clone(),
                    range,
                    pending,
                    chunk: job.chunk,
                    output,
                    why: why.clone(),
                }),
            }
        }
        unlisted
    }

    /// Refuses names of `only` that `known` does not have.
    pub(super) fn check_names(only: &[String], known: &[&str]) -> Vec<JobProblem> {
        let place = Place::named("--job");
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
        (chosen, range_text): (&Chosen, &RangeText),
        window: &Window,
    ) -> Vec<ExportSpec> {
        let mut exports = Vec::new();
        for stream in &chosen.streams {
            match job.output.render(&self.folder, &values(job, stream.name(), window.range)) {
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

fn values<'a>(job: &'a JobSpec, stream: &'a str, range: TimeRange) -> TemplateValues<'a> {
    TemplateValues { job: &job.name, stream, range, zone: job.time_zone.as_ref(), case: job.case.as_deref() }
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
    let resolve = |time: TimeExpression, side: Side, now: UtcMillis, place: &Place| {
        time.resolve(side, now, zone).map_err(|refusal| context.report(place, refusal)).ok()
    };
    let bounds = |now: UtcMillis| {
        let start = resolve(from, Side::From, now, &range.from_place);
        let end = resolve(to, Side::To, now, &range.to_place);
        Some((Bound::from(start?), Bound::from(end?)))
    };
    let (mut start, mut end) = bounds(now)?;
    let mut to_come = false;
    if start.instant == end.instant && start.is_moved() && end.is_moved() {
        // On one day of the year; the job file is right on all others.
        (start, end) = bounds(now + MILLIS_PER_DAY)?;
        start.warnings.insert(0, format!("the range from {from} to {to} is left out: the clocks skip it"));
        to_come = true;
    }
    let refuse = |refusal: Refusal| context.report(&range.to_place, refusal);
    let is_cut = job.split.is_some() || job.daily.is_some();
    if end.instant > now && to.is_absolute() && !is_cut {
        let message = format!("`to` ({}) lies in the future: it is {now}", end.instant);
        let accepted = "a time that is past, a relative one such as \"today 06:00\", which waits until it is over, or \
                        `split` or `daily`, whose windows wait until they are over";
        refuse(Refusal::new(message).accepts(accepted));
        return None;
    }
    let Some(whole) = Window::between(start.clone(), end.clone()) else {
        refuse(not_after(start.instant, end.instant));
        return None;
    };
    let mut windows = vec![whole];
    let mut cut_short = None;
    if is_cut {
        let zone = zone.ok_or_else(TimeExpression::zone_needed).map_err(refuse).ok()?;
        let cutter = Cutter { split: job.split, daily: job.daily, zone };
        let mut cut = cutter.cut(&start, &end).map_err(refuse).ok()?;
        if cut.windows.is_empty() && from.is_absolute() && to.is_absolute() {
            refuse(no_window(job, &cut));
            return None;
        }
        if cut.windows.is_empty() {
            // Another day has a window. The text stands, so its unfinished exports are to be resumed, and what is
            // left out is to be told: both need an export.
            cut = cutter.next(cut, end.instant.max(now)).map_err(refuse).ok()?;
            to_come = true;
        }
        windows = cut.windows;
        // Where only the end moves, a window that it cuts is whole for a later run, and would take that one's path now.
        if from.is_absolute() && !to.is_absolute() && !to_come {
            cut_short = cutter.complete_last(&mut windows, end.instant).map_err(refuse).ok()?;
        }
    }
    if job.chunk.is_fixed() && windows.iter().any(|window| window.range.length_ms() < SHORTEST_WINDOW_MS) {
        let message = "a range of 1 ms cannot be asked for with fixed windows";
        refuse(Refusal::new(message).accepts("a longer range, or chunk = \"auto\""));
        return None;
    }
    Some(ResolvedRange { windows, to_come, cut_short, text: range_text(job, &range.expression), now })
}

/// The refusal of fixed instants between which no daily window lies.
fn no_window(job: &JobSpec, cut: &Windows) -> Refusal {
    let daily = job.daily.map_or_else(String::new, |daily| daily.to_string());
    let message = format!("no daily window ({daily}) lies in the range");
    let message = std::iter::once(&message).chain(&cut.left_out).cloned().collect::<Vec<_>>().join("; ");
    Refusal::new(message).accepts("a range with a window of `daily` that begins on one of `days`")
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
