//! Asking another proxy for a connection: HTTP `CONNECT` and SOCKS5. Pure of dialling: they speak over what they are given.

use std::net::IpAddr;

use schema::policy::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most a proxy's answer may take.
const MOST: usize = 16 * 1024;

/// Why a proxy gave no connection.
#[derive(Debug, thiserror::Error)]
pub enum ProxyFault {
    /// The connection to it broke.
    #[error("the connection to it broke")]
    Broke(#[from] std::io::Error),
    /// It refused, by HTTP.
    #[error("it answered {0} to CONNECT")]
    Status(String),
    /// It refused, by SOCKS.
    #[error("it answered: {0}")]
    Socks(&'static str),
    /// It wants to know who asks.
    #[error("it asks for a user name and password, which `upstream` cannot hold")]
    Authentication,
    /// Its answer is not that of such a proxy.
    #[error("its answer is not that of {0} proxy")]
    Garbled(&'static str),
    /// It carries connections only.
    #[error("it carries no datagrams")]
    Datagrams,
    /// Where it is cannot be understood.
    #[error("it is not written as `host:port`")]
    Address,
}

/// Asks for a connection to `host` and `port` by `CONNECT`. What the far end says first is left in the stream.
pub(super) async fn connect(stream: &mut TcpStream, host: &Host, port: u16) -> Result<(), ProxyFault> {
    let authority = match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    };
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
    let head = read_head(stream).await?;
    let status = std::str::from_utf8(head.split(|byte| *byte == b'\r').next().unwrap_or_default())
        .ok()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")))
        .ok_or(ProxyFault::Garbled("an HTTP"))?;
    match status.split(' ').next() {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        Some("407") => Err(ProxyFault::Authentication),
        _ => Err(ProxyFault::Status(printable(status))),
    }
}

/// Reads to the empty line and not a byte further.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyFault> {
    let mut head: Vec<u8> = Vec::with_capacity(256);
    let mut seen = [0; 1024];
    loop {
        let new = stream.peek(&mut seen).await?;
        if new == 0 || head.len() + new > MOST {
            return Err(ProxyFault::Garbled("an HTTP"));
        }
        let before = head.len();
        head.extend_from_slice(&seen[..new]);
        // The empty line may have begun in what was read before.
        let from = before.saturating_sub(3);
        let end = head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
        let take = end.map_or(new, |end| end - before);
        stream.read_exact(&mut seen[..take]).await?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(head);
        }
    }
}

/// What another machine wrote, fit for a message.
fn printable(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Asks for a connection to `host` and `port` by SOCKS5 (RFC 1928), without authentication.
pub(super) async fn socks5(stream: &mut TcpStream, host: &Host, port: u16) -> Result<(), ProxyFault> {
    const GARBLED: ProxyFault = ProxyFault::Garbled("a SOCKS5");
    stream.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match chosen {
        [5, 0] => {}
        [5, 0xff] => return Err(ProxyFault::Authentication),
        _ => return Err(GARBLED),
    }
    let mut request = vec![5, 1, 0];
    match host {
        Host::Name(name) => {
            request.push(3);
            // A name has at most 253 bytes.
            request.push(u8::try_from(name.as_str().len()).map_err(|_| GARBLED)?);
            request.extend_from_slice(name.as_str().as_bytes());
        }
        Host::Address(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Host::Address(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    let [5, reply, _, kind] = answer else { return Err(GARBLED) };
    if reply != 0 {
        return Err(ProxyFault::Socks(match reply {
            2 => "not allowed by its rules",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "command not supported",
            8 => "address type not supported",
            _ => "general failure",
        }));
    }
    // The address it dialled from, and the port.
    let length = match kind {
        1 => 4,
        3 => usize::from(stream.read_u8().await?),
        4 => 16,
        _ => return Err(GARBLED),
    };
    let mut bound = [0; 257];
    stream.read_exact(&mut bound[..length + 2]).await?;
    Ok(())
}
