use schemars::JsonSchema;
use serde::Deserialize;

use super::{Ceiling, Cpus};

/// Ceilings, changed in place where the engine allows it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"cpu": "cpus", "mem": "memory", "ram": "memory", "processes": "pids"}))]
pub(crate) struct Limits {
    /// CPUs, rounded to a thousandth of one, or `unlimited`.
    #[schemars(extend("default" = 2, "examples" = [2, 0.5]))]
    pub cpus: Option<Cpus>,

    /// Memory: bytes, a number with `KiB`, `MiB`, `GiB` or `TiB`, or `unlimited`.
    #[schemars(extend("default" = "4GiB", "examples" = ["4GiB", "512MiB"]))]
    pub memory: Option<Ceiling>,

    /// Processes and threads.
    #[schemars(range(min = 1, max = 4_194_304), extend("default" = 2048, "examples" = [2048]))]
    pub pids: Option<u32>,
}
