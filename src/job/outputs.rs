//! Finds two exports with one output, and says what would tell them apart.

use std::collections::{HashMap, HashSet};

use super::errors::{Context, Refusal};
use super::resolve::Resolved;
use super::spec::JobSpec;
use super::template::format_time;
use super::time::Zone;
use crate::model::{ExportSpec, UtcMillis, path_key};

/// The outputs of the exports so far.
#[derive(Default)]
pub(super) struct Outputs {
    /// Which export has a path, by its number.
    taken: HashMap<String, usize>,
    /// Pairs of jobs already reported: one template that tells nothing apart is one mistake.
    reported: HashSet<(String, String)>,
}

impl Outputs {
    /// Notes the last of these exports, which is of this job, and refuses a path that an earlier one has.
    pub(super) fn add_last(&mut self, context: &Context<'_>, job: &JobSpec, exports: &[Resolved]) {
        let Some((Resolved { spec: export, .. }, before)) = exports.split_last() else { return };
        let number = *self.taken.entry(path_key(&export.output)).or_insert(before.len());
        let Some(Resolved { spec: other, .. }) = before.get(number) else { return };
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
        let message = format!("two exports have one output: {} and {}", named(other), named(export));
        context.report(
            &job.output_place,
            Refusal::new(message).accepts(what_differs(other, export, job.time_zone.as_ref())),
        );
    }
}

/// The field, and the format of a time, that two exports differ in.
fn what_differs(first: &ExportSpec, second: &ExportSpec, zone: Option<&Zone>) -> String {
    let (range, other) = (first.range, second.range);
    if first.job != second.job {
        "a template that tells jobs apart: {job}, or a folder for each".to_owned()
    } else if first.stream != second.stream {
        "a template that tells streams apart: {stream}".to_owned()
    } else if range.start() != other.start() {
        format!(
            "a template that tells windows apart: {}",
            time_field("from", range.start(), other.start(), zone)
        )
    } else {
        format!("a template that tells ranges apart: {}", time_field("to", range.end(), other.end(), zone))
    }
}

/// The coarsest format in which two times differ, and why no coarser one does.
fn time_field(field: &str, first: UtcMillis, second: UtcMillis, zone: Option<&Zone>) -> String {
    const FORMATS: [(&str, &str); 4] = [
        ("%Y-%m-%d", "they are of different days"),
        ("%Y%m%dT%H%M%S", "they are of one day and differ in the time"),
        ("%Y%m%dT%H%M%S%z", "their local time is repeated, and only its offset, %z, differs"),
        ("%Y%m%dT%H%M%S.%3f%z", "they differ in milliseconds"),
    ];
    let differ = |format: &str| {
        let written = |instant| format_time(instant, format, zone).ok();
        written(first) != written(second)
    };
    let (format, why) = FORMATS.into_iter().find(|(format, _)| differ(format)).unwrap_or(FORMATS[3]);
    format!("{{{field}:{format}}} ({why})")
}
