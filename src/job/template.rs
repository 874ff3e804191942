//! Output templates: `exports/{job}/{stream}_{from:%Y-%m-%d}.mp4`.
//!
//! The folder that a template *names* is its literal text up to the last `/` before the first field; it may be
//! absolute and may begin with `../`, since its author wrote it there. Below it nothing leads out again: values
//! never add a folder, and no component may be empty, `.` or `..`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::errors::{Refusal, nearest};
use super::paths;
use super::time::Zone;
use crate::model::{TimeRange, UtcMillis};

/// How `{from}` and `{to}` are written without a format of their own.
const DEFAULT_FORMAT: &str = "%Y%m%dT%H%M%S%z";
/// The container of every output.
const EXTENSION: &str = ".mp4";
/// What file systems take as a name.
const MAX_COMPONENT_BYTES: usize = 255;
/// Kept free in a file's name for `-part12` and for the longer extensions of what stands beside it.
const SIDECAR_BYTES: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Job,
    Stream,
    From,
    To,
    Case,
}

impl Field {
    const ALL: [(&str, Self); 5] = [
        ("job", Self::Job),
        ("stream", Self::Stream),
        ("from", Self::From),
        ("to", Self::To),
        ("case", Self::Case),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field { field: Field, format: String },
}

/// A checked output template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// The folder it names: its literal beginning, up to a `/` or empty.
    folder: String,
    /// What follows.
    pieces: Vec<Piece>,
}

/// What the fields of a template stand for.
#[derive(Debug, Clone, Copy)]
pub struct TemplateValues<'v> {
    /// The job's name.
    pub job: &'v str,
    /// The stream's name.
    pub stream: &'v str,
    /// The resolved range.
    pub range: TimeRange,
    /// The zone that times are written in; UTC without one.
    pub zone: Option<&'v Zone>,
    /// The case reference.
    pub case: Option<&'v str>,
}

impl Template {
    /// The template of a job that names none.
    pub const DEFAULT: &str = "exports/{job}/{stream}/{from:%Y-%m-%d}/\
         {stream}_{from:%Y%m%dT%H%M%S%z}_{to:%Y%m%dT%H%M%S%z}.mp4";

    /// Parses a template and checks all that does not depend on the values.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        paths::check(text)?;
        let mut pieces = pieces(text)?;
        let extended = matches!(pieces.last(), Some(Piece::Literal(last)) if last.ends_with(EXTENSION));
        if !extended {
            return Err(Refusal::new(format!("{text:?} does not end in {EXTENSION}"))
                .accepts(format!("a path that ends in {EXTENSION}, the container of this version")));
        }
        let mut folder = String::new();
        if let Some(Piece::Literal(first)) = pieces.first_mut()
            && let Some(end) = first.rfind('/')
        {
            let name = first.split_off(end + 1);
            folder = std::mem::replace(first, name);
        }
        let template = Self { text: text.to_owned(), folder, pieces };
        // Values that are right everywhere: what fails now is the template's own fault.
        let range = TimeRange::new(UtcMillis::new(0), UtcMillis::new(1));
        if let Some(range) = range {
            let values = TemplateValues { job: "x", stream: "x", range, zone: None, case: Some("x") };
            template.below_folder(&values)?;
        }
        Ok(template)
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a job without `case` cannot use it.
    pub fn uses_case(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field { field: Field::Case, .. }))
    }

    /// The absolute path for these values, relative templates being taken from `base`.
    pub fn render(&self, base: &Path, values: &TemplateValues<'_>) -> Result<PathBuf, Refusal> {
        let below = self.below_folder(values)?;
        Ok(paths::absolute(base, &self.folder).join(below))
    }

    /// The path below the folder that the template names.
    fn below_folder(&self, values: &TemplateValues<'_>) -> Result<String, Refusal> {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => path.push_str(literal),
                Piece::Field { field, format } => path.push_str(&harmless(&values.text(*field, format)?)),
            }
        }
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let limit = MAX_COMPONENT_BYTES - if components.peek().is_none() { SIDECAR_BYTES } else { 0 };
            self.check_component(component, limit)?;
        }
        Ok(path)
    }

    fn check_component(&self, component: &str, limit: usize) -> Result<(), Refusal> {
        let why = match component {
            "" => "has an empty folder or file name".to_owned(),
            EXTENSION => "has a file name without anything before its extension".to_owned(),
            "." | ".." => format!("leaves the folder it names: {component:?}"),
            _ if component.len() > limit => {
                format!("makes a name of {} bytes: {component:?}", component.len())
            }
            _ => return Ok(()),
        };
        Err(Refusal::new(format!("the template {:?} {why}", self.text)).accepts(format!(
            "names of 1 to {} bytes in folders and to {} in the file, none of them \".\" or \"..\" behind the first \
             field",
            MAX_COMPONENT_BYTES,
            MAX_COMPONENT_BYTES - SIDECAR_BYTES
        )))
    }
}

