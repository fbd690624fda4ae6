//! Loading an archive without disturbing anybody's tags.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;
use serde::Deserialize;

use super::upload;
use crate::backend::{BackendError, ErrorKind};
use crate::podman::client::{LONG_SILENCE, TAR};
use crate::podman::snapshot::in_passing;
use crate::podman::wire::ListedImage;
use crate::podman::{Podman, Progress, error};
use crate::spec::NewObject;

#[derive(Deserialize)]
struct Loaded {
    #[serde(rename = "Names", default)]
    names: Vec<String>,
}

impl Podman {
    /// Loads the one image of a docker or oci archive, compressed or not, and gives it our tag.
    ///
    /// An archive brings names of its own, and loading moves them: they are put back to what they stood for.
    pub(super) async fn load(
        &self,
        object: &NewObject,
        path: &Path,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        let _alone = self.reader().shared.load.lock().await;
        let before = self.tags().await?;
        progress("loading the archive");
        let body = upload::file(path)?;
        let mut pieces = self.client().stream(Method::POST, "/images/load", TAR, body, LONG_SILENCE).await?;
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await? {
            text.extend_from_slice(&piece);
        }
        let loaded: Loaded = serde_json::from_slice(&text).map_err(|error| error::malformed("images/load", &error))?;
        let mut ids = std::collections::BTreeSet::new();
        for name in &loaded.names {
            ids.extend(self.reader().resolve_image(name).await?);
        }
        let mut ids = ids.into_iter();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return Err(BackendError::new(
                ErrorKind::Failed,
                format!("the archive holds {} images, not one: {}", loaded.names.len(), loaded.names.join(", ")),
            )
            .with_help("save a single image: `podman save -o FILE IMAGE`"));
        };
        self.tag(&id, &object.name).await?;
        for name in loaded.names.iter().filter(|name| !name.starts_with("sha256:") && **name != object.name) {
            match before.get(name) {
                Some(earlier) if *earlier == id => {}
                Some(earlier) => self.tag(earlier, name).await?,
                None => self.untag(&id, name).await?,
            }
        }
        Ok(())
    }

    async fn tags(&self) -> Result<BTreeMap<String, String>, BackendError> {
        let rows: Vec<ListedImage> = self.client().get("/images/json").await.map_err(in_passing)?;
        Ok(rows
            .into_iter()
            .flat_map(|row| {
                let id = row.id;
                row.repo_tags.into_iter().map(move |tag| (tag, id.clone()))
            })
            .collect())
    }
}
