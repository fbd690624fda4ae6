use schemars::JsonSchema;
use serde::Deserialize;

use crate::config;

/// What leaves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-later" = ["allow", "deny", "upstream", "hosts", "dial", "transport"]))]
pub(crate) struct Egress {
    /// `none`: nothing leaves. `open`: the engine's own network, unfiltered.
    #[schemars(with = "Option<EgressMode>", extend("default" = "none", "examples" = ["none"]))]
    pub mode: Option<config::Egress>,
}

/// How much of the network is reachable.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("x-later" = ["allowlist", "direct"]))]
enum EgressMode {
    /// Nothing leaves the sandbox.
    None,
    /// The engine's own network: everything is reachable.
    Open,
}
