//! Every command that the README and the pages under docs/ show is run, and what they show of its output is compared.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::blocks::{self, Block, Kind};
use crate::stage::Stage;
use crate::{checkout, text_of};

/// Pages that show commands; no other page may.
const PAGES: [&str; 4] = ["README.md", "docs/commands.md", "docs/emulator.md", "docs/running.md"];

/// Why a block may be left out.
const REASONS: [&str; 6] = [
    "needs the AWS CLI",
    "needs an export that has failed",
    "needs Docker",
    "needs root and systemd",
    "downloads a toolchain",
    "builds, or runs these very tests",
];

/// The folder that the documentation speaks of.
const TOLD_FOLDER: &str = "/srv/cameras";

/// The beginning of an export's id, where one is told.
const TOLD_EXPORT: &str = "9f86d081";

/// A job file for commands that need any.
const SMALL_JOBS: &str = "\
version = 1
[[job]]
name = \"nightly-evidence\"
streams = [\"STREAM\"]
from = 2025-03-03T08:00:00Z
to = 2025-03-03T08:01:00Z
";

/// A page as it is tried.
struct Trial<'p> {
    page: &'p str,
    stage: Stage,
}

impl Trial<'_> {
    /// A command, with this stage's folder in the place of the one that is told.
    fn here(&self, text: &str) -> String {
        text.replace(TOLD_FOLDER, &self.stage.folder().display().to_string())
    }

    /// Writes a file that the page shows.
    fn write(&self, name: &str, block: &Block) {
        let text = self.here(&block.lines.join("\n")).replace("America/Los_Angeles", &zone_at_noon());
        let name = self.here(name);
        self.stage.write(&name, &(text + "\n"));
        if Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            self.stage.without_min_free(&name);
        }
        if block.lines[0].starts_with("#!") {
            let made = self.stage.shell(&format!("chmod +x {name}")).status().expect("it starts");
            assert!(made.success());
        }
    }

    fn run(&mut self, block: &Block) {
        let place = format!("{}:{}", self.page, block.line);
        match block.kind() {
            Kind::Commands => commands(&block.lines).iter().for_each(|command| self.succeed(&place, command)),
            Kind::Session => self.session(&place, &block.lines),
            Kind::Crontab => self.crontab(&place, &block.lines),
            Kind::Other => {}
        }
    }

    /// Runs a command that must succeed, or serves until it has said where.
    fn succeed(&self, place: &str, command: &str) {
        if command.starts_with("kvs-export emulator") {
            return self.serve(place, command);
        }
        let output = self.stage.shell(&self.here(command)).output().expect("bash starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{place}: {command}\n{said}");
    }

    fn serve(&self, place: &str, command: &str) {
        let mut port = command.trim_end_matches(" &").to_owned();
        assert!(!port.contains("--port"), "{place}: two tests would take one port");
        port.push_str(" --port 0");
        let mut shell = self.stage.shell(&format!("exec {port}"));
        let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash starts");
        let mut endpoint = String::new();
        let read = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut endpoint);
        let pid = Pid::from_child(&child);
        // It is gone where it could not serve.
        kill_process(pid, Signal::INT).ok();
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(read.is_ok() && endpoint.starts_with("http://127.0.0.1:"), "{place}: {command}\n{said}");
        assert_eq!(status.code(), Some(0), "{place}: {command}\n{said}");
    }

    /// Runs the commands of a session; each must say what is shown below it.
    fn session(&mut self, place: &str, lines: &[String]) {
        let mut at = 0;
        while at < lines.len() {
            let command =
                lines[at].strip_prefix("$ ").unwrap_or_else(|| panic!("{place}: no command: {}", lines[at]));
            let shown = lines[at + 1..]
                .iter()
                .take_while(|line| !line.starts_with("$ "))
                .cloned()
                .collect::<Vec<_>>();
            at += 1 + shown.len();
            let said = if shown.iter().any(|line| line == "^C") {
                self.interrupted(command)
            } else {
                let script = format!("exec 2>&1; {}", self.here(command));
                let output = self.stage.shell(&script).output().expect("bash starts");
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            expect_shape(
                &format!("{place}: {command}"),
                &shown,
                &said.replace(&self.here(TOLD_FOLDER), TOLD_FOLDER),
            );
        }
    }

    /// What a command says that is stopped from the keyboard midway.
    fn interrupted(&mut self, command: &str) -> String {
        let target: Arc<Mutex<Option<Pid>>> = Arc::default();
        let aimed = Arc::clone(&target);
        self.stage.with_archive_that_stalls(move || {
            let pid = aimed.lock().unwrap_or_else(PoisonError::into_inner);
            kill_process(pid.expect("it is running"), Signal::INT).expect("it is sent");
        });
        let mut shell = self.stage.shell(&format!("exec {} 2>&1", self.here(command)));
        let mut pid = target.lock().expect("nobody has it");
        let child = shell.stdout(Stdio::piped()).spawn().expect("bash starts");
        *pid = Some(Pid::from_child(&child));
        drop(pid);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{command}");
        self.stage.with_calm_archive();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the lines of a crontab, which say nothing when all is well: what they say, cron mails.
    fn crontab(&self, place: &str, lines: &[String]) {
        let mut variables = Vec::new();
        for line in lines.iter().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.contains(' ')) {
                variables.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let command =
                line.splitn(6, ' ').nth(5).unwrap_or_else(|| panic!("{place}: no crontab's line: {line}"));
            assert!(!command.contains('%'), "{place}: cron ends a command at a % sign");
            let command = self.here(&with_the_locks_there_are(command.trim_start()));
            let output = self.stage.cron(&variables, &command).output().expect("a shell starts");
            let said = [output.stdout, output.stderr].concat();
            assert_eq!(
                (output.status.code(), String::from_utf8_lossy(&said).as_ref()),
                (Some(0), ""),
                "{place}: {line}"
            );
        }
    }
}

