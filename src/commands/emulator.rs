//! `kvs-export emulator`: the embedded archive for other clients.

use crate::cli::{EmulatorArgs, GlobalArgs};
use crate::emulator::{Emulator, EmulatorConfig, EmulatorError};
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
    let config = EmulatorConfig { port: args.port, seed: args.seed, ..config_of(args)? };
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

/// The streams that are asked for.
fn config_of(args: &EmulatorArgs) -> Result<EmulatorConfig, EmulatorError> {
    if let Some(path) = &args.scenario {
        let file = path.display().to_string();
        return match std::fs::read_to_string(path) {
            Ok(text) => EmulatorConfig::from_scenario(&file, &text),
            Err(source) => Err(EmulatorError::ReadScenario { file, source }),
        };
    }
    let streams: Vec<String> = args
        .streams
        .iter()
        .map(|source| match &source.video {
            Some(video) => format!("{}={}", source.name, video.display()),
            None => source.name.clone(),
        })
        .collect();
    EmulatorConfig::from_arguments(args.port, &streams)
}
