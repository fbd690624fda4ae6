//! Targets and paths in the one canonical form that everything decides by.

use std::borrow::Cow;
use std::fmt;

use super::{Host, HostError};

/// What somebody wants to reach, as far as it is known: `https://api.example.org/v1`, `ssh://example.org:22`,
/// `tcp://192.0.2.7:5432`, `udp://example.org:123`. A method comes beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Lower case.
    pub scheme: String,
    /// The host.
    pub host: Host,
    /// The port, the scheme's usual one where none is written.
    pub port: u16,
    /// Path, for `http` and `https` (and `ws`, `wss`).
    pub path: Option<RequestPath>,
}

/// The path of a request, canonical: dot segments resolved, escapes of unreserved characters undone, other escapes in
/// upper case, repeated slashes kept apart from single ones by refusal. Query not included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    path: String,
    encoded_separators: bool,
}

/// Why a text is no target, or a path is refused whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No `scheme://`.
    #[error("write a URL with its scheme: https://host/path, ssh://host:22, tcp://host:5432")]
    Scheme,
    /// A user name or password in it.
    #[error("a URL with a user name in it is refused")]
    UserInfo,
    /// The host.
    #[error("host: {0}")]
    Host(#[from] HostError),
    /// The port is no number from 1 to 65535, or the scheme has no usual one.
    #[error("write a port from 1 to 65535")]
    Port,
    /// A control character, space, non-ASCII byte, backslash or NUL; or an escape of a control character.
    #[error("the path has a character that no path may have")]
    Character,
    /// A percent sign that no two hex digits follow.
    #[error("the path has a `%` that no two hex digits follow")]
    Percent,
    /// `//`: servers disagree whether it is the same as `/`.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `;` parameters: servers disagree whether they are part of a segment.
    #[error("the path has a `;` beside a dot segment")]
    Parameter,
    /// More `..` than segments.
    #[error("the path leads above its root")]
    AboveRoot,
}

impl RequestPath {
    /// From what a request line has, query and fragment cut off by the caller or not.
    pub fn parse(raw: &str) -> Result<Self, TargetError> {
        let raw = raw.split(['?', '#']).next().unwrap_or(raw);
        if !raw.starts_with('/') {
            return Err(TargetError::Character);
        }
        if raw.bytes().any(|byte| !(0x21..0x7f).contains(&byte) || byte == b'\\') {
            return Err(TargetError::Character);
        }
        let path = canonical_escapes(raw).ok_or(TargetError::Percent)?;
        // Escapes that are left are in upper case. Control characters have no place in a path.
        if path.split('%').skip(1).any(|rest| rest.starts_with(['0', '1']) || rest.starts_with("7F")) {
            return Err(TargetError::Character);
        }
        if path.contains("//") {
            return Err(TargetError::EmptySegment);
        }
        let mut kept: Vec<&str> = Vec::new();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        for (index, segment) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            match *segment {
                "." if last => kept.push(""),
                "." => {}
                ".." => {
                    kept.pop().ok_or(TargetError::AboveRoot)?;
                    if last {
                        kept.push("");
                    }
                }
                // `/a/..;/b` is `/b` to some servers.
                other if other.starts_with("..;") || other.starts_with(".;") => return Err(TargetError::Parameter),
                other => kept.push(other),
            }
        }
        let path = format!("/{}", kept.join("/"));
        let encoded_separators = path.contains("%2F") || path.contains("%5C");
        Ok(Self { path, encoded_separators })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether it holds an encoded `/` or `\`, which servers take for different things.
    pub fn has_encoded_separators(&self) -> bool {
        self.encoded_separators
    }
}

/// Undoes escapes of unreserved characters and writes the others in upper case; `None` for a stray percent sign.
pub(super) fn canonical_escapes(text: &str) -> Option<String> {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            made.push(char::from(byte));
        } else {
            made.push('%');
            made.push_str(&digits.to_ascii_uppercase());
        }
        rest = &rest[at + 3..];
    }
    made.push_str(rest);
    Some(made)
}

impl Target {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(TargetError::Scheme);
        }
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = port.or_else(|| usual_port(&scheme)).ok_or(TargetError::Port)?;
        let path = match scheme.as_str() {
            "http" | "https" | "ws" | "wss" => {
                let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
                Some(RequestPath::parse(&path)?)
            }
            _ => None,
        };
        Ok(Self { scheme, host: host.parse()?, port, path })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Ok((authority, None)),
    };
    // `host:` is `host`, as in every URL.
    if port.is_empty() {
        return Ok((host, None));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TargetError::Port);
    }
    port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port))).ok_or(TargetError::Port)
}

/// The port a scheme stands for.
fn usual_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        "ssh" | "git+ssh" | "ssh+git" => 22,
        "git" => 9418,
        "postgres" | "postgresql" => 5432,
        "redis" => 6379,
        "rediss" => 6380,
        "mysql" => 3306,
        "ldap" => 389,
        "ldaps" => 636,
        "ftp" => 21,
        "smtp" => 25,
        "imap" => 143,
        "imaps" => 993,
        "ntp" => 123,
        _ => return None,
    })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path } = self;
        match host {
            Host::Address(std::net::IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]")?,
            host => write!(f, "{scheme}://{host}")?,
        }
        if usual_port(scheme) != Some(*port) {
            write!(f, ":{port}")?;
        }
        path.as_ref().map_or(Ok(()), |path| f.write_str(path.as_str()))
    }
}
