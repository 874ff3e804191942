//! Reads a manifest that somebody may have altered: once, hashing it on the way, its chunks one at a time.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::evidence::manifest::MANIFEST_SCHEMA;
use crate::model::Sha256Digest;

/// More parts than any export has.
const MAX_OUTPUTS: usize = 100_000;

/// What of a manifest is compared with the files, its chunks left out.
#[derive(Debug, Default)]
pub(super) struct ManifestFacts {
    pub(super) status: String,
    pub(super) export_id: Option<String>,
    pub(super) job: Option<String>,
    pub(super) stream: Option<StreamFacts>,
    pub(super) requested: Option<RequestedFacts>,
    /// How many fragments are in the videos; `None` where nothing was listed.
    pub(super) fragments: Option<u64>,
    /// How many fragments, or windows, it names as missing.
    pub(super) missing: u64,
    pub(super) outputs: Vec<OutputFacts>,
}

/// Where the media comes from.
#[derive(Debug, Deserialize)]
pub(super) struct StreamFacts {
    pub(super) name: String,
}

/// What was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct RequestedFacts {
    pub(super) from: String,
    pub(super) to: String,
}

/// A video.
#[derive(Debug, Deserialize)]
pub(super) struct OutputFacts {
    pub(super) file: String,
    pub(super) part: u64,
    pub(super) size_bytes: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) duration_ms: u64,
    pub(super) fragments: Option<u64>,
    pub(super) tracks: Vec<TrackFacts>,
}

/// A track of a video.
#[derive(Debug, Deserialize)]
pub(super) struct TrackFacts {
    pub(super) kind: String,
    pub(super) codec: String,
    pub(super) samples: u64,
    pub(super) codec_private_sha256: Sha256Digest,
}

/// A chunk.
#[derive(Debug, Deserialize)]
pub(super) struct ChunkFacts {
    pub(super) state: String,
    pub(super) fragments: Option<u64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) sha256: Option<Sha256Digest>,
    pub(super) kept_as: Option<String>,
}

/// What was read.
pub(super) struct ReadManifest {
    pub(super) facts: Result<ManifestFacts, serde_json::Error>,
    pub(super) size: u64,
    pub(super) sha256: Sha256Digest,
}

/// Hashes what goes through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// Reads the whole file; `each_chunk` gets the chunks as they come.
pub(super) fn read(file: File, mut each_chunk: impl FnMut(ChunkFacts)) -> io::Result<ReadManifest> {
    let hashing = Hashing { inner: file, hasher: Sha256::new(), size: 0 };
    let mut reader = BufReader::with_capacity(64 << 10, hashing);
    let mut json = serde_json::Deserializer::from_reader(&mut reader);
    let document = Document { each_chunk: RefCell::new(&mut each_chunk) };
    let facts = document.deserialize(&mut json).and_then(|facts| json.end().map(|()| facts));
    let mut hashing = reader.into_inner();
    // After an error the rest is still to be hashed; what the buffer held already is.
    io::copy(&mut hashing, &mut io::sink())?;
    match facts {
        Err(error) if error.is_io() => Err(error.into()),
        facts => {
            let sha256 = Sha256Digest(hashing.hasher.finalize().into());
            Ok(ReadManifest { facts, size: hashing.size, sha256 })
        }
    }
}

/// The document, read key by key: those that are not needed are skipped without being kept.
struct Document<'c> {
    each_chunk: RefCell<&'c mut dyn FnMut(ChunkFacts)>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ManifestFacts;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ManifestFacts, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ManifestFacts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ManifestFacts, A::Error> {
        const NEEDED: [&str; 6] = ["schema", "status", "fragments", "missing", "outputs", "chunks"];
        let mut facts = ManifestFacts::default();
        let mut seen = [false; NEEDED.len()];
        while let Some(key) = map.next_key::<String>()? {
            if let Some(at) = NEEDED.iter().position(|needed| *needed == key)
                && std::mem::replace(&mut seen[at], true)
            {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            match key.as_str() {
                "schema" => {
                    let schema: String = map.next_value()?;
                    if schema != MANIFEST_SCHEMA {
                        return Err(A::Error::custom(format_args!(
                            "its schema is {schema:?}, this version reads {MANIFEST_SCHEMA:?}"
                        )));
                    }
                }
                "status" => facts.status = map.next_value()?,
                "export_id" => facts.export_id = map.next_value()?,
                "job" => facts.job = map.next_value()?,
                "stream" => facts.stream = map.next_value()?,
                "requested" => facts.requested = map.next_value()?,
                "fragments" => facts.fragments = map.next_value()?,
                "missing" => {
                    let mut missing = 0;
                    map.next_value_seed(Each::new("missing fragments", |_: IgnoredAny| {
                        missing += 1;
                        Ok(())
                    }))?;
                    facts.missing = missing;
                }
                "outputs" => {
                    let mut outputs = Vec::new();
                    map.next_value_seed(Each::new("videos", |output: OutputFacts| {
                        outputs.push(output);
                        if outputs.len() > MAX_OUTPUTS { Err("an absurd number of videos") } else { Ok(()) }
                    }))?;
                    facts.outputs = outputs;
                }
                "chunks" => map.next_value_seed(Each::new("chunks", |chunk: ChunkFacts| {
                    (self.each_chunk.borrow_mut())(chunk);
                    Ok(())
                }))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match NEEDED.iter().zip(seen).find(|(_, seen)| !seen) {
            Some((key, _)) => Err(A::Error::custom(format_args!("the key {key:?} is missing"))),
            None => Ok(facts),
        }
    }
}

/// Takes the elements of a list one by one.
struct Each<T, F> {
    what: &'static str,
    take: F,
    element: std::marker::PhantomData<T>,
}

impl<T, F: FnMut(T) -> Result<(), &'static str>> Each<T, F> {
    fn new(what: &'static str, take: F) -> Self {
        Self { what, take, element: std::marker::PhantomData }
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), &'static str>> DeserializeSeed<'de> for Each<T, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), &'static str>> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.take)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
