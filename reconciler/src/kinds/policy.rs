//! Egress policies: immutable objects on the engine whose name carries the hash of what they say.
//!
//! A policy is changed by making another object, having the daemon put it in force, and removing the old one: always in
//! place, never with a new container. Where a rule is written is no part of what it says.

use std::collections::{BTreeMap, BTreeSet};

use schema::config::{EgressMode, Sandbox};
use schema::policy::{Place, Policy, Rule};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::container;
use super::volume::held;
use super::{Change, Kind, PlanContext};
use crate::desired::{DesireContext, Desired, DesiredState, spec_hash, to_spec};
use crate::facts::{ContainerFacts, ObjectFacts, Observed, State};
use crate::op::Op;
use crate::ownership::{self, OwnedContainers};
use crate::plan::{Action, FieldChange};
use crate::resource::{Naming, ResourceId, label, short};
use crate::spec::NewObject;

/// The kind.
pub struct Policies;

/// Its noun.
pub const NOUN: &str = "policy";

/// A policy and the salted hashes of the secrets it writes into requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// What it says.
    pub policy: Policy,
    /// Secret by name to the salted hash of its value.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

impl PolicySpec {
    /// The same without what does not count: places, and the order of rules.
    fn canonical(&self) -> Value {
        let Self { policy, secrets } = self;
        json!({ "policy": canonical(policy), "secrets": secrets })
    }
}

/// A policy without what does not count: places, and the order of rules.
pub fn canonical(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    for rules in [&mut policy.allow, &mut policy.deny] {
        for rule in rules.iter_mut() {
            rule.place = Place::default();
        }
        rules.sort_by_cached_key(|rule| to_spec(rule).to_string());
    }
    policy
}

/// The port of the daemon's listener inside of what it serves.
pub const LISTENER: u16 = 64080;

/// The object that holds `policy` for `name`, which is no sandbox, as long as that is there. What an earlier run has left
/// for the same purpose has another name: whoever removes that does not remove this.
pub fn passing(naming: &Naming, name: &str, policy: &Policy, uid: String) -> NewObject {
    let hash = spec_hash(&json!([policy, uid]));
    let mut labels = ownership::labels(naming, NOUN, name, uid, &hash);
    labels.insert(label::SERIAL.to_owned(), "1".to_owned());
    labels.insert(label::SPEC.to_owned(), to_spec(policy).to_string());
    labels.insert(label::SECRETS.to_owned(), "{}".to_owned());
    NewObject { name: naming.policy(name, &hash), labels }
}

impl Kind for Policies {
    fn noun(&self) -> &'static str {
        NOUN
    }

    /// Whatever it says.
    fn leads_to(&self, naming: &Naming, name: &str, object: &str) -> bool {
        object.starts_with(&naming.policy(name, ""))
    }

    /// One for each sandbox that has something to reach, or is on a network where it must reach nothing but its peers.
    /// Any other needs nobody to serve it, unless its container already waits to be let in at every start.
    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        let gated = gated(context);
        for sandbox in context.config.sandboxes.values() {
            let Sandbox { name, egress, networks, .. } = sandbox;
            let policy = match egress.mode {
                EgressMode::Allowlist | EgressMode::Direct => egress.policy.clone(),
                EgressMode::None => Policy { inbound: egress.policy.inbound.clone(), ..Policy::default() },
                EgressMode::Open => continue,
            };
            let gated = || gated.contains(name.as_str());
            // In mode `direct` it is on the engine's own: without rules it would reach everything.
            let alone = networks.is_empty() && egress.mode != EgressMode::Direct;
            if policy.is_empty() && alone && !gated() {
                continue;
            }
            let place = format!("sandboxes.{name}.egress");
            let mut secrets = BTreeMap::new();
            for secret in policy.secrets() {
                match context.host.secrets.get(secret.as_str()) {
                    Some(Ok(hash)) => drop(secrets.insert(secret.to_string(), hash.clone())),
                    Some(Err(why)) => state.notices.push(context.error(
                        "secret-unavailable",
                        &place,
                        format!("secret {secret} cannot be read: {why}"),
                        "make its source available; nothing is changed until it is",
                    )),
                    None => state.notices.push(context.error(
                        "secret-unavailable",
                        &place,
                        format!("secret {secret} was not read"),
                        "",
                    )),
                }
            }
            let policy = PolicySpec { policy, secrets };
            let spec = to_spec(&policy);
            state.resources.push(Desired {
                id: id(name.as_str()),
                sandbox: Some(name.to_string()),
                origin: context.origin(&place).or_else(|| context.origin(&format!("sandboxes.{name}"))),
                after: Vec::new(),
                hash: spec_hash(&policy.canonical()),
                text: spec.to_string(),
                spec,
                beside: None,
            });
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let objects = by_sandbox(&context.snapshot.volumes, context.naming);
        let ours = |desired: &Desired| objects.get(desired.id.name.as_str()).map_or(&[][..], Vec::as_slice);
        let mut changes: Vec<_> =
            context.desired_of(NOUN).map(|desired| compare(context, desired, ours(desired))).collect();
        changes.extend(leftovers(context, &objects));
        changes
    }
}

