//! `kvs-export clip`: one export without a job file, on the same path as `run`.
//!
//! Its state lies beside its output, in `.kvs-export/clip-STREAM-HASH/`; the hash is over the words of the command
//! line, not over the instants that they mean, so that the same command finds it again. It is there until the
//! export is done, partial or empty.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::asking::{DEMO_FOLDER, demo_archive};
use super::error::CommandError;
use super::expansion::Asking;
use super::run;
use super::session::{self, Undertaking};
use super::signals;
use crate::cli::{ClipArgs, GlobalArgs};
use crate::clock::{Clock, SystemClock};
use crate::evidence::verify::verify;
use crate::evidence::{self, ManifestSummary};
use crate::fs;
use crate::job::{self, AwsSettings, CLIP_JOB, ClipRange, ClipWords, Resolved};
use crate::model::report::{
    ChunkTally, ExportReport, ExportStatus, GapReport, Outcome, RUN_SCHEMA, RunReport,
};
use crate::model::{ExportSpec, Sha256Digest, StreamArn, StreamSelector};
use crate::run::occupied;
use crate::store::{ExportIdentity, StateLock, Store, StoreError};

/// As much of a stream's name as a folder's name has room for.
const MAX_NAME_BYTES: usize = 100;

/// Exports and reports; standard output holds one document whatever happens.
pub(super) async fn clip(args: &ClipArgs, global: &GlobalArgs) -> u8 {
    run::tell(carry_out(args, global).await, global).1
}

async fn carry_out(args: &ClipArgs, global: &GlobalArgs) -> Result<RunReport, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cancel = signals::cancel_on_signals()?;
    let folder = base_folder(args)?;
    let mut file = job::clip(&words(args), &folder)?;
    let now = clock.now();
    let named = file.resolve(now, &[])?;
    let Some(Resolved { spec, .. }) = named.first() else {
        // One stream and one range are one export.
        return Err(CommandError::Usage("there is nothing to export".to_owned()));
    };
    if args.emulator && !spec.output.starts_with(&folder) {
        return Err(CommandError::Usage(format!(
            "with --emulator everything is written below {}, but --output names {}",
            folder.display(),
            spec.output.display()
        )));
    }
    let state = State::of(spec, args);
    state.remove_if_finished(&clock)?;
    if !state.file().exists()
        && let Some(there) = occupied(spec)
    {
        return already(spec, &there, args);
    }
    (file.state, file.work) = (state.file(), state.folder.join("chunks"));
    let asking = Asking { named, now, only: Vec::new(), expands: false, below: None };
    let undertaking = Undertaking {
        file,
        asking,
        whole_file: true,
        again: None,
        job_file: None,
        demo: args.emulator.then(demo_archive),
    };
    let result = session::carry_out(undertaking, Arc::clone(&clock), cancel, global).await;
    let removed = state.remove_if_finished(&clock);
    let report = result?;
    removed?;
    Ok(report)
}

fn base_folder(args: &ClipArgs) -> Result<PathBuf, CommandError> {
    let folder = if args.emulator { DEMO_FOLDER } else { "." };
    let absolute = std::path::absolute(Path::new(folder));
    absolute.map_err(|source| CommandError::Io { what: "find the current folder", source })
}

fn words(args: &ClipArgs) -> ClipWords<'_> {
    let range = match (&args.from, &args.to, &args.last) {
        (Some(from), Some(to), _) => ClipRange::Between(from, to),
        // The command line has one of the two forms.
        (_, _, last) => ClipRange::Last(last.as_deref().unwrap_or_default()),
    };
    ClipWords {
        stream: &args.stream,
        range,
        output: args.output.as_deref(),
        time_zone: args.time_zone.as_deref(),
        timestamps: args.timestamps,
        edges: args.edges,
        timeline: args.timeline,
        settle: &args.settle,
        aws: AwsSettings {
            region: args.region.clone(),
            profile: args.profile.clone(),
            endpoint_url: args.endpoint_url.clone(),
        },
    }
}

/// Where the state of a clip is.
struct State {
    folder: PathBuf,
}

impl State {
    /// The folder that the same words always lead to, whatever instants they mean by now.
    fn of(spec: &ExportSpec, args: &ClipArgs) -> Self {
        // Profile and endpoint only say how the same archive is reached.
        let stream = spec.stream.to_string();
        let words = [
            stream.as_str(),
            &spec.range_text.text,
            &spec.output_template,
            spec.timestamps.as_str(),
            spec.edges.as_str(),
            spec.timeline.as_str(),
            args.region.as_deref().unwrap_or_default(),
            if args.emulator { "emulator" } else { "" },
        ];
        let mut hash = Sha256Digest(Sha256::digest(words.join("\n")).into()).to_string();
        hash.truncate(16);
        let mut name = spec.stream.name().to_owned();
        name.truncate(MAX_NAME_BYTES);
        let beside = spec.output.parent().unwrap_or(Path::new("/"));
        Self { folder: beside.join(fs::OWN_FOLDER).join(format!("clip-{name}-{hash}")) }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("state.db")
    }

