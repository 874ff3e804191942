//! One file a subcommand; each returns an exit code.

mod asking;
mod clip;
mod emulator;
mod error;
mod job_file;
mod machine;
mod plan;
mod run;
mod session;
mod signals;
mod status;
mod validate;
mod verify;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::{Cli, Command, GlobalArgs};
use crate::logging::{self, LogOptions};
use crate::model::report::{Outcome, RunReport};
use crate::{exit_code, report};

pub use error::CommandError;

/// Runs the command that the command line names.
pub fn execute(cli: &Cli) -> ExitCode {
    let color = stderr_color(&cli.global);
    let options = LogOptions {
        format: cli.global.log_format,
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
        color,
    };
    if let Err(error) = logging::init(options) {
        complain(&CommandError::from(error), color);
        return ExitCode::from(exit_code::USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&CommandError::Io { what: "start the runtime", source: error }, color);
            return ExitCode::from(exit_code::UNEXPECTED);
        }
    };
    let code = match &cli.command {
        Command::Run(args) => runtime.block_on(run::run(args, &cli.global)),
        Command::Plan(args) => runtime.block_on(plan::plan(&args.asking(), plan::Listing::Keep, &cli.global)),
        Command::Validate(args) => runtime.block_on(validate::validate(args, &cli.global)),
        Command::Status(args) => status::status(args, &cli.global),
        Command::Clip(args) => runtime.block_on(clip::clip(args, &cli.global)),
        Command::Verify(args) => verify::verify(args, &cli.global),
        Command::Emulator(args) => runtime.block_on(emulator::emulator(args, &cli.global)),
    };
    // A blocking task that still hangs must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Tells what is wrong with a command line, or the help that it asks for; with `--format json` standard output
/// holds a document all the same.
pub fn refuse(error: &clap::Error, arguments: impl Iterator<Item = String>) -> ExitCode {
    // Where the stream is closed there is nobody to tell.
    drop(error.print());
    if !error.use_stderr() {
        return ExitCode::from(exit_code::DONE);
    }
    let arguments: Vec<String> = arguments.collect();
    let wants_json = arguments.iter().any(|argument| argument == "--format=json")
        || arguments.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json");
    let code = exit_code::USAGE;
    if !wants_json {
        return ExitCode::from(code);
    }
    let report = RunReport::refused(Outcome::Usage, error.render().to_string().trim_end().to_owned());
    let document = report::json(&report).unwrap_or_default();
    ExitCode::from(print(&document, code, false))
}

fn stderr_color(global: &GlobalArgs) -> bool {
    report::use_color(global.no_color, io::stderr().is_terminal())
}

fn stdout_color(global: &GlobalArgs) -> bool {
    report::use_color(global.no_color, io::stdout().is_terminal())
}

/// Tells an error and the ways out on standard error.
fn complain(error: &CommandError, color: bool) {
    let label = if color { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let mut text = format!("{label} {}\n", error.told());
    for hint in error.hints() {
        text.push_str("  hint: ");
        text.push_str(&hint);
        text.push('\n');
    }
    // Where standard error is closed there is nobody to tell.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes the command's document; a failure to write it is the command's failure.
fn print(document: &str, code: u8, color: bool) -> u8 {
    match report::print(document) {
        Ok(()) => code,
        Err(source) => {
            complain(&CommandError::Io { what: "write to standard output", source }, color);
            if code == exit_code::DONE { exit_code::UNEXPECTED } else { code }
        }
    }
}
