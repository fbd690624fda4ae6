use schemars::JsonSchema;
use serde::Deserialize;

use super::Size;
use super::pattern::HOST_PATH;

/// What the home directory is made of: one of a volume, a host directory and memory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["volume"]}, {"required": ["workspace"]}, {"required": ["tmpfs"]}]))]
pub(crate) struct Home {
    /// A volume, by its name under `volumes`.
    #[schemars(extend("examples" = ["api-data"]))]
    pub volume: Option<String>,

    /// A host directory. Relative paths start at the directory of the file; `~` and `${VAR}` are expanded.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["./workspace"]))]
    pub workspace: Option<String>,

    /// A tmpfs of this size; its content is gone when the sandbox stops.
    #[schemars(extend("examples" = ["1GiB"]))]
    pub tmpfs: Option<Size>,
}
