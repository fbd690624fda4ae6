//! `sbx daemon`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use egress::control::client::Client;
use egress::control::{ControlError, Hello, Request, Starter};
use tokio::time::{Instant, sleep};

use super::Run;
use crate::configuration::Surroundings;
use crate::daemon::run::Manner;
use crate::daemon::{self, Place, facts, start, unit};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{daemon as view, json};

/// Arguments of `daemon`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx daemon status
  sbx daemon stop                no allowlist lets anything out meanwhile
  sbx daemon install             a unit for systemd

`daemon install` prints the `systemctl` command that turns the unit on.

There is one daemon for each user and engine. `sbx apply` starts it when a
sandbox has something to reach.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run it here, until it is interrupted
    Run(RunArgs),
    /// Start it in the background
    Start,
    /// Stop it: what it serves ends, and allowlists let nothing out any more
    Stop,
    /// Show whether it runs, and what it serves
    Status,
    /// Write a unit for systemd: the system's for root, else the user's
    Install,
}

/// Arguments of `daemon run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Take the place of an older daemon, or of one that sbx started by itself, with its sandboxes
    #[arg(long)]
    replace: bool,
    /// Serve metrics on this loopback address rather than on a unix socket
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    metrics: Option<SocketAddr>,
    /// How its log is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Started by `sbx`: a session of its own, says when it answers, ends when nobody needs it
    #[arg(long, hide = true)]
    background: bool,
    /// Started by a service manager: it is told by the exit code when another daemon has taken over
    #[arg(long, hide = true, conflicts_with = "background")]
    supervised: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON document a line
    Json,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| String::from("expected an address and a port: 127.0.0.1:9464"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(String::from("only loopback addresses: whoever reads the numbers learns what sandboxes talk to"))
}

/// How long a daemon may take to end.
const END: Duration = Duration::from_secs(10);

/// Runs one of the commands.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let Surroundings { person, directories } = Surroundings::find(run)?;
    let place = Place::find(&run.global, &person, &directories);
    match &args.command {
        Command::Run(args) => {
            trace(args.log_format, run);
            #[cfg(feature = "failpoints")]
            turn_off_defences()?;
            let connect = crate::engine::connect_options(&run.global, &person, &directories);
            let RunArgs { replace, metrics, background, supervised, log_format: _ } = *args;
            let starter = match (background, supervised) {
                (true, _) => Starter::Sbx,
                (false, true) => Starter::ServiceManager,
                (false, false) => Starter::Person,
            };
            daemon::run::run(&place, connect, &Manner { starter, replace, metrics })
        }
        Command::Start => crate::runtime::block_on(begin(run, &place)),
        Command::Stop => crate::runtime::block_on(stop(run, &place)),
        Command::Status => crate::runtime::block_on(status(run, &place)),
        Command::Install => install(run, &person, &place),
    }
}

/// Turns off the defences that a test names.
#[cfg(feature = "failpoints")]
fn turn_off_defences() -> Result<(), Failure> {
    let Some(names) = crate::caller::variable(egress::defence::WITHOUT) else { return Ok(()) };
    tracing::warn!(names, "defences are turned off");
    egress::defence::turn_off(&names).map_err(|error| Failure::failed("sbx::failpoint", error))
}

/// A daemon tells what it does, unlike other commands.
fn trace(format: LogFormat, run: &Run<'_>) {
    let level = match run.screen.verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).with_ansi(false);
    // With `-v` it is set up already.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
}

async fn begin(run: &Run<'_>, place: &Place) -> Result<Exit, Failure> {
    let client = start::ensure(place).await?;
    let Hello { version, pid, .. } = &client.daemon;
    if run.screen.json {
        let document = view::Started { format_version: json::FORMAT_VERSION, version, pid: *pid };
        run.screen.result(&json::document(&document))?;
    } else {
        run.screen.say(&format!("The daemon runs: version {version}, process {pid}."));
    }
    Ok(Exit::Done)
}

