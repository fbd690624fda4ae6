//! The body of `containers/create`, typed by hand.
//!
//! The engine ignores keys it does not know, so a misspelt one silently loses its meaning: every field here is read
//! back from a real engine by `tests/podman/readback.rs`, which has to name it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::facts::EngineFacts;
use crate::kinds::container::trust;
use crate::resource::Labels;
use crate::spec::{ContainerSpec, LimitSpec, NetworkSpec, UsernsSpec};

mod mount;

use mount::NamedVolume;
pub(super) use mount::{Mount, bind};

/// Where PID 1 is inside.
pub(crate) const INIT: &str = "/run/sbx/init";

/// Where secrets are inside. Not the usual `/run/secrets`: engines make that read-only with a read-only root, and runc then
/// cannot mount anything below it.
const SECRETS: &str = "/run/sbx/secrets";
/// The variable that tells PID 1 which variables get their value from which file; `init/src/protocol.rs` says how.
const SECRET_ENV: &str = "SBX_SECRET_ENV";

/// First id of the range that stands for nobody: above what distributions hand out as subordinate ids.
const NOBODYS: u32 = 0x7000_0000;
/// Ids a namespace holds at least.
const IDS: u32 = 0x1_0000;

#[derive(Serialize, Default)]
pub(crate) struct CreateBody {
    name: String,
    image: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    hostname: String,
    user: String,
    passwd_entry: String,
    group_entry: String,
    groups: Vec<String>,
    annotations: BTreeMap<String, String>,
    work_dir: String,
    create_working_dir: bool,
    env: BTreeMap<String, String>,
    secrets: Vec<Secret>,
    env_host: bool,
    httpproxy: bool,
    labels: Labels,
    mounts: Vec<Mount>,
    volumes: Vec<NamedVolume>,
    image_volume_mode: &'static str,
    devices: Vec<Device>,
    netns: Namespace,
    #[serde(rename = "Networks", skip_serializing_if = "Option::is_none")]
    networks: Option<BTreeMap<String, Endpoint>>,
    pidns: Namespace,
    ipcns: Namespace,
    utsns: Namespace,
    cgroupns: Namespace,
    userns: Namespace,
    #[serde(skip_serializing_if = "Option::is_none")]
    idmappings: Option<IdMappings>,
    read_only_filesystem: bool,
    no_new_privileges: bool,
    privileged: bool,
    cap_drop: Vec<String>,
    cap_add: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_limits: Option<Resources>,
    restart_policy: String,
    stop_signal: i32,
    stop_timeout: u32,
    init: bool,
    systemd: &'static str,
    #[serde(rename = "sdnotifyMode")]
    sdnotify_mode: &'static str,
    healthconfig: Health,
    terminal: bool,
    stdin: bool,
    remove: bool,
}

#[derive(Serialize, Default)]
struct Namespace {
    nsmode: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
}

impl Namespace {
    fn of(nsmode: &'static str) -> Self {
        Self { nsmode, value: String::new() }
    }
}

/// A file of the user's alone. Engines also offer to set a variable, but 4.3 then shows its value to whoever inspects.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    source: String,
    target: String,
    #[serde(rename = "UID")]
    uid: u32,
    #[serde(rename = "GID")]
    gid: u32,
    mode: u32,
}

#[derive(Serialize)]
struct Device {
    path: String,
}

#[derive(Serialize)]
pub(crate) struct Endpoint {
    pub aliases: Vec<String>,
}

#[derive(Serialize)]
struct IdMappings {
    #[serde(rename = "HostUIDMapping")]
    host_uid_mapping: bool,
    #[serde(rename = "HostGIDMapping")]
    host_gid_mapping: bool,
    #[serde(rename = "UIDMap")]
    uid_map: Vec<IdMap>,
    #[serde(rename = "GIDMap")]
    gid_map: Vec<IdMap>,
}

impl IdMappings {
    fn new(uid_map: Vec<IdMap>, gid_map: Vec<IdMap>) -> Self {
        Self { host_uid_mapping: false, host_gid_mapping: false, uid_map, gid_map }
    }
}

