//! Streams by prefix: what a file may say of them, and what becomes of it when they are listed.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::model::{ListedStream, NotListed, StreamArn, StreamListings, StreamPrefix, StreamStatus};

const YARDS: [&str; 4] = ["yard-1", "yard-2", "yard-7", "yard-test-1"];

fn arn(name: &str) -> String {
    format!("arn:aws:kinesisvideo:us-west-2:123456789012:stream/{name}/1514764800000")
}

fn stream(name: &str, status: StreamStatus) -> ListedStream {
    ListedStream { arn: StreamArn::parse(&arn(name)).expect("an ARN"), status }
}

fn listings(listed: Result<Vec<ListedStream>, NotListed>) -> StreamListings {
    let mut listings = StreamListings::default();
    listings.add(StreamPrefix::parse("yard-*").expect("a prefix"), listed);
    listings
}

fn active(names: &[&str]) -> StreamListings {
    listings(Ok(names.iter().map(|name| stream(name, StreamStatus::Active)).collect()))
}

/// A file whose only job has these streams and these lines.
fn file(streams: &str, more: &str) -> String {
    with_job(more).replace("[\"s\"]", streams)
}

/// What the file asks for where these streams are listed, and its problems.
fn expand(text: &str, listings: &StreamListings, unfinished: &[&str]) -> (Expansion, Vec<JobProblem>) {
    let (file, _) = load(source(text), utc(NOW), &[]).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let names: BTreeSet<String> = unfinished.iter().map(|name| (*name).to_owned()).collect();
    let unfinished = HashMap::from([("a".to_owned(), names)]);
    let known = KnownStreams { listings, unfinished: &unfinished };
    let (expansion, errors) = file.expand(utc(NOW), &[], known);
    (expansion, errors.map(|errors| errors.problems().to_vec()).unwrap_or_default())
}

fn streams(text: &str, listings: &StreamListings, unfinished: &[&str]) -> Vec<String> {
    let (expansion, problems) = expand(text, listings, unfinished);
    assert_eq!(problems, [], "{text}");
    expansion.exports.iter().map(|export| export.spec.stream.to_string()).collect()
}

#[test]
fn a_prefix_takes_its_streams_in_the_order_of_their_names_and_each_once() {
    let listed = active(&["yard-7", "yard-1", "yard-test-1", "yard-2"]);
    assert_eq!(streams(&file("[\"yard-*\"]", ""), &listed, &[]), YARDS);
    // What is named stands where it is named, as it is named.
    let text = file("[\"yard-2\", \"yard-*\", \"gate\"]", "");
    assert_eq!(streams(&text, &listed, &[]), ["yard-2", "yard-1", "yard-7", "yard-test-1", "gate"]);
    let text = file(&format!("[\"yard-*\", \"{}\"]", arn("yard-2")), "");
    assert_eq!(streams(&text, &listed, &[]), ["yard-1", "yard-7", "yard-test-1", &arn("yard-2")]);
    let text = file("[\"yard-t*\", \"yard-*\"]", "");
    assert_eq!(streams(&text, &listed, &[]), ["yard-test-1", "yard-1", "yard-2", "yard-7"]);
}

#[test]
fn without_a_listing_only_what_is_named_is_resolved() {
    let text = file("[\"yard-*\", \"gate\"]", "");
    let named = exports(&text);
    assert_eq!(named.iter().map(|export| export.spec.stream.name()).collect::<Vec<_>>(), ["gate"]);
    let (file, _) = load(source(&text), utc(NOW), &[]).expect("right");
    assert_eq!(file.prefixes(&[]), [StreamPrefix::parse("yard-*").expect("a prefix")]);
    assert_eq!(file.prefixes(&["b".to_owned()]), []);
}

