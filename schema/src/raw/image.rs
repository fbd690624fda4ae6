use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{ETC, HOST_PATH, REFERENCE, VARIABLE};
use super::{Egress, Scalar};
use crate::config::Pull;

/// Where a root filesystem comes from: exactly one of `host`, `ref`, `build`, `archive`, `rootfs` and `from`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [
        {"required": ["host"]}, {"required": ["ref"]}, {"required": ["build"]},
        {"required": ["archive"]}, {"required": ["rootfs"]}, {"required": ["from"]}
    ],
    "dependencies" = {"pull": ["ref"], "setup": ["from"], "from": ["setup"]},
    "x-meant" = {"image": "ref", "reference": "ref", "dockerfile": "build", "context": "build", "tar": "archive"}
))]
pub(crate) struct Image {
    /// An empty root with host directories mounted read-only.
    #[schemars(extend("examples" = [{"dirs": ["/usr", "/lib", "/lib64"], "etc": ["ssl"]}]))]
    pub host: Option<HostImage>,

    /// An image of a registry. The digest is pinned in `sandboxes.lock`.
    #[schemars(extend("minLength" = 1, "pattern" = REFERENCE, "examples" = ["docker.io/library/debian:bookworm"]))]
    pub r#ref: Option<String>,

    /// When the image is pulled.
    #[schemars(with = "Option<PullWhen>", extend("default" = "missing", "examples" = ["missing"]))]
    pub pull: Option<Pull>,

    /// Built from a Containerfile.
    #[schemars(extend("examples" = [{"context": "."}]))]
    pub build: Option<Build>,

    /// A docker-archive or oci-archive, plain or gzip, as `podman save` and `nix build` write it.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["./result"]))]
    pub archive: Option<String>,

    /// A root filesystem: a directory or an exported tar.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["./rootfs"]))]
    pub rootfs: Option<String>,

    /// Name of the image that `setup` starts from.
    #[schemars(extend("examples" = ["debian"]))]
    pub from: Option<String>,

    /// Commands run once in a throwaway copy of `from`; the result is kept under a hash of its inputs.
    #[schemars(extend("examples" = [{"run": ["apt-get update", "apt-get install -y git"], "egress": {"mode": "open"}}]))]
    pub setup: Option<Setup>,
}

/// Host directories as an image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostImage {
    /// Host directories mounted read-only at the same place.
    #[schemars(extend(
        "items" = {"type": "string", "pattern": HOST_PATH},
        "default" = ["/usr", "/lib", "/lib64"],
        "examples" = [["/usr", "/lib", "/lib64", "/opt"]]
    ))]
    pub dirs: Option<Vec<String>>,

    /// Entries of the host's `/etc` that are mounted; passwd and group are always synthesized.
    #[schemars(extend(
        "items" = {"type": "string", "pattern": ETC},
        "default" = ["ssl", "ca-certificates", "alternatives", "ld.so.cache"],
        "examples" = [["ssl", "alternatives"]]
    ))]
    pub etc: Option<Vec<String>>,
}

/// A build.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"dockerfile": "containerfile", "file": "containerfile"}))]
pub(crate) struct Build {
    /// Directory sent to the engine.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["."]))]
    pub context: String,

    /// Path of the Containerfile, relative to the context.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "default" = "Containerfile", "examples" = ["docker/Containerfile"]))]
    pub containerfile: Option<String>,

    /// Build arguments. `${VAR}` is expanded.
    #[schemars(extend("propertyNames" = {"pattern": VARIABLE}, "examples" = [{"RUST": "1.95"}]))]
    pub args: Option<IndexMap<String, Scalar>>,

    /// Stage to build; default the last one.
    #[schemars(extend("minLength" = 1, "examples" = ["runtime"]))]
    pub target: Option<String>,
}

/// Commands run once in another image.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    /// Shell commands, in order, run as root.
    #[schemars(extend("items" = {"type": "string", "minLength": 1}, "minItems" = 1, "examples" = [["apt-get update", "apt-get install -y git"]]))]
    pub run: Vec<String>,

    /// Network of the commands.
    #[schemars(extend("examples" = [{"mode": "open"}, {"allow": ["debian-mirror"]}]))]
    pub egress: Option<Egress>,
}

/// When an image is pulled.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum PullWhen {
    /// When the engine does not have it.
    Missing,
    /// At every apply; a moved digest replaces the sandbox.
    Always,
    /// Never; an absent image is an error.
    Never,
}
