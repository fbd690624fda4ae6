//! One look at everything of ours on the engine: five list calls at once, nothing inspected that a list tells.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::{Client, QUICK, encode_name, with_query};
use super::wire::{InspectedImage, ListedContainer, ListedImage, ListedNetwork, ListedVolume};
use super::{Reader, error, kernel, patiently};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{ContainerFacts, ImageFacts, ObjectFacts, Observed, Query, State};
use crate::resource::label;

/// Threads that look at what the kernel knows.
const MOST_THREADS: usize = 4;
/// Containers that are not worth a thread of their own.
const SMALL_SHARE: usize = 16;

/// How old a list may be that was begun ahead: what came between took unusually long, or asked somebody, and much may
/// have happened meanwhile.
const FRESH: Duration = Duration::from_secs(1);

/// A list under way: what it brought, and when.
pub(crate) type Ahead = JoinHandle<(Result<Vec<ContainerFacts>, BackendError>, Instant)>;

/// What the look brings of the engine's objects.
pub(crate) struct Objects {
    pub containers: Vec<ContainerFacts>,
    pub images: Vec<ImageFacts>,
    pub volumes: Vec<ObjectFacts>,
    pub networks: Vec<ObjectFacts>,
    pub secrets: Vec<ObjectFacts>,
}

impl Reader {
    pub(crate) async fn objects(&self, query: &Query) -> Result<Objects, BackendError> {
        let (containers, images, volumes, networks, secrets) = tokio::try_join!(
            self.listed(),
            self.images(&query.images),
            self.volumes(),
            self.networks(),
            self.secrets(&query.project),
        )?;
        Ok(Objects { containers, images, volumes, networks, secrets })
    }

