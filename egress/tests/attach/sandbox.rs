//! A process in namespaces of its own, a daemon that attaches to it, and programs that run inside.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use egress::attach::Target;

pub const TOOL: &str = env!("CARGO_BIN_EXE_attach-tool");

/// An ordinary user without any rights.
const NOBODY: u32 = 65_533;

/// Far longer than anything here takes, and shorter than patience.
const DEADLINE: Duration = Duration::from_secs(20);

/// How an engine maps users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Root, in the host's own user namespace.
    Host,
    /// Root, with the same numbers in a user namespace.
    Identity,
    /// Root, with other numbers in a user namespace.
    Private,
    /// An ordinary user, who is root inside.
    Rootless,
    /// An ordinary user, who has the same number inside; root inside is a subordinate id.
    KeepId,
    /// An ordinary user, and nobody else inside.
    Alone,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Host, Self::Identity, Self::Private, Self::Rootless, Self::KeepId, Self::Alone];

    /// Those that the caller can make.
    pub fn possible() -> Vec<Self> {
        if is_root() { Self::ALL.to_vec() } else { vec![Self::Rootless] }
    }

    fn is_users(self) -> bool {
        matches!(self, Self::Rootless | Self::KeepId | Self::Alone)
    }

    fn map(self) -> Option<String> {
        Some(match self {
            Self::Host => return None,
            Self::Identity => "0 0 65536\n".to_owned(),
            Self::Private => "0 100000 65536\n".to_owned(),
            Self::Rootless => format!("0 {} 1\n", if is_root() { NOBODY } else { rustix::process::geteuid().as_raw() }),
            Self::KeepId => format!("0 100000 {NOBODY}\n{NOBODY} {NOBODY} 1\n"),
            Self::Alone => format!("{NOBODY} {NOBODY} 1\n"),
        })
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "did not come true: {what}");
        #[allow(clippy::disallowed_methods, reason = "the one place where these tests sleep, between two looks")]
        thread::sleep(Duration::from_millis(2));
    }
}

/// `sbx-init`, of this workspace.
pub fn init() -> &'static str {
    static INIT: OnceLock<String> = OnceLock::new();
    INIT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--offline", "--package", "sbx-init", "--message-format", "json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let text = String::from_utf8(built.stdout).unwrap();
        let artifact = text.lines().find(|line| line.contains("\"executable\":\"") && line.contains("sbx-init"));
        let path = artifact.unwrap().split("\"executable\":\"").nth(1).unwrap().split('"').next().unwrap();
        path.to_owned()
    })
}

/// Namespaces with a PID 1. Dropping it kills everything inside.
pub struct Sandbox {
    parent: Child,
    kind: Kind,
    pub target: Target,
}

impl Sandbox {
    /// One whose PID 1 only stays.
    pub fn start(kind: Kind) -> Self {
        Self::of(kind, &["sleep", "infinity"])
    }

    pub fn of(kind: Kind, words: &[&str]) -> Self {
        Self::with(kind, words, |_| {})
    }

    pub fn with(kind: Kind, words: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("unshare");
        if kind.map().is_some() {
            command.arg("--user");
        }
        command.args(["--net", "--pid", "--fork", "--kill-child", "--"]).args(words);
        command.stdin(Stdio::null()).current_dir("/");
        as_user(&mut command, kind);
        prepare(&mut command);
        let mut parent = command.spawn().unwrap();
        let mut pid = None;
        eventually("a PID 1", || {
            pid = children(parent.id()).first().copied();
            assert_eq!(parent.try_wait().unwrap(), None, "it ended");
            // Until its program runs, it is still about to enter.
            pid.is_some_and(|pid| comm(pid) != "unshare")
        });
        let pid = pid.unwrap();
        if let Some(map) = kind.map() {
            if !is_root() {
                fs::write(format!("/proc/{pid}/setgroups"), "deny").unwrap();
            }
            fs::write(format!("/proc/{pid}/uid_map"), &map).unwrap();
            fs::write(format!("/proc/{pid}/gid_map"), &map).unwrap();
        }
        Self { parent, kind, target: Target::hold(pid).unwrap() }
    }

