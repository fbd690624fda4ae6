//! An engine on another machine, or behind a process namespace: what of a plan cannot be done by way of it.
//!
//! Engines take binds by path, and look for it where they run. What a sandbox is shown of a host is placed and looked at
//! here, `sbx-init` to begin with. Looking at what is there, and running commands in it, needs none of that.

use std::collections::BTreeSet;

use crate::facts::Snapshot;
use crate::op::Op;
use crate::plan::{Change, Notice};

/// What stands in the way of `changes`; nothing where they make no sandbox and need no daemon.
pub fn notices(changes: &[Change], snapshot: &Snapshot) -> Vec<Notice> {
    if snapshot.engine.local {
        return Vec::new();
    }
    let with =
        |wanted: fn(&Op) -> bool| changes.iter().filter(move |change| change.steps.iter().any(|it| wanted(&it.op)));
    let mut notices = Vec::new();
    if let Some(first) = with(|op| matches!(op, Op::CreateContainer { .. })).next() {
        notices.push(Notice {
            code: "sbx::remote-engine".to_owned(),
            severity: "warning".to_owned(),
            message: "the engine runs on another machine: sbx-init and whatever else sandboxes are shown of a host are \
                      looked for there, and were placed and looked at here"
                .to_owned(),
            help: Some(
                "run sbx on that machine; from here it is for looking: plan, status, logs, exec. Where both machines see \
                 the same files at the same paths, it works as it is"
                    .to_owned(),
            ),
            origin: first.origin.clone(),
        });
    }
    let served = |op: &Op| matches!(op, Op::EnsureDaemon | Op::EnforcePolicy { policy: Some(_), .. });
    let mut told = BTreeSet::new();
    // Once for each sandbox: what its policy needs its container needs too.
    notices.extend(with(served).filter(|change| told.insert(&change.sandbox)).map(|change| Notice {
        code: "sbx::egress-unavailable".to_owned(),
        severity: "error".to_owned(),
        message: format!(
            "{} needs a daemon, and the engine runs on another machine: the namespaces of its sandboxes cannot be entered \
             from here",
            change.resource
        ),
        help: Some("run sbx there, or write `egress: { mode: none }`".to_owned()),
        origin: change.origin.clone(),
    }));
    notices
}

#[cfg(test)]
mod tests {
    use crate::backend::Observe as _;
    use crate::facts::{Probes, Snapshot};
    use crate::host_facts::HostFacts;
    use crate::options::{Destroy, PlanOptions};
    use crate::planner;
    use crate::testing::{MemoryBackend, config};

    fn told(body: &str, snapshot: &Snapshot, options: &PlanOptions) -> Vec<String> {
        let config = config(body);
        let desired = planner::desire(&config, &HostFacts::default(), snapshot);
        let draft = planner::plan(&desired, snapshot, &Probes::default(), options, "now", &mut || "uid".to_owned());
        let told = |notice: crate::plan::Notice| format!("{} {}", notice.severity, notice.code);
        draft.plan.warnings.into_iter().map(told).collect()
    }

    #[tokio::test]
    async fn what_cannot_be_done_on_another_machine_is_told_by_the_plan() {
        let plain = "images:\n  base: { ref: docker.io/library/debian:bookworm }\nsandboxes:\n  api: { image: base }\n";
        let served = plain.replace("image: base }\n", "image: base, egress: { allow: [{ host: a.example }] } }\n");
        let mut snapshot = MemoryBackend::default().snapshot(&crate::facts::Query::default()).await.expect("in memory");
        let options = PlanOptions::default();
        assert_eq!(told(&served, &snapshot, &options), Vec::<String>::new(), "the engine runs here");
        snapshot.engine.local = false;
        assert_eq!(told(plain, &snapshot, &options), ["warning sbx::remote-engine"]);
        assert_eq!(told(&served, &snapshot, &options), ["warning sbx::remote-engine", "error sbx::egress-unavailable"]);
        // Whoever takes something down needs nothing of this host.
        let destroy = PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() };
        assert_eq!(told(&served, &snapshot, &destroy), Vec::<String>::new());
    }
}
