//! Accepting connections, and ending them.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// The next connection; `None` once there cannot be any.
///
/// Running out of descriptors ends nothing: connections wait until there are some again.
pub(crate) async fn next(listener: &TcpListener) -> Option<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some(stream),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) if is_shortage(&error) => {
                tracing::warn!(%error, "connections wait");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%error, "a listener is lost");
                return None;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Has the connection end with a reset when it is closed: what was sent is not to be taken for all there was.
pub(crate) fn reset(stream: &TcpStream) {
    // Without it there is a plain end, which is the next best.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
