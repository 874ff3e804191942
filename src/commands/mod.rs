//! One file a subcommand; each returns an exit code.

mod afterwards;
mod again;
mod asking;
mod clip;
mod completions;
mod document;
mod emulator;
mod error;
mod expansion;
mod init;
mod job_file;
mod machine;
mod plan;
mod prune;
mod run;
mod schema;
mod session;
mod signals;
mod status;
mod validate;
mod verify;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::{Cli, Command, GlobalArgs};
use crate::logging::{self, LogFormat, LogOptions};
use crate::model::report::Outcome;
use crate::report::{ProgressEvent, ProgressMode};
use crate::{exit_code, report};

use document::Document;

pub use error::CommandError;

/// Runs the command that the command line names.
pub fn execute(cli: &Cli) -> ExitCode {
    let color = stderr_color(&cli.global);
    let options = LogOptions {
        // Among events every line is to be JSON.
        format: if color.events { LogFormat::Json } else { cli.global.log_format },
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
        color: color.color,
    };
    if let Err(error) = logging::init(options) {
        let document = Document::of(&cli.command);
        return ExitCode::from(document::refuse(document, &CommandError::from(error), &cli.global));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CommandError::Io { what: "start the runtime", source: error };
            return ExitCode::from(document::refuse(Document::of(&cli.command), &error, &cli.global));
        }
    };
    let code = match &cli.command {
        Command::Run(args) => runtime.block_on(run::run(args, &cli.global)),
        Command::Plan(args) => runtime.block_on(plan::plan(&args.asked, plan::Listing::Keep, &cli.global)),
        Command::Validate(args) => runtime.block_on(validate::validate(args, &cli.global)),
        Command::Retry(args) => runtime.block_on(again::retry(args, &cli.global)),
        Command::Redo(args) => runtime.block_on(again::redo(args, &cli.global)),
        Command::Prune(args) => runtime.block_on(async { prune::prune(args, &cli.global) }),
        Command::Status(args) => status::status(args, &cli.global),
        Command::Clip(args) => runtime.block_on(clip::clip(args, &cli.global)),
        Command::Verify(args) => verify::verify(args, &cli.global),
        Command::Emulator(args) => runtime.block_on(emulator::emulator(args, &cli.global)),
        Command::Init(args) => init::init(args, &cli.global),
        Command::Completions(args) => completions::completions(args, &cli.global),
        Command::Schema(args) => schema::schema(args, &cli.global),
    };
    // A blocking task that still hangs must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Tells what is wrong with a command line, or the help that it asks for; with `--format json` standard output
/// holds a document all the same, with `--progress json` standard error an event.
pub fn refuse(error: &clap::Error, arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let wants = |option: &str| {
        arguments.iter().any(|argument| *argument == format!("{option}=json"))
            || arguments.windows(2).any(|pair| pair[0] == option && pair[1] == "json")
    };
    let help = !error.use_stderr();
    let (outcome, code) = (Outcome::Usage, exit_code::USAGE);
    let message = error.render().to_string();
    let message = message.trim_end().trim_start_matches("error: ").to_owned();
    if wants("--progress") && !help {
        ProgressEvent::Error { message: &message, hints: &[], outcome, exit_code: code }.tell();
    } else {
        // Where the stream is closed there is nobody to tell.
        drop(error.print());
    }
    if help {
        return ExitCode::from(exit_code::DONE);
    }
    if !wants("--format") {
        return ExitCode::from(code);
    }
    let document = Document::meant(&arguments).refused(outcome, message).unwrap_or_default();
    ExitCode::from(match report::print(&document) {
        Ok(()) => code,
        Err(source) => {
            let how = ErrorStyle { color: false, events: wants("--progress") };
            complain(&CommandError::Io { what: "write to standard output", source }, how);
            code
        }
    })
}

/// How errors are told on standard error.
#[derive(Debug, Clone, Copy)]
struct ErrorStyle {
    /// In colour.
    color: bool,
    /// As events, like the progress of a run.
    events: bool,
}

fn stderr_color(global: &GlobalArgs) -> ErrorStyle {
    let events = global.progress == ProgressMode::Json;
    let color = !events && report::use_color(global.no_color, io::stderr().is_terminal());
    ErrorStyle { color, events }
}

fn stdout_color(global: &GlobalArgs) -> bool {
    report::use_color(global.no_color, io::stdout().is_terminal())
}

/// Tells an error and the ways out on standard error.
fn complain(error: &CommandError, how: ErrorStyle) {
    if how.events {
        let (message, hints, outcome) = (error.told(), error.hints(), error.outcome());
        let exit_code = exit_code::of(outcome);
        return ProgressEvent::Error { message: &message, hints: &hints, outcome, exit_code }.tell();
    }
    if let CommandError::JobFile(errors) = error {
        let text = report::job_errors(errors, how.color, report::terminal_width());
        // Where standard error is closed there is nobody to tell.
        drop(io::stderr().lock().write_all(text.as_bytes()));
        return;
    }
    let label = if how.color { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let mut text = format!("{label} {}\n", error.told());
    for hint in error.hints() {
        text.push_str("  hint: ");
        text.push_str(&hint);
        text.push('\n');
    }
    // Where standard error is closed there is nobody to tell.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
