//! `sbx`: arguments, rendering, exit codes. What it does is in the crates `schema`, `reconciler` and `egress`.

mod args;
mod attach;
mod caller;
mod carried;
mod commands;
mod configuration;
mod consent;
mod converge;
mod counting;
mod daemon;
mod engine;
mod engine_address;
#[cfg(test)]
mod example;
mod exit;
mod failure;
mod history;
mod host;
mod input;
mod interrupt;
mod lock_file;
mod lockfile;
mod patch;
mod placed;
mod placed_etc;
mod placed_init;
mod project_files;
mod project_lock;
#[cfg(test)]
mod reference;
mod render;
mod replayed;
mod runtime;
mod saved_plan;
mod screen;
mod status;
mod terminal;
mod time_limit;
mod trust;

use std::process::ExitCode;

use crate::exit::Exit;
use crate::screen::Screen;

fn main() -> ExitCode {
    // Before anything else: what enters a sandbox's namespaces may not have a second thread.
    if std::env::args_os().nth(1).is_some_and(|word| word == egress::attach::ARGUMENT) {
        return egress::attach::child::main();
    }
    end_quietly_on_panic();
    clap_complete::CompleteEnv::with_factory(args::command).var(commands::completion::VARIABLE).complete();
    let (global, command) = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            if !error.use_stderr() {
                // Help and version are results; a closed stream changes nothing.
                let _ = error.print();
                return Exit::Done.into();
            }
            misused(&error);
            return Exit::Usage.into();
        }
    };
    let screen = Screen::new(&global);
    trace(&screen);
    match commands::run(command, &commands::Run { global, screen: &screen }) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen.fail(&failure);
            failure.exit.into()
        }
    }
}

/// Reports a command line that cannot be understood, as JSON where it asks for that.
fn misused(error: &clap::Error) {
    use std::io::Write as _;
    let asked = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    // A closed stream changes nothing: the exit code tells it too.
    if asked {
        let failure =
            failure::Failure::new(Exit::Usage, "sbx::usage", message(&error.to_string())).with_help("see `sbx --help`");
        let _ = writeln!(std::io::stdout(), "{}", failure.to_json());
    } else {
        let _ = error.print();
    }
}

/// What is wrong, of a report on a command line: its first paragraph, where missing arguments have lines of their own.
fn message(report: &str) -> String {
    let mut lines = report.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
    let more = lines.collect::<Vec<_>>().join(", ");
    format!("{first} {more}").trim_end().to_owned()
}

/// With `-v` what happens inside is told too. Without it nothing is set up: a small run must stay fast.
fn trace(screen: &Screen) {
    let level = match screen.verbose {
        0 => return,
        1 => "sbx=debug,reconciler=debug",
        _ => "trace",
    };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).with_ansi(screen.err.color).init();
}

#[expect(clippy::disallowed_methods, reason = "a panic cannot return an exit code")]
/// A panic is a bug: say so in one line and end with 1, whatever the build does about unwinding.
fn end_quietly_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        use std::io::Write as _;
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("unknown cause");
        terminal::restore();
        // Nothing can be done about a closed standard error here.
        let _ = writeln!(std::io::stderr(), "error: sbx has a bug: {message} ({place})\nhelp: please report it");
        std::process::exit(i32::from(Exit::Failed.code()));
    }));
}
