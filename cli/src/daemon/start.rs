//! Having a daemon run: the one there is, a newer one in its place, or a new one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use egress::control::client::Client;
use egress::control::{ControlError, Hello};
use tokio::time::{Instant, sleep, timeout};

use super::{Place, run};
use crate::exit::Exit;
use crate::failure::Failure;

/// How long a daemon may take until it answers. It also takes over from an older one in that time.
const START: Duration = Duration::from_secs(20);
/// How often one is started where another one, which then ends, is in its way.
const ATTEMPTS: u32 = 3;
/// How long one that somebody else starts is waited for.
const MEET: Duration = Duration::from_secs(5);
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
        // One that has begun and does not listen yet is as good, and a rival of it would be none.
        Err(error) if error.is_end() || error.is_absent() => match meet(place, Instant::now() + MEET, |_| true).await {
            Some(client) => Ok(client),
            None => start(place).await,
        },
        Err(error) => Err(failure(&error)),
    }
}

/// Starts one in the background, in the place of an older one if there is one, and connects.
pub async fn start(place: &Place) -> Result<Client, Failure> {
    for _ in 1..ATTEMPTS {
        if let Some(client) = attempt(place).await? {
            return Ok(client);
        }
    }
    attempt(place).await?.ok_or_else(|| not_started(place))
}

/// `None` when another one was in its way, which has ended since.
async fn attempt(place: &Place) -> Result<Option<Client>, Failure> {
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
        let status = child.wait();
        // Somebody else's may have been quicker.
        let met = meet(place, Instant::now() + MEET, |_| true).await;
        let refused = status.is_ok_and(|status| status.code() == Some(i32::from(Exit::TryAgain.code())));
        return if met.is_some() || refused { Ok(met) } else { Err(not_started(place)) };
    }
    // Whoever started it ends long before it; waiting is for the system's init then.
    std::thread::spawn(move || child.wait());
    match Client::connect(&place.socket(), &super::version()).await {
        // One that is to stay, a unit's, has taken its place already.
        Err(error) if error.is_end() || error.is_absent() => Ok(meet(place, Instant::now() + MEET, |_| true).await),
        connected => connected.map(Some).map_err(|error| failure(&error)),
    }
}

/// A daemon that somebody else is starting right now, not older than this program and `wanted`; `None` when nobody is.
pub async fn meet(place: &Place, deadline: Instant, wanted: impl Fn(&Hello) -> bool) -> Option<Client> {
    loop {
        // Before the socket is tried: whoever has the lock later has a socket later.
        let there = run::is_there(place);
        match Client::connect(&place.socket(), &super::version()).await {
            Ok(client) if !is_older(&client.daemon.version, &super::version()) && wanted(&client.daemon) => {
                return Some(client);
            }
            _ if !there || Instant::now() > deadline => return None,
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

fn spawn(place: &Place) -> Result<Child, Failure> {
    let log = open_log(&place.log).map_err(|error| {
        let failure = Failure::io(format!("the daemon cannot be started: its log {}", place.log.display()), &error);
        if failure.help.is_some() { failure } else { failure.with_help("choose another place with --state-dir") }
    })?;
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

fn open_log(path: &Path) -> std::io::Result<File> {
    let directory = path.parent().unwrap_or(path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
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
        ControlError::Version(there) => {
            let again = format!("end process {}, and start one of this version with `sbx daemon start`", there.pid);
            if is_older(&there.version, &super::version()) {
                return failure.with_help(again);
            }
            failure.with_help(format!("use sbx {} or a later one; or {again}", there.version))
        }
        ControlError::Protocol(_) => failure.with_help("stop it with `sbx daemon stop` of the version that started it"),
        ControlError::Replaced(_) => failure.with_help("run the command again"),
        ControlError::Io(_) | ControlError::Failed(_) => failure.with_help("see `sbx daemon status`"),
    }
}

/// Whether version `a` is older than `b`; what cannot be read is.
pub fn is_older(a: &str, b: &str) -> bool {
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
    fn who_meets_a_daemon_of_another_time_is_told_what_to_do() {
        use egress::control::Starter;

        let help = |version: &str| {
            let there = Hello { protocol: 99, pid: 42, ..Hello::own(version.to_owned(), Starter::Sbx) };
            let failure = failure(&ControlError::Version(there));
            assert!(failure.message.contains(version) && failure.message.contains("99"), "{}", failure.message);
            failure.help.clone().unwrap_or_default()
        };
        assert!(help("99.0.0").starts_with("use sbx 99.0.0 or a later one; or end process 42"));
        assert!(help("0.0.1").starts_with("end process 42"));
    }

    #[test]
    fn no_secret_of_the_caller_reaches_the_daemon() {
        let names: Vec<String> = environment().filter_map(|(name, _)| name.into_string().ok()).collect();
        assert!(names.iter().any(|name| name == "PATH"));
        assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    }
}
