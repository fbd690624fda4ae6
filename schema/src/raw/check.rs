use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{GLOB, TARGET};
use crate::config;

/// A test of a policy: what a sandbox reaches, or does not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["allow"]}, {"required": ["deny"]}],
    "x-meant" = {"allowed": "allow", "denied": "deny", "url": "allow", "name": "sandbox"}
))]
pub(crate) struct PolicyTest {
    /// The sandbox, by its name.
    #[schemars(extend("examples" = ["api"]))]
    pub sandbox: String,

    /// A URL the sandbox reaches, with a method before it where it matters (default `GET`).
    #[schemars(extend("minLength" = 1, "pattern" = TARGET, "examples" = ["ssh://github.com:22", "GET https://api.github.com/repos/acme/api"]))]
    pub allow: Option<String>,

    /// A URL the sandbox does not reach.
    #[schemars(extend("minLength" = 1, "pattern" = TARGET, "examples" = ["POST https://api.github.com/repos/acme/api/issues"]))]
    pub deny: Option<String>,
}

/// What must hold for every sandbox, however the file grows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assertion {
    /// What must not be.
    #[schemars(extend("examples" = [{"sandbox": "*", "reaches": ["backend", "**"]}]))]
    pub never: Never,

    /// Sandboxes it does not hold for: those of which all of this is true.
    #[schemars(extend("examples" = [{"egress": "none"}]))]
    pub unless: Option<Unless>,
}

/// A sandbox that reaches all of this.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"sandboxes": "sandbox", "name": "sandbox", "reach": "reaches"}))]
pub(crate) struct Never {
    /// Names of sandboxes; `*` is any text.
    #[schemars(extend("minLength" = 1, "pattern" = GLOB, "examples" = ["*", "web-*"]))]
    pub sandbox: String,

    /// Networks and hosts, written as in rules. One sandbox must not reach all of them, itself or through others.
    #[schemars(extend("minItems" = 1, "examples" = [["backend", "**"]]))]
    pub reaches: Vec<String>,
}

/// Sandboxes that are left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"mode": "egress", "sandboxes": "sandbox"}))]
pub(crate) struct Unless {
    /// Their mode of egress.
    #[schemars(with = "Option<Mode>", extend("examples" = ["none"]))]
    pub egress: Option<config::EgressMode>,

    /// Their names; `*` is any text.
    #[schemars(extend("minLength" = 1, "pattern" = GLOB, "examples" = ["ci-*"]))]
    pub sandbox: Option<String>,
}

/// A mode of egress.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Through the proxy.
    Allowlist,
    /// Nothing leaves.
    None,
    /// Everything is reachable.
    Open,
    /// Over the engine's network and a packet filter.
    Direct,
}
