//! A Podman of the test's own.
//!
//! Guarantees: an engine shares no storage, network, control socket, lock file, `/run` or process tree with the machine
//! or with another engine. Dropping it, or the death of the test process, ends every process in it and undoes every
//! mount; the directory is removed by the drop. `sbx`, `podman` and helpers run inside, as the engine's user; paths below
//! [`Engine::dir`] mean the same inside and outside.
//!
//! Assumptions: the test runs as root with the packages of `./dev`; `tests/podman/trixie.sh` could build its directory.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::invocation::Invocation;
use crate::namespaces::Namespaces;
use crate::wait::wait_for;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/podman/engine.sh");
const TRIXIE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/podman/trixie.sh");

/// Uid and gid of the ordinary user that rootless engines and their `sbx` run as. It exists only inside the engine.
pub const USER: u32 = 11_000;

/// Which Podman, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The machine's own Podman (4.3 on Debian 12), as root.
    Rootful4,
    /// The machine's own Podman, as an ordinary user.
    Rootless4,
    /// Podman 5 of a Debian trixie, as root.
    Rootful5,
    /// Podman 5 of a Debian trixie, as an ordinary user.
    Rootless5,
}

impl Kind {
    pub fn is_rootless(self) -> bool {
        matches!(self, Kind::Rootless4 | Kind::Rootless5)
    }

    /// Podman 5 or later.
    pub fn is_5(self) -> bool {
        matches!(self, Kind::Rootful5 | Kind::Rootless5)
    }
}

/// A running engine. See the module for what it guarantees.
pub struct Engine {
    kind: Kind,
    namespaces: Namespaces,
    service: RefCell<Option<Child>>,
    /// The `unshare` around PID 1, and the pipe whose closing ends it.
    supervisor: Child,
    lifeline: Option<ChildStdin>,
    dir: TempDir,
}

impl Engine {
    /// Starts an engine with empty storage and its API service.
    pub fn start(kind: Kind) -> Self {
        let engine = Self::without_service(kind);
        engine.start_service();
        engine
    }

    /// An engine whose API service does not run (yet).
    pub fn without_service(kind: Kind) -> Self {
        assert!(
            rustix::process::getuid().is_root(),
            "tests on a real Podman start engines in namespaces of their own and need root: run `./dev test` as root \
             or with sudo, or deselect them with SBX_TEST_WITHOUT_PODMAN=1"
        );
        let dir = tempfile::Builder::new().prefix("sbx-test-").tempdir().expect("a temporary directory");
        let base = dir.path();
        let user = if kind.is_rootless() { USER } else { 0 };
        prepare(base, user);
        let root = if kind.is_5() { trixie() } else { Path::new("/") };

        let mut supervisor = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash", SCRIPT])
            .args([base, root])
            .arg(user.to_string())
            .arg(base.join("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(base.join("engine.log")).expect("the engine's log"))
            .spawn()
            .expect("unshare of util-linux starts");
        let lifeline = supervisor.stdin.take();
        let mut said = String::new();
        let stdout = supervisor.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut said).expect("the engine's PID 1 can be read");
        assert!(said == "ready\n", "no namespaces for an engine: {}", read(&base.join("engine.log")));
        let namespaces =
            Namespaces::made_by(supervisor.id(), &base.join("outside")).expect("the engine's namespaces can be opened");
        Self { kind, namespaces, service: RefCell::new(None), supervisor, lifeline, dir }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Uid and gid of the user that everything here runs as.
    pub fn uid(&self) -> u32 {
        if self.kind.is_rootless() { USER } else { 0 }
    }

    /// The test's own directory; goes with the engine.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The working directory of commands, empty at first.
    pub fn project(&self) -> PathBuf {
        self.dir().join("project")
    }

    /// `$HOME` of commands.
    pub fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// Where the API service listens, the engine's default place; reachable from inside and outside.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("podman/podman.sock")
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn runtime_dir(&self) -> PathBuf {
        if self.kind.is_rootless() { self.dir().join(format!("run/user/{USER}")) } else { self.dir().join("run") }
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Listens at the far end of the uplink: on another machine, to the engine. `address` has to be one that is there.
    #[track_caller]
    pub fn listen_outside(&self, address: &str, port: u16) -> TcpListener {
        self.namespaces.outside(|| TcpListener::bind((address, port))).expect("the far end is ours")
    }

    /// Any program, as the engine's user, in the project directory.
    pub fn command(&self, program: &str) -> Invocation<'_> {
        self.as_user(program, self.uid())
    }

    /// Any program as root inside, whoever owns the engine: for faults and for looking.
    pub fn as_root(&self, program: &str) -> Invocation<'_> {
        self.as_user(program, 0)
    }

    fn as_user(&self, program: &str, uid: u32) -> Invocation<'_> {
        let name = if uid == 0 { "root" } else { "sbx-tester" };
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("USER", name)
            .env("LOGNAME", name)
            .env("HOME", self.home())
            .env("TMPDIR", self.dir().join("storage/tmp"))
            .env("CONTAINERS_CONF", self.dir().join("etc/containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.dir().join("etc/storage.conf"))
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.project());
        if self.kind.is_rootless() {
            command.env("XDG_RUNTIME_DIR", self.runtime_dir());
        }
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        Invocation::new(self, command)
    }

    /// `sbx` under test, in the project directory, with `CONTAINER_HOST` at this engine and a state directory of its own.
    pub fn sbx(&self, args: &[&str]) -> Invocation<'_> {
        self.command(&self.sbx_path().to_string_lossy())
            .env("CONTAINER_HOST", self.url())
            .env("NO_COLOR", "1")
            .args(args)
    }

