//! `sbx destroy`.

use super::Run;
use super::apply::Pace;
use crate::configuration::{self, Surroundings};
use crate::converge::converge;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::count;
use crate::saved_plan::Wishes;

/// Arguments of `destroy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx destroy                             volumes, worktrees, secrets stay
  sbx destroy --target api
  sbx destroy --volumes --worktrees --auto-approve

Uncommitted or ignored files, unpushed commits and the like still need
--accept-loss.")]
pub struct Args {
    /// Only this sandbox; may be given several times
    #[arg(long = "target", value_name = "SANDBOX", add = super::completion::sandboxes())]
    target: Vec<String>,
    /// The volumes too, with everything in them
    #[arg(long)]
    volumes: bool,
    /// The worktrees too
    #[arg(long)]
    worktrees: bool,
    /// The engine's copies of secrets too
    #[arg(long)]
    secrets: bool,
    /// Consent to a loss the plan names, for instance container/api; may be given several times
    #[arg(long = "accept-loss", value_name = "RESOURCE")]
    accept_loss: Vec<String>,
    #[command(flatten)]
    pace: Pace,
}

/// Removes what the project owns.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    let wishes = Wishes {
        targets: args.target.iter().cloned().collect(),
        accepted: args.accept_loss.iter().cloned().collect(),
        destroy: true,
        volumes: args.volumes,
        worktrees: args.worktrees,
        secrets: args.secrets,
        ..Wishes::default()
    };
    let what = if args.target.is_empty() { format!("project {}", config.project) } else { args.target.join(", ") };
    let approach = args.pace.approach(wishes.options(), format!("Destroy {what}?"), "Destroyed");
    super::apply::ask_early(run, &approach)?;
    crate::runtime::block_on(async {
        let exit = converge(run, &surroundings, &config, false, &approach).await?;
        if exit == Exit::Done && args.target.is_empty() {
            kept(args, run, &config);
        }
        Ok(exit)
    })
}

/// Says what stays: user data goes only when it is named.
fn kept(args: &Args, run: &Run<'_>, config: &schema::Config) {
    let worktrees: usize = config.sandboxes.values().map(|sandbox| sandbox.worktrees.len()).sum();
    let kinds = [
        (args.volumes, config.volumes.len(), "volume", "--volumes"),
        (args.worktrees, worktrees, "worktree", "--worktrees"),
        (args.secrets, config.secrets.len(), "secret", "--secrets"),
    ];
    for (_, number, noun, flag) in kinds.into_iter().filter(|(taken, number, ..)| !taken && *number > 0) {
        run.screen.say(&format!("Kept {}; {flag} removes them too.", count(number, noun)));
    }
}
