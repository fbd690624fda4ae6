//! `sbx exec`.

use reconciler::podman::ExecSpec;

use super::Run;
use super::selection::known;
use crate::attach::{attach, is_interactive};
use crate::configuration::{self, Surroundings};
use crate::engine::{Engine, Purpose};
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx exec api -- make test
  echo hello | sbx exec api -- cat
  sbx exec -e RUST_LOG=debug -w /srv api -- ./server

Exits with the exit code of the command.")]
pub struct Args {
    /// Give it no terminal, even if there is one
    #[arg(long, short = 'T')]
    no_tty: bool,
    /// Environment for the command; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<String>,
    /// Directory to run it in [default: the sandbox's workdir]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// User to run it as [default: the sandbox's user, who alone can read its secrets]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::completion::sandboxes())]
    sandbox: String,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a command.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let tty = !args.no_tty && is_interactive();
    let mut env = args.env.clone();
    if tty && let Some(term) = crate::caller::variable("TERM") {
        env.insert(0, format!("TERM={term}"));
    }
    let spec = ExecSpec {
        command: args.command.clone(),
        env,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        tty,
        stdin: true,
        size: None,
    };
    inside(run, &args.sandbox, |_| spec.clone())
}

/// Runs a command in a sandbox of the configuration; `spec` is told the sandbox.
pub(super) fn inside(
    run: &Run<'_>,
    sandbox: &str,
    spec: impl FnOnce(&schema::config::Sandbox) -> ExecSpec,
) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    known(&config, sandbox)?;
    let Some(written) = config.sandboxes.get(sandbox) else {
        return Err(Failure::new(Exit::Usage, "sbx::unknown-sandbox", format!("there is no sandbox {sandbox}")));
    };
    let spec = spec(written).in_sandbox();
    crate::runtime::block_on(async {
        let engine = Engine::connect(run, &surroundings, &config, false, Purpose::Reach).await?;
        let container = engine.running(&config, sandbox).await?;
        attach(engine.acting(&config).podman(), &container.id, spec).await
    })
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(String::from("expected NAME=VALUE")),
    }
}
