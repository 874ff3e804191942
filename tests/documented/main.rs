//! What a new user meets: the first job file, completions, the examples, and every command that the documentation shows.
//!
//! `UPDATE_DOCS=1 cargo test --test documented generated` writes anew what is made from the types.

mod begin;
mod blocks;
mod examples;
mod generated;
mod shown;
mod stage;

use std::path::PathBuf;

/// A file of the checkout.
pub(crate) fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the checkout.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
