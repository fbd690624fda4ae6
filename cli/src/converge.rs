//! From a wish to an outcome: plan, show, consent, lock, plan again, carry out, report.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reconciler::backend::Perform as _;
use reconciler::executor::{ExecuteOptions, execute};
use reconciler::facts::Snapshot;
use reconciler::op::Op;
use reconciler::outcome::Ending;
use reconciler::plan::{Plan, Step};
use reconciler::prepare::Prepared;
use reconciler::quotas::{self, Wish};
use reconciler::{PlanOptions, planner};
use schema::Config;
use serde::Serialize;

use crate::commands::{Run, selection};
use crate::configuration::Surroundings;
use crate::consent;
use crate::counting::{Announced, Counting};
use crate::engine::{Engine, Purpose, Reached};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lock_file::Locks;
use crate::lockfile;
use crate::project_lock::ProjectLock;
use crate::render::progress::{Progress, duration};
use crate::render::{json, outcome, plan as plan_view};
use crate::replayed::{Replayed, replayed};
use crate::saved_plan::SavedPlan;
use crate::time_limit::TimeLimit;

/// How a plan is brought about.
#[derive(Debug)]
pub struct Approach {
    /// What is wished beyond the file.
    pub options: PlanOptions,
    /// Nobody is asked.
    pub approved: bool,
    /// The question, when somebody is.
    pub question: String,
    /// What has happened then: `Applied`.
    pub did: &'static str,
    /// A plan somebody has looked at before; another one is stale.
    pub saved: Option<SavedPlan>,
    /// Whether the plan is shown first.
    pub show: bool,
    /// Changes under way at once.
    pub parallelism: usize,
    /// Bound of the whole run, without the time a person takes to answer.
    pub timeout: Option<Duration>,
    /// How long to wait for another `sbx`.
    pub lock_timeout: Duration,
}

impl Approach {
    /// Asks nobody, shows no plan, waits for nobody.
    pub fn quiet(options: PlanOptions, did: &'static str) -> Self {
        Self {
            options,
            approved: true,
            question: String::new(),
            did,
            saved: None,
            show: false,
            parallelism: ExecuteOptions::default().parallelism,
            timeout: None,
            lock_timeout: Duration::ZERO,
        }
    }
}

/// How long others may take to count; it is one question to the engine for each.
const COUNTING: Duration = Duration::from_secs(45);
/// More consents than this are not put into one line.
const MOST_FLAGS: usize = 4;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Plan { plan: json::PlanDocument<'a> },
    Outcome { format_version: &'static str, exit_code: u8, outcome: &'a reconciler::outcome::Outcome },
}

