//! `sbx schema`.

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx schema > sandboxes.schema.json")]
pub struct Args {}

/// Prints the JSON Schema.
pub fn run(_: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    run.screen.result(&json::document(&crate::configuration::json_schema()))?;
    Ok(Exit::Done)
}
