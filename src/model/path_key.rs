//! When two paths are one.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

/// A text that is equal for paths which some file system takes for the same: NFC, case-folded.
///
/// It is stored and compared across versions, so what it makes of a path must never change; a test holds examples.
pub fn path_key(path: &Path) -> String {
    // Upper case first: it unites what lower case alone keeps apart, `ß` and `ss`, both sigmas.
    path.to_string_lossy().nfc().collect::<String>().to_uppercase().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_file_system_may_take_for_one_have_one_key() {
        let key = |text| path_key(Path::new(text));
        assert_eq!(key("/X/Stra\u{df}e.MP4"), "/x/strasse.mp4");
        assert_eq!(key("/X/STRASSE.mp4"), "/x/strasse.mp4");
        assert_eq!(key("/x/\u{39f}\u{3a3}"), key("/x/\u{3bf}\u{3c2}"));
        assert_eq!(key("/x/cafe\u{301}"), "/x/caf\u{e9}");
        assert_eq!(key("/x/e\u{301}"), key("/x/\u{c9}"));
        assert_ne!(key("/x/a"), key("/x/b"));
    }
}
