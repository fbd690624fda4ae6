//! `sbx list`: the short form of `status`.

use super::Run;
use crate::configuration::{self, Surroundings};
use crate::engine::{Engine, Purpose};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, status as view};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sbx list\n  sbx list --json | jq '.sandboxes[].name'\n  sbx list -q               names only"
)]
pub struct Args {}

/// Lists sandboxes.
pub fn run(_: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    let report = crate::runtime::block_on(async {
        let engine = Engine::connect(run, &surroundings, &config, false, Purpose::Tell).await?;
        super::status::look(&engine, &config, &[]).await
    })?;
    let text = if run.screen.json {
        json::document(&report)
    } else if run.screen.quiet {
        report.sandboxes.iter().fold(String::new(), |text, sandbox| text + &sandbox.name + "\n")
    } else {
        view::list(&report, run.screen.out)
    };
    run.screen.result(&text)?;
    Ok(Exit::Done)
}
