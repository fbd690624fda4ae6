//! Reads a `ClientHello` as it arrives, however it is cut up.
//!
//! Ours, because no TLS library says what a `ClientHello` holds that it would itself refuse, and because what is judged
//! must be the very bytes that are passed on.

use schema::policy::{DnsName, Host};

/// Longest `ClientHello`, handshake header included. One with post-quantum key shares has less than 3 KiB.
pub const MAX_HELLO: usize = 32 * 1024;

/// Most bytes of records it may come in.
pub const MAX_BYTES: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Longest plaintext record.
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Earlier drafts of the same, by which the name could be hidden as well.
const OLDER_ENCRYPTED_NAMES: [u16; 5] = [0xffce, 0xfe08, 0xfe09, 0xfe0a, 0xfe0b];

/// Puts a `ClientHello` together. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes of the record header that have come.
    header: [u8; 5],
    in_header: usize,
    /// Bytes of the record that are still to come.
    in_record: usize,
    /// The handshake message so far.
    message: Vec<u8>,
    /// All that was read.
    read: usize,
}

/// What a `ClientHello` says about its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name it is for.
    pub name: Option<ServerName>,
    /// Whether it hides another name, or pretends to.
    pub encrypted: bool,
}

/// The value of the server name extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// A host in canonical form.
    Host(Host),
    /// No host that could be anything's name: spaces, other than ASCII, a trailing dot.
    Odd,
}

/// Why bytes are no `ClientHello` that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a handshake record.
    #[error("something else than a handshake where the ClientHello should be")]
    Record,
    /// A handshake message that is not a `ClientHello`.
    #[error("the first handshake message is no ClientHello")]
    Message,
    /// Lengths that do not fit into each other.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension twice, or several names: who reads the first sees something else than who reads the last.
    #[error("the ClientHello says more than one thing")]
    Twice,
    /// Longer than anything real.
    #[error("the ClientHello is too long")]
    TooLong,
}

impl Reader {
    /// Takes the next bytes; the `ClientHello` once it is complete.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, Fault> {
        self.read += bytes.len();
        while !bytes.is_empty() {
            if self.in_record == 0 {
                let take = bytes.len().min(5 - self.in_header);
                self.header[self.in_header..self.in_header + take].copy_from_slice(&bytes[..take]);
                self.in_header += take;
                bytes = &bytes[take..];
                self.check_header()?;
                continue;
            }
            let take = bytes.len().min(self.in_record);
            self.message.extend_from_slice(&bytes[..take]);
            self.in_record -= take;
            bytes = &bytes[take..];
            if let Some(hello) = self.message()? {
                return Ok(Some(hello));
            }
        }
        if self.read > MAX_BYTES { Err(Fault::TooLong) } else { Ok(None) }
    }

    fn check_header(&mut self) -> Result<(), Fault> {
        let [kind, major, _, high, low] = self.header;
        if (self.in_header > 0 && kind != HANDSHAKE) || (self.in_header > 1 && major != 3) {
            return Err(Fault::Record);
        }
        if self.in_header == 5 {
            self.in_record = usize::from(u16::from_be_bytes([high, low]));
            self.in_header = 0;
            if self.in_record == 0 || self.in_record > MAX_RECORD {
                return Err(Fault::Malformed);
            }
        }
        Ok(())
    }

    fn message(&self) -> Result<Option<ClientHello>, Fault> {
        let Some((&kind, rest)) = self.message.split_first() else { return Ok(None) };
        if kind != CLIENT_HELLO {
            return Err(Fault::Message);
        }
        let Some(([high, middle, low], body)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        if length + 4 > MAX_HELLO {
            return Err(Fault::TooLong);
        }
        match body.get(..length) {
            None => Ok(None),
            // Nothing follows a ClientHello in its record: early data come in records of another kind.
            Some(_) if body.len() > length || self.in_record > 0 => Err(Fault::Malformed),
            Some(body) => read_body(body).map(Some),
        }
    }
}

