//! `sbx explain`: what a sandbox may reach, and why. No engine, no network.

use std::collections::HashMap;

use egress::dial::own_addresses;
use egress::explain::explain;
use egress::verdict::Headers;
use schema::policy::{Target, TargetError};
use serde::Serialize;

use super::Run;
use super::selection::known;
use crate::configuration::{self, Surroundings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{explanation as view, json};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx explain api https://api.github.com/repos/acme/api
  sbx explain api https://api.github.com/repos/acme/api/issues --method POST
  sbx explain api ssh://github.com
  sbx explain api tcp://db.example.org:5432

Exits with 0 when it is allowed, with 1 when it is denied.")]
pub struct Args {
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::completion::sandboxes())]
    sandbox: String,
    /// What it wants to reach: https://host/path, ssh://host, tcp://host:port, udp://host:port
    #[arg(value_name = "URL")]
    url: String,
    /// Method of the request [default: GET]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Header of the request, as 'name: value'; may be given several times
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, String)>,
}

/// What `explain --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'a str,
    project: &'a str,
    sandbox: &'a str,
    target: String,
    method: Option<&'a str>,
    #[serde(flatten)]
    explanation: &'a egress::explain::Explanation,
}

/// Explains.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let target = target(&args.url)?;
    let config = configuration::load_quietly(run, &Surroundings::find(run)?)?;
    known(&config, &args.sandbox)?;
    let given =
        Given(args.headers.iter().cloned().fold(HashMap::new(), |mut all: HashMap<_, Vec<_>>, (name, value)| {
            all.entry(name).or_default().push(value);
            all
        }));
    let method = args.method.as_deref();
    let today = configuration::today();
    // Without them the rest is still true.
    let own = own_addresses().unwrap_or_default();
    let Some(explanation) = explain(&config, &args.sandbox, &target, method, &given, &own, today) else {
        return Err(Failure::new(Exit::Usage, "sbx::unknown-sandbox", format!("there is no sandbox {}", args.sandbox)));
    };
    let requested = target.path.is_some().then(|| method.unwrap_or("GET"));
    let text = if run.screen.json {
        json::document(&Document {
            format_version: json::FORMAT_VERSION,
            project: config.project.as_str(),
            sandbox: &args.sandbox,
            target: target.to_string(),
            method: requested,
            explanation: &explanation,
        })
    } else {
        let asked = requested.map_or_else(|| target.to_string(), |method| format!("{method} {target}"));
        view::explanation(&args.sandbox, &asked, &explanation, run.screen.out)
    };
    run.screen.result(&text)?;
    Ok(if explanation.allowed { Exit::Done } else { Exit::Failed })
}

/// Reads a target.
fn target(url: &str) -> Result<Target, Failure> {
    Target::parse(url).map_err(|error| {
        let shown = crate::render::text::safe(url);
        let failure = Failure::new(Exit::Usage, "sbx::invalid-target", format!("{shown} cannot be judged: {error}"));
        match error {
            TargetError::Scheme | TargetError::Port | TargetError::Brackets => failure,
            _ => failure
                .with_help("whatever the rules say, a sandbox is refused what servers could take for different things"),
        }
    })
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write 'name: value'")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Headers of the command line.
struct Given(HashMap<String, Vec<String>>);

impl Headers for Given {
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.get(name).is_some_and(|values| values.iter().any(|value| matches(value.as_bytes())))
    }
}
