//! Plays a scenario: rough runs, damage between them, calm runs to the end, and the judge.

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use kvs_export::emulator::{Api, ByteTrigger, RequestRecord};
use rustix::process::{Pid, Signal, kill_process};

use crate::judge;
use crate::scenario::{At, Ending, RoughRun, Scenario};
use crate::support::scene::{Run, Scene};
use crate::tally::Tally;

/// After so many runs that nothing disturbs everything is final.
const CALM_RUNS: usize = 3;

/// A run that asks for nothing for so long has got stuck.
const LONGEST_SILENCE: Duration = Duration::from_mins(3);

/// A run that asks more often goes in circles: the longest, of clips that are cut short however small they are, need
/// a few thousand requests.
const MOST_REQUESTS: usize = 50_000;

/// How often to look whether a run goes on.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Exit codes of a run that something went wrong in: done, incomplete, auth, interrupted.
const ROUGH_CODES: [i32; 4] = [0, 3, 5, 130];

/// Another access key each time.
const NEW_CREDENTIALS: &str = "[default]\ncredential_process = printf \
    '{\"Version\":1,\"AccessKeyId\":\"AKIA%s\",\"SecretAccessKey\":\"dummy\"}' $$\n";

/// What is needed to look into a scenario that went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    seed: u64,
    folder: Option<PathBuf>,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} went wrong: {}", self.seed, self.what)?;
        match &self.folder {
            Some(folder) => writeln!(f, "  job file, runs, outputs: {}", folder.display())?,
            None => writeln!(f, "  no folder was made")?,
        }
        write!(f, "  the same again: SOAK_SEED={} make soak", self.seed)
    }
}

/// Plays the scenario of a seed; the folder of one that goes wrong is kept.
pub(crate) fn play(seed: u64) -> (Tally, Option<Failure>) {
    let mut tally = Tally { scenarios: 1, ..Tally::default() };
    let mut folder = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let scenario = Scenario::of(seed);
        Stage::set(&scenario, &mut folder).perform(&scenario, &mut tally)
    }));
    let what = match played {
        Ok(Ok(())) => {
            if let Some(folder) = folder {
                std::fs::remove_dir_all(folder).expect("the folder is removed");
            }
            return (tally, None);
        }
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        }
    };
    (tally, Some(Failure { seed, folder, what }))
}

/// The process that a trigger is to hit, while there is one.
type Target = Arc<Mutex<Option<Pid>>>;

/// A scene and what has happened in it.
struct Stage {
    scene: Scene,
    runs: usize,
    damage: Rng,
}

/// How a run of the program ended.
struct Ended {
    code: Option<i32>,
    /// The document on its standard output; empty if it was killed before.
    stdout: Vec<u8>,
    stderr: PathBuf,
}

impl Stage {
    fn set(scenario: &Scenario, folder: &mut Option<PathBuf>) -> Self {
        let mut scene = Scene::new(scenario.calm());
        scene.keep_folder();
        *folder = Some(scene.folder().to_owned());
        let script = format!("{scenario:#?}\n");
        std::fs::write(scene.folder().join("scenario.txt"), script).expect("the scenario is written");
        Self { scene, runs: 0, damage: scenario.damage.clone() }
    }

    fn perform(mut self, scenario: &Scenario, tally: &mut Tally) -> Result<(), String> {
        for run in &scenario.rough {
            self.rough(scenario, run, tally)?;
        }
        self.scene.restart_emulator(scenario.calm());
        self.write_job_file(scenario);
        let mut unfinished = String::new();
        for _ in 0..CALM_RUNS {
            let run = self.calm(scenario, tally)?;
            if judge::is_final(&run) {
                judge::judge(&self.scene, scenario, &run, tally)?;
                return self.nothing_left(scenario, &run, tally);
            }
            unfinished = run.stderr;
        }
        let runs = self.runs;
        Err(format!("not final after {runs} runs, the last {CALM_RUNS} of them undisturbed: {unfinished}"))
    }

