//! `sbx start`, `stop` and `restart`: intents the next plan knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reconciler::{Intent, PlanOptions};

use super::Run;
use super::selection::known;
use crate::configuration::{self, Surroundings};
use crate::converge::{Approach, converge};
use crate::exit::Exit;
use crate::failure::Failure;

/// What the three commands share.
#[derive(Debug, clap::Args)]
pub struct Power {
    /// The sandboxes
    #[arg(value_name = "SANDBOX", required = true, add = super::completion::sandboxes())]
    sandboxes: Vec<String>,
    /// Consent to a loss that is named, for instance container/api; may be given several times
    #[arg(long = "accept-loss", value_name = "RESOURCE")]
    accept_loss: Vec<String>,
    /// Wait so long for another sbx that changes the project
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    lock_timeout: Duration,
}

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx start api web")]
pub struct StartArgs {
    #[command(flatten)]
    power: Power,
}

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sbx stop api\n  sbx stop api --accept-loss container/api     lose what its memory mounts hold\n\n\
    The sandbox stays stopped, through applies too, until `sbx start`."
)]
pub struct StopArgs {
    #[command(flatten)]
    power: Power,
}

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sbx restart api\n  sbx restart api --accept-loss container/api  lose what its memory mounts hold"
)]
pub struct RestartArgs {
    #[command(flatten)]
    power: Power,
}

/// Starts.
pub fn start(args: &StartArgs, run: &Run<'_>) -> Result<Exit, Failure> {
    intend(&args.power, run, Intent::Running, false, "Started")
}

/// Stops.
pub fn stop(args: &StopArgs, run: &Run<'_>) -> Result<Exit, Failure> {
    intend(&args.power, run, Intent::Stopped, false, "Stopped")
}

/// Stops and starts.
pub fn restart(args: &RestartArgs, run: &Run<'_>) -> Result<Exit, Failure> {
    intend(&args.power, run, Intent::Running, true, "Restarted")
}

fn intend(power: &Power, run: &Run<'_>, intent: Intent, restart: bool, did: &'static str) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    for name in &power.sandboxes {
        known(&config, name)?;
    }
    let names: BTreeSet<String> = power.sandboxes.iter().cloned().collect();
    let options = PlanOptions {
        intents: names.iter().map(|name| (name.clone(), intent)).collect::<BTreeMap<_, _>>(),
        restart: if restart { names.clone() } else { BTreeSet::new() },
        targets: names,
        accepted: power.accept_loss.iter().cloned().collect(),
        // What else the file asks for by now is for `apply`.
        state_only: true,
        ..PlanOptions::default()
    };
    let approach = Approach { lock_timeout: power.lock_timeout, ..Approach::quiet(options, did) };
    crate::runtime::block_on(async { converge(run, &surroundings, &config, false, &approach).await })
}
