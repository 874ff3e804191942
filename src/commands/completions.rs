//! `kvs-export completions`: what a shell needs to complete this program's command line.

use clap::CommandFactory;

use super::document;
use crate::cli::{Cli, CompletionsArgs, GlobalArgs};

/// Prints them.
pub(super) fn completions(args: &CompletionsArgs, global: &GlobalArgs) -> u8 {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    document::print(String::from_utf8_lossy(&text).into_owned(), global)
}
