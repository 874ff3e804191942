//! `kvs-export emulator`: the embedded archive for other clients.

use crate::cli::{EmulatorArgs, GlobalArgs};
use crate::emulator::{Emulator, EmulatorConfig};
use crate::exit_code;
use crate::model::serving::Serving;

use super::document::{self, Document};
use super::error::CommandError;
use super::signals;

/// Serves until a signal comes; standard output holds the endpoint.
pub(super) async fn emulator(args: &EmulatorArgs, global: &GlobalArgs) -> u8 {
    match serve(args, global).await {
        Ok(code) => code,
        Err(error) => document::refuse(Document::Emulator, &error, global),
    }
}

async fn serve(args: &EmulatorArgs, global: &GlobalArgs) -> Result<u8, CommandError> {
    let mut cancel = signals::cancel_on_signals()?;
    let streams: Vec<String> = args
        .streams
        .iter()
        .map(|source| match &source.video {
            Some(video) => format!("{}={}", source.name, video.display()),
            None => source.name.clone(),
        })
        .collect();
    let config = EmulatorConfig { seed: args.seed, ..EmulatorConfig::from_arguments(args.port, &streams)? };
    let emulator = Emulator::start(config.disturbed(args.faults.iter().cloned())).await?;
    let serving = Serving::at(emulator.endpoint());
    let code = document::answer(&serving, exit_code::DONE, global, |_| format!("{}\n", emulator.endpoint()));
    // The sender lives as long as the signal tasks do.
    drop(cancel.wait_for(|stop| *stop).await);
    let tally = emulator.tally();
    tracing::info!(
        requests = tally.requests,
        refused = tally.refused,
        over_quota = tally.over_quota,
        faulty = tally.faulty,
        connections_closed = tally.connections_closed,
        "served"
    );
    emulator.stop().await;
    Ok(code)
}
