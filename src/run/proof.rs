//! Fills the manifest of an export from the state file and the merge.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::finish::{MergeFailure, MergeJob, WindowCache, file_name};
use crate::evidence::{
    ChunkEntry, ClockEntry, DroppedEntry, GapEntry, JobFileEntry, MANIFEST_SCHEMA, Manifest, MergeEntry,
    MissingEntry, OutputEntry, ReckoningEntry, RequestedEntry, StreamEntry, ToolEntry,
};
use crate::merge::{MergeReport, MergedPart};
use crate::model::{ChunkState, ExportEvent, ExportId, Fragment, TimestampKind, UtcMillis};
use crate::store::{ChunkRecord, Store, StoreError};

/// How the media clock is reckoned where the producer's is implausible.
const RECKONING_RULE: &str = "producer-distances-within-sessions-least-delayed-at-its-server-timestamp";

/// The manifest, and whether the export is whole.
pub(super) fn manifest(
    job: &MergeJob,
    store: &Store,
    facts: &Facts,
    merged: Option<&MergeReport>,
) -> Result<(Manifest, ExportEvent), MergeFailure> {
    let (id, spec) = (&job.record.identity.id, &job.record.spec);
    let (delivered, missing) = settled(store, id, spec.timestamps)?;
    let event = match (merged, missing.is_empty()) {
        (None, true) => ExportEvent::FoundEmpty,
        (_, false) => ExportEvent::CompletedPartly,
        (Some(_), true) => ExportEvent::Completed,
    };
    let listed = !spec.chunk.is_fixed();
    let mut warnings = spec.warnings.clone();
    warnings.extend(job.record.warnings.iter().cloned());
    if listed && facts.media_clock != TimestampKind::Producer {
        let median = facts.skew.map_or(0, |skew| skew.median_ms);
        warnings.push(format!(
            "the producer's clock is not plausible (median {median} ms off the server's): gaps and the timeline use \
             server timestamps, and within each of the producer's sessions its distances"
        ));
    }
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        status: match event {
            ExportEvent::FoundEmpty => "empty",
            ExportEvent::CompletedPartly => "partial",
            _ => "done",
        }
        .to_owned(),
        created_at: job.clock.now().to_string(),
        tool: ToolEntry { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), host: host() },
        export_id: id.to_string(),
        job: spec.job.clone(),
        job_file: job
            .job_file
            .as_ref()
            .map(|file| JobFileEntry { path: file.path.display().to_string(), sha256: file.sha256 }),
        case: spec.case.clone(),
        operator: spec.operator.clone(),
        note: spec.note.clone(),
        stream: stream_entry(job),
        requested: RequestedEntry {
            from: spec.range.start().to_string(),
            to: spec.range.end().to_string(),
            text: spec.range_text.text.clone(),
            time_zone: spec.time_zone.clone(),
            timestamps: spec.timestamps.as_str().to_owned(),
            edges: spec.edges.as_str().to_owned(),
            chunk: spec.chunk.to_string(),
            timeline: spec.timeline.as_str().to_owned(),
        },
        delivered_from: delivered.span.map(|(start, _)| start.to_string()),
        delivered_to: delivered.span.map(|(_, end)| end.to_string()),
        fragments: listed.then_some(delivered.fragments),
        listed_bytes: listed.then_some(delivered.bytes),
        media_ms: listed.then_some(delivered.media_ms),
        listed_at: facts.listed_at.map(|(first, last)| (first.to_string(), last.to_string())),
        clock: ClockEntry {
            media_clock: facts.media_clock.as_str().to_owned(),
            reckoning: facts
                .reckoning
                .as_ref()
                .map(|reckoning| ReckoningEntry { rule: RECKONING_RULE, sessions: reckoning.sessions() }),
            gap_tolerance_ms: facts.tolerance_ms,
            skew_ms: facts.skew.map(|skew| (skew.min_ms, skew.median_ms, skew.max_ms)),
        },
        gaps: facts
            .gaps
            .iter()
            .map(|gap| GapEntry {
                from: gap.from.to_string(),
                to: gap.to.to_string(),
                ms: gap.ms,
                cause: if listed { "not-listed" } else { "empty-window" },
            })
            .collect(),
        dropped: dropped(store, id)?,
        missing,
        outputs: merged.map(output_entries).unwrap_or_default(),
        merge: merged.map(merge_entry),
        warnings,
    };
    Ok((manifest, event))
}

/// The videos as the merge reports them, by the names they are about to get.
fn output_entries(report: &MergeReport) -> Vec<OutputEntry> {
    let entry = |(index, part): (usize, &MergedPart)| OutputEntry {
        file: file_name(&part.path),
        part: index + 1,
        size_bytes: part.size_bytes,
        sha256: part.sha256,
        reason: json(&part.reason),
        changes: json(&part.changes),
        start: part.start.to_string(),
        end: part.end.to_string(),
        duration_ms: part.duration_ms,
        fragments: part.fragments,
        first_fragment: part.first_fragment.clone(),
        last_fragment: part.last_fragment.clone(),
        tracks: json(&part.tracks),
    };
    report.parts.iter().enumerate().map(entry).collect()
}

fn merge_entry(report: &MergeReport) -> MergeEntry {
    MergeEntry {
        ffmpeg_version: report.ffmpeg_version.clone(),
        ffmpeg_args: report.ffmpeg_args.clone(),
        joins: json(&report.joins),
        join_count: report.join_count,
        moved_count: report.moved_count,
        moved_max_us: report.moved_max_us,
        av_offset_us: json(&report.av_offset_us),
    }
}

