//! What a set-up needs while it runs, taken down whatever becomes of it.

use crate::backend::BackendError;
use crate::podman::Podman;
use crate::podman::container::same;
use crate::resource::Labels;

/// The container in which commands are run, and the volume that says what it is held to. Dropped before it was taken
/// down, as when the time is up and nobody waits any more, it is taken down by a task of its own, for which
/// [`Perform::settle`](crate::backend::Perform::settle) waits.
pub(super) struct Scaffold(Option<Parts>);

#[derive(Clone)]
struct Parts {
    podman: Podman,
    container: String,
    labels: Labels,
    volume: Option<String>,
}

impl Scaffold {
    /// From before either is made.
    pub fn new(podman: &Podman, container: &str, labels: &Labels, volume: Option<&str>) -> Self {
        let (container, volume) = (container.to_owned(), volume.map(str::to_owned));
        Self(Some(Parts { podman: podman.clone(), container, labels: labels.clone(), volume }))
    }

    /// Removes both.
    pub async fn take_down(mut self) -> Result<(), BackendError> {
        // Until it is done: this wait may be cut short as well.
        let Some(parts) = self.0.clone() else { return Ok(()) };
        let done = parts.take_down().await;
        self.0 = None;
        done
    }
}

impl Parts {
    async fn take_down(&self) -> Result<(), BackendError> {
        let removed = self.remove_container().await;
        let forgotten = match &self.volume {
            Some(volume) => self.podman.remove_volume(volume).await,
            None => Ok(()),
        };
        removed.and(forgotten)
    }

    /// Somebody else's may have got the name before ours was made.
    async fn remove_container(&self) -> Result<(), BackendError> {
        match self.podman.reader().find_container(&self.container).await? {
            Some(there) if same(&there.config.labels, &self.labels) => self.podman.discard_container(&there.id).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Scaffold {
    fn drop(&mut self) {
        let (Some(parts), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        let podman = parts.podman.clone();
        let work = async move {
            if let Err(error) = parts.take_down().await {
                tracing::warn!(container = %parts.container, %error, "left behind; the next apply removes it");
            }
        };
        podman.tidying().spawn_on(work, &runtime);
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Perform as _;
    use crate::op::Op;
    use crate::podman::fake::{Fake, failed, inspected};
    use crate::resource::{Labels, label};
    use crate::spec::{ImageSpec, ImageUse, NewObject};

    #[tokio::test]
    async fn a_set_up_that_is_given_up_leaves_nothing() {
        let tag = "localhost/sbx/acme/tooled:0123456789ab";
        let name = format!("acme_{}", crate::ownership::builder(tag));
        let (container, builder) = (format!("/containers/{name}"), name.clone());
        let mut made = false;
        let (reached, mut is_reached) = tokio::sync::mpsc::unbounded_channel();
        let (give_up, given_up) = std::sync::mpsc::channel();
        let fake = Fake::start(move |asked| match asked {
            "GET /images/base/json" => Some((200, r#"{"Id":"sha256:1"}"#.to_owned())),
            asked if asked.ends_with("/volumes/create") => Some((
                201,
                r#"{"Name":"v","Driver":"","Mountpoint":"","CreatedAt":"2026-01-01T00:00:00Z","Labels":{},"Scope":"","Options":{},"UID":0,"GID":0}"#.to_owned(),
            )),
            "POST /containers/create" => {
                made = true;
                Some((201, r#"{"Id":"b1"}"#.to_owned()))
            }
            // It is given up here, and answers after that.
            asked if asked == format!("POST {container}/start") => {
                reached.send(()).expect("somebody waits");
                given_up.recv().expect("somebody gives up");
                Some((204, String::new()))
            }
            asked if made && asked == format!("GET {container}/json") => inspected("b1", &builder, "created", "u"),
            asked if asked.starts_with("DELETE") => Some((204, String::new())),
            _ => failed(404, "no such thing"),
        })
        .await;
        let labels: Labels =
            [(label::PROJECT, "acme"), (label::UID, "u")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let spec = ImageSpec::Setup {
            from: ImageUse { name: "base".into(), reference: "base".into(), key: String::new() },
            run: vec!["true".into()],
            egress: "allowlist".into(),
            policy: Some(Box::default()),
            resolv_conf: None,
            base: None,
        };
        let op = Op::CreateImage { object: NewObject { name: tag.into(), labels }, spec };
        tokio::select! {
            done = fake.podman.perform(&op, &|_| ()) => panic!("it came to an end: {done:?}"),
            () = async { is_reached.recv().await.expect("the start") } => {}
        }
        give_up.send(()).expect("the engine waits");
        fake.podman.settle().await;
        let changes = fake.changes();
        let removed: Vec<_> = changes.iter().filter(|change| change.starts_with("DELETE")).collect();
        assert_eq!(removed.len(), 2, "{changes:?}");
        assert!(removed[0].ends_with("/containers/b1") && removed[1].contains("/volumes/acme_builder."), "{changes:?}");
    }
}
