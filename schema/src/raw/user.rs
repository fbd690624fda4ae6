use schemars::JsonSchema;
use serde::Deserialize;

use super::Id;

/// The user inside.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Login name. Default the caller's.
    #[schemars(extend("pattern" = "^[a-z_][a-z0-9_-]{0,31}$", "examples" = ["dev"]))]
    pub name: Option<String>,

    /// User id: a number, or `caller`.
    #[schemars(extend("default" = "caller", "examples" = ["caller", 1000]))]
    pub uid: Option<Id>,

    /// Group id: a number, or `caller`.
    #[schemars(extend("default" = "caller", "examples" = ["caller", 1000]))]
    pub gid: Option<Id>,

    /// Home directory, absolute. Default `/home/NAME`, `/root` for root.
    #[schemars(extend("minLength" = 1, "examples" = ["/home/dev"]))]
    pub home: Option<String>,
}