async fn stop(run: &Run<'_>, place: &Place) -> Result<Exit, Failure> {
    let mut client = match Client::connect(&place.socket(), &daemon::version()).await {
        Ok(client) => client,
        Err(ControlError::Absent(_)) => {
            return stopped(run, None);
        }
        Err(error) => return Err(start::failure(&error)),
    };
    client.order(&Request::Stop).await.map_err(|error| start::failure(&error))?;
    let deadline = Instant::now() + END;
    // Its end closes the connection; until then it may say that it serves nothing any more.
    while !matches!(client.status().await, Err(ControlError::Io(_))) || place.socket().exists() {
        if Instant::now() > deadline {
            let failure = Failure::new(Exit::TimedOut, "sbx::timed-out", "the daemon has not ended");
            return Err(failure.with_help(format!("it is process {}", client.daemon.pid)));
        }
        sleep(Duration::from_millis(10)).await;
    }
    stopped(run, Some(&client.daemon))
}

/// Tells that no daemon runs, and which one did.
fn stopped(run: &Run<'_>, ended: Option<&Hello>) -> Result<Exit, Failure> {
    let supervised = ended.is_some_and(|ended| ended.starter == Starter::ServiceManager);
    let again = format!("{} start {}", unit::systemctl(rustix::process::geteuid().is_root()), unit::NAME);
    if run.screen.json {
        run.screen.result(&json::document(&view::Ended {
            format_version: json::FORMAT_VERSION,
            stopped: ended.is_some(),
            pid: ended.map(|ended| ended.pid),
            start_with: supervised.then_some(again.as_str()),
        }))?;
        return Ok(Exit::Done);
    }
    if ended.is_none() {
        run.screen.say("No daemon runs.");
        return Ok(Exit::Done);
    }
    run.screen.say("The daemon has ended; nothing leaves sandboxes with an allowlist until it runs again.");
    if supervised {
        run.screen.say(&format!(
            "It was run by systemd, which does not start it again before the next boot; start it with: {again}"
        ));
    }
    Ok(Exit::Done)
}

/// Exit code 1 when none runs.
async fn status(run: &Run<'_>, place: &Place) -> Result<Exit, Failure> {
    let status = facts::status(place).await.map_err(|error| start::failure(&error))?;
    let document =
        view::Document { format_version: json::FORMAT_VERSION, running: status.is_some(), daemon: status.as_ref() };
    let text = if run.screen.json { json::document(&document) } else { view::status(status.as_ref(), run.screen.out) };
    run.screen.result(&text)?;
    Ok(if status.is_some() { Exit::Done } else { Exit::Failed })
}

fn install(run: &Run<'_>, person: &crate::caller::Person, place: &Place) -> Result<Exit, Failure> {
    let system = rustix::process::geteuid().is_root();
    let program = std::env::current_exe().map_err(|error| Failure::io("the path of this program", &error))?;
    let config = crate::caller::variable("XDG_CONFIG_HOME").map(std::path::PathBuf::from);
    let path = unit::path(system, &person.home, config.as_deref().filter(|_| !person.through_sudo));
    let changed = unit::write(&path, &unit::text(&program, place, system))?;
    let systemctl = unit::systemctl(system);
    let start = format!("{systemctl} daemon-reload && {systemctl} enable --now {}", unit::NAME);
    if run.screen.json {
        let document =
            view::Installed { format_version: json::FORMAT_VERSION, unit: &path, changed, start_with: &start };
        run.screen.result(&json::document(&document))?;
        return Ok(Exit::Done);
    }
    let verb = if changed { "Wrote" } else { "Nothing to do:" };
    run.screen.say(&format!("{verb} {}", path.display()));
    run.screen.say(&format!("Start it now and at each boot: {start}"));
    if !system {
        run.screen.say("For it to run while you are not logged in: loginctl enable-linger");
    }
    Ok(Exit::Done)
}
