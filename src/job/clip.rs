//! One export that a command line asks for: the job that a file would hold, without the file.
//!
//! What is wrong with it is told by its options, as a file's problems are by their keys.

use std::path::{Path, PathBuf};

use super::duration::Duration;
use super::errors::{Context, JobErrors, Place, Refusal};
use super::paths;
use super::raw::RawLimits;
use super::spec::{self, AwsSettings, JobFile, JobSpec, RangeExpression, RangeSpec};
use super::streams::JobStreams;
use super::template::Template;
use super::time::{TimeExpression, Zone};
use crate::model::{
    Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, StreamSelector, Timeline, TimestampKind,
};

/// The job's name in state files, manifests and reports.
pub const CLIP_JOB: &str = "clip";

/// What problems are told of, in the place of a file.
const COMMAND: &str = "kvs-export clip";

/// The output without `-o`, in the current folder.
const OUTPUT: &str = "{stream}_{from:%Y%m%dT%H%M%S%z}_{to:%Y%m%dT%H%M%S%z}.mp4";

/// The range as the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipRange<'w> {
    /// `--from` and `--to`.
    Between(&'w str, &'w str),
    /// `--last`.
    Last(&'w str),
}

/// The words of the command line.
#[derive(Debug, Clone)]
pub struct ClipWords<'w> {
    /// The stream's name or ARN.
    pub stream: &'w str,
    /// The range.
    pub range: ClipRange<'w>,
    /// `-o`.
    pub output: Option<&'w Path>,
    /// `--time-zone`.
    pub time_zone: Option<&'w str>,
    /// `--timestamps`.
    pub timestamps: TimestampKind,
    /// `--edges`.
    pub edges: Edges,
    /// `--timeline`.
    pub timeline: Timeline,
    /// `--settle`.
    pub settle: &'w str,
    /// How to reach AWS.
    pub aws: AwsSettings,
}

/// The job file that would ask for this, relative paths being taken from `folder`.
///
/// Its state lies where its export's output is, which only its resolved form tells: `state` and `work` are empty.
pub fn clip(words: &ClipWords<'_>, folder: &Path) -> Result<JobFile, JobErrors> {
    let context = Context::of("");
    let take = |option: &str, refused: Refusal| context.report(&place(option), refused);
    let stream = StreamSelector::parse(words.stream)
        .map_err(|error| take("STREAM", Refusal::new(error.to_string()).accepts("a stream's name or ARN")))
        .ok();
    let zone = words.time_zone.map(Zone::parse).transpose();
    let zone = zone.map_err(|refused| take("--time-zone", refused));
    let range = range(&context, words.range);
    if let (Ok(None), Some(RangeSpec { expression: RangeExpression::Between { from, to }, .. })) =
        (&zone, &range)
    {
        for (option, time) in [("--from", from), ("--to", to)] {
            if time.needs_zone() {
                let accepted = "--time-zone America/Los_Angeles (or another), or a date-time with its offset";
                take(option, Refusal::new("a local time needs --time-zone").accepts(accepted));
            }
        }
    }
    let settle = Duration::parse(words.settle).map_err(|refused| take("--settle", refused)).ok();
    let output = output(words.output).map_err(|refused| take("--output", refused)).ok();
    let job = stream.zip(range).zip(settle).zip(output).map(|(((stream, range), settle), output)| JobSpec {
        name: CLIP_JOB.to_owned(),
        line: 0,
        streams: JobStreams::only(stream),
        ranges: vec![range],
        time_zone: zone.ok().flatten(),
        timestamps: words.timestamps,
        edges: words.edges,
        chunk: Chunking::Auto,
        split: None,
        daily: None,
        timeline: words.timeline,
        gaps: GapPolicy::default(),
        gap_tolerance: GapTolerance::default(),
        settle_ms: settle.total_millis(),
        output,
        on_codec_change: OnCodecChange::default(),
        keep_chunks: false,
        case: None,
        operator: None,
        note: None,
        output_place: place("--output"),
    });
    let problems = context.into_problems();
    match job {
        Some(job) if problems.is_empty() => Ok(JobFile {
            state: PathBuf::new(),
            work: PathBuf::new(),
            aws: words.aws.clone(),
            limits: spec::limits(RawLimits::default()),
            notify: None,
            jobs: vec![job],
            folder: folder.to_owned(),
            display: COMMAND.to_owned(),
            text: String::new(),
        }),
        _ => Err(JobErrors::new(COMMAND, problems)),
    }
}

fn place(option: &str) -> Place {
    Place::named(option)
}

