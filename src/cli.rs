//! The command line: types only.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::emulator::{Disturbance, disturbance_help};
use crate::exit_code;
use crate::logging::LogFormat;
use crate::model::{Edges, StreamSelector, Timeline, TimestampKind};
use crate::report::{OutputFormat, ProgressMode};

const EXAMPLES: &str = "\
Examples:
  kvs-export init                      write a first job file, jobs.toml
  kvs-export validate jobs.toml        is everything there and permitted?
  kvs-export plan jobs.toml            what would a run do, at what cost?
  kvs-export run jobs.toml             do it; the same command again resumes
  kvs-export status jobs.toml          did last night work?
  kvs-export run jobs.toml --emulator  try it without AWS";

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit_code::help())
}

/// Declarative, resumable batch exports of Amazon Kinesis Video Streams archives
#[derive(Debug, Parser)]
#[command(name = "kvs-export", version, about, after_help = after_help(), max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// What standard output holds
    #[arg(long, value_enum, default_value_t, global = true)]
    pub format: OutputFormat,
    /// The form of the log on standard error
    #[arg(long, value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
    /// How progress is shown on standard error
    #[arg(long, value_enum, default_value_t, value_name = "HOW", global = true)]
    pub progress: ProgressMode,
    /// Log more: -v what is done, -vv details, -vvv everything
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", global = true)]
    pub verbose: u8,
    /// Say nothing of what goes well; of a run that fails, warnings too
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colour; the environment variable `NO_COLOR` says the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Write a commented job file to begin with
    Init(InitArgs),
    /// Export what a job file asks for; the same command again resumes
    Run(RunArgs),
    /// Show what a run would do: exports, chunks, gaps, cost, time
    Plan(PlanArgs),
    /// Check a job file, and that everything it needs is there and permitted
    Validate(ValidateArgs),
    /// Show the last run and every export as recorded; works during a run
    Status(StatusArgs),
    /// Export one range of one stream without a job file; the same command again resumes
    Clip(ClipArgs),
    /// Try failed exports again, and begin nothing else
    Retry(RetryArgs),
    /// Make a finished export again; the old video stays until the new one is proven
    Redo(RedoArgs),
    /// Forget old exports, and free the chunks of superseded ones; no video is deleted
    Prune(PruneArgs),
    /// Compare exports with their manifests and checksums, offline
    Verify(VerifyArgs),
    /// Serve an embedded archive on this machine for other clients
    Emulator(EmulatorArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Print the JSON schema of the job file
    Schema(SchemaArgs),
}

/// Write a commented job file to begin with.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
It holds one small job that runs as it stands and, commented out, the jobs
that most people want next. With - it is printed, whatever --format says.

Example:
  kvs-export init
  kvs-export init cameras/nightly.toml --stream front-gate --stream loading-dock
  kvs-export init - --time-zone Europe/Berlin")]
pub struct InitArgs {
    /// The file, which must not be there yet; - prints it instead
    #[arg(value_name = "FILE", default_value = "jobs.toml")]
    pub file: PathBuf,
    /// A stream of the first job, by name or ARN; may be repeated
    #[arg(long = "stream", value_name = "NAME", default_value = "front-gate")]
    pub streams: Vec<String>,
    /// The zone of local times: an IANA name or "UTC"; without it this machine's
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
}

/// Export what a job file asks for; the same command again resumes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kvs-export run jobs.toml --job nightly-evidence --format json > last-run.json")]
pub struct RunArgs {
    /// What is asked for.
    #[command(flatten)]
    pub asked: AskedArgs,
    /// Show what the run would do, as plan does, and write nothing at all
    #[arg(long)]
    pub dry_run: bool,
}

/// What a job file is asked for, and where its state lies.
#[derive(Debug, Clone, Args)]
pub struct AskedArgs {
    /// The job file
    #[arg(value_name = "JOBS")]
    pub jobs: PathBuf,
    /// Only this job; may be repeated
    #[arg(long = "job", value_name = "NAME")]
    pub only: Vec<String>,
    /// The state file, instead of the job file's; its chunks lie beside it
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// A setting that stands against the job file's, such as limits.merges=2 or operator=alice; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Use the embedded archive instead of AWS, and ./demo for everything that is written
    #[arg(long)]
    pub emulator: bool,
}

