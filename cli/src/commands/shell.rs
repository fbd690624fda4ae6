//! `sbx shell`.

use reconciler::podman::ExecSpec;

use super::Run;
use crate::attach::is_interactive;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx shell api
  sbx shell api --shell fish

Without --shell it is your own login shell where the sandbox has it, else
bash, else sh. Exits with its exit code.")]
pub struct Args {
    /// The sandbox
    #[arg(value_name = "SANDBOX", add = super::completion::sandboxes())]
    sandbox: String,
    /// The shell to run
    #[arg(long, value_name = "PROGRAM")]
    shell: Option<String>,
}

/// Looks for the shells it is given, in order, and becomes the first one that is there. A shell is the one program that
/// can look without needing another, and `sh` has to be there for any of this.
const CHOOSE: &str = r#"for shell in "$@"; do
  if command -v "$shell" >/dev/null 2>&1; then SHELL=$(command -v "$shell"); export SHELL; exec "$shell" -l; fi
done
exec sh -l"#;

/// Opens a shell.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let own = crate::caller::login_shell(rustix::process::getuid().as_raw());
    super::exec::inside(run, &args.sandbox, |sandbox| {
        let command: Vec<String> = if let Some(shell) = &args.shell {
            vec![shell.clone()]
        } else {
            let own = own.as_ref().map(|shell| shell.display().to_string());
            ["sh", "-c", CHOOSE, "sh"].map(String::from).into_iter().chain(own).chain([String::from("bash")]).collect()
        };
        let mut env = vec![format!("HOME={}", sandbox.user.home.display()), format!("USER={}", sandbox.user.name)];
        env.extend(crate::caller::variable("TERM").map(|term| format!("TERM={term}")));
        env.extend(crate::caller::variable("COLORTERM").map(|term| format!("COLORTERM={term}")));
        ExecSpec { command, env, workdir: None, user: None, tty: is_interactive(), stdin: true, size: None }
    })
}
