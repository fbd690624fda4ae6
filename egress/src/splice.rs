//! Moves bytes between two connections until both have said all they have to say.
//!
//! What comes in small pieces is copied; what comes in bulk is moved by splice(2), which spares two copies. A connection
//! at rest holds neither buffer nor pipe.

mod channel;
mod direction;
mod pipe;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;

pub(crate) use self::channel::Channel;
pub(crate) use self::direction::{Broken, Direction};
use crate::flows::FlowGuard;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides were done.
    Done,
    /// One of them broke off.
    Broken,
    /// It is not allowed any more.
    Cut,
}

impl End {
    /// As records say it.
    pub fn because(self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::Broken => Some("broken-off"),
            Self::Cut => Some("revoked"),
        }
    }
}

/// Two directions, each with what was read for it already.
#[derive(Debug)]
pub(crate) struct Relay {
    up: Direction,
    down: Direction,
}

impl Relay {
    /// Begins with `first` from the client; `down` may have moved bytes before.
    pub fn new(first: Bytes, down: Direction) -> Self {
        Self { up: Direction::with(first), down }
    }

    /// Moves bytes until the end; both connections are to be dropped then. Unless both sides were done, they are reset.
    pub async fn run<A: Channel, B: Channel>(mut self, client: &A, server: &B, flow: &FlowGuard) -> End {
        let mut cut = pin!(flow.cancelled());
        // A client may break off while nothing is read from it, because the server takes nothing.
        let mut broken = pin!(client.broken());
        let mut client_is_gone = false;
        let end = poll_fn(|cx| {
            if cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Cut);
            }
            let up = self.up.poll(cx, client, server, &|bytes| flow.sent(bytes));
            let down = self.down.poll(cx, server, client, &|bytes| flow.received(bytes));
            match (up, down) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Done),
                _ if broken.as_mut().poll(cx).is_ready() => {
                    client_is_gone = true;
                    Poll::Ready(End::Broken)
                }
                // The server may have answered before it broke off.
                (Poll::Ready(Err(Broken::Sink)), Poll::Pending) => Poll::Pending,
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(End::Broken),
                _ => Poll::Pending,
            }
        })
        .await;
        if end != End::Done {
            if !client_is_gone {
                client.reset();
            }
            server.reset();
        }
        end
    }
}

/// Whether there is just nothing to be done yet.
fn would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests;
