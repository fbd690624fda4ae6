//! `sbx egress tighten`: no engine; the daemon is asked only where its records are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use egress::audit::log::{directory, of_sandbox};
use egress::audit::newest::{Budget, Newest};
use egress::audit::rules;
use egress::tighten::{Ages, Comparison, Count, Evidence, FEWEST_RECORDS, Tighter, Usage, tighter, unexamined};
use egress::written;
use jiff::{SignedDuration, Timestamp};
use schema::config::EgressMode;
use schema::edit::Editor;
use schema::policy::{Policy, PortRange, Rule};
use schema::{Caller, Config, Name};
use serde::Serialize;

use super::super::Run;
use super::super::selection::known;
use super::edited::Subject;
use crate::configuration::{self, Surroundings};
use crate::daemon::{Place, facts};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::patch::Patch;
use crate::render::json;
use crate::render::text::safe;

/// Arguments of `egress tighten`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx egress tighten api
  sbx egress tighten api --evidence 30d --write

Rules that were never used are taken out, rules of which only some ports,
methods or paths were used are made narrower: by what the daemon recorded, and
only of rules that were in force for as long as --evidence says. Rules that
others share are named, not changed.")]
pub struct Args {
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::super::completion::sandboxes())]
    sandbox: String,
    /// How far back records are looked at
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = humantime::parse_duration)]
    since: Duration,
    /// How long a rule must have been in force, and recorded, for anything to be said of it
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    evidence: Duration,
    /// Write the change into the file
    #[arg(long)]
    write: bool,
}

/// Most of the records that is read; all there are are less.
const BUDGET: Budget = Budget { bytes: 1 << 30, time: Duration::from_mins(2) };

/// What `egress tighten --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'a str,
    project: &'a str,
    sandbox: &'a str,
    evidence: &'a Evidence,
    /// Why nothing is said at all, if nothing is.
    too_little: Option<&'a str>,
    rules: &'a [Told],
    diff: String,
    written: &'a [String],
}

/// A rule, how it was used, and what is proposed.
#[derive(Debug, Serialize)]
struct Told {
    /// As it is written.
    rule: String,
    /// Where.
    at: String,
    /// Connections and requests by it.
    uses: u64,
    /// The last one.
    last: Option<Timestamp>,
    /// Since when uses of it were recorded; null while it has not been in force.
    recorded_since: Option<Timestamp>,
    /// What could become of it.
    proposal: Option<Tighter>,
    /// Why that is not done.
    kept: Option<String>,
}

/// Tightens.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let (sources, config) = configuration::load_to_edit(run, &surroundings)?;
    known(&config, &args.sandbox)?;
    let subject = Subject::find(&sources, &config, &args.sandbox);
    let egress = &config.sandboxes[args.sandbox.as_str()].egress;
    if egress.mode != EgressMode::Allowlist {
        let mode = egress.mode.as_str();
        return Err(Failure::refused("sbx::not-recorded", format!("sandbox {} has `mode: {mode}`", args.sandbox))
            .with_help("only what `mode: allowlist` lets out is recorded"));
    }
    let place = Place::find(&run.global, &surroundings.person, &surroundings.directories);
    let status = crate::runtime::block_on(async { Ok(facts::status(&place).await.ok().flatten()) })?;
    let lost = status.as_ref().map_or(0, |status| status.lost_records);
    let records = status.map_or_else(|| place.records.clone(), |status| status.records.into());
    let directory = directory(&records, config.project.as_str());
    let now = Timestamp::now();
    let since = now.checked_sub(args.since).ok();
    let tally = tally(&directory, &config, &subject, since)?;
    let too_little = too_little(&tally.evidence, lost, args.evidence, now);
    let ages = ages(&directory, &subject);
    let policy = egress.policy.clone();
    let caller = surroundings.caller();
    let unused = unused(&policy, &tally);
    let mut patch = Patch::new(sources, config.clone());
    let mut told = Vec::new();
    for (rule, usage) in policy.allow.iter().zip(&tally.usage) {
        let recorded_since = ages.get(&written::allow(rule)).copied().max(tally.evidence.since);
        let recorded_since = recorded_since.filter(|_| ages.contains_key(&written::allow(rule)));
        let mut proposal = tighter(rule, usage);
        let old = recorded_since.is_some_and(|since| is_older(since, args.evidence, now));
        let kept = match &proposal {
            None => None,
            Some(_) if too_little.is_some() => Some("there is too little evidence".to_owned()),
            Some(_) if recorded_since.is_none() => Some("it has not been in force since rules are dated".to_owned()),
            Some(_) if !old => Some("it has not been in force for long enough".to_owned()),
            Some(change) if let Some(other) = unexamined(&policy, rule, change) => {
                Some(format!("without it nobody would look into connections that {} allows", written::allow(other)))
            }
            Some(change) => make(&mut patch, &caller, &subject, rule, change, &unused).err(),
        };
        if too_little.is_some() {
            proposal = None;
        }
        let Usage { uses, last, .. } = usage.clone();
        let (at, rule) = (rule.place.to_string(), written::allow(rule));
        told.push(Told { rule, at, uses, last, recorded_since, proposal, kept });
    }
    hold(&policy, &patch, &directory, &subject, since)?;
    let written = if args.write { patch.write(&surroundings.person)? } else { Vec::new() };
    if run.screen.json {
        run.screen.result(&json::document(&Document {
            format_version: json::FORMAT_VERSION,
            project: config.project.as_str(),
            sandbox: &args.sandbox,
            evidence: &tally.evidence,
            too_little: too_little.as_deref(),
            rules: &told,
            diff: patch.diff(crate::screen::Look { color: false, ..run.screen.out }),
            written: &written,
        }))?;
        return Ok(Exit::Done);
    }
    run.screen.result(&patch.diff(run.screen.out))?;
    tell(run, args, &tally.evidence, too_little.as_deref(), &told);
    match written.as_slice() {
        [] if patch.is_empty() => {}
        [] => run.screen.say("Nothing was written; --write does."),
        files => run.screen.say(&format!("Wrote {}. `sbx plan` shows what it changes.", files.join(", "))),
    }
    Ok(Exit::Done)
}

