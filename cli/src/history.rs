//! What was there after the last apply, as far as this state directory remembers.
//!
//! The engine is the only truth, and what it does not have is not there. Whether it was there before is history: this
//! file tells "removed by somebody" from "never made", and by the engine's ids "renamed by somebody" from "a copy of it".
//! Ceilings that changed in place are known to nobody else once a sandbox is stopped, where the engine forgets them.
//! Losing it loses these hints and nothing else; the next apply writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use reconciler::kinds::container;
use reconciler::outcome::{Ending, Outcome};
use reconciler::plan::{Action, Plan};
use reconciler::resource::{ResourceId, sha256, short};
use reconciler::spec::LimitSpec;
use serde::{Deserialize, Serialize};

use crate::caller::Person;
use crate::failure::Failure;

/// Version of the file; another one is not read.
const FORMAT_VERSION: &str = "1.0";

/// The file of one project on one engine.
#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
    person: Person,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format_version: String,
    #[serde(flatten)]
    memory: Memory,
}

/// What it remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Hash of the specification that was met, by resource.
    pub applied: BTreeMap<ResourceId, String>,
    /// Id of the container of each sandbox.
    #[serde(default)]
    pub containers: BTreeMap<String, String>,
    /// Ceilings that this container was given.
    #[serde(default)]
    pub ceilings: Ceilings,
}

impl History {
    /// Of `project` on the engine called `engine`.
    pub fn of(state: &Path, engine: &str, project: &str, person: &Person) -> Self {
        let engine = sha256(engine.as_bytes());
        let path = state.join("applied").join(format!("{project}.{}.json", short(&engine)));
        Self { path, person: person.clone() }
    }

    /// What it remembers; nothing, when it is not there or cannot be read.
    pub fn read(&self) -> Memory {
        let document = std::fs::read(&self.path).ok().and_then(|text| serde_json::from_slice::<Document>(&text).ok());
        document.filter(|document| document.format_version == FORMAT_VERSION).map(|it| it.memory).unwrap_or_default()
    }

    /// Whether sandboxes of the project are remembered on another engine than this one.
    pub fn is_elsewhere(&self) -> bool {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = name(&self.path);
        let prefix = own.split_inclusive('.').next().unwrap_or(&own);
        let entries = self.path.parent().and_then(|directory| std::fs::read_dir(directory).ok());
        let mut others = entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
            let name = name(path);
            name.starts_with(prefix) && path.extension().is_some_and(|end| end == "json") && name != own
        });
        others.any(|path| Self { path, person: self.person.clone() }.has_sandboxes())
    }

    /// Whether sandboxes are remembered.
    pub fn has_sandboxes(&self) -> bool {
        self.read().applied.keys().any(|id| id.kind == container::NOUN)
    }

    /// Remembers what `plan` found or `outcome` brought about, with the `ceilings` that were wished. A file that cannot be
    /// written is not worth a failure.
    pub fn record(&self, plan: &Plan, ceilings: &Ceilings, outcome: &Outcome, ids: &Ids) {
        let before = self.read();
        let memory = after(before.clone(), plan, ceilings, outcome, ids);
        if memory != before
            && let Err(failure) = self.person.act(&self.path, || write(&self.path, memory))
        {
            tracing::debug!(failure = failure.message, "history");
        }
    }
}

/// Ceilings, by sandbox.
pub type Ceilings = BTreeMap<String, LimitSpec>;

/// Ids of the containers of sandboxes, by sandbox.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// Of those that were there.
    pub found: BTreeMap<String, String>,
    /// Of those that were made.
    pub made: BTreeMap<String, String>,
}

/// What is there after `outcome`, of what the plan knows.
fn after(memory: Memory, plan: &Plan, wished: &Ceilings, outcome: &Outcome, ids: &Ids) -> Memory {
    let Memory { applied: mut known, mut containers, mut ceilings } = memory;
    let done: BTreeSet<&ResourceId> =
        outcome.results.iter().filter(|it| it.ending == Ending::Done).map(|it| &it.resource).collect();
    let (gone, there): (Vec<_>, Vec<_>) = plan
        .changes
        .iter()
        .filter(|change| change.action == Action::Noop || done.contains(&change.resource))
        .partition(|change| change.action == Action::Delete);
    for change in gone {
        // An older object may be all there was; whatever else is there of the resource is put back below.
        let ResourceId { kind, name, .. } = &change.resource;
        let same = |other: &ResourceId| {
            other.kind == *kind
                && other.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        known.retain(|id, _| !same(id));
        if *kind == container::NOUN {
            containers.remove(name);
            ceilings.remove(name);
        }
    }
    let hashes: BTreeMap<_, _> = plan.basis.iter().map(|basis| (&basis.resource, &basis.desired)).collect();
    for change in there.iter().filter(|change| change.resource.deposed.is_none()) {
        if let Some(Some(hash)) = hashes.get(&change.resource) {
            known.insert(change.resource.clone(), hash.clone());
        }
        if change.kind == container::NOUN {
            let name = &change.resource.name;
            let made = matches!(change.action, Action::Create | Action::Replace);
            // One whose id nobody knows is not the one there was before.
            match if made { &ids.made } else { &ids.found }.get(name) {
                Some(id) => containers.insert(name.clone(), id.clone()),
                None => containers.remove(name),
            };
            match wished.get(name) {
                Some(limits) => ceilings.insert(name.clone(), *limits),
                None => ceilings.remove(name),
            };
        }
    }
    Memory { applied: known, containers, ceilings }
}

fn write(path: &Path, memory: Memory) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let document = Document { format_version: FORMAT_VERSION.to_owned(), memory };
    std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(crate::render::json::line(&document).as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| {
            // What is left of a failed write is of no use to anybody.
            let _ = std::fs::remove_file(&temporary);
            failed(error)
        })
}

