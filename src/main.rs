//! Parses the command line, runs the command, exits with its code.

use std::process::ExitCode;

use clap::Parser;
use kvs_export::cli::Cli;
use kvs_export::commands;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => commands::execute(&cli),
        Err(error) => commands::refuse(&error, std::env::args()),
    }
}
