//! What a client speaks, told by its first bytes.

use crate::tls::client_hello::{self, ClientHello, Fault, Reader};

/// Longest request line that is waited for; servers commonly take 8 KiB.
const MAX_LINE: usize = 16 * 1024;

/// Most blank bytes before a request that are waited for.
const MAX_BLANK: usize = 32;

/// What it turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// TLS, with all of its `ClientHello`.
    Tls(ClientHello),
    /// Something that starts as TLS does and must not be taken for anything else.
    Broken(Fault),
    /// A hello of SSL 2: TLS that names no host.
    Ssl2,
    /// HTTP of any version, or what a lenient server would take for it.
    Http,
    /// Neither.
    Opaque,
}

/// Looks at bytes as they arrive. Pure: what comes out depends on the bytes, never on how they are cut up.
#[derive(Debug, Default)]
pub struct Detector {
    tls: Reader,
    /// How much of the bytes the reader had.
    fed: usize,
    /// How much of the bytes is known to hold no end of line.
    scanned: usize,
}

impl Detector {
    /// Looks at all bytes so far; `None` as long as they could become several things.
    ///
    /// `bytes` must start with what it was in the call before.
    pub fn look(&mut self, bytes: &[u8]) -> Option<Detected> {
        match bytes {
            [] | [0x16] => None,
            [0x16, 3, ..] => match self.tls.feed(&bytes[self.fed..]) {
                Ok(None) => {
                    self.fed = bytes.len();
                    None
                }
                Ok(Some(hello)) => Some(Detected::Tls(hello)),
                Err(fault) => Some(Detected::Broken(fault)),
            },
            [first, ..] if first & 0x80 != 0 => look_for_ssl2(bytes),
            _ => self.look_for_http(bytes),
        }
    }

    /// What `bytes` are when nothing follows them.
    pub fn end(&self, bytes: &[u8]) -> Detected {
        match bytes {
            [0x16, ..] => Detected::Broken(Fault::Malformed),
            bytes => by_line(bytes),
        }
    }

    /// HTTP is whatever has a method, a space, and `HTTP/` or a whole URL in its first line that is not blank. Servers differ
    /// in what they take beyond that, so the line is not read more closely here: whoever serves HTTP refuses what is
    /// malformed. What could become such a line and is too long to be waited for is taken for one.
    fn look_for_http(&mut self, bytes: &[u8]) -> Option<Detected> {
        // Lenient servers skip blank lines.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = &bytes[blank..];
        if blank > MAX_BLANK {
            return Some(Detected::Http);
        }
        let method = line.iter().take(MAX_LINE + 1).take_while(|byte| is_token(**byte)).count();
        match line.get(method) {
            None if method > MAX_LINE => return Some(Detected::Http),
            None => return None,
            Some(b' ' | b'\t') if method > 0 => {}
            Some(_) => return Some(Detected::Opaque),
        }
        let start = self.scanned.clamp(blank, bytes.len());
        let end = bytes[start..].iter().position(|byte| matches!(byte, b'\n' | 0));
        self.scanned = bytes.len();
        match end.map(|end| (start + end, bytes[start + end])) {
            // No server takes NUL in a request line.
            Some((_, 0)) => Some(Detected::Opaque),
            Some((end, _)) => Some(by_line(&bytes[blank..end])),
            None if line.len() > MAX_LINE => Some(Detected::Http),
            None => None,
        }
    }
}

/// Whether bytes, of which it is not clear yet what they are, can be no TLS of any kind.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first != 0x16 && first & 0x80 == 0)
}

fn by_line(line: &[u8]) -> Detected {
    let versioned = line.windows(5).any(|text| text.eq_ignore_ascii_case(b"HTTP/"));
    // HTTP/0.9 has no version, and its servers read the host from a whole URL.
    let absolute = line.windows(3).any(|text| text == b"://");
    if versioned || absolute { Detected::Http } else { Detected::Opaque }
}

/// Waits only for as long as the bytes could still be such a hello.
fn look_for_ssl2(bytes: &[u8]) -> Option<Detected> {
    const HEADER: usize = 11;
    if client_hello::is_ssl2(bytes) {
        return Some(Detected::Ssl2);
    }
    let plausible = bytes.get(2).is_none_or(|kind| *kind == 1)
        && bytes.get(3).is_none_or(|major| matches!(major, 0 | 3))
        && bytes.get(4).is_none_or(|minor| *minor <= 4);
    (bytes.len() >= HEADER || !plausible).then_some(Detected::Opaque)
}

/// What methods are made of (RFC 9110).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
