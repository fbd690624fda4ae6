//! `sbx diff`: kubectl's exit codes.

use super::Run;
use super::selection::Selection;
use crate::configuration::{self, Surroundings};
use crate::converge;
use crate::engine::{Engine, Purpose};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{diff, json};

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx diff
  sbx diff --target api

What differs in no attribute, as a sandbox that was stopped, has a line
`state`, which says why.

Exits with 0 when nothing differs, 1 when something does, more than 1 on an
error.")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
}

/// Shows what differs.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    differences(args, run).map_err(|mut failure| {
        if failure.exit == Exit::Failed {
            // 1 means differences here.
            failure.exit = Exit::Changes;
        }
        failure
    })
}

fn differences(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    args.selection.check(&config, false)?;
    let options = args.selection.wishes().options();
    let plan = crate::runtime::block_on(async {
        let engine = Engine::connect(run, &surroundings, &config, args.selection.locked, Purpose::Plan).await?;
        engine.prepare(&config, &options).await
    })?
    .plan;
    run.screen.result(&if run.screen.json {
        json::document(&json::plan(&plan, false, None))
    } else {
        diff::diff(&plan, run.screen.out)
    })?;
    for change in plan.forbidden() {
        run.screen.warn(&format!("{}: {}", change.resource, change.because.join("; ")), None);
    }
    if let Err(failure) = converge::errors(&plan) {
        // As JSON the document has told each of them, and there is only one.
        return Err(if run.screen.json { Failure::said(failure.exit) } else { failure });
    }
    let same = plan.effective().next().is_none() && plan.forbidden().next().is_none();
    Ok(if same { Exit::Done } else { Exit::Failed })
}
