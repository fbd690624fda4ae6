//! Files below `/etc` that a sandbox behind a policy has from us, read-only: who answers questions for names, and what
//! its own name is.

use std::path::{Path, PathBuf};

use schema::config::{EgressMode, Sandbox};

use crate::data::ETC;
use crate::resource::{sha256, short};

/// The resolver's addresses inside; whatever else a program asks, it is the one that answers.
const RESOLV_CONF: &str = "nameserver 198.18.0.1\nnameserver fd00:5b78::1\n";

/// A file on the host that is named by its content, and its place inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcFile {
    /// Absolute path inside.
    pub target: &'static str,
    /// Content.
    pub text: String,
}

impl EtcFile {
    /// Where it is, or has to be, in the directory where `sbx` keeps its data.
    pub fn path(&self, data: &Path) -> PathBuf {
        let name = self.target.trim_start_matches("/etc/");
        data.join(ETC).join(short(&sha256(self.text.as_bytes()))).join(name)
    }
}

/// Who answers questions for names.
pub fn resolv_conf() -> EtcFile {
    EtcFile { target: "/etc/resolv.conf", text: RESOLV_CONF.to_owned() }
}

/// The files of `sandbox`; none where the engine's own are right.
///
/// They depend on no rule: a policy that comes later, or goes, needs no other container.
pub fn files(sandbox: &Sandbox) -> Vec<EtcFile> {
    let ours = match sandbox.egress.mode {
        EgressMode::Allowlist | EgressMode::Direct => true,
        EgressMode::None => !sandbox.networks.is_empty(),
        EgressMode::Open => false,
    };
    if !ours {
        return Vec::new();
    }
    let name = &sandbox.name;
    vec![
        resolv_conf(),
        EtcFile {
            target: "/etc/hosts",
            text: format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n"),
        },
        EtcFile { target: "/etc/hostname", text: format!("{name}\n") },
    ]
}
