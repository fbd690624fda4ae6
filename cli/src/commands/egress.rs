//! `sbx egress`.

use clap::Subcommand;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;

mod edited;
mod learn;
mod log;
pub mod policy;
mod tighten;

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
    /// Let a sandbox out for a while, and propose rules for what it did
    Learn(learn::Args),
    /// Propose to take out or narrow rules that are not used
    Tighten(tighten::Args),
    /// Show what the policies say, with every list written out
    Policy(policy::Args),
}

/// Runs one of the commands.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Log(args) => log::run(args, run),
        Command::Learn(args) => learn::run(args, run),
        Command::Tighten(args) => tighten::run(args, run),
        Command::Policy(args) => policy::run(args, run),
    }
}
