//! `sbx egress learn`.

use std::collections::BTreeMap;
use std::time::Duration;

use egress::audit::Record;
use egress::audit::log::{directory, of_sandbox};
use egress::audit::newest::{Budget, Newest};
use egress::control::client::Client;
use egress::control::{Request, Response};
use egress::learn::{Learned, learn};
use egress::written;
use jiff::Timestamp;
use schema::Config;
use schema::config::EgressMode;
use schema::edit::Editor;
use serde::Serialize;

use super::super::Run;
use super::super::selection::known;
use super::edited::{Subject, escaped};
use crate::configuration::{self, Surroundings};
use crate::daemon::{self, Place, facts, start};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::patch::Patch;
use crate::render::json;
use crate::render::text::{count, safe};

/// Arguments of `egress learn`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx egress learn api --for 30m           use the sandbox; Ctrl-C ends it
  sbx egress learn api | patch -p0
  sbx egress learn api --write && sbx plan

While it runs, the sandbox reaches everything but what deny rules deny and
addresses that are never dialled, and all of it is recorded. It ends with
this command, however that ends, at the latest after the time given. Then
rules for what was done are proposed, as narrow as it was done, as a diff.")]
pub struct Args {
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::super::completion::sandboxes())]
    sandbox: String,
    /// How long, at most a day
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Write the rules into the file
    #[arg(long)]
    write: bool,
}

/// Most of the records of a time of learning that is read.
const BUDGET: Budget = Budget { bytes: 64 << 20, time: Duration::from_secs(30) };

/// What `egress learn --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'a str,
    project: &'a str,
    sandbox: &'a str,
    since: String,
    until: String,
    /// Records of that time were left out, being too many.
    cut: bool,
    uses: u64,
    /// The rules proposed, as they are written.
    rules: &'a [String],
    refused: &'a [egress::learn::Refused],
    /// Why the rules cannot be put into the file, if they cannot.
    unwritable: Option<&'a str>,
    diff: String,
    written: &'a [String],
}

/// Learns.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let (sources, config) = configuration::load_to_edit(run, &surroundings)?;
    known(&config, &args.sandbox)?;
    let Some(sandbox) = config.sandboxes.get(args.sandbox.as_str()) else {
        return Err(Failure::new(Exit::Usage, "sbx::unknown-sandbox", format!("there is no sandbox {}", args.sandbox)));
    };
    if sandbox.egress.mode != EgressMode::Allowlist {
        let mode = sandbox.egress.mode.as_str();
        return Err(Failure::refused("sbx::not-learning", format!("sandbox {} has `mode: {mode}`", args.sandbox))
            .with_help("learning is about what `mode: allowlist` has to allow"));
    }
    let place = Place::find(&run.global, &surroundings.person, &surroundings.directories);
    let begun = Timestamp::now();
    let told = crate::runtime::block_on(let_out(args, run, &config, &place))?;
    let ended = Timestamp::now();
    let (learned, cut) = read(args, &config, &told, begun)?;
    let mut patch = Patch::new(sources, config.clone());
    let rules: Vec<String> = learned.rules.iter().map(written::allow).collect();
    let unwritable = propose(&mut patch, args, &surroundings, &learned, &rules).err();
    let written = if args.write && unwritable.is_none() { patch.write(&surroundings.person)? } else { Vec::new() };
    if run.screen.json {
        run.screen.result(&json::document(&Document {
            format_version: json::FORMAT_VERSION,
            project: config.project.as_str(),
            sandbox: &args.sandbox,
            since: begun.to_string(),
            until: ended.to_string(),
            cut,
            uses: learned.uses,
            rules: &rules,
            refused: &learned.refused,
            unwritable: unwritable.as_deref(),
            diff: patch.diff(crate::screen::Look { color: false, ..run.screen.out }),
            written: &written,
        }))?;
    } else {
        run.screen.result(&patch.diff(run.screen.out))?;
        tell(run, &learned, cut, &rules, unwritable.as_deref(), &written);
    }
    Ok(if unwritable.is_some() { Exit::Failed } else { Exit::Done })
}

