//! Exit codes, the same for every command.

use std::process::ExitCode;

/// How a run ended. The numbers are part of the command-line contract and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// `plan --detailed-exitcode`: there is something to do, or something that must not be touched.
    Changes,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong.
    Invalid,
    /// No engine answers.
    Unreachable,
    /// Needs a flag or a consent that was not given.
    Refused,
    /// May work when tried again: the lock is held, the plan is stale.
    TryAgain,
    /// A deadline passed.
    TimedOut,
    /// Interrupted.
    Interrupted,
    /// The exit code of a command that ran in a sandbox.
    Of(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::Usage => 64,
            Self::Invalid => 65,
            Self::Unreachable => 69,
            Self::Refused => 73,
            Self::TryAgain => 75,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
