//! Stands before the HTTP/1 server and lets nothing through that could be read differently elsewhere.
//!
//! Bytes of a head are handed on once all of it was looked at, bytes of a body as they come. When a head is malformed,
//! or asks for a tunnel, the server behind sees the end of the stream, after it has answered what came before; what it was
//! is then for the caller ([`Guard::into_parts`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use super::chunked::Chunks;
use super::gate::Gate;
use super::head::{self, After, Framing, Malformed};
use crate::defence::Defence;

/// How much of a head is read at once.
const HEAD_ROOM: usize = 4 * 1024;
/// How much of a body is read at once.
const BODY_ROOM: usize = 64 * 1024;

/// How long clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// For a head, from its first byte to its last.
    pub(super) head: Duration,
    /// Between an answer and the next request.
    pub(super) idle: Duration,
}

/// A stream of requests that are well-formed.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    gate: Arc<Gate>,
    patience: Patience,
    /// What was read and not handed on.
    kept: BytesMut,
    /// How many of the first bytes of it may be handed on.
    cleared: usize,
    at: At,
    timer: Pin<Box<Sleep>>,
    set_for: Waiting,
    /// Whether an answer may still be on its way out of the server.
    unflushed: bool,
}

#[derive(Debug)]
enum At {
    /// In or before a head, of which so many bytes were looked at.
    Head(usize),
    Body(u64),
    Chunks(Chunks),
    /// A body that is not to be read on.
    Broken(Malformed),
    /// After a head that asks to upgrade the connection.
    Asked,
    /// After an upgrade.
    Opaque,
    End(Ending),
}

/// How a stream of requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client, or its silence, ended it.
    Closed,
    /// Something in it is not to be read.
    Malformed(Malformed),
    /// A `CONNECT`: its head is the first so many bytes of what was kept.
    Tunnel(usize),
}

/// What the timer is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Idle,
    Head,
}

impl<S> Guard<S> {
    /// Guards `stream`, whose first head has to be there in time.
    pub(super) fn new(stream: S, gate: Arc<Gate>, patience: Patience) -> Self {
        Self {
            stream,
            gate,
            patience,
            kept: BytesMut::new(),
            cleared: 0,
            at: At::Head(0),
            timer: Box::pin(sleep(patience.head)),
            // Whoever connects means to ask: no idle time comes before the first head.
            set_for: Waiting::Head,
            unflushed: false,
        }
    }

    /// The stream, what was read of it and not handed on, and how it ended; `None` if the connection was upgraded.
    pub(super) fn into_parts(self) -> (S, BytesMut, Option<Ending>) {
        let ending = match self.at {
            At::End(ending) => Some(ending),
            At::Opaque => None,
            // The server may have had no reason to read on.
            At::Asked if self.gate.is_open() => None,
            _ => Some(Ending::Closed),
        };
        (self.stream, self.kept, ending)
    }

    /// Looks at what was kept, as far as it goes; whether anything came of it.
    fn look(&mut self) -> bool {
        match &mut self.at {
            At::Head(seen) => {
                self.at = match head::end(&self.kept, *seen) {
                    Err(_) if Defence::Forms.is_off() => At::Opaque,
                    Err(malformed) => At::End(Ending::Malformed(malformed)),
                    Ok(None) => {
                        *seen = self.kept.len();
                        return false;
                    }
                    Ok(Some(end)) => match head::check(&self.kept[..end]) {
                        Err(_) if Defence::Forms.is_off() => At::Opaque,
                        Err(malformed) => At::End(Ending::Malformed(malformed)),
                        Ok(head) if head.after == After::Tunnel => At::End(Ending::Tunnel(end)),
                        Ok(head) => self.clear(head),
                    },
                };
                true
            }
            At::Body(0) => {
                self.at = At::Head(0);
                true
            }
            At::Body(left) => {
                self.cleared = usize::try_from(*left).unwrap_or(usize::MAX).min(self.kept.len());
                *left -= self.cleared as u64;
                self.cleared > 0
            }
            At::Chunks(chunks) => match chunks.take(&self.kept) {
                Err(malformed) => {
                    self.gate.fail(malformed);
                    self.at = At::Broken(malformed);
                    true
                }
                Ok(taken) => {
                    self.cleared = taken;
                    if chunks.ended() {
                        self.at = At::Head(0);
                    }
                    taken > 0
                }
            },
            At::Opaque => {
                self.cleared = self.kept.len();
                self.cleared > 0
            }
            At::Broken(_) | At::Asked | At::End(_) => false,
        }
    }

