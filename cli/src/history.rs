//! What was there after the last apply, as far as this state directory remembers.
//!
//! The engine is the only truth, and what it does not have is not there. Whether it was there before is history: this
//! file tells "removed by somebody" from "never made". Losing it loses that hint and nothing else; the next apply writes
//! it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use reconciler::outcome::{Ending, Outcome};
use reconciler::plan::{Action, Plan};
use reconciler::resource::{ResourceId, sha256, short};
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
    /// Hash of the specification that was met, by resource.
    applied: BTreeMap<ResourceId, String>,
}

impl History {
    /// Of `project` on the engine called `engine`.
    pub fn of(state: &Path, engine: &str, project: &str, person: &Person) -> Self {
        let engine = sha256(engine.as_bytes());
        let path = state.join("applied").join(format!("{project}.{}.json", short(&engine)));
        Self { path, person: person.clone() }
    }

    /// What it remembers; nothing, when it is not there or cannot be read.
    pub fn read(&self) -> BTreeMap<ResourceId, String> {
        let document = std::fs::read(&self.path).ok().and_then(|text| serde_json::from_slice::<Document>(&text).ok());
        document.filter(|document| document.format_version == FORMAT_VERSION).map(|it| it.applied).unwrap_or_default()
    }

    /// Remembers what `plan` found or `outcome` brought about. A file that cannot be written is not worth a failure.
    pub fn record(&self, plan: &Plan, outcome: &Outcome) {
        let before = self.read();
        let applied = after(before.clone(), plan, outcome);
        if applied != before
            && let Err(failure) = self.person.act(&self.path, || write(&self.path, applied))
        {
            tracing::debug!(failure = failure.message, "history");
        }
    }
}

/// What is there after `outcome`, of what the plan knows.
fn after(mut known: BTreeMap<ResourceId, String>, plan: &Plan, outcome: &Outcome) -> BTreeMap<ResourceId, String> {
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
    }
    let hashes: BTreeMap<_, _> = plan.basis.iter().map(|basis| (&basis.resource, &basis.desired)).collect();
    for change in there.iter().filter(|change| change.resource.deposed.is_none()) {
        if let Some(Some(hash)) = hashes.get(&change.resource) {
            known.insert(change.resource.clone(), hash.clone());
        }
    }
    known
}

fn write(path: &Path, applied: BTreeMap<ResourceId, String>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let document = Document { format_version: FORMAT_VERSION.to_owned(), applied };
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
        assert!(history.read().is_empty());
        let id = |kind: &str, name: &str| ResourceId::new(kind, name);
        let (api, web, data) = (id("container", "api"), id("container", "web"), id("volume", "data"));
        let root = id("image", "host.0123");
        let made = plan(vec![
            change(api.clone(), Action::Create),
            change(web.clone(), Action::Create),
            change(data.clone(), Action::Noop),
            change(root.clone(), Action::Create),
        ]);
        history.record(&made, &outcome(&[(&api, true), (&web, false), (&root, true)]));
        let known = |history: &History| history.read().into_keys().collect::<Vec<_>>();
        assert_eq!(known(&history), [api.clone(), root, data.clone()]);
        assert_eq!(history.read()[&api], "hash of container/api");
        assert!(History::of(state.path(), "unix:///y", "acme", &person).read().is_empty(), "another engine");

        // An image goes by its tag; removed on purpose, it is not missed later.
        let old = ResourceId::deposed("image", "host", "0123");
        let gone = plan(vec![change(old.clone(), Action::Delete), change(api.clone(), Action::Delete)]);
        history.record(&gone, &outcome(&[(&old, true), (&api, true)]));
        assert_eq!(known(&history), [data]);
        std::fs::write(&history.path, "{").expect("written");
        assert!(history.read().is_empty(), "damaged is lost, and no more");
    }
}
