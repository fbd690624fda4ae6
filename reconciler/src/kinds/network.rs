//! Networks between sandboxes.

use super::volume::held;
use super::{Change, Kind, PlanContext, fixed};
use crate::desired::{DesireContext, Desired, DesiredState, to_spec};
use crate::diff;
use crate::facts::{ContainerFacts, ObjectFacts};
use crate::op::Op;
use crate::ownership;
use crate::plan::{Action, Step};
use crate::resource::{ResourceId, label};
use crate::spec::{EngineNetworkSpec, NewObject};

/// The kind.
pub struct Networks;

/// Its noun.
pub const NOUN: &str = "network";

impl Kind for Networks {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        for (name, network) in &context.config.networks {
            let schema::config::Network { internal } = network;
            let spec = EngineNetworkSpec { internal: *internal };
            state.resources.push(fixed(context, NOUN, name.as_str(), &format!("networks.{name}"), &spec));
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        for desired in context.desired_of(NOUN) {
            let object = context.naming.object(&desired.id.name);
            let found = context.snapshot.networks.iter().find(|network| network.name == object);
            context.rests_on(&desired.id, Some(desired), found.map(to_spec));
            changes.push(match found {
                Some(network) => existing(context, desired, network),
                None => missing(context, desired, object),
            });
        }
        let names = context.desired_names(NOUN);
        let mut leftovers = Vec::new();
        for network in &context.snapshot.networks {
            let Some(name) = network.labels.get(label::NAME) else { continue };
            if names.contains(name.as_str()) || !ownership::is_ours(network, context.naming, &Networks) {
                continue;
            }
            let id = ResourceId::new(NOUN, name);
            context.rests_on(&id, None, Some(to_spec(network)));
            let mut change = Change::deletion(id, context.why_gone())
                .step(format!("remove network {}", network.name), Op::RemoveNetwork { network: network.name.clone() });
            change.after = crate::kinds::AFTER_CONTAINERS.to_vec();
            leftovers.push(change);
        }
        changes.extend(leftovers);
        changes
    }
}

fn spec(desired: &Desired) -> EngineNetworkSpec {
    serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind")
}

fn new_object(context: &mut PlanContext<'_>, desired: &Desired, object: String) -> NewObject {
    let labels = ownership::labels(context.naming, NOUN, &desired.id.name, (context.new_uid)(), &desired.hash);
    NewObject { name: object, labels }
}

fn missing(context: &mut PlanContext<'_>, desired: &Desired, object: String) -> Change {
    context.wanted.network_names.insert(object.clone());
    if let Some(holder) = context.probes.held_networks.get(&object) {
        return Change::of(desired, Action::Forbidden).because(held(NOUN, &object, holder));
    }
    let title = format!("create network {object}");
    let object = new_object(context, desired, object);
    let mut change = Change::of(desired, Action::Create)
        .because("not there")
        .step(title, Op::CreateNetwork { object, spec: spec(desired) });
    change.fields = diff::created(&desired.spec);
    change
}

fn existing(context: &mut PlanContext<'_>, desired: &Desired, network: &ObjectFacts) -> Change {
    if !ownership::is_ours(network, context.naming, &Networks) {
        return Change::of(desired, Action::Forbidden)
            .because(format!("network {} carries labels that do not belong to it", network.name));
    }
    let observed = to_spec(&EngineNetworkSpec { internal: network.internal });
    let (fields, unchanged) = diff::fields(&observed, &desired.spec, |_| true);
    if fields.is_empty() {
        let mut change = Change::of(desired, Action::Noop);
        change.unchanged = unchanged;
        return change;
    }
    // An engine network cannot be changed: its members leave, it is made anew, they come back.
    let mut change = Change::of(desired, Action::Replace);
    for field in &fields {
        change.because.push(format!("{}: {} → {}", field.path, field.before, field.after));
    }
    change.drift = network.labels.get(label::HASH) == Some(&desired.hash);
    let members: Vec<_> =
        context.snapshot.containers.iter().filter(|member| member.networks.contains(&network.name)).collect();
    let owned = || context.containers.current.values().chain(context.containers.successor.values());
    if let Some(foreign) = members.iter().find(|member| !owned().any(|ours| ours.id == member.id)) {
        return Change::of(desired, Action::Forbidden)
            .because(format!("container {} is on network {} and is not ours to detach", foreign.name, network.name));
    }
    let name = &network.name;
    let attach = |member: &ContainerFacts| Op::ConnectNetwork {
        container: member.id.clone(),
        network: name.clone(),
        alias: member.labels.get(label::NAME).cloned().unwrap_or_default(),
    };
    let mut push =
        |title: String, op: Op, undo: Vec<Op>, commits: bool| change.steps.push(Step { title, op, undo, commits });
    for member in &members {
        let detach = Op::DisconnectNetwork { container: member.id.clone(), network: name.clone() };
        push(format!("detach {} from {name}", member.name), detach, vec![attach(member)], false);
    }
    let old = NewObject { name: name.clone(), labels: network.labels.clone() };
    let again = Op::CreateNetwork { object: old, spec: EngineNetworkSpec { internal: network.internal } };
    push(format!("remove network {name}"), Op::RemoveNetwork { network: name.clone() }, vec![again], false);
    let object = new_object(context, desired, name.clone());
    let create = Op::CreateNetwork { object, spec: spec(desired) };
    push(format!("create network {name}"), create, Vec::new(), false);
    for member in &members {
        // The new network is there: who could not be attached is attached by the next plan.
        push(format!("attach {} to {name}", member.name), attach(member), Vec::new(), true);
    }
    change.fields = fields;
    change.unchanged = unchanged;
    change
}