/// Has the sandbox let out until the time is over or somebody interrupts; where the records are.
async fn let_out(args: &Args, run: &Run<'_>, config: &Config, place: &Place) -> Result<std::path::PathBuf, Failure> {
    let failure = |error| start::failure(&error);
    let mut client = Client::connect(&place.socket(), &daemon::version()).await.map_err(failure)?;
    let records = client.status().await.map_err(failure)?.records;
    let request = Request::Learn {
        project: config.project.to_string(),
        sandbox: args.sandbox.clone(),
        seconds: args.duration.as_secs().max(1),
    };
    let interrupt = Interrupt::listen(|_| {}).map_err(|error| Failure::io("cannot listen for signals", &error))?;
    let asked = tokio::select! {
        asked = client.ask(&request) => asked,
        // It ends with this connection, should it have begun.
        () = interrupt.stopped() => return Err(Failure::new(Exit::Interrupted, "sbx::interrupted", "interrupted")),
    };
    let until = match asked {
        Ok(Response::Learning { until }) => until,
        Ok(_) => return Err(Failure::failed("sbx::daemon", "the daemon said something unexpected")),
        Err(error) => {
            return Err(start::failure(&error).with_help(format!(
                "give it a first rule, and have it applied: `sbx status {}` says whether its policy is in force",
                args.sandbox
            )));
        }
    };
    banner(run, &args.sandbox, &until);
    let over = tokio::select! {
        over = client.answer() => over,
        () = interrupt.stopped() => {
            client.tell(&Request::EndLearning).await.map_err(failure)?;
            client.answer().await
        }
    };
    // Its policy holds again, whatever became of the daemon; what was recorded until then is there.
    if let Err(error) = over {
        run.screen.warn(&format!("the daemon went away while it learned: {error}"), None);
    }
    let status = facts::status(place).await.ok().flatten();
    let still = status.is_some_and(|status| {
        let ours = |sandbox: &&egress::control::SandboxStatus| {
            sandbox.project == config.project.as_str() && sandbox.sandbox == args.sandbox
        };
        status.sandboxes.iter().filter(ours).any(|sandbox| sandbox.learning.is_some())
    });
    if !still && !run.screen.quiet {
        run.screen.complain(&format!("Learned: the policy of {} alone holds again.", safe(&args.sandbox)));
    }
    Ok(records.into())
}

/// Told whatever is asked to be quiet.
fn banner(run: &Run<'_>, sandbox: &str, until: &str) {
    let text = format!(
        "LEARNING: sandbox {} is let out until {until}.\n\
         It reaches EVERYTHING but what deny rules deny and inner addresses, and can send out all that it can read.\n\
         Every connection is recorded. Ctrl-C ends it.",
        safe(sandbox)
    );
    let style = owo_colors::Style::new().red().bold();
    for line in text.lines() {
        run.screen.complain(&run.screen.err.paint(style, line));
    }
}

/// What the records of the time say is needed, and whether some of them were left out.
fn read(args: &Args, config: &Config, records: &std::path::Path, begun: Timestamp) -> Result<(Learned, bool), Failure> {
    let directory = of_sandbox(&directory(records, config.project.as_str()), &args.sandbox);
    let failed = |error: std::io::Error| Failure::io(records.display(), &error);
    let mut newest = Newest::open(&directory, Some(begun), BUDGET).map_err(failed)?;
    let mut own: Vec<Record> = Vec::new();
    while let Some(record) = newest.read().map_err(failed)? {
        own.push(record);
    }
    let policy = &config.sandboxes[args.sandbox.as_str()].egress.policy;
    Ok((learn(policy, &own, configuration::today()), newest.was_cut()))
}

/// Puts the rules into the file, where that can be done.
fn propose(
    patch: &mut Patch,
    args: &Args,
    surroundings: &Surroundings,
    learned: &Learned,
    rules: &[String],
) -> Result<(), String> {
    if rules.is_empty() {
        return Ok(());
    }
    let subject = Subject::find(&patch.sources, &patch.config, &args.sandbox);
    let items: Vec<String> = rules.iter().map(|rule| escaped(rule)).collect();
    let sources = patch.sources.clone();
    let splices = Editor::new(&sources).add_rules(&subject.key, &items).map_err(|error| error.to_string())?;
    let mut expected = BTreeMap::new();
    for name in &subject.names {
        let mut policy = patch.config.sandboxes[name].egress.policy.clone();
        policy.allow.extend(learned.rules.iter().cloned());
        expected.insert(name.clone(), policy);
    }
    patch.make(&splices, &surroundings.caller(), &expected)
}

fn tell(run: &Run<'_>, learned: &Learned, cut: bool, rules: &[String], unwritable: Option<&str>, written: &[String]) {
    let what = if learned.uses == 1 { "connection or request" } else { "connections and requests" };
    run.screen.say(&format!("{} {what} beyond the policy; {} proposed.", learned.uses, count(rules.len(), "rule")));
    for refused in &learned.refused {
        let egress::learn::Refused { host, port, because, times } = refused;
        run.screen.say(&format!("  not proposed: {}:{port}, {because} ({times})", safe(host)));
    }
    if cut {
        run.screen.warn("not all records were read, being too many: something may be missing", None);
    }
    if let Some(why) = unwritable {
        run.screen.warn(&format!("the rules cannot be put into the file: {why}"), Some("add them by hand:"));
        for rule in rules {
            run.screen.complain(&format!("  - {}", escaped(rule)));
        }
    }
    match written {
        [] if rules.is_empty() || unwritable.is_some() => {}
        [] => run.screen.say("Nothing was written; --write does."),
        files => run.screen.say(&format!("Wrote {}. `sbx plan` shows what it changes.", files.join(", "))),
    }
}