/// A command without its `flock -n FILE` where there is no such program, as on macOS.
fn with_the_locks_there_are(command: &str) -> String {
    let locked = command.strip_prefix("flock -n ").and_then(|rest| rest.split_once(' '));
    match locked {
        Some((_, command)) if Command::new("flock").arg("--version").output().is_err() => command.to_owned(),
        _ => command.to_owned(),
    }
}

/// A zone in which it is between noon and one: the night is over everywhere where it is day.
fn zone_at_noon() -> String {
    let hour = i8::try_from(jiff::Timestamp::now().as_second() / 3600 % 24).expect("an hour");
    match 12 - hour {
        // The signs of these names are the other way round.
        east @ 1.. => format!("Etc/GMT-{east}"),
        0 => "Etc/GMT".to_owned(),
        west => format!("Etc/GMT+{}", -west),
    }
}

/// The commands of a block, each as one text however many lines it has.
fn commands(lines: &[String]) -> Vec<String> {
    let mut commands = vec![String::new()];
    for line in lines {
        let last = commands.last_mut().expect("there is one");
        if let Some(begun) = line.strip_suffix('\\') {
            last.push_str(begun);
        } else {
            last.push_str(line);
            commands.push(String::new());
        }
    }
    commands.retain(|command| !command.trim().is_empty() && !command.trim_start().starts_with('#'));
    commands
}

/// Panics unless the lines that are shown are said, in this order; a line `…` stands for any number of others, and `…`
/// in a line for any text. Numbers, times and amounts may be others.
fn expect_shape(place: &str, shown: &[String], said: &str) {
    let lines: Vec<String> = said.lines().map(shape).collect();
    let mut at = 0;
    let mut any = false;
    for line in shown.iter().filter(|line| !line.is_empty() && *line != "^C") {
        if line == "…" {
            any = true;
            continue;
        }
        let wanted = shape(line);
        let rest = &lines[at..];
        let found = rest.iter().position(|line| fits(&wanted, line));
        let skipped = found.map(|found| rest[..found].iter().filter(|line| !line.is_empty()).count());
        assert!(
            skipped.is_some_and(|skipped| any || skipped == 0),
            "{place}: shown, not said next:\n  {line}\nas: {wanted}\nsaid:\n{said}\nas:\n{}",
            lines.join("\n")
        );
        at += found.unwrap_or(0) + 1;
        any = false;
    }
    let more = lines[at..].iter().any(|line| !line.is_empty());
    assert!(any || !more, "{place}: said, not shown:\n{}", lines[at..].join("\n"));
}