/// Counts what all that was made of the sandbox did.
fn tally(directory: &Path, config: &Config, subject: &Subject, since: Option<Timestamp>) -> Result<Count, Failure> {
    let policy = subject.names.first().map(|name| &config.sandboxes[name].egress.policy);
    let mut count = Count::new(policy.unwrap_or(&Policy::default()), configuration::today());
    each(directory, subject, since, |record| count.add(record))?;
    Ok(count)
}

/// Every record of what was made of the sandbox.
fn each(
    directory: &Path,
    subject: &Subject,
    since: Option<Timestamp>,
    mut see: impl FnMut(&egress::audit::Record),
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(directory.display(), &error);
    for name in &subject.names {
        let mut newest = Newest::open(&of_sandbox(directory, name.as_str()), since, BUDGET).map_err(failed)?;
        while let Some(record) = newest.read().map_err(failed)? {
            see(&record);
        }
    }
    Ok(())
}

fn is_older(since: Timestamp, evidence: Duration, now: Timestamp) -> bool {
    let age: SignedDuration = now.duration_since(since);
    SignedDuration::try_from(evidence).is_ok_and(|evidence| age >= evidence)
}

fn too_little(evidence: &Evidence, lost: u64, wanted: Duration, now: Timestamp) -> Option<String> {
    let Evidence { records, since } = evidence;
    let Some(since) = since else { return Some("nothing is recorded of it".to_owned()) };
    if *records < FEWEST_RECORDS {
        return Some(format!("fewer than {FEWEST_RECORDS} connections and requests are recorded: {records}"));
    }
    if !is_older(*since, wanted, now) {
        return Some(format!("they are recorded since {since}, for less than {}", humantime::format_duration(wanted)));
    }
    (lost > 0).then(|| format!("{lost} records were lost, and could have been of any rule"))
}

/// Since when rules are in force for everything that was made of the sandbox.
fn ages(directory: &Path, subject: &Subject) -> Ages {
    let all = rules::read(directory);
    let mut of = subject.names.iter().map(|name| all.get(name.as_str()).cloned().unwrap_or_default());
    let first = of.next().unwrap_or_default();
    of.fold(first, |mut ages, other| {
        ages.retain(|rule, since| other.get(rule).map(|at| *since = (*since).max(*at)).is_some());
        ages
    })
}

/// Lists of which no rule was used, or has connections looked into that others allow.
fn unused(policy: &Policy, tally: &Count) -> Vec<String> {
    let mut lists: BTreeMap<&str, bool> = BTreeMap::new();
    for (rule, usage) in policy.allow.iter().zip(&tally.usage) {
        if let Some(list) = &rule.place.list {
            let needed = usage.uses > 0 || unexamined(policy, rule, &Tighter::Remove).is_some();
            *lists.entry(list).or_insert(true) &= !needed;
        }
    }
    lists.into_iter().filter(|(_, unused)| *unused).map(|(list, _)| list.to_owned()).collect()
}

