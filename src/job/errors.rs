//! What is wrong with a job file: all of it at once, each problem with its place and the accepted form.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Where something stands in a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Counted from 1; 0 means the file as a whole.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// The dotted path of the key; array elements are counted from 1.
    pub(super) key: String,
    /// What is to be marked: bytes of the text, which may be none.
    pub(super) span: Range<usize>,
}

impl Place {
    /// What stands in no file: an option, say, or a variable of the environment.
    pub(super) fn named(key: impl Into<String>) -> Self {
        Self { line: 0, column: 0, key: key.into(), span: 0..0 }
    }
}

/// A value with the place it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Why a text is not accepted, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong with it.
    pub message: String,
    /// The form that would be right.
    pub accepted: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Refusal {
    /// Makes a refusal that says only what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), accepted: None, suggestion: None }
    }

    /// Adds the accepted form.
    #[must_use]
    pub fn accepts(mut self, form: impl Into<String>) -> Self {
        self.accepted = Some(form.into());
        self
    }

    /// Adds what was probably meant, if that can be told.
    #[must_use]
    pub fn suggests(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// One problem of a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProblem {
    /// Line, from 1; 0 where the problem is the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 where the problem is the file as a whole.
    pub column: usize,
    /// Dotted path of the key, array elements counted from 1 (`job[2].from`); empty for broken TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The form that would be right.
    pub accepted: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// The line and what of it is meant; `None` where the problem has no line, or its text is not at hand.
    pub excerpt: Option<Excerpt>,
    span: Range<usize>,
}

/// A line of a job file, with the place of a problem in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, without its end and without a byte order mark.
    pub line: Arc<str>,
    /// The bytes of it that are meant; of what goes on over more lines those of the first, at its end none.
    pub marked: Range<usize>,
}

impl JobProblem {
    pub(super) fn at(place: &Place, refusal: Refusal) -> Self {
        Self {
            line: place.line,
            column: place.column,
            key: place.key.clone(),
            message: refusal.message,
            accepted: refusal.accepted,
            suggestion: refusal.suggestion,
            excerpt: None,
            span: place.span.clone(),
        }
    }
}

/// All problems of a job file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobErrors {
    file: String,
    problems: Vec<JobProblem>,
}

impl JobErrors {
    /// Sorts the problems of `file` by place and drops doubles (a default that is wrong for each job, say).
    pub(super) fn new(file: &str, mut problems: Vec<JobProblem>) -> Self {
        problems.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// The same, with the lines of the text in which they are.
    pub(super) fn in_text(file: &str, text: &str, problems: Vec<JobProblem>) -> Self {
        let mut errors = Self::new(file, problems);
        let lines = Lines::of(text);
        let mut last: Option<(usize, Arc<str>)> = None;
        for problem in errors.problems.iter_mut().filter(|problem| problem.line > 0) {
            let (start, line) = lines.line(problem.line);
            // One line may have very many problems, and be very long.
            let line = match &last {
                Some((number, line)) if *number == problem.line => Arc::clone(line),
                _ => line.into(),
            };
            last = Some((problem.line, Arc::clone(&line)));
            let inside = |at: usize| at.saturating_sub(start).min(line.len());
            let marked = inside(problem.span.start)..inside(problem.span.end.max(problem.span.start));
            problem.excerpt = Some(Excerpt { line, marked });
        }
        errors
    }

    /// The file as its user named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems; never empty.
    pub fn problems(&self) -> &[JobProblem] {
        &self.problems
    }
}

impl fmt::Display for JobErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file)?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}", problem.message)?;
            if let Some(accepted) = &problem.accepted {
                write!(f, "\n  accepted: {accepted}")?;
            }
            if let Some(suggestion) = &problem.suggestion {
                write!(f, "\n  did you mean {suggestion}?")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for JobErrors {}

/// Decodes a job file's bytes, or says where they stop to be UTF-8.
pub fn decode<'b>(bytes: &'b [u8], file: &str) -> Result<&'b str, JobErrors> {
    std::str::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(bytes);
        let start = error.valid_up_to();
        let place = Lines::of(&text).place(start..start + char::REPLACEMENT_CHARACTER.len_utf8(), "");
        let refusal = Refusal::new("the file is not UTF-8 text").accepts("TOML in UTF-8");
        JobErrors::in_text(file, &text, vec![JobProblem::at(&place, refusal)])
    })
}

/// Turns byte offsets into lines and columns.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        // A byte order mark is no column of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let starts =
            std::iter::once(first).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect::<Vec<_>>();
        Self { text, starts }
    }

    pub(super) fn place(&self, span: Range<usize>, key: impl Into<String>) -> Place {
        let offset = span.start.min(self.text.len());
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Place { line, column, key: key.into(), span }
    }

    /// Where a line, counted from 1, begins, and its text without its end.
    fn line(&self, number: usize) -> (usize, &'t str) {
        let start = self.starts.get(number.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(number).map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end).unwrap_or_default();
        (start, line.strip_suffix('\r').unwrap_or(line))
    }
}

/// The text being read and the problems found so far.
#[derive(Debug)]
pub(super) struct Context<'t> {
    lines: Lines<'t>,
    /// What stands in no file: the names of its keys, by their paths.
    names: HashMap<String, String>,
    problems: RefCell<Vec<JobProblem>>,
}

impl<'t> Context<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { lines: Lines::of(text), names: HashMap::new(), problems: RefCell::default() }
    }

    /// Of values that stand in no file: each key has another name there.
    pub(super) fn named(names: HashMap<String, String>) -> Self {
        Self { names, ..Self::of("") }
    }

    /// Takes the problems of another text.
    pub(super) fn take(&self, other: Context<'_>) {
        self.problems.borrow_mut().extend(other.into_problems());
    }

    pub(super) fn place(&self, span: Range<usize>, key: impl Into<String>) -> Place {
        let key = key.into();
        match self.names.get(&key) {
            Some(name) => Place::named(name),
            None => self.lines.place(span, key),
        }
    }

    pub(super) fn report(&self, place: &Place, refusal: Refusal) {
        self.problems.borrow_mut().push(JobProblem::at(place, refusal));
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    pub(super) fn into_problems(self) -> Vec<JobProblem> {
        self.problems.into_inner()
    }
}

/// The candidate that `word` was probably meant to be, if one is near enough.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let text = "a = 1\nä = \"ö\" b";
        let place = Lines::of(text).place(16..17, "k");
        assert_eq!((place.line, place.column), (2, 9));
    }

    #[test]
    fn a_byte_order_mark_is_not_a_column() {
        assert_eq!(Lines::of("\u{feff}x").place(3..4, "").column, 1);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_named_with_their_place() {
        let errors = decode(b"a = 1\nb = \"\xff\"", "jobs.toml").expect_err("not UTF-8");
        assert!(errors.to_string().starts_with("jobs.toml:2:6: the file is not UTF-8"), "{errors}");
        assert_eq!(decode("ä".as_bytes(), "jobs.toml"), Ok("ä"));
    }

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["timestamps", "timeline", "edges"];
        assert_eq!(nearest("timestmaps", words), Some("timestamps"));
        assert_eq!(nearest("Edges", words), Some("edges"));
        assert_eq!(nearest("banana", words), None);
    }
}
