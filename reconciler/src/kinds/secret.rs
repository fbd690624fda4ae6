//! Secrets: immutable objects whose name carries the salted hash of the value. Values never enter a plan.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Change, Kind, PlanContext, fixed};
use crate::desired::{DesireContext, DesiredState, to_spec};
use crate::diff;
use crate::op::Op;
use crate::ownership;
use crate::plan::Action;
use crate::resource::{Naming, ResourceId, label, short};
use crate::spec::NewObject;

/// The kind.
pub struct Secrets;

/// Its noun.
pub const NOUN: &str = "secret";

/// The label that holds the salted hash of the value.
pub(crate) const VALUE_HASH: &str = "sbx.value-hash";

impl Kind for Secrets {
    fn noun(&self) -> &'static str {
        NOUN
    }

    /// Whatever its value.
    fn leads_to(&self, naming: &Naming, name: &str, object: &str) -> bool {
        object.starts_with(&naming.secret(name, ""))
    }

    /// Only secrets that a sandbox is given: those that are written into requests stay outside.
    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        for name in context.config.used_secrets() {
            let name = name.as_str();
            let place = format!("secrets.{name}");
            match context.host.secrets.get(name) {
                Some(Ok(hash)) => {
                    let spec = json!({ "value": hash });
                    state.resources.push(fixed(context, NOUN, name, &place, &spec));
                }
                Some(Err(why)) => state.notices.push(context.error(
                    "secret-unavailable",
                    &place,
                    format!("secret {name} cannot be read: {why}"),
                    "make its source available; nothing is changed until it is",
                )),
                None => state.notices.push(context.error(
                    "secret-unavailable",
                    &place,
                    format!("secret {name} was not read"),
                    "",
                )),
            }
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut current = BTreeSet::new();
        for desired in context.desired_of(NOUN) {
            let name = &desired.id.name;
            let hash = desired.spec["value"].as_str().unwrap_or_default();
            let object = context.naming.secret(name, hash);
            let found = context.snapshot.secrets.iter().find(|secret| secret.name == object);
            context.rests_on(&desired.id, Some(desired), found.map(to_spec));
            current.insert(object.clone());
            let older = context.snapshot.secrets.iter().find(|secret| {
                secret.name != object
                    && secret.labels.get(label::NAME) == Some(name)
                    && ownership::is_ours(secret, context.naming, &Secrets)
            });
            changes.push(match found {
                Some(secret) if ownership::is_ours(secret, context.naming, &Secrets) => {
                    let mut change = Change::of(desired, Action::Noop);
                    change.unchanged = 1;
                    change
                }
                Some(_) => Change::of(desired, Action::Forbidden).because(super::volume::held(
                    NOUN,
                    &object,
                    "it has no labels of this project",
                )),
                None => {
                    let mut labels = ownership::labels(context.naming, NOUN, name, (context.new_uid)(), &desired.hash);
                    labels.insert(VALUE_HASH.to_owned(), hash.to_owned());
                    let action = if older.is_some() { Action::Replace } else { Action::Create };
                    let mut change = Change::of(desired, action).step(
                        format!("create secret {object}"),
                        Op::CreateSecret {
                            object: NewObject { name: object, labels },
                            secret: name.clone(),
                            hash: hash.to_owned(),
                        },
                    );
                    let before = older.and_then(|secret| secret.labels.get(VALUE_HASH));
                    change.because.push(if older.is_some() { "value changed" } else { "not there" }.to_owned());
                    change.fields = diff::fields(&json!({ "value": before }), &desired.spec, |_| older.is_some()).0;
                    change
                }
            });
        }
        changes.extend(leftovers(context, &current));
        changes
    }
}

/// Objects of ours that hold an older value or a secret nobody asks for. They are copies: the source still has them.
fn leftovers(context: &mut PlanContext<'_>, current: &BTreeSet<String>) -> Vec<Change> {
    if context.options.destroy.as_ref().is_some_and(|destroy| !destroy.secrets) {
        return Vec::new();
    }
    let names = context.desired_names(NOUN);
    let mut changes = Vec::new();
    for secret in &context.snapshot.secrets {
        if current.contains(&secret.name) || !ownership::is_ours(secret, context.naming, &Secrets) {
            continue;
        }
        let name = secret.labels.get(label::NAME).cloned().unwrap_or_default();
        let key = secret.name.rsplit('.').next().map(short).unwrap_or_default();
        let because = if names.contains(name.as_str()) { "holds an older value" } else { "no longer used" };
        let id = ResourceId::deposed(NOUN, name, key);
        context.rests_on(&id, None, Some(to_spec(secret)));
        let mut change = Change::deletion(id, because)
            .step(format!("remove secret {}", secret.name), Op::RemoveSecret { secret: secret.name.clone() });
        change.after = crate::kinds::AFTER_CONTAINERS.to_vec();
        changes.push(change);
    }
    changes
}

#[cfg(test)]
mod tests {
    use crate::host_facts::HostFacts;
    use crate::testing::{config, desired};

    #[tokio::test]
    async fn secrets_of_headers_are_read_and_given_to_nobody() {
        let config = config(
            "secrets: { inside: { env: A }, header: { env: B }, builder: { env: C }, idle: { env: D } }\n\
             allowlists: { model: [{ host: a.example, request: { set: { x-key: { secret: header } } } }] }\n\
             images:\n  debian: { ref: docker.io/library/debian:bookworm }\n  base:\n    from: debian\n    setup:\n      run: [a]\n      \
             egress: { allow: [{ host: b.example, request: { add: { x-key: { secret: builder } } } }] }\n  \
             other: { from: base, setup: { run: [b], egress: { allow: [{ host: c.example, request: { add: { x-key: { secret: idle } } } }] } } }\n\
             sandboxes:\n  api: { image: base, env: { A: { secret: inside } }, egress: { allow: [model] } }\n",
        );
        let mut host = HostFacts::default();
        let missing = |state: &crate::desired::DesiredState| -> Vec<String> {
            let notices = state.notices.iter().filter(|notice| notice.code == "sbx::secret-unavailable");
            notices.map(|notice| notice.message.clone()).collect()
        };
        let read: Vec<_> = config.read_secrets().into_iter().map(schema::Name::as_str).collect();
        assert_eq!(read, ["builder", "header", "inside"]);
        let mut unread = missing(&desired(&config, &host).await);
        unread.sort();
        assert_eq!(unread, ["header", "inside"].map(|name| format!("secret {name} was not read")));
        for name in ["inside", "header"] {
            host.secrets.insert(name.to_owned(), Ok(format!("hash of {name}")));
        }
        let state = desired(&config, &host).await;
        assert_eq!(missing(&state), Vec::<String>::new());
        let secrets: Vec<_> = state.resources.iter().filter(|resource| resource.id.kind == super::NOUN).collect();
        assert_eq!(secrets.iter().map(|secret| secret.id.name.as_str()).collect::<Vec<_>>(), ["inside"]);
        let container = state.resources.iter().find(|resource| resource.id.kind == "container").expect("the sandbox");
        let spec = container.spec.to_string();
        assert!(spec.contains("inside") && !spec.contains("header"), "{spec}");
    }
}