/// Brings it about.
///
/// # Guarantees
/// What is carried out is what was shown: the plan is made again under the lock, and a different one is refused.
pub async fn converge(
    run: &Run<'_>,
    surroundings: &Surroundings,
    config: &Config,
    locked: bool,
    approach: &Approach,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut limit = TimeLimit::begin(approach.timeout);
    lockfile::refuse_unlocked(&run.global.file, config, locked)?;
    let reached = limit.within(Reached::find(run, surroundings)).await?;
    let address = reached.address().to_owned();
    if let Some(saved) = &approach.saved {
        saved.refuse_other_engine(&address)?;
    }
    // With nobody to wait for, one look under the lock is enough.
    let mut lock =
        if approach.approved { Some(take(surroundings, config, &address, approach, &limit).await?) } else { None };
    reached.look_ahead();
    let purpose = Purpose::of(&approach.options, false);
    let engine = &limit.within(reached.gather(run, surroundings, config, purpose)).await?;
    if approach.saved.is_none() {
        pull(run, config, engine, &approach.options, &mut limit).await?;
    }
    let mut prepared = limit.within(engine.prepare(config, &approach.options)).await?;
    if let Some(saved) = &approach.saved {
        refuse_stale(&saved.plan, &prepared.plan)?;
    }
    let destroys = approach.options.destroy.is_some();
    if destroys {
        selection::owned(config, &prepared.plan, &approach.options.targets)?;
    }
    if approach.show {
        let replayed = if destroys { None } else { replayed(engine, config, &prepared.plan).await };
        show(run, approach, &prepared.plan, replayed.as_ref())?;
    }
    refuse(approach, &prepared.plan)?;
    if prepared.plan.is_empty() {
        let takes_the_last = takes_the_last(engine, approach, &prepared);
        remember(engine, approach, &prepared, &reconciler::outcome::Outcome::default());
        if lock.is_some() && takes_the_last {
            forget(run, engine, surroundings).await;
        }
        return finish(run, approach, &prepared.plan, &reconciler::outcome::Outcome::default(), None);
    }
    if lock.is_none() {
        limit.while_asking(consent::ask(run.screen, &approach.question, "--auto-approve")).await?;
        lock = Some(take(surroundings, config, &address, approach, &limit).await?);
        let Prepared { plan: shown, .. } = prepared;
        prepared = limit.within(engine.prepare(config, &approach.options)).await?;
        refuse_stale(&shown, &prepared.plan)?;
        refuse(approach, &prepared.plan)?;
    }

    let announced = announce(surroundings, config, engine, &mut prepared, approach, &limit).await?;
    let progress = std::sync::Arc::new(Progress::new(run.screen));
    let told = std::sync::Arc::clone(&progress);
    let interrupt = Interrupt::listen(move |text| told.say(text))
        .map_err(|error| Failure::io("cannot listen for signals", &error))?;
    let left = limit.left();
    if let Some(left) = left {
        interrupt.stop_after(left);
    }
    let options = ExecuteOptions { parallelism: approach.parallelism, ..ExecuteOptions::default() };
    let acting = engine.acting(config).patient_for(left);
    #[cfg(feature = "failpoints")]
    let acting = mortal(acting)?;
    let outcome = execute(&prepared.plan, &acting, &options, interrupt.stop(), &|event| progress.show(&event)).await;
    let takes_the_last = takes_the_last(engine, approach, &prepared);
    remember(engine, approach, &prepared, &outcome);
    drop(announced);
    if outcome.is_done() && takes_the_last {
        forget(run, engine, surroundings).await;
    }
    drop(lock);
    let exit = if outcome.interrupted && interrupt.timed_out() { Some(Exit::TimedOut) } else { None };
    if !run.screen.json && !run.screen.quiet {
        tracing::debug!(took = %duration(begun.elapsed()), "carried out");
    }
    finish(run, approach, &prepared.plan, &outcome, exit)
}

/// Keeps what is there now for the next plan. Whoever starts or stops a sandbox has not looked whether it is as the file
/// says.
fn remember(engine: &Engine, approach: &Approach, prepared: &Prepared, outcome: &reconciler::outcome::Outcome) {
    if !approach.options.state_only {
        let Prepared { plan, snapshot, ceilings } = prepared;
        engine.history().record(plan, ceilings, outcome, &engine.ids(snapshot));
    }
}

/// Whether the plan, once done, leaves no sandbox of a project that has, or had, some on this engine. To be asked before what
/// is there now is remembered: the plan was made with what was remembered before.
fn takes_the_last(engine: &Engine, approach: &Approach, prepared: &Prepared) -> bool {
    let Prepared { plan, snapshot, .. } = prepared;
    let removes = |step: &Step| matches!(step.op, Op::RemoveContainer { .. });
    let was_here =
        engine.history().has_sandboxes() || plan.changes.iter().flat_map(|change| &change.steps).any(removes);
    // One that carries our labels under another name is left alone, with what it uses.
    let stays = plan.forbidden().next().is_some() || engine.has_strays(snapshot);
    approach.options.destroy.is_some() && approach.options.targets.is_empty() && was_here && !stays
}

async fn forget(run: &Run<'_>, engine: &Engine, surroundings: &Surroundings) {
    if let Err(failure) = engine.forget_project(surroundings).await {
        run.screen.warn(&format!("not all files of the project are removed: {}", failure.message), None);
    }
}

