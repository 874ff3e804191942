//! Numbers that look random and are the same in every run.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A number that depends on all of `value` and on nothing else.
pub(super) fn of<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
