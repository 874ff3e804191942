//! What stands against what: command line, environment, job, defaults, built-in.

use super::*;
use crate::job::overlay::Settable;
use crate::job::schema::properties;

fn overlay(variables: &[(&str, &str)], options: &[&str]) -> Overlay {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    Overlay::of(variables, options.iter().copied())
}

fn refused(overlay: &Overlay) -> Vec<JobProblem> {
    load_over(source(&with_job("")), overlay, utc(NOW), &[]).expect_err("refused").problems().to_vec()
}

#[test]
fn the_command_line_stands_before_the_environment_that_before_the_job_and_that_before_the_defaults() {
    let variables = [("KVS_EXPORT_OPERATOR", "environment"), ("KVS_EXPORT_LIMITS_MERGES", "3")];
    let options = ["operator=command line", "limits.merges=4"];
    let operator = |file: &str, overlay: &Overlay| {
        let (file, exports) = load_over(source(file), overlay, utc(NOW), &[]).expect("right");
        (exports[0].spec.operator.clone(), file.limits.merges)
    };
    let defaults = |job: &str| format!("{}[defaults]\noperator = \"defaults\"\n", with_job(job));
    let job = format!("{}[limits]\nmerges = 2\n", defaults("operator = \"job\"\n"));
    let told = |operator: &str| Some(operator.to_owned());
    let none = overlay(&[], &[]);
    assert_eq!(operator(&with_job(""), &none), (None, 1));
    assert_eq!(operator(&defaults(""), &none), (told("defaults"), 1));
    assert_eq!(operator(&job, &none), (told("job"), 2));
    assert_eq!(operator(&job, &overlay(&variables, &[])), (told("environment"), 3));
    assert_eq!(operator(&job, &overlay(&variables, &options)), (told("command line"), 4));
}

#[test]
fn each_key_has_its_variable_and_takes_the_place_of_the_files() {
    let text = "version = 1\nstate = \"s.db\"\n[aws]\nregion = \"x\"\n[limits]\nmin_free = \"1 GB\"\n[[job]]\nname = \"a\"\n\
                streams = [\"s\"]\nfrom = \"yesterday\"\nto = \"today\"\nkeep_chunks = false\n";
    let given = overlay(
        &[
            ("KVS_EXPORT_STATE", "/var/x.db"),
            ("KVS_EXPORT_AWS_REGION", "eu-west-1"),
            ("KVS_EXPORT_LIMITS_MIN_FREE", "7 GB"),
            ("KVS_EXPORT_LIMITS_STREAM_BUDGET", "0.25"),
            ("KVS_EXPORT_TIME_ZONE", "Europe/Berlin"),
            ("KVS_EXPORT_KEEP_CHUNKS", "true"),
            ("KVS_EXPORT_CASE", "2026"),
        ],
        &[],
    );
    let (file, exports) = load_over(source(text), &given, utc(NOW), &[]).expect("right");
    assert_eq!(file.state, Path::new("/var/x.db"));
    assert_eq!(file.aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!((file.limits.min_free, file.limits.stream_budget), (7_000_000_000, 0.25));
    let spec = &exports[0].spec;
    // Midnight in Berlin is ten in the evening, UTC.
    assert_eq!(spec.range.start(), utc("2024-07-01T22:00:00Z"));
    assert!(spec.keep_chunks);
    assert_eq!(spec.case.as_deref(), Some("2026"));
}

#[test]
fn a_wrong_value_is_told_by_its_name_with_what_is_accepted() {
    let given = overlay(
        &[("KVS_EXPORT_LIMITS_MERGES", "two"), ("KVS_EXPORT_TIME_ZONE", "Europe/Berln")],
        &["settle=60", "gaps"],
    );
    let told: Vec<(String, String)> =
        refused(&given).into_iter().map(|problem| (problem.key, problem.message)).collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(key, message)| (&**key, &**message)).collect();
    assert_eq!(
        told,
        [
            ("--set", "\"gaps\" is not KEY=VALUE"),
            ("--set settle", "\"60\" is not a length of time"),
            ("KVS_EXPORT_LIMITS_MERGES", "expected a whole number, found text"),
            ("KVS_EXPORT_TIME_ZONE", "there is no time zone \"Europe/Berln\""),
        ]
    );
    for problem in refused(&given) {
        assert!(problem.line == 0 && problem.accepted.is_some(), "{problem:?}");
    }
}

#[test]
fn names_that_are_none_are_refused_with_what_was_probably_meant() {
    for (variable, meant) in
        [("KVS_EXPORT_LIMITS_MERGE", Some("KVS_EXPORT_LIMITS_MERGES")), ("KVS_EXPORT_STREAMS", None)]
    {
        let problem = refused(&overlay(&[(variable, "x")], &[])).remove(0);
        assert_eq!(problem.key, variable);
        assert!(meant.is_none() || problem.suggestion.as_deref() == meant, "{problem:?}");
    }
    let problem = refused(&overlay(&[], &["limits.merge=2"])).remove(0);
    assert_eq!(problem.suggestion.as_deref(), Some("`limits.merges`"));
    for what in ["name", "streams", "from", "to", "last", "ranges", "split", "daily", "days"] {
        assert_eq!(refused(&overlay(&[], &[&format!("{what}=x")])).len(), 1, "{what}");
    }
}

#[test]
fn variables_of_others_and_empty_ones_set_nothing() {
    let variables = [
        ("KVS_EXPORT_OUTCOME", "done"),
        ("KVS_EXPORT_LOG", "debug"),
        ("KVS_EXPORT_FFMPEG", "/x"),
        ("KVS_EXPORT_OPERATOR", ""),
        ("AWS_REGION", "x"),
    ];
    assert_eq!(overlay(&variables, &[]), Overlay::default());
}

#[test]
fn what_is_set_from_outside_is_read_as_its_key_is_in_the_file() {
    let schema = schema();
    for settable in Settable::all() {
        let (table, key) = settable.place();
        let pointer = match table {
            "" => String::new(),
            "job" => "/properties/job/items".to_owned(),
            table => format!("/properties/{table}"),
        };
        let about = &properties(&schema, &pointer).expect("a table")[key];
        assert_eq!(settable.is_text(), about["type"] == "string", "{key}: {about}");
    }
    let mut names: Vec<String> = Settable::all().map(Settable::variable).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "two keys have one variable");
}
