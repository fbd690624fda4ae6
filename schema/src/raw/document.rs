use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::NAME;
use super::{Allowlist, Assertion, Image, Network, PolicyTest, Quotas, Sandbox, Secret, Volume};

/// One project: its images, volumes, networks, secrets and sandboxes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "required" = ["apiVersion", "project"],
    "x-later" = ["catalog", "addons"],
    "x-meant" = {"version": "apiVersion", "name": "project", "services": "sandboxes", "containers": "sandboxes"}
))]
pub(crate) struct Document {
    /// Version of the language.
    #[schemars(extend("const" = "sbx/v1", "examples" = ["sbx/v1"]))]
    pub api_version: Option<String>,

    /// Name of the project: the scope of ownership and of pruning. 3 to 63 of `a-z`, `0-9` and `-`, first a letter, no `--`.
    #[schemars(extend("pattern" = NAME, "minLength" = 3, "maxLength" = 63, "examples" = ["acme"]))]
    pub project: Option<String>,

    /// Fields merged beneath every sandbox.
    #[schemars(extend("examples" = [{"limits": {"cpus": 2, "memory": "4GiB"}}]))]
    pub defaults: Option<Sandbox>,

    /// Named sets of sandbox fields, taken up with `extends`.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"hardened": {"security": {"readOnly": true}}}]))]
    pub profiles: Option<IndexMap<String, Sandbox>>,

    /// How many sandboxes may exist on the host; checked by `plan`.
    #[schemars(extend("examples" = [{"perOwner": 5, "total": 7}]))]
    pub quotas: Option<Quotas>,

    /// Root filesystems by name. `host` is built in: host tools, read-only.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"debian": {"ref": "docker.io/library/debian:bookworm"}}]))]
    pub images: Option<IndexMap<String, Image>>,

    /// Rules of egress by name, for `allow` and `deny` of many sandboxes; with parameters where they differ.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"github": [{"host": "github.com", "ports": [443, 22]}]}]))]
    pub allowlists: Option<IndexMap<String, Allowlist>>,

    /// Where secret values are read at apply time, by name. Values are never stored.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"gh-token": {"env": "GH_TOKEN"}}]))]
    pub secrets: Option<IndexMap<String, Secret>>,

    /// Named volumes. User data: never removed without a flag that says so.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"api-data": {}}]))]
    pub volumes: Option<IndexMap<String, Volume>>,

    /// Networks between sandboxes, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"backend": {"internal": true}}]))]
    pub networks: Option<IndexMap<String, Network>>,

    /// The sandboxes, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME, "minLength": 3, "maxLength": 63}, "examples" = [{"api": {"image": "host", "workdir": "/tmp"}}]))]
    pub sandboxes: Option<IndexMap<String, Sandbox>>,

    /// What sandboxes reach and do not reach, checked by `sbx test` without an engine.
    #[schemars(extend("examples" = [[{"sandbox": "api", "allow": "ssh://github.com:22"}]]))]
    pub tests: Option<Vec<PolicyTest>>,

    /// What no sandbox may ever reach, proven without an engine by `sbx validate`, `sbx plan`, `sbx apply` and `sbx test`.
    #[schemars(extend("examples" = [[{"never": {"sandbox": "*", "reaches": ["backend", "**"]}, "unless": {"egress": "none"}}]]))]
    pub assert: Option<Vec<Assertion>>,
}
