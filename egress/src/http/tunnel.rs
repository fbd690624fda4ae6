//! Bytes both ways after an upgrade.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

use super::account::Account;
use super::exchange::Upgraded;

/// Moves bytes until both sides are done, one breaks off, nothing has moved for `idle`, or it is not allowed any more.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(client: S, upgraded: Upgraded, idle: Duration) {
    let Upgraded { server, mut account, place: _place } = upgraded;
    let Ok(server) = server.await else { return account.end(Some("upstream-failed")) };
    let begun = Instant::now();
    let moved = AtomicU64::new(0);
    let ended = {
        let mut client = Counted { stream: client, account: &account, begun, moved: &moved };
        let mut server = TokioIo::new(server);
        let rests = async {
            loop {
                let until = begun + Duration::from_millis(moved.load(Ordering::Relaxed)) + idle;
                if Instant::now() >= until {
                    return;
                }
                tokio::time::sleep_until(until).await;
            }
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| account.request.poll_cut(cx)) => Some("revoked"),
            done = copy_bidirectional(&mut client, &mut server) => done.err().map(|_| "broken-off"),
            () = rests => Some("idle"),
        }
    };
    account.end(ended);
}

/// The client's side, counting.
struct Counted<'a, S> {
    stream: S,
    account: &'a Account,
    begun: Instant,
    /// When bytes moved last, in milliseconds since the beginning.
    moved: &'a AtomicU64,
}

impl<S> Counted<'_, S> {
    fn moved(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(since, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        self.account.request.sent.fetch_add(read, Ordering::Relaxed);
        self.account.target.session.flow.sent(read);
        self.moved();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.account.received(written as u64);
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