    fn rough(&mut self, scenario: &Scenario, run: &RoughRun, tally: &mut Tally) -> Result<(), String> {
        let target = Target::default();
        let mut config = scenario.rough(run);
        let mut after = None;
        if let Ending::Signal { signal, at } = run.ending {
            match at {
                At::Bytes(at) => {
                    let target = Arc::clone(&target);
                    let action = move || send(&target, signal);
                    config.on_bytes = Some(ByteTrigger { at, action: Arc::new(action) });
                }
                At::After(time) => after = Some((time, signal)),
            }
        }
        self.scene.restart_emulator(config);
        self.write_job_file(scenario);
        if run.planned {
            let plan = Run::of(&mut self.command(scenario, "plan"));
            if !plan.code.is_some_and(|code| ROUGH_CODES.contains(&code)) {
                return Err(format!("exit code {:?} of a plan: {}", plan.code, plan.stderr));
            }
        }
        let mut command = self.command(scenario, "run");
        if let Ending::Step { point, nth } = run.ending {
            command.env("KVS_EXPORT_CRASH_AT", format!("{}:{nth}", point.name()));
        }
        let ended = self.run(&mut command, &target, after)?;
        tally.runs += 1;
        count_answers(&self.scene.log(), tally);
        match ended.code {
            None | Some(130) => {
                tally.kills += 1;
                if let Ending::Step { point, .. } = run.ending {
                    *tally.steps.entry(point.name()).or_default() += 1;
                }
            }
            Some(code) if ROUGH_CODES.contains(&code) => {}
            Some(code) => {
                return Err(format!("exit code {code} of run {}: {}", self.runs, read(&ended.stderr)));
            }
        }
        if ended.code.is_some() {
            serde_json::from_slice::<serde_json::Value>(&ended.stdout)
                .map_err(|error| format!("run {} wrote no document: {error}", self.runs))?;
        }
        for _ in 0..run.damages {
            tally.damages += u64::from(damage(&mut self.damage, &self.scene));
        }
        Ok(())
    }

    fn calm(&mut self, scenario: &Scenario, tally: &mut Tally) -> Result<Run, String> {
        let before = self.scene.log().len();
        let mut command = self.command(scenario, "run");
        let ended = self.run(&mut command, &Target::default(), None)?;
        tally.runs += 1;
        count_answers(&self.scene.log()[before..], tally);
        let report = serde_json::from_slice(&ended.stdout)
            .map_err(|error| format!("run {} wrote no document: {error}", self.runs))?;
        let run = Run { code: ended.code, report, stderr: read(&ended.stderr) };
        match run.code {
            Some(0 | 3) => Ok(run),
            code => Err(format!("exit code {code:?} of an undisturbed run: {}", run.stderr)),
        }
    }

    /// A further run has nothing to do: it asks for no media, and no file changes; and `verify` finds no fault.
    fn nothing_left(&mut self, scenario: &Scenario, done: &Run, tally: &mut Tally) -> Result<(), String> {
        let verified = Run::of(self.scene.program().args(["--format", "json", "verify", "out"]));
        if verified.code != Some(0) {
            return Err(format!("exit code {:?} of verify: {}", verified.code, verified.report));
        }
        let (before, contents) = (self.scene.log().len(), judge::contents(&self.scene.outputs()));
        let again = self.calm(scenario, tally)?;
        if again.code != Some(0) {
            return Err(format!("exit code {:?} where all was done before: {}", again.code, again.stderr));
        }
        let log = self.scene.log();
        let asked =
            log[before..].iter().find(|record| matches!(record.api, Api::GetClip | Api::ListFragments));
        if let Some(asked) = asked {
            return Err(format!("a run after the last one asked for {asked:?}"));
        }
        if judge::contents(&self.scene.outputs()) != contents {
            return Err("a run after the last one changed the outputs".to_owned());
        }
        let statuses = |run: &Run| {
            let exports = run.report["exports"].as_array().cloned().unwrap_or_default();
            exports.into_iter().map(|export| export["status"].clone()).collect::<Vec<_>>()
        };
        if statuses(&again) != statuses(done) {
            return Err(format!("then {:?}, after it {:?}", statuses(done), statuses(&again)));
        }
        Ok(())
    }

    fn write_job_file(&self, scenario: &Scenario) {
        let text = scenario.job_file(&self.scene.endpoint());
        std::fs::write(self.scene.job_file(), text).expect("the job file is written");
    }

