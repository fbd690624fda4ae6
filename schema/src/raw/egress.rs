use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::AllowItem;
use super::pattern::{ADDRESS, HOST_PATH, HTTP_PROXY, RANGE, SOCKS5_PROXY};
use crate::config;

/// What leaves, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = meant()))]
pub(crate) struct Egress {
    /// How much of the network is reachable.
    #[schemars(with = "Option<EgressMode>", extend("default" = "allowlist", "examples" = ["none"]))]
    pub mode: Option<config::EgressMode>,

    /// What may be reached: names of `allowlists`, `{ use: NAME, … }` for those with parameters, and rules.
    #[schemars(with = "Option<Vec<AllowItem>>", extend("examples" = [["github", {"use": "read-only-api", "host": "api.github.com"}, {"host": "packages.example.com"}]]))]
    pub allow: Option<IgnoredAny>,

    /// What may not be reached, whatever `allow` says: written like `allow`.
    #[schemars(with = "Option<Vec<AllowItem>>", extend("examples" = [[{"host": "gist.github.com"}]]))]
    pub deny: Option<IgnoredAny>,

    /// How the proxy reaches the outside. Default by itself.
    #[schemars(with = "Option<Upstream>", extend("examples" = [{"proxy": "http://proxy.example.com:3128"}]))]
    pub upstream: Option<IgnoredAny>,

    /// Addresses of names that the proxy looks up here, not in DNS.
    #[schemars(with = "Option<IndexMap<String, Vec<String>>>", extend("additionalProperties" = {"type": "array", "items": {"type": "string", "pattern": ADDRESS}, "minItems": 1}, "examples" = [{"db.acme.test": ["10.1.2.3"]}]))]
    pub hosts: Option<IgnoredAny>,

    /// Which addresses the proxy may dial.
    #[schemars(with = "Option<Dial>", extend("examples" = [{"allowRanges": ["10.1.2.0/24"]}]))]
    pub dial: Option<IgnoredAny>,

    /// How connections come to the proxy.
    #[schemars(with = "Option<Transport>", extend("default" = "transparent", "examples" = ["transparent"]))]
    pub transport: Option<config::Transport>,
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

/// How connections come to the proxy.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Transport {
    /// By themselves; programs notice nothing.
    Transparent,
    /// Through the unix socket `/run/sbx/egress/egress.sock` inside, for images that bring their own client.
    Socket,
}

/// How the proxy reaches the outside: one of `proxy`, `socks5` and `netns`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["proxy"]}, {"required": ["socks5"]}, {"required": ["netns"]}],
    "x-meant" = {"http": "proxy", "https": "proxy", "socks": "socks5", "namespace": "netns"}
))]
pub(crate) struct Upstream {
    /// An HTTP proxy, which is asked to CONNECT. `${VAR}` is expanded.
    #[schemars(extend("minLength" = 1, "pattern" = HTTP_PROXY, "examples" = ["http://proxy.example.com:3128"]))]
    pub proxy: Option<String>,

    /// A SOCKS5 proxy, which also resolves. `${VAR}` is expanded.
    #[schemars(extend("minLength" = 1, "pattern" = SOCKS5_PROXY, "examples" = ["socks5://127.0.0.1:1080"]))]
    pub socks5: Option<String>,

    /// Another network namespace, from which the proxy dials.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["/run/netns/vpn"]))]
    pub netns: Option<String>,
}

/// Which addresses the proxy may dial.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-meant" = {"allow": "allowRanges", "ranges": "allowRanges"}))]
pub(crate) struct Dial {
    /// Ranges that are refused otherwise: private, loopback, link-local and metadata addresses, and this machine's own. The
    /// last two are opened only by a range that is that very address.
    #[schemars(extend("items" = {"type": "string", "pattern": RANGE}, "examples" = [["10.1.2.0/24"]]))]
    pub allow_ranges: Option<Vec<String>>,
}

fn meant() -> BTreeMap<&'static str, &'static str> {
    [
        ("allowlist", "allow"),
        ("allowlists", "allow"),
        ("rules", "allow"),
        ("allowed", "allow"),
        ("denied", "deny"),
        ("block", "deny"),
        ("proxy", "upstream.proxy"),
        ("socks5", "upstream.socks5"),
        ("netns", "upstream.netns"),
        ("extraHosts", "hosts"),
        ("extra_hosts", "hosts"),
        ("allowRanges", "dial.allowRanges"),
    ]
    .into()
}
