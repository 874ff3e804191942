//! The one document that every command writes to standard output, also when it cannot begin.

use std::io;

use serde::Serialize;

use super::error::CommandError;
use super::{complain, stderr_color, stdout_color};
use crate::cli::{Command, GlobalArgs};
use crate::exit_code;
use crate::model::plan_report::PlanReport;
use crate::model::prune_report::PruneReport;
use crate::model::report::{Outcome, RunReport};
use crate::model::serving::Serving;
use crate::model::status::StatusReport;
use crate::model::validate_report::ValidateReport;
use crate::model::verification::VerifyReport;
use crate::model::written::{COMPLETIONS_SCHEMA, SCHEMA_SCHEMA, Unprinted, Written};
use crate::report::{self, OutputFormat};

/// Which document a command gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    Run,
    Plan,
    Validate,
    Status,
    Prune,
    Verify,
    Emulator,
    Init,
    Completions,
    Schema,
}

impl Document {
    /// That of a command.
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Run(args) if args.dry_run => Self::Plan,
            Command::Retry(args) if args.dry_run => Self::Plan,
            Command::Redo(args) if args.dry_run => Self::Plan,
            Command::Run(_) | Command::Clip(_) | Command::Retry(_) | Command::Redo(_) => Self::Run,
            Command::Prune(_) => Self::Prune,
            Command::Plan(_) => Self::Plan,
            Command::Validate(_) => Self::Validate,
            Command::Status(_) => Self::Status,
            Command::Verify(_) => Self::Verify,
            Command::Emulator(_) => Self::Emulator,
            Command::Init(_) => Self::Init,
            Command::Completions(_) => Self::Completions,
            Command::Schema(_) => Self::Schema,
        }
    }

    /// That of the command which a command line names that cannot be understood; a run's, where it names none.
    pub(super) fn meant(arguments: &[String]) -> Self {
        let named = |argument: &String| match argument.as_str() {
            "run" | "retry" | "redo" if arguments.iter().any(|argument| argument == "--dry-run") => {
                Some(Self::Plan)
            }
            "run" | "clip" | "retry" | "redo" => Some(Self::Run),
            "prune" => Some(Self::Prune),
            "plan" => Some(Self::Plan),
            "validate" => Some(Self::Validate),
            "status" => Some(Self::Status),
            "verify" => Some(Self::Verify),
            "emulator" => Some(Self::Emulator),
            "init" => Some(Self::Init),
            "completions" => Some(Self::Completions),
            "schema" => Some(Self::Schema),
            _ => None,
        };
        // No option that may stand before the command takes a value that is a command's name.
        arguments.iter().skip(1).find_map(named).unwrap_or(Self::Run)
    }

    /// The document, as JSON, of a command that could not begin.
    pub(super) fn refused(self, outcome: Outcome, error: String) -> Result<String, serde_json::Error> {
        match self {
            Self::Run => report::json(&RunReport::refused(outcome, error)),
            Self::Plan => report::plan_json(&PlanReport::refused(outcome, error)),
            Self::Validate => report::json(&ValidateReport::new(Vec::new(), Some((outcome, error)))),
            Self::Status => report::json(&StatusReport::refused(error)),
            Self::Prune => report::json(&PruneReport::refused(outcome, error)),
            Self::Verify => report::json(&VerifyReport::refused(error)),
            Self::Emulator => report::json(&Serving::refused(error)),
            Self::Init => report::json(&Written::refused(error)),
            Self::Completions => report::json(&Unprinted { schema: COMPLETIONS_SCHEMA, error }),
            Self::Schema => report::json(&Unprinted { schema: SCHEMA_SCHEMA, error }),
        }
    }
}

/// Writes the document that answers a question, in the form that is asked for, and gives the command's exit code.
/// `text` makes the form for people, in colour or without.
pub(super) fn answer(
    report: &impl Serialize,
    code: u8,
    global: &GlobalArgs,
    text: impl FnOnce(bool) -> String,
) -> u8 {
    let document = match global.format {
        OutputFormat::Text => Ok(text(stdout_color(global))),
        OutputFormat::Json => report::json(report),
    };
    write(document, code, global)
}

/// The same for the document of work that was done: with `-q` people are told only what went wrong.
pub(super) fn show(
    report: &impl Serialize,
    code: u8,
    global: &GlobalArgs,
    text: impl FnOnce(bool) -> String,
) -> u8 {
    if global.quiet && code == exit_code::DONE && global.format == OutputFormat::Text {
        return code;
    }
    answer(report, code, global, text)
}

/// Prints a text that is the same whatever form is asked for: it is what the command is for.
pub(super) fn print(text: String, global: &GlobalArgs) -> u8 {
    write(Ok(text), exit_code::DONE, global)
}

/// Tells why a command could not begin, on standard error, and writes its document where one is to be there whatever
/// happens.
pub(super) fn refuse(document: Document, error: &CommandError, global: &GlobalArgs) -> u8 {
    complain(error, stderr_color(global));
    let code = exit_code::of(error.outcome());
    match global.format {
        OutputFormat::Text => code,
        OutputFormat::Json => write(document.refused(error.outcome(), error.told()), code, global),
    }
}

/// Writes a document; a failure to make or write it is the command's failure.
fn write(document: Result<String, serde_json::Error>, code: u8, global: &GlobalArgs) -> u8 {
    match document {
        Ok(document) => written(report::print(&document), code, global),
        Err(error) => failed("write the document as JSON", error.into(), code, global),
    }
}

/// The exit code of a command whose document was written, or could not be.
pub(super) fn written(result: io::Result<()>, code: u8, global: &GlobalArgs) -> u8 {
    match result {
        Ok(()) => code,
        Err(source) => failed("write to standard output", source, code, global),
    }
}

fn failed(what: &'static str, source: io::Error, code: u8, global: &GlobalArgs) -> u8 {
    complain(&CommandError::Io { what, source }, stderr_color(global));
    if code == exit_code::DONE { exit_code::UNEXPECTED } else { code }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn meant(line: &str) -> Document {
        Document::meant(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line_that_cannot_be_understood_has_the_document_of_the_command_it_names() {
        for (line, document) in [
            ("kvs-export --format json verify", Document::Verify),
            ("kvs-export verify --format json", Document::Verify),
            ("kvs-export run a.toml --dry-run --fast --format json", Document::Plan),
            ("kvs-export run a.toml --fast --format json", Document::Run),
            ("kvs-export redo a.toml --dry-run --format json", Document::Plan),
            ("kvs-export prune a.toml --dry-run --format json", Document::Prune),
            ("kvs-export clip --format json", Document::Run),
            ("kvs-export --format json --fast", Document::Run),
            ("run --format json", Document::Run),
        ] {
            assert_eq!(meant(line), document, "{line}");
        }
    }

    #[test]
    fn every_command_has_its_own_schema() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let document = meant(&format!("kvs-export {name}"));
            let text = document.refused(Outcome::Usage, "why".to_owned()).expect("JSON");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            // A clip is a run, and so is one of exports that were begun before.
            let kind = if ["clip", "retry", "redo"].contains(&name) { "run" } else { name };
            assert_eq!(value["schema"], format!("kvs-export/{kind}/1"));
            assert_eq!(value["error"], "why");
        }
    }
}
