//! Finding the engine, or starting one for the run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, JSON, full};
use crate::backend::{BackendError, ErrorKind};

/// How long a socket may take to answer a ping before it counts as dead.
pub const PING: Duration = Duration::from_secs(5);
/// How long a started service or tunnel may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How long a started service outlives us when we could not stop it. It counts connections, and we hold one.
const IDLE_SECONDS: &str = "--time=10";

/// Runs a program, given from `$2` on. However we end, our end of its standard input is closed then, and whoever reads there
/// removes the socket and its directory `$0`, and does `$1`. Without it only a death that we live to see would end the
/// program.
const LEASH: &str = r#"
then=$1
shift
exec 3<&0 </dev/null
(read -r _ <&3; rm -f "$0/podman.sock"; rmdir "$0"; $then) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

/// What is left to do for a program that ends by itself.
const NOTHING: &str = ":";
/// Ends the program, which has a process group of its own.
const END: &str = "kill -TERM 0";

/// Where to look for an engine, in order. Everything is given: this crate does not read the environment.
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// What the user asked for: `unix:///path`, `ssh://user@host[:port]/path`.
    pub url: Option<String>,
    /// The value of `CONTAINER_HOST`.
    pub container_host: Option<String>,
    /// Sockets that may be there: the user's own first.
    pub candidates: Vec<PathBuf>,
    /// Sockets by which the user's own engine is reached, which it is also without one: they are one engine.
    pub own: Vec<PathBuf>,
    /// Where a socket for the run may be made; must be a short path.
    pub runtime_dir: PathBuf,
    /// The engine's program, to start a service with when no socket answers; `None` forbids starting one.
    pub program: Option<PathBuf>,
}

/// How the engine was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was named.
    Named(String),
    /// One of the candidates answered.
    Found(PathBuf),
    /// It was started for this run.
    Started,
}

/// A reachable engine. Dropping it stops what was started for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub client: Client,
    /// Version told by the ping.
    pub version: String,
    pub origin: Origin,
    /// User id of whoever listens, if that is a process among ours: the engine's process numbers and paths mean the
    /// same here then.
    pub peer: Option<u32>,
    _helper: Option<Helper>,
}

/// A child that serves the socket, and its directory.
#[derive(Debug)]
struct Helper {
    child: Child,
    hold: Option<UnixStream>,
    _dir: TempDir,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The child was not waited for, so its number is still its own.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

/// A command that runs `program` with a socket in `dir`, and does `then` when we are gone.
fn leashed(dir: &TempDir, then: &str, program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(LEASH).arg(dir.path()).arg(then).arg(program);
    // A group of its own: an interrupt of ours lets the step in hand finish, and the program has to live that long.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command
}

impl Connection {
    /// Applies the rule: what was named, else what answers, else what can be started.
    pub(crate) async fn open(options: &Connect) -> Result<Self, BackendError> {
        if let Some(url) = options.url.as_ref().or(options.container_host.as_ref()).filter(|url| !url.is_empty()) {
            return Self::named(url, options).await;
        }
        let mut refused = None;
        for path in &options.candidates {
            match ping(path, PING).await {
                Ok(version) => return Ok(Self::local(path, version, Origin::Found(path.clone()))),
                // A socket of somebody else, or a dead one: the next may do.
                Err(error) if error.kind != ErrorKind::Unreachable => refused = Some(error),
                Err(_) => {}
            }
        }
        match &options.program {
            Some(program) => start_service(program, &options.runtime_dir).await,
            None => Err(refused.unwrap_or_else(|| {
                BackendError::new(ErrorKind::Unreachable, "no engine answers, and podman is not installed")
                    .with_help("install podman, or name an engine with --engine-url")
            })),
        }
    }

    fn local(path: &Path, version: String, origin: Origin) -> Self {
        Self { client: Client::new(path), version, origin, peer: peer_of(path), _helper: None }
    }

