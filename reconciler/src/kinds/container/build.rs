//! From a configured sandbox to the specification of its container.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use schema::Name;
use schema::config::{EgressMode, EnvValue, Restart, Sandbox, Transport, User, Userns};

use super::mounts::Mounts;
use crate::desired::DesireContext;
use crate::host_facts::PathKind;
use crate::kinds::image;
use crate::plan::Notice;
use crate::resource::{ResourceId, label};
use crate::spec::{ContainerSpec, ImageUse, LimitSpec, NetworkSpec, UserSpec, UsernsSpec, Way};

/// The engine's network for `egress: open`, and for `direct`, behind a packet filter.
pub const DEFAULT_NETWORK: &str = "podman";

/// The image of a sandbox.
pub struct Image {
    /// The resource that makes it.
    pub id: ResourceId,
    /// How a container uses it.
    pub used: ImageUse,
}

/// Images of sandboxes, each worked out once for however many use it: by name and, since an empty root holds a home, by
/// user.
#[derive(Default)]
pub struct Images<'a>(HashMap<(&'a Name, u32, u32, &'a Path), Image>);

impl<'a> Images<'a> {
    /// The image of a sandbox of `user` whose configuration says `name`.
    pub fn of(&mut self, context: &DesireContext<'_>, name: &'a Name, user: &'a User) -> &Image {
        self.0.entry((name, user.uid, user.gid, &user.home)).or_insert_with(|| Image {
            id: image::id(context, name, Some(user)),
            used: image::image_use(context, name, Some(user)).unwrap_or_else(|_| ImageUse {
                // The image's own notice says why; an error in the plan keeps this from being used.
                name: name.to_string(),
                reference: String::new(),
                key: String::new(),
            }),
        })
    }
}

/// Builds the specification; what stands in the way goes to `notices`.
pub fn container(
    context: &DesireContext<'_>,
    sandbox: &Sandbox,
    image: ImageUse,
    notices: &mut Vec<Notice>,
) -> ContainerSpec {
    let Sandbox {
        name,
        // A label of the container, no part of what it is made of.
        owner: _,
        image: _,
        user,
        home: _,
        command,
        workdir,
        mounts: _,
        overlay: _,
        worktrees: _,
        networks,
        egress,
        limits,
        restart,
        // The sweep reads it from the configuration; a container does not depend on it.
        lifecycle: _,
        security,
        gui,
        devices: _,
        env,
        ..
    } = sandbox;
    let place = |field: &str| format!("sandboxes.{name}.{field}");
    let (mounts, problems, desktop) = Mounts::of(context, sandbox);
    notices.extend(problems);
    let (device_paths, cdi_devices) = devices(context, sandbox, notices);
    let mut variables: BTreeMap<String, String> =
        [("HOME", user.home.display().to_string()), ("USER", user.name.clone()), ("LOGNAME", user.name.clone())]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .chain(desktop)
            .collect();
    let mut secret_env = BTreeMap::new();
    for (key, value) in env {
        match value {
            EnvValue::Text(text) => {
                variables.insert(key.clone(), text.clone());
            }
            EnvValue::Secret(secret) => {
                variables.remove(key);
                if let Some(Ok(hash)) = context.host.secrets.get(secret.as_str()) {
                    secret_env.insert(key.clone(), context.naming.secret(secret.as_str(), hash));
                }
            }
        }
    }
    let engine = &context.snapshot.engine;
    ContainerSpec {
        image,
        hostname: name.to_string(),
        user: UserSpec { name: user.name.clone(), uid: user.uid, gid: user.gid, home: user.home.clone() },
        command: command.clone().unwrap_or_default(),
        workdir: workdir.clone(),
        env: variables,
        secret_env,
        mounts,
        network: network(context, networks, egress.mode, name.as_str()),
        limits: ceilings(context, limits, &place("limits"), notices),
        restart: match restart {
            Restart::No => "no",
            Restart::OnFailure => "on-failure",
            Restart::Always => "always",
        }
        .to_owned(),
        read_only: security.read_only,
        no_new_privileges: security.no_new_privileges,
        cap_drop: security.cap_drop.clone(),
        cap_add: security.cap_add.clone(),
        userns: match (security.userns, engine.rootless) {
            (Userns::Host, _) => UsernsSpec::Host,
            (Userns::KeepId | Userns::Auto, true) => UsernsSpec::KeepId,
            (Userns::Auto, false) if major(&engine.version) >= 5 => UsernsSpec::Private,
            (Userns::KeepId | Userns::Auto, false) => UsernsSpec::Identity,
        },
        devices: device_paths,
        cdi_devices,
        // Sound and graphics nodes belong to groups; rootless engines can pass the caller's own on.
        groups: if (gui.dri || !sandbox.devices.is_empty()) && engine.rootless {
            vec!["keep-groups".to_owned()]
        } else {
            Vec::new()
        },
        gate: false,
        way: match (egress.mode, egress.transport) {
            (EgressMode::Direct, _) => Way::Direct,
            (EgressMode::Allowlist, Transport::Socket) => Way::Socket,
            _ => Way::Proxy,
        },
    }
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0)
}

