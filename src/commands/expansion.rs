//! From what a job file says by itself to all that it asks for: the streams that its prefixes take are listed.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::CommandError;
use crate::archive::Archive;
use crate::job::{JobFile, KnownStreams, Resolved};
use crate::model::event::EventSink;
use crate::model::listing::widest;
use crate::model::{ExportSpec, ListedStream, StreamListings, StreamStatus, UnlistedRange, UtcMillis};
use crate::run::{self as runner, Asked, ListedPrefixes, Stop};
use crate::store::{Store, StoreError};

/// What a job file asks for, as far as that is known without the service.
pub(super) struct Asking {
    /// The exports of streams that are named one by one.
    pub(super) named: Vec<Resolved>,
    /// When they were resolved: the others are resolved for the same time.
    pub(super) now: UtcMillis,
    /// The jobs that are asked for; all, if it is empty.
    pub(super) only: Vec<String>,
    /// The folder that everything has to be written below.
    pub(super) below: Option<PathBuf>,
    /// Whether the streams that prefixes take belong to it.
    pub(super) prefixes: bool,
}

/// All that a job file asks for.
pub(super) struct AskedFor {
    pub(super) asked: Vec<Asked>,
    pub(super) unlisted: Vec<UnlistedRange>,
    /// Pages of streams that were listed.
    pub(super) pages: u64,
}

/// How streams are listed.
pub(super) struct Lister<'a> {
    pub(super) archive: &'a dyn Archive,
    pub(super) events: Arc<dyn EventSink>,
    /// Becomes true when it is to stop.
    pub(super) cancel: watch::Receiver<bool>,
}

impl Lister<'_> {
    /// Lists the streams of the prefixes of these jobs.
    pub(super) async fn list(mut self, file: &JobFile, only: &[String]) -> Result<ListedPrefixes, Stop> {
        let prefixes = file.prefixes(only);
        tokio::select! {
            listed = runner::list_streams(self.archive, &self.events, prefixes) => listed,
            _ = self.cancel.wait_for(|stop| *stop) => Err(Stop::Interrupted),
        }
    }
}

impl Asking {
    /// Whether the streams of a prefix have to be listed.
    pub(super) fn is_incomplete(&self, file: &JobFile) -> bool {
        self.prefixes && !file.prefixes(&self.only).is_empty()
    }

    /// What the file asks for, as if all streams that the state file knows were still there: no request is sent.
    pub(super) fn as_recorded(self, file: &JobFile, store: &Store) -> Result<Vec<ExportSpec>, StoreError> {
        let specs = |resolved: Vec<Resolved>| resolved.into_iter().map(|export| export.spec).collect();
        if !self.is_incomplete(file) {
            return Ok(specs(self.named));
        }
        let known =
            store.streams()?.into_iter().map(|arn| ListedStream { arn, status: StreamStatus::Active });
        let known: Vec<ListedStream> = known.collect();
        let mut listings = StreamListings::default();
        for prefix in widest(file.prefixes(&self.only)) {
            let taken = known.iter().filter(|stream| prefix.takes(stream.arn.name())).cloned().collect();
            listings.add(prefix, Ok(taken));
        }
        let known = KnownStreams { listings: &listings, unfinished: &HashMap::new() };
        // What is wrong with the streams of today is told where they are listed.
        let (expansion, _) = file.expand(self.now, &self.only, known);
        Ok(specs(expansion.exports))
    }

    /// Asks for this export alone.
    pub(super) fn narrow_to(&mut self, export: Resolved) {
        self.named = vec![export];
        self.prefixes = false;
    }

    /// Lists the streams that prefixes take, where there are any, and resolves the file with them.
    pub(super) async fn complete(
        self,
        file: &JobFile,
        store: &Store,
        lister: Lister<'_>,
    ) -> Result<AskedFor, CommandError> {
        if !self.is_incomplete(file) {
            return Ok(AskedFor { asked: asked(self.named), unlisted: Vec::new(), pages: 0 });
        }
        let ListedPrefixes { listings, pages } = lister.list(file, &self.only).await?;
        let unfinished = unfinished(store)?;
        let known = KnownStreams { listings: &listings, unfinished: &unfinished };
        let (expansion, errors) = file.expand(self.now, &self.only, known);
        if let Some(errors) = errors {
            return Err(errors.into());
        }
        self.check_place(&expansion.exports)?;
        Ok(AskedFor { asked: asked(expansion.exports), unlisted: expansion.unlisted, pages })
    }

    /// Refuses an output that is not below the folder where everything has to be.
    pub(super) fn check_place(&self, exports: &[Resolved]) -> Result<(), CommandError> {
        let Some(folder) = &self.below else { return Ok(()) };
        let Some(outside) = exports.iter().find(|asked| !asked.spec.output.starts_with(folder)) else {
            return Ok(());
        };
        Err(CommandError::Usage(format!(
            "with --emulator everything is written below {}, but job {} names {}",
            folder.display(),
            outside.spec.job,
            outside.spec.output.display()
        )))
    }
}

pub(super) fn asked(resolved: Vec<Resolved>) -> Vec<Asked> {
    resolved.into_iter().map(|Resolved { spec, pending, .. }| Asked { spec, pending }).collect()
}

/// The streams with exports that are not finished, by job.
fn unfinished(store: &Store) -> Result<HashMap<String, BTreeSet<String>>, StoreError> {
    let mut streams: HashMap<String, BTreeSet<String>> = HashMap::new();
    for export in store.unfinished()?.into_iter().filter(|export| !export.superseded) {
        streams.entry(export.job).or_default().insert(export.stream.name().to_owned());
    }
    Ok(streams)
}
