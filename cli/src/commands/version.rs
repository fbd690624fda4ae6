//! `sbx version`.

use serde::Serialize;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json;

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx version\n  sbx version --json")]
pub struct Args {}

#[derive(Serialize)]
struct Document {
    format_version: &'static str,
    version: &'static str,
    language: &'static str,
    platform: String,
}

/// Prints the version.
pub fn run(_: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let version = Document {
        format_version: json::FORMAT_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        language: "sbx/v1",
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    };
    if run.screen.json {
        run.screen.result(&json::document(&version))?;
    } else {
        run.screen.result(&format!("sbx {} ({})\n", version.version, version.platform))?;
    }
    Ok(Exit::Done)
}
