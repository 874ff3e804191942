//! What is made from the program's own types: docs/commands.md, docs/job-file.md, jobs.schema.json, and the tables of exit
//! codes.
//!
//! With `UPDATE_DOCS=1` it is written anew; without, it must be what the types say.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use kvs_export::cli::Cli;
use kvs_export::{exit_code, job, report};

use crate::{checkout, text_of};

const INTRODUCTION: &str = "\
# The commands

This page is made from the program's own help: `make docs` renews it. `kvs-export COMMAND --help` says the same, `-h` less.
";

/// What the environment says beside the options that name a variable.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("AWS_…", "credentials, region and everything else that the AWS SDK reads"),
    ("KVS_EXPORT_FFMPEG", "the ffmpeg to use; without it the one in `PATH`"),
    ("KVS_EXPORT_LOG", "what is logged, instead of `-v` and `-q`: `debug`, or `target=level` pairs"),
    ("NO_COLOR", "not empty: no colour, as `--no-color`"),
    ("TZ", "the zone that `init` writes; nothing else depends on it"),
];

/// Fails, or renews, where a file is not what it should be.
fn expect(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(checkout(path), expected).expect("the page is written");
        return;
    }
    let found = std::fs::read_to_string(checkout(path)).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let line = differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
    assert!(found == expected, "{path} is not as the program says from line {} on; run: make docs", line + 1);
}

/// The same for what stands between two comments of a page.
fn expect_between(path: &str, name: &str, expected: &str) {
    let page = text_of(path);
    let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->\n"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{path} has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} has no {end}"));
    expect(path, &format!("{before}{begin}\n{expected}\n{end}{after}"));
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    let one_line: Vec<&str> = text.split_whitespace().collect();
    one_line.join(" ").replace('|', "\\|").replace('<', "\\<")
}

/// How an option or argument is written.
fn written(arg: &Arg) -> String {
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let values = values.join(" ");
    if arg.is_positional() {
        let many = arg.get_num_args().is_some_and(|number| number.max_values() > 1);
        return format!("`{values}{}`", if many { "…" } else { "" });
    }
    let value = if arg.get_action().takes_values() { format!(" {values}") } else { String::new() };
    let long = arg.get_long().map(|long| format!("`--{long}{value}`"));
    let short =
        arg.get_short().map(|short| format!("`-{short}{}`", if long.is_none() { &*value } else { "" }));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

/// What an option or argument means, its values and default included.
fn meaning(arg: &Arg) -> String {
    // A long help that is a list of its own stays with --help.
    let mut text = cell(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    let values: Vec<_> = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        let told = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), cell(&help.to_string())),
            None => format!("`{}`", value.get_name()),
        });
        let _ = write!(text, ": {}", told.collect::<Vec<_>>().join(", "));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, "; default: {}", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, "; environment: `{}`", variable.to_string_lossy());
    }
    text
}

fn table<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    page.push_str("\n| | |\n|---|---|\n");
    for arg in args {
        let _ = writeln!(page, "| {} | {} |", written(arg), meaning(arg));
    }
}

/// The text after the options: prose, then examples. What needs a program that is not this one is not run.
fn after(page: &mut String, text: &str) {
    let (prose, examples) = text.split_once("Example:\n").expect("every command has examples");
    let prose = prose.trim();
    if !prose.is_empty() {
        let _ = write!(page, "\n{prose}\n");
    }
    let examples: Vec<&str> = examples.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let reason = |line: &str| match line {
        line if line.starts_with("aws ") => Some("needs the AWS CLI"),
        // With the id of one.
        line if line.starts_with("kvs-export retry jobs.toml ") => Some("needs an export that has failed"),
        _ => None,
    };
    for examples in examples.chunk_by(|one, other| reason(one) == reason(other)) {
        let said =
            reason(examples[0]).map(|reason| format!("<!-- not run: {reason} -->\n")).unwrap_or_default();
        let _ = write!(page, "\n{said}```sh\n{}\n```\n", examples.join("\n"));
    }
}

fn commands_page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = INTRODUCTION.to_owned();
    let is_shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let commands: Vec<&Command> =
        root.get_subcommands().filter(|command| command.get_name() != "help").collect();
    page.push_str("\n| command | does |\n|---|---|\n");
    for command in &commands {
        let about = cell(&command.get_about().map(ToString::to_string).unwrap_or_default());
        let name = command.get_name();
        let _ = writeln!(page, "| [`{name}`](#kvs-export-{name}) | {about} |");
    }
    for command in &commands {
        let usage = Command::clone(command).render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace(['<', '>'], "");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ =
            write!(page, "\n## `kvs-export {}`\n\n{about}.\n\n```text\n{usage}\n```\n", command.get_name());
        table(&mut page, command.get_arguments().filter(|arg| !arg.is_global_set()).filter(is_shown));
        after(&mut page, &command.get_after_help().map(ToString::to_string).unwrap_or_default());
    }
    page.push_str("\n## Options of every command\n");
    table(&mut page, root.get_arguments().filter(is_shown));
    page.push_str("\n## Environment\n\n| variable | says |\n|---|---|\n");
    for (variable, says) in ENVIRONMENT {
        let _ = writeln!(page, "| `{variable}` | {says} |");
    }
    let _ = write!(page, "\n## Exit codes\n\n{}", exit_code::markdown());
    page
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    expect("docs/commands.md", &commands_page());
}

#[test]
fn the_schema_and_the_page_of_the_job_file_are_what_the_types_say() {
    expect("jobs.schema.json", &report::json(&job::schema()).expect("JSON"));
    expect("docs/job-file.md", &job::reference());
}

#[test]
fn the_tables_of_exit_codes_are_what_the_program_says() {
    for path in ["README.md", "docs/json.md"] {
        expect_between(path, "exit codes", &exit_code::markdown());
    }
}

#[test]
fn every_variable_that_the_program_reads_is_on_the_page() {
    // Those that stand for keys of a job file are on the page of these.
    let page = commands_page() + &text_of("docs/job-file.md");
    let mut read = Vec::new();
    let mut folders = vec![checkout("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                // What tests give the program is not all right.
                folders.extend(Some(path).filter(|path| !path.ends_with("tests")));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let names = text.split('"').filter(|part| part.starts_with("KVS_EXPORT_")).map(str::to_owned);
                read.extend(names.filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
            }
        }
    }
    assert!(read.len() > 3, "{read:?}");
    // What is said to [notify] is not read; what makes it die on order is in no release.
    let told = [
        "KVS_EXPORT_OUTCOME",
        "KVS_EXPORT_EXIT_CODE",
        "KVS_EXPORT_REPORT",
        "KVS_EXPORT_CRASH_AT",
        "KVS_EXPORT_STEP_LOG",
        // What all of them begin with.
        "KVS_EXPORT_",
    ];
    for variable in read.iter().filter(|name| !told.contains(&name.as_str())) {
        assert!(page.contains(&format!("`{variable}`")), "the pages say nothing of {variable}");
    }
}