/// The policy of a sandbox.
pub fn id(sandbox: &str) -> ResourceId {
    ResourceId::new(NOUN, sandbox)
}

/// Names of the sandboxes that have one.
pub fn served(resources: &[Desired]) -> BTreeSet<String> {
    resources.iter().filter(|resource| resource.id.kind == NOUN).map(|resource| resource.id.name.clone()).collect()
}

/// Sandboxes of the project whose containers hold their main process until somebody serves them, whatever these are called.
fn gated<'a>(context: &DesireContext<'a>) -> BTreeSet<&'a str> {
    /// Nothing else of the specification is read.
    #[derive(Deserialize)]
    struct Gate {
        #[serde(default)]
        gate: bool,
    }
    let is_gated = |container: &ContainerFacts| {
        let spec = container.labels.get(label::SPEC).map_or("", String::as_str);
        serde_json::from_str::<Gate>(spec).is_ok_and(|spec| spec.gate)
    };
    // Without a memory one that was renamed is a stray. It may be given its name back, and a successor take over.
    let OwnedContainers { current, successor, strays, .. } =
        ownership::containers(context.snapshot, context.naming, &BTreeMap::new());
    let others = successor.iter().chain(&strays).filter(|(name, _)| !current.contains_key(**name));
    current.iter().chain(others).filter(|(_, container)| is_gated(container)).map(|(name, _)| *name).collect()
}

/// The objects that hold policies, by sandbox, the newest last.
fn by_sandbox<'a>(volumes: &'a [ObjectFacts], naming: &Naming) -> BTreeMap<&'a str, Vec<&'a ObjectFacts>> {
    let mut found: BTreeMap<&str, Vec<&ObjectFacts>> = BTreeMap::new();
    for volume in volumes.iter().filter(|volume| ownership::is_ours(volume, naming, &Policies)) {
        if let Some(name) = volume.labels.get(label::NAME) {
            found.entry(name).or_default().push(volume);
        }
    }
    for of_one in found.values_mut() {
        of_one.sort_by_key(|volume| (serial(volume), volume.name.clone()));
    }
    found
}

