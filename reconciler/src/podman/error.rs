//! What an engine's failure means.
//!
//! The status code alone does not tell: an unknown image and a name in use both answer 500. The text decides first.

use std::io;
use std::path::Path;

use hyper::StatusCode;
use serde::Deserialize;

use crate::backend::{BackendError, ErrorKind};

/// Texts of the engine and the kernel, in the order they are looked for.
const TEXTS: &[(&str, ErrorKind)] = &[
    ("no space left on device", ErrorKind::NoSpace),
    ("disk quota exceeded", ErrorKind::NoSpace),
    ("database is locked", ErrorKind::Transient),
    ("resource temporarily unavailable", ErrorKind::Transient),
    ("too many open files", ErrorKind::Transient),
    ("connection reset by peer", ErrorKind::Transient),
    ("unexpected eof", ErrorKind::Transient),
    ("no available locks", ErrorKind::Transient),
    ("temporary failure in name resolution", ErrorKind::Transient),
    // Another process has just removed the image.
    ("layer not known", ErrorKind::Transient),
    // The engine has tried several times by then.
    ("tls handshake timeout", ErrorKind::TimedOut),
    ("i/o timeout", ErrorKind::TimedOut),
    ("deadline exceeded", ErrorKind::TimedOut),
    ("already in use", ErrorKind::Conflict),
    ("already exists", ErrorKind::Conflict),
    ("name in use", ErrorKind::Conflict),
    ("is being used", ErrorKind::Conflict),
    ("is in use", ErrorKind::Conflict),
    ("has dependent containers", ErrorKind::Conflict),
    ("unauthorized", ErrorKind::Denied),
    ("authentication required", ErrorKind::Denied),
    ("access to the resource is denied", ErrorKind::Denied),
    ("permission denied", ErrorKind::Denied),
    ("operation not permitted", ErrorKind::Denied),
    ("manifest unknown", ErrorKind::NotFound),
    ("image not known", ErrorKind::NotFound),
    ("no such container", ErrorKind::NotFound),
    ("no such image", ErrorKind::NotFound),
    ("no such volume", ErrorKind::NotFound),
    ("no such network", ErrorKind::NotFound),
    ("no such secret", ErrorKind::NotFound),
    ("no such exec session", ErrorKind::NotFound),
    ("unable to find network", ErrorKind::NotFound),
    ("network not found", ErrorKind::NotFound),
];

/// The engine's error body. `cause` is the innermost error, `message` the whole chain.
#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    cause: String,
    #[serde(default)]
    message: String,
}

/// The kind of a failure described by `text`, if the text tells.
pub(crate) fn kind_of_text(text: &str) -> Option<ErrorKind> {
    let text = text.to_ascii_lowercase();
    TEXTS.iter().find(|(needle, _)| text.contains(needle)).map(|(_, kind)| *kind)
}

/// A failure described by `text` alone, as in the items of a pull or build stream.
pub(crate) fn from_text(text: &str) -> BackendError {
    BackendError::new(kind_of_text(text).unwrap_or(ErrorKind::Failed), text.trim()).help_from(help_for(text))
}

/// A failure answer of the engine.
pub(crate) fn from_response(status: StatusCode, body: &[u8]) -> BackendError {
    let text = match serde_json::from_slice::<Fault>(body) {
        Ok(fault) if !fault.message.is_empty() => fault.message,
        Ok(fault) if !fault.cause.is_empty() => fault.cause,
        _ => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            if text.is_empty() { format!("the engine answered {status}") } else { text.to_owned() }
        }
    };
    from_status(status.as_u16(), &text)
}

fn from_status(status: u16, text: &str) -> BackendError {
    let kind = kind_of_text(text).unwrap_or(match status {
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        408 | 504 => ErrorKind::TimedOut,
        429 | 502 | 503 => ErrorKind::Transient,
        _ => ErrorKind::Failed,
    });
    BackendError::new(kind, text.trim()).help_from(help_for(text))
}

/// What to do, for failures people meet often.
fn help_for(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    if text.contains("no space left") {
        Some("free some space where the engine keeps its storage, `podman system df` shows what takes it")
    } else if text.contains("manifest unknown") {
        Some("check the tag or digest of the image")
    } else if text.contains("unauthorized") || text.contains("authentication required") {
        Some("log in with `podman login`, then try again")
    } else if text.contains("short-name") {
        Some("write the image with its registry, or configure unqualified-search-registries")
    } else {
        None
    }
}

