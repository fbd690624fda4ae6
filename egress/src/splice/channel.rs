//! Connections bytes can be moved between.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// A connected, non-blocking stream socket.
pub(crate) trait Channel: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + 'static {
    /// Whether reading may do something.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether writing may do something.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Returns when the connection was reset, whether anything is read from it or not.
    fn broken(&self) -> impl Future<Output = ()> + Send;
    /// Does `work` if the socket is ready for it; it would block otherwise.
    fn attempt<T>(&self, interest: Interest, work: impl FnOnce() -> io::Result<T>) -> io::Result<T>;

    /// Reads into the spare capacity of `buffer`; 0 at the end.
    fn read_some(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let mut taken = None;
        let attempted = self.attempt(Interest::READABLE, || {
            let (read, _) = rustix::net::recv(self, rustix::buffer::spare_capacity(buffer), RecvFlags::DONTWAIT)?;
            taken = Some(read);
            if 0 < read && read < room {
                // There is nothing more: what comes next, the end as well, is told anew. Asking would only say so. It has to
                // be said within the attempt, so that what is told meanwhile is not taken for what was told before it.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        taken.map_or(attempted, Ok)
    }

    /// Writes some of `bytes`.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(Interest::WRITABLE, || {
            Ok(rustix::net::send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
        })
    }

    /// Says that nothing more will be written.
    fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self, rustix::net::Shutdown::Write)?)
    }

    /// Has the connection end with a reset when it is closed: what was sent is not to be taken for all there was.
    fn reset(&self)
    where
        Self: Sized,
    {
        // Without it there is a plain end, which is the next best.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

macro_rules! channel {
    ($($stream:ty),*) => {$(
        impl Channel for $stream {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }
            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }
            async fn broken(&self) {
                // Errors of waiting are errors of all waiting: they show elsewhere.
                let _ = self.ready(Interest::ERROR).await;
            }
            fn attempt<T>(&self, interest: Interest, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
                self.try_io(interest, work)
            }
        }
    )*};
}
channel!(TcpStream, UnixStream);
