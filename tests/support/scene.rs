//! A folder with a job file, an emulator, and the real binary that runs the one against the other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kvs_export::emulator::{Api, Camera, Emulator, EmulatorConfig, RequestRecord, Tally};
use kvs_export::model::{Edges, TimeRange, Timeline, TimestampKind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::planned;

/// One `[[job]]` of a job file.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its name; its output is `out/NAME.mp4`.
    pub(crate) name: String,
    /// Its only stream.
    pub(crate) stream: String,
    /// Its range.
    pub(crate) range: TimeRange,
    /// The clock that selects.
    pub(crate) timestamps: TimestampKind,
    /// Whether the fragment that reaches into the range belongs to it.
    pub(crate) edges: Edges,
    /// Whether gaps are closed.
    pub(crate) timeline: Timeline,
    /// Further lines, such as `keep_chunks = true`.
    pub(crate) more: Vec<String>,
}

impl Job {
    /// A job with the job file's own defaults: server timestamps, covering edges, gaps closed.
    pub(crate) fn new(name: impl Into<String>, stream: impl Into<String>, range: TimeRange) -> Self {
        Self {
            name: name.into(),
            stream: stream.into(),
            range,
            timestamps: TimestampKind::Server,
            edges: Edges::Cover,
            timeline: Timeline::Compact,
            more: Vec::new(),
        }
    }

    /// The same job with another clock, other edges and another timeline.
    pub(crate) fn of(self, timestamps: TimestampKind, edges: Edges, timeline: Timeline) -> Self {
        Self { timestamps, edges, timeline, ..self }
    }

    /// The same job with one more line.
    pub(crate) fn with(mut self, line: &str) -> Self {
        self.more.push(line.to_owned());
        self
    }

    /// Every combination of timestamps, edges and timeline, each as a job of its own.
    ///
    /// `stream` names the stream of the nth of them.
    pub(crate) fn matrix(name: &str, range: TimeRange, stream: impl Fn(usize) -> String) -> Vec<Self> {
        let mut jobs = Vec::new();
        for timestamps in [TimestampKind::Server, TimestampKind::Producer] {
            for edges in [Edges::Cover, Edges::Inside] {
                for timeline in [Timeline::Compact, Timeline::Wallclock] {
                    let words = [timestamps.as_str(), edges.as_str(), timeline.as_str()].join("-");
                    let job = Self::new(format!("{name}-{words}"), stream(jobs.len()), range);
                    jobs.push(job.of(timestamps, edges, timeline));
                }
            }
        }
        jobs
    }

    fn write(&self, text: &mut String) {
        let written = write!(
            text,
            "\n[[job]]\nname = \"{}\"\nstreams = [\"{}\"]\nfrom = {}\nto = {}\ntimestamps = \"{}\"\nedges = \"{}\"\n\
             timeline = \"{}\"\n{}\n",
            self.name,
            self.stream,
            self.range.start(),
            self.range.end(),
            self.timestamps.as_str(),
            self.edges.as_str(),
            self.timeline.as_str(),
            self.more.join("\n"),
        );
        written.expect("text takes everything");
    }
}

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// The document on its standard output.
    pub(crate) report: Value,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::read(&command.output().expect("the binary starts"))
    }

    /// Reads what a process left that ended by itself.
    pub(crate) fn read(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("no document: {error}\n{}\n{stderr}", String::from_utf8_lossy(&output.stdout))
        });
        Self { code: output.status.code(), report, stderr }
    }

    /// The export of a job.
    pub(crate) fn export(&self, job: &str) -> &Value {
        let mut exports = self.report["exports"].as_array().expect("exports").iter();
        exports.find(|export| export["job"] == job).unwrap_or_else(|| panic!("no export of {job}: {self:?}"))
    }

    /// The status of a job's export.
    pub(crate) fn status(&self, job: &str) -> &str {
        self.export(job)["status"].as_str().expect("a status")
    }

    /// The only video of a job.
    pub(crate) fn video(&self, job: &str) -> PathBuf {
        match self.export(job)["output"].as_array().map(Vec::as_slice) {
            Some([Value::String(path)]) => path.into(),
            other => panic!("{job} has not one video but {other:?}: {self:?}"),
        }
    }

    /// Where the manifest of a job lies.
    pub(crate) fn manifest_path(&self, job: &str) -> PathBuf {
        self.export(job)["manifest"].as_str().expect("the path of a manifest").into()
    }

    /// The manifest of a job.
    pub(crate) fn manifest(&self, job: &str) -> Value {
        let bytes = std::fs::read(self.manifest_path(job)).expect("the manifest can be read");
        serde_json::from_slice(&bytes).expect("the manifest is JSON")
    }

    /// Panics unless the run ended with that exit code.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{:#}", self.stderr, self.report);
        self
    }
}

/// A temporary folder with a job file, and an emulator to run it against.
pub(crate) struct Scene {
    folder: TempDir,
    emulator: Emulator,
    /// What it shows.
    cameras: Vec<Camera>,
    /// Whether it makes nothing go wrong: then a run sends what its plan says, and nothing else.
    without_faults: bool,
    runtime: Runtime,
}