/// A failed connection to the engine's socket.
pub(crate) fn from_connect(socket: &Path, error: &io::Error) -> BackendError {
    let message = format!("cannot connect to the engine at {}: {error}", socket.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => BackendError::new(ErrorKind::Denied, message)
            .with_help("use a socket of your own user, or ask for access to this one"),
        // A full accept queue.
        io::ErrorKind::WouldBlock => BackendError::new(ErrorKind::Transient, message),
        _ => BackendError::new(ErrorKind::Unreachable, message)
            .with_help("start the engine's API service: `systemctl --user start podman.socket`"),
    }
}

/// A failure in the middle of an exchange.
pub(crate) fn from_hyper(error: &hyper::Error) -> BackendError {
    let message = format!("the exchange with the engine broke off: {error}");
    if error.is_parse() {
        return BackendError::new(ErrorKind::Failed, format!("the engine's answer is not HTTP: {error}"));
    }
    BackendError::new(ErrorKind::Transient, message)
}

/// An answer that is not what it should be.
pub(crate) fn malformed(what: &str, error: &serde_json::Error) -> BackendError {
    let kind = if error.is_eof() { ErrorKind::Transient } else { ErrorKind::Failed };
    BackendError::new(kind, format!("the engine's answer to {what} cannot be read: {error}"))
}

/// A failure reported by `podman-api`.
pub(crate) fn from_api(error: &podman_api::Error) -> BackendError {
    match error {
        podman_api::Error::Fault { code, message } => from_status(code.as_u16(), message),
        podman_api::Error::IO(error) => from_text(&error.to_string()),
        podman_api::Error::SerdeJsonError(error) => malformed("a request", error),
        other => {
            let text = other.to_string();
            let kind = if text.contains("connect") { ErrorKind::Unreachable } else { ErrorKind::Failed };
            BackendError::new(kind_of_text(&text).unwrap_or(kind), text)
        }
    }
}

/// A deadline that passed.
pub(crate) fn timed_out(what: &str, after: std::time::Duration) -> BackendError {
    BackendError::new(ErrorKind::TimedOut, format!("{what}: no answer from the engine for {} s", after.as_secs()))
}

impl BackendError {
    pub(crate) fn help_from(mut self, help: Option<&str>) -> Self {
        if self.help.is_none() {
            self.help = help.map(str::to_owned);
        }
        self
    }

    /// The same failure, told with what was being done.
    pub(crate) fn context(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_decide_before_status_codes() {
        let cases: &[(u16, &str, ErrorKind)] = &[
            (
                500,
                r#"{"cause":"no such image","message":"localhost/x: image not known","response":500}"#,
                ErrorKind::NotFound,
            ),
            (
                500,
                r#"{"cause":"volume already exists","message":"volume with name v already exists: volume already exists","response":500}"#,
                ErrorKind::Conflict,
            ),
            (
                409,
                r#"{"cause":"network already exists","message":"network n: network already exists","response":409}"#,
                ErrorKind::Conflict,
            ),
            (
                500,
                r#"{"cause":"secret name in use","message":"s: secret name in use","response":500}"#,
                ErrorKind::Conflict,
            ),
            (
                500,
                r#"{"cause":"that name is already in use","message":"creating container storage: the container name \"c\" is already in use by 1","response":500}"#,
                ErrorKind::Conflict,
            ),
            (
                500,
                r#"{"cause":"no space left on device","message":"write /var/x: no space left on device","response":500}"#,
                ErrorKind::NoSpace,
            ),
            (
                500,
                r#"{"cause":"x","message":"beginning transaction: database is locked","response":500}"#,
                ErrorKind::Transient,
            ),
            (
                404,
                r#"{"cause":"no such container","message":"no container with name or ID \"c\" found","response":404}"#,
                ErrorKind::NotFound,
            ),
            (503, "", ErrorKind::Transient),
            (400, "not json", ErrorKind::Failed),
            (
                500,
                r#"{"cause":"operation not permitted","message":"runc: setrlimit: operation not permitted: OCI permission denied","response":500}"#,
                ErrorKind::Denied,
            ),
        ];
        for (status, body, kind) in cases {
            let status = StatusCode::from_u16(*status).expect("valid");
            let error = from_response(status, body.as_bytes());
            assert_eq!(error.kind, *kind, "{body}");
            assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn connection_errors() {
        let socket = Path::new("/x.sock");
        for (io_kind, kind) in [
            (io::ErrorKind::NotFound, ErrorKind::Unreachable),
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unreachable),
            (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
            (io::ErrorKind::WouldBlock, ErrorKind::Transient),
        ] {
            assert_eq!(from_connect(socket, &io_kind.into()).kind, kind);
        }
    }
}