/// Asks registries about what is always pulled. It adds images and takes nothing away, so it needs no consent; what
/// it changes is in the plan.
async fn pull(
    run: &Run<'_>,
    config: &Config,
    engine: &Engine,
    options: &PlanOptions,
    limit: &mut TimeLimit,
) -> Result<(), Failure> {
    if options.destroy.is_some() || options.state_only || options.refresh_only {
        return Ok(());
    }
    for (name, op) in planner::pulls(config, engine.host()) {
        run.screen.say(&format!("Pulling image {name}"));
        let image = format!("image/{name}");
        let pull = async |left| {
            let acting = engine.acting(config).patient_for(left);
            let pulled = acting.perform(&op, &|text| tracing::debug!(text, "pull")).await;
            pulled.map_err(|error| Failure::backend(&image, error))
        };
        limit.pulling(&image, pull).await.map_err(|failure| {
            let origin = config.origins.find(&format!("images.{name}")).map(|place| place.to_string());
            failure.with_origin(origin)
        })?;
        limit.pulled();
    }
    Ok(())
}

/// The backend that dies where `SBX_FAILPOINT` says: `before:3`, `after:3`.
#[cfg(feature = "failpoints")]
fn mortal<B>(backend: B) -> Result<reconciler::failpoint::Mortal<B>, Failure> {
    let never = String::from("before:18446744073709551615");
    let failpoint = crate::caller::variable("SBX_FAILPOINT").unwrap_or(never).parse();
    let failpoint = failpoint.map_err(|error: String| Failure::failed("sbx::failpoint", error))?;
    Ok(reconciler::failpoint::Mortal::new(backend, failpoint))
}

async fn take(
    surroundings: &Surroundings,
    config: &Config,
    address: &str,
    approach: &Approach,
    limit: &TimeLimit,
) -> Result<ProjectLock, Failure> {
    let locks = Locks::of(surroundings);
    let (address, project) = (address.to_owned(), config.project.to_string());
    // Waiting blocks a thread, and signals must still end it.
    let wait = |patience| async move {
        let take = move || ProjectLock::take(&locks, &address, &project, patience);
        let taken = tokio::task::spawn_blocking(take).await;
        taken.map_err(|error| Failure::failed("sbx::bug", error.to_string()))?
    };
    limit.waiting(approach.lock_timeout, wait).await
}

/// Where the plan creates sandboxes, counts those of the engine once more, with what other runs are about to create, and
/// says what this one is: from here to its end no two runs take the same place.
async fn announce(
    surroundings: &Surroundings,
    config: &Config,
    engine: &Engine,
    prepared: &mut Prepared,
    approach: &Approach,
    limit: &TimeLimit,
) -> Result<Option<Announced>, Failure> {
    let Prepared { plan, snapshot, ceilings: _ } = prepared;
    let (project, owners) = (config.project.as_str(), quotas::owners(config));
    let wish = Wish { project, quotas: config.quotas, owners: &owners };
    let gained = quotas::gained(&wish, &plan.changes, snapshot);
    if gained.is_empty() {
        return Ok(None);
    }
    let (locks, address) = (Locks::of(surroundings), engine.address().to_owned());
    let begin = |patience| async move {
        let begun = tokio::task::spawn_blocking(move || Counting::begin(&locks, &address, patience)).await;
        begun.map_err(|error| Failure::failed("sbx::bug", error.to_string()))?
    };
    let counting = limit.waiting(COUNTING.max(approach.lock_timeout), begin).await?;
    let others = counting.others(project)?;
    let containers = limit.within(engine.containers()).await?;
    let now = Snapshot { containers, ..snapshot.clone() };
    plan.warnings.extend(quotas::exceeded(&wish, &plan.changes, &now, &others));
    errors(plan)?;
    counting.announce(project, gained).map(Some)
}

fn show(run: &Run<'_>, approach: &Approach, plan: &Plan, replayed: Option<&Replayed>) -> Result<(), Failure> {
    if run.screen.json {
        return run.screen.result(&json::line(&Line::Plan { plan: json::plan(plan, false, replayed) }));
    }
    if run.screen.quiet && approach.approved {
        return Ok(());
    }
    let accepted: Vec<String> = approach.options.accepted.iter().cloned().collect();
    let shown = plan_view::Shown { full: false, accepted: &accepted, replayed };
    run.screen.result(&plan_view::plan(plan, shown, run.screen.out))
}

fn refuse_stale(shown: &Plan, now: &Plan) -> Result<(), Failure> {
    let moved = planner::moved(shown, now);
    if moved.is_empty() { Ok(()) } else { Err(crate::saved_plan::stale(moved)) }
}

