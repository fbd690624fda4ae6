//! The one place where typed errors become words, a cure and an exit code.

use std::ops::{Deref, DerefMut};

use reconciler::backend::{BackendError, ErrorKind};
use schema::LocatedDiagnostic;
use serde::Serialize;

use crate::exit::Exit;

/// Why a command could not do what it was asked. Boxed, because it travels in every result and seldom exists.
#[derive(Debug, Clone)]
pub struct Failure(Box<Reason>);

/// What a [`Failure`] knows.
#[derive(Debug, Clone)]
pub struct Reason {
    /// Decides the exit code.
    pub exit: Exit,
    /// Stable name, `sbx::lock-held`.
    pub code: &'static str,
    /// What went wrong; names the file, place or object.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it is written: `sandboxes.yaml:12:3`.
    pub origin: Option<String>,
    /// Lines that belong to it: what moved, what would be lost.
    pub details: Vec<String>,
    /// Problems of the configuration, for `--json`.
    pub diagnostics: Vec<LocatedDiagnostic>,
    /// The same problems as a report for people.
    pub report: Option<String>,
    /// Everything has been said already, or nobody listens any more.
    pub silent: bool,
}

/// The code of the one that is none.
const CLOSED: &str = "sbx::closed";

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    exit_code: u8,
    message: &'a str,
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diagnostics: &'a [LocatedDiagnostic],
}

impl Deref for Failure {
    type Target = Reason;
    fn deref(&self) -> &Reason {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Reason {
        &mut self.0
    }
}

impl Failure {
    /// A failure that ends the run with `exit`.
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Reason {
            exit,
            code,
            message: message.into(),
            help: None,
            origin: None,
            details: Vec::new(),
            diagnostics: Vec::new(),
            report: None,
            silent: false,
        }))
    }

    /// Exit code 1.
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    /// The user has to say more: exit code 73.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// Standard output cannot be written to. When its reader has gone, nothing is wrong, and nothing is left to say.
    pub fn output(error: &std::io::Error) -> Self {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            return Self::io("standard output", error);
        }
        let mut failure = Self::said(Exit::Done);
        failure.code = CLOSED;
        failure
    }

    /// Whether it is only that the reader of standard output has gone.
    pub fn is_closed(&self) -> bool {
        self.code == CLOSED
    }

    /// Everything has been said; only the exit code is left.
    pub fn said(exit: Exit) -> Self {
        let mut failure = Self::new(exit, "sbx::said", String::new());
        failure.silent = true;
        failure
    }

    /// An error of the engine or of git, met while doing `what` (`list containers`).
    pub fn backend(what: &str, error: BackendError) -> Self {
        let (exit, code) = kind(error.kind);
        let said = without_number(&error.message);
        let message = if what.is_empty() { said } else { format!("{what}: {said}") };
        let mut failure = Self::new(exit, code, message);
        failure.help = error.help;
        failure
    }

    /// An error of the operating system about a file or directory.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let failure = Self::failed("sbx::io", format!("{what}: {}", io_text(error)));
        match error.kind() {
            Io::PermissionDenied => failure.with_help("check the permissions, or run as the user who owns it"),
            Io::StorageFull | Io::QuotaExceeded => failure.with_help("free some space and run the command again"),
            Io::ReadOnlyFilesystem => failure.with_help("choose another place with --state-dir or XDG_DATA_HOME"),
            _ => failure,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With where it is written.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<String>) -> Self {
        self.origin = origin;
        self
    }

    /// With lines that belong to it.
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The JSON form: one document in the place of the result.
    pub fn to_json(&self) -> String {
        let document = Document {
            format_version: crate::render::json::FORMAT_VERSION,
            error: Body {
                code: self.code,
                exit_code: self.exit.code(),
                message: &self.message,
                help: self.help.as_deref(),
                origin: self.origin.as_deref(),
                details: &self.details,
                diagnostics: &self.diagnostics,
            },
        };
        crate::render::json::line(&document)
    }
}

/// Exit code and stable name of a kind of engine error.
pub fn kind(kind: ErrorKind) -> (Exit, &'static str) {
    match kind {
        ErrorKind::Unreachable => (Exit::Unreachable, "sbx::engine-unreachable"),
        ErrorKind::TimedOut => (Exit::TimedOut, "sbx::timed-out"),
        ErrorKind::Stale => (Exit::TryAgain, "sbx::stale-plan"),
        ErrorKind::NotFound => (Exit::Failed, "sbx::not-found"),
        ErrorKind::Conflict => (Exit::Failed, "sbx::conflict"),
        ErrorKind::Denied => (Exit::Failed, "sbx::denied"),
        ErrorKind::NoSpace => (Exit::Failed, "sbx::no-space"),
        ErrorKind::Transient => (Exit::Failed, "sbx::transient"),
        ErrorKind::Failed => (Exit::Failed, "sbx::failed"),
    }
}

/// What an I/O error says, without the `(os error 2)` that helps nobody.
pub fn io_text(error: &std::io::Error) -> String {
    let mut text = without_number(&error.to_string());
    if error.raw_os_error().is_some()
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_lowercase();
    }
    text
}

/// `text` without the number of an operating system error.
fn without_number(text: &str) -> String {
    match text.split_once(" (os error ") {
        Some((before, after)) => {
            let rest = after.split_once(')').map_or("", |(_, rest)| rest);
            format!("{before}{rest}")
        }
        None => text.to_owned(),
    }
}