#[derive(Serialize, Debug, PartialEq, Eq)]
struct IdMap {
    container_id: u32,
    host_id: u32,
    size: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    test: [&'static str; 1],
    interval: u64,
    timeout: u64,
    retries: u32,
}

impl Default for Health {
    /// An image's own health check would be run by the engine, at times nobody chose. The times, in nanoseconds, are
    /// for Podman 5, which refuses to update a container whose unused check has none.
    fn default() -> Self {
        Self { test: ["NONE"], interval: 30_000_000_000, timeout: 30_000_000_000, retries: 3 }
    }
}

/// Ceilings in the runtime's terms; also the body of `update`.
#[derive(Serialize, Default, PartialEq, Debug)]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Pids>,
}

#[derive(Serialize, PartialEq, Debug)]
struct Cpu {
    quota: i64,
    period: u64,
}

#[derive(Serialize, PartialEq, Debug)]
struct Memory {
    limit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<i64>,
}

#[derive(Serialize, PartialEq, Debug)]
struct Pids {
    limit: i64,
}

impl Resources {
    /// `lift` spells out "no ceiling", for an update: what is left out there stays as it is.
    pub(crate) fn new(limits: &LimitSpec, engine: &EngineFacts, lift: bool) -> Option<Self> {
        let LimitSpec { cpus_milli, memory, pids } = *limits;
        let can = |name: &str| engine.limits.contains(name);
        let none = lift.then_some(-1);
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let made = Self {
            cpu: cpus_milli
                .map(|milli| signed(milli * 100))
                .or(none)
                .filter(|_| can("cpu"))
                .map(|quota| Cpu { quota, period: 100_000 }),
            memory: memory.map(signed).or(none).filter(|_| can("memory")).map(|limit| Memory {
                limit,
                // A ceiling that lets the rest go to swap is none; kernels without swap accounting refuse the field.
                swap: swap_accounting(engine).then_some(limit),
            }),
            pids: pids.map(signed).or(none).filter(|_| can("pids")).map(|limit| Pids { limit }),
        };
        (made != Self::default()).then_some(made)
    }
}

fn swap_accounting(engine: &EngineFacts) -> bool {
    engine.local
        && (Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
            || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists())
}

/// What runs as PID 1, before the command's own words.
fn entrypoint(gate: bool) -> Vec<String> {
    let gate = gate.then(|| "--gate".to_owned());
    std::iter::once(INIT.to_owned()).chain(gate).chain(["--".to_owned()]).collect()
}