/// Whether a line is what is wanted, with any text for each `…`.
fn fits(wanted: &str, line: &str) -> bool {
    let Some((begin, rest)) = wanted.split_once('…') else { return wanted == line };
    let Some(mut line) = line.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(last)
}

/// A line without what differs from run to run: columns' widths, numbers, times, amounts with their units.
fn shape(line: &str) -> String {
    const UNITS: [&str; 10] = ["d", "h", "min", "s", "ms", "B", "kB", "MB", "GB", "TB"];
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let mut digits = String::new();
        for c in word.chars() {
            let of_number = (c == '.' || c == ',') && digits.ends_with('0');
            if c.is_ascii_digit() {
                // A point inside a number belongs to it.
                if digits.ends_with("0.") || digits.ends_with("0,") {
                    digits.pop();
                }
                if !digits.ends_with('0') {
                    digits.push('0');
                }
            } else if of_number || c != '+' {
                digits.push(c);
            } else {
                digits.push('-');
            }
        }
        let mut word = digits;
        for time in ["0-0-0T0:0:0Z", "0:0:0Z", "0:0:0"] {
            word = word.replace(time, "TIME");
        }
        let bare = word.trim_end_matches([',', ';', ')']);
        let rest = word[bare.len()..].to_owned();
        let after_number = words.last().is_some_and(|last| last == "0" || last == "AMOUNT");
        if after_number && UNITS.contains(&bare) {
            words.pop();
            if words.last().is_none_or(|last| last != "AMOUNT") {
                words.push("AMOUNT".to_owned());
            }
            if let Some(last) = words.last_mut() {
                last.push_str(&rest);
            }
            continue;
        }
        words.push(word);
    }
    words.join(" ")
}

/// Tries all blocks of a page, one after the other, in one folder.
fn page(page: &str) {
    let stage = Stage::with_archive();
    for linked in ["jobs.example.toml", "tests", "examples", "docs"] {
        std::os::unix::fs::symlink(checkout(linked), stage.folder().join(linked)).expect("a link");
    }
    let mut trial = Trial { page, stage };
    trial.succeed(page, "ffmpeg -v error -f lavfi -i testsrc=d=2 -pix_fmt yuv420p night.mp4");
    for block in blocks::of(&text_of(page)).iter().filter(|block| block.not_run.is_none()) {
        if let Some(name) = &block.file {
            trial.write(name, block);
        }
        trial.run(block);
    }
}

#[test]
fn the_readme_shows_what_happens() {
    page("README.md");
}

#[test]
fn the_recipes_work() {
    page("docs/running.md");
}

#[test]
fn the_page_of_the_embedded_archive_works() {
    page("docs/emulator.md");
}

/// Runs the examples of one command in a folder of its own, which has what they name.
fn examples_of(page: &str, block: &Block) {
    let mut trial = Trial { page, stage: Stage::with_archive() };
    if !block.section.contains(" init") {
        for (file, stream, more) in [
            ("jobs.toml", "front-gate", ""),
            ("a.toml", "front-gate", "output = \"exports/{stream}.mp4\"\n"),
            ("b.toml", "yard", "output = \"exports/{stream}.mp4\"\n"),
        ] {
            trial.stage.write(file, &(SMALL_JOBS.replace("STREAM", stream) + more));
            trial.stage.without_min_free(file);
        }
        trial.succeed(page, "kvs-export run a.toml --state a.db && kvs-export run b.toml --state b.db");
        trial.stage.write("restarts.toml", &text_of("tests/recordings/scenarios/restart-that-overlaps.toml"));
        trial.succeed(page, "ffmpeg -v error -f lavfi -i testsrc=d=2 -pix_fmt yuv420p night.mp4");
    }
    let mut block = block.clone();
    if block.lines.iter().any(|line| line.contains(TOLD_EXPORT)) {
        let run = trial.stage.program(&["run", "jobs.toml", "--format", "json", "--progress", "none"]);
        let report: serde_json::Value = serde_json::from_slice(&run.stdout).expect("one document");
        let id = report["exports"][0]["id"].as_str().expect("an id");
        block.lines.iter_mut().for_each(|line| *line = line.replace(TOLD_EXPORT, &id[..TOLD_EXPORT.len()]));
    }
    trial.run(&block);
}

