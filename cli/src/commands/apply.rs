//! `sbx apply`.

use std::path::PathBuf;
use std::time::Duration;

use reconciler::PlanOptions;

use super::Run;
use super::selection::Selection;
use crate::configuration::{self, Surroundings};
use crate::converge::{Approach, converge};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::saved_plan::SavedPlan;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx apply
  sbx apply --auto-approve --lock-timeout 5m     in scripts
  sbx apply change.plan                          what that plan showed
  sbx apply --replace api --accept-loss container/api")]
pub struct Args {
    /// A plan saved with `sbx plan --out`; carried out without asking, refused when stale
    #[arg(value_name = "PLANFILE", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["target", "replace", "accept_loss"])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    pace: Pace,
    /// Do not wait until sandboxes are ready; what replaces a running one is waited for all the same, before that one goes
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Wait until sandboxes are ready (the default)
    #[arg(long)]
    wait: bool,
}

/// Options of commands that change something.
#[derive(Debug, Clone, clap::Args)]
pub struct Pace {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub auto_approve: bool,
    /// Changes under way at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallelism: u16,
    /// Stop after so long, counted without the question: 90s, 10m; the step in hand is finished
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Wait so long for another sbx that changes the project
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub lock_timeout: Duration,
}

impl Pace {
    /// The approach of a command that shows its plan and asks.
    pub fn approach(&self, options: PlanOptions, question: String, did: &'static str) -> Approach {
        Approach {
            options,
            approved: self.auto_approve,
            question,
            did,
            saved: None,
            show: true,
            parallelism: usize::from(self.parallelism),
            timeout: self.timeout,
            lock_timeout: self.lock_timeout,
        }
    }
}

/// Converges.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let saved = args.plan.as_deref().map(SavedPlan::read).transpose()?;
    // The files a plan was made from are part of it, unless the user names others.
    let mut global = run.global.clone();
    if let Some(saved) = &saved
        && global.file.is_empty()
    {
        global.file = crate::input::relative(&saved.files);
    }
    let run = &Run { global, screen: run.screen };
    let destroys = saved.as_ref().is_some_and(|saved| saved.wishes.destroy);
    let load = if destroys { configuration::load } else { configuration::load_judged };
    let config = load(run, &surroundings)?;
    args.selection.check(&config, false)?;
    let wishes = saved.as_ref().map_or_else(|| args.selection.wishes(), |saved| saved.wishes.clone());
    refuse_other_project(saved.as_ref(), &config)?;
    let options = PlanOptions { wait: !args.no_wait, ..wishes.options() };
    let question = format!("Apply this to project {}?", config.project);
    let did = if wishes.destroy { "Destroyed" } else { "Applied" };
    let mut approach = args.pace.approach(options, question, did);
    // Whoever saved a plan has seen it.
    approach.approved |= saved.is_some();
    approach.saved = saved;
    ask_early(run, &approach)?;
    crate::runtime::block_on(async { converge(run, &surroundings, &config, args.selection.locked, &approach).await })
}

fn refuse_other_project(saved: Option<&SavedPlan>, config: &schema::Config) -> Result<(), Failure> {
    match saved {
        Some(saved) if saved.plan.project != config.project.as_str() => {
            let moved = vec![format!(
                "the plan is for project {}, the configuration for {}",
                saved.plan.project, config.project
            )];
            Err(crate::saved_plan::stale(moved))
        }
        _ => Ok(()),
    }
}

/// Without anybody to ask there is no need to talk to the engine first.
pub(super) fn ask_early(run: &Run<'_>, approach: &Approach) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    if approach.approved || (std::io::stdin().is_terminal() && !run.screen.json) {
        return Ok(());
    }
    Err(Failure::refused("sbx::approval-needed", "nobody is here to approve the plan; nothing was changed")
        .with_help("look at `sbx plan`, then pass --auto-approve, or apply a plan saved with `sbx plan --out FILE`"))
}
