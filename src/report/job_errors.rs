//! The problems of a job file as a compiler shows them: each with its line, the place marked, and the accepted form.
//!
//! Drawn by `annotate-snippets`, the renderer of rustc and Cargo: kept by the Rust project, small (it shares its two
//! dependencies with clap), it neither wants its own error types nor prints by itself, and it knows tabs, wide characters,
//! control characters and lines that are longer than the terminal is wide. `miette` brings a trait, a derive macro and a
//! reporter for a whole program's errors, which this one has; `ariadne` does not shorten long lines.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::units::counted;
use crate::job::{JobErrors, JobProblem};

/// How wide the text may be where nobody says: notes are read in mails and logs too.
const USUAL_WIDTH: usize = 120;

/// Narrower than this, marks and words would have no room.
const LEAST_WIDTH: usize = 60;

/// All problems in the order of the file, the number of them at the end; `width` is the terminal's.
pub fn job_errors(errors: &JobErrors, color: bool, width: Option<usize>) -> String {
    let width = width.unwrap_or(USUAL_WIDTH).max(LEAST_WIDTH);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(width);
    let mut text = String::new();
    for problem in errors.problems() {
        text += &renderer.render(&[group(errors.file(), problem, width)]);
        text += "\n\n";
    }
    match errors.problems().len() {
        0 | 1 => text.truncate(text.len().saturating_sub(1)),
        several => {
            let title = format!("{} in {}", counted(several as u64, "problem"), errors.file());
            text += &renderer.render(&[Group::with_title(Level::ERROR.primary_title(title))]);
            text.push('\n');
        }
    }
    text
}

fn group<'a>(file: &'a str, problem: &'a JobProblem, width: usize) -> Group<'a> {
    let title = match problem.key.as_str() {
        "" => problem.message.clone(),
        key => format!("{key}: {}", problem.message),
    };
    let group = Level::ERROR.primary_title(title);
    let meant = problem.suggestion.as_ref().map(|suggestion| format!("did you mean {suggestion}?"));
    let (group, meant) = match &problem.excerpt {
        Some(excerpt) => {
            let place = AnnotationKind::Primary.span(excerpt.marked.clone());
            let snippet = Snippet::source(&*excerpt.line).line_start(problem.line).path(file);
            (group.element(snippet.annotation(place.label(meant))), None)
        }
        None if problem.line > 0 => {
            let place = Origin::path(file).line(problem.line).char_column(problem.column);
            (group.element(place), meant)
        }
        None => (group.element(Origin::path(file)), meant),
    };
    let note = |name: &'static str, text: &str| {
        // Continued lines stand below the first word after `   = name: `, lines of four digits.
        let room = width.saturating_sub(name.len() + 9).max(LEAST_WIDTH / 2);
        Level::NOTE.with_name(name).message(wrapped(&normalize_untrusted_str(text), room))
    };
    let accepted = problem.accepted.as_ref().map(|accepted| note("accepted", accepted));
    group.elements(accepted).elements(meant.map(|meant| note("help", &meant)))
}

/// Broken between words into lines of at most `room` characters.
fn wrapped(text: &str, room: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line)
                if console::measure_text_width(line) + 1 + console::measure_text_width(word) <= room =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
#[path = "job_errors_tests.rs"]
mod tests;
