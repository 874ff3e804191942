//! What was decided and listed → the plan as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decide::{Action, Decided, Decisions};
use super::disk::size;
use super::export::expires;
use super::plan_assembly::{Assembled, Sums};
use super::planner::{Listed, PlanRequest};
use super::prefixes;
use super::schedule::LEAST_OPEN;
use super::stop::Stop;
use crate::archive::{MEDIA_POINTS_PER_SECOND, METADATA_POINTS_PER_SECOND, StreamDescription};
use crate::model::plan_report::{
    Outstanding, PLAN_SCHEMA, PlanAction, PlanListing, PlanReport, PlanTotals, PlannedCalls, PlannedChunks,
    PlannedExport,
};
use crate::model::report::Outcome;
use crate::model::{ExportId, ExportSpec, StreamArn, UtcMillis};
use crate::plan::{Rates, Turn, Work, turns};
use crate::store::{ExportIdentity, ExportRecord};

/// Bytes per second that the service gives a connection (KVS.md, "Calls").
const CONNECTION_BYTES_PER_SECOND: f64 = 25e6;

/// Tells a plan.
pub(super) struct Tally<'a> {
    pub(super) request: &'a PlanRequest,
    pub(super) decisions: &'a Decisions,
    pub(super) listed: Listed,
    /// Streams that a run describes.
    pub(super) described: u64,
}

impl Tally<'_> {
    pub(super) fn report(mut self) -> Result<PlanReport, Stop> {
        let assembled = std::mem::take(&mut self.listed.exports);
        let all_denied = self.all_denied(&assembled);
        let turns = self.turns(&assembled);
        let mut exports = Vec::with_capacity(self.decisions.exports.len() + self.decisions.superseded.len());
        let mut endpoints = BTreeSet::new();
        let mut assembled = assembled.into_iter().peekable();
        for (place, decided) in self.decisions.exports.iter().enumerate() {
            let assembled = assembled.next_if(|(of, _)| *of == place).map(|(_, assembled)| assembled);
            let mut export = self.export(place, decided, assembled)?;
            if let Some(arn) = stream_of(&decided.action) {
                let turn = turns.get(&place).copied().unwrap_or_default();
                self.time(&mut export, &decided.spec, arn, turn);
                let calls = export.calls;
                endpoints.extend((calls.list_fragments > 0).then(|| (arn.clone(), "ListFragments")));
                endpoints.extend((calls.get_clip > 0).then(|| (arn.clone(), "GetClip")));
            }
            exports.push(export);
        }
        exports.extend(self.request.unlisted.iter().map(prefixes::planned));
        for record in &self.decisions.superseded {
            let sums = Sums::of(&self.request.store, record)?;
            exports.push(known(record, &record.spec, PlanAction::Superseded, sums));
        }
        let mut totals = PlanTotals::default();
        for export in &exports {
            totals.add(export);
        }
        totals.calls.list_streams = self.request.list_streams;
        totals.calls.describe_stream = self.described;
        totals.calls.get_data_endpoint = endpoints.len() as u64;
        totals.cost_usd = totals.outstanding.cost_usd();
        totals.time_ms = turns.values().map(|turn| turn.end_ms).max().unwrap_or(0);
        let (outcome, error) = self.outcome(&totals, all_denied);
        let listing = PlanListing {
            list_fragments: self.listed.pages,
            windows_kept: self.listed.kept.windows_kept,
            not_kept: self.listed.kept.not_kept.filter(|_| self.listed.pages > 0),
        };
        Ok(PlanReport { schema: PLAN_SCHEMA, outcome, error, exports, totals, listing })
    }

    fn export(
        &self,
        place: usize,
        decided: &Decided,
        assembled: Option<Assembled>,
    ) -> Result<PlannedExport, Stop> {
        let spec = &decided.spec;
        let (id, action) = match &decided.action {
            Action::Pending => return Ok(bare(spec, PlanAction::Pending)),
            Action::Refuse { error, .. } => {
                return Ok(PlannedExport { error: Some(error.clone()), ..bare(spec, PlanAction::New) });
            }
            Action::Leave(id) => {
                let Some(record) = self.request.store.export(id)? else {
                    return Ok(bare(spec, PlanAction::Done));
                };
                let sums = Sums::of(&self.request.store, &record)?;
                return Ok(known(&record, spec, PlanAction::Done, sums));
            }
            Action::Resume(record) => (record.identity.id.clone(), PlanAction::Resume),
            Action::Begin(arn) => (ExportIdentity::of(spec, arn).id, PlanAction::New),
            Action::Redo(record) => (record.identity.id.clone(), PlanAction::Redo),
        };
        let Assembled { sums, gaps, failure } = assembled.unwrap_or_default();
        let fails = failure.is_some();
        let again = self.listed.kept.again.get(&place).copied().unwrap_or_default();
        // Before an export is called empty, the other clock is asked.
        let probe = u64::from(!fails && sums.chunks.total == 0);
        Ok(PlannedExport {
            gaps,
            calls: PlannedCalls {
                list_fragments: again.pages + probe,
                get_clip: sums.outstanding.chunks,
                list_tags_for_stream: u64::from(!fails),
                ..PlannedCalls::default()
            },
            error: failure.map(|failure| failure.error),
            ..summed(Some(id), spec, action, sums)
        })
    }

    /// Fills in what retention and the quotas make of an export.
    fn time(&self, export: &mut PlannedExport, spec: &ExportSpec, arn: &StreamArn, turn: Turn) {
        let Some(stream) = self.decisions.streams.get(arn) else { return };
        let expires_at = expires(spec, stream);
        export.expires_at = Some(expires_at);
        export.time_ms = (!spec.chunk.is_fixed()).then_some(turn.alone_ms);
        let now = self.request.clock.now();
        let at = |ms: u64| now + i64::try_from(ms).unwrap_or(i64::MAX);
        let last_expires_at = expires_at + spec.range.length_ms();
        let late = at(turn.start_ms) > expires_at || at(turn.end_ms) > last_expires_at;
        export.expires_before_turn = late && (export.outstanding.chunks > 0 || export.error.is_some());
    }

    /// When each export has its turn, by its place.
    fn turns(&self, assembled: &BTreeMap<usize, Assembled>) -> BTreeMap<usize, Turn> {
        let limits = &self.request.limits;
        let mut order: Vec<(UtcMillis, usize, &StreamArn, Outstanding)> = Vec::new();
        for (place, assembled) in assembled.iter().filter(|(_, assembled)| assembled.failure.is_none()) {
            let decided = &self.decisions.exports[*place];
            let Some(arn) = stream_of(&decided.action) else { continue };
            let stream: Option<&Arc<StreamDescription>> = self.decisions.streams.get(arn);
            let Some(stream) = stream else { continue };
            order.push((expires(&decided.spec, stream), *place, arn, assembled.sums.outstanding));
        }
        // As the dispatcher takes them up.
        order.sort_by_key(|(expires, place, ..)| (*expires, *place));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let connections = limits.requests_in_flight as f64 * CONNECTION_BYTES_PER_SECOND;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bandwidth = limits.bandwidth.map_or(connections, |bandwidth| connections.min(bandwidth as f64));
        let rates = Rates {
            metadata_points: METADATA_POINTS_PER_SECOND * limits.stream_budget,
            media_points: MEDIA_POINTS_PER_SECOND * limits.stream_budget,
            bytes: bandwidth,
            exports: limits.requests_in_flight.max(LEAST_OPEN),
        };
        let listed = |place: &usize| self.listed.kept.again.get(place).map_or(0, |again| again.points);
        let works = order.iter().map(|(_, place, arn, outstanding)| Work {
            stream: *arn,
            metadata_points: outstanding.fragments + listed(place),
            media_points: outstanding.fragments,
            bytes: outstanding.bytes,
        });
        let turns = turns(rates, works);
        order.iter().map(|(_, place, ..)| *place).zip(turns).collect()
    }

    fn all_denied(&self, assembled: &BTreeMap<usize, Assembled>) -> bool {
        let of_decisions =
            self.decisions.exports.iter().enumerate().filter_map(|(place, decided)| match &decided.action {
                Action::Pending | Action::Leave(_) => None,
                Action::Refuse { denied, .. } => Some(*denied),
                Action::Begin(_) | Action::Resume(_) | Action::Redo(_) => {
                    let failure = assembled.get(&place).and_then(|assembled| assembled.failure.as_ref());
                    Some(failure.is_some_and(|failure| failure.denied))
                }
            });
        let mut tried = of_decisions.chain(prefixes::denials(&self.request.unlisted));
        tried.next().is_some_and(|first| first && tried.all(|denied| denied))
    }

    fn outcome(&self, totals: &PlanTotals, all_denied: bool) -> (Outcome, Option<String>) {
        if all_denied {
            return (Outcome::Auth, Some("the credentials may read none of the streams".to_owned()));
        }
        let (bytes, max_bytes) = (totals.outstanding.bytes, self.request.limits.max_bytes);
        if let Some(max_bytes) = max_bytes.filter(|max_bytes| bytes > *max_bytes) {
            let (bytes, max_bytes) = (size(bytes), size(max_bytes));
            let error = format!("{bytes} are to be fetched, more than `max_bytes` ({max_bytes}) allows");
            return (Outcome::Usage, Some(error));
        }
        (if totals.failed > 0 { Outcome::Incomplete } else { Outcome::Done }, None)
    }
}

