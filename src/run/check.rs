//! Tries each call that a run needs once on every stream, as cheaply as it can be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::decide::stream_refused;
use super::fetch::WAY_OUT;
use super::observe::Observer;
use super::planner::NoEvents;
use super::prepare::Asked;
use super::stop::Stop;
use super::window::{self, Glance};
use crate::archive::{Archive, ArchiveError, ClipQuery, FailureKind, ListQuery, StreamDescription};
use crate::error::chain;
use crate::model::event::EventSink;
use crate::model::validate_report::{Check, CheckStatus};
use crate::model::{Chunking, ExportSpec, Fragment, RequestBounds, StreamSelector, TimestampKind, UtcMillis};

/// Streams at a time.
const STREAMS_AT_ONCE: usize = 8;

/// Empty pages of one result each, after which a range counts as one without fragments.
const MOST_PAGES: u32 = 20;

const DESCRIBE: &str = "kinesisvideo:DescribeStream";
const ENDPOINT: &str = "kinesisvideo:GetDataEndpoint";
const LIST: &str = "kinesisvideo:ListFragments";
const CLIP: &str = "kinesisvideo:GetClip";
const TAGS: &str = "kinesisvideo:ListTagsForStream";
const DECRYPT: &str = "kms:Decrypt";

/// What the streams are like.
#[derive(Debug)]
pub struct StreamChecks {
    /// The checks, stream by stream in the order of the job file.
    pub checks: Vec<Check>,
    /// Whether every stream lacks a permission.
    pub all_denied: bool,
}

/// Checks every stream that is asked for; the error is one of the credentials as such.
pub async fn check_streams(
    archive: &dyn Archive,
    asked: &[Asked],
    now: UtcMillis,
) -> Result<StreamChecks, Stop> {
    let mut specs: BTreeMap<&StreamSelector, Vec<&ExportSpec>> = BTreeMap::new();
    let mut listed: BTreeSet<&StreamSelector> = BTreeSet::new();
    let mut selectors = Vec::new();
    for Asked { spec, pending } in asked {
        let of_stream = specs.entry(&spec.stream).or_insert_with(|| {
            selectors.push(&spec.stream);
            Vec::new()
        });
        of_stream.extend((!pending).then_some(spec));
        if !spec.chunk.is_fixed() {
            listed.insert(&spec.stream);
        }
    }
    let (specs, listed) = (&specs, &listed);
    let mut checked = stream::iter(selectors)
        .map(|selector| async move {
            let mut of_stream = OfStream::new(archive, selector, now);
            let needs_listing = listed.contains(selector);
            of_stream.check(specs.get(selector).map_or(&[], Vec::as_slice), needs_listing).await?;
            Ok::<_, Stop>(of_stream)
        })
        .buffered(STREAMS_AT_ONCE);
    let mut all = StreamChecks { checks: Vec::new(), all_denied: true };
    while let Some(of_stream) = checked.next().await {
        let of_stream = of_stream?;
        all.all_denied &= of_stream.denied;
        all.checks.extend(of_stream.checks);
    }
    all.all_denied &= !all.checks.is_empty();
    Ok(all)
}

/// The checks of one stream.
struct OfStream<'a> {
    archive: &'a dyn Archive,
    selector: &'a StreamSelector,
    now: UtcMillis,
    subject: String,
    checks: Vec<Check>,
    /// Whether a permission is missing that a run cannot do without.
    denied: bool,
}

impl<'a> OfStream<'a> {
    fn new(archive: &'a dyn Archive, selector: &'a StreamSelector, now: UtcMillis) -> Self {
        let subject = format!("stream {selector}");
        Self { archive, selector, now, subject, checks: Vec::new(), denied: false }
    }

    fn add(&mut self, check: &str, status: CheckStatus, message: impl Into<String>) {
        self.checks.push(Check::new(&self.subject, check, status, message));
    }

    /// All of them; `specs` are the stream's exports whose windows are over. With fixed windows alone nothing is listed.
    async fn check(&mut self, specs: &[&ExportSpec], needs_listing: bool) -> Result<(), Stop> {
        let observer = Observer::new(&no_events());
        let stream = match self.archive.describe_stream(self.selector, &observer).await {
            Ok(stream) => stream,
            Err(error) => {
                self.denied = error.kind == FailureKind::Denied;
                let message = stream_refused(&error);
                self.failed(DESCRIBE, error, message)?;
                for check in [ENDPOINT, LIST, CLIP, TAGS] {
                    self.add(check, CheckStatus::Untested, "the stream could not be described");
                }
                return Ok(());
            }
        };
        self.add(DESCRIBE, CheckStatus::Ok, format!("it is {}", stream.arn));
        self.retention(&stream, specs);
        self.media_type(&stream);
        if !needs_listing {
            self.add(LIST, CheckStatus::Ok, "not needed: all its jobs use fixed windows (`chunk`)");
            match specs.iter().max_by_key(|spec| spec.range.end()) {
                Some(latest) => self.clip_of_window(&stream, latest).await?,
                None => self.add(CLIP, CheckStatus::Untested, "none of its ranges is over yet"),
            }
            return self.tags(&stream).await;
        }
        match self.list(&stream, specs).await? {
            Ok((timestamps, fragment)) => self.clip(&stream, timestamps, &fragment).await?,
            Err(reason) => self.add(CLIP, CheckStatus::Untested, reason),
        }
        self.tags(&stream).await
    }