/// Plain data, which always has a JSON form.
fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn stream_entry(job: &MergeJob) -> StreamEntry {
    let stream = &job.stream;
    StreamEntry {
        arn: stream.arn.to_string(),
        name: stream.arn.name().to_owned(),
        region: stream.arn.region().to_owned(),
        account: stream.arn.account().to_owned(),
        created_at: stream.created.map(|created| created.to_string()),
        retention_hours: stream.retention_hours,
        kms_key: stream.kms_key.clone(),
        media_type: stream.media_type.clone(),
        tags: job.tags.as_ref().map(|tags| tags.iter().cloned().collect::<BTreeMap<_, _>>()),
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Fragments that were listed and left out by a rule.
fn dropped(store: &Store, export: &ExportId) -> Result<Vec<DroppedEntry>, StoreError> {
    let mut entries = Vec::new();
    for window in store.windows(export)?.iter().filter(|window| window.dropped > 0) {
        entries.extend(store.window_fragments(export, window.seq)?.1.into_iter().map(|(fragment, rule)| {
            DroppedEntry {
                number: fragment.number,
                producer: fragment.producer.to_string(),
                server: fragment.server.to_string(),
                rule,
            }
        }));
    }
    Ok(entries)
}

/// What the listing says of the fragments that are in the output.
#[derive(Debug, Default)]
struct Delivered {
    fragments: u64,
    bytes: u64,
    media_ms: u64,
    /// First start and last end on the selecting clock.
    span: Option<(UtcMillis, UtcMillis)>,
}

impl Delivered {
    fn add(&mut self, fragment: &Fragment, selector: TimestampKind) {
        self.fragments += 1;
        self.bytes += fragment.size_bytes;
        self.media_ms += u64::from(fragment.length_ms);
        let start = fragment.start(selector);
        let end = start + i64::from(fragment.length_ms);
        let (first, last) = self.span.unwrap_or((start, end));
        self.span = Some((first.min(start), last.max(end)));
    }
}

/// What was delivered, and the fragments that could not be had, each with the service's words.
fn settled(
    store: &Store,
    export: &ExportId,
    selector: TimestampKind,
) -> Result<(Delivered, Vec<MissingEntry>), StoreError> {
    let mut windows = WindowCache::default();
    let mut delivered = Delivered::default();
    let mut missing = Vec::new();
    for chunk in store.leaf_chunks(export) {
        let chunk = chunk?;
        let fragments = windows.fragments(store, export, &chunk)?;
        match chunk.state {
            ChunkState::Fetched => {
                for fragment in &fragments {
                    delivered.add(fragment, selector);
                }
            }
            ChunkState::Rejected | ChunkState::Expired if chunk.planned.is_fixed() => {
                missing.push(missing_window(&chunk));
            }
            ChunkState::Rejected | ChunkState::Expired => {
                missing.extend(fragments.into_iter().map(|fragment| missing_entry(&chunk, fragment)));
            }
            _ => {}
        }
    }
    Ok((delivered, missing))
}

fn missing_entry(chunk: &ChunkRecord, fragment: Fragment) -> MissingEntry {
    MissingEntry {
        number: Some(fragment.number),
        producer: Some(fragment.producer.to_string()),
        server: Some(fragment.server.to_string()),
        ..missing_window(chunk)
    }
}

/// What could not be had, without the fragments in it.
fn missing_window(chunk: &ChunkRecord) -> MissingEntry {
    let error = chunk.error.as_ref();
    let window = chunk.planned.is_fixed().then_some(chunk.planned.bounds);
    MissingEntry {
        number: None,
        producer: None,
        server: None,
        window_from: window.map(|bounds| bounds.start.to_string()),
        window_to: window.map(|bounds| (bounds.end + 1).to_string()),
        state: chunk.state.as_str().to_owned(),
        code: error.map(|error| error.code.clone()).unwrap_or_default(),
        detail: error.map(|error| error.detail.clone()).unwrap_or_default(),
    }
}

/// Every chunk of the export, one at a time.
pub(super) fn chunk_entries<'a>(
    store: &'a Store,
    export: &'a ExportId,
    kept: bool,
) -> impl Iterator<Item = Result<ChunkEntry, StoreError>> + 'a {
    let mut windows = WindowCache::default();
    store.leaf_chunks(export).map(move |chunk| {
        let chunk = chunk?;
        let fragments = windows.fragments(store, export, &chunk)?;
        Ok(chunk_entry(&chunk, &fragments, kept))
    })
}

fn chunk_entry(chunk: &ChunkRecord, fragments: &[Fragment], kept: bool) -> ChunkEntry {
    let file = chunk.file.as_ref();
    ChunkEntry {
        id: chunk.id.0,
        state: chunk.state.as_str().to_owned(),
        first_fragment: fragments.first().map(|fragment| fragment.number.clone()),
        last_fragment: fragments.last().map(|fragment| fragment.number.clone()),
        fragments: (!chunk.planned.is_fixed()).then_some(chunk.planned.fragment_count),
        request_start: chunk.planned.bounds.start.to_string(),
        request_end: chunk.planned.bounds.end.to_string(),
        size_bytes: file.map(|(size, _)| *size),
        sha256: file.map(|(_, sha256)| *sha256),
        request_id: chunk.request_id.clone(),
        attempts: chunk.attempts,
        kept_as: (kept && file.is_some()).then(|| format!("{}.mp4", chunk.id)),
    }
}
