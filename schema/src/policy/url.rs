//! Targets and paths in the one canonical form that everything decides by.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use super::reading::{decode_fully, has_dots, hex, loosest};
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

/// The path of a request, canonical: dot segments resolved, escapes of unreserved characters and of `*` undone, other
/// escapes in upper case. What servers are known to disagree about is refused: empty segments, dot segments hidden behind an encoded
/// separator or beside a `;`, overlong UTF-8. Query not included.
///
/// It is what is judged and what has to be sent on: a server must not get to read another spelling than the rules did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    path: String,
    encoded_separators: bool,
    loosest: Option<Box<[u8]>>,
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
    /// An IPv6 address without brackets, of which nobody can tell where it ends and the port begins.
    #[error("an IPv6 address in a URL stands in brackets: https://[2001:db8::1]:8443/")]
    Brackets,
    /// The host.
    #[error("host: {0}")]
    Host(#[from] HostError),
    /// The port is no number from 1 to 65535, or the scheme has no usual one.
    #[error("write a port from 1 to 65535")]
    Port,
    /// A control character, space, non-ASCII byte, backslash, `#` or NUL; or an escape of a control character.
    #[error("the path has a character that no path may have")]
    Character,
    /// An escape of a character in more bytes than it takes, which some decoders take for a `/` or a dot.
    #[error("the path has a character escaped in more bytes than it takes")]
    Overlong,
    /// A percent sign that no two hex digits follow.
    #[error("the path has a `%` that no two hex digits follow")]
    Percent,
    /// `//`: servers disagree whether it is the same as `/`.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `/..;/`: servers disagree whether it is a dot segment.
    #[error("the path has a `;` beside a dot segment")]
    Parameter,
    /// `/a%2F..%2Fb`, `/%252e%252e/b`: servers disagree whether it is a dot segment.
    #[error("the path has a dot segment beside an encoded separator, or one that is encoded twice")]
    HiddenDots,
    /// More `..` than segments.
    #[error("the path leads above its root")]
    AboveRoot,
}

impl RequestPath {
    /// From what a request line has, a query cut off by the caller or not.
    pub fn parse(raw: &str) -> Result<Self, TargetError> {
        let raw = raw.split('?').next().unwrap_or(raw);
        if !raw.starts_with('/') {
            return Err(TargetError::Character);
        }
        if raw.bytes().any(|byte| !(0x21..0x7f).contains(&byte) || matches!(byte, b'\\' | b'#')) {
            return Err(TargetError::Character);
        }
        // No server tells `%2A` from a star, and patterns need the star for something else.
        let path = canonical_escapes(raw).ok_or(TargetError::Percent)?.replace("%2A", "*");
        if has_control_escape(&path) {
            return Err(TargetError::Character);
        }
        if has_overlong_escape(&path) {
            return Err(TargetError::Overlong);
        }
        if path.contains("//") {
            return Err(TargetError::EmptySegment);
        }
        let mut kept: Vec<&str> = Vec::new();
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            match dots(segment) {
                Dots::None => kept.push(segment),
                Dots::Parameter => return Err(TargetError::Parameter),
                Dots::Hidden => return Err(TargetError::HiddenDots),
                Dots::One => {}
                Dots::Two => drop(kept.pop().ok_or(TargetError::AboveRoot)?),
            }
            // `/a/..` is the directory, `/`, as `/a/../` is.
            if segments.peek().is_none() && matches!(segment, "." | "..") {
                kept.push("");
            }
        }
        let path = format!("/{}", kept.join("/"));
        let decoded = decode_fully(&path);
        if has_dots(&decoded) {
            return Err(TargetError::HiddenDots);
        }
        let separators = |text: &[u8]| text.split(|byte| *byte == b'/').count();
        let encoded_separators = separators(&decoded) > separators(path.as_bytes());
        let loosest = Some(loosest(&decoded)).filter(|reading| reading != path.as_bytes());
        Ok(Self { path, encoded_separators, loosest: loosest.map(Vec::into_boxed_slice) })
    }

    /// What a request line has, whatever that is: for tests of what its one form is good for.
    #[cfg(feature = "failpoints")]
    pub fn as_written(raw: &str) -> Self {
        Self { path: raw.to_owned(), encoded_separators: false, loosest: None }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether it holds an encoded `/` or `\`, however often encoded, which servers take for different things.
    pub fn has_encoded_separators(&self) -> bool {
        self.encoded_separators
    }

    /// What the laxest server could take it for, where that is something else: decoded until nothing is left to decode,
    /// without parameters, dot segments resolved after that. Deny rules are held against it too.
    pub fn loosest(&self) -> Option<&[u8]> {
        self.loosest.as_deref()
    }
}

/// What a segment is to servers that resolve dot segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dots {
    /// Ordinary.
    None,
    /// `.`
    One,
    /// `..`
    Two,
    /// One or two, and a parameter.
    Parameter,
    /// One or two, between encoded separators.
    Hidden,
}

/// Looks for dot segments in a segment of canonical escapes.
pub(super) fn dots(segment: &str) -> Dots {
    match segment {
        "." => return Dots::One,
        ".." => return Dots::Two,
        _ => {}
    }
    let mut rest = segment;
    let mut hidden = false;
    loop {
        let end = rest.find("%2F").into_iter().chain(rest.find("%5C")).min();
        let part = &rest[..end.unwrap_or(rest.len())];
        hidden |= end.is_some();
        let name = part.split(';').next().unwrap_or(part);
        let name = name.split("%3B").next().unwrap_or(name);
        if matches!(name, "." | "..") {
            return if hidden { Dots::Hidden } else { Dots::Parameter };
        }
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => return Dots::None,
        }
    }
}

/// Whether canonical escapes stand for a control character, which has no place in a path.
pub(super) fn has_control_escape(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| rest.starts_with(['0', '1']) || rest.starts_with("7F"))
}

/// Whether canonical escapes spell a character in more bytes of UTF-8 than it takes: `%C0%AF` is a `/` to some.
pub(super) fn has_overlong_escape(path: &str) -> bool {
    let mut before = None;
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let byte = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // Only bytes that follow each other make a character.
        let lead = before.filter(|_| at == 0);
        match (lead, byte) {
            (Some(0xc0 | 0xc1), Some(0x80..=0xbf))
            | (Some(0xe0), Some(0x80..=0x9f))
            | (Some(0xf0), Some(0x80..=0x8f)) => {
                return true;
            }
            _ => {}
        }
        before = byte;
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    false
}

/// Undoes escapes of unreserved characters and writes the others in upper case; `None` for a stray percent sign.
pub(super) fn canonical_escapes(text: &str) -> Option<String> {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        let byte = match *digits.as_bytes() {
            [high, low] => hex(high)? << 4 | hex(low)?,
            _ => return None,
        };
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

/// Escapes what is not ASCII, as browsers do.
pub(super) fn escape_non_ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut made = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii() {
            made.push(char::from(byte));
        } else {
            made.push('%');
            for digit in [byte >> 4, byte & 0xf] {
                made.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    Cow::Owned(made)
}

impl Target {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(TargetError::Scheme);
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(TargetError::Brackets);
        }
        let port = port.or_else(|| usual_port(&scheme)).ok_or(TargetError::Port)?;
        let path = match scheme.as_str() {
            "http" | "https" | "ws" | "wss" => {
                let path = path.split('?').next().unwrap_or(path);
                let path = if path.is_empty() { "/" } else { path };
                Some(RequestPath::parse(&escape_non_ascii(path))?)
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

impl Serialize for Target {
    /// As text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