    /// A command that runs in the sandbox's network, as its root where there is one.
    pub fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.target.pid().to_string()]);
        if self.kind.map().is_some() {
            command.arg("--user");
            if self.kind == Kind::Alone {
                command.arg("--preserve-credentials");
            }
        }
        command.args(["--net", "--pid", "--"]).args(words);
        command
    }

    /// What the tool says, inside.
    #[track_caller]
    pub fn tool(&self, words: &[&str]) -> String {
        let output = self.inside(&[&[TOOL], words].concat()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A tool that stays, inside.
    pub fn stay(&self, words: &[&str]) -> Staying {
        Staying::start(self.inside(&[&[TOOL], words].concat()))
    }

    /// Whatever else runs inside.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.inside(words).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A daemon of the user whose sandbox it is; `line` is what came of it.
    pub fn daemon(&self, options: &Options<'_>) -> Daemon {
        let started = self.target.started() + options.started_later;
        let mut command = Command::new(TOOL);
        command.args(["serve", &self.target.pid().to_string(), &started.to_string(), options.udp, options.peers]);
        command.arg(if options.gate { "gate" } else { "-" }).arg(options.without);
        as_user(&mut command, self.kind);
        let mut process = Staying::start(command);
        let line = process.line();
        Daemon { process, line }
    }

    /// A daemon that leaves the sandbox on its network, and opens it what `policy` allows.
    pub fn direct(&self, policy: &str) -> Daemon {
        let mut command = Command::new(TOOL);
        as_user(&mut command, self.kind);
        self.direct_by(command, policy)
    }

    /// The same, to which the program `nft` is another one. Only root can have that.
    pub fn direct_with(&self, nft: &Path, policy: &str) -> Daemon {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(nft);
        command.arg(egress::attach::nft().unwrap());
        if self.kind.is_users() {
            let id = NOBODY.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.arg(TOOL);
        self.direct_by(command, policy)
    }

    fn direct_by(&self, mut command: Command, policy: &str) -> Daemon {
        let (pid, started) = (self.target.pid().to_string(), self.target.started().to_string());
        command.args(["direct", &pid, &started, "-", policy]);
        let mut process = Staying::start(command);
        let line = process.line();
        Daemon { process, line }
    }

    /// A daemon that did attach.
    #[track_caller]
    pub fn attach(&self) -> Daemon {
        let daemon = self.daemon(&Options::default());
        assert!(daemon.line.starts_with("attached"), "{:?}: {}", self.kind, daemon.line);
        daemon
    }

    /// Network devices, with how many packets each has sent.
    pub fn devices(&self) -> Vec<(String, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.target.pid())).unwrap();
        let row = |line: &str| {
            let (name, counts) = line.split_once(':')?;
            Some((name.trim().to_owned(), counts.split_whitespace().nth(9)?.parse().ok()?))
        };
        let mut devices: Vec<_> = text.lines().filter_map(row).collect();
        devices.sort();
        devices
    }

    /// Packets a device has sent.
    pub fn sent(&self, device: &str) -> u64 {
        self.devices().into_iter().find(|(name, _)| name == device).map_or(0, |(_, count)| count)
    }

    /// Ends PID 1, and with it everything inside.
    pub fn end(&mut self) {
        self.parent.kill().unwrap();
        self.parent.wait().unwrap();
        let target = &self.target;
        eventually("its end", || !target.is_alive());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// What a daemon is started with.
pub struct Options<'a> {
    pub udp: &'a str,
    pub peers: &'a str,
    pub gate: bool,
    pub started_later: u64,
    /// Devices that the kernel lacks, by the names of `defence::Device`, with commas; or `-`.
    pub without: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { udp: "-", peers: "-", gate: false, started_later: 0, without: "-" }
    }
}

/// A daemon. Dropping it kills it, as nothing else could.
pub struct Daemon {
    process: Staying,
    pub line: String,
}

impl Daemon {
    /// Asks for something, and returns what came of it.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.answer()
    }

    /// Asks for something.
    pub fn say(&mut self, line: &str) {
        self.process.say(line);
    }

    /// What came of what was asked for.
    pub fn answer(&mut self) -> String {
        self.process.line()
    }
}

/// A process that is spoken with by lines. Dropping it kills it.
pub struct Staying {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Staying {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_user(command: &mut Command, kind: Kind) {
    if kind.is_users() && is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

fn children(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// A process's name.
pub fn comm(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim_end().to_owned()
}