    /// Removes the state if no export in it is still to be finished; not while another process uses it.
    fn remove_if_finished(&self, clock: &Arc<dyn Clock>) -> Result<(), CommandError> {
        let mut finished = self.folder.clone().into_os_string();
        finished.push(".finished");
        let finished = PathBuf::from(finished);
        fs::remove_dir_all(&finished)?;
        if !self.file().exists() {
            return Ok(());
        }
        let lock = match StateLock::acquire(&self.file(), &**clock) {
            Ok(lock) => lock,
            Err(StoreError::Locked { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_finished = Store::open_read_only(&self.file(), Arc::clone(clock))?.unfinished()?.is_empty();
        if is_finished {
            // Renamed first: half a state, such as a write-ahead log without its database, must never be found.
            fs::rename(&self.folder, &finished)?;
            fs::remove_dir_all(&finished)?;
            if let Some(folder) = self.folder.parent() {
                fs::remove_own_folder_if_empty(folder)?;
            }
        }
        drop(lock);
        Ok(())
    }
}

/// The files are there before the export began: done by the same command before, or somebody else's.
fn already(spec: &ExportSpec, there: &Path, args: &ClipArgs) -> Result<RunReport, CommandError> {
    let manifest = spec.output.with_extension("manifest.json");
    let summary = evidence::manifest_summary(&manifest).ok().filter(|summary| is_same(spec, summary, args));
    let Some(summary) = summary else {
        return Err(CommandError::Usage(format!(
            "{} is already there and is not this clip: it is never overwritten; move it away, or name another file \
             with -o",
            there.display()
        )));
    };
    let verified = verify(std::slice::from_ref(&manifest)).map_err(CommandError::Verify)?;
    let output = match verified.exports.into_iter().next() {
        Some(export) if export.verified => export.output,
        _ => {
            return Err(CommandError::Usage(format!(
                "this clip was exported before, but its files are not what they were; see: kvs-export verify {}; \
                 move them away to export it again",
                manifest.display()
            )));
        }
    };
    let export = report(spec, summary, manifest, output);
    let totals = RunReport::sum(std::slice::from_ref(&export));
    Ok(RunReport { schema: RUN_SCHEMA, outcome: Outcome::Done, error: None, exports: vec![export], totals })
}

/// Whether a manifest is that of the very same export.
fn is_same(spec: &ExportSpec, summary: &ManifestSummary, args: &ClipArgs) -> bool {
    let Ok(arn) = StreamArn::parse(&summary.stream.arn) else { return false };
    let is_asked = match &spec.stream {
        StreamSelector::Arn(asked) => *asked == arn,
        StreamSelector::Name(asked) => {
            // Of a region that only a profile names nothing is known here.
            let region =
                ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok());
            let region = args.region.clone().or(region).filter(|_| !args.emulator);
            asked == arn.name() && region.is_none_or(|region| region == arn.region())
        }
    };
    is_asked && ExportIdentity::of(spec, &arn).id.0 == summary.export_id
}

fn report(
    spec: &ExportSpec,
    summary: ManifestSummary,
    manifest: PathBuf,
    output: Vec<PathBuf>,
) -> ExportReport {
    let count = |state: &str| summary.chunks.iter().filter(|chunk| chunk.state == state).count() as u64;
    let gaps =
        summary.gaps.iter().map(|gap| GapReport { from: gap.from.into(), to: gap.to.into(), ms: gap.ms });
    ExportReport {
        id: Some(crate::model::ExportId(summary.export_id.clone())),
        job: CLIP_JOB.to_owned(),
        stream: spec.stream.name().to_owned(),
        from: spec.range.start(),
        to: spec.range.end(),
        status: match summary.status.as_str() {
            "partial" => ExportStatus::Partial,
            "empty" => ExportStatus::Empty,
            _ => ExportStatus::Done,
        },
        already: true,
        resumed_chunks: None,
        output,
        manifest: Some(manifest),
        chunks: ChunkTally {
            total: summary.chunks.len() as u64,
            fetched: count("fetched"),
            rejected: count("rejected"),
            expired: count("expired"),
            ..ChunkTally::default()
        },
        chunk: spec.chunk.to_string(),
        fragments: summary.fragments,
        bytes: summary.listed_bytes.unwrap_or(0),
        media_ms: summary.media_ms.unwrap_or(0),
        gaps: gaps.collect(),
        warnings: summary.warnings,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::model::UtcMillis;

    fn args(options: &str) -> ClipArgs {
        let words = format!("kvs-export clip {options}");
        match Cli::try_parse_from(words.split(' ')).expect("valid").command {
            Command::Clip(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// The state folder of those words at that minute after 2024-03-01T00:00:00Z.
    fn state(options: &str, minute: i64) -> PathBuf {
        let args = args(options);
        let now = UtcMillis::new(1_709_251_200_000 + minute * 60_000);
        let file = job::clip(&words(&args), Path::new("/x")).expect("accepted");
        State::of(&file.resolve(now, &[]).expect("resolved")[0].spec, &args).folder
    }

    #[test]
    fn the_same_words_lead_to_the_same_state_at_any_time() {
        for options in
            ["gate --last 5m", "gate --last 5m -o a/b.mp4", "gate --from today --to now --time-zone UTC"]
        {
            assert_eq!(state(options, 10), state(options, 21), "{options}");
        }
        assert!(state("gate --last 5m", 10).starts_with("/x/.kvs-export"));
        assert!(state("gate --last 5m -o a/b.mp4", 10).starts_with("/x/a/.kvs-export"));
    }

    #[test]
    fn every_word_that_decides_the_video_leads_to_another_state() {
        let options = [
            "gate --last 5m",
            "yard --last 5m",
            "gate --last 6m",
            "gate --from -5m --to now",
            "gate --last 5m -o x.mp4",
            "gate --last 5m --timestamps producer",
            "gate --last 5m --edges inside",
            "gate --last 5m --timeline wallclock",
            "gate --last 5m --region eu-west-1",
            "gate --last 5m --emulator",
        ];
        let mut states: Vec<_> = options.into_iter().map(|options| state(options, 10)).collect();
        states.sort();
        states.dedup();
        assert_eq!(states.len(), options.len(), "{states:?}");
        // How the archive is reached does not.
        let again = state("gate --last 5m --profile other --endpoint-url http://127.0.0.1:1 --settle 0s", 10);
        assert_eq!(again, state("gate --last 5m", 10));
    }
}