    fn retention(&mut self, stream: &StreamDescription, specs: &[&ExportSpec]) {
        let hours = stream.retention_hours;
        if hours == 0 {
            let message =
                "the stream keeps nothing: raise its data retention before anything can be exported";
            return self.add("retention", CheckStatus::Problem, message);
        }
        let head = self.now - i64::from(hours) * 3_600_000;
        let gone: Vec<&&ExportSpec> = specs.iter().filter(|spec| spec.range.end() <= head).collect();
        let partly = specs.iter().filter(|spec| spec.range.start() < head && head < spec.range.end());
        let example = |spec: &ExportSpec| format!("job {}, {}", spec.job, spec.range);
        if let Some(first) = gone.first() {
            let message = format!(
                "{} of {} ranges lie wholly before the {hours} h that the stream keeps (first {})",
                gone.len(),
                specs.len(),
                example(first)
            );
            return self.add("retention", CheckStatus::Problem, message);
        }
        match partly.clone().next() {
            Some(first) => {
                let message = format!(
                    "{} of {} ranges begin before the {hours} h that the stream keeps (first {})",
                    partly.count(),
                    specs.len(),
                    example(first)
                );
                self.add("retention", CheckStatus::Note, message);
            }
            None => self.add("retention", CheckStatus::Ok, format!("{hours} h")),
        }
    }

    fn media_type(&mut self, stream: &StreamDescription) {
        let Some(media_type) = &stream.media_type else { return };
        match unsupported(media_type) {
            Some(reason) => {
                let message = format!("{media_type}: no clip can be made of {reason}; {WAY_OUT}");
                self.add("media type", CheckStatus::Problem, message);
            }
            None => self.add("media type", CheckStatus::Ok, media_type.clone()),
        }
    }