    /// Room for as much as is likely to come, and no more: many connections only wait.
    fn make_room(&mut self) {
        let room = if matches!(self.at, At::Head(_)) { HEAD_ROOM } else { BODY_ROOM };
        if self.kept.is_empty() && self.kept.capacity() > room {
            self.kept = BytesMut::new();
        }
        self.kept.reserve(room);
    }

    /// Lets a head through; where that leads.
    fn clear(&mut self, head: head::Head) -> At {
        self.cleared = head.length;
        if self.set_for == Waiting::Head {
            self.set_for = Waiting::Nothing;
        }
        self.unflushed = true;
        self.gate.begin();
        match (head.after, head.framing) {
            // One that comes with a body is not upgraded: nobody sends those.
            (After::Upgrade, Framing::Length(0)) => At::Asked,
            (_, Framing::Length(length)) => At::Body(length),
            (_, Framing::Chunked) => At::Chunks(Chunks::default()),
        }
    }

    /// Whether the client has taken too long; sees to it that this is asked again when it has.
    ///
    /// The server polls for the end of the stream while it answers, and not again once it has. So the timer is set then
    /// already, and looks at how long the connection has really been at rest when it goes off.
    fn too_late(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if !matches!(self.at, At::Head(_)) {
            return None;
        }
        loop {
            let busy = self.gate.is_busy();
            let waiting = if !busy && (self.set_for == Waiting::Head || !self.kept.is_empty()) {
                Waiting::Head
            } else {
                Waiting::Idle
            };
            if self.set_for != waiting {
                self.set_for = waiting;
                let patience = if waiting == Waiting::Head { self.patience.head } else { self.patience.idle };
                self.timer.as_mut().reset(Instant::now() + patience);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return None;
            }
            match waiting {
                Waiting::Head if self.kept.is_empty() => return Some(Ending::Closed),
                Waiting::Head => return Some(Ending::Malformed(Malformed::TooSlow)),
                Waiting::Idle | Waiting::Nothing => {
                    let now = Instant::now();
                    let until = if busy { now } else { self.gate.rests_since() } + self.patience.idle;
                    if until <= now {
                        return Some(Ending::Closed);
                    }
                    self.timer.as_mut().reset(until);
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared > 0 {
                let here = this.cleared.min(buf.remaining());
                buf.put_slice(&this.kept[..here]);
                this.kept.advance(here);
                this.cleared -= here;
                return Poll::Ready(Ok(()));
            }
            if this.look() {
                continue;
            }
            match &mut this.at {
                At::Broken(malformed) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, malformed.to_string())));
                }
                At::Asked => {
                    this.gate.wait(cx);
                    this.at = if this.gate.is_open() {
                        At::Opaque
                    } else if this.gate.is_busy() {
                        return Poll::Pending;
                    } else {
                        At::Head(0)
                    };
                }
                At::End(Ending::Closed) => return Poll::Ready(Ok(())),
                At::End(_) => {
                    // What came before is answered first, and out.
                    this.gate.wait(cx);
                    return if this.gate.is_busy() || this.unflushed { Poll::Pending } else { Poll::Ready(Ok(())) };
                }
                At::Opaque => return Pin::new(&mut this.stream).poll_read(cx, buf),
                At::Head(_) | At::Body(_) | At::Chunks(_) => {
                    this.make_room();
                    match poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.kept) {
                        Poll::Ready(Ok(0)) => {
                            if matches!(this.at, At::Head(_)) {
                                this.at = At::End(Ending::Closed);
                            }
                            return Poll::Ready(Ok(()));
                        }
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => match this.too_late(cx) {
                            Some(ending) => this.at = At::End(ending),
                            None => return Poll::Pending,
                        },
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called by the server whenever it has written all it had.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        if this.unflushed && !this.gate.is_busy() {
            this.unflushed = false;
            if matches!(this.at, At::End(_)) {
                this.gate.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
