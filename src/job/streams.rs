//! The streams of a job: named, or taken by a prefix out of what the service lists.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::errors::{Context, Located, Place, Refusal};
use super::raw::{RawJob, RawStreams};
use crate::model::{ListedStream, NotListed, StreamListings, StreamPattern, StreamPrefix, StreamSelector};

const NOTHING_ACCEPTED: &str = "a prefix of streams that are there, or allow_empty = true";

/// The streams that a job asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStreams {
    /// In the file's order; not empty, none twice.
    entries: RawStreams,
    /// What its prefixes must not take.
    except: Vec<StreamPattern>,
    /// Whether its prefixes may take nothing.
    allow_empty: bool,
}

/// What is known of the account's streams where prefixes are expanded.
#[derive(Debug, Clone, Copy)]
pub struct KnownStreams<'a> {
    /// What the service lists.
    pub listings: &'a StreamListings,
    /// The names of streams with exports that are not finished, by the name of their job.
    pub unfinished: &'a HashMap<String, BTreeSet<String>>,
}

/// What a prefix of a job came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedPrefix {
    /// The job's name.
    pub job: String,
    /// The prefix.
    pub prefix: StreamPrefix,
    /// What it takes; `None` where the streams could not be listed.
    pub taken: Option<TakenStreams>,
}

/// What a prefix takes of the streams that are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakenStreams {
    /// The names of those it takes, and whether the job names them one by one too: then they are exported as such.
    pub streams: BTreeMap<String, bool>,
    /// How many `except` leaves out.
    pub left_out: usize,
    /// How many are being made or deleted.
    pub unreadable: usize,
}

impl TakenStreams {
    /// How many it does not take, and why.
    pub fn others(&self) -> Vec<String> {
        [(self.left_out, "left out by `except`"), (self.unreadable, "being made or deleted")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}

/// What a job's streams come to, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The streams, in the file's order, those of a prefix in the order of their names; none twice.
    pub(super) streams: Vec<StreamSelector>,
    /// The prefixes that are not listed yet, or could not be.
    pub(super) unlisted: Vec<(StreamPrefix, Option<NotListed>)>,
    /// The prefixes that were to be listed.
    pub(super) expanded: Vec<ExpandedPrefix>,
}

impl JobStreams {
    /// One stream.
    pub(super) fn only(stream: StreamSelector) -> Self {
        let place = Place::named("");
        let entries = vec![Located { value: StreamPattern::One(stream), place }];
        Self { entries, except: Vec::new(), allow_empty: false }
    }

    /// Puts the keys of a job together and reports what is wrong between them.
    pub(super) fn build(context: &Context<'_>, raw: &RawJob) -> Option<Self> {
        let entries = raw.streams.clone().value()?;
        let except = raw.except.clone().value().unwrap_or_default();
        let allow_empty = raw.allow_empty.clone().value().unwrap_or(false);
        let has_prefix = entries.iter().any(|entry| matches!(entry.value, StreamPattern::Prefix(_)));
        for excepted in &except {
            // What `[defaults]` leave out is not meant for a job that takes nothing by a prefix.
            let counts = has_prefix || excepted.place.key.starts_with(&raw.place.key);
            let Some(named) = entries.iter().find(|entry| counts && entry.value == excepted.value) else {
                continue;
            };
            let message = format!(
                "{:?} is to be left out, and stands in `streams` (line {}) too",
                excepted.value.to_string(),
                named.place.line
            );
            context.report(&excepted.place, Refusal::new(message).accepts("each stream in one of the two"));
        }
        for entry in entries.iter().filter(|_| !allow_empty) {
            let StreamPattern::Prefix(prefix) = &entry.value else { continue };
            let leaves_nothing = |except: &&Located<StreamPattern>| match &except.value {
                StreamPattern::Prefix(wide) => wide != prefix && wide.covers(prefix),
                StreamPattern::One(_) => false,
            };
            if let Some(except) = except.iter().find(leaves_nothing) {
                let message = format!(
                    "{:?} can take nothing: `except` (line {}) leaves out {:?}",
                    prefix.to_string(),
                    except.place.line,
                    except.value.to_string()
                );
                context.report(&entry.place, Refusal::new(message).accepts(NOTHING_ACCEPTED));
            }
        }
        let except = except.into_iter().map(|except| except.value).collect();
        Some(Self { entries, except, allow_empty })
    }

