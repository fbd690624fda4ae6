//! Other tools that converge containers from a file, on the same socket.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::invocation::Invocation;
use crate::target;

/// Another tool, installed by `tests/bench/peers.sh`.
pub struct Peer {
    pub name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// The peers that are installed.
pub fn installed() -> Vec<Peer> {
    let bin = target().join("peers/bin");
    let peers = [("podup", ["up", "-d"].as_slice()), ("docker-compose", ["up", "-d", "--no-build"].as_slice())];
    peers
        .map(|(name, arguments)| Peer { name, program: bin.join(name), arguments })
        .into_iter()
        .filter(|peer| {
            let there = peer.program.exists();
            if !there {
                eprintln!("{} is not installed (tests/bench/peers.sh): measured without it", peer.name);
            }
            there
        })
        .collect()
}

/// A server that the network's part is measured beside, where Debian's package puts it.
pub fn server(name: &str) -> Option<PathBuf> {
    let program = Path::new("/usr/sbin").join(name);
    if !program.exists() {
        eprintln!("{name} is not installed (tests/bench/peers.sh): measured without it");
        return None;
    }
    Some(program)
}

impl Peer {
    /// `up -d` of the services in `file`.
    pub fn up<'e>(&self, engine: &'e Engine, file: &Path) -> Invocation<'e> {
        engine
            .command(&self.program.to_string_lossy())
            .env("DOCKER_HOST", engine.url())
            .env("PODMAN_SOCKET", engine.url())
            .arg("-f")
            .arg(file)
            .args(["-p", &format!("bench-{}", self.name)])
            .args(self.arguments)
    }
}

/// Services that are what `count` sandboxes are: the image, the mounts and PID 1 of `container`, no network, no
/// capabilities.
pub fn services(container: &serde_json::Value, count: usize) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let image = text(&container["ImageName"]);
    let mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
    let mut shared = format!(
        "x-sandbox: &sandbox\n  image: {image:?}\n  entrypoint: [/run/sbx/init, \"--\"]\n  network_mode: none\n  \
         cap_drop: [ALL]\n  security_opt: [\"no-new-privileges\"]\n  pull_policy: never\n  volumes:\n"
    );
    for mount in mounts.iter().filter(|mount| mount["Type"] == "bind") {
        let mode = if mount["RW"] == true { "rw" } else { "ro" };
        let _ = writeln!(
            shared,
            "    - {:?}",
            format!("{}:{}:{mode}", text(&mount["Source"]), text(&mount["Destination"]))
        );
    }
    let mut file = shared + "services:\n";
    for number in 0..count {
        let _ = writeln!(file, "  s{number:05}: *sandbox");
    }
    file
}