    /// Begins to list the containers: it is what a look waits for longest. The next look takes the answer.
    pub fn look_ahead(&self) {
        // Not of this value, which ends what was started for it when its last clone is dropped.
        let (client, local) = (self.client().clone(), self.facts().local);
        let ahead = tokio::spawn(async move { (list_containers(&client, local).await, Instant::now()) });
        *self.ahead() = Some(ahead);
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Option<Ahead>> {
        self.shared.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All containers with a project label, of any project.
    pub async fn containers(&self) -> Result<Vec<ContainerFacts>, BackendError> {
        patiently(|| self.listed()).await
    }

    async fn listed(&self) -> Result<Vec<ContainerFacts>, BackendError> {
        let ahead = self.ahead().take();
        if let Some(ahead) = ahead
            && let Ok((Ok(containers), at)) = ahead.await
            && at.elapsed() < FRESH
        {
            return Ok(containers);
        }
        list_containers(self.client(), self.facts().local).await
    }

    async fn images(&self, wanted: &BTreeSet<String>) -> Result<Vec<ImageFacts>, BackendError> {
        let rows: Vec<ListedImage> = self.client().get("/images/json").await.map_err(in_passing)?;
        let mut images: Vec<ImageFacts> = rows
            .into_iter()
            .map(|row| ImageFacts {
                id: row.id,
                tags: row.repo_tags,
                digests: row.repo_digests,
                labels: row.labels,
                in_use: row.containers > 0,
            })
            .collect();
        let mut kept = BTreeSet::new();
        for reference in wanted {
            let listed = images.iter().position(|image| {
                image.id == *reference || image.tags.iter().chain(&image.digests).any(|name| name == reference)
            });
            if let Some(index) = listed {
                kept.insert(index);
                continue;
            }
            // The engine completes short names by rules of its own.
            let Some(id) = self.resolve_image(reference).await? else { continue };
            if let Some((index, image)) = images.iter_mut().enumerate().find(|(_, image)| image.id == id) {
                image.tags.push(reference.clone());
                kept.insert(index);
            }
        }
        let ours = |image: &ImageFacts| {
            image.labels.contains_key(label::PROJECT) || image.tags.iter().any(|tag| tag.starts_with("localhost/sbx/"))
        };
        Ok(images
            .into_iter()
            .enumerate()
            .filter(|(index, image)| kept.contains(index) || ours(image))
            .map(|(_, image)| image)
            .collect())
    }

    /// Id of the image the engine means by `reference`, if it has one.
    pub(crate) async fn resolve_image(&self, reference: &str) -> Result<Option<String>, BackendError> {
        Ok(self.inspect_image(reference).await?.map(|image| image.id))
    }

    pub(crate) async fn inspect_image(&self, reference: &str) -> Result<Option<InspectedImage>, BackendError> {
        let path = format!("/images/{}/json", encode_name(reference));
        match self.client().get::<InspectedImage>(&path).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn volumes(&self) -> Result<Vec<ObjectFacts>, BackendError> {
        let rows: Option<Vec<ListedVolume>> = self.client().get(&ours("/volumes/json")).await.map_err(in_passing)?;
        let facts = |row: ListedVolume| ObjectFacts { name: row.name, labels: row.labels, internal: false };
        Ok(rows.unwrap_or_default().into_iter().map(facts).collect())
    }

    async fn networks(&self) -> Result<Vec<ObjectFacts>, BackendError> {
        let rows: Option<Vec<ListedNetwork>> = self.client().get(&ours("/networks/json")).await.map_err(in_passing)?;
        let facts = |row: ListedNetwork| ObjectFacts { name: row.name, labels: row.labels, internal: row.internal };
        Ok(rows.unwrap_or_default().into_iter().map(facts).collect())
    }

    /// Secrets cannot be listed by label, and Podman 4 lists them without: those named like ours are looked at closely.
    async fn secrets(&self, project: &str) -> Result<Vec<ObjectFacts>, BackendError> {
        let rows: Vec<ListedSecret> = self.client().get("/secrets/json").await?;
        let prefix = format!("{project}_");
        let ours = rows.into_iter().map(|row| row.spec).filter(|spec| spec.name.starts_with(&prefix));
        let looks = ours.map(async |spec| match spec.labels {
            Some(labels) => Ok(Some(ObjectFacts { name: spec.name, labels, internal: false })),
            None => self.secret(&spec.name).await,
        });
        let found: Result<Vec<_>, _> = futures_util::future::join_all(looks).await.into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    pub(crate) async fn secret(&self, name: &str) -> Result<Option<ObjectFacts>, BackendError> {
        match self.client().get::<ListedSecret>(&format!("/secrets/{}/json", encode_name(name))).await {
            Ok(row) => Ok(Some(ObjectFacts {
                name: row.spec.name,
                labels: row.spec.labels.unwrap_or_default(),
                internal: false,
            })),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedSecret {
    spec: SecretSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretSpec {
    name: String,
    #[serde(default)]
    labels: Option<crate::resource::Labels>,
}

async fn list_containers(client: &Client, local: bool) -> Result<Vec<ContainerFacts>, BackendError> {
    let path = format!("{}&all=true", ours("/containers/json"));
    let body = client.call(hyper::Method::GET, &path, QUICK).await?;
    // Reading what the kernel knows of a thousand containers takes milliseconds: not on the reactor's thread.
    tokio::task::spawn_blocking(move || {
        let rows: Vec<ListedContainer> =
            serde_json::from_slice(&body).map_err(|error| error::malformed("containers/json", &error))?;
        Ok(facts(rows, local))
    })
    .await
    .map_err(|error| BackendError::new(ErrorKind::Failed, error.to_string()))?
}

/// The address of a list, of what carries the label of any project.
fn ours(list: &str) -> String {
    let filters = format!(r#"{{"label":["{}"]}}"#, label::PROJECT);
    with_query(list, &[("filters", &filters)])
}

/// A call of `podman-api` with a deadline.
pub(crate) async fn within<T>(
    what: &str,
    call: impl Future<Output = Result<T, podman_api::Error>>,
) -> Result<T, BackendError> {
    timeout(QUICK, call)
        .await
        .map_err(|_| error::timed_out(what, QUICK))?
        .map_err(|error| error::from_api(&error).context(what))
}

/// Facts of all rows, on as many threads as there are processors: it is the kernel that is asked, and the engine is done.
fn facts(mut rows: Vec<ListedContainer>, local: bool) -> Vec<ContainerFacts> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = rows.len().div_ceil(threads).max(SMALL_SHARE);
    let mut shares = Vec::new();
    while rows.len() > share {
        shares.push(rows.split_off(rows.len() - share));
    }
    let look = |rows: Vec<ListedContainer>| -> Vec<ContainerFacts> {
        let mut sources = kernel::Sources::default();
        rows.into_iter().map(|row| container(row, local, &mut sources)).collect()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || look(share))).collect();
        let mut found = look(rows);
        for other in others.into_iter().rev() {
            found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        found
    })
}

fn container(row: ListedContainer, local: bool, sources: &mut kernel::Sources) -> ContainerFacts {
    let state = match row.state.as_str() {
        "created" | "configured" | "initialized" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "exited" | "stopped" => State::Exited,
        _ => State::Other,
    };
    let running = state == State::Running && row.pid > 0 && local;
    let mut networks = row.networks;
    networks.sort();
    let mut mount_targets = row.mounts;
    mount_targets.sort();
    let (limits, replaced_binds) = if running {
        let binds = bind_mounts(row.labels.get(label::SPEC).map_or("", String::as_str));
        let binds = binds.iter().map(|(source, target)| (Path::new(&**source), Path::new(&**target)));
        (kernel::limits(row.pid, &row.id), kernel::replaced_binds(row.pid, binds, sources))
    } else {
        let why = if state == State::Running { "the engine is on another machine" } else { "not running" };
        (Observed::Unknown(why.to_owned()), Vec::new())
    };
    ContainerFacts {
        name: row.names.into_iter().next().unwrap_or_default(),
        exit_code: (row.exited || state == State::Exited).then_some(row.exit_code),
        id: row.id,
        labels: row.labels,
        state,
        image_id: row.image_id,
        image: row.image,
        networks,
        mount_targets,
        pid: if running { row.pid } else { 0 },
        created_at: row.created,
        // Engines write the year 1 for never.
        started_at: row.started_at.max(0),
        exited_at: row.exited_at.max(0),
        limits,
        replaced_binds,
    }
}

/// Sources and targets of the binds in a last-applied specification; of nothing else in it.
fn bind_mounts(spec: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(default, borrow)]
        mounts: Vec<Mount<'a>>,
    }
    #[derive(Deserialize)]
    struct Mount<'a> {
        #[serde(default, borrow)]
        source: Option<Borrowed<'a>>,
        #[serde(borrow)]
        target: Borrowed<'a>,
    }
    /// Serde borrows into an `Option<Cow>` only through a type of its own.
    #[derive(Deserialize)]
    struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
    let Ok(spec) = serde_json::from_str::<Spec<'_>>(spec) else { return Vec::new() };
    spec.mounts
        .into_iter()
        .filter(|mount| mount.target.0 != super::create::INIT)
        .filter_map(|mount| mount.source.map(|source| (source.0, mount.target.0)))
        .collect()
}

/// A list during which one of its objects was removed fails as if that had been asked for; the next one does not. Podman
/// before 4.6 lists images so, too.
pub(super) fn in_passing(error: BackendError) -> BackendError {
    match error.kind {
        ErrorKind::NotFound => BackendError { kind: ErrorKind::Transient, ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, failed};
    use super::*;

    /// An engine whose lists are numbered by the name of their only container; those in `failing` fail for good.
    async fn numbered(failing: &'static [u32]) -> Fake {
        let mut lists = 0;
        Fake::start(move |asked| {
            assert!(asked.starts_with("GET /containers/json"), "{asked}");
            lists += 1;
            if failing.contains(&lists) {
                return failed(500, "no");
            }
            Some((200, format!(r#"[{{"Id":"i","Names":["list {lists}"],"State":"exited"}}]"#)))
        })
        .await
    }

    async fn listed(reader: &Reader) -> String {
        let containers = reader.containers().await.expect("lists");
        containers.into_iter().map(|container| container.name).collect()
    }

    #[tokio::test]
    async fn a_list_begun_ahead_is_used_once() {
        let fake = numbered(&[]).await;
        let reader = fake.podman.reader();
        reader.look_ahead();
        assert_eq!(listed(reader).await, "list 1", "the one under way");
        assert_eq!(listed(reader).await, "list 2", "what it brought is not kept");
    }

    #[tokio::test]
    async fn a_list_begun_ahead_that_failed_or_is_old_is_taken_again() {
        let fake = numbered(&[1]).await;
        let reader = fake.podman.reader();
        reader.look_ahead();
        assert_eq!(listed(reader).await, "list 2", "the first failed");

        reader.look_ahead();
        let begun = reader.ahead().take();
        let (brought, at) = begun.expect("begun").await.expect("ends");
        assert_eq!(brought.expect("lists")[0].name, "list 3");
        for (age, expected) in [(FRESH, "list 4"), (FRESH / 2, "")] {
            let at = at.checked_sub(age).expect("the machine runs longer than that");
            *reader.ahead() = Some(tokio::spawn(async move { (Ok(Vec::new()), at) }));
            assert_eq!(listed(reader).await, expected, "{age:?} old");
        }
    }

    #[test]
    fn lists_of_both_engines_read_the_same() {
        for version in ["4.3", "5.x"] {
            let path = format!("{}/../fixtures/observed/podman-{version}/containers.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect("fixture");
            let rows: Vec<ListedContainer> = serde_json::from_str(&text).expect("reads");
            let facts: Vec<_> = facts(rows, false);
            insta::assert_json_snapshot!(format!("containers-{version}"), facts);
        }
    }

    #[test]
    fn binds_of_a_specification_are_read_and_nothing_else_of_it() {
        let spec = r#"{"mounts":[
            {"type":"bind","source":"/a \"b\"","target":"/x","read_only":true},
            {"type":"tmpfs","size":1,"mode":448,"target":"/y"},
            {"type":"volume","volume":"v","target":"/z"},
            {"type":"bind","source":"/data/init","target":"/run/sbx/init"}
        ],"other":{"source":1}}"#;
        assert_eq!(bind_mounts(spec), [(Cow::from("/a \"b\""), Cow::from("/x"))]);
        assert_eq!(bind_mounts("{}"), []);
        assert_eq!(bind_mounts("nonsense"), []);
    }

    #[test]
    fn lists_of_volumes_and_networks_read_the_same() {
        for version in ["4.3", "5.x"] {
            let read = |list| {
                let directory = format!("{}/../fixtures/observed/podman-{version}", env!("CARGO_MANIFEST_DIR"));
                std::fs::read(format!("{directory}/{list}.json")).expect("fixture")
            };
            let volumes: Vec<ListedVolume> = serde_json::from_slice(&read("volumes")).expect("reads");
            let volumes: Vec<_> = volumes.into_iter().map(|row| (row.name, row.labels)).collect();
            let networks: Vec<ListedNetwork> = serde_json::from_slice(&read("networks")).expect("reads");
            let networks: Vec<_> = networks.into_iter().map(|row| (row.name, row.labels, row.internal)).collect();
            insta::assert_json_snapshot!(format!("volumes-and-networks-{version}"), (volumes, networks));
        }
    }
}
