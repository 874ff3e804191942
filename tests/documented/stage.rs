//! A temporary folder with a home of its own, the program in its `PATH`, and an archive behind its AWS settings.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use kvs_export::emulator::{ByteTrigger, Camera, Emulator, EmulatorConfig, Fault, FaultRule, FragmentSizes};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Bytes in a second of footage: little, so that a night is fetched in seconds.
const BYTES_PER_SECOND: u64 = 1_500;

/// Cameras of the documentation, with a few frames a second.
const STREAMS: [&str; 5] = ["front-gate", "loading-dock", "yard", "yard-1", "yard-2"];

/// Where commands of the documentation are run.
pub(crate) struct Stage {
    folder: TempDir,
    archive: Option<(Runtime, Emulator)>,
}

fn camera(name: &str) -> Camera {
    Camera::steady(name).grid(|grid| {
        grid.fragment_ms = 20_000;
        grid.frame_rate = 1;
        grid.sizes = FragmentSizes::BytesPerSecond(BYTES_PER_SECOND);
    })
}

impl Stage {
    /// An empty folder, and no archive.
    pub(crate) fn empty() -> Self {
        let stage = Self { folder: tempfile::tempdir().expect("a folder"), archive: None };
        std::fs::create_dir(stage.folder.path().join("work")).expect("created");
        std::fs::create_dir_all(stage.folder.path().join("home/.aws")).expect("created");
        stage
    }

    /// The same with an archive.
    pub(crate) fn with_archive() -> Self {
        let mut stage = Self::empty();
        stage.open_archive(Vec::new(), None);
        stage
    }

    /// Puts an archive in the place of the one before, in which the sixth clip never arrives; `action` is taken when
    /// some clips have.
    pub(crate) fn with_archive_that_stalls(&mut self, action: impl Fn() + Send + Sync + 'static) {
        let stall = FaultRule::nth(kvs_export::emulator::Api::GetClip, 6, Fault::Stall { after: None });
        // A clip of an hour has 5.4 MB.
        let trigger = ByteTrigger { at: 19_000_000, action: Arc::new(action) };
        self.open_archive(vec![stall], Some(trigger));
    }

    /// Puts an archive in which nothing goes wrong in the place of the one before.
    pub(crate) fn with_calm_archive(&mut self) {
        self.open_archive(Vec::new(), None);
    }

    fn open_archive(&mut self, faults: Vec<FaultRule>, on_bytes: Option<ByteTrigger>) {
        let config = EmulatorConfig { faults, on_bytes, ..EmulatorConfig::with_cameras(STREAMS.map(camera)) };
        let runtime = Runtime::new().expect("a runtime");
        let emulator = runtime.block_on(Emulator::start(config)).expect("the emulator starts");
        // As somebody has them who works with AWS: in files below the home folder.
        let settings = format!(
            "[default]\nregion = us-west-2\nendpoint_url = {}\naws_access_key_id = any\naws_secret_access_key = any\n",
            emulator.endpoint()
        );
        std::fs::write(self.folder.path().join("home/.aws/config"), settings).expect("written");
        self.archive = Some((runtime, emulator));
    }

    /// Where commands start.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The environment of commands: nothing of this machine's AWS settings.
    fn clean(&self, mut command: Command) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_kvs-export")).parent().expect("its folder");
        let mut path = program.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .env_clear()
            .current_dir(self.folder())
            .env("HOME", self.folder.path().join("home"))
            .env("PATH", path);
        for passed in ["KVS_EXPORT_FFMPEG", "LLVM_PROFILE_FILE", "TMPDIR"] {
            if let Some(value) = std::env::var_os(passed) {
                command.env(passed, value);
            }
        }
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// The program with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.clean(Command::new(env!("CARGO_BIN_EXE_kvs-export")));
        command.args(arguments);
        command
    }

    /// Runs the program with these arguments to its end.
    pub(crate) fn program(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// A shell that ends at the first failure.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.clean(Command::new("bash"));
        command.args(["-euo", "pipefail", "-c", script]);
        command
    }

    /// What cron starts: a plain shell with almost nothing in its environment but what the crontab says.
    pub(crate) fn cron(&self, variables: &[(String, String)], script: &str) -> Command {
        let mut command = self.clean(Command::new("/bin/sh"));
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        let own = path.map(std::ffi::OsStr::to_owned).unwrap_or_default();
        command.args(["-c", script]);
        for (name, value) in variables {
            if name == "PATH" {
                // The program is not installed where the crontab looks for it; everything else has to be.
                let first = own.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
                command.env("PATH", format!("{first}:{value}"));
            } else {
                command.env(name, value);
            }
        }
        command
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(name)).expect("read")
    }

    /// Makes a job file run on disks as full as they like.
    pub(crate) fn without_min_free(&self, name: &str) {
        let text = self.read(name);
        let text = match text.split_once("[limits]\n") {
            Some((before, after)) => format!("{before}[limits]\nmin_free = \"0 B\"\n{after}"),
            None => format!("{text}\n[limits]\nmin_free = \"0 B\"\n"),
        };
        self.write(name, &text);
    }

    /// The names in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).expect("listed");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}