    /// Lists one fragment, and gives it, or why there is none.
    async fn list(
        &mut self,
        stream: &StreamDescription,
        specs: &[&ExportSpec],
    ) -> Result<Result<(TimestampKind, Fragment), &'static str>, Stop> {
        // The latest is the likeliest to be there still.
        let latest = specs.iter().max_by_key(|spec| spec.range.end());
        let hour = RequestBounds { start: self.now - 3_600_000, end: self.now };
        let (timestamps, bounds) = latest.map_or((TimestampKind::Server, hour), |spec| {
            let bounds = RequestBounds { start: spec.range.start(), end: spec.range.end() - 1 };
            (spec.timestamps, bounds)
        });
        let arn = stream.arn.clone();
        let mut query = ListQuery { stream: arn, timestamps, bounds, page_size: 1, next_token: None };
        let observer = Observer::new(&no_events());
        for _ in 0..MOST_PAGES {
            let mut page = match self.archive.list_fragments(&query, &observer).await {
                Ok(page) => page,
                Err(error) => {
                    let listed = error.api != "GetDataEndpoint";
                    self.permission(LIST, error)?;
                    if !listed {
                        self.add(LIST, CheckStatus::Untested, "its endpoint is not known");
                    }
                    return Ok(Err("no fragment could be listed that a clip could be asked of"));
                }
            };
            query.next_token = page.next_token;
            if let Some(fragment) = page.fragments.pop() {
                self.add(ENDPOINT, CheckStatus::Ok, "for ListFragments");
                self.add(
                    LIST,
                    CheckStatus::Ok,
                    format!("a fragment of {} is there", fragment.start(timestamps)),
                );
                return Ok(Ok((timestamps, fragment)));
            }
            if query.next_token.is_none() {
                break;
            }
        }
        self.add(ENDPOINT, CheckStatus::Ok, "for ListFragments");
        self.add(LIST, CheckStatus::Ok, format!("no fragment between {} and {}", bounds.start, bounds.end));
        Ok(Err("nothing there: no fragment is known that a clip could be asked of"))
    }

    /// Asks for the clip of one fragment and hangs up when its first bytes come.
    async fn clip(
        &mut self,
        stream: &StreamDescription,
        timestamps: TimestampKind,
        fragment: &Fragment,
    ) -> Result<(), Stop> {
        let start = fragment.start(timestamps);
        let query = ClipQuery {
            stream: stream.arn.clone(),
            timestamps,
            bounds: RequestBounds { start, end: start + 1 },
            fragments: 1,
            attempts: 1,
            may_list: true,
        };
        let mut sink = Glance::default();
        let observer = Observer::new(&no_events());
        let answer = self.archive.get_clip(&query, &mut sink, &observer).await;
        match answer {
            Err(error) if !sink.has_seen_media => self.clip_failed(stream, error),
            _ => {
                self.add(ENDPOINT, CheckStatus::Ok, "for GetClip");
                self.add(CLIP, CheckStatus::Ok, format!("the fragment of {start} is served"));
                Ok(())
            }
        }
    }

    /// Asks for the last fixed window of a range and hangs up when its first bytes come.
    async fn clip_of_window(&mut self, stream: &StreamDescription, spec: &ExportSpec) -> Result<(), Stop> {
        let Chunking::Fixed(length_ms) = spec.chunk else { return Ok(()) };
        let end = spec.range.end() - 1;
        let start = spec.range.start().max(end - i64::from(length_ms) + 1);
        let observer = Observer::new(&no_events());
        let of = (&stream.arn, spec.timestamps);
        let bounds = RequestBounds { start, end };
        match window::glance(self.archive, of, bounds, 1, &observer).await {
            Ok(seen) => {
                let what = if seen { "media is served" } else { "there is no media" };
                self.add(ENDPOINT, CheckStatus::Ok, "for GetClip");
                self.add(CLIP, CheckStatus::Ok, format!("{what} from {start} to {end}"));
                Ok(())
            }
            // It answers; a run finds out what of the window can be had.
            Err(error) if matches!(error.kind, FailureKind::MediaRefused | FailureKind::OutsideRetention) => {
                self.add(ENDPOINT, CheckStatus::Ok, "for GetClip");
                self.add(CLIP, CheckStatus::Ok, format!("it answers: {}", error.message));
                Ok(())
            }
            Err(error) => self.clip_failed(stream, error),
        }
    }

    /// Notes that no clip is served.
    fn clip_failed(&mut self, stream: &StreamDescription, error: ArchiveError) -> Result<(), Stop> {
        if error.kind == FailureKind::Denied && error.message.to_ascii_lowercase().contains("kms") {
            self.denied = true;
            let key = stream.kms_key.as_deref().unwrap_or("the stream's key");
            let message = format!("grant kms:Decrypt on {key} ({})", error.message);
            return self.failed(DECRYPT, error, message);
        }
        if matches!(error.kind, FailureKind::MediaUnsupported | FailureKind::MediaRefused) {
            let message = format!("{}; {WAY_OUT}", chain(&error));
            return self.failed("media type", error, message);
        }
        self.permission(CLIP, error)
    }

    async fn tags(&mut self, stream: &StreamDescription) -> Result<(), Stop> {
        let observer = Observer::new(&no_events());
        match self.archive.list_tags(&stream.arn, &observer).await {
            Ok(tags) => self.add(TAGS, CheckStatus::Ok, format!("{} tags", tags.len())),
            Err(error) if error.kind == FailureKind::Auth => return Err(Stop::Auth(Box::new(error))),
            Err(error) => {
                let message = format!("manifests will be without the stream's tags: {}", chain(&error));
                self.add(TAGS, CheckStatus::Note, message);
            }
        }
        Ok(())
    }

    /// Notes that a call failed which a run cannot do without; it may be the endpoint's call that did.
    fn permission(&mut self, check: &str, error: ArchiveError) -> Result<(), Stop> {
        let check = if error.api == "GetDataEndpoint" { ENDPOINT } else { check };
        let message = if error.kind == FailureKind::Denied {
            self.denied = true;
            format!("grant {} ({})", error.iam_action(), error.message)
        } else {
            chain(&error)
        };
        self.failed(check, error, message)
    }

    fn failed(&mut self, check: &str, error: ArchiveError, message: String) -> Result<(), Stop> {
        if error.kind == FailureKind::Auth {
            return Err(Stop::Auth(Box::new(error)));
        }
        self.add(check, CheckStatus::Problem, message);
        Ok(())
    }
}

fn no_events() -> Arc<dyn EventSink> {
    Arc::new(NoEvents)
}

/// Why no clip can be made of media of that type (KVS.md, "Calls").
fn unsupported(media_type: &str) -> Option<&'static str> {
    let types: Vec<String> =
        media_type.split(',').map(|of| of.trim().to_ascii_lowercase()).filter(|of| !of.is_empty()).collect();
    let has = |names: &[&str]| types.iter().any(|of| names.contains(&of.as_str()));
    let mu_law = has(&["audio/mulaw", "audio/pcmu", "audio/basic"]);
    let a_law = has(&["audio/alaw", "audio/pcma", "audio/g711"]);
    if !types.is_empty() && types.iter().all(|of| of.starts_with("audio/")) {
        Some("sound alone")
    } else if mu_law {
        Some("µ-law sound")
    } else if a_law && has(&["video/h265", "video/hevc"]) {
        Some("H.265 with G.711 sound")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_that_no_clip_can_be_made_of_are_told() {
        let cases = [
            ("video/h264", None),
            ("video/h264,audio/aac", None),
            ("video/h264, audio/alaw", None),
            ("video/H265", None),
            ("application/x-own", None),
            ("", None),
            ("video/h265,audio/alaw", Some("H.265 with G.711 sound")),
            ("video/h264,audio/mulaw", Some("µ-law sound")),
            ("audio/aac", Some("sound alone")),
        ];
        for (media_type, reason) in cases {
            assert_eq!(unsupported(media_type), reason, "{media_type}");
        }
    }
}
