use std::collections::HashMap;

use super::mount::Targets;
use super::network::Memberships;
use super::reference::Kind;
use super::{Resolver, child, stand_in};
use crate::codes::{DUPLICATE_NAME, INVALID_NAME, MISSING_FIELD, WRONG_VALUE};
use crate::config::{Gui, Lifecycle, Limits, Sandbox};
use crate::document::{Entry, Node};
use crate::structure::show;
use crate::suggest::did_you_mean;
use crate::{Name, Span, raw};

/// `limits` where nothing is written.
const CPUS_MILLI: u64 = 2000;
const MEMORY: u64 = 4 << 30;
const PIDS: u64 = 2048;
/// Most sandboxes of one configuration, replicas counted: a few words can ask for any number.
const MOST_SANDBOXES: u32 = 20_000;

impl Resolver<'_> {
    /// The sandboxes an entry stands for: one, or as many as it has replicas. Without a `name` it is only checked.
    pub(super) fn sandbox(&mut self, entry: &Entry, name: Option<Name>) -> Vec<Sandbox> {
        let before = self.said();
        let (effective, since_mode) = self.effective(&entry.value);
        let node = &effective;
        let beneath = !self.layers_are_flawed() && !self.failed_since(before);
        let before = self.said();
        let checked = self.checked::<raw::Sandbox>("Sandbox", &entry.key, entry.key_span, node);
        let Some((raw, refused)) = checked else { return Vec::new() };
        let structure = !self.failed_since(before) || Self::policy_is_right(node);
        let copies = raw.replicas.unwrap_or(1);
        let mut targets = Targets::default();
        let user = self.user(raw.user, node);
        let home = self.home(raw.home, node, &user.home, &mut targets);
        let security = self.security(raw.security, node, &mut targets);
        let mounts = self.mounts(raw.mounts.as_deref().unwrap_or_default(), node, &mut targets);
        let worktrees = self.worktrees(raw.worktrees.as_deref().unwrap_or_default(), node, copies, &mut targets);
        let workdir = match node.get("workdir").filter(|_| raw.workdir.is_some()) {
            Some(workdir) => self.inside_path(workdir).unwrap_or_default(),
            None => user.home.clone(),
        };
        let command = raw.command.map(|_| self.command_line(child(node, "command")));
        let overlay = node.get("overlay").filter(|_| raw.overlay.is_some());
        let overlay = overlay.and_then(|node| self.exposed_path(node));
        let owner = self.owner(node);
        let before = self.said();
        self.allowlists.flawed = false;
        let memberships = self.memberships(node, &refused);
        let mut egress = self.egress(node.entry("egress"), &refused, since_mode, entry.key_span);
        self.check_served(&memberships, egress.mode, node);
        let Memberships { networks, inbound, .. } = memberships;
        egress.policy.inbound = inbound;
        let sound = beneath && structure && !self.allowlists.flawed && !self.failed_since(before);
        self.confined(&security, &networks, egress.mode, node);
        self.unsound |= !sound;
        // Nobody judges a policy that is not what was written.
        let (networks, egress) = if sound { (networks, egress) } else { Default::default() };
        let limits = self.limits(raw.limits.unwrap_or_default(), child(node, "limits"));
        let lifecycle = self.lifecycle(raw.lifecycle.unwrap_or_default(), child(node, "lifecycle"));
        let devices = self.devices(node);
        let env = self.environment(node.get("env").filter(|_| raw.env.is_some()));
        let image = self.image_of(raw.image.as_deref(), node, entry);
        let Some(name) = name else { return Vec::new() };
        let image = image.unwrap_or_else(stand_in);
        let sandbox = Sandbox {
            name,
            owner,
            image,
            user,
            home,
            command,
            workdir,
            mounts,
            overlay,
            worktrees,
            networks,
            egress,
            limits,
            restart: raw.restart.unwrap_or_default(),
            lifecycle,
            security,
            gui: gui(&raw.gui.unwrap_or_default()),
            devices,
            env,
        };
        self.copies(sandbox, copies, entry, node)
    }

    fn copies(&mut self, sandbox: Sandbox, copies: u32, entry: &Entry, node: &Node) -> Vec<Sandbox> {
        self.sandboxes = self.sandboxes.saturating_add(copies);
        if self.sandboxes > MOST_SANDBOXES {
            let at = node.entry("replicas").map_or(entry.key_span, |replicas| replicas.value.span);
            let message = format!("with these there are more than {MOST_SANDBOXES} sandboxes");
            self.problem(WRONG_VALUE.at(at, message).with_help("write fewer replicas"));
            return Vec::new();
        }
        if copies == 1 {
            self.origins_of(&sandbox.name, entry, node);
            return vec![sandbox];
        }
        let mut sandboxes = Vec::new();
        let name = &sandbox.name;
        for number in 1..=copies {
            match Name::new(format!("{name}-{number}")) {
                Ok(name) => {
                    self.origins_of(&name, entry, node);
                    sandboxes.push(Sandbox { name, ..sandbox.clone() });
                }
                Err(error) => {
                    let message = format!("`{name}-{number}`, a replica, cannot name a sandbox: {error}");
                    self.problem(INVALID_NAME.at(entry.key_span, message).with_help("use a shorter name"));
                    break;
                }
            }
        }
        sandboxes
    }

    /// Where the parts are written that a plan may blame; for the others the sandbox itself is near enough.
    fn origins_of(&mut self, name: &Name, entry: &Entry, node: &Node) {
        let path = format!("sandboxes.{name}");
        for field in node.entries() {
            match &*field.key {
                "mounts" | "worktrees" | "devices" | "networks" => {
                    for (index, item) in field.value.items().iter().enumerate() {
                        let span = item.entries().first().map_or(item.span, |first| first.key_span);
                        self.origin(format!("{path}.{}.{index}", field.key), span);
                    }
                }
                "gui" => {
                    for inner in field.value.entries() {
                        self.origin(format!("{path}.gui.{}", inner.key), inner.key_span);
                    }
                }
                "env" => {
                    for inner in field.value.entries().iter().filter(|inner| inner.value.get("secret").is_some()) {
                        self.origin(format!("{path}.env.{}", inner.key), inner.key_span);
                    }
                }
                "image" => self.origin(format!("{path}.image"), field.value.span),
                "home" | "overlay" | "limits" | "security" | "egress" => {
                    self.origin(format!("{path}.{}", field.key), field.key_span);
                }
                _ => {}
            }
        }
        self.origin(path, entry.key_span);
    }

    pub(super) fn claim_name(&mut self, written: &mut HashMap<Name, Span>, name: &Name, span: Span) {
        if let Some(first) = written.insert(name.clone(), span).filter(|first| *first != span) {
            let problem = DUPLICATE_NAME
                .at(span, format!("two sandboxes are named `{name}`"))
                .with_help("rename one: replicas are named `NAME-1`, `NAME-2` and so on")
                .with_related(first, "the other one");
            self.problem(problem);
        }
    }

    fn image_of(&mut self, image: Option<&str>, node: &Node, entry: &Entry) -> Option<Name> {
        match (image, node.get("image")) {
            (Some(image), Some(at)) => self.reference(Kind::Image, image, at.span),
            // What is wrong with it has been said.
            (None, Some(_)) => None,
            _ if node.entries().iter().any(|entry| did_you_mean(&entry.key, ["image"].into_iter()).is_some()) => None,
            _ => {
                self.problem(
                    MISSING_FIELD
                        .at(entry.key_span, format!("`{}` has no `image`", show(&entry.key)))
                        .with_help("add `image: host` for host tools, or the name of an entry of `images`"),
                );
                None
            }
        }
    }

    fn owner(&mut self, node: &Node) -> String {
        let Some(node) = node.get("owner").filter(|node| node.as_str().is_some()) else {
            return self.caller.user.clone();
        };
        let owner = self.text(node).unwrap_or_else(|| self.caller.user.clone());
        if owner.trim().is_empty() || owner.chars().count() > 63 || owner.chars().any(char::is_control) {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` cannot be an owner", show(&owner)))
                    .with_help("write 1 to 63 characters on one line, a login name for example"),
            );
        }
        owner
    }

    fn limits(&mut self, raw: raw::Limits, node: &Node) -> Limits {
        let raw::Limits { cpus, memory, pids } = raw;
        Limits {
            cpus_milli: cpus.map_or(Some(CPUS_MILLI), |cpus| self.cpus(&cpus, child(node, "cpus"))),
            memory: memory.map_or(Some(MEMORY), |memory| self.memory(&memory, child(node, "memory"))),
            pids: Some(pids.map_or(PIDS, u64::from)),
        }
    }

    fn lifecycle(&mut self, raw: raw::Lifecycle, node: &Node) -> Lifecycle {
        let raw::Lifecycle { idle_stop, destroy_after, keep_volumes } = raw;
        Lifecycle {
            idle_stop: self.duration(idle_stop.as_deref().unwrap_or("7d"), child(node, "idleStop")),
            destroy_after: self.duration(destroy_after.as_deref().unwrap_or("14d"), child(node, "destroyAfter")),
            keep_volumes: keep_volumes.unwrap_or(true),
        }
    }
}

fn gui(raw: &raw::Gui) -> Gui {
    let raw::Gui { wayland, audio, dbus, dri } = *raw;
    let on = |field: Option<bool>| field.unwrap_or(false);
    Gui { wayland: on(wayland), audio: on(audio), dbus: on(dbus), dri: on(dri) }
}