/// Makes one change, where the files then say that and nothing else; says why not.
fn make(
    patch: &mut Patch,
    caller: &Caller,
    subject: &Subject,
    rule: &Rule,
    change: &Tighter,
    unused: &[String],
) -> Result<(), String> {
    let sources = patch.sources.clone();
    let editor = Editor::new(&sources);
    let policies: Vec<(Name, Policy)> =
        subject.names.iter().map(|name| (name.clone(), patch.config.sandboxes[name].egress.policy.clone())).collect();
    // Its place is another one once something before it was changed.
    let here = policies.iter().find_map(|(_, policy)| {
        policy.allow.iter().find(|other| *other == rule && other.place.list == rule.place.list)
    });
    let Some(here) = here else {
        // It went with the list that it is of.
        return Ok(());
    };
    if *change == Tighter::Remove
        && let Some(list) = rule.place.list.as_ref().filter(|list| unused.contains(list))
        && let Some(at) = editor.use_of(&subject.key, list)
        && let Ok(splices) = editor.remove(&at)
    {
        // The whole list: who else uses it does not notice.
        let expected = policies.iter().cloned().map(|(name, mut policy)| {
            policy.allow.retain(|rule| rule.place.list.as_ref() != Some(list));
            (name, policy)
        });
        let expected: BTreeMap<Name, Policy> = expected.collect();
        if patch.make(&splices, caller, &expected).is_ok() {
            return Ok(());
        }
    }
    let splices = match change {
        Tighter::Remove => editor.remove(&here.place.at),
        Tighter::Narrow { ports, methods, paths } => {
            let ports = ports.as_ref().map(|ports| ("ports", ports.iter().map(PortRange::to_string).collect()));
            let methods = methods.as_ref().map(|methods| ("methods", methods.clone()));
            let paths = paths.as_ref().map(|paths| paths.iter().map(|path| written::quoted(path.as_str())).collect());
            let paths = paths.map(|paths| ("paths", paths));
            let fields: Vec<(&str, Vec<String>)> = ports.into_iter().chain(methods).chain(paths).collect();
            fields.iter().try_fold(Vec::new(), |mut all, (field, values)| {
                all.extend(editor.set(&here.place.at, field, &format!("[{}]", values.join(", ")))?);
                Ok(all)
            })
        }
    };
    let splices = splices.map_err(|error| error.to_string())?;
    let expected: BTreeMap<Name, Policy> = policies
        .iter()
        .cloned()
        .map(|(name, mut policy)| {
            if let Some(index) =
                policy.allow.iter().position(|other| *other == *here && other.place.at == here.place.at)
            {
                match change.applied(here) {
                    Some(narrower) => policy.allow[index] = narrower,
                    None => drop(policy.allow.remove(index)),
                }
            }
            (name, policy)
        })
        .collect();
    patch.make(&splices, caller, &expected)
}

/// That everything recorded which the file allows would be allowed all the same.
fn hold(
    before: &Policy,
    patch: &Patch,
    directory: &Path,
    subject: &Subject,
    since: Option<Timestamp>,
) -> Result<(), Failure> {
    let Some(name) = subject.names.first().filter(|_| !patch.is_empty()) else { return Ok(()) };
    let after = &patch.config.sandboxes[name].egress.policy;
    let comparison = Comparison::new(before, after, configuration::today());
    let mut lost: u64 = 0;
    each(directory, subject, since, |record| lost += u64::from(comparison.breaks(record)))?;
    if lost == 0 {
        return Ok(());
    }
    let message = format!("{lost} recorded connections and requests would be denied; nothing is proposed");
    Err(Failure::new(Exit::TryAgain, "sbx::in-use", message).with_help("the sandbox is using the rules: run it again"))
}

fn tell(run: &Run<'_>, args: &Args, evidence: &Evidence, too_little: Option<&str>, told: &[Told]) {
    if let Some(since) = evidence.since {
        let what = if evidence.records == 1 { "connection or request" } else { "connections and requests" };
        run.screen.say(&format!("By {} recorded {what} since {since}.", evidence.records));
    }
    if let Some(why) = too_little {
        return run.screen.say(&format!("Nothing is said of the rules of {}: {why}.", safe(&args.sandbox)));
    }
    for Told { rule, at, uses, last, recorded_since, proposal, kept } in told {
        let Some(proposal) = proposal else { continue };
        let recorded = recorded_since.map(|since| format!(", recorded since {since}")).unwrap_or_default();
        let used = last.map_or_else(|| "never used".to_owned(), |last| format!("used {uses} times, last {last}"));
        let verb = match (proposal, kept) {
            (_, Some(why)) => format!("kept, since {why}"),
            (Tighter::Remove, None) => "taken out".to_owned(),
            (Tighter::Narrow { .. }, None) => "made narrower".to_owned(),
        };
        run.screen.say(&format!("{}: {verb}: {}: {used}{recorded}", safe(at), safe(rule)));
    }
    if told.iter().all(|told| told.proposal.is_none()) {
        run.screen.say("Every rule was used in full.");
    }
}