fn network(context: &DesireContext<'_>, networks: &[schema::Name], egress: EgressMode, alias: &str) -> NetworkSpec {
    let mut names: Vec<String> = networks.iter().map(|name| context.naming.object(name.as_str())).collect();
    match egress {
        // Whatever these let out goes through no network of the engine.
        EgressMode::None | EgressMode::Allowlist => {}
        EgressMode::Open | EgressMode::Direct => names.push(DEFAULT_NETWORK.to_owned()),
    }
    names.sort();
    if names.is_empty() { NetworkSpec::None } else { NetworkSpec::Bridge { networks: names, alias: alias.to_owned() } }
}

/// Ceilings the engine can enforce. One it cannot is left out and said: it would not hold, or keep a start from working.
fn ceilings(
    context: &DesireContext<'_>,
    limits: &schema::config::Limits,
    place: &str,
    notices: &mut Vec<Notice>,
) -> LimitSpec {
    let schema::config::Limits { cpus_milli, memory, pids } = *limits;
    let able = &context.snapshot.engine.limits;
    let mut missing = Vec::new();
    let mut take = |name: &'static str, value: Option<u64>| {
        if value.is_some() && !able.contains(name) {
            missing.push(name);
            return None;
        }
        value
    };
    let spec =
        LimitSpec { cpus_milli: take("cpu", cpus_milli), memory: take("memory", memory), pids: take("pids", pids) };
    // One line for the whole project: the cause is the engine, not each sandbox.
    if !missing.is_empty() && !notices.iter().any(|notice| notice.code == "sbx::limits-unsupported") {
        notices.push(context.warning(
            "limits-unsupported",
            place,
            format!("this engine cannot enforce {} ceilings; they are not set", missing.join(", ")),
            "rootless engines need cgroup v2 with delegated controllers; see `sbx doctor`",
        ));
    }
    spec
}

/// Device nodes and CDI names that are there.
fn devices(context: &DesireContext<'_>, sandbox: &Sandbox, notices: &mut Vec<Notice>) -> (Vec<PathBuf>, Vec<String>) {
    let mut paths = Vec::new();
    let mut cdi = Vec::new();
    let dri = PathBuf::from("/dev/dri");
    let mut missing = |field: String, what: &str, help: &str| {
        notices.push(context.error("missing-device", &field, format!("device {what} is not there"), help));
    };
    if sandbox.gui.dri {
        if context.host.paths.contains_key(&dri) {
            paths.push(dri);
        } else {
            missing(
                format!("sandboxes.{}.gui.dri", sandbox.name),
                "/dev/dri",
                "this host has no graphics device; switch this off",
            );
        }
    }
    for (index, device) in sandbox.devices.iter().enumerate() {
        let field = format!("sandboxes.{}.devices.{index}", sandbox.name);
        if device.starts_with('/') {
            let path = PathBuf::from(device);
            match context.host.paths.get(&path) {
                Some(PathKind::Device | PathKind::Directory) => paths.push(path),
                _ => missing(field, device, "name a device node of this host"),
            }
        } else if context.host.cdi.as_ref().is_some_and(|known| known.contains(device)) {
            cdi.push(device.clone());
        } else {
            missing(field, device, "generate its CDI specification (for NVIDIA: nvidia-ctk cdi generate) in /etc/cdi");
        }
    }
    (paths, cdi)
}

/// Labels every container has beyond those of every object.
pub fn owner_label(owner: &str) -> (String, String) {
    (label::OWNER.to_owned(), owner.to_owned())
}