/// Show what a run would do: exports, chunks, gaps, cost, time.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each export has a mark: + new, ~ resumed, = done, - superseded, . pending, ! cannot be finished.
The listing is kept in the state file for the next run, which then need not list again.

Example:
  kvs-export plan jobs.toml > plan.txt
  kvs-export plan jobs.toml --job nightly-evidence --format json")]
pub struct PlanArgs {
    /// What is asked for.
    #[command(flatten)]
    pub asked: AskedArgs,
}

/// Check a job file, and that everything it needs is there and permitted.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For every stream each call that a run needs is tried once: one fragment is listed, and one clip of it is begun.

Example:
  kvs-export validate jobs.toml
  kvs-export validate jobs.toml --no-aws
  kvs-export validate jobs.toml --no-aws --show")]
pub struct ValidateArgs {
    /// The job file
    #[arg(value_name = "JOBS")]
    pub jobs: PathBuf,
    /// Send no request: check the file and this machine only
    #[arg(long)]
    pub no_aws: bool,
    /// A setting that stands against the job file's, such as limits.merges=2 or operator=alice; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print first what the job file comes to, as TOML, with where each value was taken from
    #[arg(long)]
    pub show: bool,
}

/// Show the last run and every export as recorded; works during a run.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kvs-export status jobs.toml
  kvs-export status jobs.toml --all
  kvs-export status --state a.db --state b.db --format json")]
pub struct StatusArgs {
    /// The job file whose state to show
    #[arg(value_name = "JOBS", required_unless_present = "states")]
    pub jobs: Option<PathBuf>,
    /// A state file, instead of the job file's; may be repeated
    #[arg(long = "state", value_name = "FILE")]
    pub states: Vec<PathBuf>,
    /// Show every export, however many are done
    #[arg(long)]
    pub all: bool,
}

/// Export one range of one stream without a job file; the same command again resumes.
#[derive(Debug, Clone, Args)]
#[command(
    group = clap::ArgGroup::new("range").args(["from", "last"]).required(true),
    after_help = "\
Example:
  kvs-export clip yard --last 5m
  kvs-export clip yard --from 2025-03-03T08:00Z --to 2025-03-03T08:05Z -o a.mp4
  kvs-export clip yard --from -20m --to -15m --timeline wallclock"
)]
pub struct ClipArgs {
    /// The stream's name or ARN
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// The first instant: a date-time, "today 06:00", "-90m", …, as in a job file
    #[arg(long, value_name = "TIME", requires = "to", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// The first instant after it
    #[arg(long, value_name = "TIME", requires = "from", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// So long, up to the start of the current minute
    #[arg(long, value_name = "LENGTH", conflicts_with_all = ["from", "to"])]
    pub last: Option<String>,
    /// The video; without it one in the current folder, named after stream, start and end
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The zone of local times: an IANA name or "UTC"
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// The clock that selects and orders
    #[arg(long, value_name = "CLOCK", default_value = "server", value_parser = words(TIMESTAMPS))]
    pub timestamps: TimestampKind,
    /// Whether the fragment that reaches into the range belongs to it
    #[arg(long, value_name = "EDGES", default_value = "cover", value_parser = words(EDGES))]
    pub edges: Edges,
    /// Whether gaps are closed in the video
    #[arg(long, value_name = "HOW", default_value = "compact", value_parser = words(TIMELINES))]
    pub timeline: Timeline,
    /// How long after the range's end to wait for fragments that are still on their way
    #[arg(long, value_name = "LENGTH", default_value = "60s")]
    pub settle: String,
    /// The region of a stream given by name
    #[arg(long)]
    pub region: Option<String>,
    /// The profile of the shared AWS configuration
    #[arg(long)]
    pub profile: Option<String>,
    /// The control plane's URL: a VPC endpoint, or an emulator
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Use the embedded archive instead of AWS, and ./demo for everything that is written
    #[arg(long)]
    pub emulator: bool,
}

/// Try failed exports again, and begin nothing else.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
`run` tries failed exports again, too, and begins what is new. `retry` begins nothing. Exit codes are those of `run`.

Example:
  kvs-export retry jobs.toml
  kvs-export retry jobs.toml 9f86d081 --dry-run")]
