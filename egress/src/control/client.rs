//! The end of the control socket that asks.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::handover::{Passed, receive_all};
use super::{ControlError, Hello, MAX_LINE, OLDEST, PROTOCOL, Request, Response, SecretValue, Starter, Status};

/// How long a daemon may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a predecessor may take over each sandbox.
const PASS_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a daemon that has said hello.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    /// Who answers.
    pub daemon: Hello,
}

impl Client {
    /// Connects to the daemon that listens on `socket`. `version` is the caller's own.
    ///
    /// # Errors
    /// [`ControlError::Absent`] when there is no socket, or nobody behind it; [`ControlError::Version`] when the daemon
    /// speaks no version of the protocol that is known here.
    pub async fn connect(socket: &Path, version: &str) -> Result<Self, ControlError> {
        Self::connect_knowing(PROTOCOL, socket, version).await
    }

    /// The same as a program whose newest version of the protocol is `newest`.
    pub(crate) async fn connect_knowing(newest: u32, socket: &Path, version: &str) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::Absent(socket.display().to_string()),
            _ => ControlError::Io(error),
        })?;
        let daemon = Hello { protocol: 0, version: String::new(), pid: 0, starter: Starter::default() };
        let mut client = Self { stream: BufReader::new(stream), daemon };
        let hello = Request::Hello { protocol: newest, version: version.to_owned() };
        let said = tokio::time::timeout(HELLO_WITHIN, client.ask(&hello)).await;
        match said.map_err(|_| ControlError::Io(ErrorKind::TimedOut.into()))?? {
            Response::Hello(hello) if (OLDEST..=newest).contains(&hello.protocol) => client.daemon = hello,
            Response::Hello(hello) => return Err(ControlError::Version(hello)),
            other => return Err(unexpected(&other)),
        }
        Ok(client)
    }

    /// Asks; a failure that the daemon reports is an error.
    pub async fn ask(&mut self, request: &Request) -> Result<Response, ControlError> {
        self.tell(request).await?;
        self.answer().await
    }

    /// The next answer to a question that has several.
    pub async fn answer(&mut self) -> Result<Response, ControlError> {
        match read_line(&mut self.stream).await? {
            Some(Response::Failed { message, replaced: true }) => Err(ControlError::Replaced(message)),
            Some(Response::Failed { message, .. }) => Err(ControlError::Failed(message)),
            Some(response) => Ok(response),
            None => Err(ControlError::Io(ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Says something whose answer is waited for already.
    pub async fn tell(&mut self, request: &Request) -> Result<(), ControlError> {
        let mut line = serde_json::to_vec(request).map_err(|error| ControlError::Protocol(error.to_string()))?;
        line.push(b'\n');
        Ok(self.stream.get_mut().write_all(&line).await?)
    }

    /// How things stand.
    pub async fn status(&mut self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status).await? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for something that is answered by [`Response::Done`].
    pub async fn order(&mut self, request: &Request) -> Result<(), ControlError> {
        match self.ask(request).await? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// What a daemon hands over.
#[derive(Debug)]
pub struct Inheritance {
    /// Sandboxes with their sockets.
    pub sandboxes: Vec<Passed>,
    /// Secrets by salted hash.
    pub secrets: BTreeMap<String, SecretValue>,
}

/// Asks the daemon behind `client` for all it has; it ends thereafter.
///
/// What of it is not handed over is attached anew.
///
/// # Errors
/// Nothing was handed over.
pub async fn take_over(mut client: Client) -> Result<Inheritance, ControlError> {
    let (count, secrets) = match client.ask(&Request::HandOver).await? {
        Response::Sandboxes { count, secrets } => (count, secrets),
        other => return Err(unexpected(&other)),
    };
    // It has ended by our word: whatever comes of the rest, what is there already is kept.
    let sandboxes = received(client.stream.into_inner(), count).await.unwrap_or_else(|error| {
        tracing::warn!(%error, announced = count, "no sandbox was handed over");
        Vec::new()
    });
    Ok(Inheritance { sandboxes, secrets })
}

async fn received(mut stream: UnixStream, count: usize) -> std::io::Result<Vec<Passed>> {
    stream.write_all(&[1]).await?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PASS_WITHIN))?;
    tokio::task::spawn_blocking(move || receive_all(&mut stream, count)).await.map_err(std::io::Error::other)
}

/// What was said instead.
fn unexpected(response: &Response) -> ControlError {
    let text = serde_json::to_string(response).unwrap_or_default();
    let kind = text.split('"').nth(3).unwrap_or("nothing").to_owned();
    ControlError::Protocol(format!("answer {kind}"))
}

/// One document; `None` at the end of the stream.
pub(super) async fn read_line<T: serde::de::DeserializeOwned>(
    stream: &mut BufReader<UnixStream>,
) -> Result<Option<T>, ControlError> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let read = stream.take(limit).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(ControlError::Protocol("a line that does not end".to_owned()));
    }
    // The text of the error would quote what may be a secret.
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| ControlError::Protocol(format!("a line that cannot be read (column {})", error.column())))
}
