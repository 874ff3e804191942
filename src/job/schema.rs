//! The JSON schema of the job file, from the types that it is read into: what editors complete and check by.
//!
//! Draft 7 without references: every editor's TOML plugin reads it. It refuses unknown keys, wrong types and what the form
//! of one value tells; what hangs on several keys, on defaults, the calendar or the time of day only the program knows.
//! TOML's date-times are text to a schema.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::duration::Duration;
use super::errors::Located;
use super::raw::RawFile;
use super::reader::Entry;
use super::template::Template;
use super::time::{TimeExpression, Zone};
use super::windows::{Days, Hours, Split};
use crate::model::{
    Chunking, Edges, GapPolicy, GapTolerance, OnCodecChange, StreamPattern, Timeline, TimestampKind,
};

/// A length of time; that its units come once, the larger first, is not in it.
macro_rules! length {
    () => {
        "([0-9]+(w|d|h|ms|m|s))+"
    };
}

/// A time of day, no finer than a millisecond.
macro_rules! clock {
    () => {
        "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,3}0*)?)?"
    };
}

const LENGTH: &str = concat!("^", length!(), "$");
const AUTO_OR_LENGTH: &str = concat!("^(auto|", length!(), ")$");
const DAILY: &str = concat!("^", clock!(), "-(24:00|", clock!(), ")$");
const TIME: &str = concat!(
    "^(now|-",
    length!(),
    "|(today|yesterday)( ",
    clock!(),
    ")?|[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]([Tt ]",
    clock!(),
    "([Zz]|[+-][0-2][0-9]:[0-5][0-9])?)?)$"
);
const SIZE: &str = "^[0-9.]+ *([kKmMgGtTpPeE][iI]?)?B$";
const RATE: &str = "^[0-9.]+ *([kKmMgGtTpPeE][iI]?)?B/s *$";
const STREAM: &str = "^([A-Za-z0-9_.-]{1,256}|[A-Za-z0-9_.-]{0,256}[*]|\
     arn:[A-Za-z0-9-]+:kinesisvideo:[A-Za-z0-9-]+:[0-9]+:stream/[A-Za-z0-9_.-]{1,256}/[0-9]+)$";

/// A path; `~` is not expanded.
pub(super) const PATH: &str = "^([^~]|~[^/])";
/// A job's name: not only dots.
pub(super) const NAME: &str = "^[.]{0,63}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$";

/// A number of bytes, such as `"5 GB"`.
pub(super) struct Size;

/// Bytes per second, such as `"200 MB/s"`.
pub(super) struct Rate;

/// The form of a value; `title` is its name in a user's words.
macro_rules! form {
    ($type:ty, $($json:tt)+) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($json)+)
            }
        }
    };
}

form!(Duration, { "title": "length of time", "type": "string", "pattern": LENGTH });
form!(Size, { "title": "size", "type": "string", "pattern": SIZE });
form!(Rate, { "title": "bytes per second", "type": "string", "pattern": RATE });
form!(Zone, { "title": "time zone", "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_+/-]*$" });
form!(Template, { "title": "template", "type": "string", "pattern": "^[^~].*\\.mp4$" });
form!(StreamPattern, { "title": "stream", "type": "string", "pattern": STREAM });
form!(TimeExpression, { "title": "time", "type": "string", "pattern": TIME });
form!(Hours, { "title": "two times of day", "type": "string", "pattern": DAILY });
form!(Chunking, { "title": "\"auto\" or a length of time", "type": "string", "pattern": AUTO_OR_LENGTH });
form!(GapTolerance, { "title": "\"auto\" or a length of time", "type": "string", "pattern": AUTO_OR_LENGTH });
form!(Split, { "type": "string", "enum": (Split::WORDS.map(|(word, _)| word)) });
form!(TimestampKind, { "type": "string", "enum": ([TimestampKind::Server, TimestampKind::Producer].map(TimestampKind::as_str)) });
form!(Edges, { "type": "string", "enum": ([Edges::Cover, Edges::Inside].map(Edges::as_str)) });
form!(Timeline, { "type": "string", "enum": ([Timeline::Compact, Timeline::Wallclock].map(Timeline::as_str)) });
form!(GapPolicy, { "type": "string", "enum": ["accept", "fail"] });
form!(OnCodecChange, { "type": "string", "enum": ([OnCodecChange::Split, OnCodecChange::Fail].map(OnCodecChange::as_str)) });
form!(Days, {
    "title": "list of days",
    "type": "array",
    "minItems": 1,
    "uniqueItems": true,
    "items": { "type": "string", "enum": (Days::WORDS.map(|(word, _)| word)) },
});

/// A key has the schema of its value; which keys must be there is told table by table.
impl<T: JsonSchema> JsonSchema for Entry<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Where a value stands is not of its form.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Two forms of a range in one table.
const ONE_RANGE: [[&str; 2]; 5] =
    [["last", "from"], ["last", "to"], ["last", "ranges"], ["ranges", "from"], ["ranges", "to"]];

/// The schema, as `kvs-export schema` prints it.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RawFile>().to_value();
    tidy(&mut schema);
    schema["title"] = json!("A job file of kvs-export");
    schema["required"] = json!(["version", "job"]);
    if let Some(jobs) = schema.pointer_mut("/properties/job") {
        jobs["minItems"] = json!(1);
        jobs["items"]["required"] = json!(["name"]);
        one_range(&mut jobs["items"]);
    }
    if let Some(defaults) = schema.pointer_mut("/properties/defaults") {
        if let Some(keys) = defaults["properties"].as_object_mut() {
            // Each job has its own.
            keys.remove("name");
        }
        one_range(defaults);
    }
    for (table, required) in [
        ("/properties/notify", json!(["command"])),
        ("/properties/job/items/properties/ranges/items", json!(["from", "to"])),
    ] {
        if let Some(table) = schema.pointer_mut(table) {
            table["required"] = required;
        }
    }
    schema
}

fn one_range(table: &mut Value) {
    table["allOf"] = ONE_RANGE.map(|keys| json!({ "not": { "required": keys } })).into_iter().collect();
}

/// Takes away what is about Rust's types, and breaks of lines in what is said in sentences.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("properties").is_some() {
                object.remove("required");
                object.remove("title");
            }
            object.remove("format");
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The keys of a table of the schema.
pub(super) fn properties<'s>(schema: &'s Value, pointer: &str) -> Option<&'s Map<String, Value>> {
    schema.pointer(pointer)?.get("properties")?.as_object()
}