pub struct RetryArgs {
    /// What is asked for.
    #[command(flatten)]
    pub asked: AskedArgs,
    /// The id of a failed export, as status shows it, or its beginning; all failed ones without it
    #[arg(value_name = "EXPORT")]
    pub exports: Vec<String>,
    /// Show what would be done, as plan does, and write nothing at all
    #[arg(long)]
    pub dry_run: bool,
}

/// Make a finished export again; the old video stays until the new one is proven.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Everything is listed and fetched anew, as the export was once resolved. Refused, with nothing changed, where the stream
no longer keeps the whole range, and where a file is not as the export left it. What holds less than the old video
never takes its place.

Example:
  kvs-export redo jobs.toml 9f86d081")]
pub struct RedoArgs {
    /// The job file whose state has the export
    #[arg(value_name = "JOBS")]
    pub jobs: PathBuf,
    /// The id of a finished export, as status shows it, or its beginning
    #[arg(value_name = "EXPORT")]
    pub export: String,
    /// The state file, instead of the job file's; its chunks lie beside it
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Show what would be done, as plan does, and write nothing at all
    #[arg(long)]
    pub dry_run: bool,
    /// Use the embedded archive instead of AWS, and the state below ./demo
    #[arg(long)]
    pub emulator: bool,
}

/// Forget old exports, and free the chunks of superseded ones; no video is deleted.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Forgotten are finished and superseded exports that have not changed for so long and that the job file does not ask for:
what it asks for stays known, so that it is not fetched again. Videos, manifests and checksums stay where they are.

Example:
  kvs-export prune jobs.toml --older-than 90d --dry-run")]
pub struct PruneArgs {
    /// The job file whose state to prune
    #[arg(value_name = "JOBS")]
    pub jobs: PathBuf,
    /// How long an export must have been finished, or left as it is: 90d, 12w, 0d
    #[arg(long, value_name = "AGE")]
    pub older_than: String,
    /// The state file, instead of the job file's; its chunks lie beside it
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Show what would be forgotten, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Prune the state below ./demo
    #[arg(long)]
    pub emulator: bool,
}

/// Compare exports with their manifests and checksums, offline.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kvs-export verify exports
  kvs-export verify exports/front-gate.mp4 exports/yard.manifest.json")]
pub struct VerifyArgs {
    /// Manifests, .sha256 files, videos, or folders with all that is below them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

/// Serve an embedded archive on this machine for other clients.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kvs-export emulator --stream front-gate --stream yard=night.mp4
  kvs-export emulator --fault throttle:api=GetClip,every=5 --fault away:for=2m
  kvs-export emulator --scenario restarts.toml
  aws kinesisvideo list-streams --endpoint-url http://127.0.0.1:8700")]
pub struct EmulatorArgs {
    /// The port on the loopback interface; 0 takes a free one
    #[arg(long, default_value_t = 8700)]
    pub port: u16,
    /// A stream of test pictures, or of a video; may be repeated
    #[arg(long = "stream", value_name = "NAME[=VIDEO]", value_parser = stream_source)]
    pub streams: Vec<StreamSource>,
    /// A file that says what the streams' cameras did and how the archive answers (docs/emulator.md)
    #[arg(long, value_name = "FILE", conflicts_with = "streams")]
    pub scenario: Option<PathBuf>,
    /// Something that goes wrong, such as `throttle:api=GetClip,every=5`; may be repeated
    #[arg(long = "fault", value_name = "NAME[:KEY=VALUE,…]", value_parser = disturbance,
        long_help = disturbance_help())]
    pub faults: Vec<Disturbance>,
    /// Which requests a rate of faults befalls, and in which order listings come
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Print the completions of a shell.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Where they belong depends on the shell: with zsh a folder of fpath, such as
~/.zfunc; with fish ~/.config/fish/completions/kvs-export.fish.

Example:
  eval \"$(kvs-export completions bash)\"
  kvs-export completions zsh > _kvs-export
  kvs-export completions fish > kvs-export.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Print the JSON schema of the job file.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Editors complete and check job files by it. They find it by a comment in the file's first line:
  #:schema ./jobs.schema.json

Example:
  kvs-export schema > jobs.schema.json
  kvs-export schema --reference > job-file.md")]
pub struct SchemaArgs {
    /// Print every key with its values, default, example and meaning instead, as Markdown
    #[arg(long)]
    pub reference: bool,
}

/// A stream of the embedded archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// The video that it shows again and again; test pictures without one.
    pub video: Option<PathBuf>,
}

