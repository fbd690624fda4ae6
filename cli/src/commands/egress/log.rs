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

Records hold names, ports, methods and paths; never a query, a header, a
body or a secret.")]
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

/// So much is written at once: what was ever recorded may be more than there is memory.
const PIECE: usize = 1 << 16;
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
        let stop = interrupt.stop();
        let mut line = || loop {
            if *stop.borrow() {
                return Ok(None);
            }
            match reader.read().map_err(|error| Failure::io(records.display(), &error))? {
                Some(record) if shown(&record) => {
                    return Ok(Some(if run.screen.json { json::line(&record) } else { record::line(&record) }));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        };
        loop {
            match print(&mut line, |text| run.screen.stream(text)) {
                // Whoever has read enough of what there is has what they wanted.
                Err(failure) if !args.follow && failure.is_closed() => return Ok(Exit::Done),
                printed => printed?,
            }
            if *stop.borrow() {
                return Ok(Exit::Interrupted);
            }
            if !args.follow {
                return Ok(Exit::Done);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = interrupt.stopped() => return Ok(Exit::Interrupted),
            }
        }
    })
}

/// Has `write` write the lines that `next` gives, piece by piece, until there are no more for now.
fn print(
    mut next: impl FnMut() -> Result<Option<String>, Failure>,
    mut write: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut piece = String::new();
    while let Some(line) = next()? {
        piece.push_str(&line);
        piece.push('\n');
        if piece.len() >= PIECE {
            write(&piece)?;
            piece.clear();
        }
    }
    if piece.is_empty() { Ok(()) } else { write(&piece) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_written_as_it_is_read() {
        let (mut numbers, mut read) = (0..50_000, 0);
        let mut written = String::new();
        let mut most = 0;
        let next = || {
            let line = numbers.next().map(|number: u32| format!("line {number}"));
            read += line.as_ref().map_or(0, |line| line.len() + 1);
            Ok(line)
        };
        print(next, |text| {
            most = most.max(text.len());
            written.push_str(text);
            Ok(())
        })
        .expect("written");
        assert!(written.lines().eq((0..50_000).map(|number| format!("line {number}"))));
        assert!(written.len() == read && most < PIECE + 20, "{most} at once");
    }

    #[test]
    fn nothing_is_read_once_nobody_reads() {
        let mut read = 0;
        let next = || {
            read += 1;
            Ok(Some("x".repeat(PIECE)))
        };
        let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let failure = print(next, |_| Err(Failure::output(&gone))).expect_err("nobody reads");
        assert!(failure.is_closed() && read == 1);
    }
}
