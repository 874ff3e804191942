//! `kvs-export verify`: whether exports still are what their manifests and checksums say; offline, reads only.

use std::time::Instant;

use super::document::{self, Document};
use super::error::CommandError;
use crate::cli::{GlobalArgs, VerifyArgs};
use crate::evidence::verify::{self as evidence, Verified};
use crate::exit_code;
use crate::model::verification::{VerifyOutcome, VerifyReport};
use crate::report;

/// Verifies what the paths name; standard output holds one document whatever happens.
pub(super) fn verify(args: &VerifyArgs, global: &GlobalArgs) -> u8 {
    let begun = Instant::now();
    let report = match evidence::verify(&args.paths) {
        Ok(Verified { exports, not_covered }) => {
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            VerifyReport::new(exports, not_covered, elapsed_ms)
        }
        Err(error) => return document::refuse(Document::Verify, &CommandError::Verify(error), global),
    };
    let code = match report.outcome {
        VerifyOutcome::Verified => exit_code::DONE,
        VerifyOutcome::Mismatch => exit_code::INCOMPLETE,
        VerifyOutcome::Usage => exit_code::USAGE,
    };
    document::show(&report, code, global, |color| report::verification(&report, color))
}
