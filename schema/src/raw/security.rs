use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Size;
use super::pattern::{CAPABILITY, INSIDE_PATH};
use crate::config;

/// Hardening.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-meant" = {"cap_drop": "capDrop", "cap_add": "capAdd", "userns_mode": "userns", "privileged": "capAdd"}))]
pub(crate) struct Security {
    /// Read-only root filesystem, with tmpfs on `/tmp` and `/var/tmp` (512 MiB each), `/run`, and, where nothing else is
    /// there, the home directory (1 GiB) and `workdir` (512 MiB).
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub read_only: Option<bool>,

    /// No process gains privileges, whatever file it runs.
    #[schemars(extend("default" = true, "examples" = [true]))]
    pub no_new_privileges: Option<bool>,

    /// Capabilities dropped; `all` is all of them.
    #[schemars(extend("items" = {"type": "string", "pattern": CAPABILITY}, "default" = ["all"], "examples" = [["all"], ["NET_RAW"]]))]
    pub cap_drop: Option<Vec<String>>,

    /// Capabilities given back.
    #[schemars(extend("items" = {"type": "string", "pattern": CAPABILITY}, "default" = [], "examples" = [["CHOWN"]]))]
    pub cap_add: Option<Vec<String>>,

    /// tmpfs mounts: absolute path to size.
    #[schemars(extend("propertyNames" = {"pattern": INSIDE_PATH}, "examples" = [{"/tmp": "512MiB"}]))]
    pub tmpfs: Option<IndexMap<String, Size>>,

    /// The user namespace.
    #[schemars(with = "Option<Userns>", extend("default" = "auto", "examples" = ["auto"]))]
    pub userns: Option<config::Userns>,
}

/// The user namespace of a sandbox.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Userns {
    /// `keep-id` on a rootless engine; on a rootful one a private namespace where the engine can map the caller.
    Auto,
    /// The caller's ids are the same inside.
    KeepId,
    /// The engine's own user namespace.
    Host,
}