    /// The prefixes, in the file's order.
    pub fn prefixes(&self) -> impl Iterator<Item = &StreamPrefix> {
        self.entries.iter().filter_map(|entry| match &entry.value {
            StreamPattern::Prefix(prefix) => Some(prefix),
            StreamPattern::One(_) => None,
        })
    }

    /// The streams that are named one by one, in the file's order.
    pub fn named(&self) -> impl Iterator<Item = &StreamSelector> {
        self.entries.iter().filter_map(|entry| match &entry.value {
            StreamPattern::One(stream) => Some(stream),
            StreamPattern::Prefix(_) => None,
        })
    }

    /// What they come to; without `known`, which streams there are is left open. Reports a prefix that takes nothing.
    pub(super) fn choose(&self, context: &Context<'_>, job: &str, known: Option<KnownStreams<'_>>) -> Chosen {
        let mut chosen = Chosen::default();
        let mut seen = HashSet::new();
        for entry in &self.entries {
            let prefix = match &entry.value {
                StreamPattern::One(stream) => {
                    chosen.streams.push(stream.clone());
                    continue;
                }
                StreamPattern::Prefix(prefix) => prefix,
            };
            let listed =
                known.and_then(|known| Some((known.listings.of(prefix)?, known.unfinished.get(job))));
            let taken = match listed {
                None => {
                    chosen.unlisted.push((prefix.clone(), None));
                    continue;
                }
                Some((Err(why), _)) => {
                    chosen.unlisted.push((prefix.clone(), Some(why.clone())));
                    None
                }
                Some((Ok(listed), unfinished)) => {
                    let taken = self.take(prefix, listed, unfinished.into_iter().flatten());
                    if taken.streams.is_empty() && !self.allow_empty {
                        context.report(&entry.place, takes_nothing(job, prefix, &taken));
                    }
                    let new = taken
                        .streams
                        .iter()
                        .filter(|(name, is_named)| !**is_named && seen.insert((*name).clone()));
                    chosen.streams.extend(new.map(|(name, _)| StreamSelector::Name(name.clone())));
                    Some(taken)
                }
            };
            chosen.expanded.push(ExpandedPrefix { job: job.to_owned(), prefix: prefix.clone(), taken });
        }
        chosen
    }

    /// What a prefix takes. A stream that is not listed any more, but has an export that is not finished, is asked for all
    /// the same: DescribeStream tells what became of it, and its export does not vanish in silence.
    fn take<'l>(
        &self,
        prefix: &StreamPrefix,
        listed: impl Iterator<Item = &'l ListedStream>,
        unfinished: impl Iterator<Item = &'l String>,
    ) -> TakenStreams {
        let mut taken = TakenStreams::default();
        let mut named: HashMap<&str, Vec<&StreamSelector>> = HashMap::new();
        for stream in self.named() {
            named.entry(stream.name()).or_default().push(stream);
        }
        let mut there = HashSet::new();
        for stream in listed {
            let name = stream.arn.name();
            if self.except.iter().any(|except| except.takes(&stream.arn)) {
                there.insert(name);
                taken.left_out += 1;
            } else if !stream.status.is_readable() {
                taken.unreadable += 1;
            } else {
                there.insert(name);
                let is_named = named.get(name).into_iter().flatten().any(|named| match named {
                    StreamSelector::Name(_) => true,
                    // The same name in another region, or before it was made again, is another stream.
                    StreamSelector::Arn(arn) => *arn == stream.arn,
                });
                taken.streams.insert(name.to_owned(), is_named);
            }
        }
        let is_excepted = |name: &str| {
            self.except.iter().any(|except| match except {
                StreamPattern::One(stream) => stream.name() == name,
                StreamPattern::Prefix(wide) => wide.takes(name),
            })
        };
        for name in unfinished {
            if prefix.takes(name) && !there.contains(name.as_str()) && !is_excepted(name) {
                taken.streams.insert(name.clone(), named.contains_key(name.as_str()));
            }
        }
        taken
    }
}

fn takes_nothing(job: &str, prefix: &StreamPrefix, taken: &TakenStreams) -> Refusal {
    let mut message = format!("no stream of job {job:?} begins with {:?}", prefix.as_str());
    if prefix.as_str().is_empty() {
        message = format!("there is no stream for job {job:?}");
    }
    let others = taken.others();
    if !others.is_empty() {
        message = format!("{message}, apart from {}", others.join(" and "));
    }
    Refusal::new(message).accepts(NOTHING_ACCEPTED)
}
