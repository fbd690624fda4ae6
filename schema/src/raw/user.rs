use schemars::JsonSchema;
use serde::Deserialize;

use super::Id;
use super::pattern::{INSIDE_PATH, LOGIN};

/// The user inside.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Login name. Default the caller's.
    #[schemars(extend("pattern" = LOGIN, "examples" = ["dev"]))]
    pub name: Option<String>,

    /// User id: a number, or `caller`.
    #[schemars(extend("default" = "caller", "examples" = ["caller", 1000]))]
    pub uid: Option<Id>,

    /// Group id: a number, or `caller`.
    #[schemars(extend("default" = "caller", "examples" = ["caller", 1000]))]
    pub gid: Option<Id>,

    /// Home directory, absolute. Default `/home/NAME`, `/root` for root.
    #[schemars(extend("minLength" = 1, "pattern" = INSIDE_PATH, "examples" = ["/home/dev"]))]
    pub home: Option<String>,
}
