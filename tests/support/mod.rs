//! What the tests of the real binary share: a scene to run it in, an oracle that reads what came out, and the
//! truth to hold against it.
//!
//! The oracle must use nothing of the program but the emulator's frame marks; the truth nothing but the
//! emulator's script. A crate that needs only a part of this says `#[expect(dead_code)]` at its `mod support`.

pub(crate) mod expected;
pub(crate) mod oracle;
pub(crate) mod planned;
pub(crate) mod scene;
pub(crate) mod truth;

use kvs_export::emulator::{Camera, ScriptedFragment};
use kvs_export::model::{TimeRange, UtcMillis};

use scene::{Job, Run};
use truth::Difference;

/// 2024-03-01T00:00:00Z, a whole hour.
pub(crate) const MIDNIGHT: UtcMillis = UtcMillis::new(1_709_251_200_000);

/// The range between two instants, in milliseconds after [`MIDNIGHT`].
pub(crate) fn after_midnight(from_ms: i64, to_ms: i64) -> TimeRange {
    TimeRange::new(MIDNIGHT + from_ms, MIDNIGHT + to_ms).expect("a range that is not empty")
}

/// Panics unless the output of a job is exactly what the camera's script demands.
pub(crate) fn expect_exact(run: &Run, job: &Job, camera: &Camera) {
    assert_eq!(run.status(&job.name), "done", "{:#}\n{}", run.report, run.stderr);
    expect_fragments(run, job, &truth::fragments(camera, job));
}

/// Panics unless the output of a job holds exactly these fragments, each frame at its time.
pub(crate) fn expect_fragments(run: &Run, job: &Job, fragments: &[ScriptedFragment]) {
    assert!(!fragments.is_empty(), "{}: nothing to compare", job.name);
    let expected = truth::frames(fragments, job.timeline);
    let difference = Difference::between(&oracle::frames(&run.video(&job.name)), &expected, &job.stream);
    assert!(difference.is_none(), "{}: {difference}", job.name);
}
