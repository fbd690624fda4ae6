use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretReference;
use super::pattern::{DATE, DURATION, HEADER, HEADER_ITEM, HEADER_VALUE, LINE, METHOD, PORTS, RULE_PATH};

/// A rule: a request matches when every part that is written matches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-meant" = meant()))]
pub(crate) struct Rule {
    /// Which hosts: a name, `*.name` for one label before it, `**.name` for one or more, `**` for every name, an address or
    /// a range of addresses.
    #[schemars(extend("minLength" = 1, "examples" = ["github.com", "*.githubusercontent.com", "192.0.2.0/24"]))]
    pub host: String,

    /// Ports and ranges of ports. Default 80 and 443, every port in a deny rule.
    #[schemars(extend("minItems" = 1, "examples" = [[443, 22], ["8000-8010"]]))]
    pub ports: Option<Vec<Port>>,

    /// What may be spoken.
    #[schemars(extend("default" = "auto", "examples" = ["tcp"]))]
    pub protocol: Option<Protocol>,

    /// HTTP methods. Default any.
    #[schemars(extend("items" = {"type": "string", "pattern": METHOD}, "minItems" = 1, "examples" = [["GET", "HEAD"]]))]
    pub methods: Option<Vec<String>>,

    /// Paths: `*` is any text within a segment, `**` any text. Default any.
    #[schemars(extend("items" = {"type": "string", "pattern": RULE_PATH}, "minItems" = 1, "examples" = [["/repos/**", "/v1/*/items"]]))]
    pub paths: Option<Vec<String>>,

    /// Headers a request must have, each with a value in which `*` is any text.
    #[schemars(extend("propertyNames" = {"pattern": HEADER}, "examples" = [{"x-team": "acme-*"}]))]
    pub headers: Option<IndexMap<String, HeaderText>>,

    /// Whether paths with an encoded `/` or `\` are judged rather than refused. Servers disagree what such a path means.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub encoded_separators: Option<bool>,

    /// Whether connections may be upgraded: WebSocket.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub upgrade: Option<bool>,

    /// The longest until a response begins, from the last piece of its request on.
    #[schemars(extend("pattern" = DURATION, "examples" = ["30s", "10m"]))]
    pub timeout: Option<String>,

    /// Changes to the headers of requests, made by the proxy.
    #[schemars(extend("examples" = [{"set": {"x-api-key": {"secret": "model-key"}}}]))]
    pub request: Option<RequestEdits>,

    /// Changes to the headers of responses, made by the proxy.
    #[schemars(extend("examples" = [{"remove": ["server"]}]))]
    pub response: Option<ResponseEdits>,

    /// Why the rule is there.
    #[schemars(extend("minLength" = 1, "pattern" = LINE, "examples" = ["coding agent"]))]
    pub reason: Option<String>,

    /// The last day (UTC) on which the rule allows anything.
    #[schemars(extend("pattern" = DATE, "examples" = ["2027-06-30"]))]
    pub expires: Option<String>,
}

/// A port, or a range of ports.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Port {
    /// A port.
    Number(#[schemars(range(min = 1, max = 65535))] u16),
    /// A range, or a port that is a parameter.
    Text(#[schemars(extend("pattern" = PORTS))] String),
}

/// What may be spoken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Whatever it turns out to be: TLS and HTTP must be for the host; only HTTP on port 80 and only TLS on port 443.
    Auto,
    /// HTTP, plain or inside TLS.
    Http,
    /// TLS.
    Tls,
    /// Any bytes over TCP, unexamined.
    Tcp,
    /// UDP.
    Udp,
}

/// Changes to the headers of requests, in the order `remove`, `set`, `add`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestEdits {
    /// Headers that get exactly this value. A secret never enters the sandbox.
    #[schemars(extend("propertyNames" = {"pattern": HEADER}, "examples" = [{"x-api-key": {"secret": "model-key"}}]))]
    pub set: Option<IndexMap<String, HeaderValue>>,

    /// Headers added beside those that are there.
    #[schemars(extend("propertyNames" = {"pattern": HEADER}, "examples" = [{"x-forwarded-by": "sbx"}]))]
    pub add: Option<IndexMap<String, HeaderValue>>,

    /// Headers taken out.
    #[schemars(extend("items" = {"type": "string", "pattern": HEADER_ITEM}, "examples" = [["cookie"]]))]
    pub remove: Option<Vec<String>>,
}

/// Changes to the headers of responses, in the order `remove`, `set`, `add`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseEdits {
    /// Headers that get exactly this value.
    #[schemars(extend("propertyNames" = {"pattern": HEADER}, "examples" = [{"cache-control": "no-store"}]))]
    pub set: Option<IndexMap<String, HeaderText>>,

    /// Headers added beside those that are there.
    #[schemars(extend("propertyNames" = {"pattern": HEADER}, "examples" = [{"x-reviewed": "yes"}]))]
    pub add: Option<IndexMap<String, HeaderText>>,

    /// Headers taken out.
    #[schemars(extend("items" = {"type": "string", "pattern": HEADER_ITEM}, "examples" = [["server"]]))]
    pub remove: Option<Vec<String>>,
}

/// What a header says: plain ASCII on one line; numbers and booleans are taken as they are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum HeaderText {
    /// Text.
    Text(#[schemars(extend("pattern" = HEADER_VALUE))] String),
    /// A number, taken as it is written.
    Number(f64),
    /// A boolean, taken as it is written.
    Boolean(bool),
}

/// The value of a header the proxy writes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum HeaderValue {
    /// The text itself; `${VAR}` is expanded.
    Plain(HeaderText),
    /// The value of a secret.
    Secret(SecretReference),
}

/// What people write who know other tools.
fn meant() -> BTreeMap<&'static str, &'static str> {
    [
        ("domain", "host"),
        ("hostname", "host"),
        ("name", "host"),
        ("url", "host"),
        ("ip", "host"),
        ("cidr", "host"),
        ("port", "ports"),
        ("method", "methods"),
        ("path", "paths"),
        ("header", "headers"),
        ("scheme", "protocol"),
        ("proto", "protocol"),
        ("websocket", "upgrade"),
        ("until", "expires"),
        ("expiry", "expires"),
        ("comment", "reason"),
        ("description", "reason"),
        ("set", "request.set"),
        ("add", "request.add"),
        ("remove", "request.remove"),
        ("allowlist", "use"),
        ("list", "use"),
    ]
    .into()
}
