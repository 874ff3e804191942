//! What was decided and listed → the plan as it is told.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::decide::{Action, Decided, Decisions};
use super::disk::size;
use super::export::expires;
use super::plan_assembly::{Assembled, Sums};
use super::plan_keep::ListingCost;
use super::planner::{Listed, PlanRequest};
use super::prefixes;
use super::schedule::LEAST_OPEN;
use super::stop::Stop;
use crate::archive::{MEDIA_POINTS_PER_SECOND, METADATA_POINTS_PER_SECOND, StreamDescription};
use crate::model::plan_report::{
    Outstanding, PlanAction, PlanListing, PlanReport, PlanTotals, PlannedCalls, PlannedChunks, PlannedExport,
};
use crate::model::report::Outcome;
use crate::model::{ExportId, ExportSpec, StreamArn, UtcMillis};
use crate::plan::{Rates, Turn, Work, turns};
use crate::store::{ExportIdentity, ExportRecord};

/// Bytes per second that the service gives a connection (KVS.md, "Calls").
const CONNECTION_BYTES_PER_SECOND: f64 = 25e6;

/// Tells a plan, export by export, and sums it up.
pub(super) struct Teller<'a> {
    request: &'a PlanRequest,
    decisions: &'a Decisions,
    totals: PlanTotals,
    /// Endpoints that a run asks for.
    endpoints: HashSet<(&'a StreamArn, &'static str)>,
    /// The place of the first export that is not told yet.
    next: usize,
}

impl<'a> Teller<'a> {
    pub(super) fn new(request: &'a PlanRequest, decisions: &'a Decisions) -> Self {
        let (totals, endpoints) = (PlanTotals::default(), HashSet::new());
        Self { request, decisions, totals, endpoints, next: 0 }
    }

    /// Takes an export that is listed; tells it, with those before it that nothing is listed for, where that is wanted
    /// early. Gives what is still needed of it.
    pub(super) fn listed(
        &mut self,
        place: usize,
        assembled: Assembled,
        again: ListingCost,
    ) -> Result<Assembled, Stop> {
        if !self.request.told.is_early() {
            return Ok(assembled);
        }
        self.tell_idle(place)?;
        let alone = self.work(place, &assembled, again).map(|work| turns(self.rates(), [work]));
        let turn = alone.and_then(|turns| turns.first().copied()).unwrap_or_default();
        self.tell(place, Some(&assembled), again, turn)?;
        Ok(Assembled { gaps: Vec::new(), ..assembled })
    }

