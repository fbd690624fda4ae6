//! Which objects of the engine are ours. A label alone proves nothing: an image can carry it, a clone copies it.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{ContainerFacts, ImageFacts, ObjectFacts, Snapshot};
use crate::kinds::{Kind, container, image};
use crate::resource::{Labels, Naming, is_short, label, sha256, short};

/// Containers of one project that `sbx` made, by sandbox.
#[derive(Debug, Default)]
pub struct OwnedContainers<'a> {
    /// Under its own name, or renamed by somebody and seen under it before.
    pub current: BTreeMap<&'a str, &'a ContainerFacts>,
    /// Made to take over, left by a run that was cut short.
    pub successor: BTreeMap<&'a str, &'a ContainerFacts>,
    /// With our labels, when nothing has the name they lead to: renamed by somebody, or a clone whose original is gone.
    /// Labels and what the engine tells are the same for both, so neither is touched where nobody remembers the id.
    pub strays: BTreeMap<&'a str, &'a ContainerFacts>,
    /// Builders left by a run that was cut short.
    pub builders: Vec<&'a ContainerFacts>,
    /// Sandboxes that are stopped on purpose.
    pub stopped: BTreeSet<&'a str>,
}

/// Kind label of the throw-away container that runs setup commands.
pub const BUILDER: &str = "builder";
/// Kind label of the volume that records a stop on purpose.
pub const STOP_MARKER: &str = "stop-marker";

/// Whether `labels` were given to the object itself rather than inherited from its image.
pub fn is_labelled(snapshot: &Snapshot, container: &ContainerFacts) -> bool {
    let Some(uid) = container.labels.get(label::UID) else { return false };
    let inherited = snapshot.images.iter().filter(|image| image.id == container.image_id);
    !inherited.into_iter().any(|image| image.labels.get(label::UID) == Some(uid))
}

/// Sorts out the containers of `naming`'s project. `seen`: id of the container that each sandbox had, as far as is
/// remembered.
///
/// # Guarantees
/// A container whose labels come from its image is in none of the groups, nor is one that copies the labels of a
/// container that has the proper name. What is to be changed or removed has the name that its labels lead to, or had it
/// once: an engine gives an id to one container, which keeps it when it is renamed.
pub fn containers<'a>(snapshot: &'a Snapshot, naming: &Naming, seen: &BTreeMap<String, String>) -> OwnedContainers<'a> {
    let markers = snapshot.volumes.iter().filter(|volume| is_stop_marker(volume, naming));
    let mut owned = OwnedContainers {
        stopped: markers.filter_map(|volume| volume.labels.get(label::NAME)).map(String::as_str).collect(),
        ..OwnedContainers::default()
    };
    let mut strays = Vec::new();
    for container in &snapshot.containers {
        if container.labels.get(label::PROJECT).map(String::as_str) != Some(naming.project())
            || !is_labelled(snapshot, container)
        {
            continue;
        }
        let Some(name) = container.labels.get(label::NAME) else { continue };
        match container.labels.get(label::KIND).map(String::as_str) {
            Some(BUILDER) if is_builder(container, naming, name) => owned.builders.push(container),
            Some(container::NOUN) if container.name == naming.object(name) => {
                owned.current.insert(name, container);
            }
            Some(container::NOUN) if container.name == naming.successor(name) => {
                owned.successor.insert(name, container);
            }
            Some(container::NOUN) => strays.push((name, container)),
            _ => {}
        }
    }
    for (name, container) in &strays {
        if seen.get(*name) == Some(&container.id) && !owned.current.contains_key(name.as_str()) {
            owned.current.insert(name, container);
        }
    }
    for (name, container) in strays {
        // A clone copies every label: beside the original it is somebody's experiment.
        if !owned.current.contains_key(name.as_str()) {
            owned.strays.insert(name, container);
        }
    }
    owned
}

/// Whether somebody gave `container`, which is one of the sandbox `name`, another name than one of ours.
pub fn is_renamed(container: &ContainerFacts, naming: &Naming, name: &str) -> bool {
    container.name != naming.object(name) && container.name != naming.successor(name)
}

fn is_builder(container: &ContainerFacts, naming: &Naming, image: &str) -> bool {
    let hash = container.labels.get(label::HASH);
    hash.is_some_and(|hash| container.name == naming.object(&builder(&naming.image(image, hash))))
}

/// Name, below the project's, of the container in which the commands of the image `tag` are run.
pub fn builder(tag: &str) -> String {
    format!("{BUILDER}.{}", short(&sha256(tag.as_bytes())))
}

/// Whether a volume, network or secret is one of ours: project, kind, a uid, and the name that these labels lead to.
pub fn is_ours(object: &ObjectFacts, naming: &Naming, kind: &dyn Kind) -> bool {
    let leads_here = |name: &str| kind.leads_to(naming, name, &object.name);
    labelled_name(&object.labels, naming, kind.noun()).is_some_and(leads_here)
}

/// Whether a volume records that a sandbox of ours is stopped on purpose.
pub fn is_stop_marker(volume: &ObjectFacts, naming: &Naming) -> bool {
    let leads_here = |name: &str| volume.name == naming.stop_marker(name);
    labelled_name(&volume.labels, naming, STOP_MARKER).is_some_and(leads_here)
}

/// The name in `labels` that say project, kind and a uid.
fn labelled_name<'a>(labels: &'a Labels, naming: &Naming, kind: &str) -> Option<&'a str> {
    let get = |key| labels.get(key).map(String::as_str);
    let is_ours = get(label::PROJECT) == Some(naming.project()) && get(label::KIND) == Some(kind);
    get(label::NAME).filter(|_| is_ours && get(label::UID).is_some())
}

/// Whether `tag` of `image` is one that `sbx` gave it, rather than somebody who keeps a copy of ours, or of a sandbox.
///
/// The labels of an image that was made here lead to its tag. A loaded archive cannot be given any: what it brings has no
/// uid, and its tag has the form of ours.
pub fn is_our_tag(image: &ImageFacts, naming: &Naming, tag: &str) -> bool {
    let get = |key| image.labels.get(key).map(String::as_str);
    if get(label::UID).is_none() {
        let prefix = naming.image("", "");
        let rest = tag.strip_prefix(prefix.trim_end_matches(':')).and_then(|rest| rest.split_once(':'));
        return rest.is_some_and(|(name, hash)| schema::Name::new(name).is_ok() && is_short(hash));
    }
    let (Some(name), Some(hash)) = (get(label::NAME), get(label::HASH)) else { return false };
    // What follows a dot tells images of one entry apart that differ in their hash too.
    let entry = name.split('.').next().unwrap_or_default();
    get(label::PROJECT) == Some(naming.project())
        && get(label::KIND) == Some(image::NOUN)
        && tag == naming.image(entry, hash)
}

/// Labels of a new object.
pub fn labels(naming: &Naming, kind: &str, name: &str, uid: String, hash: &str) -> Labels {
    [
        (label::PROJECT, naming.project().to_owned()),
        (label::KIND, kind.to_owned()),
        (label::NAME, name.to_owned()),
        (label::UID, uid),
        (label::HASH, hash.to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}