impl Scene {
    /// Starts an emulator and makes an empty folder.
    pub(crate) fn new(config: EmulatorConfig) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (cameras, without_faults) = (config.cameras.clone(), config.faults.is_empty());
        let emulator = runtime.block_on(Emulator::start(config)).expect("the emulator starts");
        Self { folder: tempfile::tempdir().expect("a folder"), emulator, cameras, without_faults, runtime }
    }

    /// Replaces the emulator; the job file must be written again, since the endpoint is another.
    pub(crate) fn restart_emulator(&mut self, config: EmulatorConfig) {
        (self.cameras, self.without_faults) = (config.cameras.clone(), config.faults.is_empty());
        self.emulator = self.runtime.block_on(Emulator::start(config)).expect("the emulator starts");
    }

    /// Keeps the folder when the scene is dropped.
    pub(crate) fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The emulator's address.
    pub(crate) fn endpoint(&self) -> String {
        self.emulator.endpoint()
    }

    /// The folder of the job file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The job file.
    pub(crate) fn job_file(&self) -> PathBuf {
        self.folder().join("jobs.toml")
    }

    /// The state file.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join("state.db")
    }

    /// Where chunks wait, in a folder for each export.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder().join("chunks")
    }

    /// The folder of the outputs.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.folder().join("out")
    }

    /// Writes the job file; `limits` are the lines of its `[limits]`. The disk may be as full as it likes, unless they
    /// say otherwise.
    pub(crate) fn write_jobs(&self, limits: &str, jobs: &[Job]) {
        let min_free = if limits.contains("min_free") { "" } else { "min_free = \"0 B\"" };
        let mut text = format!(
            "version = 1\nstate = \"state.db\"\nwork = \"chunks\"\n\n[aws]\nregion = \"us-west-2\"\nendpoint_url = \
             \"{}\"\n[limits]\n{min_free}\n{limits}\n\n[defaults]\noutput = \"out/{{job}}.mp4\"\n",
            self.emulator.endpoint()
        );
        for job in jobs {
            job.write(&mut text);
        }
        std::fs::write(self.job_file(), text).expect("the job file is written");
    }

    /// `kvs-export --format json run jobs.toml`, with nothing of this machine's AWS settings.
    pub(crate) fn command(&self) -> Command {
        self.command_of("run")
    }

    /// The same for another command.
    pub(crate) fn command_of(&self, subcommand: &str) -> Command {
        let mut command = self.program();
        command.args(["--format", "json", "--progress", "none", subcommand]).arg(self.job_file());
        command
    }

    /// `kvs-export` in the scene's folder, with nothing of this machine's AWS settings.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-export"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder())
            .env("AWS_ACCESS_KEY_ID", "dummy")
            .env("AWS_SECRET_ACCESS_KEY", "dummy")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.folder().join("no-config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.folder().join("no-credentials"));
        command
    }

    /// A shell in the scene's folder, with the environment of [`Self::program`] and the program as `$PROGRAM`, in a mount
    /// namespace of its own; the script is to be added.
    ///
    /// `None` where `mount` fails in it: Linux gives such a namespace to root and, where the system allows it, to
    /// everybody.
    pub(crate) fn own_namespace(&self, mount: &str) -> Option<Command> {
        let shell = |flags: &str| {
            let program = self.program();
            let mut command = Command::new("unshare");
            command
                .args([flags, "sh", "-c"])
                .current_dir(self.folder())
                .env("PROGRAM", program.get_program());
            for (name, value) in program.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command
        };
        let works = |flags: &&str| shell(flags).arg(mount).output().is_ok_and(|tried| tried.status.success());
        ["-m", "-rm"].into_iter().find(works).map(shell)
    }

    /// Runs the job file to its end.
    pub(crate) fn run(&self) -> Run {
        Run::of(&mut self.command())
    }

    /// Plans the job file.
    pub(crate) fn plan(&self) -> Run {
        Run::of(&mut self.command_of("plan"))
    }

    /// Writes the jobs and runs them; where nothing goes wrong, after a plan that must have said exactly what the
    /// run then asks of the emulator.
    pub(crate) fn run_jobs(&self, jobs: &[Job]) -> Run {
        if !self.without_faults {
            return self.run_jobs_otherwise_than_planned(jobs, "faults cost requests that no plan foresees");
        }
        self.write_jobs("", jobs);
        let before = self.log().len();
        let plan = self.plan();
        let planned = self.log().len();
        let run = self.run();
        let log = self.log();
        let sizes = planned::ListedSizes::of(&self.cameras, jobs);
        planned::expect_as_planned(&plan, &run, &log[before..planned], &log[planned..], &sizes);
        run
    }

    /// Writes the jobs and runs them, where a run has to ask for more or less than a plan can know.
    pub(crate) fn run_jobs_otherwise_than_planned(&self, jobs: &[Job], reason: &str) -> Run {
        assert!(!reason.is_empty(), "a scenario is compared with its plan unless there is a reason");
        self.write_jobs("", jobs);
        self.run()
    }

    /// The requests that the emulator has had.
    pub(crate) fn log(&self) -> Vec<RequestRecord> {
        self.emulator.log()
    }

    /// What the emulator counted.
    pub(crate) fn tally(&self) -> Tally {
        self.emulator.tally()
    }

    /// The requests of one call.
    pub(crate) fn requests(&self, api: Api) -> Vec<RequestRecord> {
        self.log().into_iter().filter(|record| record.api == api).collect()
    }

    /// Panics unless `sha256sum -c` accepts the checksum file of a job.
    pub(crate) fn check_sums(&self, job: &str) {
        let checked = Command::new("sha256sum")
            .args(["--strict", "-c", &format!("{job}.sha256")])
            .current_dir(self.outputs())
            .output()
            .expect("sha256sum starts");
        assert!(checked.status.success(), "{job}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
