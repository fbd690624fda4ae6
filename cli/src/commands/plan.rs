//! `sbx plan`.

use std::path::PathBuf;

use reconciler::plan::FORMAT_VERSION;

use super::Run;
use super::selection::{Selection, owned};
use crate::configuration::{self, Surroundings};
use crate::converge;
use crate::engine::{Engine, Purpose};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, plan as view};
use crate::replayed::replayed;
use crate::saved_plan::{SavedPlan, Wishes};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx plan
  sbx plan --out change.plan && sbx apply change.plan
  sbx plan --target api
  sbx plan --destroy --volumes        what `sbx destroy --volumes` would remove
  sbx plan --detailed-exitcode        0 all is as written, 2 it is not

Symbols: + create, ~ update in place, - delete, -/+ replace, ! forbidden.")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Save the plan, for `sbx apply FILE`
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Exit with 2 when there is something to do, or something that must not be touched
    #[arg(long)]
    detailed_exitcode: bool,
    /// Plan the removal of everything
    #[arg(long, conflicts_with_all = ["refresh_only", "replace"])]
    destroy: bool,
    /// With --destroy: the volumes too, with everything in them
    #[arg(long, requires = "destroy")]
    volumes: bool,
    /// With --destroy: the worktrees too
    #[arg(long, requires = "destroy")]
    worktrees: bool,
    /// With --destroy: the engine's copies of secrets too
    #[arg(long, requires = "destroy")]
    secrets: bool,
    /// Show only what was changed outside of sbx
    #[arg(long)]
    refresh_only: bool,
    /// Show what does not change, and long values in full
    #[arg(long)]
    full: bool,
}

/// Plans and shows.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    // What is removed may be what is wrong.
    let load = if args.destroy { configuration::load } else { configuration::load_judged };
    let config = load(run, &surroundings)?;
    args.selection.check(&config, args.destroy)?;
    let wishes = Wishes {
        destroy: args.destroy,
        volumes: args.volumes,
        worktrees: args.worktrees,
        secrets: args.secrets,
        refresh_only: args.refresh_only,
        ..args.selection.wishes()
    };
    let (plan, replayed, address) = crate::runtime::block_on(async {
        let options = wishes.options();
        let purpose = Purpose::of(&options, true);
        let engine = Engine::connect(run, &surroundings, &config, args.selection.locked, purpose).await?;
        let plan = engine.prepare(&config, &options).await?.plan;
        let replayed = if args.destroy { None } else { replayed(&engine, &config, &plan).await };
        Ok((plan, replayed, engine.address().to_owned()))
    })?;

    if args.destroy {
        owned(&config, &plan, &wishes.targets)?;
    }
    if let Some(path) = &args.out {
        let files = crate::input::absolute(&run.global.file);
        let saved = SavedPlan {
            format_version: FORMAT_VERSION.to_owned(),
            files,
            engine: address,
            wishes: wishes.clone(),
            plan: plan.clone(),
        };
        surroundings.person.act(path, || saved.write(path))?;
    }
    let accepted: Vec<String> = wishes.accepted.iter().cloned().collect();
    run.screen.result(&if run.screen.json {
        json::document(&json::plan(&plan, args.full, replayed.as_ref()))
    } else {
        view::plan(
            &plan,
            view::Shown { full: args.full, accepted: &accepted, replayed: replayed.as_ref() },
            run.screen.out,
        )
    })?;
    if let Some(path) = &args.out {
        run.screen.say(&format!("Saved to {}. Apply it with: sbx apply {}", path.display(), path.display()));
    }
    if let Err(failure) = converge::errors(&plan) {
        // The plan has told each of them, in its place.
        return Err(Failure::said(failure.exit));
    }
    // What must not be touched is not as it is written either.
    let changes = args.detailed_exitcode && (plan.effective().next().is_some() || plan.forbidden().next().is_some());
    Ok(if changes { Exit::Changes } else { Exit::Done })
}
