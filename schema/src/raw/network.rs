use schemars::JsonSchema;
use serde::Deserialize;

use super::Port;

/// A network between sandboxes. Its members reach each other by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Without a way out. `true` is the only value available yet.
    #[schemars(extend("const" = true, "default" = true, "examples" = [true]))]
    pub internal: Option<bool>,
}

/// A network that a sandbox is in.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema only: it is read from the tree")]
pub(crate) enum NetworkItem {
    /// Its name: others on it reach this sandbox at every port.
    Name(String),
    /// Its name, and the ports at which others on it reach this sandbox.
    Narrowed(Membership),
}

/// A network that a sandbox is in, and the ports at which others on it reach this sandbox. Where neither `ports` nor
/// `udpPorts` is written, that is every port; where one of them is, nothing else is reached.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-meant" = {"network": "name", "port": "ports", "expose": "ports", "tcp": "ports", "tcpPorts": "ports", "udp": "udpPorts", "protocol": "udpPorts"}))]
#[expect(dead_code, reason = "a schema only: it is read from the tree")]
pub(crate) struct Membership {
    /// The network, by its name under `networks`.
    #[schemars(extend("examples" = ["backend"]))]
    pub name: String,

    /// Ports and ranges of ports that take connections (TCP) from others on the network. An empty list is none.
    #[schemars(extend("examples" = [[5432], [80, "8000-8010"], []]))]
    pub ports: Option<Vec<Port>>,

    /// The same for datagrams (UDP).
    #[schemars(extend("examples" = [[53]]))]
    pub udp_ports: Option<Vec<Port>>,
}
