//! What the head of a request must look like to be read at all. Pure.
//!
//! Two parsers that read the same bytes differently are how requests are smuggled. Requests are written anew on their way
//! out, so that the next server reads what was judged; and whatever somebody could read differently is refused before it
//! is read here.

use std::fmt;

/// Longest head, request line and headers.
pub const LONGEST: usize = 64 * 1024;
/// Most headers.
pub const MOST_HEADERS: usize = 100;

/// A head that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How long it is, the empty line included.
    pub length: usize,
    /// How the body ends.
    pub framing: Framing,
    /// What happens after it.
    pub after: After,
}

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// What a request may make of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next request follows.
    Request,
    /// Other bytes, if the upgrade is granted.
    Upgrade,
    /// Other bytes, if the tunnel is opened.
    Tunnel,
}

/// Why bytes are not read as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A line that ends in a line feed only, or a carriage return elsewhere.
    LineEnd,
    /// A zero byte or another control character.
    Control,
    /// Something before the request line.
    EmptyLine,
    /// The request line is not `METHOD target HTTP/1.1`.
    RequestLine,
    /// The method is none: upper-case letters, digits, `-` and `_`.
    Method,
    /// The target has a character no URL has.
    Target,
    /// A version other than 1.0 and 1.1. HTTP/2 without TLS is among them.
    Version,
    /// A line that continues the one before.
    Folded,
    /// A header without a name, or with a blank or another odd character in it.
    HeaderName,
    /// A header line without a colon.
    HeaderLine,
    /// More than [`MOST_HEADERS`].
    TooMany,
    /// Longer than [`LONGEST`].
    TooLong,
    /// Not all there in time.
    TooSlow,
    /// `Content-Length` and `Transfer-Encoding`.
    BothFramings,
    /// More than one `Content-Length`.
    Lengths,
    /// A `Content-Length` that is no plain number.
    Length,
    /// A `Transfer-Encoding` other than `chunked`, more than one, or one in HTTP/1.0.
    TransferEncoding,
    /// More than one `Host`.
    Hosts,
    /// No `Host` in HTTP/1.1.
    NoHost,
    /// `Connection` names a header that says where the request goes or ends.
    Connection,
    /// A `CONNECT` with a body.
    TunnelBody,
    /// A chunk that is not written as one.
    Chunk,
    /// Trailers that are too long, or that say what only a head may.
    Trailer,
}

impl Malformed {
    /// The status it is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooMany => 431,
            Self::TooSlow => 408,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// For the record: kebab case, stable.
    pub const fn because(self) -> &'static str {
        match self {
            Self::TooSlow => "head-too-slow",
            Self::TooLong | Self::TooMany => "head-too-long",
            Self::Version => "http-version",
            _ => "malformed",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineEnd => "a line of the request does not end in CR LF",
            Self::Control => "the request has a control character in its head",
            Self::EmptyLine => "there is an empty line before the request",
            Self::RequestLine => "the request line is not `METHOD target HTTP/1.1`",
            Self::Method => "the method is none: upper-case letters, digits, `-` and `_`",
            Self::Target => "the request target has a character that no URL has",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here; HTTP/2 inside TLS",
            Self::Folded => "a header is continued on a second line",
            Self::HeaderName => "a header's name has a character that no name has, or a blank before its colon",
            Self::HeaderLine => "a header line has no colon",
            Self::TooMany => "the request has more than 100 headers",
            Self::TooLong => "the request's head is longer than 64 KiB",
            Self::TooSlow => "the request's head did not arrive in time",
            Self::BothFramings => "the request has both Content-Length and Transfer-Encoding",
            Self::Lengths => "the request has more than one Content-Length",
            Self::Length => "the request's Content-Length is no number",
            Self::TransferEncoding => "the request's Transfer-Encoding is not `chunked`",
            Self::Hosts => "the request has more than one Host",
            Self::NoHost => "the request has no Host",
            Self::Connection => "the request's Connection header names a header that frames or directs it",
            Self::TunnelBody => "a CONNECT has no body",
            Self::Chunk => "a chunk of the request's body is not written as one",
            Self::Trailer => "the request's trailers have what only its head may have, or are too long",
        })
    }
}

