use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{HOST_PATH, INSIDE_PATH};
use crate::config;

/// A host path or a volume shown inside: one of `source` and `volume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["source"]}, {"required": ["volume", "target"]}],
    "x-meant" = {"src": "source", "path": "source", "destination": "target", "dst": "target", "readOnly": "mode", "read_only": "mode", "name": "volume"}
))]
pub(crate) struct Mount {
    /// A host path. Relative paths start at the directory of the file; `~` and `${VAR}` are expanded.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["~/.cargo", "./docs"]))]
    pub source: Option<String>,

    /// A volume, by its name under `volumes`.
    #[schemars(extend("examples" = ["api-data"]))]
    pub volume: Option<String>,

    /// Absolute path inside; default the same path as `source`.
    #[schemars(extend("minLength" = 1, "pattern" = INSIDE_PATH, "examples" = ["/srv/docs"]))]
    pub target: Option<String>,

    /// Whether the sandbox may write.
    #[schemars(with = "Option<Mode>", extend("default" = "ro", "examples" = ["rw"]))]
    pub mode: Option<config::Mode>,

    /// SELinux relabelling of the source. Changes labels on the host; nothing is relabelled unless asked.
    #[schemars(with = "Option<Relabel>", extend("examples" = ["private"]))]
    pub relabel: Option<config::Relabel>,
}

/// Read-only or writable.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Read-only.
    Ro,
    /// Writable.
    Rw,
}

/// SELinux relabelling.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Relabel {
    /// Shared between containers, as podman's `z`.
    Shared,
    /// This sandbox only, as podman's `Z`.
    Private,
}
