use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{BRANCH, HOST_PATH, REPOSITORY};

/// A git worktree.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"url": "repo", "repository": "repo", "remote": "repo", "ref": "branch", "target": "path"}))]
pub(crate) struct Worktree {
    /// Remote address as git takes it (https, ssh, file), or a path.
    #[schemars(extend("minLength" = 1, "pattern" = REPOSITORY, "examples" = ["git@github.com:acme/api.git"]))]
    pub repo: String,

    /// Branch checked out; created from `base` when missing.
    #[schemars(extend("minLength" = 1, "pattern" = BRANCH, "examples" = ["feature/login"]))]
    pub branch: String,

    /// Where a missing branch starts. Default the remote's default branch.
    #[schemars(extend("minLength" = 1, "pattern" = BRANCH, "examples" = ["main"]))]
    pub base: Option<String>,

    /// Where the worktree is, on the host and inside.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["~/worktrees/api/feature/login"]))]
    pub path: String,

    /// The bare clone it belongs to. Default one per remote address, under the user's data directory.
    #[schemars(extend("minLength" = 1, "pattern" = HOST_PATH, "examples" = ["~/clones/api.git"]))]
    pub clone: Option<String>,
}
