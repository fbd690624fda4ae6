//! `sbx logs`.

use reconciler::podman::{LogQuery, Output};
use serde::Serialize;

use super::Run;
use super::selection::known;
use crate::configuration::{self, Surroundings};
use crate::engine::{Engine, Purpose};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::json;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx logs api
  sbx logs api -f --tail 20
  sbx logs api --since 10m

-f follows here; name configuration files with --file.")]
pub struct Args {
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::completion::sandboxes())]
    sandbox: String,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only what is not older: 10m, or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
}

#[derive(Serialize)]
struct Line<'a> {
    stream: &'a str,
    line: &'a str,
}

/// Shows what the main process wrote.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    known(&config, &args.sandbox)?;
    let query = LogQuery { follow: args.follow, tail: args.tail, since: args.since.map(|since| since.to_string()) };
    crate::runtime::block_on(async {
        let engine = Engine::connect(run, &surroundings, &config, false, Purpose::Reach).await?;
        let container = engine.present(&config, &args.sandbox).await?;
        let mut lines = Lines::default();
        let mut broken = None;
        let interrupt = Interrupt::listen(|_| {}).map_err(|error| Failure::io("cannot listen for signals", &error))?;
        let each = |output: Output| {
            let written = if run.screen.json {
                lines.take(run, &output)
            } else {
                crate::attach::write(&output).map_err(|error| Failure::output(&error))
            };
            broken = written.err();
            broken.is_none()
        };
        let interrupted = tokio::select! {
            read = engine.reader().logs(&container.id, &query, each) => {
                read.map_err(|error| Failure::backend("", error))?;
                false
            }
            () = interrupt.stopped() => true,
        };
        if run.screen.json {
            lines.rest(run)?;
        }
        match broken {
            Some(failure) => Err(failure),
            None if interrupted => Ok(Exit::Interrupted),
            None => Ok(Exit::Done),
        }
    })
}

/// Pieces put together to lines, per stream.
#[derive(Debug, Default)]
struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    fn take(&mut self, run: &Run<'_>, output: &Output) -> Result<(), Failure> {
        let (stream, kept, bytes) = match output {
            Output::Stdout(bytes) => ("stdout", &mut self.out, bytes),
            Output::Stderr(bytes) => ("stderr", &mut self.err, bytes),
        };
        kept.extend_from_slice(bytes);
        let Some(end) = kept.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let whole: Vec<u8> = kept.drain(..=end).collect();
        for line in String::from_utf8_lossy(&whole).lines() {
            run.screen.stream(&json::line(&Line { stream, line }))?;
        }
        Ok(())
    }

    fn rest(&mut self, run: &Run<'_>) -> Result<(), Failure> {
        for output in [Output::Stdout(b"\n".to_vec()), Output::Stderr(b"\n".to_vec())] {
            let empty = match &output {
                Output::Stdout(_) => self.out.is_empty(),
                Output::Stderr(_) => self.err.is_empty(),
            };
            if !empty {
                self.take(run, &output)?;
            }
        }
        Ok(())
    }
}

/// Seconds since the epoch of a time, or of so long ago.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = i64::try_from(ago.as_secs()).map_err(|_| String::from("too long ago"))?;
        return Ok(jiff::Timestamp::now().as_second().saturating_sub(ago).max(0));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.as_second()),
        Err(_) => Err(String::from("expected a duration such as 10m, or a time such as 2026-03-01T12:00:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::since;

    #[test]
    fn times() {
        assert_eq!(since("1970-01-01T00:01:00Z"), Ok(60));
        assert!(since("10m").is_ok_and(|seconds| seconds > 0));
        assert!(since("yesterday").is_err());
    }
}
