//! What changes in a running container without a new one: ceilings, restart policy, networks.

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::facts::{ContainerFacts, EngineFacts, LimitFacts, Observed, State};
use crate::kinds::PlanContext;
use crate::op::Op;
use crate::plan::{Change, FieldChange};
use crate::spec::{ContainerSpec, LimitSpec, NetworkSpec};

/// Whether a field of the specification changes in place.
///
/// A gate is for its next container, and is worth none by itself: without a network there is nothing to be reached before
/// somebody attaches, gate or no gate. With one, whoever else is on it is.
pub fn is_live(path: &str, spec: &ContainerSpec, engine: &EngineFacts) -> bool {
    (path == "gate" && spec.network == NetworkSpec::None)
        || path.starts_with("limits")
        || path == "network.networks"
        || (path == "restart" && engine.updates_restart)
}

/// The specification without what changes in place; its hash decides nothing else.
pub fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("limits");
        fields.remove("restart");
        fields.remove("gate");
        if let Some(network) = fields.get_mut("network").and_then(Value::as_object_mut) {
            network.remove("networks");
        }
    }
    spec
}

fn field(path: &str, before: Value, after: Value) -> FieldChange {
    FieldChange { path: path.to_owned(), before, after, forces_replacement: false }
}

/// Attaches and detaches. What the engine says is compared, not what was last applied.
pub fn networks(spec: &ContainerSpec, applied: &Value, current: &ContainerFacts, mut change: Change) -> Change {
    let NetworkSpec::Bridge { networks, alias } = &spec.network else { return change };
    if *networks == current.networks {
        return change;
    }
    change.drift |= applied["network"]["networks"] == json!(networks);
    change.fields.push(field("network.networks", json!(current.networks), json!(networks)));
    change = change.because("networks differ");
    for name in networks.iter().filter(|name| !current.networks.contains(name)) {
        change = change.step(
            format!("attach to {name}"),
            Op::ConnectNetwork { container: current.id.clone(), network: name.clone(), alias: alias.clone() },
        );
    }
    for name in current.networks.iter().filter(|name| !networks.contains(name)) {
        change = change.step(
            format!("detach from {name}"),
            Op::DisconnectNetwork { container: current.id.clone(), network: name.clone() },
        );
    }
    change
}

/// Ceilings in force against ceilings wished for.
///
/// `fresh`: the container starts in this change. Podman 4 then falls back to the ceilings it was created with, Podman 5
/// keeps what somebody set while it was stopped, and a stopped container shows neither: they are set in any case.
///
/// `given`: the ceilings that an earlier apply gave to this very container, as far as is remembered.
pub fn ceilings(
    context: &PlanContext<'_>,
    spec: &ContainerSpec,
    applied: &Value,
    current: &ContainerFacts,
    mut change: Change,
    fresh: bool,
    given: Option<LimitSpec>,
) -> Change {
    if context.snapshot.engine.limits.is_empty() || (context.options.state_only && !fresh) {
        return change;
    }
    if context.options.state_only {
        return match last_in_force(spec, applied, current, given) {
            Some(limits) if limits != LimitSpec::default() => change
                .step("set ceilings", Op::UpdateContainer { container: current.id.clone(), limits, restart: None }),
            _ => change,
        };
    }
    let applied = LimitSpec::deserialize(&applied["limits"]).unwrap_or_default();
    let in_force = match &current.limits {
        Observed::Present(limits) if !fresh => limits.clone(),
        _ => LimitFacts::from(applied),
    };
    let LimitSpec { cpus_milli, memory, pids } = spec.limits;
    // Kernels keep memory in pages.
    let page =
        |path: &str, value: Option<u64>| value.map(|value| if path == "limits.memory" { value / 4096 } else { value });
    let rows = [
        ("limits.cpus_milli", applied.cpus_milli, in_force.cpus_milli, cpus_milli),
        ("limits.memory", applied.memory, in_force.memory, memory),
        ("limits.pids", applied.pids, in_force.pids, pids),
    ];
    let mut differs = false;
    for (path, applied, before, after) in rows {
        // What cannot be read is not compared: set once more, it would be no better known.
        let Observed::Present(before) = before else { continue };
        // Without a ceiling of ours the engine's own default holds, whatever it is.
        if page(path, before) == page(path, after) || (after.is_none() && applied.is_none()) {
            continue;
        }
        differs = true;
        change.drift |= applied == after;
        change.fields.push(field(path, json!(before), json!(after)));
    }
    if differs {
        change.because.push("ceilings differ".to_owned());
    } else if !fresh || (spec.limits == LimitSpec::default() && applied == LimitSpec::default()) {
        return change;
    }
    let op = Op::UpdateContainer { container: current.id.clone(), limits: spec.limits, restart: None };
    change.step("set ceilings", op)
}

