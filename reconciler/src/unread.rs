//! Secrets that nobody asked for: whoever only tells how things stand runs no command that may prompt somebody.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{ContainerFacts, ObjectFacts, Snapshot};
use crate::host_facts::HostFacts;
use crate::kinds::{container, policy, secret};
use crate::ownership;
use crate::resource::{Naming, label};

/// `host`, with values that were not read taken for those that were applied last. What never was stays unknown.
pub fn assume<'a>(host: &'a HostFacts, project: &str, snapshot: &Snapshot) -> Cow<'a, HostFacts> {
    if host.unread.is_empty() {
        return Cow::Borrowed(host);
    }
    let naming = Naming::new(project);
    let mut host = host.clone();
    for name in &host.unread {
        if let Some(hash) = given(&naming, name, snapshot).or_else(|| written(&naming, name, snapshot)) {
            host.secrets.insert(name.clone(), Ok(hash));
        }
    }
    Cow::Owned(host)
}

/// Hash of the value that sandboxes are given. Of an older value an object may be left too: it is no sandbox's.
fn given(naming: &Naming, name: &str, snapshot: &Snapshot) -> Option<String> {
    let ours = snapshot.secrets.iter().filter(|object| ownership::is_ours(object, naming, &secret::Secrets));
    let ours = ours.filter(|object| object.labels.get(label::NAME).is_some_and(|label| label == name));
    let ours: Vec<&ObjectFacts> = ours.collect();
    let object = if let [one] = ours[..] {
        one
    } else {
        let used = used(naming, snapshot);
        let mut used = ours.into_iter().filter(|object| used.contains(&object.name));
        // Two of them that are used are as good as each other: nobody knows.
        used.next().filter(|_| used.next().is_none())?
    };
    object.labels.get(secret::VALUE_HASH).cloned()
}

/// Names of the engine's secrets that sandboxes were made with.
fn used(naming: &Naming, snapshot: &Snapshot) -> BTreeSet<String> {
    let owned = ownership::containers(snapshot, naming, &BTreeMap::new());
    let env = |container: &&ContainerFacts| {
        let env = container::applied_spec(container)["secret_env"].take();
        serde_json::from_value::<BTreeMap<String, String>>(env).unwrap_or_default().into_values()
    };
    owned.current.values().flat_map(env).collect()
}

/// Hash of the value that the newest policy with this secret writes into requests.
fn written(naming: &Naming, name: &str, snapshot: &Snapshot) -> Option<String> {
    let mut ours: Vec<_> =
        snapshot.volumes.iter().filter(|volume| ownership::is_ours(volume, naming, &policy::Policies)).collect();
    ours.sort_by_key(|volume| std::cmp::Reverse(policy::serial(volume)));
    ours.into_iter().find_map(|volume| policy::stored(volume).secrets.remove(name))
}
