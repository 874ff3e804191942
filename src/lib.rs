//! Declarative, resumable batch exports of Amazon Kinesis Video Streams archives.
//!
//! The map, from the vocabulary upwards. Dependencies point one way, and `make lint` checks it:
//! `commands → run → {plan, store, archive, merge, evidence} → {media, model}`; `report` and `run` meet only
//! through [`model::event`]; `job`, `plan`, `media` and `model` know no runtime, no AWS, no database and no
//! file system.

pub mod archive;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod crash_point;
pub mod emulator;
pub mod error;
pub mod evidence;
pub mod exit_code;
pub mod fs;
pub mod job;
pub mod logging;
pub mod media;
pub mod merge;
pub mod model;
pub mod notify;
pub mod plan;
pub mod report;
pub mod run;
pub mod store;
