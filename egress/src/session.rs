//! A connection on its way: what it is for, and what was read of it already.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use schema::policy::Host;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::flows::FlowGuard;
use crate::sandbox::Sandbox;
use crate::shared::Shared;

/// What a connection is for.
#[derive(Debug)]
pub struct Session {
    /// Whose it is.
    pub sandbox: Arc<Sandbox>,
    /// What all share.
    pub shared: Arc<Shared>,
    /// The one host it may reach.
    pub host: Host,
    /// The one port it may reach.
    pub port: u16,
    /// Its registration. When [`FlowGuard::cancelled`] returns, the connection ends at once.
    pub flow: FlowGuard,
}

/// A stream of which the first bytes were read already; they are read again first.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// `stream`, preceded by `prefix`.
    pub fn new(prefix: impl Into<Bytes>, stream: S) -> Self {
        Self { prefix: prefix.into(), stream }
    }

    /// What was read and is not read again yet.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What is left of the prefix, and the stream.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.prefix, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let taken = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..taken]);
        self.prefix.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
