use schemars::JsonSchema;
use serde::Deserialize;

use crate::config;

/// What leaves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-later" = ["allow", "deny", "upstream", "hosts", "dial", "transport"]))]
pub(crate) struct Egress {
    /// How much of the network is reachable.
    #[schemars(with = "Option<EgressMode>", extend("default" = "allowlist", "examples" = ["none"]))]
    pub mode: Option<config::EgressMode>,
}

/// How much of the network is reachable.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EgressMode {
    /// What `allow` names and `deny` does not, through the proxy; nothing where no `allow` is written.
    Allowlist,
    /// Nothing leaves the sandbox.
    None,
    /// The engine's own network: everything is reachable.
    Open,
    /// What `allow` names, over the engine's network and a packet filter. Weaker than `allowlist`.
    Direct,
}
