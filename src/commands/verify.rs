//! `kvs-export verify`: whether exports still are what their manifests and checksums say; offline, reads only.

use std::time::Instant;

use super::error::CommandError;
use super::{complain, print, stderr_color, stdout_color};
use crate::cli::{GlobalArgs, VerifyArgs};
use crate::evidence::verify::{self as evidence, Verified};
use crate::exit_code;
use crate::model::verification::{VerifyOutcome, VerifyReport};
use crate::report::{self, OutputFormat};

/// Verifies what the paths name; standard output holds one document whatever happens.
pub(super) fn verify(args: &VerifyArgs, global: &GlobalArgs) -> u8 {
    let begun = Instant::now();
    let report = match evidence::verify(&args.paths) {
        Ok(Verified { exports, not_covered }) => {
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            VerifyReport::new(exports, not_covered, elapsed_ms)
        }
        Err(error) => {
            let error = CommandError::Verify(error);
            complain(&error, stderr_color(global));
            if global.format == OutputFormat::Text {
                return exit_code::USAGE;
            }
            VerifyReport::refused(error.told())
        }
    };
    let code = match report.outcome {
        VerifyOutcome::Verified => exit_code::DONE,
        VerifyOutcome::Mismatch => exit_code::INCOMPLETE,
        VerifyOutcome::Usage => exit_code::USAGE,
    };
    let document = match global.format {
        OutputFormat::Text if global.quiet && code == exit_code::DONE => return code,
        OutputFormat::Text => report::verification(&report, stdout_color(global)),
        OutputFormat::Json => match report::json(&report) {
            Ok(document) => document,
            Err(error) => {
                let error = CommandError::Io { what: "write the report as JSON", source: error.into() };
                complain(&error, stderr_color(global));
                return exit_code::UNEXPECTED;
            }
        },
    };
    print(&document, code, stderr_color(global))
}
