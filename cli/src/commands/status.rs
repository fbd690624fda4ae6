//! `sbx status`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reconciler::PlanOptions;
use reconciler::backend::Observe as _;
use reconciler::facts::ProbeQuery;

use super::Run;
use super::selection::known;
use crate::configuration::{self, Surroundings};
use crate::engine::{Engine, Purpose, waits_at_its_gate};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::{json, status as view};
use crate::status::{Report, report};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx status
  sbx status api --json
  sbx status --watch

Secret commands are not run: what they gave at the last apply is taken for
their values.

With --json each condition has `last_transition`, when it became what it is:
Ready since the container was created, started or ended, as the engine keeps
it; EgressEnforced since the daemon put in force what is, or began to serve
the sandbox. It is null where nothing keeps a time: of what is not there,
paused or not enforced, of Synced, which compares what is with what is
written, and of WorktreesReady, as git notes none.")]
pub struct Args {
    /// Only these sandboxes
    #[arg(value_name = "SANDBOX", add = super::completion::sandboxes())]
    sandboxes: Vec<String>,
    /// Show it again whenever it has changed, until interrupted
    #[arg(long, short)]
    watch: bool,
    /// How often to look with --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
}

/// Shows conditions.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    for name in &args.sandboxes {
        known(&config, name)?;
    }
    crate::runtime::block_on(async {
        let engine = Engine::connect(run, &surroundings, &config, false, Purpose::Tell).await?;
        if !args.watch {
            let report = look(&engine, &config, &args.sandboxes).await?;
            let text = if run.screen.json { json::document(&report) } else { view::status(&report, run.screen.out) };
            run.screen.result(&text)?;
            return Ok(Exit::Done);
        }
        let interrupt = Interrupt::listen(|_| {}).map_err(|error| Failure::io("cannot listen for signals", &error))?;
        let mut shown = None;
        loop {
            let report = tokio::select! {
                report = look(&engine, &config, &args.sandboxes) => report?,
                () = interrupt.stopped() => return Ok(Exit::Interrupted),
            };
            // The document has no ages: time that passes is no change.
            let document = json::line(&report);
            if shown.as_ref() != Some(&document) {
                run.screen.stream(&frame(run, &report, shown.is_none()))?;
                shown = Some(document);
            }
            tokio::select! {
                () = tokio::time::sleep(args.interval.max(Duration::from_millis(100))) => {}
                () = interrupt.stopped() => return Ok(Exit::Interrupted),
            }
        }
    })
}

/// One picture of a watch: drawn over the last one on a terminal, one after the other elsewhere.
fn frame(run: &Run<'_>, report: &Report, first: bool) -> String {
    use std::io::IsTerminal as _;
    if run.screen.json {
        return json::line(report);
    }
    let text = view::status(report, run.screen.out);
    if run.screen.live && std::io::stdout().is_terminal() {
        format!("\x1b[H\x1b[2J{text}")
    } else if first {
        text
    } else {
        format!("\n{text}")
    }
}

/// One look.
pub(super) async fn look(engine: &Engine, config: &schema::Config, only: &[String]) -> Result<Report, Failure> {
    let mut prepared = engine.prepare(config, &PlanOptions::default()).await?;
    let worktrees: BTreeMap<PathBuf, PathBuf> = config
        .sandboxes
        .values()
        .flat_map(|sandbox| &sandbox.worktrees)
        .map(|tree| (tree.path.clone(), tree.clone.clone()))
        .collect();
    if !worktrees.is_empty() {
        // A plan asks only about worktrees it would touch; here people want to know of all.
        let query = ProbeQuery { worktrees, ..ProbeQuery::default() };
        let probes = engine.probe(&query).await.map_err(|error| Failure::backend("look at worktrees", error))?;
        prepared.snapshot.worktrees.extend(probes.worktrees);
    }
    let now = jiff::Timestamp::now().as_second();
    // Whoever serves the sandboxes of another machine does so there.
    let daemon = if prepared.snapshot.engine.local { engine.daemon().await } else { None };
    let seen = engine.history().read().containers;
    let mut report = report(config, &prepared.snapshot, &prepared.plan, daemon.as_ref(), now, waits_at_its_gate, &seen);
    if !only.is_empty() {
        report.sandboxes.retain(|sandbox| only.contains(&sandbox.name));
    }
    Ok(report)
}
