//! A small HTTP client on the engine's socket.
//!
//! It does what `podman-api` cannot: create with every security field, inspect of all versions, update, hijacked exec
//! streams, and uploads that are not held in memory. One connection per request: connecting to a local socket costs
//! less than keeping a pool honest.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error;
use crate::backend::BackendError;

/// Enough for any single look.
pub(crate) const QUICK: Duration = Duration::from_secs(30);
/// Enough for what works on storage: create, start, remove, commit of something small.
pub(crate) const SLOW: Duration = Duration::from_mins(3);
/// How long a stream may stay silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);
/// Enough for building or loading between two signs of life: a `RUN` line may print nothing for long.
pub(crate) const LONG_SILENCE: Duration = Duration::from_mins(30);

/// Body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What carries the requests of one [`SendRequest`].
type Connection = http1::Connection<TokioIo<UnixStream>, Body>;

/// A body held in memory.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer that was read to its end.
pub(crate) struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: hyper::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body, when the status says success.
    pub(crate) fn ok(self) -> Result<Bytes, BackendError> {
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            Ok(self.body)
        } else {
            Err(error::from_response(self.status, &self.body))
        }
    }
}

/// Where the engine listens.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    async fn open(&self) -> Result<(SendRequest<Body>, Connection), BackendError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| error::from_connect(&self.socket, &error))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error::from_hyper(&error))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, BackendError> {
        let (mut sender, connection) = self.open().await?;
        // Ends with the exchange; an error in it reaches the sender as well.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| error::from_hyper(&error))
    }

    /// One exchange, read to its end within `deadline`.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Body,
        deadline: Duration,
    ) -> Result<Reply, BackendError> {
        let request = request(method, path, content_type, body)?;
        timeout(deadline, async {
            let (mut sender, connection) = self.open().await?;
            let talk = pin!(async {
                let response = sender.send_request(request).await.map_err(|error| error::from_hyper(&error))?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(|error| error::from_hyper(&error))?.to_bytes();
                Ok(Reply { status: head.status, headers: head.headers, body })
            });
            // Both in this task: another one would have to be woken for every piece.
            match select(talk, pin!(connection)).await {
                Either::Left((reply, _)) => reply,
                // An error in it reaches the sender as well.
                Either::Right((_, talk)) => talk.await,
            }
        })
        .await
        .map_err(|_| error::timed_out(what(path), deadline))?
    }

    /// Reads JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BackendError> {
        let body = self.exchange(Method::GET, path, JSON, full(""), QUICK).await?.ok()?;
        serde_json::from_slice(&body).map_err(|error| error::malformed(what(path), &error))
    }

    /// Sends JSON; the answer's bytes.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<Bytes, BackendError> {
        let text = serde_json::to_vec(body).map_err(|error| error::malformed(what(path), &error))?;
        self.exchange(Method::POST, path, JSON, full(text), deadline).await?.ok()
    }

    /// Sends nothing but the request itself.
    pub(crate) async fn call(&self, method: Method, path: &str, deadline: Duration) -> Result<Bytes, BackendError> {
        self.exchange(method, path, JSON, full(""), deadline).await?.ok()
    }

    /// Whether something is there: the engine's `exists` addresses answer 204 or 404.
    pub(crate) async fn exists(&self, path: &str) -> Result<bool, BackendError> {
        let reply = self.exchange(Method::GET, path, JSON, full(""), QUICK).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => reply.ok().map(|_| true),
        }
    }

    /// An exchange whose answer comes in pieces. The deadline is the silence each piece may take.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Body,
        silence: Duration,
    ) -> Result<Pieces, BackendError> {
        let request = request(method, path, content_type, body)?;
        let response =
            timeout(silence, self.send(request)).await.map_err(|_| error::timed_out(what(path), silence))??;
        if !response.status().is_success() {
            let status = response.status();
            let body = timeout(QUICK, response.into_body().collect())
                .await
                .map_err(|_| error::timed_out(what(path), QUICK))?
                .map_err(|error| error::from_hyper(&error))?;
            return Err(error::from_response(status, &body.to_bytes()));
        }
        Ok(Pieces { body: response.into_body(), silence, what: what(path).to_owned() })
    }

    /// Takes the connection over: what follows is a raw stream in both directions.
    pub(crate) async fn hijack(&self, path: &str, body: &impl Serialize) -> Result<TokioIo<Upgraded>, BackendError> {
        let text = serde_json::to_vec(body).map_err(|error| error::malformed(what(path), &error))?;
        let mut request = request(Method::POST, path, JSON, full(text))?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
        let response = timeout(QUICK, self.send(request)).await.map_err(|_| error::timed_out(what(path), QUICK))??;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = timeout(QUICK, hyper::upgrade::on(response)).await;
            let upgraded = upgraded.map_err(|_| error::timed_out(what(path), QUICK))?;
            return upgraded.map(TokioIo::new).map_err(|error| error::from_hyper(&error));
        }
        let status = response.status();
        let body = timeout(QUICK, response.into_body().collect())
            .await
            .map_err(|_| error::timed_out(what(path), QUICK))?
            .map_err(|error| error::from_hyper(&error))?;
        Err(error::from_response(status, &body.to_bytes()))
    }
}

/// The pieces of an answer.
pub(crate) struct Pieces {
    body: Incoming,
    silence: Duration,
    what: String,
}

impl Pieces {
    /// The same whose pieces may take however long.
    pub(crate) fn however_long(self) -> Self {
        Self { silence: Duration::MAX, ..self }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BackendError> {
        loop {
            let frame = timeout(self.silence, self.body.frame())
                .await
                .map_err(|_| error::timed_out(&self.what, self.silence))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(error::from_hyper(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All pieces as lines, each given to `each`.
    pub(crate) async fn lines(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), BackendError> + Send,
    ) -> Result<(), BackendError> {
        let mut rest = Vec::new();
        while let Some(piece) = self.next().await? {
            rest.extend_from_slice(&piece);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                each(&rest[..end])?;
                rest.drain(..=end);
            }
        }
        if rest.iter().all(u8::is_ascii_whitespace) { Ok(()) } else { each(&rest) }
    }
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const TAR: &str = "application/x-tar";
/// Form types are eaten by the engine's query parser.
pub(crate) const BYTES: &str = "application/octet-stream";

/// Oldest API that has everything; every 4.x and 5.x engine serves it.
const PREFIX: &str = "/v4.0.0/libpod";

fn request(method: Method, path: &str, content_type: &str, body: Body) -> Result<Request<Body>, BackendError> {
    Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"))
        .header(HOST, "d")
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .map_err(|error| {
            BackendError::new(crate::backend::ErrorKind::Failed, format!("cannot ask for {path}: {error}"))
        })
}

/// The address without its query, for messages.
fn what(path: &str) -> &str {
    path.split('?').next().unwrap_or(path).trim_start_matches('/')
}

/// `text` as one piece of a path or a query value.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// A name as part of a path. Image references keep their slashes: the engine's router wants them so.
pub(crate) fn encode_name(text: &str) -> String {
    encode(text).replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

/// `path?key=value&…`.
pub(crate) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(
            with_query("/a", &[("f", r#"{"label":["x=ä b"]}"#)]),
            "/a?f=%7B%22label%22%3A%5B%22x%3D%C3%A4%20b%22%5D%7D"
        );
        assert_eq!(with_query("/a", &[]), "/a");
        assert_eq!(what("/containers/json?all=true"), "containers/json");
    }
}