fn disturbance(text: &str) -> Result<Disturbance, String> {
    Disturbance::parse(text).map_err(|refusal| {
        let accepted = refusal.accepted.map(|form| format!("; accepted: {form}")).unwrap_or_default();
        let meant = refusal.suggestion.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
        format!("{}{accepted}{meant}", refusal.message)
    })
}

const TIMESTAMPS: [(&str, TimestampKind); 2] =
    [("server", TimestampKind::Server), ("producer", TimestampKind::Producer)];
const EDGES: [(&str, Edges); 2] = [("cover", Edges::Cover), ("inside", Edges::Inside)];
const TIMELINES: [(&str, Timeline); 2] = [("compact", Timeline::Compact), ("wallclock", Timeline::Wallclock)];

/// Takes one of a job file's words.
fn words<T: Copy + Send + Sync + 'static>(
    meanings: [(&'static str, T); 2],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(meanings.map(|(word, _)| word)).try_map(move |found| {
        let meaning = meanings.iter().find(|(word, _)| *word == found);
        meaning.map(|(_, meaning)| *meaning).ok_or("no such word")
    })
}

fn stream_source(text: &str) -> Result<StreamSource, String> {
    let (name, video) = match text.split_once('=') {
        Some((_, "")) => {
            return Err("name a video after \"=\", or leave \"=\" out for test pictures".to_owned());
        }
        Some((name, video)) => (name, Some(PathBuf::from(video))),
        None => (text, None),
    };
    match StreamSelector::parse(name) {
        Ok(StreamSelector::Name(name)) => Ok(StreamSource { name, video }),
        Ok(StreamSelector::Arn(_)) => Err("give the stream's name, not an ARN".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(arguments.split_whitespace())
    }

    #[test]
    fn the_types_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("kvs-export {}", command.get_name())), "{help}");
        }
    }

    #[test]
    fn examples_fit_a_terminal_of_80_columns() {
        let mut root = Cli::command();
        let helps = std::iter::once(after_help()).chain(
            root.get_subcommands_mut()
                .filter_map(|command| command.get_after_help().map(ToString::to_string)),
        );
        // Prose is wrapped; a command that is cannot be copied.
        for line in helps.flat_map(|help| help.lines().map(str::to_owned).collect::<Vec<_>>()) {
            assert!(!line.starts_with(' ') || line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for arguments in [
            "kvs-export --format json -vv run a.toml",
            "kvs-export run a.toml --job x --job y -v -v --format json",
        ] {
            let cli = parse(arguments).expect("valid");
            assert_eq!((cli.global.format, cli.global.verbose), (OutputFormat::Json, 2));
        }
    }

    #[test]
    fn a_usage_error_is_exit_code_2_and_help_is_none() {
        for arguments in [
            "kvs-export",
            "kvs-export run",
            "kvs-export run a.toml --jobs x",
            "kvs-export run a.toml -q -v",
            "kvs-export status",
            "kvs-export plan",
            "kvs-export validate a.toml --emulator",
            "kvs-export emulator --stream a/b",
            "kvs-export emulator --stream yard=",
            "kvs-export emulator --port 70000",
            "kvs-export emulator --fault trottle",
            "kvs-export emulator --fault slow",
            "kvs-export verify",
            "kvs-export clip",
            "kvs-export clip gate",
            "kvs-export redo a.toml",
            "kvs-export prune a.toml",
            "kvs-export clip gate --from now",
            "kvs-export clip gate --to now",
            "kvs-export clip gate --last 5m --to now",
            "kvs-export clip gate --last 5m --edges round",
        ] {
            assert_eq!(parse(arguments).expect_err(arguments).exit_code(), 2, "{arguments}");
        }
        assert_eq!(parse("kvs-export --help").expect_err("help").exit_code(), 0);
    }

    #[test]
    fn a_stream_of_the_emulator_may_name_its_video() {
        let cli = parse("kvs-export emulator --stream gate --stream yard=v/a=b.mp4").expect("valid");
        let Command::Emulator(emulator) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(emulator.port, 8700);
        assert_eq!(emulator.streams[0], StreamSource { name: "gate".to_owned(), video: None });
        assert_eq!(emulator.streams[1].video, Some(PathBuf::from("v/a=b.mp4")));
    }
}
