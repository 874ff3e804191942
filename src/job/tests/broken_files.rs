//! The files of `tests/broken`: what is wrong with each, and where, stands in its first lines.
//!
//! `# error: LINE:COLUMN KEY: WORDS`, in the order of the problems, all of them; KEY is empty for broken TOML. The line
//! `# schema: accepts it: WHY` is for the test of the schema.

#![expect(clippy::format_push_string, reason = "writing to a String has an error that never happens")]

use super::*;

/// A problem as a file tells it of itself.
struct Expected {
    /// `LINE:COLUMN KEY`.
    place: String,
    words: String,
}

fn expected(text: &str) -> Vec<Expected> {
    let told = text.lines().filter_map(|line| line.trim_start_matches('\u{feff}').strip_prefix("# error: "));
    told.map(|told| {
        let (place, rest) = told.split_once(' ').expect("LINE:COLUMN KEY: WORDS");
        let (key, words) = rest.split_once(": ").expect("KEY: WORDS");
        Expected { place: format!("{place} {key}"), words: words.to_owned() }
    })
    .collect()
}

#[test]
fn every_broken_file_is_refused_for_what_it_says_and_for_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files = 0;
    let mut wrong = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let (expected, found) = (expected(&text), problems(&text));
        let as_expected = expected.len() == found.len()
            && expected.iter().zip(&found).all(|(expected, found)| {
                expected.place == format!("{}:{} {}", found.line, found.column, found.key)
                    && !expected.words.is_empty()
                    && found.message.contains(&expected.words)
            });
        if expected.is_empty() || !as_expected {
            wrong += &format!("\n{}:", path.display());
            for found in &found {
                wrong +=
                    &format!("\n# error: {}:{} {}: {}", found.line, found.column, found.key, found.message);
            }
        }
        files += 1;
    }
    assert!(wrong.is_empty(), "found otherwise than their first lines say:{wrong}");
    assert!(files >= 75, "{files} files");
}