fn read_body(body: &[u8]) -> Result<ClientHello, Fault> {
    let mut body = Bytes(body);
    let version = body.number(2)?;
    if version >> 8 != 3 {
        return Err(Fault::Malformed);
    }
    body.take(32)?;
    body.list(1)?;
    let suites = body.list(2)?;
    let compressions = body.list(1)?;
    if suites.0.is_empty() || suites.0.len() % 2 != 0 || compressions.0.is_empty() {
        return Err(Fault::Malformed);
    }
    let mut hello = ClientHello { name: None, encrypted: false };
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = body.list(2)?;
    if !body.0.is_empty() {
        return Err(Fault::Malformed);
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let value = extensions.list(2)?;
        if seen.contains(&kind) {
            return Err(Fault::Twice);
        }
        seen.push(kind);
        match u16::try_from(kind) {
            Ok(SERVER_NAME) => hello.name = Some(read_server_name(value)?),
            Ok(ENCRYPTED_CLIENT_HELLO) => hello.encrypted = true,
            Ok(kind) => hello.encrypted |= OLDER_ENCRYPTED_NAMES.contains(&kind),
            Err(_) => {}
        }
    }
    Ok(hello)
}

fn read_server_name(mut value: Bytes<'_>) -> Result<ServerName, Fault> {
    let mut names = value.list(2)?;
    if !value.0.is_empty() {
        return Err(Fault::Malformed);
    }
    let kind = names.number(1)?;
    let name = names.list(2)?;
    if !names.0.is_empty() {
        return Err(Fault::Twice);
    }
    if kind != 0 || name.0.is_empty() {
        return Err(Fault::Malformed);
    }
    let Ok(text) = std::str::from_utf8(name.0) else { return Ok(ServerName::Odd) };
    if !text.is_ascii() || text.ends_with('.') || text.starts_with('[') {
        return Ok(ServerName::Odd);
    }
    Ok(text.parse().map_or(ServerName::Odd, ServerName::Host))
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<usize, Fault> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes after their length, which has `width` bytes.
    fn list(&mut self, width: usize) -> Result<Self, Fault> {
        let length = self.number(width)?;
        self.take(length).map(Bytes)
    }
}

impl ClientHello {
    /// Why it must not be passed on to `host`, as records say it; `None` if it may.
    ///
    /// A `ClientHello` for an address names none, or that address: RFC 6066 has no names for addresses.
    pub fn mismatch(&self, host: &Host) -> Option<&'static str> {
        match (host, &self.name) {
            _ if self.encrypted => Some("encrypted-client-hello"),
            (_, Some(ServerName::Odd)) => Some("sni-malformed"),
            (Host::Name(_), None) => Some("sni-missing"),
            (Host::Address(_), None) => None,
            (_, Some(ServerName::Host(named))) => (named != host).then_some("sni-mismatch"),
        }
    }
}

/// Whether `bytes` are the start of a hello of SSL 2 (which may offer up to TLS 1.2), recognized by lengths that fit into
/// each other. It can name no host.
pub fn is_ssl2(bytes: &[u8]) -> bool {
    let [first, second, 1, major, minor, rest @ ..] = bytes else { return false };
    let [suites_high, suites_low, session_high, session_low, challenge_high, challenge_low, ..] = rest else {
        return false;
    };
    let number = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
    let length = number(&(first & 0x7f), second);
    let (suites, session) = (number(suites_high, suites_low), number(session_high, session_low));
    let challenge = number(challenge_high, challenge_low);
    first & 0x80 != 0
        && ((*major == 0 && *minor == 2) || (*major == 3 && *minor <= 4))
        && suites > 0
        && suites % 3 == 0
        && (16..=32).contains(&challenge)
        && length == 9 + suites + session + challenge
}

/// A name, for messages and records.
impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Odd => f.write_str("(malformed)"),
        }
    }
}

impl From<DnsName> for ServerName {
    fn from(name: DnsName) -> Self {
        Self::Host(Host::Name(name))
    }
}

#[cfg(test)]
mod tests;
