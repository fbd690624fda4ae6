//! What the daemon tells of itself.

use std::collections::BTreeMap;

use schema::policy::Policy;

use super::Daemon;
use super::table::{Entry, Phase, Table};
use super::world::Key;
use crate::control::{SandboxStatus, Status};
use crate::generation::Generation;

impl Daemon {
    /// How things stand.
    pub fn status(&self) -> Status {
        let table = self.table();
        let recorder = &self.shared.recorder;
        Status {
            version: self.shared.version.clone(),
            pid: std::process::id(),
            since: self.shared.since.to_string(),
            engine: table.trouble.clone(),
            records: recorder.place().display().to_string(),
            lost_records: recorder.lost(),
            sandboxes: table.entries.values().map(|entry| self.sandbox_status(&table, entry)).collect(),
        }
    }

    fn sandbox_status(&self, table: &Table, entry: &Entry) -> SandboxStatus {
        let Entry { running, phase, trouble } = entry;
        let served = match phase {
            Phase::Served(served) => Some(served),
            Phase::Attaching | Phase::Failed { .. } => None,
        };
        SandboxStatus {
            project: running.project.clone(),
            sandbox: running.sandbox.clone(),
            container: running.identity.container.clone(),
            policy: served.filter(|served| served.serving.broken().is_none()).and_then(|served| served.hash.clone()),
            generation: served.map_or(0, |served| served.number),
            in_force_since: served.map(|served| served.since.to_string()),
            problem: match phase {
                Phase::Failed { why, .. } => Some(why.clone()),
                Phase::Attaching => Some("it is being attached".to_owned()),
                Phase::Served(served) => served.serving.broken().or_else(|| trouble.clone()),
            },
            missing_secrets: served.map(|served| served.missing.clone()).unwrap_or_default(),
            flows: served.map_or(0, |served| served.serving.flows()),
            learning: served.filter(|served| served.without_learning.is_some()).and_then(|_| {
                let key = (running.project.clone(), running.sandbox.clone());
                table.learning.get(&key).map(ToString::to_string)
            }),
            denied: self.shared.recorder.denied(&running.project, &running.sandbox),
        }
    }

    /// Open flows by project and sandbox.
    pub fn flows(&self) -> BTreeMap<Key, usize> {
        let mut flows = BTreeMap::new();
        for entry in self.table().entries.values() {
            if let Phase::Served(served) = &entry.phase {
                *flows.entry((entry.running.project.clone(), entry.running.sandbox.clone())).or_default() +=
                    served.serving.flows();
            }
        }
        flows
    }

    /// Open flows of a sandbox that `policy` would end.
    pub fn would_cut(&self, project: &str, sandbox: &str, policy: &Policy) -> Vec<String> {
        let generation = Generation::new(0, policy.clone(), BTreeMap::new());
        let table = self.table();
        let served = table.entries.values().filter_map(|entry| match &entry.phase {
            Phase::Served(served) if entry.running.project == project && entry.running.sandbox == sandbox => {
                Some(served)
            }
            _ => None,
        });
        served.flat_map(|served| served.serving.cut_by(&generation)).collect()
    }
}
