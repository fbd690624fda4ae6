//! `sbx egress policy`: no engine, no network.

use schema::config::{EgressMode, Transport};
use schema::policy::Policy;
use serde::Serialize;

use super::Run;
use crate::commands::selection::known;
use crate::configuration::{self, Surroundings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, policy as view};

/// Arguments of `egress policy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx egress policy
  sbx egress policy api
  sbx egress policy api --json | jq '.sandboxes[].policy.allow[].host'")]
pub struct Args {
    /// Only these [default: all]
    #[arg(value_name = "SANDBOX", add = crate::commands::completion::sandboxes())]
    sandboxes: Vec<String>,
}

/// What `egress policy --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'a str,
    project: &'a str,
    sandboxes: Vec<Effective<'a>>,
}

/// The policy of one sandbox, as it is enforced.
#[derive(Debug, Serialize)]
pub struct Effective<'a> {
    /// The sandbox.
    pub sandbox: &'a str,
    /// Its mode.
    pub mode: EgressMode,
    /// How traffic comes to the proxy.
    pub transport: Transport,
    /// The policy; decides with `allowlist` and `direct`.
    pub policy: &'a Policy,
}

/// Shows.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let config = configuration::load_quietly(run, &Surroundings::find(run)?)?;
    for name in &args.sandboxes {
        known(&config, name)?;
    }
    let wanted = |name: &str| args.sandboxes.is_empty() || args.sandboxes.iter().any(|wanted| wanted == name);
    let sandboxes: Vec<Effective<'_>> = config
        .sandboxes
        .iter()
        .filter(|(name, _)| wanted(name.as_str()))
        .map(|(name, sandbox)| Effective {
            sandbox: name.as_str(),
            mode: sandbox.egress.mode,
            transport: sandbox.egress.transport,
            policy: &sandbox.egress.policy,
        })
        .collect();
    let text = if run.screen.json {
        json::document(&Document { format_version: json::FORMAT_VERSION, project: config.project.as_str(), sandboxes })
    } else {
        view::policies(&sandboxes, configuration::today(), run.screen.out)
    };
    run.screen.result(&text)?;
    Ok(Exit::Done)
}