    /// Tells the exports before `place` that nothing is listed for.
    fn tell_idle(&mut self, place: usize) -> Result<(), Stop> {
        for idle in self.next..place {
            self.tell(idle, None, ListingCost::default(), Turn::default())?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        place: usize,
        assembled: Option<&Assembled>,
        again: ListingCost,
        turn: Turn,
    ) -> Result<(), Stop> {
        let decided = &self.decisions.exports[place];
        let export = self.export(decided, assembled, again, turn)?;
        if let Some(arn) = stream_of(&decided.action) {
            let calls = export.calls;
            self.endpoints.extend((calls.list_fragments > 0).then_some((arn, "ListFragments")));
            self.endpoints.extend((calls.get_clip > 0).then_some((arn, "GetClip")));
        }
        self.next = place + 1;
        self.add(&export);
        Ok(())
    }

    fn add(&mut self, export: &PlannedExport) {
        self.totals.add(export);
        self.request.told.export(export);
    }

    /// Tells what is not told yet, and sums up; a run describes so many streams.
    pub(super) fn finish(mut self, mut listed: Listed, described: u64) -> Result<PlanReport, Stop> {
        let turns = self.turns(&listed);
        let all_denied = self.all_denied(&listed.exports);
        let turn = |place: usize| turns.get(&place).copied().unwrap_or_default();
        if self.request.told.is_early() {
            self.tell_idle(self.decisions.exports.len())?;
            for (place, assembled) in &listed.exports {
                let decided = &self.decisions.exports[*place];
                let again = listed.kept.again(*place);
                let export = self.export(decided, Some(assembled), again, turn(*place))?;
                if export.expires_before_turn {
                    self.request.told.late(&export);
                }
            }
        } else {
            for place in 0..self.decisions.exports.len() {
                let assembled = listed.exports.remove(&place);
                self.tell(place, assembled.as_ref(), listed.kept.again(place), turn(place))?;
            }
        }
        for unlisted in &self.request.unlisted {
            self.add(&prefixes::planned(unlisted));
        }
        for record in &self.decisions.superseded {
            let sums = Sums::of(&self.request.store, record)?;
            self.add(&known(record, &record.spec, PlanAction::Superseded, sums));
        }
        let mut totals = std::mem::take(&mut self.totals);
        totals.calls.list_streams = self.request.list_streams;
        totals.calls.describe_stream = described;
        totals.calls.get_data_endpoint = self.endpoints.len() as u64;
        totals.cost_usd = totals.outstanding.cost_usd();
        totals.time_ms = turns.values().map(|turn| turn.end_ms).max().unwrap_or(0);
        let (outcome, error) = self.outcome(&totals, all_denied);
        let listing = PlanListing {
            list_fragments: listed.pages,
            windows_kept: listed.kept.windows_kept,
            not_kept: listed.kept.not_kept.filter(|_| listed.pages > 0),
        };
        Ok(PlanReport { outcome, error, totals, listing })
    }

    fn export(
        &self,
        decided: &Decided,
        assembled: Option<&Assembled>,
        again: ListingCost,
        turn: Turn,
    ) -> Result<PlannedExport, Stop> {
        let spec = &decided.spec;
        let (id, action, arn) = match &decided.action {
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
            Action::Resume(record) => (record.identity.id.clone(), PlanAction::Resume, &record.stream_arn),
            Action::Begin(arn) => (ExportIdentity::of(spec, arn).id, PlanAction::New, arn),
            Action::Redo(record) => (record.identity.id.clone(), PlanAction::Redo, &record.stream_arn),
        };
        let nothing = Assembled::default();
        let Assembled { sums, gaps, failure } = assembled.unwrap_or(&nothing);
        let fails = failure.is_some();
        // Before an export is called empty, the other clock is asked.
        let probe = u64::from(!fails && sums.chunks.total == 0);
        let mut export = PlannedExport {
            gaps: gaps.clone(),
            calls: PlannedCalls {
                list_fragments: again.pages + probe,
                get_clip: sums.outstanding.chunks,
                list_tags_for_stream: u64::from(!fails),
                ..PlannedCalls::default()
            },
            error: failure.as_ref().map(|failure| failure.error.clone()),
            ..summed(Some(id), spec, action, *sums)
        };
        self.time(&mut export, spec, arn, turn);
        Ok(export)
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
    fn turns(&self, listed: &Listed) -> BTreeMap<usize, Turn> {
        let mut order: Vec<(UtcMillis, usize, Work<&StreamArn>)> = Vec::new();
        for (place, assembled) in listed.exports.iter().filter(|(_, assembled)| assembled.failure.is_none()) {
            let Some(work) = self.work(*place, assembled, listed.kept.again(*place)) else { continue };
            let stream: Option<&Arc<StreamDescription>> = self.decisions.streams.get(work.stream);
            let Some(stream) = stream else { continue };
            order.push((expires(&self.decisions.exports[*place].spec, stream), *place, work));
        }
        // As the dispatcher takes them up.
        order.sort_by_key(|(expires, place, _)| (*expires, *place));
        let turns = turns(self.rates(), order.iter().map(|(.., work)| *work));
        order.iter().map(|(_, place, _)| *place).zip(turns).collect()
    }

    /// What an export asks of the service.
    fn work(&self, place: usize, assembled: &Assembled, again: ListingCost) -> Option<Work<&'a StreamArn>> {
        let outstanding = assembled.sums.outstanding;
        Some(Work {
            stream: stream_of(&self.decisions.exports[place].action)?,
            metadata_points: outstanding.fragments + again.points,
            media_points: outstanding.fragments,
            bytes: outstanding.bytes,
        })
    }

    fn rates(&self) -> Rates {
        let limits = &self.request.limits;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let connections = limits.requests_in_flight as f64 * CONNECTION_BYTES_PER_SECOND;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bandwidth = limits.bandwidth.map_or(connections, |bandwidth| connections.min(bandwidth as f64));
        Rates {
            metadata_points: METADATA_POINTS_PER_SECOND * limits.stream_budget,
            media_points: MEDIA_POINTS_PER_SECOND * limits.stream_budget,
            bytes: bandwidth,
            exports: limits.requests_in_flight.max(LEAST_OPEN),
        }
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