/// The ceilings of a container that is started and not changed. `None` where the engine, which starts it as it knows it, is
/// not known to be wrong.
///
/// While it runs the kernel tells which are in force, and they stay, whatever the file says by now. Of a stopped one nobody
/// tells: not the label, which has what it was created with, nor for certain what is remembered, as somebody with another
/// memory may have applied others since. Of what is known and what the file says it gets the tighter, so that no start
/// gives a sandbox more than the file does.
fn last_in_force(
    spec: &ContainerSpec,
    applied: &Value,
    current: &ContainerFacts,
    given: Option<LimitSpec>,
) -> Option<LimitSpec> {
    let created = LimitSpec::deserialize(&applied["limits"]).unwrap_or_default();
    if [spec.limits, created, given.unwrap_or_default()].iter().all(|limits| *limits == LimitSpec::default()) {
        // None of them was ours, and the engine's own defaults come back by themselves.
        return None;
    }
    let stopped = tighter(given.unwrap_or(created), spec.limits);
    match &current.limits {
        Observed::Present(LimitFacts { cpus_milli, memory, pids }) if current.state == State::Running => {
            let known = |observed: &Observed<Option<u64>>, stopped| match observed {
                Observed::Present(in_force) => *in_force,
                Observed::Absent | Observed::Unknown(_) => stopped,
            };
            Some(LimitSpec {
                cpus_milli: known(cpus_milli, stopped.cpus_milli),
                memory: known(memory, stopped.memory),
                pids: known(pids, stopped.pids),
            })
        }
        // Where nothing is remembered an engine that keeps what was set since knows more, unless that has to be less.
        _ => (given.is_some() || stopped != created).then_some(stopped),
    }
}

/// The tighter of two ceilings each.
fn tighter(one: LimitSpec, other: LimitSpec) -> LimitSpec {
    let lower = |one: Option<u64>, other: Option<u64>| [one, other].into_iter().flatten().min();
    LimitSpec {
        cpus_milli: lower(one.cpus_milli, other.cpus_milli),
        memory: lower(one.memory, other.memory),
        pids: lower(one.pids, other.pids),
    }
}

/// Restart policy, looked at closely only where the last-applied one is not the wished one.
pub fn restart(
    context: &mut PlanContext<'_>,
    spec: &ContainerSpec,
    applied: &Value,
    current: &ContainerFacts,
    mut change: Change,
) -> Change {
    let applied = applied["restart"].as_str().unwrap_or_default();
    if applied == spec.restart || !context.snapshot.engine.updates_restart {
        return change;
    }
    context.wanted.containers.insert(current.id.clone());
    let in_force = context.probes.containers.get(&current.id).and_then(|probe| probe.restart.as_deref());
    let in_force = in_force.unwrap_or(applied);
    if in_force == spec.restart {
        return change;
    }
    change.fields.push(field("restart", json!(in_force), json!(spec.restart)));
    change.because("restart policy differs").step(
        format!("set restart policy {}", spec.restart),
        Op::UpdateContainer { container: current.id.clone(), limits: spec.limits, restart: Some(spec.restart.clone()) },
    )
}