    /// The path of `sbx` inside.
    pub fn sbx_path(&self) -> PathBuf {
        self.dir().join("bin/sbx")
    }

    /// The podman command line on the same storage, as a second opinion and for edits behind `sbx`'s back: demands
    /// success, gives standard output.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> String {
        self.podman_command(args).ok()
    }

    /// As [`Engine::podman`], to be run by the caller.
    pub fn podman_command(&self, args: &[&str]) -> Invocation<'_> {
        self.command("podman").args(args)
    }

    /// Writes a file of the engine's user below the project directory, making directories on the way.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project().join(path);
        let parent = path.parent().expect("a file has a parent");
        let missing: Vec<_> = parent.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(parent).unwrap();
        fs::write(&path, content).unwrap();
        for made in missing.iter().chain([&path]) {
            chown(made, Some(self.uid()), Some(self.uid())).unwrap();
        }
        path
    }

    /// Starts the API service and waits until it answers.
    #[track_caller]
    pub fn start_service(&self) {
        assert!(self.service.borrow().is_none(), "the API service runs already");
        let log = fs::File::options().create(true).append(true).open(self.service_log()).unwrap();
        let url = self.url();
        let mut podman = self.podman_command(&["system", "service", "--time", "0", &url]);
        // A group of its own: as an ordinary user podman runs itself a second time in a user namespace.
        podman.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut service = self.namespaces.spawn(&mut podman.command).expect("podman starts");
        wait_for("the API service", Duration::from_secs(20), || {
            if let Some(status) = service.try_wait().unwrap() {
                panic!("podman system service ended, {status}: {}", read(&self.service_log()));
            }
            self.answers().then_some(())
        });
        self.service.replace(Some(service));
    }

    /// Kills the API service as a crash would; containers stay.
    pub fn kill_service(&self) {
        if let Some(mut service) = self.service.take() {
            kill_process_group(Pid::from_child(&service), Signal::KILL).expect("it is ours");
            service.wait().expect("it is ours");
        }
    }

    /// Whether something answers a ping on the socket.
    pub fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut answer = String::new();
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.0 200")
    }

    fn service_log(&self) -> PathBuf {
        self.dir().join("service.log")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- podman system service of {:?}\n{}", self.kind, read(&self.service_log()));
        }
        // PID 1 removes what outlives it and ends; the kernel ends the rest before `unshare` is told. It waits for the
        // service to be reaped, which is our child and not one of PID 1.
        self.kill_service();
        drop(self.lifeline.take());
        let _ = self.supervisor.wait();
    }
}

/// Lays out the engine's directory.
fn prepare(base: &Path, user: u32) {
    fs::set_permissions(base, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["bin", "etc", "root", "run", "storage"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    let runtime = if user == 0 { base.join("run") } else { base.join(format!("run/user/{user}")) };
    fs::create_dir_all(runtime.join("podman")).unwrap();
    let mut owned = vec![base.join("home"), base.join("project"), base.join("networks")];
    for dir in &owned {
        fs::create_dir(dir).unwrap();
    }
    if user != 0 {
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        owned.extend([runtime.join("podman"), runtime]);
    }
    for dir in &owned {
        chown(dir, Some(user), Some(user)).unwrap();
    }
    // A directory of its own: the build directory may lie where an ordinary user cannot go.
    let sbx = Path::new(env!("CARGO_BIN_EXE_sbx"));
    if fs::hard_link(sbx, base.join("bin/sbx")).is_err() {
        fs::copy(sbx, base.join("bin/sbx")).unwrap();
    }
    let base = base.display();
    let containers = format!(
        "[containers]\n\
         default_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n\
         log_driver = \"k8s-file\"\n\
         [engine]\n\
         runtime = \"runc\"\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         [network]\n\
         network_backend = \"netavark\"\n\
         network_config_dir = \"{base}/networks\"\n"
    );
    fs::write(format!("{base}/etc/containers.conf"), containers).unwrap();
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{base}/storage/graph\"\nrunroot = \"{base}/storage/run\"\n"
    );
    fs::write(format!("{base}/etc/storage.conf"), storage).unwrap();
}

/// The root directory of Podman 5, built if it is not there.
fn trixie() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let output = Command::new(TRIXIE).stderr(Stdio::inherit()).output().expect("bash starts");
        assert!(output.status.success(), "no root directory for Podman 5: see {TRIXIE}");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
