//! `sbx man`: manual pages, for packagers.

use std::path::PathBuf;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx man /usr/local/share/man/man1")]
pub struct Args {
    /// Directory to write to; made when missing
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
}

/// Writes a page for `sbx` and one per command.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let directory = &args.directory;
    let failed = |error: std::io::Error| Failure::io(directory.display(), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(crate::args::command(), directory).map_err(failed)?;
    run.screen.say(&format!("Manual pages written to {}.", directory.display()));
    Ok(Exit::Done)
}
