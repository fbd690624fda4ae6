//! Ending connections that may not go on, so that the client learns why where it can.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::splice::Channel;

/// TLS alert: what was sent cannot be read.
pub(crate) const DECODE_ERROR: u8 = 50;
/// TLS alert: it is not allowed.
pub(crate) const ACCESS_DENIED: u8 = 49;
/// TLS alert: nothing of that name is here.
pub(crate) const UNRECOGNIZED_NAME: u8 = 112;

/// How long a client has for its `ClientHello` when it is to be refused, and for closing when it was.
const PATIENCE: Duration = Duration::from_millis(500);

/// Most bytes that are read only to be thrown away.
const MOST: usize = 64 * 1024;

/// Tells a TLS client, whose `ClientHello` was read, that there will be no connection.
pub(crate) async fn alert<C: Channel>(client: &C, description: u8) {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    // One write into an empty buffer.
    let told = client.write_some(&[ALERT, 3, 3, 0, 2, FATAL, description]).and_then(|_| client.finish());
    if told.is_err() {
        return client.reset();
    }
    // Bytes that nobody has read when a socket is closed make the kernel reset the connection, and the client may then
    // never see the alert.
    let _ = timeout(PATIENCE, drained(client)).await;
}

/// Tells a client on a port for TLS, of which nothing was read, that it may not connect.
pub(crate) async fn before_hello<C: Channel>(client: &C) {
    const HANDSHAKE: u8 = 22;
    let mut first = Vec::with_capacity(4096);
    let read = timeout(PATIENCE, read_some(client, &mut first)).await;
    match (read, first.first()) {
        (Ok(Ok(_)), Some(&HANDSHAKE)) => alert(client, ACCESS_DENIED).await,
        _ => client.reset(),
    }
}

async fn drained<C: Channel>(client: &C) -> io::Result<()> {
    let mut left = MOST;
    let mut buffer = Vec::with_capacity(4096);
    while left > 0 {
        buffer.clear();
        match read_some(client, &mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Reads into the spare capacity of `buffer`; 0 at the end. Nothing is lost when it is dropped.
pub(crate) async fn read_some<C: Channel>(client: &C, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        match client.read_some(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        poll_fn(|cx| client.poll_readable(cx)).await?;
    }
}