fn range(context: &Context<'_>, range: ClipRange<'_>) -> Option<RangeSpec> {
    let time = |option: &str, text: &str| {
        TimeExpression::parse(text).map_err(|refused| context.report(&place(option), refused)).ok()
    };
    match range {
        ClipRange::Between(from, to) => {
            let (from, to) = (time("--from", from), time("--to", to));
            Some(RangeSpec {
                expression: RangeExpression::Between { from: from?, to: to? },
                from_place: place("--from"),
                to_place: place("--to"),
            })
        }
        ClipRange::Last(text) => {
            let length = Duration::parse(text).and_then(|length| match length {
                length if length.is_zero() => {
                    Err(Refusal::new("that is no time at all").accepts(Duration::ACCEPTED))
                }
                length => Ok(length),
            });
            let length = length.map_err(|refused| context.report(&place("--last"), refused)).ok()?;
            Some(RangeSpec {
                expression: RangeExpression::Last(length),
                from_place: place("--last"),
                to_place: place("--last"),
            })
        }
    }
}

/// The template of the output: a file that was named is taken as it is written.
fn output(named: Option<&Path>) -> Result<Template, Refusal> {
    let Some(path) = named else { return Template::parse(OUTPUT) };
    let no_path = || {
        Refusal::new(format!("{:?} is no path for a video", path.display().to_string()))
            .accepts("a path in UTF-8 that ends in .mp4, relative to the current folder or absolute")
    };
    let text = path.to_str().ok_or_else(no_path)?;
    paths::check(text).map_err(|_| no_path())?;
    Template::parse(&text.replace('{', "{{").replace('}', "}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcMillis;
    use crate::model::spec::RangeAnchor;

    /// 2024-03-01T00:00:30Z.
    const NOW: UtcMillis = UtcMillis::new(1_709_251_230_000);

    fn words(range: ClipRange<'static>) -> ClipWords<'static> {
        ClipWords {
            stream: "gate",
            range,
            output: None,
            time_zone: None,
            timestamps: TimestampKind::Server,
            edges: Edges::Cover,
            timeline: Timeline::Compact,
            settle: "60s",
            aws: AwsSettings::default(),
        }
    }

    fn refused(words: &ClipWords<'_>) -> String {
        let file = clip(words, Path::new("/x"));
        file.and_then(|file| file.resolve(NOW, &[])).expect_err("refused").to_string()
    }

    #[test]
    fn the_last_minutes_end_with_the_minute_and_name_their_file() {
        let file = clip(&words(ClipRange::Last("5m")), Path::new("/x")).expect("accepted");
        let resolved = file.resolve(NOW, &[]).expect("resolved").remove(0);
        assert_eq!(resolved.spec.output, Path::new("/x/gate_20240229T235500+0000_20240301T000000+0000.mp4"));
        assert_eq!(resolved.spec.range_text.anchor, RangeAnchor::Now);
    }

    #[test]
    fn a_file_that_is_named_is_no_template() {
        let output = Some(Path::new("../{job} {x}.mp4"));
        let words = ClipWords { output, ..words(ClipRange::Last("5m")) };
        let file = clip(&words, Path::new("/x/y")).expect("accepted");
        let resolved = file.resolve(NOW, &[]).expect("resolved").remove(0);
        assert_eq!(resolved.spec.output, Path::new("/x/{job} {x}.mp4"));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_option_and_all_at_once() {
        let wrong = ClipWords {
            stream: "a/b",
            output: Some(Path::new("x.avi")),
            time_zone: Some("Europe/Berln"),
            settle: "soon",
            ..words(ClipRange::Between("yestrday", "24:00"))
        };
        let told = refused(&wrong);
        for option in ["STREAM", "--from", "--to", "--time-zone", "--settle", "--output"] {
            assert!(told.contains(&format!("kvs-export clip: {option}: ")), "{option}: {told}");
        }
        assert!(!told.contains("job file") && !told.contains("in the job"), "{told}");
    }

    #[test]
    fn a_local_time_names_the_option_that_it_needs() {
        let told = refused(&words(ClipRange::Between("2024-02-01 18:00", "today 06:00")));
        assert!(told.contains("--from: a local time needs --time-zone"), "{told}");
        assert!(
            told.contains("--to: a local time needs --time-zone") && !told.contains("[defaults]"),
            "{told}"
        );
    }

    #[test]
    fn ranges_that_cannot_be_are_told_by_their_option() {
        let (early, late) = ("2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z");
        assert!(refused(&words(ClipRange::Between(late, early))).contains("clip: --to: "));
        let told = refused(&words(ClipRange::Between(early, "2024-03-02T00:00:00Z")));
        assert!(told.contains("clip: --to: ") && told.contains("future"), "{told}");
        assert!(refused(&words(ClipRange::Last("0s"))).contains("clip: --last: "));
    }
}
