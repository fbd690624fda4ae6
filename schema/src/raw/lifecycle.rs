use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::LIFETIME;

/// When an unused sandbox is stopped and destroyed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Lifecycle {
    /// Stop after so long without activity: `30m`, `12h`, `7d`, or `never`.
    #[schemars(extend("pattern" = LIFETIME, "default" = "7d", "examples" = ["7d", "never"]))]
    pub idle_stop: Option<String>,

    /// Destroy after so long stopped: `14d`, or `never`.
    #[schemars(extend("pattern" = LIFETIME, "default" = "14d", "examples" = ["14d", "never"]))]
    pub destroy_after: Option<String>,

    /// Whether a destroyed sandbox leaves its volumes.
    #[schemars(extend("default" = true, "examples" = [true]))]
    pub keep_volumes: Option<bool>,
}
