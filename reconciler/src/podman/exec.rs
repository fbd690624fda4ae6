//! Running a command in a sandbox.

use hyper::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, ReadHalf, WriteHalf};

use super::Podman;
use super::client::{QUICK, encode_name, with_query};
use super::create::INIT;
use super::logs::Output;
use super::wire::{InspectedExec, Made};
use crate::backend::{BackendError, ErrorKind};

/// Largest piece taken from a stream at once. The frame header's length is the engine's word, not a size to allocate.
const PIECE: usize = 32 * 1024;

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Additional environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; the container's own when absent.
    pub workdir: Option<String>,
    /// `uid:gid` or a name; the container's own when absent.
    pub user: Option<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether standard input is attached.
    pub stdin: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
}

impl ExecSpec {
    /// The same by way of PID 1's program, which gives the command the secrets of the main process and then becomes it.
    /// Variables set here win over secrets, as they do over all others.
    #[must_use]
    pub fn in_sandbox(mut self) -> Self {
        let set = self.env.iter().filter_map(|variable| variable.split('=').next()).map(str::to_owned);
        let words = [INIT, "exec"].map(str::to_owned).into_iter().chain(set).chain(["--".to_owned()]);
        self.command = words.chain(self.command).collect();
        self
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct ExecSession {
    podman: Podman,
    id: String,
    tty: bool,
    reader: ReadHalf<TokioIo<Upgraded>>,
    writer: Option<WriteHalf<TokioIo<Upgraded>>>,
    /// Bytes left of the frame being read, and whether it is standard error's.
    frame: (usize, bool),
}

impl Podman {
    /// Starts a command in a running container.
    pub async fn exec(&self, container: &str, spec: &ExecSpec) -> Result<ExecSession, BackendError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Create<'a> {
            cmd: &'a [String],
            env: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            working_dir: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            user: Option<&'a str>,
            tty: bool,
            attach_stdin: bool,
            attach_stdout: bool,
            attach_stderr: bool,
            privileged: bool,
        }
        #[derive(Serialize)]
        struct Start {
            #[serde(rename = "Detach")]
            detach: bool,
            #[serde(rename = "Tty")]
            tty: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            h: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            w: Option<u16>,
        }
        let create = Create {
            cmd: &spec.command,
            env: &spec.env,
            working_dir: spec.workdir.as_deref(),
            user: spec.user.as_deref(),
            tty: spec.tty,
            attach_stdin: spec.stdin,
            attach_stdout: true,
            attach_stderr: true,
            privileged: false,
        };
        let path = format!("/containers/{}/exec", encode_name(container));
        let answer = self.client().post(&path, &create, QUICK).await?;
        let made: Made = serde_json::from_slice(&answer).map_err(|error| super::error::malformed("exec", &error))?;
        let (h, w) = spec.size.filter(|_| spec.tty).unzip();
        let start = Start { detach: false, tty: spec.tty, h, w };
        let stream = self.client().hijack(&format!("/exec/{}/start", made.id), &start).await?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(ExecSession {
            podman: self.clone(),
            id: made.id,
            tty: spec.tty,
            reader,
            writer: Some(writer),
            frame: (0, false),
        })
    }
}

impl ExecSession {
    /// Where the command's standard input is written; can be taken once. Shutting it down is end of file.
    pub fn take_stdin(&mut self) -> Option<WriteHalf<TokioIo<Upgraded>>> {
        self.writer.take()
    }

    /// A handle that can resize the terminal while this one reads.
    pub fn resizer(&self) -> Resizer {
        Resizer { podman: self.podman.clone(), id: self.id.clone() }
    }

    /// The next piece of output; `None` when the command has ended.
    pub async fn next(&mut self) -> Result<Option<Output>, BackendError> {
        let broken = |error: std::io::Error| {
            BackendError::new(ErrorKind::Transient, format!("the command's output broke off: {error}"))
        };
        let mut piece = vec![0; PIECE];
        if self.tty {
            let read = self.reader.read(&mut piece).await.map_err(broken)?;
            piece.truncate(read);
            return Ok((read > 0).then_some(Output::Stdout(piece)));
        }
        while self.frame.0 == 0 {
            let mut head = [0; 8];
            match self.reader.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(broken(error)),
            }
            let [stream, _, _, _, length @ ..] = head;
            self.frame = (u32::from_be_bytes(length) as usize, stream == 2);
        }
        let (left, stderr) = self.frame;
        let read = self.reader.read(&mut piece[..left.min(PIECE)]).await.map_err(broken)?;
        if read == 0 {
            return Ok(None);
        }
        piece.truncate(read);
        self.frame.0 -= read;
        Ok(Some(if stderr { Output::Stderr(piece) } else { Output::Stdout(piece) }))
    }

    /// The command's exit code, after its output ended.
    pub async fn exit_code(&mut self) -> Result<i32, BackendError> {
        let path = format!("/exec/{}/json", self.id);
        // The stream ends a little before the engine has noted the end.
        for pause in [0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000] {
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            let inspected: InspectedExec = self.podman.client().get(&path).await?;
            if !inspected.running {
                return Ok(inspected.exit_code);
            }
        }
        Err(BackendError::new(ErrorKind::Transient, "the connection ended, but the command still runs"))
    }
}

/// Resizes a session's terminal.
#[derive(Debug, Clone)]
pub struct Resizer {
    podman: Podman,
    id: String,
}

impl Resizer {
    /// Tells the terminal its size.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), BackendError> {
        let path =
            with_query(&format!("/exec/{}/resize", self.id), &[("h", &rows.to_string()), ("w", &columns.to_string())]);
        self.podman.client().call(Method::POST, &path, QUICK).await.map(drop)
    }
}
