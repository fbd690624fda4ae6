//! One direction of a connection.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::Interest;

use super::channel::Channel;
use super::pipe::Pipe;
use super::would_block;

/// What is read at once when bytes are copied. Where there is as much to be read, there is likely more.
const BUFFER: usize = 16 * 1024;

/// Reads of less than this are better copied: a pipe is given back.
const SMALL: usize = 4 * 1024;

/// How often bytes are moved before other connections have their turn.
const TURNS: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(BUFFER));
}

/// Which end of a direction broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Where bytes come from.
    Source,
    /// Where they go.
    Sink,
}

/// Bytes on their way from one socket to another.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Was read and could not be written yet.
    pending: Bytes,
    pipe: Option<Pipe>,
    /// What the pipe was filled with last.
    filled: usize,
    /// splice(2) is of no use for these sockets.
    copy_only: bool,
    ended: bool,
    result: Option<Result<(), Broken>>,
}

impl Direction {
    /// Begins with bytes that were read already.
    pub fn with(first: Bytes) -> Self {
        Self { pending: first, ..Self::default() }
    }

    /// Whether it uses splice(2) now.
    #[cfg(test)]
    pub fn splices(&self) -> bool {
        self.pipe.is_some()
    }

    /// Moves what can be moved; ready when `from` has ended and `to` was told so.
    pub fn poll<A: Channel, B: Channel>(
        &mut self,
        cx: &mut Context<'_>,
        from: &A,
        to: &B,
        count: &dyn Fn(u64),
    ) -> Poll<Result<(), Broken>> {
        if let Some(result) = self.result {
            return Poll::Ready(result);
        }
        let result = ready!(self.advance(cx, from, to, count));
        self.pipe = None;
        self.pending = Bytes::new();
        self.result = Some(result);
        Poll::Ready(result)
    }

    fn advance<A: Channel, B: Channel>(
        &mut self,
        cx: &mut Context<'_>,
        from: &A,
        to: &B,
        count: &dyn Fn(u64),
    ) -> Poll<Result<(), Broken>> {
        let source = |_| Broken::Source;
        let sink = |_| Broken::Sink;
        for _ in 0..TURNS {
            while !self.pending.is_empty() {
                let written = to.write_some(&self.pending);
                if would_block(&written) {
                    ready!(to.poll_writable(cx)).map_err(sink)?;
                    continue;
                }
                let written = written.map_err(sink)?;
                count(written as u64);
                self.pending.advance(written);
            }
            while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
                let moved = to.attempt(Interest::WRITABLE, || pipe.drain(to));
                if would_block(&moved) {
                    ready!(to.poll_writable(cx)).map_err(sink)?;
                    continue;
                }
                count(moved.map_err(sink)? as u64);
            }
            if self.ended {
                return Poll::Ready(to.finish().map_err(sink));
            }
            let read = match &mut self.pipe {
                Some(pipe) => from.attempt(Interest::READABLE, || pipe.fill(from)),
                None => SCRATCH.with_borrow_mut(|buffer| self.copy(from, to, buffer, count)),
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(read) => self.filled = read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.filled < SMALL {
                        self.pipe = None;
                    }
                    ready!(from.poll_readable(cx)).map_err(source)?;
                }
                Err(error) if self.pipe.is_some() && error.raw_os_error() == Some(libc::EINVAL) => {
                    self.copy_only = true;
                    self.pipe = None;
                }
                Err(error) => return Poll::Ready(Err(source(error))),
            }
            if self.pipe.is_none() && self.filled >= BUFFER && !self.copy_only {
                // Out of descriptors, they are copied.
                self.pipe = Pipe::get().ok();
            }
        }
        // There may be more, but others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads and writes once; what cannot be written is kept.
    fn copy<A: Channel, B: Channel>(
        &mut self,
        from: &A,
        to: &B,
        buffer: &mut Vec<u8>,
        count: &dyn Fn(u64),
    ) -> io::Result<usize> {
        buffer.clear();
        let read = from.read_some(buffer)?;
        if read == 0 {
            return Ok(0);
        }
        // What goes wrong here goes wrong again when the rest is written.
        let written = to.write_some(buffer).unwrap_or(0);
        count(written as u64);
        if written < read {
            self.pending = Bytes::copy_from_slice(&buffer[written..]);
        }
        Ok(read)
    }
}
