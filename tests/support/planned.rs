//! Whether a run asked of the emulator exactly what its plan had said.

use std::collections::HashMap;

use kvs_export::emulator::{Api, Camera, RequestRecord};
use kvs_export::model::{FragmentNumber, TimeRange, TimestampKind};
use serde_json::{Value, json};

use super::scene::{Job, Run};

/// The sizes of fragments as they are listed.
pub(crate) struct ListedSizes(HashMap<(String, FragmentNumber), u64>);

impl ListedSizes {
    /// Those of the fragments in and around the jobs' ranges.
    pub(crate) fn of(cameras: &[Camera], jobs: &[Job]) -> Self {
        let mut sizes = HashMap::new();
        for job in jobs {
            let around =
                TimeRange::new(job.range.start() - 60_000, job.range.end() + 60_000).expect("a range");
            for camera in cameras.iter().filter(|camera| camera.name == job.stream) {
                for kind in [TimestampKind::Server, TimestampKind::Producer] {
                    for fragment in camera.fragments(around, kind) {
                        sizes.insert((camera.name.clone(), fragment.number), fragment.size_bytes);
                    }
                }
            }
        }
        Self(sizes)
    }

    fn of_clip(&self, clip: &RequestRecord) -> u64 {
        let size = |number: &FragmentNumber| self.0.get(&(clip.stream.clone(), number.clone()));
        clip.fragments.iter().map(|number| size(number).expect("a fragment of the script")).sum()
    }
}

/// Panics unless the run asked for what the plan had said; `planning` and `running` are the requests of each.
pub(crate) fn expect_as_planned(
    plan: &Run,
    run: &Run,
    planning: &[RequestRecord],
    running: &[RequestRecord],
    sizes: &ListedSizes,
) {
    assert_eq!(plan.code, Some(0), "{}\n{:#}", plan.stderr, plan.report);
    let totals = &plan.report["totals"];
    assert_eq!(&totals["calls"], &calls(running), "the requests of the run, as planned and as sent");
    let clips = || running.iter().filter(|record| record.api == Api::GetClip && is_served(record));
    let sent = json!({
        "chunks": clips().count(),
        "fragments": clips().map(|clip| clip.fragments.len()).sum::<usize>(),
        "bytes": clips().map(|clip| sizes.of_clip(clip)).sum::<u64>(),
    });
    assert_eq!(totals["outstanding"], sent, "what the run fetched, as planned and as served");
    assert_eq!(
        plan.report["listing"]["list_fragments"],
        calls(planning)["list_fragments"],
        "what the plan listed, as told and as served"
    );
    assert_eq!(calls(planning)["get_clip"], 0, "a plan fetches nothing");
    let exports = plan.report["exports"].as_array().expect("exports");
    for planned in exports.iter().filter(|planned| planned["action"] != "superseded") {
        let done = run.export(planned["job"].as_str().expect("a job's name"));
        for key in ["id", "stream", "from", "to", "fragments", "bytes", "media_ms", "gaps"] {
            assert_eq!(planned[key], done[key], "{key} of {planned:#}\n{done:#}");
        }
        assert_eq!(planned["chunks"]["total"], done["chunks"]["total"], "{planned:#}");
    }
}

/// Requests that were answered, by their call.
pub(crate) fn calls(log: &[RequestRecord]) -> Value {
    let count = |api| log.iter().filter(|record| record.api == api && is_served(record)).count();
    json!({
        "list_streams": count(Api::ListStreams),
        "describe_stream": count(Api::DescribeStream),
        "get_data_endpoint": count(Api::GetDataEndpoint),
        "list_fragments": count(Api::ListFragments),
        "get_clip": count(Api::GetClip),
        "list_tags_for_stream": count(Api::ListTagsForStream),
    })
}

/// Whether a request was answered; what the quotas refuse is sent again and is no part of a plan.
fn is_served(record: &RequestRecord) -> bool {
    record.status == Some(200)
}
