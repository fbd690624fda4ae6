//! What a container leaves behind whose creation the engine did not survive: the engine's storage has it, its list has
//! not, and it holds the name.
//!
//! Such a thing has no labels, so that nothing tells whose it is, and an engine that lost its list has nothing else. It is
//! removed only where nobody can miss it: it has the name and the image of what is to be made, and nothing was ever written
//! to it.

use hyper::Method;
use serde::Deserialize;

use super::Podman;
use super::client::SLOW;
use super::container::address;
use super::wire::ChangedPath;
use crate::backend::{BackendError, ErrorKind};

/// A row of the list of all containers, those of the storage included.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
    names: Vec<String>,
    #[serde(rename = "ImageID")]
    image_id: String,
    state: String,
    /// `storage`; other programs that share the storage are told by another word.
    command: Option<Vec<String>>,
}

impl Podman {
    /// Clears away what holds `name` if it is such remains. Whether it was; an error if it is, and may be somebody's.
    pub(super) async fn clear_remains(&self, name: &str, image: &str) -> Result<bool, BackendError> {
        // A failed look says nothing about the name.
        let rows: Vec<Row> = self.client().get("/containers/json?all=true&external=true").await.unwrap_or_default();
        let held = |row: &Row| row.state == "storage" && row.names.iter().any(|held| held == name);
        let Some(remains) = rows.into_iter().find(held) else { return Ok(false) };
        let podmans = remains.command.as_deref() == Some(&["storage".to_owned()]);
        let same_image = self.reader().resolve_image(image).await?.is_some_and(|id| id == remains.image_id);
        if !(podmans && same_image && self.holds_nothing(&remains.id).await) {
            return Err(BackendError::new(
                ErrorKind::Conflict,
                format!("the name {name} is held by a container that only the engine's storage knows"),
            )
            .with_help(format!(
                "`podman ps --all --external` shows it; remove it with `podman rm {name}` once nobody needs what is in it"
            )));
        }
        tracing::info!(container = name, id = remains.id, "removing what a creation that did not end has left");
        self.client().call(Method::DELETE, &address(&remains.id, "?force=false"), SLOW).await?;
        Ok(true)
    }

    /// Whether nothing was ever written to a container of the storage.
    async fn holds_nothing(&self, id: &str) -> bool {
        let changes: Result<Option<Vec<ChangedPath>>, _> = self.client().get(&address(id, "/changes")).await;
        changes.is_ok_and(|changes| changes.is_none_or(|changes| changes.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::backend::ErrorKind;
    use crate::podman::fake::{Answer, Fake, failed};

    #[expect(clippy::unnecessary_wraps, reason = "beside answers that hang up")]
    fn told(value: &serde_json::Value) -> Answer {
        Some((200, value.to_string()))
    }

    /// An engine whose storage has a container `p_s` of this image and command, with these changes.
    async fn engine(image: &'static str, command: &'static str, changes: Answer) -> Fake {
        let row = |id: &str, name: &str| json!({ "Id": id, "Names": [name], "ImageID": image, "State": "storage", "Command": [command] });
        let rows = json!([row("ffff", "p_t"), row("0a1b", "p_s")]);
        Fake::start(move |asked| match asked {
            "GET /containers/json" => told(&rows),
            "GET /containers/0a1b/changes" => changes.clone(),
            "GET /images/i/json" => told(&json!({ "Id": "image" })),
            "DELETE /containers/0a1b" => told(&json!([{ "Id": "0a1b", "Err": null }])),
            _ => failed(404, "no such container"),
        })
        .await
    }

    #[tokio::test]
    async fn only_what_nobody_can_miss_is_removed() {
        let cases = [
            ("image", "storage", told(&json!(null)), true),
            ("image", "storage", told(&json!([])), true),
            ("image", "storage", told(&json!([{ "Path": "/file", "Kind": 1 }])), false),
            ("image", "storage", failed(500, "nobody can look"), false),
            ("another", "storage", told(&json!([])), false),
            ("image", "buildah", told(&json!([])), false),
        ];
        for (image, command, changes, removed) in cases {
            let case = format!("{image} {command} {changes:?}");
            let fake = engine(image, command, changes).await;
            match fake.podman.clear_remains("p_s", "i").await {
                Ok(cleared) => assert!(cleared && removed, "{case}"),
                Err(error) => {
                    assert!(!removed, "{case}: {error}");
                    assert_eq!(error.kind, ErrorKind::Conflict);
                    assert!(error.help.expect("says what to do").contains("podman rm p_s"));
                }
            }
            let expected: &[&str] = if removed { &["DELETE /containers/0a1b"] } else { &[] };
            assert_eq!(fake.changes(), expected, "{case}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_held_otherwise_is_nothing_to_clear() {
        let fake = engine("image", "storage", told(&json!([]))).await;
        assert!(!fake.podman.clear_remains("p_x", "i").await.expect("looks"));
        assert_eq!(fake.changes(), Vec::<String>::new());
    }
}