impl CreateBody {
    /// The body for `spec`.
    pub(crate) fn new(name: &str, labels: &Labels, spec: &ContainerSpec, engine: &EngineFacts) -> Self {
        // Destructured so that a new field of the specification cannot be forgotten here.
        let ContainerSpec {
            image,
            hostname,
            user,
            command,
            workdir,
            env,
            secret_env,
            mounts,
            network,
            limits,
            restart,
            read_only,
            no_new_privileges,
            cap_drop,
            cap_add,
            userns,
            devices,
            cdi_devices,
            groups,
            gate,
            // The daemon reads it from the label; networks and mounts say the rest.
            way: _,
        } = spec;
        let home = user.home.display().to_string();
        let (userns, idmappings) = user_namespace(*userns, user.uid, user.gid);
        let (netns, networks) = match network {
            NetworkSpec::None => (Namespace::of("none"), None),
            NetworkSpec::Bridge { networks, alias } => (
                Namespace::of("bridge"),
                Some(
                    networks
                        .iter()
                        .map(|network| (network.clone(), Endpoint { aliases: vec![alias.clone()] }))
                        .collect(),
                ),
            ),
        };
        // Kept groups are the runtime's doing, asked for by annotation.
        let keep_groups = groups.iter().any(|group| group == "keep-groups");
        let annotations =
            keep_groups.then(|| ("run.oci.keep_original_groups".to_owned(), "1".to_owned())).into_iter().collect();
        let mut all_mounts = Vec::new();
        let mut volumes = Vec::new();
        for mount in mounts {
            mount::place(mount, engine, &mut all_mounts, &mut volumes);
        }
        let taken = |target: &str| mounts.iter().any(|mount| mount.target == Path::new(target));
        if *read_only && !taken("/run") {
            // The engine puts secrets and its own marks there.
            all_mounts.push(mount::tmpfs("/run".to_owned(), &["notmpcopyup", "size=16m", "mode=0755"]));
        }
        Self {
            name: name.to_owned(),
            image: image.reference.clone(),
            entrypoint: entrypoint(*gate),
            command: command.clone(),
            hostname: hostname.clone(),
            user: format!("{}:{}", user.uid, user.gid),
            passwd_entry: format!("{}:*:{}:{}:{}:{home}:/bin/sh", user.name, user.uid, user.gid, user.name),
            group_entry: format!("{}:x:{}:", user.name, user.gid),
            groups: groups.iter().filter(|group| *group != "keep-groups").cloned().collect(),
            annotations,
            work_dir: workdir.display().to_string(),
            create_working_dir: true,
            env: environment(env, secret_env, trust::is_mounted(mounts)),
            secrets: secret_env
                .values()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(|name| Secret {
                    source: name.clone(),
                    target: format!("{SECRETS}/{name}"),
                    uid: user.uid,
                    gid: user.gid,
                    mode: 0o400,
                })
                .collect(),
            // The environment of the engine's service, proxies and their passwords included, stays outside.
            env_host: false,
            httpproxy: false,
            labels: labels.clone(),
            mounts: all_mounts,
            volumes,
            // An image's own volumes would be anonymous ones: data there would go without a word on a replacement.
            // Ignored, it is part of the writable layer, whose loss a plan names.
            image_volume_mode: "ignore",
            devices: devices
                .iter()
                .map(|path| path.display().to_string())
                .chain(cdi_devices.iter().cloned())
                .map(|path| Device { path })
                .collect(),
            netns,
            networks,
            pidns: Namespace::of("private"),
            ipcns: Namespace::of("private"),
            utsns: Namespace::of("private"),
            cgroupns: Namespace::of("private"),
            userns,
            idmappings,
            read_only_filesystem: *read_only,
            no_new_privileges: *no_new_privileges,
            privileged: false,
            cap_drop: cap_drop.clone(),
            cap_add: cap_add.clone(),
            resource_limits: Resources::new(limits, engine, false),
            restart_policy: restart.clone(),
            stop_signal: 15,
            stop_timeout: 10,
            init: false,
            systemd: "false",
            sdnotify_mode: "ignore",
            healthconfig: Health::default(),
            terminal: false,
            stdin: false,
            remove: false,
        }
    }
}

/// The variables as written, those by which programs find whom to trust where nobody wrote something else, and for PID 1
/// the names of those whose values are in files.
fn environment(
    env: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, String>,
    trusts: bool,
) -> BTreeMap<String, String> {
    let mut env = env.clone();
    let trusted = trusts.then(trust::environment).into_iter().flatten();
    for (name, value) in trusted.filter(|(name, _)| !secrets.contains_key(*name)) {
        env.entry(name.to_owned()).or_insert(value);
    }
    // Neither names of variables nor those of secrets hold a colon.
    let places: Vec<_> = secrets.iter().map(|(name, secret)| format!("{name}={SECRETS}/{secret}")).collect();
    if !places.is_empty() {
        env.insert(SECRET_ENV.to_owned(), places.join(":"));
    }
    env
}

fn user_namespace(spec: UsernsSpec, uid: u32, gid: u32) -> (Namespace, Option<IdMappings>) {
    match spec {
        UsernsSpec::Host => (Namespace::of("host"), None),
        UsernsSpec::KeepId => (Namespace { nsmode: "keep-id", value: format!("uid={uid},gid={gid}") }, None),
        UsernsSpec::Identity => (Namespace::of("private"), Some(IdMappings::new(identity(uid), identity(gid)))),
        UsernsSpec::Private => (Namespace::of("private"), Some(IdMappings::new(own_id(uid), own_id(gid)))),
    }
}

/// Only `id` is a real one; all others are nobody's.
fn own_id(id: u32) -> Vec<IdMap> {
    let ranges = [
        IdMap { container_id: 0, host_id: NOBODYS, size: id.min(IDS) },
        IdMap { container_id: id, host_id: id, size: 1 },
        IdMap {
            container_id: id.saturating_add(1),
            host_id: NOBODYS.saturating_add(id).saturating_add(1),
            size: IDS.saturating_sub(id.saturating_add(1)),
        },
    ];
    ranges.into_iter().filter(|range| range.size > 0).collect()
}

