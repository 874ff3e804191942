//! The schema and the reference: that they say what the program does, and are checked in as they are.

use serde_json::Value;

use super::*;
use crate::job::raw::{AWS_KEYS, JOB_KEYS, LIMITS_KEYS, NOTIFY_KEYS, RANGE_KEYS, ROOT_KEYS};
use crate::job::reader::Keys;
use crate::job::schema::properties;

const JOB: &str = "/properties/job/items";

fn tables() -> [(&'static str, &'static Keys); 6] {
    [
        ("", &ROOT_KEYS),
        ("/properties/aws", &AWS_KEYS),
        ("/properties/limits", &LIMITS_KEYS),
        ("/properties/notify", &NOTIFY_KEYS),
        (JOB, &JOB_KEYS),
        ("/properties/job/items/properties/ranges/items", &RANGE_KEYS),
    ]
}

fn sorted<'k>(keys: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    let mut keys: Vec<&str> = keys.into_iter().collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_schema_has_the_keys_that_the_program_reads_and_no_others() {
    let schema = schema();
    for (pointer, keys) in tables() {
        let in_schema = properties(&schema, pointer).expect(pointer);
        assert_eq!(
            sorted(in_schema.keys().map(String::as_str)),
            sorted(keys.known.iter().copied()),
            "{pointer}"
        );
        assert_eq!(schema.pointer(&format!("{pointer}/additionalProperties")), Some(&Value::Bool(false)));
        for (key, about) in in_schema {
            assert!(about["description"].as_str().is_some_and(|text| text.ends_with('.')), "{key}: {about}");
        }
    }
    let defaults = properties(&schema, "/properties/defaults").expect("defaults");
    let of_jobs = properties(&schema, JOB).expect("jobs");
    assert!(!defaults.contains_key("name") && defaults.len() + 1 == of_jobs.len());
}

#[test]
fn the_words_of_the_schema_are_those_that_the_program_accepts() {
    let schema = schema();
    let mut tried = 0;
    for (key, about) in properties(&schema, JOB).expect("jobs") {
        let Some(words) = about["enum"].as_array() else { continue };
        let wrong = problems(&with_job(&format!("time_zone = \"UTC\"\n{key} = \"no such word\"")));
        let accepted: Vec<String> = words.iter().map(Value::to_string).collect();
        assert_eq!(wrong[0].accepted, Some(accepted.join(" or ")), "{key}");
        tried += 1;
    }
    assert!(tried >= 6, "{tried}");
}

/// What a job file says that says every default.
fn with_defaults(schema: &Value) -> String {
    let lines = |pointer: &str| -> String {
        let keys = properties(schema, pointer).expect(pointer).iter();
        keys.filter_map(|(key, about)| Some(format!("{key} = {}\n", about.get("default")?))).collect()
    };
    let job = lines(JOB);
    assert!(job.lines().count() >= 9, "{job}");
    format!("{}[limits]\n{}", with_job(&job), lines("/properties/limits"))
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_program() {
    let said = parse(source(&with_defaults(&schema()))).expect("right");
    let unsaid = parse(source(&with_job(""))).expect("right");
    assert_eq!(said.limits, unsaid.limits);
    let (said, unsaid) = (exports(&with_defaults(&schema())), exports(&with_job("")));
    assert_eq!(said, unsaid);
}

#[test]
fn the_examples_of_the_schema_are_accepted() {
    let schema = schema();
    for (key, about) in properties(&schema, JOB).expect("jobs") {
        for example in about["examples"].as_array().into_iter().flatten() {
            let line = format!("{key} = {}\n", crate::job::reference::toml(example));
            let needs_the_others =
                ["name", "streams", "from", "to", "last", "ranges", "days", "chunk", "time_zone"]
                    .contains(&key.as_str());
            let text = if needs_the_others {
                format!("version = 1\n[defaults]\n{line}")
            } else {
                with_job(&format!("time_zone = \"UTC\"\n{line}"))
            };
            let about_it = |problem: &JobProblem| {
                problem.key.ends_with(key.as_str())
                    && !problem.message.contains("without")
                    && !problem.message.contains("cannot be a default")
                    && !problem.message.contains("cannot be had")
            };
            let wrong: Vec<JobProblem> = problems(&text).into_iter().filter(about_it).collect();
            assert!(wrong.is_empty(), "{line}: {wrong:?}");
        }
    }
}

#[test]
fn the_file_that_checkers_of_schemas_are_given_has_every_key() {
    let file: toml::Table = include_str!("../../../tests/accepted/every-key.toml").parse().expect("TOML");
    let table = |key: &str| file[key].as_table().expect("a table");
    let jobs = file["job"].as_array().expect("jobs").iter().map(|job| job.as_table().expect("a job"));
    let jobs: Vec<&toml::Table> = jobs.chain([table("defaults")]).collect();
    let has = |tables: &[&toml::Table], keys: &Keys| {
        for key in keys.known {
            assert!(tables.iter().any(|table| table.contains_key(*key)), "{key}");
        }
    };
    has(&[&file], &ROOT_KEYS);
    has(&[table("aws")], &AWS_KEYS);
    has(&[table("limits")], &LIMITS_KEYS);
    has(&[table("notify")], &NOTIFY_KEYS);
    has(&jobs, &JOB_KEYS);
}
