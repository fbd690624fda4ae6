//! One file per command: its arguments, and what it does with them.

pub mod apply;
pub mod completion;
pub mod daemon;
pub mod destroy;
pub mod diff;
pub mod doctor;
pub mod egress;
pub mod exec;
pub mod explain;
pub mod init;
pub mod list;
pub mod lock;
pub mod logs;
pub mod man;
pub mod plan;
pub mod power;
pub mod schema;
pub mod selection;
pub mod shell;
pub mod status;
pub mod test;
pub mod validate;
pub mod version;

use crate::args::{Command, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

/// What every command is given.
#[derive(Debug)]
pub struct Run<'a> {
    /// Global options.
    pub global: Global,
    /// The output streams.
    pub screen: &'a Screen,
}

/// Runs `command`.
pub fn run(command: Command, run: &Run<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(&args, run),
        Command::Validate(args) => validate::run(&args, run),
        Command::Schema(args) => schema::run(&args, run),
        Command::Plan(args) => plan::run(&args, run),
        Command::Apply(args) => apply::run(&args, run),
        Command::Destroy(args) => destroy::run(&args, run),
        Command::Diff(args) => diff::run(&args, run),
        Command::Status(args) => status::run(&args, run),
        Command::List(args) => list::run(&args, run),
        Command::Start(args) => power::start(&args, run),
        Command::Stop(args) => power::stop(&args, run),
        Command::Restart(args) => power::restart(&args, run),
        Command::Exec(args) => exec::run(&args, run),
        Command::Shell(args) => shell::run(&args, run),
        Command::Logs(args) => logs::run(&args, run),
        Command::Explain(args) => explain::run(&args, run),
        Command::Test(args) => test::run(&args, run),
        Command::Lock(args) => lock::run(&args, run),
        Command::Egress(args) => egress::run(&args, run),
        Command::Daemon(args) => daemon::run(&args, run),
        Command::Doctor(args) => doctor::run(&args, run),
        Command::Completion(args) => completion::run(&args, run),
        Command::Man(args) => man::run(&args, run),
        Command::Version(args) => version::run(&args, run),
    }
}