impl TemplateValues<'_> {
    fn text(&self, field: Field, format: &str) -> Result<String, Refusal> {
        match field {
            Field::Job => Ok(self.job.to_owned()),
            Field::Stream => Ok(self.stream.to_owned()),
            Field::From => format_time(self.range.start(), format, self.zone),
            Field::To => format_time(self.range.end(), format, self.zone),
            Field::Case => self.case.map(str::to_owned).ok_or_else(missing_case),
        }
    }
}

/// Writes a time as a clock in a zone shows it, or in UTC.
pub(super) fn format_time(instant: UtcMillis, format: &str, zone: Option<&Zone>) -> Result<String, Refusal> {
    let timestamp: Timestamp =
        instant.to_jiff().ok_or_else(|| Refusal::new("the time is outside the calendar"))?;
    let zone = zone.map_or(TimeZone::UTC, |zone| zone.rules().clone());
    strtime::format(format, &timestamp.to_zoned(zone)).map_err(|error| {
        Refusal::new(format!("{format:?} is not a strftime format: {error}"))
            .accepts("strftime fields such as %Y-%m-%d or %Y%m%dT%H%M%S%z")
    })
}

/// The refusal of `{case}` in a job without a case.
pub(super) fn missing_case() -> Refusal {
    Refusal::new("the template has {case}, but the job has no case")
        .accepts("case = \"…\" in the job or in [defaults]")
}

