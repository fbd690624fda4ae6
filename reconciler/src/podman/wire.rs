//! What the engine answers, as far as it is read. Unknown fields are skipped, missing ones have defaults, `null` is
//! what a Go program writes for an empty list or map.

use super::create::INIT;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// `null` as the default value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One row of `containers/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ListedContainer {
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    pub state: String,
    pub exited: bool,
    pub exit_code: i32,
    #[serde(deserialize_with = "nullable")]
    pub networks: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<String>,
    pub pid: u32,
    pub created: String,
    pub started_at: i64,
    pub exited_at: i64,
}

/// One row of `images/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ListedImage {
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    pub containers: i64,
}

/// One row of `volumes/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ListedVolume {
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// One row of `networks/json`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ListedNetwork {
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    pub internal: bool,
}

/// `images/{name}/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedImage {
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// `containers/{id}/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedContainer {
    pub id: String,
    pub name: String,
    pub state: InspectedState,
    /// The file in which the number of the first process is.
    pub pid_file: String,
    pub config: InspectedConfig,
    #[serde(rename = "ExecIDs", deserialize_with = "nullable")]
    pub exec_ids: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<InspectedMount>,
    pub network_settings: InspectedNetworks,
    pub host_config: InspectedHost,
    pub size_rw: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedState {
    pub status: String,
    pub running: bool,
    pub pid: u32,
    pub exit_code: i32,
    pub error: String,
}

impl InspectedState {
    /// Frozen: neither running nor stopped, for the engine.
    pub(crate) fn is_paused(&self) -> bool {
        self.status == "paused"
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedConfig {
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    pub working_dir: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedMount {
    pub destination: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedNetworks {
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, Option<InspectedEndpoint>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct InspectedEndpoint {
    #[serde(rename = "IPAddress")]
    pub v4: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub v6: String,
}

impl InspectedContainer {
    /// Its addresses by network.
    pub(crate) fn addresses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let addresses = |endpoint: &Option<InspectedEndpoint>| {
            let Some(InspectedEndpoint { v4, v6 }) = endpoint else { return Vec::new() };
            // What is not there is an empty text.
            [v4, v6].into_iter().filter_map(|text| text.parse().ok()).collect()
        };
        self.network_settings.networks.iter().map(|(name, endpoint)| (name.clone(), addresses(endpoint))).collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedHost {
    #[serde(deserialize_with = "nullable")]
    pub tmpfs: BTreeMap<String, String>,
    pub restart_policy: InspectedRestart,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedRestart {
    pub name: String,
}

/// `exec/{id}/json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct InspectedExec {
    pub running: bool,
    pub exit_code: i32,
    pub process_config: ExecCommand,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ExecCommand {
    pub entrypoint: String,
    #[serde(deserialize_with = "nullable")]
    pub arguments: Vec<String>,
}

impl ExecCommand {
    /// The command as one line, as whoever began it wrote it: without the program that gives it the secrets.
    pub(crate) fn line(&self) -> String {
        let by_init = self.entrypoint == INIT && self.arguments.first().is_some_and(|word| word == "exec");
        if let Some(end) = self.arguments.iter().position(|word| word == "--").filter(|_| by_init) {
            return self.arguments[end + 1..].join(" ");
        }
        let words = std::iter::once(&self.entrypoint).chain(&self.arguments);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// One row of `containers/{id}/changes`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChangedPath {
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}

/// An answer that names what was made.
#[derive(Deserialize)]
pub(crate) struct Made {
    #[serde(rename = "Id", alias = "ID", alias = "id")]
    pub id: String,
}

/// `info`, as far as it is needed of an engine on another machine.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Info {
    pub host: InfoHost,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct InfoHost {
    #[serde(deserialize_with = "nullable")]
    pub cgroup_controllers: Vec<String>,
    pub security: InfoSecurity,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct InfoSecurity {
    pub rootless: bool,
}

/// One line of a pull, build or load.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct StreamItem {
    #[serde(deserialize_with = "nullable")]
    pub stream: String,
    #[serde(deserialize_with = "nullable")]
    pub error: String,
    #[serde(deserialize_with = "nullable")]
    pub id: String,
}
