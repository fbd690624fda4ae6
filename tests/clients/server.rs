//! A server of this machine's own, in the network at the far end of an engine's uplink and in nothing else of it.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::wait::wait_for;

/// PID 1 around a server: its own `/run`, `/proc` and System V memory, and the end of everything when its standard input
/// closes, which the death of the test does as well.
const AROUND: &str =
    "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount -t proc proc /proc
\"$@\" </dev/null &
read -r _";

/// A server, until it is dropped. It sees the files of the machine whatever the engine sees, so that Podman of another
/// distribution can be tested against the same servers.
pub struct Server {
    name: String,
    log: PathBuf,
    around: Child,
}

impl Server {
    /// Starts `command` as root; what it says goes to a file in `dir`.
    pub fn start(engine: &Engine, dir: &Path, command: &[&str]) -> Self {
        let name = Path::new(command[0]).file_name().unwrap().to_string_lossy().into_owned();
        let log = dir.join(format!("{name}.said"));
        let said = File::create(&log).unwrap();
        let spawn = || {
            Command::new("unshare")
                .args(["--mount", "--ipc", "--pid", "--fork", "--kill-child", "bash", "-c", AROUND, "server"])
                .args(command)
                .current_dir(dir)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("LANG", "C.UTF-8")
                .stdin(Stdio::piped())
                .stdout(said.try_clone()?)
                .stderr(said)
                .spawn()
        };
        let around = engine.namespaces().outside(spawn).expect("unshare of util-linux starts");
        Self { name, log, around }
    }

    /// Waits until `probe` gives something.
    pub fn ready<T>(&self, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(&self.name, Duration::from_secs(20), probe)
    }

    /// Waits until it takes connections.
    pub fn listens(&self, engine: &Engine, address: Ipv4Addr, port: u16) {
        self.ready(|| engine.namespaces().outside(|| TcpStream::connect((address, port))).ok());
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        let mut said = String::new();
        let _ = File::open(&self.log).map(|mut log| log.read_to_string(&mut said));
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.said());
        }
        drop(self.around.stdin.take());
        let _ = self.around.wait();
    }
}