/// Which of the policies of a sandbox is the newest: clocks can be wrong, and are coarse.
pub(crate) fn serial(volume: &ObjectFacts) -> u64 {
    volume.labels.get(label::SERIAL).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What an object holds; nothing when it cannot be read.
pub(crate) fn stored(volume: &ObjectFacts) -> PolicySpec {
    let read = |key| volume.labels.get(key).map_or("", String::as_str);
    PolicySpec {
        policy: serde_json::from_str(read(label::SPEC)).unwrap_or_default(),
        secrets: serde_json::from_str(read(label::SECRETS)).unwrap_or_default(),
    }
}

fn compare(context: &mut PlanContext<'_>, desired: &Desired, ours: &[&ObjectFacts]) -> Change {
    let name = desired.id.name.as_str();
    let spec: PolicySpec = serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind");
    let object = context.naming.policy(name, &desired.hash);
    let canonical = spec.canonical();
    let canonical = Desired { text: canonical.to_string(), spec: canonical, ..desired.clone() };
    let names: Vec<&str> = ours.iter().map(|volume| volume.name.as_str()).collect();
    context.rests_on(&desired.id, Some(&canonical), (!names.is_empty()).then(|| json!(names)));
    let foreign = |volume: &&ObjectFacts| volume.name == object && !names.contains(&object.as_str());
    if context.snapshot.volumes.iter().any(|volume| foreign(&volume)) {
        return Change::of(desired, Action::Forbidden)
            .because(format!("volume {object} carries labels that do not belong to it"));
    }
    let runs = running(context, name).is_some();
    let enforce = enforce(context, name, &desired.hash, &spec);
    let others = |but: &str| -> Vec<Op> {
        let others = names.iter().filter(|name| **name != but);
        others.map(|name| Op::RemoveVolume { volume: (*name).to_owned() }).collect()
    };
    let removed = |mut change: Change, ops: Vec<Op>| {
        for op in ops {
            change = change.step("remove an older policy", op);
        }
        change
    };
    match ours.iter().position(|volume| volume.name == object) {
        None => {
            context.wanted.volume_names.insert(object.clone());
            if let Some(holder) = context.probes.held_volumes.get(&object) {
                return Change::of(desired, Action::Forbidden).because(held("volume", &object, holder));
            }
            let newest = ours.last();
            let mut labels = ownership::labels(context.naming, NOUN, name, (context.new_uid)(), &desired.hash);
            let next = newest.map_or(0, |volume| serial(volume)) + 1;
            labels.insert(label::SERIAL.to_owned(), next.to_string());
            labels.insert(label::SPEC.to_owned(), to_spec(&spec.policy).to_string());
            labels.insert(label::SECRETS.to_owned(), to_spec(&spec.secrets).to_string());
            let (action, because) = match newest {
                Some(_) => (Action::Update, "rules changed"),
                None => (Action::Create, "not there"),
            };
            let mut change =
                Change::of(desired, action).because(because).step("have the daemon run", Op::EnsureDaemon).step(
                    format!("create policy {object}"),
                    Op::CreateVolume { object: NewObject { name: object.clone(), labels } },
                );
            if runs || !spec.secrets.is_empty() {
                change = change.step("put it in force", enforce);
            }
            let before = newest.map(|volume| stored(volume)).unwrap_or_default();
            (change.fields, change.unchanged) = fields(&before, &spec);
            if newest.is_some() && runs && matches!(context.snapshot.daemon, Observed::Present(_)) {
                context.wanted.policies.insert(name.to_owned(), to_spec(&spec.policy));
                change.cuts = context.probes.cut_flows.get(name).cloned().unwrap_or_default();
            }
            removed(change, others(&object))
        }
        Some(index) => {
            let mut change = Change::of(desired, Action::Noop);
            change.unchanged = fields(&PolicySpec::default(), &spec).0.len();
            let newest = index + 1 == ours.len();
            let why = not_in_force(context, name, &desired.hash);
            if newest && ours.len() == 1 && why.is_none() {
                return change;
            }
            change.action = Action::Update;
            if ours.len() > 1 {
                change.because.push("a change of the policy was cut short".to_owned());
            }
            if let Some(why) = why {
                change.drift = true;
                change.because.push(why);
            }
            let change = change.step("have the daemon run", Op::EnsureDaemon);
            if newest {
                removed(change.step("put it in force", enforce), others(&object))
            } else {
                // The daemon takes the newest one: those that are newer than this have to go first.
                removed(change, others(&object)).step("put it in force", enforce)
            }
        }
    }
}

/// The container of a sandbox, when it runs under the name by which a daemon knows it.
fn running<'a>(context: &PlanContext<'a>, name: &str) -> Option<&'a ContainerFacts> {
    let current = context.containers.current.get(name).copied();
    current.filter(|container| container.state == State::Running && container.name == context.naming.object(name))
}

fn enforce(context: &PlanContext<'_>, name: &str, hash: &str, spec: &PolicySpec) -> Op {
    Op::EnforcePolicy {
        project: context.naming.project().to_owned(),
        sandbox: name.to_owned(),
        policy: Some(hash.to_owned()),
        secrets: spec.secrets.clone(),
    }
}

/// What a change that starts a container does before it waits for it: nobody else opens its gate in time.
pub(super) fn at_start(context: &PlanContext<'_>, name: &str) -> Option<Op> {
    if !context.options.state_only {
        let desired = context.desired_of(NOUN).find(|desired| desired.id.name == name)?;
        let spec: PolicySpec = serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind");
        return Some(enforce(context, name, &desired.hash, &spec));
    }
    // Whatever the file says by now: the policy that was applied last.
    let newest = by_sandbox(&context.snapshot.volumes, context.naming).remove(name)?.pop()?;
    let hash = newest.labels.get(label::HASH)?;
    Some(enforce(context, name, hash, &stored(newest)))
}

/// Why a running sandbox is not held to the policy `hash`, if it is not.
fn not_in_force(context: &PlanContext<'_>, name: &str, hash: &str) -> Option<String> {
    let container = running(context, name)?;
    let facts = match &context.snapshot.daemon {
        Observed::Present(facts) => facts,
        Observed::Absent => return Some("no daemon serves it: nothing is reachable".to_owned()),
        // Nobody can say that it is not.
        Observed::Unknown(_) => return None,
    };
    let Some(served) = facts.served.iter().find(|served| served.container == container.id) else {
        return Some("the daemon does not serve it: nothing is reachable".to_owned());
    };
    match (&served.policy, &served.problem) {
        (Some(policy), _) if policy == hash => match served.missing_secrets.as_slice() {
            [] => None,
            missing => Some(format!("the daemon has no value of secret {}", missing.join(", "))),
        },
        (_, Some(problem)) => Some(format!("the daemon does not enforce it: {problem}")),
        (Some(_), None) => Some("the daemon has another policy in force".to_owned()),
        (None, None) => Some("the daemon does not serve it: nothing is reachable".to_owned()),
    }
}

