use schemars::JsonSchema;
use serde::Deserialize;

/// A network between sandboxes. Its members reach each other by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Without a way out. `true` is the only value available yet.
    #[schemars(extend("const" = true, "default" = true, "examples" = [true]))]
    pub internal: Option<bool>,
}
