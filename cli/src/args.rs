//! The command line: global options, which may stand before or after the command, and one entry per command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::commands::{
    apply, completion, daemon, destroy, diff, doctor, egress, exec, explain, init, list, lock, logs, man, plan, power,
    schema, shell, status, test, validate, version,
};

/// Sandboxes from one YAML file, converged on Podman
#[derive(Debug, Parser)]
#[command(
    name = "sbx",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  sbx init                 write a sandboxes.yaml to start from
  sbx plan                 show what would change
  sbx apply                change it
  sbx shell api            a shell in sandbox api

Exit codes: 0 done, 1 failed, 64 usage, 65 invalid configuration, 69 engine
unreachable, 73 refused, 75 try again, 124 timed out, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented sandboxes.yaml
    Init(init::Args),
    /// Check the configuration, without an engine
    Validate(validate::Args),
    /// Print the JSON Schema of the configuration
    Schema(schema::Args),
    /// Show what apply would change
    Plan(plan::Args),
    /// Change what is there into what is written
    Apply(apply::Args),
    /// Remove everything of the project
    Destroy(destroy::Args),
    /// Show what differs, as unified text per resource
    Diff(diff::Args),
    /// Show the condition of every sandbox
    Status(status::Args),
    /// List the sandboxes
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Start sandboxes, and let them be started
    Start(power::StartArgs),
    /// Stop sandboxes, and let them be stopped
    Stop(power::StopArgs),
    /// Stop and start sandboxes
    Restart(power::RestartArgs),
    /// Run a command in a sandbox
    Exec(exec::Args),
    /// Open a shell in a sandbox
    Shell(shell::Args),
    /// Show the output of a sandbox's main process
    Logs(logs::Args),
    /// Say whether a sandbox may reach something, and why
    Explain(explain::Args),
    /// Run the tests and assertions of the configuration, without an engine
    Test(test::Args),
    /// Pin the digests of registry images in sandboxes.lock
    Lock(lock::Args),
    /// Show what sandboxes reach
    Egress(egress::Args),
    /// Run or look at the background process that lets traffic out
    Daemon(daemon::Args),
    /// Check what this host lacks or has wrong
    Doctor(doctor::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
    /// Write the manual pages
    Man(man::Args),
    /// Print the version
    Version(version::Args),
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Options every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file, - for standard input; later files merge over earlier ones [default: sandboxes.yaml]
    #[arg(short, long = "file", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Vec<PathBuf>,
    /// Engine to talk to: unix:///path, or, to look at one elsewhere, ssh://user@host/path [default: $CONTAINER_HOST, else
    /// Podman's socket, else an API service started for the run]
    #[arg(long, value_name = "URL")]
    pub engine_url: Option<String>,
    /// Print JSON: one document, or one event per line
    #[arg(long)]
    pub json: bool,
    /// Print results and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Tell more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour; NO_COLOR and CLICOLOR_FORCE are heeded
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Draw no progress
    #[arg(long)]
    pub no_progress: bool,
    /// Directory for history, locks and the daemon's records; root's locks are in /run/sbx/locks too [default: the user's state directory]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
}

impl Global {
    /// Options before the command and options after it, as if written in one row.
    fn followed_by(self, after: Self, color_given_after: bool) -> Self {
        Self {
            file: self.file.into_iter().chain(after.file).collect(),
            engine_url: after.engine_url.or(self.engine_url),
            json: self.json || after.json,
            quiet: self.quiet || after.quiet,
            verbose: self.verbose.saturating_add(after.verbose),
            color: if color_given_after { after.color } else { self.color },
            no_progress: self.no_progress || after.no_progress,
            state_dir: after.state_dir.or(self.state_dir),
        }
    }
}

/// The whole command line as clap knows it.
///
/// clap's own global arguments drop the ones before the command when there are some after it (`-f a plan -f b`), and
/// leave no room for `logs -f`; so every command gets the options itself.
pub fn command() -> clap::Command {
    let root = with_global(Cli::command());
    subcommands_with_global(root)
}

/// `command` whose subcommands, and theirs, have the global options.
fn subcommands_with_global(mut command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |sub| {
            let sub = subcommands_with_global(with_global(sub));
            // Where `-f` follows.
            if name == "logs" || name == "log" { sub.mut_arg("file", |file| file.short(None)) } else { sub }
        });
    }
    command
}

/// `command` with the global options. Adding arguments also takes over their type's description; it is put back.
fn with_global(command: clap::Command) -> clap::Command {
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    let about = about.unwrap_or_default();
    let long_about = long_about.unwrap_or_else(|| about.clone());
    Global::augment_args(command).about(about).long_about(long_about)
}

/// Reads the command line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Global, Command), clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = command().color(early_color(&arguments)).try_get_matches_from(arguments)?;
    read(&matches)
}

fn read(matches: &ArgMatches) -> Result<(Global, Command), clap::Error> {
    let mut global = Global::from_arg_matches(matches)?;
    let cli = Cli::from_arg_matches(matches)?;
    let mut matches = matches;
    while let Some((_, sub)) = matches.subcommand() {
        let given = sub.value_source("color") == Some(clap::parser::ValueSource::CommandLine);
        global = global.followed_by(Global::from_arg_matches(sub)?, given);
        matches = sub;
    }
    Ok((global, cli.command))
}

/// `--color` has to be known before parsing, for what parsing itself prints.
fn early_color(arguments: &[OsString]) -> clap::ColorChoice {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('='),
            None if word == "--" => break,
            None => None,
        };
        match value {
            Some("always") => return clap::ColorChoice::Always,
            Some("never") => return clap::ColorChoice::Never,
            _ => {}
        }
    }
    clap::ColorChoice::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(words: &[&str]) -> Global {
        let words = std::iter::once("sbx").chain(words.iter().copied()).map(OsString::from);
        parse(words).expect("the command line is right").0
    }

    #[test]
    fn clap_finds_nothing_wrong() {
        command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for_and_no_two_say_the_same() {
        let (written, all) = (Cli::command(), command());
        assert_eq!(all.get_about().map(ToString::to_string), written.get_about().map(ToString::to_string));
        let mut seen = std::collections::BTreeSet::new();
        for own in written.get_subcommands() {
            let name = own.get_name();
            let about = own.get_about().map(ToString::to_string).expect(name);
            let shown = all.find_subcommand(name).expect(name);
            assert_eq!(shown.get_about().map(ToString::to_string), Some(about.clone()), "{name}");
            assert_eq!(shown.get_long_about().map(ToString::to_string), Some(about.clone()), "{name}");
            assert!(
                !about.contains("Options every command takes") && !about.contains("Arguments of"),
                "{name}: {about}"
            );
            assert!(seen.insert(about), "{name} says what another command says");
        }
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        let both = global(&["-f", "a", "--json", "-v", "plan", "-f", "b", "-v"]);
        assert_eq!(both.file, [PathBuf::from("a"), PathBuf::from("b")]);
        assert!(both.json);
        assert_eq!(both.verbose, 2);
        assert_eq!(global(&["--color", "never", "plan"]).color, Color::Never);
        assert_eq!(global(&["--color", "never", "plan", "--color=always"]).color, Color::Always);
    }

    #[test]
    fn logs_follows_with_f_and_takes_files_before_it() {
        assert_eq!(global(&["-f", "a", "logs", "-f", "api"]).file, [PathBuf::from("a")]);
        assert_eq!(global(&["logs", "--file", "a", "api"]).file, [PathBuf::from("a")]);
    }
}