/// Engines that cannot map single ids on their storage: the ids are the host's, capabilities are still confined.
fn identity(id: u32) -> Vec<IdMap> {
    vec![IdMap { container_id: 0, host_id: 0, size: IDS.max(id.saturating_add(1)) }]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::spec::{MountOrigin, MountSpec};
    use crate::testing::engine;

    #[test]
    fn variables_of_trust_come_with_their_files_and_give_way_to_what_is_written() {
        let env = BTreeMap::from([("CURL_CA_BUNDLE".to_owned(), "/mine".to_owned())]);
        let secrets = BTreeMap::from([("PIP_CERT".to_owned(), "acme_s.0123".to_owned())]);
        let made = environment(&env, &secrets, true);
        assert_eq!(made["CURL_CA_BUNDLE"], "/mine");
        assert_eq!(made["SSL_CERT_FILE"], "/run/sbx/trust/ca-bundle.pem");
        assert!(!made.contains_key("PIP_CERT"), "its value is a secret, given later");
        assert_eq!(environment(&env, &BTreeMap::new(), false), env);
    }

    /// A request with something in every list, and in every field that may be left out.
    fn everything() -> Value {
        let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
        let tmpfs = MountOrigin::Tmpfs { size: 1, mode: 0o700, copied: false };
        for source in [tmpfs, MountOrigin::Volume { volume: "v".to_owned() }] {
            let spec = MountSpec { source, target: "/t".into(), read_only: false, relabel: None };
            mount::place(&spec, &engine(), &mut mounts, &mut volumes);
        }
        let resources = Resources {
            cpu: Some(Cpu { quota: 1, period: 1 }),
            memory: Some(Memory { limit: 1, swap: Some(1) }),
            pids: Some(Pids { limit: 1 }),
        };
        let body = CreateBody {
            secrets: vec![Secret { source: String::new(), target: String::new(), uid: 0, gid: 0, mode: 0 }],
            mounts,
            volumes,
            devices: vec![Device { path: String::new() }],
            networks: Some([("NAME".to_owned(), Endpoint { aliases: Vec::new() })].into()),
            userns: Namespace { nsmode: "", value: "v".to_owned() },
            idmappings: Some(IdMappings::new(own_id(1000), own_id(1000))),
            resource_limits: Some(resources),
            ..CreateBody::default()
        };
        serde_json::to_value(body).expect("plain data")
    }

    /// Where the fields of `value` are, those of what is in a list once.
    fn fields(value: &Value, at: &str) -> BTreeSet<String> {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let dot = if at.is_empty() { "" } else { "." };
                inner.iter().flat_map(|(key, value)| fields(value, &format!("{at}{dot}{key}"))).collect()
            }
            Value::Array(items) if !items.is_empty() => items.iter().flat_map(|item| fields(item, at)).collect(),
            _ => [at.to_owned()].into(),
        }
    }

    /// One that is not read back may hold nothing.
    #[test]
    fn every_field_is_named_where_fields_are_read_back() {
        let all = fields(&everything(), "");
        assert!(all.contains("mounts.options") && all.contains("idmappings.UIDMap.size"), "{all:?}");
        let read = include_str!("../../../tests/podman/readback.rs");
        let missing: Vec<_> = all.iter().filter(|field| !read.contains(&format!("(\"{field}\""))).collect();
        assert!(missing.is_empty(), "not read back from an engine: {missing:?}");
    }

    #[test]
    fn only_the_users_own_id_is_real() {
        let maps = own_id(1000);
        assert_eq!(maps.iter().map(|map| map.size).sum::<u32>(), IDS);
        assert_eq!(maps.iter().filter(|map| map.host_id < NOBODYS).count(), 1);
        assert_eq!(own_id(0).len(), 2);
        assert_eq!(own_id(70_000).last(), Some(&IdMap { container_id: 70_000, host_id: 70_000, size: 1 }));
    }
}
