//! What a job file comes to: every value that holds, and where it was taken from.
//!
//! Looks values up in the document as it is written, by the same rules of precedence by which `raw` puts the file together; a
//! test reads the result back and finds the same jobs.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::JobSource;
use super::errors::Lines;
use super::overlay::Overlay;
use super::raw::{AWS_KEYS, JOB_KEYS, LIMITS_KEYS, NOTIFY_KEYS, ROOT_KEYS};
use super::reader::Keys;
use super::reference::toml;
use super::schema::{properties, schema};
use crate::model::validate_report::SettingReport;

/// The forms of a range, which a job has instead of the defaults', not beside them.
const RANGE: [&str; 4] = ["from", "to", "last", "ranges"];

/// The values that hold, in the order of the file's reference; nothing of a text that is not TOML.
pub fn show(source: JobSource<'_>, overlay: &Overlay) -> Vec<SettingReport> {
    let Ok(document) = DeTable::parse(source.text) else { return Vec::new() };
    let (document, schema) = (document.get_ref(), schema());
    let finder = Finder { lines: Lines::of(source.text), source, overlay, schema };
    let table = |key: &str| document.get(key).and_then(|value| value.get_ref().as_table());
    let mut shown = finder.table("", &ROOT_KEYS, "", &[(Some(document), "")]);
    for (name, keys) in [("aws", &AWS_KEYS), ("limits", &LIMITS_KEYS), ("notify", &NOTIFY_KEYS)] {
        shown.extend(finder.table(name, keys, &format!("/properties/{name}"), &[(table(name), "")]));
    }
    let jobs = document.get("job").and_then(|jobs| jobs.get_ref().as_array());
    for (at, job) in jobs.into_iter().flat_map(|jobs| jobs.iter()).enumerate() {
        let levels = [(job.get_ref().as_table(), ""), (table("defaults"), "[defaults], ")];
        let name = format!("job[{}]", at + 1);
        shown.extend(finder.table(&name, &JOB_KEYS, "/properties/job/items", &levels));
    }
    shown
}

struct Finder<'s> {
    lines: Lines<'s>,
    source: JobSource<'s>,
    overlay: &'s Overlay,
    schema: serde_json::Value,
}

impl Finder<'_> {
    /// The values of one table; of several levels the first that has a key.
    fn table(
        &self,
        name: &str,
        keys: &Keys,
        pointer: &str,
        levels: &[(Option<&DeTable<'_>>, &str)],
    ) -> Vec<SettingReport> {
        let known = properties(&self.schema, pointer);
        let found = keys.known.iter().filter_map(|key| {
            let key: &str = key;
            let about = known?.get(key)?;
            if about.get("properties").is_some() || key == "job" {
                return None;
            }
            let (value, from) = self
                .overlay
                .find(name, key)
                .or_else(|| self.in_file(key, levels))
                .or_else(|| Some((self.built_in(about)?, "built-in".to_owned())))?;
            let key = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            Some(SettingReport { key, value, from })
        });
        found.collect()
    }

    fn in_file(&self, key: &str, levels: &[(Option<&DeTable<'_>>, &str)]) -> Option<(String, String)> {
        let mut above: Option<&DeTable<'_>> = None;
        for (table, label) in levels {
            let Some(table) = *table else { continue };
            if above.is_some_and(|job| !takes_default(job, key)) {
                return None;
            }
            if let Some(value) = table.get(key) {
                let line = self.lines.place(value.span(), "").line;
                let from = match *label {
                    "" => format!("{}:{line}", self.source.display),
                    label => format!("{label}line {line}"),
                };
                return Some((inline(value.get_ref()), from));
            }
            above = Some(table);
        }
        None
    }

    fn built_in(&self, about: &serde_json::Value) -> Option<String> {
        if let Some(default) = about.get("default") {
            return Some(toml(default));
        }
        let stem = self.source.file.file_stem().unwrap_or(Path::new("").as_os_str()).to_string_lossy();
        let path = about.get("x-default")?.as_str()?.replace("STEM", &stem);
        Some(::toml::Value::String(path).to_string())
    }
}

/// Whether a job takes a key that it does not have from the defaults: a range is one thing.
fn takes_default(job: &DeTable<'_>, key: &str) -> bool {
    if key == "name" {
        return false;
    }
    if !RANGE.contains(&key) || !RANGE.iter().any(|form| job.contains_key(*form)) {
        return true;
    }
    matches!(key, "from" | "to") && !job.contains_key("last") && !job.contains_key("ranges")
}

/// A value on one line, as TOML.
fn inline(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => ::toml::Value::String(text.to_string()).to_string(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |number| number.to_string()),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| inline(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(table) => {
            let keys =
                table.iter().map(|(key, value)| format!("{} = {}", key.get_ref(), inline(value.get_ref())));
            format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
        }
    }
}