#[test]
fn the_examples_of_every_command_work() {
    let page = "docs/commands.md";
    let blocks = blocks::of(&text_of(page));
    let run = blocks.iter().filter(|block| block.not_run.is_none() && block.kind() != Kind::Other);
    std::thread::scope(|scope| {
        for block in run {
            scope.spawn(move || examples_of(page, block));
        }
    });
}

#[test]
fn what_is_not_run_says_why_and_no_command_hides_elsewhere() {
    let mut pages: BTreeSet<String> = PAGES.map(str::to_owned).into();
    for entry in std::fs::read_dir(checkout("docs")).expect("listed").flatten() {
        pages.insert(format!("docs/{}", entry.file_name().to_string_lossy()));
    }
    let mut left_out = String::new();
    for page in &pages {
        for block in blocks::of(&text_of(page)) {
            let place = format!("{page}:{}", block.line);
            assert!(!block.language.is_empty(), "{place}: say what is in the block");
            let runs = block.kind() != Kind::Other;
            if let Some(reason) = &block.not_run {
                assert!(runs && REASONS.contains(&reason.as_str()), "{place}: {reason}");
                let _ = writeln!(left_out, "{place}: {reason}");
            }
            assert!(
                !runs || block.not_run.is_some() || PAGES.contains(&page.as_str()),
                "{place} is never run"
            );
            let shows = block.lines.iter().any(|line| line.starts_with("$ "));
            assert!(runs || !shows, "{place}: a session is `console`");
        }
    }
    assert_eq!(left_out.lines().count(), NOT_RUN, "{left_out}");
}

/// How many blocks are not run: one more is to be seen in a review.
const NOT_RUN: usize = 8;

#[test]
fn shapes_tell_numbers_and_amounts_from_words() {
    for (one, other) in [
        ("done  44 of 100  11 h 0 min  990 MB", "done 4 of 10 3.5 s 1.2 kB"),
        ("a 2026-11-21T02:00:00Z: x", "a 2024-01-01T22:10:09Z: x"),
        ("x_20261120T180000-0800.mp4", "x_20241120T000000+0000.mp4"),
        ("421 MB fetched in 25 s; run", "1 B fetched in 1 min 2 s; run"),
        ("at 2026-11-21 13:15:28 to 13:16:10 UTC", "at 2026-11-22 13:15:28 to 3:16:10 UTC"),
        ("0.9 MB, 17.6 MB/s", "22 kB, 9 MB/s"),
    ] {
        assert_eq!(shape(one), shape(other));
    }
    for (one, other) in [("3 exports", "3 export"), ("done 3", "failed 3"), ("resumed 4 of 5", "resumed 4")] {
        assert_ne!(shape(one), shape(other));
    }
    assert!(fits("a … c …", "a b c d") && !fits("a … c", "a b") && !fits("a …", "b a"));
}

#[test]
#[should_panic(expected = "shown, not said next")]
fn a_line_that_is_not_said_is_found() {
    expect_shape("here", &["done: 1 export".to_owned()], "done: 1 gap");
}

#[test]
#[should_panic(expected = "said, not shown")]
fn a_line_that_is_not_shown_is_found() {
    expect_shape("here", &["done: 1 export".to_owned()], "done: 1 export\nwarning: x");
}