    /// `kvs-export run` or `plan`, with credentials that are renewed each time they are asked for, or with fixed ones.
    fn command(&self, scenario: &Scenario, subcommand: &str) -> Command {
        let mut command = self.scene.command_of(subcommand);
        if scenario.renews_credentials {
            let config = self.scene.folder().join("config");
            std::fs::write(&config, NEW_CREDENTIALS).expect("the configuration is written");
            command
                .env_remove("AWS_ACCESS_KEY_ID")
                .env_remove("AWS_SECRET_ACCESS_KEY")
                .env("AWS_CONFIG_FILE", config);
        }
        command
    }

    /// Runs the program, `target` being set to its process while it runs.
    fn run(
        &mut self,
        command: &mut Command,
        target: &Target,
        after: Option<(Duration, Signal)>,
    ) -> Result<Ended, String> {
        self.runs += 1;
        let file = |kind: &str| self.scene.folder().join(format!("run-{}.{kind}", self.runs));
        let (stdout, stderr) = (file("json"), file("stderr"));
        let create = |path: &Path| Stdio::from(File::create(path).expect("a file for what it says"));
        let mut slot = target.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr)).spawn();
        let child = child.as_mut().map_err(|error| format!("the program does not start: {error}"))?;
        *slot = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        drop(slot);
        let (begun, mut after) = (Instant::now(), after);
        let (mut looked, mut asked, mut silent_since) = (begun, 0, begun);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if after.is_some_and(|(time, _)| begun.elapsed() >= time) {
                let signal = after.take().map(|(_, signal)| signal);
                send(target, signal.unwrap_or(Signal::KILL));
            }
            if looked.elapsed() > LOOK_EVERY {
                looked = Instant::now();
                let requests = self.scene.log().len();
                if std::mem::replace(&mut asked, requests) != requests {
                    silent_since = looked;
                }
                if silent_since.elapsed() > LONGEST_SILENCE || requests > MOST_REQUESTS {
                    send(target, Signal::KILL);
                    child.wait().expect("a killed child ends");
                    let (run, spent) = (self.runs, begun.elapsed());
                    return Err(format!(
                        "run {run} is stuck after {spent:?}, {requests} requests: {}",
                        read(&stderr)
                    ));
                }
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        // Its process id may belong to another one soon.
        *target.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let stdout = std::fs::read(&stdout).expect("its standard output can be read");
        Ok(Ended { code: status.code(), stdout, stderr })
    }
}

fn send(target: &Target, signal: Signal) {
    if let Some(pid) = *target.lock().unwrap_or_else(PoisonError::into_inner) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Counts answers that went wrong by order, as far as the log shows them, and those that the quota refused.
fn count_answers(log: &[RequestRecord], tally: &mut Tally) {
    for record in log {
        let is_clip = record.api == Api::GetClip && record.status == Some(200);
        if record.over_quota {
            tally.refusals += 1;
        } else if record.error.is_some() || !record.completed || (is_clip && record.fragments.is_empty()) {
            tally.faults += 1;
        }
    }
}

/// Deletes, cuts or alters a chunk, or a file that has no final name yet; says whether there was one.
fn damage(rng: &mut Rng, scene: &Scene) -> bool {
    // Videos and sidecars in a fresh folder; masters deeper in it are links to chunks.
    let is_fresh = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name);
        folder.is_some_and(|name| name.to_string_lossy().starts_with(".kvs-export-"))
    };
    let unfinished = judge::below(&scene.outputs()).into_iter().filter(is_fresh);
    let files = judge::below(&scene.work()).into_iter().chain(unfinished);
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let Some(path) = rng.choice(&files) else {
        return false;
    };
    let mut bytes = std::fs::read(path).expect("a file can be read");
    // Another file under the name: a master that stands already may be a link to this one.
    std::fs::remove_file(path).expect("a file is deleted");
    match rng.u8(0..5) {
        0 => {}
        1 => {
            bytes.truncate(rng.usize(0..=bytes.len()));
            std::fs::write(path, bytes).expect("a file is cut");
        }
        // One bit, or a stretch that frames and their marks stand in.
        kind => {
            let at = rng.usize(0..=bytes.len());
            let length = if kind == 2 { 1 } else { 30_000 };
            bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte ^= 1 << rng.u8(0..8));
            std::fs::write(path, bytes).expect("a file is altered");
        }
    }
    true
}
