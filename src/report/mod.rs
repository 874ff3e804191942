//! Shows a run to its user: progress on standard error while it goes on, one document on standard output at its end.
//!
//! Everything here is told by [`crate::model`]: events while it goes on, reports at its end. It decides nothing.

#![expect(clippy::format_push_string, reason = "writing to a String has an error that never happens")]

use std::io::{self, Write};

mod answer;
mod bars;
mod events;
mod exports;
mod job_errors;
mod meter;
mod plan;
mod plan_printer;
mod progress;
mod prune;
mod screen;
mod state;
mod status;
mod summary;
mod table;
mod trouble;
pub mod units;
mod validate;
mod verification;

use serde::Serialize;

pub use answer::{answer, answer_of};
pub use events::ProgressEvent;
pub use job_errors::job_errors;
pub use plan_printer::{PlanForm, PlanPrinter, plan_json};
pub use progress::{Progress, ProgressMode, ProgressOptions, progress};
pub use prune::prune_text;
pub use screen::{Stderr, terminal_width};
pub use status::status_text;
pub use summary::summary;
pub use validate::validate_text;
pub use verification::verification;

/// What standard output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON document, whatever the exit code; see docs/json.md
    Json,
}

/// A report as one JSON document, indented, with a line end.
pub fn json(report: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// Whether to colour what goes to a terminal: not when the user says so, by option or by `NO_COLOR`.
pub fn use_color(no_color: bool, is_terminal: bool) -> bool {
    is_terminal && !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes the command's document to standard output. A reader that has gone (`| head`) is no error.
pub fn print(document: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(document.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn keys(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(key, value)| {
                into.insert(key.clone());
                keys(value, into);
            }),
            Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }

    /// The section of a schema in the documentation.
    fn section(schema: &str) -> &'static str {
        let page = include_str!("../../docs/json.md");
        let (_, section) = page.split_once(&format!("\n## `kvs-export/{schema}/1`")).expect("a section");
        section.split_once("\n## ").map_or(section, |(section, _)| section)
    }

    #[test]
    fn every_key_of_the_documents_is_documented() {
        let run = section("run");
        let with_run = |schema: &str| format!("{run}{}", section(schema));
        let documents = [
            (run.to_owned(), serde_json::to_value(summary::tests::everything())),
            // The keys that these share with it are described once.
            (with_run("plan"), serde_json::from_str(&plan::tests::document())),
            (with_run("status"), serde_json::to_value(status::tests::everything())),
            (section("validate").to_owned(), serde_json::to_value(validate::tests::everything())),
            (section("prune").to_owned(), serde_json::to_value(prune::tests::everything())),
            (section("verify").to_owned(), serde_json::to_value(verification::tests::everything())),
        ];
        for (page, document) in documents {
            let mut found = BTreeSet::new();
            keys(&document.expect("JSON"), &mut found);
            assert!(found.len() > 10, "{found:?}");
            let missing: Vec<_> = found
                .iter()
                .filter(|key| !page.contains(&format!("`{key}`")) && !page.contains(&format!("\"{key}\"")))
                .collect();
            assert!(missing.is_empty(), "docs/json.md says nothing of {missing:?}");
        }
    }

    #[test]
    fn colour_is_for_terminals_and_never_against_the_users_will() {
        assert!(!use_color(true, true));
        assert!(!use_color(false, false));
    }
}
