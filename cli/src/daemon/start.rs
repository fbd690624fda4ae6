//! Having a daemon run: the one there is, a newer one in its place, or a new one.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use egress::control::ControlError;
use egress::control::client::Client;
use tokio::time::{Instant, sleep, timeout};

use super::Place;
use crate::exit::Exit;
use crate::failure::Failure;

/// How long a daemon may take until it answers. It also takes over from an older one in that time.
const START: Duration = Duration::from_secs(20);
/// What it says on its standard output once it answers.
pub const READY: &str = "ready";
/// Variables a daemon is given; nothing else of the caller's environment, where secrets may be.
const KEPT: [&str; 10] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUST_BACKTRACE",
];
/// The same, by what they begin with.
const KEPT_PREFIXES: [&str; 4] = ["XDG_", "CONTAINERS_", "PODMAN_", "LC_"];

/// What the C library is told about memory. It has eight places for each processor to take it from, each of which keeps what
/// was freed, and more and more of it; a daemon that reads long answers now and then needs little in between.
pub const MEMORY: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// A connection to a daemon that is not older than this program; starts one where there is none.
pub async fn ensure(place: &Place) -> Result<Client, Failure> {
    match Client::connect(&place.socket(), &super::version()).await {
        Ok(client) if !is_older(&client.daemon.version, &super::version()) => Ok(client),
        Ok(client) => {
            tracing::debug!(version = client.daemon.version, "replacing an older daemon");
            drop(client);
            start(place).await
        }
        Err(ControlError::Absent(_)) => start(place).await,
        Err(error) => Err(failure(&error)),
    }
}

/// Starts one in the background, in the place of an older one if there is one, and connects.
pub async fn start(place: &Place) -> Result<Client, Failure> {
    let mut child = spawn(place)?;
    let stdout = child.stdout.take();
    let said = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        // An end without a word is told by the exit status.
        stdout.map(|pipe| BufReader::new(pipe).read_line(&mut line)).transpose().map(|_| line)
    });
    let said = timeout(START, said).await;
    if !matches!(&said, Ok(Ok(Ok(line))) if line.trim_end() == READY) {
        // It is our own child, and not waited for.
        let _ = child.kill();
        let _ = child.wait();
        // Somebody else's may have been quicker.
        return match meet(place).await {
            Some(client) => Ok(client),
            None => Err(not_started(place)),
        };
    }
    // Whoever started it ends long before it; waiting is for the system's init then.
    std::thread::spawn(move || child.wait());
    Client::connect(&place.socket(), &super::version()).await.map_err(|error| failure(&error))
}

/// A daemon that somebody else is starting right now.
async fn meet(place: &Place) -> Option<Client> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match Client::connect(&place.socket(), &super::version()).await {
            Ok(client) if !is_older(&client.daemon.version, &super::version()) => return Some(client),
            _ if Instant::now() > deadline => return None,
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

fn spawn(place: &Place) -> Result<Child, Failure> {
    let failed = |what: &std::path::Path, error: std::io::Error| Failure::io(what.display(), &error);
    if let Some(directory) = place.log.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| failed(directory, error))?;
    }
    let mut options = std::fs::OpenOptions::new();
    let log = options.append(true).create(true).mode(0o600).open(&place.log);
    let log = log.map_err(|error| failed(&place.log, error))?;
    // The file this program was started from, whatever stands at its path by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sbx").args(["daemon", "run", "--background", "--replace"]).arg("--state-dir").arg(&place.state);
    if let Some(url) = &place.engine_url {
        command.arg("--engine-url").arg(url);
    }
    command
        .env_clear()
        .envs(environment())
        .envs(MEMORY)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| Failure::io("cannot start the daemon", &error))
}

fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let sudo = std::env::var_os("SUDO_UID").is_some() && rustix::process::geteuid().is_root();
    let kept = move |name: &OsString| {
        let Some(name) = name.to_str() else { return false };
        // The daemon is root's own, whoever called: what is in a caller's home is none of its business.
        let own = !(sudo && (name == "HOME" || name.starts_with("XDG_")));
        let test = cfg!(feature = "failpoints") && name.starts_with("SBX_DAEMON_");
        own && (KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))) || test
    };
    let home = sudo.then(|| (OsString::from("HOME"), OsString::from("/root")));
    std::env::vars_os().filter(move |(name, _)| kept(name)).chain(home)
}

fn not_started(place: &Place) -> Failure {
    let text = std::fs::read_to_string(&place.log).unwrap_or_default();
    let last: Vec<String> =
        text.lines().rev().take(5).map(|line| crate::render::text::safe(line).into_owned()).collect();
    Failure::failed("sbx::daemon", "the daemon could not be started; nothing that needs it was changed")
        .with_details(last.into_iter().rev().collect())
        .with_help(format!("its log is {}; `sbx daemon run` shows more", place.log.display()))
}

/// What an error of the control socket means for whoever runs `sbx`.
pub fn failure(error: &ControlError) -> Failure {
    let failure = match error {
        ControlError::Absent(_) => Failure::new(Exit::Failed, "sbx::no-daemon", "no daemon runs"),
        other => Failure::failed("sbx::daemon", other.to_string()),
    };
    match error {
        ControlError::Absent(_) => {
            failure.with_help("start it with `sbx daemon start`; `sbx apply` does when it needs one")
        }
        ControlError::Protocol(_) => failure.with_help("stop it with `sbx daemon stop` of the version that started it"),
        ControlError::Io(_) | ControlError::Failed(_) => failure.with_help("see `sbx daemon status`"),
    }
}

/// Whether version `a` is older than `b`; what cannot be read is.
pub(super) fn is_older(a: &str, b: &str) -> bool {
    let read = |text: &str| -> Vec<u64> {
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        numbers.split('.').map_while(|part| part.parse().ok()).collect()
    };
    read(a) < read(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(is_older("0.1.0", "0.2.0") && is_older("0.9.0", "0.10.0") && is_older("nonsense", "0.1.0"));
        assert!(!is_older("0.2.0", "0.2.0") && !is_older("1.0.0", "0.9.9"));
    }

    #[test]
    fn no_secret_of_the_caller_reaches_the_daemon() {
        let names: Vec<String> = environment().filter_map(|(name, _)| name.into_string().ok()).collect();
        assert!(names.iter().any(|name| name == "PATH"));
        assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    }
}
