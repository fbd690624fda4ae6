use schemars::JsonSchema;
use serde::Deserialize;

/// A named volume, kept until a flag says otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volume {}
