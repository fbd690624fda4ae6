//! From a configuration to a complete plan: looks, plans, looks closer where the plan asks, plans again.

use std::collections::BTreeMap;

use schema::Config;

use crate::backend::{BackendError, Observe};
use crate::facts::{ProbeQuery, Probes, Snapshot};
use crate::host_facts::HostFacts;
use crate::kinds::container;
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::planner;
use crate::spec::LimitSpec;
use crate::unread;

/// A complete plan and what it was made from.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// What was there.
    pub snapshot: Snapshot,
    /// Ceilings that each sandbox should have.
    pub ceilings: BTreeMap<String, LimitSpec>,
}

/// Makes a plan. Looks only: the backend it takes can do nothing else.
pub async fn prepare(
    config: &Config,
    host: &HostFacts,
    backend: &dyn Observe,
    options: &PlanOptions,
    generated_at: &str,
    new_uid: &mut (dyn FnMut() -> String + Send),
) -> Result<Prepared, BackendError> {
    let snapshot = backend.snapshot(&planner::query(config, host)).await?;
    let host = unread::assume(host, config.project.as_str(), &snapshot);
    let desired = planner::desire(config, &host, &snapshot);
    let mut probes = Probes::default();
    let mut asked = ProbeQuery::default();
    loop {
        let draft = planner::plan(&desired, &snapshot, &probes, options, generated_at, new_uid);
        // What an answer brings up may raise one more question, never the same one again.
        if draft.wanted.is_empty() || draft.wanted == asked {
            return Ok(Prepared { plan: draft.plan, snapshot, ceilings: container::ceilings(&desired) });
        }
        probes = backend.probe(&draft.wanted).await?;
        asked = draft.wanted;
    }
}
