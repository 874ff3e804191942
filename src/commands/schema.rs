//! `kvs-export schema`: what editors, and their users, need to know of the job file.

use super::document::{self, Document};
use super::error::CommandError;
use crate::cli::{GlobalArgs, SchemaArgs};
use crate::job;
use crate::report;

/// Prints the JSON schema, or the reference.
pub(super) fn schema(args: &SchemaArgs, global: &GlobalArgs) -> u8 {
    if args.reference {
        return document::print(job::reference(), global);
    }
    match report::json(&job::schema()) {
        Ok(text) => document::print(text, global),
        Err(error) => {
            let error = CommandError::Io { what: "write the schema as JSON", source: error.into() };
            document::refuse(Document::Schema, &error, global)
        }
    }
}
