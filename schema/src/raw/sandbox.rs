use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::pattern::{BLANK, DEVICE, HOST_PATH, INSIDE_PATH, OWNER, VARIABLE};
use super::{Egress, EnvValue, Gui, Home, Lifecycle, Limits, Mount, NetworkItem, OneOrMany, Security, User, Worktree};
use crate::config;

/// A sandbox, or with `defaults` and `profiles` what sandboxes have in common.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "x-later" = ["runtimes", "addons", "services", "session", "ready", "schedule"],
    "x-meant" = meant()
))]
pub(crate) struct Sandbox {
    /// Profiles beneath this one, later ones over earlier ones.
    #[schemars(with = "Option<OneOrMany>", extend("examples" = ["hardened", ["hardened", "desktop"]]))]
    pub extends: Option<IgnoredAny>,

    /// Who holds the sandbox, for quotas. Default the caller's login name; `${VAR}` is expanded.
    #[schemars(extend("minLength" = 1, "pattern" = OWNER, "not" = {"pattern": BLANK}, "examples" = ["${USER}"]))]
    pub owner: Option<String>,

    /// Name of the root filesystem: an entry of `images`, or the built-in `host`.
    #[schemars(extend("examples" = ["host"]))]
    pub image: Option<String>,

    /// The user processes run as. Default the caller.
    #[schemars(extend("examples" = [{"name": "dev", "uid": "caller", "home": "/home/dev"}]))]
    pub user: Option<User>,

    /// What the home directory is made of. Default what the image has there.
    #[schemars(extend("examples" = [{"volume": "api-data"}]))]
    pub home: Option<Home>,

    /// The main process and its arguments; no shell reads them. Default: the sandbox idles.
    #[schemars(with = "Option<Vec<String>>", extend("minItems" = 1, "contains" = {"type": "string", "minLength": 1}, "examples" = [["python3", "-m", "http.server"]]))]
    pub command: Option<IgnoredAny>,

    /// Working directory, absolute. Default the home directory.
    #[schemars(extend("minLength" = 1, "pattern" = INSIDE_PATH, "examples" = ["/srv"]))]
    pub workdir: Option<String>,

    /// Host paths and volumes shown inside, in order.
    #[schemars(extend("examples" = [[{"source": "~/.cargo", "mode": "rw"}]]))]
    pub mounts: Option<Vec<Mount>>,

    /// A host directory whose files are mounted last, one by one, over everything else; `home/user` in it stands for the
    /// user's home.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["./overlay"]))]
    pub overlay: Option<String>,

    /// Git worktrees, at the same absolute path inside and outside.
    #[schemars(extend("examples" = [[{"repo": "https://github.com/acme/api.git", "branch": "main", "path": "~/worktrees/api/main"}]]))]
    pub worktrees: Option<Vec<Worktree>>,

    /// Networks this sandbox is in: names, and `{ name: NAME, ports: [...] }` where others on it reach this sandbox at some
    /// ports only.
    #[schemars(with = "Option<Vec<NetworkItem>>", extend("examples" = [["backend", {"name": "metrics", "ports": [9100]}]]))]
    pub networks: Option<IgnoredAny>,

    /// What leaves the sandbox. Default nothing.
    #[schemars(extend("examples" = [{"allow": ["github"]}]))]
    pub egress: Option<Egress>,

    /// Ceilings for CPU, memory and processes.
    #[schemars(extend("examples" = [{"cpus": 2, "memory": "4GiB", "pids": 2048}]))]
    pub limits: Option<Limits>,

    /// What the engine does when the main process ends.
    #[schemars(with = "Option<Restart>", extend("default" = "no", "examples" = ["on-failure"]))]
    pub restart: Option<config::Restart>,

    /// When an unused sandbox is stopped and destroyed. Read and checked; nothing acts on it yet.
    #[schemars(extend("examples" = [{"idleStop": "7d", "destroyAfter": "14d"}]))]
    pub lifecycle: Option<Lifecycle>,

    /// Hardening. The defaults drop every capability and forbid new privileges.
    #[schemars(extend("examples" = [{"readOnly": true}]))]
    pub security: Option<Security>,

    /// Desktop access.
    #[schemars(extend("examples" = [{"wayland": true}]))]
    pub gui: Option<Gui>,

    /// CDI names (`vendor/class=name`) or device paths.
    #[schemars(with = "Option<Vec<String>>", extend("items" = {"type": "string", "pattern": DEVICE}, "examples" = [["nvidia.com/gpu=all"], ["/dev/kvm"]]))]
    pub devices: Option<IgnoredAny>,

    /// Environment variables: text, or `{ secret: NAME }`.
    #[schemars(with = "Option<IndexMap<String, EnvValue>>", extend("propertyNames" = {"pattern": VARIABLE}, "examples" = [{"RUST_LOG": "debug", "TOKEN": {"secret": "gh-token"}}]))]
    pub env: Option<IgnoredAny>,

    /// How many of it; more than one are named `NAME-1` to `NAME-n`.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1, "examples" = [3]))]
    pub replicas: Option<u32>,
}

/// When the engine starts the main process again.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Restart {
    /// Never.
    No,
    /// After a failure.
    OnFailure,
    /// Always.
    Always,
}

fn meant() -> BTreeMap<&'static str, &'static str> {
    MEANT.iter().copied().collect()
}

/// What people write who know other tools, or who forgot which section a field is in.
const MEANT: &[(&str, &str)] = &[
    ("environment", "env"),
    ("volumes", "mounts"),
    ("binds", "mounts"),
    ("bind", "mounts"),
    ("entrypoint", "command"),
    ("cmd", "command"),
    ("run", "command"),
    ("working_dir", "workdir"),
    ("cwd", "workdir"),
    ("cpu", "limits.cpus"),
    ("cpus", "limits.cpus"),
    ("memory", "limits.memory"),
    ("mem_limit", "limits.memory"),
    ("pids", "limits.pids"),
    ("pids_limit", "limits.pids"),
    ("cap_drop", "security.capDrop"),
    ("capDrop", "security.capDrop"),
    ("cap_add", "security.capAdd"),
    ("capAdd", "security.capAdd"),
    ("read_only", "security.readOnly"),
    ("readOnly", "security.readOnly"),
    ("noNewPrivileges", "security.noNewPrivileges"),
    ("no_new_privileges", "security.noNewPrivileges"),
    ("tmpfs", "security.tmpfs"),
    ("userns", "security.userns"),
    ("userns_mode", "security.userns"),
    ("scale", "replicas"),
    ("deploy", "replicas"),
    ("workspace", "home.workspace"),
    ("wayland", "gui.wayland"),
    ("audio", "gui.audio"),
    ("dbus", "gui.dbus"),
    ("dri", "gui.dri"),
    ("network", "networks"),
    ("network_mode", "egress.mode"),
    ("allow", "egress.allow"),
    ("deny", "egress.deny"),
    ("extra_hosts", "egress.hosts"),
    ("dns", "egress.hosts"),
    ("uid", "user.uid"),
    ("gid", "user.gid"),
    ("idleStop", "lifecycle.idleStop"),
    ("destroyAfter", "lifecycle.destroyAfter"),
    ("keepVolumes", "lifecycle.keepVolumes"),
    ("profile", "extends"),
    ("profiles", "extends"),
    ("build", "images"),
    ("ref", "images"),
];
