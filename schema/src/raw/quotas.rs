use schemars::JsonSchema;
use serde::Deserialize;

/// Ceilings on the number of sandboxes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Quotas {
    /// Sandboxes one owner may have on the host, over all projects.
    #[schemars(range(max = 1_000_000), extend("default" = 5, "examples" = [5]))]
    pub per_owner: Option<u32>,

    /// Sandboxes on the host in all.
    #[schemars(range(max = 1_000_000), extend("default" = 7, "examples" = [7]))]
    pub total: Option<u32>,
}