#[cfg(test)]
mod tests {
    use reconciler::backend::ErrorKind;
    use reconciler::plan::{Basis, Change};

    use super::*;

    fn change(resource: ResourceId, action: Action) -> Change {
        let mut change = Change::deletion(resource, "");
        change.action = action;
        change
    }

    fn plan(changes: Vec<Change>) -> Plan {
        let basis = |change: &Change| Basis {
            resource: change.resource.clone(),
            desired: (change.action != Action::Delete).then(|| format!("hash of {}", change.resource)),
            observed: None,
        };
        let basis = changes.iter().map(basis).collect();
        Plan { changes, basis, ..crate::render::sample::plan() }
    }

    fn outcome(endings: &[(&ResourceId, bool)]) -> Outcome {
        let result = |(id, good): &(&ResourceId, bool)| reconciler::outcome::Result {
            resource: (*id).clone(),
            action: Action::Create,
            origin: None,
            ending: if *good {
                Ending::Done
            } else {
                let (step, message) = (String::new(), String::new());
                Ending::Failed { step, message, help: None, rolled_back: false, kind: ErrorKind::Failed }
            },
        };
        Outcome { results: endings.iter().map(result).collect(), interrupted: false }
    }

    #[test]
    fn remembers_what_is_there_and_forgets_what_it_removed() {
        let state = tempfile::tempdir().expect("a directory");
        let person = Person::find();
        let history = History::of(state.path(), "unix:///x", "acme", &person);
        assert_eq!(history.read(), Memory::default());
        let id = |kind: &str, name: &str| ResourceId::new(kind, name);
        let (api, web, data) = (id("container", "api"), id("container", "web"), id("volume", "data"));
        let root = id("image", "host.0123");
        let made = plan(vec![
            change(api.clone(), Action::Create),
            change(web.clone(), Action::Create),
            change(data.clone(), Action::Noop),
            change(root.clone(), Action::Create),
        ]);
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let ids = |found: &[(&str, &str)], made: &[(&str, &str)]| Ids { found: map(found), made: map(made) };
        let memory = |bytes| -> Ceilings {
            [("api".to_owned(), LimitSpec { memory: Some(bytes), ..LimitSpec::default() })].into()
        };
        // One that could not be started has been taken back.
        let first = ids(&[], &[("api", "1"), ("web", "2")]);
        history.record(&made, &memory(1), &outcome(&[(&api, true), (&web, false), (&root, true)]), &first);
        let known = |history: &History| history.read().applied.into_keys().collect::<Vec<_>>();
        assert_eq!(known(&history), [api.clone(), root, data.clone()]);
        assert_eq!(history.read().applied[&api], "hash of container/api");
        assert_eq!(history.read().containers, map(&[("api", "1")]));
        assert_eq!(history.read().ceilings, memory(1));
        let other = History::of(state.path(), "unix:///y", "acme", &person);
        assert_eq!(other.read(), Memory::default(), "another engine");
        assert!(other.is_elsewhere() && !history.is_elsewhere());
        assert!(history.has_sandboxes() && !other.has_sandboxes());
        assert!(!History::of(state.path(), "unix:///y", "acme2", &person).is_elsewhere(), "another project");

        // The one that is there is the one that was found, or made in its place.
        history.record(
            &plan(vec![change(api.clone(), Action::Noop)]),
            &memory(2),
            &outcome(&[]),
            &ids(&[("api", "3")], &[]),
        );
        assert_eq!((history.read().containers, history.read().ceilings), (map(&[("api", "3")]), memory(2)));
        let replaced = plan(vec![change(api.clone(), Action::Replace)]);
        history.record(&replaced, &memory(3), &outcome(&[(&api, true)]), &ids(&[("api", "3")], &[("api", "4")]));
        assert_eq!((history.read().containers, history.read().ceilings), (map(&[("api", "4")]), memory(3)));
        // What was not brought about was not given.
        let failed = plan(vec![change(api.clone(), Action::Update)]);
        history.record(&failed, &memory(4), &outcome(&[(&api, false)]), &ids(&[("api", "4")], &[]));
        assert_eq!(history.read().ceilings, memory(3));

        // An image goes by its tag; removed on purpose, it is not missed later.
        let old = ResourceId::deposed("image", "host", "0123");
        let gone = plan(vec![change(old.clone(), Action::Delete), change(api.clone(), Action::Delete)]);
        history.record(&gone, &memory(3), &outcome(&[(&old, true), (&api, true)]), &ids(&[("api", "4")], &[]));
        assert_eq!((known(&history), history.read().containers), (vec![data], BTreeMap::new()));
        assert_eq!(history.read().ceilings, Ceilings::new());
        assert!(!other.is_elsewhere(), "no sandbox of it is left there");
        std::fs::write(&history.path, "{").expect("written");
        assert_eq!(history.read(), Memory::default(), "damaged is lost, and no more");
    }
}