    async fn named(url: &str, options: &Connect) -> Result<Self, BackendError> {
        let origin = Origin::Named(url.to_owned());
        if let Some(path) = url.strip_prefix("unix://") {
            let path = Path::new(path);
            if !path.is_absolute() {
                return Err(bad_url(url, "the path after unix:// must be absolute"));
            }
            let version = ping(path, PING).await?;
            return Ok(Self::local(path, version, origin));
        }
        if let Some(rest) = url.strip_prefix("ssh://") {
            let target = SshTarget::parse(rest).map_err(|why| bad_url(url, why))?;
            return tunnel(&target, &options.runtime_dir, origin).await;
        }
        Err(bad_url(url, "only unix:// and ssh:// are known"))
    }
}

fn bad_url(url: &str, why: &str) -> BackendError {
    BackendError::new(ErrorKind::Failed, format!("engine address {url:?}: {why}"))
        .with_help("write unix:///run/podman/podman.sock or ssh://user@host/run/user/1000/podman/podman.sock")
}

/// Asks for a sign of life within `patience`; the engine's version. Costs half a millisecond where `/version` costs 300:
/// that one runs programs to learn the versions of their packages.
///
/// # Errors
/// Nobody listens at `socket`, or somebody who does not answer, or is not Podman.
pub async fn ping(socket: &Path, patience: Duration) -> Result<String, BackendError> {
    let asked = Client::new(socket).exchange(Method::GET, "/_ping", JSON, full(""), patience).await;
    let reply = asked.map_err(|error| match error.kind {
        ErrorKind::TimedOut => BackendError::new(
            ErrorKind::Unreachable,
            format!("the engine at {} does not answer within {} s", socket.display(), patience.as_secs_f32()),
        ),
        // Whatever listens there hung up: it is no engine, or a dying one.
        ErrorKind::Transient | ErrorKind::Failed => BackendError { kind: ErrorKind::Unreachable, ..error },
        _ => error,
    })?;
    let version = reply.headers.get("libpod-api-version").and_then(|value| value.to_str().ok()).map(str::to_owned);
    version.ok_or_else(|| {
        BackendError::new(ErrorKind::Unreachable, format!("what listens at {} is not Podman", socket.display()))
            .with_help("name Podman's own socket; Docker's is not supported")
    })
}

/// User id of the listener. A rootless engine listens as its user, whatever it is inside its namespace.
///
/// `None` for a listener in another process namespace: an engine in a container, a virtual machine, a test.
fn peer_of(path: &Path) -> Option<u32> {
    let stream = std::os::unix::net::UnixStream::connect(path).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", credentials.pid.as_raw_nonzero())).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    (numbers.split_whitespace().count() == 1).then(|| credentials.uid.as_raw())
}

fn private_dir(parent: &Path) -> Result<TempDir, BackendError> {
    tempfile::Builder::new()
        .prefix("sbx-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|error| {
            BackendError::new(ErrorKind::Failed, format!("cannot make a directory in {}: {error}", parent.display()))
        })
}

async fn start_service(program: &Path, runtime_dir: &Path) -> Result<Connection, BackendError> {
    let dir = private_dir(runtime_dir)?;
    let socket = dir.path().join("podman.sock");
    let mut address = std::ffi::OsString::from("unix://");
    address.push(&socket);
    let child =
        leashed(&dir, NOTHING, program).args(["system", "service", IDLE_SECONDS]).arg(address).spawn().map_err(
            |error| {
                BackendError::new(ErrorKind::Unreachable, format!("cannot start {}: {error}", program.display()))
                    .with_help("install podman, or name an engine with --engine-url")
            },
        )?;
    // Whoever gives up while it starts stops it as well.
    let mut helper = Helper { child, hold: None, _dir: dir };
    let version = answering(&mut helper.child, &socket, "podman system service").await?;
    // A request that never ends: the service counts it as work until we are gone, however we go.
    if let Ok(mut stream) = UnixStream::connect(&socket).await {
        helper.hold = stream.write_all(b"GET /").await.ok().map(|()| stream);
    }
    let peer = peer_of(&socket);
    Ok(Connection { client: Client::new(&socket), version, origin: Origin::Started, peer, _helper: Some(helper) })
}

