//! Attaching to sandboxes, as the daemon asks for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use egress::attach::{self, AttachError, Plan, Target};
use egress::daemon::world::{Attach, Attached, Gate, Running, Unattached, Way};
use egress::dial::{Interfaces, Own};
use egress::direct::Direct;
use egress::generation::Generation;
use egress::listeners::udp_ports;
use egress::networks::Networks;
use schema::policy::Policy;

/// This program, whatever stands at its path by now.
pub const PROGRAM: &str = "/proc/self/exe";

/// Goes into the namespaces of sandboxes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespaces;

#[async_trait]
impl Attach for Namespaces {
    async fn attach(&self, running: &Running, policy: &Policy) -> Result<Attached, Unattached> {
        let target = hold(running)?;
        let (attached, direct) = match &running.way {
            Way::Direct => {
                let attached = attach::attach_direct(Path::new(PROGRAM), &target, running.gated).await;
                let (attached, attach::Direct { feeder, standing }) = attached.map_err(|error| unattached(&error))?;
                let generation = Arc::new(Generation::new(0, policy.clone(), BTreeMap::new()));
                let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
                let interfaces = Own::new(Interfaces::Kernel);
                let direct =
                    Direct::begin(Box::new(feeder), standing, generation, running.addresses(), interfaces, today).await;
                (attached, Some(direct.map_err(|why| format!("its packet filter: {why}"))?))
            }
            way @ (Way::Proxy | Way::Socket(_)) => {
                let plan = Plan {
                    udp: udp_ports(policy),
                    networks: Networks::new(&running.addresses(), policy),
                    gate: running.gated,
                };
                let program = Path::new(PROGRAM);
                let attached = match way {
                    Way::Socket(_) => attach::attach_closed(program, &target, &plan).await,
                    _ => attach::attach(program, &target, &plan).await,
                };
                (attached.map_err(|error| unattached(&error))?, None)
            }
        };
        let attach::Attached { listeners, gate, report } = attached;
        for problem in report.problems {
            tracing::info!(project = running.project, sandbox = running.sandbox, problem);
        }
        let gate = gate.map(|gate| Box::new(Door(gate)) as Box<dyn Gate>);
        Ok(Attached { listeners, gate, direct })
    }
}

struct Door(attach::Gate);

impl Gate for Door {
    fn open(self: Box<Self>) -> Result<(), String> {
        self.0.open().map_err(|error| format!("its gate could not be opened: {error}"))
    }
}

/// Takes hold of PID 1 of a sandbox, and sees that it is that: a number alone may be somebody else's by now.
pub fn hold(running: &Running) -> Result<Target, String> {
    let pid = running.identity.pid;
    let target = Target::hold(pid).map_err(|error| told(&error))?;
    let ours = belongs(pid, &running.identity.container);
    // What was read was read of this process only if it is still there.
    if ours && target.is_alive() {
        Ok(target)
    } else {
        Err(format!("process {pid} is not (any more) that of its container"))
    }
}

/// Whether `pid` is a process of the container `id`: by its control group, or, where ordinary users have none of their
/// own, by the monitor that watches it.
fn belongs(pid: u32, id: &str) -> bool {
    let read = |pid: &str, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let contains = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(id);
    let own = pid.to_string();
    if contains(read(&own, "cgroup")) {
        return true;
    }
    let status = String::from_utf8_lossy(&read(&own, "status")).into_owned();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
    parent.is_some_and(|parent| contains(read(parent, "cmdline")))
}

fn unattached(error: &AttachError) -> Unattached {
    match error {
        AttachError::NoGate => Unattached::NotAtGate(told(error)),
        _ => Unattached::Failed(told(error)),
    }
}

/// An error with what led to it, on one line.
pub fn told(error: &AttachError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
