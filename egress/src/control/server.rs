//! The end of the control socket that answers.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::client::read_line;
use super::handover::{self, Identity};
use super::{ControlError, Hello, OLDEST, Request, Response, common};
use crate::daemon::Daemon;
use crate::defence::Defence;
use crate::listeners::Listeners;

/// Connections at once.
const AT_ONCE: usize = 64;
/// How long a successor may take until it takes what it asked for, and over each message then. Nobody serves meanwhile.
const TAKE_WITHIN: Duration = Duration::from_secs(2);

/// Makes `directory` this user's alone.
///
/// # Errors
/// When it is there and somebody else's: whoever made it could exchange the socket.
pub fn private_directory(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = std::fs::symlink_metadata(directory)?;
    let us = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != us {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to user {}, not to {us}", directory.display(), found.uid()),
        ));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Listens on `path`, in the place of whoever did before. The caller holds the daemon's lock.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    // Under another name first: nobody finds a socket whose mode is not set yet.
    let new = path.with_extension("new");
    for old in [&new] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Answers until the process ends, with `hello` first, whose version of the protocol is the newest that is spoken. `over` is told when the daemon is to end.
pub async fn serve(listener: UnixListener, daemon: Daemon, hello: Hello, over: Arc<Notify>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = Session { daemon: daemon.clone(), hello: hello.clone(), over: Arc::clone(&over) };
                tokio::spawn(async move {
                    if let Err(error) = session.run(stream).await {
                        tracing::debug!(%error, "control connection");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors: the next one may find some.
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether a process of user `peer` may give orders to one of user `us`.
fn may_order(peer: u32, us: u32) -> bool {
    peer == us || peer == 0
}

struct Session {
    daemon: Daemon,
    hello: Hello,
    over: Arc<Notify>,
}

impl Session {
    async fn run(self, stream: UnixStream) -> Result<(), ControlError> {
        let peer = stream.peer_cred()?.uid();
        let mut stream = BufReader::new(stream);
        if !may_order(peer, rustix::process::geteuid().as_raw()) && !Defence::ControlPeer.is_off() {
            tracing::warn!(peer, "another user's process asked");
            return write(&mut stream, &failed(format!("user {peer} may not give orders here"))).await;
        }
        match self.question(&mut stream).await? {
            Some(Request::Hello { protocol, version }) => {
                tracing::debug!(version, protocol, "hello");
                let newest = self.hello.protocol;
                let Some(protocol) = common(protocol, newest) else {
                    let message = format!(
                        "version {protocol} of the protocol is not spoken here, {OLDEST} to {newest} are; the daemon is \
                         version {}: ask it with an sbx of that version",
                        self.hello.version
                    );
                    return write(&mut stream, &failed(message)).await;
                };
                write(&mut stream, &Response::Hello(Hello { protocol, ..self.hello.clone() })).await?;
            }
            Some(_) => return write(&mut stream, &failed("say hello first")).await,
            None => return Ok(()),
        }
        while let Some(request) = self.question(&mut stream).await? {
            self.daemon.touch();
            let response = match request {
                Request::Hello { .. } => failed("hello was said"),
                Request::HandOver => return self.hand_over(stream).await,
                Request::Stop => {
                    write(&mut stream, &Response::Done).await?;
                    self.over.notify_one();
                    return Ok(());
                }
                // It serves nothing any more, which says nothing of how things stand.
                _ if self.daemon.is_frozen() => replaced("the daemon is being replaced"),
                Request::Status => Response::Status(Box::new(self.daemon.status())),
                Request::Enforce { project, sandbox, policy, secrets } => {
                    match self.daemon.enforce(&project, &sandbox, policy.as_deref(), secrets).await {
                        Ok(()) => Response::Done,
                        Err(message) => Response::Failed { message, replaced: self.daemon.is_frozen() },
                    }
                }
                Request::WouldCut { project, sandbox, policy } => {
                    Response::Flows { flows: self.daemon.would_cut(&project, &sandbox, &policy) }
                }
                Request::Learn { project, sandbox, seconds } => {
                    match self.daemon.learn(&project, &sandbox, Duration::from_secs(seconds)) {
                        Ok(learning) => {
                            let until = learning.until.to_string();
                            write(&mut stream, &Response::Learning { until }).await?;
                            // An end of the connection ends it as well, by dropping it.
                            let left = Duration::from_secs(seconds);
                            let said = tokio::time::timeout(left, read_line::<Request>(&mut stream)).await;
                            match said {
                                Ok(Ok(Some(Request::EndLearning))) | Err(_) => learning.end().await,
                                Ok(Ok(Some(_))) => {
                                    return Err(ControlError::Protocol(
                                        "a question in the midst of learning".to_owned(),
                                    ));
                                }
                                Ok(Ok(None)) => return Ok(()),
                                Ok(Err(error)) => return Err(error),
                            }
                            Response::Done
                        }
                        Err(message) => Response::Failed { message, replaced: self.daemon.is_frozen() },
                    }
                }
                Request::EndLearning => failed("nobody learns on this connection"),
            };
            write(&mut stream, &response).await?;
        }
        Ok(())
    }

    /// The next question. One that cannot be read, of a later version perhaps, ends the connection, but not without a word.
    async fn question(&self, stream: &mut BufReader<UnixStream>) -> Result<Option<Request>, ControlError> {
        let read = read_line(stream).await;
        if let Err(ControlError::Protocol(_)) = read {
            let message = format!("the daemon does not understand the question; it is version {}", self.hello.version);
            write(stream, &failed(message)).await?;
        }
        read
    }

    /// From here on nobody serves until the successor does; the kernel keeps new connections waiting meanwhile. Where
    /// the successor does not take what it asked for, this daemon goes on: the lock is its own, and nobody else can serve.
    async fn hand_over(self, mut stream: BufReader<UnixStream>) -> Result<(), ControlError> {
        let Some((sockets, secrets)) = self.daemon.freeze() else {
            return write(&mut stream, &replaced("the daemon is being replaced by another one")).await;
        };
        tracing::info!(sandboxes = sockets.len(), "handing over to a successor");
        let asked = async {
            write(&mut stream, &Response::Sandboxes { count: sockets.len(), secrets }).await?;
            stream.read_u8().await?;
            let stream = stream.into_inner().into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(TAKE_WITHIN))?;
            Ok::<_, ControlError>(stream)
        };
        let mut stream = match timeout(TAKE_WITHIN, asked).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.go_on(sockets, error).await,
            Err(_) => return self.go_on(sockets, late()).await,
        };
        let sending = move || (handover::send_all(&mut stream, &sockets), sockets);
        let (sent, sockets) = tokio::task::spawn_blocking(sending)
            .await
            .unwrap_or_else(|panic| (Err(io::Error::other(panic)), Vec::new()));
        match sent {
            Err(error) if handover::is_late(&error) => self.go_on(sockets, late()).await,
            // A successor that has broken off has what came by then, and waits for our end.
            sent => {
                self.over.notify_one();
                Ok(sent?)
            }
        }
    }

    async fn go_on(&self, sockets: Vec<(Identity, Listeners)>, why: ControlError) -> Result<(), ControlError> {
        tracing::warn!(error = %why, "nothing was handed over: going on");
        self.daemon.thaw(sockets);
        // For what has changed meanwhile; what stands in the way is in `status`.
        let _ = self.daemon.look().await;
        Err(why)
    }
}

fn late() -> ControlError {
    ControlError::Io(io::ErrorKind::TimedOut.into())
}

fn failed(message: impl Into<String>) -> Response {
    Response::Failed { message: message.into(), replaced: false }
}

fn replaced(message: impl Into<String>) -> Response {
    Response::Failed { message: message.into(), replaced: true }
}

async fn write(stream: &mut BufReader<UnixStream>, response: &Response) -> Result<(), ControlError> {
    let mut line = serde_json::to_vec(response).map_err(|error| ControlError::Protocol(error.to_string()))?;
    line.push(b'\n');
    Ok(stream.get_mut().write_all(&line).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_give_orders() {
        assert!(may_order(1000, 1000) && may_order(0, 1000) && may_order(0, 0));
        assert!(!may_order(1001, 1000) && !may_order(1000, 0));
    }

    #[test]
    fn somebody_elses_directory_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let mine = dir.path().join("mine");
        private_directory(&mine).expect("made");
        std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o755)).expect("set");
        private_directory(&mine).expect("put right");
        assert_eq!(std::fs::metadata(&mine).expect("there").mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&mine, &link).expect("linked");
        private_directory(&link).expect_err("a link is nobody's directory");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&mine, Some(11_000), None).expect("given away");
            private_directory(&mine).expect_err("somebody else's");
        }
    }
}
