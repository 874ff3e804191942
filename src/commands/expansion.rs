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
use crate::model::{ListedStream, StreamListings, StreamStatus, UnlistedRange, UtcMillis};
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
    /// Whether the streams of the jobs' prefixes belong to it.
    pub(super) expands: bool,
    /// The folder that everything has to be written below.
    pub(super) below: Option<PathBuf>,
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
        self.expands && !file.prefixes(&self.only).is_empty()
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

    /// Resolves the file with the streams that the state file knows for those that prefixes take: nothing is listed.
    ///
    /// A prefix that takes none of them is no problem here.
    pub(super) fn complete_as_recorded(
        self,
        file: &JobFile,
        store: &Store,
    ) -> Result<Vec<Asked>, CommandError> {
        if !self.is_incomplete(file) {
            return Ok(asked(self.named));
        }
        // Of streams that were made again under their names all: `except` may name one of them.
        let known = store.streams()?;
        let mut listings = StreamListings::default();
        for prefix in widest(file.prefixes(&self.only)) {
            let taken = known.iter().filter(|arn| prefix.takes(arn.name()));
            let listed =
                taken.map(|arn| ListedStream { arn: arn.clone(), status: StreamStatus::Active }).collect();
            listings.add(prefix, Ok(listed));
        }
        let unfinished = unfinished(store)?;
        let known = KnownStreams { listings: &listings, unfinished: &unfinished };
        let (expansion, _) = file.expand(self.now, &self.only, known);
        Ok(asked(expansion.exports))
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
