//! `sbx egress`.

use clap::Subcommand;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;

mod log;

/// Arguments of `egress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what sandboxes reached, and what was refused to them
    Log(log::Args),
}

/// Runs one of the commands.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Log(args) => log::run(args, run),
    }
}
