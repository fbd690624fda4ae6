//! `sbx egress log`.

use std::time::Duration;

use egress::audit::Record;
use egress::audit::log::directory;
use egress::audit::read::Records;
use jiff::Timestamp;

use super::super::Run;
use super::super::selection::known;
use crate::configuration::{self, Surroundings};
use crate::daemon::{Place, facts};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::{json, record};

/// Arguments of `egress log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx egress log
  sbx egress log api --denied -f
  sbx egress log --since 1h --json | jq -r .host | sort | uniq -c

Records hold names, ports, methods and paths; never a query, a header, a body or a secret.")]
pub struct Args {
    /// Only of this sandbox
    #[arg(value_name = "SANDBOX", add = super::super::completion::sandboxes())]
    sandbox: Option<String>,
    /// Go on with what is decided from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only what was refused
    #[arg(long)]
    denied: bool,
    /// Only from the last so long: 90s, 10m, 2d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// How often the log is looked at for more.
const LOOK: Duration = Duration::from_millis(100);

/// Shows the records.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    if let Some(sandbox) = &args.sandbox {
        known(&config, sandbox)?;
    }
    let place = Place::find(&run.global, &surroundings.person, &surroundings.directories);
    let since = args.since.and_then(|since| Timestamp::now().checked_sub(since).ok());
    let shown = |record: &Record| (!args.denied || !record.allowed) && since.is_none_or(|since| record.time >= since);
    crate::runtime::block_on(async {
        // The one that runs knows where it writes; where none runs, it is where one would.
        let status = facts::status(&place).await.ok().flatten();
        let records = status.map_or_else(|| place.records.clone(), |status| status.records.into());
        let mut reader = Records::new(directory(&records, config.project.as_str()), args.sandbox.as_deref());
        let interrupt = Interrupt::listen(|_| {}).map_err(|error| Failure::io("cannot listen for signals", &error))?;
        loop {
            let mut text = String::new();
            while let Some(record) = reader.read().map_err(|error| Failure::io(records.display(), &error))? {
                if shown(&record) {
                    text.push_str(&if run.screen.json { json::line(&record) } else { record::line(&record) });
                    text.push('\n');
                }
            }
            if !args.follow {
                run.screen.result(&text)?;
                return Ok(Exit::Done);
            }
            run.screen.stream(&text)?;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = interrupt.stopped() => return Ok(Exit::Interrupted),
            }
        }
    })
}
