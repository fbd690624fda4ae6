//! One look at everything of ours on the engine: five list calls at once, nothing inspected that a list tells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use podman_api::opts::{NetworkListFilter, NetworkListOpts, VolumeListFilter, VolumeListOpts};
use serde::Deserialize;
use tokio::time::timeout;

use super::client::{QUICK, encode_name, with_query};
use super::wire::{InspectedImage, ListedContainer, ListedImage};
use super::{Reader, error, kernel};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{ContainerFacts, ImageFacts, ObjectFacts, Observed, Query, State};
use crate::resource::label;

/// Threads that look at what the kernel knows.
const MOST_THREADS: usize = 4;
/// Containers that are not worth a thread of their own.
const SMALL_SHARE: usize = 16;

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
            self.containers(),
            self.images(&query.images),
            self.volumes(),
            self.networks(),
            self.secrets(&query.project),
        )?;
        Ok(Objects { containers, images, volumes, networks, secrets })
    }

    /// All containers with a project label, of any project.
    pub(crate) async fn containers(&self) -> Result<Vec<ContainerFacts>, BackendError> {
        let filters = format!(r#"{{"label":["{}"]}}"#, label::PROJECT);
        let path = with_query("/containers/json", &[("all", "true"), ("filters", &filters)]);
        let body = self.client().call(hyper::Method::GET, &path, QUICK).await?;
        let local = self.facts().local;
        // Reading what the kernel knows of a thousand containers takes milliseconds: not on the reactor's thread.
        tokio::task::spawn_blocking(move || {
            let rows: Vec<ListedContainer> =
                serde_json::from_slice(&body).map_err(|error| error::malformed("containers/json", &error))?;
            Ok(facts(rows, local))
        })
        .await
        .map_err(|error| BackendError::new(ErrorKind::Failed, error.to_string()))?
    }

    async fn images(&self, wanted: &BTreeSet<String>) -> Result<Vec<ImageFacts>, BackendError> {
        let rows: Vec<ListedImage> = self.client().get("/images/json").await?;
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
        let filter = [VolumeListFilter::LabelKey(label::PROJECT.to_owned())];
        let options = VolumeListOpts::builder().filter(filter).build();
        let rows = within("volumes", self.api().volumes().list(&options)).await?;
        Ok(rows
            .into_iter()
            .map(|row| ObjectFacts { name: row.name, labels: row.labels.into_iter().collect(), internal: false })
            .collect())
    }

    async fn networks(&self) -> Result<Vec<ObjectFacts>, BackendError> {
        let filter = [NetworkListFilter::LabelKey(label::PROJECT.to_owned())];
        let options = NetworkListOpts::builder().filter(filter).build();
        let rows = within("networks", self.api().networks().list(&options)).await?;
        Ok(rows
            .into_iter()
            .map(|row| ObjectFacts {
                name: row.name.unwrap_or_default(),
                labels: row.labels.unwrap_or_default().into_iter().collect(),
                internal: row.internal.unwrap_or_default(),
            })
            .collect())
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
        let binds = binds.iter().map(|(source, target)| (source.as_path(), target.as_path()));
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
        started_at: row.started_at.max(0),
        limits,
        replaced_binds,
    }
}

/// Sources and targets of the binds in a last-applied specification; of nothing else in it.
fn bind_mounts(spec: &str) -> Vec<(PathBuf, PathBuf)> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        mounts: Vec<Mount>,
    }
    #[derive(Deserialize)]
    struct Mount {
        source: Option<PathBuf>,
        target: PathBuf,
    }
    let Ok(spec) = serde_json::from_str::<Spec>(spec) else { return Vec::new() };
    spec.mounts
        .into_iter()
        .filter(|mount| mount.target != Path::new(super::create::INIT))
        .filter_map(|mount| mount.source.map(|source| (source, mount.target)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
