//! One run of git: explicit arguments, a scrubbed environment, a deadline.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{Git, Progress, failure};
use crate::backend::{BackendError, ErrorKind};
use crate::process_group::ProcessGroup;

/// What every call says, whatever configuration it reads: nothing here may start a program.
const ALWAYS: &[&str] = &[
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.pager=cat",
    "-c",
    "core.editor=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "core.untrackedCache=false",
    "-c",
    "core.logAllRefUpdates=false",
    "-c",
    "core.alternateRefsCommand=true",
    "-c",
    "diff.external=",
    "-c",
    "gpg.program=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "submodule.recurse=false",
    "-c",
    "fetch.recurseSubmodules=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "advice.detachedHead=false",
];

/// `GIT_*` variables of the caller that say how to reach a remote, and nothing else.
const TRANSPORT: &[&str] = &[
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
    "GIT_HTTP_PROXY_AUTHMETHOD",
];

/// Most bytes taken from standard output: a worktree can hold any number of files.
const MOST_OUTPUT: u64 = 64 << 20;

/// Whose configuration a call reads besides its git directory's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Nobody's.
    Nothing,
    /// The user's and the system's: it reaches a remote.
    Users,
}

/// A call being put together.
pub(super) struct Call<'a> {
    git: &'a Git,
    reads: Reads,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    progress: Option<Progress<'a>>,
    input: Option<PathBuf>,
}

/// What came of a call.
pub(super) struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// The last lines of standard error that are not progress.
    pub stderr: Vec<String>,
}

impl Git {
    /// A call of `git` with `args` after the options every call has.
    pub(super) fn call<I, S>(&self, reads: Reads, args: I) -> Call<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Call { git: self, reads, args, env: Vec::new(), progress: None, input: None }
    }
}

impl<'a> Call<'a> {
    /// With a variable of git's.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// With a file as its standard input.
    pub fn input(mut self, path: &Path) -> Self {
        self.input = Some(path.to_owned());
        self
    }

    /// With progress told.
    pub fn progress(mut self, progress: Progress<'a>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Runs it; an exit code other than 0 is an error.
    pub async fn run(self) -> Result<Vec<u8>, BackendError> {
        let output = self.output().await?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure::classify(&output)) }
    }

    /// Runs it to its end, or kills it and all it started when the deadline passes.
    pub async fn output(self) -> Result<Output, BackendError> {
        let options = &self.git.options;
        let deadline = match self.reads {
            Reads::Nothing => options.local_deadline,
            Reads::Users => options.remote_deadline,
        };
        let mut command = Command::new(&options.program);
        self.set_environment(&mut command);
        // A place with no repository above it, should one ever be looked for.
        command.args(ALWAYS).args(&self.args).current_dir(Path::new("/"));
        let input = match &self.input {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| failure::file("read", path, &error))?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let asks = options.interactive && self.reads == Reads::Users;
        if !asks {
            // A group of its own: an interrupt at the terminal lets the step in hand finish.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| start_error(&options.program, &error))?;
        let group = if asks { ProcessGroup::none() } else { ProcessGroup::of(&child) };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (stdout, stderr) = tokio::join!(read_all(stdout), read_lines(stderr, self.progress));
            let stdout = stdout?;
            let status = child.wait().await.map_err(|error| {
                BackendError::new(ErrorKind::Failed, format!("git could not be waited for: {error}"))
            })?;
            Ok(Output { status, stdout, stderr })
        };
        let result = tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(timed_out(deadline)));
        if result.is_ok() {
            group.ended();
        }
        result
    }

    fn set_environment(&self, command: &mut Command) {
        let options = &self.git.options;
        command.env_clear();
        for (name, value) in &options.env {
            let text = name.to_string_lossy();
            if !text.starts_with("GIT_") || (self.reads == Reads::Users && TRANSPORT.contains(&&*text)) {
                command.env(name, value);
            }
        }
        command.env("LC_ALL", "C").env_remove("LANGUAGE").env("GIT_ATTR_NOSYSTEM", "1");
        // Clones are made with the reference storage every supported git reads.
        command.env("GIT_DEFAULT_REF_FORMAT", "files");
        match self.reads {
            Reads::Nothing => {
                command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
                command.env("GIT_CONFIG_NOSYSTEM", "1");
            }
            Reads::Users if !options.interactive => {
                command.env("GIT_TERMINAL_PROMPT", "0").env("SSH_ASKPASS_REQUIRE", "force");
                if !options.env.contains_key(OsStr::new("SSH_ASKPASS")) {
                    // Fails at once, where ssh would open the terminal.
                    command.env("SSH_ASKPASS", "false");
                }
            }
            Reads::Users => {}
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
    }
}

fn start_error(program: &Path, error: &std::io::Error) -> BackendError {
    if error.kind() == std::io::ErrorKind::NotFound {
        let message = format!("`{}` is not installed", program.display());
        return BackendError::new(ErrorKind::NotFound, message).with_help("install git 2.36 or newer");
    }
    BackendError::new(ErrorKind::Failed, format!("cannot start `{}`: {error}", program.display()))
}

fn timed_out(deadline: Duration) -> BackendError {
    BackendError::new(ErrorKind::TimedOut, format!("git did not finish within {} s", deadline.as_secs()))
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, BackendError> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    let failed = |error| BackendError::new(ErrorKind::Failed, format!("git's output could not be read: {error}"));
    pipe.take(MOST_OUTPUT).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 == MOST_OUTPUT {
        return Err(BackendError::new(ErrorKind::Failed, "git printed more than 64 MiB"));
    }
    Ok(bytes)
}

/// Reads lines ended by a line feed or, as progress is, by a carriage return. Keeps the last ones that are not progress.
async fn read_lines(pipe: Option<impl AsyncRead + Unpin>, progress: Option<Progress<'_>>) -> Vec<String> {
    const KEPT: usize = 30;
    const LONGEST: usize = 4096;
    let mut kept: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let Some(mut pipe) = pipe else { return Vec::new() };
    let (mut line, mut buffer) = (Vec::new(), [0_u8; 4096]);
    let mut end_line = |line: &mut Vec<u8>, is_progress: bool| {
        let text = clean(&String::from_utf8_lossy(line));
        line.clear();
        if text.is_empty() {
            return;
        }
        if let Some(progress) = progress {
            progress(&text);
        }
        if !is_progress {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(text);
        }
    };
    // ssh ends its lines with both: only a return that no line feed follows is progress.
    let mut returned = false;
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        for byte in &buffer[..count] {
            if returned && *byte != b'\n' {
                end_line(&mut line, true);
            }
            returned = *byte == b'\r';
            match byte {
                b'\r' => {}
                b'\n' => end_line(&mut line, false),
                _ if line.len() < LONGEST => line.push(*byte),
                _ => {}
            }
        }
    }
    end_line(&mut line, false);
    kept.into()
}

/// A remote may send anything: no control characters reach a terminal, and no password of an address a log.
fn clean(line: &str) -> String {
    let printable: String = line.chars().filter(|c| !c.is_control()).collect();
    super::remote::redact(printable.trim())
}