#[test]
fn except_leaves_out_names_arns_and_prefixes() {
    let listed = active(&YARDS);
    for (except, left) in [
        ("[\"yard-7\", \"yard-test-*\"]", vec!["yard-1", "yard-2"]),
        (&format!("[\"{}\"]", arn("yard-1")), vec!["yard-2", "yard-7", "yard-test-1"]),
        (&format!("[\"{}\"]", arn("yard-1").replace("us-west-2", "eu-west-1")), YARDS.to_vec()),
        ("[]", YARDS.to_vec()),
    ] {
        let text = file("[\"yard-*\"]", &format!("except = {except}\n"));
        assert_eq!(streams(&text, &listed, &[]), left, "{except}");
    }
    // What is named is exported, whatever the prefixes of `except` say.
    let text = file("[\"yard-*\", \"yard-test-1\"]", "except = [\"yard-test-*\"]\n");
    assert_eq!(streams(&text, &listed, &[]), ["yard-1", "yard-2", "yard-7", "yard-test-1"]);
}

#[test]
fn what_cannot_be_meant_is_told_with_its_place() {
    for (streams, more, place, message) in [
        ("[\"*-yard\"]", "", "4:12:job[1].streams[1]", "one * at the end"),
        ("[\"gate\", \"ya*rd\"]", "", "4:20:job[1].streams[2]", "one * at the end"),
        ("[\"yard-**\"]", "", "4:12:job[1].streams[1]", "one * at the end"),
        ("[\"arn:aws:kinesisvideo:*\"]", "", "4:12:job[1].streams[1]", "one * at the end"),
        ("[\"yard-*\", \"yard-*\"]", "", "4:22:job[1].streams[2]", "stands twice"),
        (
            "[\"yard-*\", \"yard-7\"]",
            "except = [\"yard-7\"]\n",
            "6:11:job[1].except[1]",
            "stands in `streams` (line 4)",
        ),
        ("[\"yard-7\"]", "except = [\"yard-7\"]\n", "6:11:job[1].except[1]", "stands in `streams` (line 4)"),
        ("[\"yard-*\"]", "except = [\"yard-*\"]\n", "6:11:job[1].except[1]", "stands in `streams` (line 4)"),
        ("[\"yard-1*\"]", "except = [\"yard-*\"]\n", "4:12:job[1].streams[1]", "can take nothing"),
        ("[\"yard-*\"]", "except = \"yard-7\"\n", "6:10:job[1].except", "expected a list"),
        ("[\"yard-*\"]", "allow_empty = \"yes\"\n", "6:15:job[1].allow_empty", "expected true or false"),
        ("[\"yard-*\"]", "output = \"{case}.mp4\"\ncase = \"a/..\"", "", ""),
        (
            "[\"yard-*\"]",
            "output = \"x/{case}/y.mp4\"\ncase = \"..\"",
            "6:10:job[1].output",
            "leaves the folder",
        ),
    ] {
        let found = problems(&file(streams, more));
        let places: Vec<String> = found
            .iter()
            .map(|problem| format!("{}:{}:{}", problem.line, problem.column, problem.key))
            .collect();
        assert_eq!(places.join("|"), place, "{streams} {more}");
        for problem in found {
            assert!(problem.message.contains(message), "{streams} {more}: {}", problem.message);
            assert!(problem.accepted.is_some(), "{streams} {more}");
        }
    }
    // The defaults may leave out what one job names.
    let text = "version = 1\n[defaults]\nexcept = [\"yard-7\"]\nlast = \"1h\"\n[[job]]\nname = \"a\"\nstreams = [\"yard-7\"]\n";
    assert_eq!(problems(text), []);
}

