//! The reference of the job file, `docs/job-file.md`, from its schema.

#![expect(clippy::format_push_string, reason = "writing to a String has an error that never happens")]

use serde_json::{Map, Value};

use super::overlay::Settable;
use super::raw::{AWS_KEYS, JOB_KEYS, LIMITS_KEYS, NOTIFY_KEYS, ROOT_KEYS};
use super::reader::Keys;
use super::schema::{properties, schema};

/// The tables of the file: heading, keys in their order, where their schema is.
const TABLES: [(&str, &Keys, &str); 5] = [
    ("The file", &ROOT_KEYS, ""),
    ("`[aws]`", &AWS_KEYS, "/properties/aws"),
    ("`[limits]`", &LIMITS_KEYS, "/properties/limits"),
    ("`[notify]`", &NOTIFY_KEYS, "/properties/notify"),
    ("`[[job]]` and `[defaults]`", &JOB_KEYS, "/properties/job/items"),
];

const HEAD: &str = "\
# The job file

Made from the program's own types by `make docs`; `kvs-export schema` prints the same as a JSON schema for editors
([jobs.schema.json](../jobs.schema.json)). The comment `#:schema ./jobs.schema.json` in a job file's first line names it to
editors with a plugin for TOML. [jobs.example.toml](../jobs.example.toml) holds every key.

| form | means |
|---|---|
| length of time | a number with a unit, the larger first: `\"500ms\"`, `\"60s\"`, `\"1h30m\"`, `\"2d\"`, `\"1w\"` |
| size, bytes per second | `\"5 GB\"` (powers of 1000), `\"5 GiB\"` (of 1024); `\"200 MB/s\"` |
| time | a TOML date-time, or text: `\"now\"`, `\"today\"`, `\"yesterday 18:00\"`, `\"2024-03-01 18:00\"`, `\"-90m\"` |
";

const OUTSIDE: &str = "
## What stands against the file

A value is taken from the first that has it: the command line (`--state`, `--set KEY=VALUE`), the environment
(`KVS_EXPORT_KEY`), the job, `[defaults]`, what is built in. What is exported (streams, ranges, windows) only the file says.
Text needs no quotes there; a relative path is relative to the job file's folder; a variable that is empty is not set; one
that no key has is an error. `run`, `plan` and `validate` take `--set`; variables hold for `status` with a job file too.

| variable | option |
|---|---|
";

/// The whole page.
pub fn reference() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    for (heading, keys, pointer) in TABLES {
        page.push_str(&format!("\n## {heading}\n\n"));
        if let Some(about) = schema.pointer(pointer).and_then(|table| table["description"].as_str()) {
            page.push_str(about);
            page.push_str("\n\n");
        }
        page.push_str("| key | values | default | example | meaning |\n|---|---|---|---|---|\n");
        let Some(known) = properties(&schema, pointer) else { continue };
        for key in keys.known {
            let Some(key_schema) = known.get(*key).and_then(Value::as_object) else { continue };
            page.push_str(&row(key, key_schema));
        }
    }
    page.push_str(OUTSIDE);
    for settable in Settable::all() {
        page.push_str(&format!("| `{}` | `--set {}=…` |\n", settable.variable(), settable.option()));
    }
    page
}

fn row(key: &str, schema: &Map<String, Value>) -> String {
    let is_table = schema.contains_key("properties") || key == "job";
    let default = match (schema.get("default"), schema.get("x-default")) {
        (Some(value), _) => format!("`{}`", toml(value)),
        (None, Some(Value::String(text))) => format!("`\"{text}\"`"),
        _ => String::new(),
    };
    let example = schema.get("examples").and_then(|examples| examples.get(0));
    let example = example.map_or(String::new(), |example| format!("`{}`", toml(example)));
    let values = if is_table { "table, see below".to_owned() } else { values(schema) };
    let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    // A line of its own would end the table.
    let cells = [format!("`{key}`"), values, default, example, meaning.to_owned()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ").replace("  ", " "))
}

/// What a key may hold, in a user's words.
fn values(schema: &Map<String, Value>) -> String {
    let number = |key: &str| schema.get(key).filter(|bound| bound.as_u64() != Some(u32::MAX.into()));
    if let Some(value) = schema.get("const") {
        return format!("`{}`", toml(value));
    }
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words.iter().map(|word| format!("`{}`", toml(word))).collect::<Vec<_>>().join(", ");
    }
    if let Some(Value::String(title)) = schema.get("title") {
        return title.clone();
    }
    let what = match schema.get("type").and_then(Value::as_str) {
        Some("integer") => "whole number",
        Some("number") => "number",
        Some("boolean") => return "`true`, `false`".to_owned(),
        _ => "text",
    };
    let least = number("minimum").map(|least| format!(", at least {least}"));
    let more = number("exclusiveMinimum").map(|least| format!(", more than {least}"));
    let most = number("maximum").map(|most| format!(", at most {most}"));
    [Some(what.to_owned()), least, more, most].into_iter().flatten().collect()
}

/// A value of the schema as a job file writes it.
pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(keys) => {
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
        other => other.to_string(),
    }
}