/// Takes from a value all that could make a folder, or that some file system cannot store.
fn harmless(value: &str) -> String {
    let replaced = |c: char| match c {
        '/' | '\\' | ':' => '-',
        '*' | '?' | '"' | '<' | '>' | '|' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    value.chars().map(replaced).collect()
}

/// Cuts a template into literals and fields; `{{` and `}}` are literal braces.
fn pieces(text: &str) -> Result<Vec<Piece>, Refusal> {
    const BRACES: &str = "{field} or {field:format}; a literal brace is written twice";
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '\\']) {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else if let Some(after) = from.strip_prefix('{') {
            let (inner, after) = after
                .split_once('}')
                .ok_or_else(|| Refusal::new(format!("a {{ is never closed in {text:?}")).accepts(BRACES))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(field(inner)?);
            rest = after;
        } else if from.starts_with('}') {
            return Err(Refusal::new(format!("a }} closes nothing in {text:?}")).accepts(BRACES));
        } else {
            return Err(
                Refusal::new(format!("a backslash in {text:?}")).accepts("folders are separated by /")
            );
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Reads what stands between two braces.
fn field(inner: &str) -> Result<Piece, Refusal> {
    let (name, format) = inner.split_once(':').map_or((inner, None), |(name, format)| (name, Some(format)));
    let accepted = "{job}, {stream}, {from}, {to}, {case}; the times take a format: {from:%Y-%m-%d}";
    let Some((_, field)) = Field::ALL.into_iter().find(|(known, _)| *known == name) else {
        let near = nearest(name, Field::ALL.map(|(known, _)| known));
        return Err(Refusal::new(format!("there is no field {{{name}}}"))
            .accepts(accepted)
            .suggests(near.map(|near| format!("{{{near}}}"))));
    };
    let timed = matches!(field, Field::From | Field::To);
    match format {
        None => Ok(Piece::Field { field, format: DEFAULT_FORMAT.to_owned() }),
        Some(_) if !timed => Err(Refusal::new(format!("{{{name}}} takes no format")).accepts(accepted)),
        Some("") => Err(Refusal::new(format!("the format of {{{name}:}} is empty")).accepts(accepted)),
        Some(format) if format.contains('/') => {
            Err(Refusal::new(format!("a folder inside of a field: {{{inner}}}"))
                .accepts("one field a folder: {from:%Y}/{from:%m}"))
        }
        Some(format) => Ok(Piece::Field { field, format: format.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'v>(case: Option<&'v str>, zone: Option<&'v Zone>) -> TemplateValues<'v> {
        let start = UtcMillis::new(1_709_344_800_000); // 2024-03-02T02:00:00Z
        let range = TimeRange::new(start, start + 90_500).expect("not empty");
        TemplateValues { job: "nightly", stream: "front-gate", range, zone, case }
    }

    fn rendered(text: &str, case: Option<&str>, zone: Option<&Zone>) -> Result<String, Refusal> {
        let path = Template::parse(text)?.render(Path::new("/jobs"), &values(case, zone))?;
        Ok(path.to_string_lossy().into_owned())
    }

    #[test]
    fn fields_are_filled_in_the_jobs_zone_or_in_utc() {
        let zone = Zone::parse("America/Los_Angeles").expect("known");
        let template = "out/{job}/{stream}_{from:%Y-%m-%d %H}_{to}_{case}.mp4";
        assert_eq!(
            rendered(template, Some("C-7"), Some(&zone)).as_deref(),
            Ok("/jobs/out/nightly/front-gate_2024-03-01 18_20240301T180130-0800_C-7.mp4")
        );
        assert_eq!(
            rendered(template, Some("C-7"), None).as_deref(),
            Ok("/jobs/out/nightly/front-gate_2024-03-02 02_20240302T020130+0000_C-7.mp4")
        );
    }

    #[test]
    fn the_default_template_is_accepted() {
        assert_eq!(
            rendered(Template::DEFAULT, None, None).as_deref(),
            Ok("/jobs/exports/nightly/front-gate/2024-03-02/\
                front-gate_20240302T020000+0000_20240302T020130+0000.mp4")
        );
    }

    #[test]
    fn doubled_braces_are_literal() {
        assert_eq!(rendered("{{{job}}}.mp4", None, None).as_deref(), Ok("/jobs/{nightly}.mp4"));
    }

    #[test]
    fn the_folder_that_a_template_names_is_taken_as_written() {
        assert_eq!(rendered("../out/{job}.mp4", None, None).as_deref(), Ok("/out/nightly.mp4"));
        assert_eq!(rendered("/srv/x/../out/{job}.mp4", None, None).as_deref(), Ok("/srv/out/nightly.mp4"));
        assert_eq!(rendered("fixed.mp4", None, None).as_deref(), Ok("/jobs/fixed.mp4"));
    }

    #[test]
    fn no_value_leads_out_of_the_folder_or_adds_one() {
        for (case, name) in [
            ("../../etc/passwd", "..-..-etc-passwd"),
            ("a\\b:c", "a-b-c"),
            ("/abs", "-abs"),
            ("a*?\"<>|b", "a______b"),
            ("a\0b\nc", "a_b_c"),
        ] {
            assert_eq!(rendered("out/{case}.mp4", Some(case), None), Ok(format!("/jobs/out/{name}.mp4")));
        }
        for case in ["..", ".", ""] {
            assert!(rendered("out/{case}/x.mp4", Some(case), None).is_err(), "{case:?}");
        }
        assert!(rendered("out/.{case}/x.mp4", Some("."), None).is_err());
        assert!(rendered("out/{case}.mp4", Some(""), None).is_err());
    }

    #[test]
    fn formats_that_print_slashes_and_colons_add_no_folder() {
        assert_eq!(rendered("{from:%D %H:%M}.mp4", None, None).as_deref(), Ok("/jobs/03-02-24 02-00.mp4"));
    }

    #[test]
    fn templates_that_can_never_be_right_are_refused() {
        for text in [
            "",
            "out/",
            "{job}",
            "{job}.mkv",
            "{job}.MP4",
            "x{case}mp4",
            ".mp4",
            "out/.mp4",
            "{job",
            "job}.mp4",
            "{}.mp4",
            "{Job }.mp4",
            "{job:%Y}.mp4",
            "{from:}.mp4",
            "{from:%!}.mp4",
            "{from:%Y/%m}.mp4",
            "a\\b.mp4",
            "{job}/../x.mp4",
            "{job}//x.mp4",
            "{job}/./x.mp4",
            "~/{job}.mp4",
            "a\n{job}.mp4",
        ] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_unknown_field_is_told_with_what_was_probably_meant() {
        let refusal = Template::parse("{strem}.mp4").expect_err("unknown field");
        assert_eq!(refusal.suggestion.as_deref(), Some("{stream}"));
    }

    #[test]
    fn names_longer_than_a_file_system_takes_are_refused() {
        let longest = "c".repeat(MAX_COMPONENT_BYTES);
        assert!(rendered("{case}/x.mp4", Some(&longest), None).is_ok());
        assert!(rendered("{case}/x.mp4", Some(&format!("{longest}c")), None).is_err());
        let longest = "c".repeat(MAX_COMPONENT_BYTES - SIDECAR_BYTES - EXTENSION.len());
        assert!(rendered("{case}.mp4", Some(&longest), None).is_ok());
        assert!(rendered("{case}.mp4", Some(&format!("{longest}c")), None).is_err());
    }
}