/// What stands in the way of a plan, in the order in which it can be put right.
fn refuse(approach: &Approach, plan: &Plan) -> Result<(), Failure> {
    errors(plan)?;
    let accepted: Vec<String> = approach.options.accepted.iter().cloned().collect();
    let losses: Vec<_> = plan.unaccepted(&accepted).collect();
    if !losses.is_empty() {
        let details = losses
            .iter()
            .map(|(change, loss)| {
                let colon = if loss.detail.is_empty() { "" } else { ": " };
                format!("{} loses {}{colon}{}", change.resource, loss.what, loss.detail)
            })
            .collect();
        let flags: BTreeSet<String> =
            losses.iter().map(|(_, loss)| format!("--accept-loss {}", loss.consent)).collect();
        // A line of twenty flags is read by nobody; the plan names each beside its loss.
        let consent = if flags.len() > MOST_FLAGS {
            String::from("save it first, or consent to each with --accept-loss, as the plan names it")
        } else {
            format!("save it first, or consent: {}", flags.into_iter().collect::<Vec<_>>().join(" "))
        };
        let lost = "this would lose what cannot be brought back; nothing was changed";
        return Err(Failure::refused("sbx::loss", lost).with_details(details).with_help(consent));
    }
    let held: Vec<String> = forbidden(plan);
    if approach.options.state_only && !held.is_empty() {
        // Nothing but the sandbox's own container is part of such a plan, and nobody else has that.
        return Err(Failure::failed("sbx::not-created", "it cannot be started or stopped; nothing was changed")
            .with_details(held)
            .with_help("create it with `sbx apply`"));
    }
    if plan.is_empty() && !held.is_empty() {
        return Err(held_by_others(held, "nothing was changed"));
    }
    Ok(())
}

/// Errors found while planning.
pub fn errors(plan: &Plan) -> Result<(), Failure> {
    let errors: Vec<_> = plan.warnings.iter().filter(|notice| notice.severity == "error").collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let details = errors
        .iter()
        .map(|notice| {
            let place = notice.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
            format!("{place}{}", notice.message)
        })
        .collect();
    let message =
        format!("{} in the way of this plan; nothing was changed", crate::render::text::count(errors.len(), "error"));
    let failure = Failure::new(Exit::Invalid, "sbx::plan-errors", message).with_details(details);
    Err(match &first.help {
        Some(help) if errors.len() == 1 => failure.with_help(help.clone()),
        _ => failure,
    })
}

fn forbidden(plan: &Plan) -> Vec<String> {
    plan.forbidden()
        .map(|change| {
            let place = change.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
            format!("{place}{}: {}", change.resource, change.because.join("; "))
        })
        .collect()
}

fn held_by_others(held: Vec<String>, what: &str) -> Failure {
    Failure::refused("sbx::forbidden", format!("some of it must not be touched; {what}"))
        .with_details(held)
        .with_help("rename yours, or remove what is in the way yourself")
}

fn finish(
    run: &Run<'_>,
    approach: &Approach,
    plan: &Plan,
    outcome: &reconciler::outcome::Outcome,
    exit: Option<Exit>,
) -> Result<Exit, Failure> {
    let exit = exit.unwrap_or_else(|| outcome::exit(outcome));
    let held = forbidden(plan);
    // What was not tried for the sake of what is held has not failed.
    let failed = outcome.results.iter().any(|result| matches!(result.ending, Ending::Failed { .. }));
    let exit =
        if matches!(exit, Exit::Done | Exit::Failed) && !failed && !held.is_empty() { Exit::Refused } else { exit };
    if run.screen.json {
        let line = Line::Outcome { format_version: json::FORMAT_VERSION, exit_code: exit.code(), outcome };
        run.screen.result(&json::line(&line))?;
        return Ok(exit);
    }
    if outcome.results.is_empty() {
        if !approach.show {
            run.screen.say("Nothing to do.");
        }
    } else {
        run.screen.complain_if(exit != Exit::Done, &outcome::outcome(outcome, approach.did, exit, run.screen.err));
    }
    if exit == Exit::Refused {
        return Err(held_by_others(held, "the rest is done"));
    }
    Ok(exit)
}