/// Looks for the end of a head in `bytes`, of which the first `seen` were looked at before.
///
/// # Errors
/// What makes the head unreadable already, whatever follows.
pub fn end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Malformed> {
    if matches!(bytes, [b'\r' | b'\n', ..]) {
        return Err(Malformed::EmptyLine);
    }
    let mut at = seen.saturating_sub(3);
    while let Some(next) = bytes[at..].iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        at += next;
        match bytes[at..] {
            [0, ..] => return Err(Malformed::Control),
            [b'\n', ..] if at == 0 || bytes[at - 1] != b'\r' => return Err(Malformed::LineEnd),
            [b'\r', other, ..] if other != b'\n' => return Err(Malformed::LineEnd),
            [b'\r', b'\n', b'\r', b'\n', ..] => {
                return if at + 4 > LONGEST { Err(Malformed::TooLong) } else { Ok(Some(at + 4)) };
            }
            _ => at += 1,
        }
    }
    if bytes.len() > LONGEST { Err(Malformed::TooLong) } else { Ok(None) }
}

/// Reads a whole head, as [`end`] delimits it.
pub fn check(bytes: &[u8]) -> Result<Head, Malformed> {
    let text = bytes.strip_suffix(b"\r\n\r\n").ok_or(Malformed::LineEnd)?;
    let mut lines = lines(text);
    let (method, old) = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    let mut count = 0;
    for line in lines {
        count += 1;
        if count > MOST_HEADERS {
            return Err(Malformed::TooMany);
        }
        let (name, value) = header(line)?;
        seen.take(name, value)?;
    }
    let framing = match (seen.length, seen.chunked) {
        (Some(_), true) => return Err(Malformed::BothFramings),
        (None, true) if old => return Err(Malformed::TransferEncoding),
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    if !seen.host && !old {
        return Err(Malformed::NoHost);
    }
    let after = match method {
        b"CONNECT" => After::Tunnel,
        _ if seen.upgrade && seen.connection_upgrade => After::Upgrade,
        _ => After::Request,
    };
    if after == After::Tunnel && framing != Framing::Length(0) {
        return Err(Malformed::TunnelBody);
    }
    Ok(Head { length: bytes.len(), framing, after })
}

/// Lines, of which the last has no end. Carriage returns stand only before line feeds: [`end`] has seen to it.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The method, and whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<(&[u8], bool), Malformed> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed::RequestLine);
    };
    let of_method = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if method.is_empty() || method.len() > 32 || !method.iter().all(of_method) {
        return Err(Malformed::Method);
    }
    let of_target = |byte: &u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\');
    if target.is_empty() || !target.iter().all(of_target) {
        return Err(Malformed::Target);
    }
    match version {
        b"HTTP/1.1" => Ok((method, false)),
        b"HTTP/1.0" => Ok((method, true)),
        other if other.starts_with(b"HTTP/") => Err(Malformed::Version),
        _ => Err(Malformed::RequestLine),
    }
}

/// Name and value of a header line, blanks around the value taken off.
fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(Malformed::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::HeaderLine)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Malformed::HeaderName);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed::Control);
    }
    Ok((name, value))
}

/// Without blanks around it: spaces and tabs, and nothing else that some call a blank.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A character of a token (RFC 9110).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What the headers so far say of the request's way and end.
#[derive(Debug, Default)]
struct Seen {
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl Seen {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if name.eq_ignore_ascii_case(b"host") {
            if std::mem::replace(&mut self.host, true) {
                return Err(Malformed::Hosts);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // `1, 1` is several as well.
            if self.length.is_some() || value.contains(&b',') {
                return Err(Malformed::Lengths);
            }
            self.length = Some(number(value).ok_or(Malformed::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|byte| *byte == b',').map(trim) {
                let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
                if is(b"host") || is(b"content-length") || is(b"transfer-encoding") {
                    return Err(Malformed::Connection);
                }
                self.connection_upgrade |= is(b"upgrade");
            }
        }
        Ok(())
    }
}

/// Digits only: no sign, no blank, and no more than fit.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// Checks a line of trailers: a header that may come after the body.
pub(super) fn trailer(line: &[u8]) -> Result<(), Malformed> {
    let (name, _) = header(line)?;
    let only_in_heads: [&[u8]; 8] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"authorization",
    ];
    if only_in_heads.iter().any(|other| name.eq_ignore_ascii_case(other)) { Err(Malformed::Trailer) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
