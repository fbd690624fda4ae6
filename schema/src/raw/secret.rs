use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{HOST_PATH, VARIABLE};

/// Where a value is read at apply time: one of `env`, `file` and `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["env"]}, {"required": ["file"]}, {"required": ["command"]}],
    "x-meant" = {"environment": "env", "path": "file", "run": "command", "cmd": "command"}
))]
pub(crate) struct Secret {
    /// An environment variable of the caller.
    #[schemars(extend("pattern" = VARIABLE, "examples" = ["GH_TOKEN"]))]
    pub env: Option<String>,

    /// A file. Relative paths start at the directory of the file; `~` and `${VAR}` are expanded.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["~/.config/acme/token"]))]
    pub file: Option<String>,

    /// A command whose standard output is the value, without its last newline; no shell reads it.
    #[schemars(extend("minItems" = 1, "contains" = {"type": "string", "minLength": 1}, "examples" = [["op", "read", "op://DevBox/github/token"]]))]
    pub command: Option<Vec<String>>,
}
