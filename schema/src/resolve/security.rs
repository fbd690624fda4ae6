use indexmap::IndexMap;

use super::mount::Targets;
use super::{Resolver, child};
use crate::codes::{CAPABILITY_ADDED, PRIVILEGES_ALLOWED, UNENFORCEABLE, WRONG_VALUE};
use crate::config::{EgressMode, Security};
use crate::document::Node;
use crate::structure::show;
use crate::suggest::did_you_mean;
use crate::{Name, raw};

const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const ALL: &str = "ALL";

/// What changes the rules of a network namespace, or sends past them.
const PAST_RULES: &[&str] = &[ALL, "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE"];

impl Resolver<'_> {
    /// Hardening; by default every capability dropped and no new privileges.
    pub(super) fn security(&mut self, raw: Option<raw::Security>, sandbox: &Node, targets: &mut Targets) -> Security {
        let node = child(sandbox, "security");
        let raw = raw.unwrap_or_default();
        let cap_drop = match &raw.cap_drop {
            Some(_) => self.capabilities(child(node, "capDrop")),
            None => vec![ALL.to_owned()],
        };
        let mut cap_add = Vec::new();
        if raw.cap_add.is_some() {
            let added = child(node, "capAdd");
            cap_add = self.capabilities(added);
            let known = |capability: &str| capability == ALL || CAPABILITIES.contains(&capability);
            for (item, capability) in added.items().iter().zip(&cap_add).filter(|(_, name)| known(name)) {
                self.problem(
                    CAPABILITY_ADDED
                        .at(item.span, format!("capability {capability} widens what the sandbox can do to the host"))
                        .with_help("remove it unless the sandbox does not work without"),
                );
            }
        }
        if raw.no_new_privileges == Some(false) {
            self.problem(
                PRIVILEGES_ALLOWED
                    .at(child(node, "noNewPrivileges").span, "setuid programs may gain privileges in this sandbox")
                    .with_help("remove the line: the default is `true`"),
            );
        }
        let mut tmpfs = IndexMap::new();
        if let Some(sizes) = &raw.tmpfs {
            for entry in child(node, "tmpfs").entries() {
                let key = Node::new(entry.key_span, crate::document::NodeKind::String(entry.key.clone()));
                let target = self.inside_path(&key);
                if let Some(target) = &target {
                    self.take_target(targets, target, entry.key_span);
                }
                let size = sizes.get(&*entry.key).and_then(|size| self.size(size, &entry.value));
                if let (Some(target), Some(size)) = (target, size) {
                    tmpfs.insert(target, size);
                }
            }
        }
        Security {
            read_only: raw.read_only.unwrap_or(false),
            no_new_privileges: raw.no_new_privileges.unwrap_or(true),
            cap_drop,
            cap_add,
            tmpfs,
            userns: raw.userns.unwrap_or_default(),
        }
    }

    /// Refuses what would let a sandbox past the rules that stand between it and the host's end of its networks.
    pub(super) fn confined(&mut self, security: &Security, networks: &[Name], mode: EgressMode, sandbox: &Node) {
        let exposed = !networks.is_empty() || mode == EgressMode::Direct;
        if mode == EgressMode::Open || !exposed {
            return;
        }
        let added = child(child(sandbox, "security"), "capAdd").items();
        for (item, name) in added.iter().zip(&security.cap_add).filter(|(_, name)| PAST_RULES.contains(&name.as_str()))
        {
            let message = format!("with capability {name} the sandbox gets past the rules of its network");
            let help = "remove it, or the networks; with `mode: open` there are no rules to keep";
            self.problem(UNENFORCEABLE.at(item.span, message).with_help(help));
        }
        // Engines can be configured to give some by themselves; where the network leads out, that is not left to them.
        let dropped = |name: &str| security.cap_drop.iter().any(|dropped| dropped == ALL || dropped == name);
        let kept = PAST_RULES.iter().find(|name| **name != ALL && !dropped(name));
        if let (EgressMode::Direct, Some(kept)) = (mode, kept) {
            let message = format!("capability {kept} is not dropped: with it the sandbox gets past its packet filter");
            let help = "write `capDrop: [all]`, which is the default";
            self.problem(UNENFORCEABLE.at(child(child(sandbox, "security"), "capDrop").span, message).with_help(help));
        }
    }

    fn capabilities(&mut self, list: &Node) -> Vec<String> {
        let mut capabilities = Vec::new();
        for item in list.items() {
            let Some(text) = item.as_str() else { continue };
            let upper = text.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if name != ALL && !CAPABILITIES.contains(&name) {
                let help = match did_you_mean(name, CAPABILITIES.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "see capabilities(7) for their names; `all` is all of them".to_owned(),
                };
                self.problem(
                    WRONG_VALUE.at(item.span, format!("there is no capability `{}`", show(text))).with_help(help),
                );
            }
            capabilities.push(name.to_owned());
        }
        capabilities
    }
}