/// Policies of ours that nothing asks for.
fn leftovers(context: &mut PlanContext<'_>, objects: &BTreeMap<&str, Vec<&ObjectFacts>>) -> Vec<Change> {
    let desired = context.desired_names(NOUN);
    let sandboxes = context.desired_names(container::NOUN);
    let mut changes = Vec::new();
    for (&name, ours) in objects.iter().filter(|(name, _)| !desired.contains(*name)) {
        let id = id(name);
        context.rests_on(&id, None, Some(json!(ours.iter().map(|volume| &volume.name).collect::<Vec<_>>())));
        let because = if sandboxes.contains(name) { "nothing is allowed any more" } else { context.why_gone() };
        let mut change = Change::deletion(id, because);
        change.sandbox = Some(name.to_owned());
        if let Some(newest) = ours.last() {
            change.fields = fields(&stored(newest), &PolicySpec::default()).0;
        }
        // As long as a container is there that a policy holds for, it has one.
        change.after = vec![ResourceId::new(container::NOUN, name)];
        for volume in ours {
            change =
                change.step(format!("remove policy {}", volume.name), Op::RemoveVolume { volume: volume.name.clone() });
        }
        if sandboxes.contains(name) {
            let (project, sandbox) = (context.naming.project().to_owned(), name.to_owned());
            let op = Op::EnforcePolicy { project, sandbox, policy: None, secrets: BTreeMap::new() };
            change = change.step("have the daemon let go of it", op);
        }
        changes.push(change);
    }
    changes
}

/// What differs, rule by rule, and how many rules do not.
fn fields(before: &PolicySpec, after: &PolicySpec) -> (Vec<FieldChange>, usize) {
    let (mut before, mut after) = (attributes(before), attributes(after));
    let mut changes = Vec::new();
    let mut same = 0;
    let keys: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    for path in keys {
        let (old, new) = (before.remove(&path).unwrap_or_default(), after.remove(&path).unwrap_or_default());
        if old == new {
            same += 1;
        } else {
            changes.push(FieldChange { path, before: old, after: new, forces_replacement: false });
        }
    }
    (changes, same)
}

/// A policy as flat attributes: `allow[github.com:443]`, `hosts[db.internal]`, `networks[backend]`.
fn attributes(spec: &PolicySpec) -> Map<String, Value> {
    let PolicySpec { policy: Policy { allow, deny, hosts, dial_allow, upstream, inbound }, secrets } = spec;
    let mut found = Map::new();
    for (list, rules) in [("allow", allow), ("deny", deny)] {
        let mut rows: Vec<(String, Value)> = rules.iter().map(|rule| (key(list, rule), details(rule))).collect();
        rows.sort_by_cached_key(|(key, details)| (key.clone(), details.to_string()));
        for (key, details) in rows {
            // Several rules may speak of the same host and ports.
            let mut path = key.clone();
            let mut number = 1;
            while found.contains_key(&path) {
                number += 1;
                path = format!("{key}#{number}");
            }
            found.insert(path, details);
        }
    }
    for (name, addresses) in hosts {
        found.insert(format!("hosts[{name}]"), json!(addresses));
    }
    if !dial_allow.is_empty() {
        found.insert("dial.allowRanges".to_owned(), json!(dial_allow));
    }
    if *upstream != schema::policy::Upstream::Direct {
        found.insert("upstream".to_owned(), json!(upstream));
    }
    // A network that is not here has every port.
    for (network, ports) in inbound {
        found.insert(format!("networks[{network}]"), json!(ports.to_string()));
    }
    for (name, hash) in secrets {
        found.insert(format!("secrets.{name}"), json!(short(hash)));
    }
    found
}

fn key(list: &str, rule: &Rule) -> String {
    let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
    format!("{list}[{}:{}]", rule.host, ports.join(","))
}

/// The rest of a rule: its protocol alone, or all that is given.
fn details(rule: &Rule) -> Value {
    let mut rest = to_spec(rule);
    let Some(fields) = rest.as_object_mut() else { return rest };
    for part in ["host", "ports", "place"] {
        fields.remove(part);
    }
    match (fields.len(), fields.get("protocol")) {
        (1, Some(protocol)) => protocol.clone(),
        _ => rest,
    }
}

#[cfg(test)]
mod tests;
