//! `kvs-export init`: a job file to begin with.

use std::io;
use std::path::{Path, PathBuf};

use super::document::{self, Document};
use super::error::CommandError;
use crate::cli::{GlobalArgs, InitArgs};
use crate::clock::{Clock, SystemClock};
use crate::exit_code;
use crate::fs::{self, FsError};
use crate::job::{self, JobErrors, JobSource};
use crate::model::written::Written;

/// The job file, with places for the zone, the streams, its own name and the words of a path.
const TEMPLATE: &str = include_str!("init.toml");

/// The zone of a machine that does not tell its own.
const FALLBACK_ZONE: &str = "UTC";

/// Writes it, or prints it.
pub(super) fn init(args: &InitArgs, global: &GlobalArgs) -> u8 {
    if args.file == Path::new("-") {
        return match job_file(args, Path::new("jobs.toml")) {
            Ok(text) => document::print(text, global),
            Err(error) => document::refuse(Document::Init, &error, global),
        };
    }
    match write(args) {
        Ok(file) => {
            let shown = args.file.display();
            document::show(&Written::to(file), exit_code::DONE, global, |_| {
                format!("{shown}: written; name your streams in it, then: kvs-export validate {shown}\n")
            })
        }
        Err(error) => document::refuse(Document::Init, &error, global),
    }
}

/// Writes it where no file is, and gives its absolute path.
fn write(args: &InitArgs) -> Result<PathBuf, CommandError> {
    let file = std::path::absolute(&args.file)
        .map_err(|source| CommandError::Io { what: "find the current folder", source })?;
    let exists = || CommandError::Exists { path: args.file.clone() };
    if file.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let text = job_file(args, &file)?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write_new_durably(&file, text.as_bytes()).map_err(|error| match error {
        FsError { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => exists(),
        error => error.into(),
    })?;
    Ok(file)
}

/// The text of a job file that is to lie there, which is right as it stands.
fn job_file(args: &InitArgs, file: &Path) -> Result<String, CommandError> {
    let zone = args.time_zone.clone().unwrap_or_else(machine_zone);
    let streams: Vec<String> = args.streams.iter().map(|stream| quoted(stream)).collect();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let text = TEMPLATE
        .replace("{TIME_ZONE}", &quoted(&zone))
        .replace("{STREAMS}", &format!("[{}]", streams.join(", ")))
        .replace("{FILE}", &name)
        .replace("{STEM}", &stem);
    let source = JobSource { text: &text, file, display: &name };
    job::load(source, SystemClock.now(), &[]).map_err(|errors| of_options(&errors))?;
    Ok(text)
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// This machine's zone, if it tells its IANA name.
fn machine_zone() -> String {
    let zone = jiff::tz::TimeZone::system();
    match zone.iana_name() {
        // The same, by the names of the machines and not of people.
        None | Some("Etc/UTC" | "Etc/Unknown" | "UCT" | "Zulu") => FALLBACK_ZONE.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// What is wrong with the file is wrong with the options that it was made of.
fn of_options(errors: &JobErrors) -> CommandError {
    let told = errors.problems().iter().map(|problem| {
        let option = if problem.key.ends_with("time_zone") { "--time-zone" } else { "--stream" };
        let accepted =
            problem.accepted.as_ref().map(|form| format!("; accepted: {form}")).unwrap_or_default();
        let meant =
            problem.suggestion.as_ref().map(|word| format!("; did you mean {word}?")).unwrap_or_default();
        format!("{option}: {}{accepted}{meant}", problem.message)
    });
    CommandError::Usage(told.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(streams: &[&str], zone: Option<&str>) -> InitArgs {
        InitArgs {
            file: PathBuf::from("nightly.toml"),
            streams: streams.iter().map(|&stream| stream.to_owned()).collect(),
            time_zone: zone.map(str::to_owned),
        }
    }

    fn text_of(args: &InitArgs) -> String {
        job_file(args, Path::new("/srv/nightly.toml")).expect("a right job file")
    }

    /// With the `#` taken away from what could stand there.
    fn switched_on(text: &str) -> String {
        let key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
        };
        text.lines()
            .map(|line| if key(line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
            .collect()
    }

    #[test]
    fn one_job_is_switched_on_and_its_range_is_over() {
        let text = text_of(&args(&["gate", "yard"], Some("Europe/Berlin")));
        let file = Path::new("/srv/nightly.toml");
        let source = JobSource { text: &text, file, display: "nightly.toml" };
        let (_, exports) = job::load(source, SystemClock.now(), &[]).expect("right");
        let streams: Vec<&str> = exports.iter().map(|export| export.spec.stream.name()).collect();
        assert_eq!(streams, ["gate", "yard"]);
        assert!(exports.iter().all(|export| !export.pending && export.spec.settle_ms < 300_000));
        assert!(exports.iter().all(|export| export.spec.time_zone.as_deref() == Some("Europe/Berlin")));
    }

    #[test]
    fn everything_that_is_commented_out_is_right_too() {
        let text = switched_on(&text_of(&args(&["gate"], None)));
        let source = JobSource { text: &text, file: Path::new("/srv/a.toml"), display: "a.toml" };
        let (file, _) =
            job::load(source, SystemClock.now(), &[]).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert!(file.jobs.len() >= 3, "{text}");
        assert!(!file.state.starts_with("/srv"), "{}", file.state.display());
    }

    #[test]
    fn nothing_is_left_of_the_template() {
        let text = text_of(&args(&["gate"], None));
        for place in ["{TIME_ZONE}", "{STREAMS}", "{FILE}", "{STEM}"] {
            assert!(TEMPLATE.contains(place) && !text.contains(place), "{place}");
        }
    }

    #[test]
    fn what_the_options_say_is_refused_as_in_a_job_file() {
        for (args, told) in [
            (args(&["a b"], None), "--stream: "),
            (args(&["gate", "gate"], None), "--stream: "),
            (args(&["gate"], Some("Europe/Berln")), "--time-zone: "),
        ] {
            let error = job_file(&args, Path::new("/srv/a.toml")).expect_err("refused").told();
            assert!(error.starts_with(told) && error.contains("accepted: "), "{error}");
        }
        let error =
            job_file(&args(&["gate"], Some("Europe/Berln")), Path::new("/a.toml")).expect_err("refused");
        assert_eq!(error.outcome(), crate::model::report::Outcome::Usage);
    }
}