#[test]
fn a_prefix_that_takes_nothing_is_an_error_unless_it_may() {
    let nothing = active(&[]);
    let (_, found) = expand(&file("[\"gate\", \"yard-*\"]", ""), &nothing, &[]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].column, found[0].key.as_str()), (4, 20, "job[1].streams[2]"));
    assert!(
        found[0].message.contains("no stream of job \"a\" begins with \"yard-\""),
        "{}",
        found[0].message
    );
    let shown = found[0].excerpt.as_ref().map(|excerpt| &excerpt.line[excerpt.marked.clone()]);
    assert_eq!(shown, Some("\"yard-*\""), "it is shown in the file, as what is wrong with the file is");

    let (_, found) = expand(&file("[\"yard-*\"]", "except = [\"yard-7\"]\n"), &active(&["yard-7"]), &[]);
    assert!(found[0].message.contains("apart from 1 left out by `except`"), "{}", found[0].message);

    let (expansion, found) = expand(&file("[\"yard-*\"]", "allow_empty = true\n"), &nothing, &[]);
    assert_eq!((found.len(), expansion.exports.len()), (0, 0));
    // A stream that is named one by one too is there.
    assert_eq!(streams(&file("[\"yard-7\", \"yard-*\"]", ""), &active(&["yard-7"]), &[]), ["yard-7"]);
}

#[test]
fn streams_that_are_being_made_or_deleted_wait() {
    let of = |status| stream(&format!("yard-{}", status_name(status)), status);
    let listed = listings(Ok(StreamStatus::ALL.map(of).to_vec()));
    let text = file("[\"yard-*\"]", "");
    assert_eq!(streams(&text, &listed, &[]), ["yard-active", "yard-updating"]);
    let (expansion, _) = expand(&text, &listed, &[]);
    assert_eq!(expansion.prefixes[0].taken.as_ref().map(|taken| taken.unreadable), Some(2));
}

fn status_name(status: StreamStatus) -> String {
    status.as_str().to_lowercase()
}

#[test]
fn a_stream_that_is_gone_is_asked_for_while_its_export_is_not_finished() {
    let text = file("[\"yard-*\"]", "");
    assert_eq!(streams(&text, &active(&["yard-1"]), &["yard-0", "gate"]), ["yard-0", "yard-1"]);
    assert_eq!(streams(&text, &active(&["yard-1"]), &["yard-1"]), ["yard-1"]);
    assert_eq!(
        streams(&text, &listings(Ok(vec![stream("yard-2", StreamStatus::Deleting)])), &["yard-2"]),
        ["yard-2"]
    );
    let text = file("[\"yard-*\"]", "except = [\"yard-0\"]\n");
    assert_eq!(streams(&text, &active(&["yard-1"]), &["yard-0"]), ["yard-1"]);
}

#[test]
fn what_could_not_be_listed_stands_for_its_exports() {
    let why = NotListed { error: "why".to_owned(), denied: true };
    let (expansion, found) = expand(&file("[\"gate\", \"yard-*\"]", ""), &listings(Err(why.clone())), &[]);
    assert_eq!((found.len(), expansion.exports.len()), (0, 1));
    let [unlisted] = expansion.unlisted.as_slice() else { panic!("{:?}", expansion.unlisted) };
    assert_eq!((unlisted.job.as_str(), unlisted.prefix.to_string().as_str()), ("a", "yard-*"));
    assert_eq!((&unlisted.why, unlisted.range), (&why, expansion.exports[0].spec.range));
    assert_eq!(expansion.prefixes[0].taken, None);
}

#[test]
fn two_expanded_exports_with_one_output_are_refused() {
    let text = file("[\"yard-*\"]", "output = \"{job}.mp4\"\n");
    assert_eq!(problems(&text), [], "there may be but one stream");
    assert_eq!(expand(&text, &active(&["yard-1"]), &[]).1, []);
    let (_, found) = expand(&text, &active(&YARDS), &[]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].key.as_str()), (6, "job[1].output"));
    // The stream of that name in another region is another one.
    let elsewhere = arn("yard-1").replace("us-west-2", "eu-west-1");
    let (_, found) = expand(&file(&format!("[\"yard-*\", \"{elsewhere}\"]"), ""), &active(&["yard-1"]), &[]);
    assert!(found[0].message.contains(&elsewhere), "{found:#?}");
}
