//! What makes two exports the same: the hashes that an export is looked up by.
//!
//! They are stored and compared across versions, so their text must never change; a test holds examples.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::{Chunking, ExportId, ExportSpec, GapTolerance, Sha256Digest, StreamArn, path_key};

/// The three hashes of an export, each 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportIdentity {
    /// Over everything that decides the output's content, and its path. The job's name is not in it.
    pub id: ExportId,
    /// The same without the path: equal where only the path was changed.
    pub content_id: String,
    /// Over what stands in the job file instead of what it resolved to: raw range text and output template.
    ///
    /// An unfinished export whose key a job file's entry still has is resumed as it was once resolved. The
    /// job's name and case count only where the template uses them: otherwise two jobs with one template would
    /// take each other's exports for their own.
    pub resume_key: String,
}

impl ExportIdentity {
    /// Computes the hashes of `spec` on the stream that its name stands for.
    pub fn of(spec: &ExportSpec, stream: &StreamArn) -> Self {
        let settings = settings(spec, stream);
        let (from, to) = (spec.range.start().get(), spec.range.end().get());
        let content = format!("{settings}from={from}\nto={to}\n");
        // The path comes last and is the only line that may hold a line break, so no two texts are equal.
        let id = hash(&[content.as_bytes(), b"output=", spec.output.as_os_str().as_bytes()]);

        let mut raw = format!(
            "{settings}range={}\ntemplate={}\n",
            one_line(&spec.range_text.text),
            one_line(&spec.output_template)
        );
        if spec.output_template.contains("{job") {
            raw.extend(["job=", &one_line(&spec.job), "\n"]);
        }
        if spec.output_template.contains("{case") {
            raw.extend(["case=", &one_line(spec.case.as_deref().unwrap_or_default()), "\n"]);
        }
        Self {
            id: ExportId(id),
            content_id: hash(&[content.as_bytes()]),
            resume_key: hash(&[raw.as_bytes()]),
        }
    }
}

/// The text that output paths share when some file system takes them for one.
pub fn output_key(path: &Path) -> String {
    path_key(path)
}

fn settings(spec: &ExportSpec, stream: &StreamArn) -> String {
    let gap_tolerance = match spec.gap_tolerance {
        GapTolerance::Auto => "auto".to_owned(),
        GapTolerance::Fixed(ms) => format!("{ms}ms"),
    };
    let chunk = match spec.chunk {
        Chunking::Auto => "auto".to_owned(),
        Chunking::Fixed(ms) => format!("{ms}ms"),
    };
    format!(
        "stream={stream}\ntimestamps={}\nedges={}\nfetch=clip\nchunk={chunk}\ngap_tolerance={gap_tolerance}\n\
         timeline={}\non_codec_change={}\n",
        spec.timestamps.as_str(),
        spec.edges.as_str(),
        spec.timeline.as_str(),
        spec.on_codec_change.as_str(),
    )
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let mut digits = Sha256Digest(hasher.finalize().into()).to_string();
    digits.truncate(16);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::RangeAnchor;
    use crate::model::{Edges, OnCodecChange, RangeText, TimeRange, Timeline, TimestampKind, UtcMillis};
    use crate::store::tests::{arn, spec};

    type Change = fn(&mut ExportSpec);

    #[test]
    fn the_hashes_of_an_example_never_change() {
        let identity = ExportIdentity::of(&spec("night"), &arn());
        assert_eq!(identity.id.0, "78bbea2dd5ad93f7");
        assert_eq!(identity.content_id, "f0a14f35f6885547");
        assert_eq!(identity.resume_key, "3bd3dd0415d7f6ac");
    }

    #[test]
    fn everything_that_decides_the_content_changes_all_three() {
        let changes: [Change; 7] = [
            |spec| spec.timestamps = TimestampKind::Producer,
            |spec| spec.edges = Edges::Inside,
            |spec| spec.chunk = Chunking::Fixed(180_000),
            |spec| spec.chunk = Chunking::Fixed(180_001),
            |spec| spec.timeline = Timeline::Wallclock,
            |spec| spec.gap_tolerance = GapTolerance::Fixed(500),
            |spec| spec.on_codec_change = OnCodecChange::Fail,
        ];
        let before = ExportIdentity::of(&spec("night"), &arn());
        for change in changes {
            let mut spec = spec("night");
            change(&mut spec);
            let after = ExportIdentity::of(&spec, &arn());
            assert_ne!(after.id, before.id);
            assert_ne!(after.content_id, before.content_id);
            assert_ne!(after.resume_key, before.resume_key);
        }
    }

    #[test]
    fn a_new_path_keeps_the_content_and_a_new_day_keeps_the_resume_key() {
        let before = ExportIdentity::of(&spec("night"), &arn());
        let mut moved = spec("night");
        moved.output = "/elsewhere/night.mp4".into();
        moved.output_template = "/elsewhere/{stream}.mp4".into();
        let moved = ExportIdentity::of(&moved, &arn());
        assert_eq!(moved.content_id, before.content_id);
        assert!(moved.id != before.id && moved.resume_key != before.resume_key);

        let mut next_day = spec("night");
        next_day.range = TimeRange::new(UtcMillis::new(5), UtcMillis::new(6)).expect("range");
        next_day.output = "/exports/next.mp4".into();
        let next_day = ExportIdentity::of(&next_day, &arn());
        assert_eq!(next_day.resume_key, before.resume_key);
        assert!(next_day.id != before.id && next_day.content_id != before.content_id);
    }

    #[test]
    fn a_jobs_name_counts_only_where_the_template_has_it() {
        let mut renamed = spec("night");
        renamed.job = "other".into();
        assert_eq!(ExportIdentity::of(&renamed, &arn()), ExportIdentity::of(&spec("night"), &arn()));
        renamed.output_template = "{job}/x.mp4".into();
        let mut same_template = spec("night");
        same_template.output_template = "{job}/x.mp4".into();
        assert_ne!(
            ExportIdentity::of(&renamed, &arn()).resume_key,
            ExportIdentity::of(&same_template, &arn()).resume_key
        );
    }

    #[test]
    fn a_line_break_in_a_text_cannot_imitate_another_setting() {
        let with = |text: &str, template: &str| {
            let mut spec = spec("night");
            spec.range_text = RangeText { text: text.into(), anchor: RangeAnchor::Day };
            spec.output_template = template.into();
            ExportIdentity::of(&spec, &arn()).resume_key
        };
        assert_ne!(with("a\ntemplate=b", "c"), with("a", "b\ntemplate=c"));
        assert_ne!(with("a\\n", "c"), with("a\n", "c"));
    }
}