/// Waits until `socket` answers, or says why `child` gave up.
async fn answering(child: &mut Child, socket: &Path, what: &str) -> Result<String, BackendError> {
    let begun = Instant::now();
    let failure = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break format!("{what} ended with {status}");
        }
        match ping(socket, PING).await {
            Ok(version) => {
                drain(child);
                return Ok(version);
            }
            Err(error) if begun.elapsed() > START => break error.message,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = child.start_kill();
        let _ = timeout(Duration::from_secs(2), stderr.read_to_string(&mut said)).await;
    }
    let said = said.trim();
    let message = if said.is_empty() { failure } else { format!("{failure}: {said}") };
    Err(BackendError::new(ErrorKind::Unreachable, message))
}

/// Keeps the child from blocking on a full pipe.
fn drain(child: &mut Child) {
    if let Some(mut stderr) = child.stderr.take() {
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(1..) = stderr.read(&mut buffer).await {}
        });
    }
}

/// `user@host[:port]/path`.
#[derive(Debug, PartialEq, Eq)]
struct SshTarget {
    destination: String,
    port: Option<u16>,
    socket: String,
}

impl SshTarget {
    fn parse(rest: &str) -> Result<Self, &'static str> {
        let slash = rest.find('/').ok_or("the path of the remote socket is missing")?;
        let (authority, socket) = rest.split_at(slash);
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().map_err(|_| "the port is no number")).transpose()?;
        // ssh would read a leading dash as an option.
        if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-'))
        {
            return Err("user and host must not be empty or begin with a dash");
        }
        if socket.contains(':') || socket.len() < 2 {
            return Err("the path of the remote socket is missing or holds a colon");
        }
        let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { destination, port, socket: socket.to_owned() })
    }
}

/// Forwards the remote socket through the system's `ssh`, with the user's own keys, agent and known hosts.
async fn tunnel(target: &SshTarget, runtime_dir: &Path, origin: Origin) -> Result<Connection, BackendError> {
    let dir = private_dir(runtime_dir)?;
    let socket = dir.path().join("podman.sock");
    let mut forward = socket.clone().into_os_string();
    forward.push(":");
    forward.push(&target.socket);
    let mut command = leashed(&dir, END, Path::new("ssh"));
    command
        .args(["-N", "-T", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"])
        .args(["-o", "StreamLocalBindMask=0177", "-o", "ControlMaster=no", "-o", "ControlPath=none"]);
    if let Some(port) = target.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("-L").arg(forward).arg("--").arg(&target.destination);
    let child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| BackendError::new(ErrorKind::Unreachable, format!("cannot start ssh: {error}")))?;
    let mut helper = Helper { child, hold: None, _dir: dir };
    let version = answering(&mut helper.child, &socket, "ssh").await.map_err(|error| {
        let port = target.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        error.with_help(format!(
            "`ssh {port}{} ls {}` must work without a question; then start podman.socket there",
            target.destination, target.socket
        ))
    })?;
    Ok(Connection { client: Client::new(&socket), version, origin, peer: None, _helper: Some(helper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_addresses() {
        let parsed = SshTarget::parse("me@box:2222/run/podman.sock").expect("valid");
        assert_eq!(parsed.destination, "me@box");
        assert_eq!(parsed.port, Some(2222));
        assert_eq!(parsed.socket, "/run/podman.sock");
        assert_eq!(SshTarget::parse("me@[::1]:22/s").expect("valid").destination, "me@::1");
        for bad in ["box", "-oProxyCommand=x/s", "me@/s", "a@b:x/s", "-u@b/s", "b/"] {
            assert!(SshTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