fn stream_of(action: &Action) -> Option<&StreamArn> {
    match action {
        Action::Begin(arn) => Some(arn),
        Action::Resume(record) | Action::Redo(record) => Some(&record.stream_arn),
        Action::Pending | Action::Refuse { .. } | Action::Leave(_) => None,
    }
}

/// An export that is in the state file and not to be touched.
fn known(record: &ExportRecord, spec: &ExportSpec, action: PlanAction, sums: Sums) -> PlannedExport {
    let nothing = Sums { outstanding: Outstanding::default(), ..sums };
    let shown = ExportSpec { job: spec.job.clone(), ..record.spec.clone() };
    summed(Some(record.identity.id.clone()), &shown, action, nothing)
}

fn bare(spec: &ExportSpec, action: PlanAction) -> PlannedExport {
    summed(None, spec, action, Sums::default())
}

fn summed(id: Option<ExportId>, spec: &ExportSpec, action: PlanAction, sums: Sums) -> PlannedExport {
    let is_fixed = spec.chunk.is_fixed();
    let known = |value: u64| (!is_fixed || action == PlanAction::Done).then_some(value);
    PlannedExport {
        id,
        job: spec.job.clone(),
        stream: spec.stream.to_string(),
        from: spec.range.start(),
        to: spec.range.end(),
        action,
        output: spec.output.clone(),
        chunks: PlannedChunks { ..sums.chunks },
        chunk: spec.chunk.to_string(),
        fragments: (!is_fixed).then_some(sums.fragments),
        bytes: known(sums.bytes),
        media_ms: known(sums.media_ms),
        gaps: Vec::new(),
        expires_at: None,
        expires_before_turn: false,
        outstanding: sums.outstanding,
        calls: PlannedCalls::default(),
        cost_usd: (!is_fixed || sums.outstanding.chunks == 0).then(|| sums.outstanding.cost_usd()),
        time_ms: known(0),
        warnings: spec.warnings.clone(),
        error: None,
    }
}
