//! What the daemon needs of an engine: sandboxes that run, their policies, and word when something has changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;

use super::client::{JSON, Pieces, QUICK, full, with_query};
use super::snapshot::in_passing;
use super::wire::{ListedContainer, ListedImage};
use super::{Reader, patiently};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::ObjectFacts;
use crate::kinds::container::{DEFAULT_NETWORK, SOCKET};
use crate::kinds::policy::{Policies, serial};
use crate::ownership::{BUILDER, is_ours};
use crate::resource::{Labels, Naming, label};
use crate::spec::{MountOrigin, MountSpec, Way};

/// A running container of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSandbox {
    /// Full id.
    pub container: String,
    /// Project.
    pub project: String,
    /// Sandbox.
    pub sandbox: String,
    /// PID 1 on this host.
    pub pid: u32,
    /// Seconds since the epoch of its start.
    pub started_at: i64,
    /// Whether it is on the engine's network that leads out.
    pub open: bool,
    /// Whether it waits to be let in at each start.
    pub gated: bool,
    /// How what it sends comes to the daemon, or does not.
    pub way: Way,
    /// The directory for its socket, where that is the way.
    pub socket: Option<PathBuf>,
    /// Its own addresses, by network: its name in the project, or `engine:NAME` for one that is not the project's.
    pub own: BTreeMap<String, Vec<IpAddr>>,
    /// Names and addresses of other sandboxes on its networks.
    pub peers: BTreeMap<String, Vec<IpAddr>>,
}

/// The newest policy of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Project.
    pub project: String,
    /// Sandbox.
    pub sandbox: String,
    /// Hash.
    pub hash: String,
    /// The policy, JSON.
    pub text: String,
    /// Secret by name to the salted hash of its value.
    pub secrets: BTreeMap<String, String>,
}

/// One look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Running containers of all projects.
    pub running: Vec<RunningSandbox>,
    /// Policies of all projects.
    pub policies: Vec<StoredPolicy>,
}

/// Word from the engine that something has changed.
pub struct Changes {
    pieces: Pieces,
}

impl Changes {
    /// Waits for it, for as long as it takes; to give up waiting loses nothing.
    ///
    /// # Errors
    /// The engine has gone: ask anew, and look.
    pub async fn next(&mut self) -> Result<(), BackendError> {
        match self.pieces.next().await? {
            Some(_) => Ok(()),
            None => Err(BackendError::new(ErrorKind::Unreachable, "the engine told its last event")),
        }
    }
}

/// The part of a container's specification that matters here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    gate: bool,
    way: Way,
    mounts: Vec<MountSpec>,
}

impl Reader {
    /// Looks at what runs and at its policies.
    pub async fn served(&self) -> Result<Served, BackendError> {
        patiently(async || {
            let (rows, images, volumes) = tokio::try_join!(self.rows(), self.labelled_images(), self.volumes())?;
            let networked: BTreeMap<String, Vec<String>> = rows
                .iter()
                .filter(|row| row.networks.iter().any(|network| network != DEFAULT_NETWORK))
                .map(|row| (row.id.clone(), row.networks.clone()))
                .collect();
            let mut served = served(rows, &images, &volumes);
            self.introduce(&mut served.running, &networked).await?;
            Ok(served)
        })
        .await
    }

    /// Listens to what changes. What happened before this returns is not told: look after it.
    pub async fn changes(&self) -> Result<Changes, BackendError> {
        let filters = r#"{"type":["container","volume","network"],"event":["start","died","remove","create","rename","connect","disconnect"]}"#;
        let path = with_query("/events", &[("stream", "true"), ("filters", filters)]);
        let pieces = self.client().stream(Method::GET, &path, JSON, full(""), QUICK).await?;
        Ok(Changes { pieces: pieces.however_long() })
    }

    /// Finds the peers of sandboxes: others on the same networks, but for the one that leads out. Those on networks
    /// only are looked at closely; most are on none.
    async fn introduce(
        &self,
        running: &mut [RunningSandbox],
        networked: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), BackendError> {
        let looks = networked.keys().map(async |id| match self.inspect(id).await {
            Ok(inspected) => Ok(Some((id.clone(), inspected.addresses()))),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let found: Result<Vec<_>, _> = futures_util::future::join_all(looks).await.into_iter().collect();
        let addresses: BTreeMap<String, BTreeMap<String, Vec<IpAddr>>> = found?.into_iter().flatten().collect();
        let names: Vec<(String, String, String)> = running
            .iter()
            .map(|sandbox| (sandbox.container.clone(), sandbox.project.clone(), sandbox.sandbox.clone()))
            .collect();
        for sandbox in running.iter_mut() {
            let Some(own) = networked.get(&sandbox.container) else { continue };
            let prefix = Naming::new(sandbox.project.as_str()).object("");
            let at = addresses.get(&sandbox.container).into_iter().flatten();
            let at = at.filter(|(network, _)| *network != DEFAULT_NETWORK);
            // Any other has a name that no policy knows.
            let named = |network: &String| {
                network.strip_prefix(&prefix).map_or_else(|| format!("engine:{network}"), str::to_owned)
            };
            sandbox.own = at.map(|(network, addresses)| (named(network), addresses.clone())).collect();
            for (container, project, name) in &names {
                if *container == sandbox.container || *project != sandbox.project {
                    continue;
                }
                let Some(theirs) = addresses.get(container) else { continue };
                let shared = own.iter().filter(|network| *network != DEFAULT_NETWORK);
                let shared: Vec<IpAddr> = shared.filter_map(|network| theirs.get(network)).flatten().copied().collect();
                if !shared.is_empty() {
                    sandbox.peers.entry(name.clone()).or_default().extend(shared);
                }
            }
        }
        Ok(())
    }

    async fn rows(&self) -> Result<Vec<ListedContainer>, BackendError> {
        let filters = format!(r#"{{"label":["{}"],"status":["running"]}}"#, label::PROJECT);
        self.client().get(&with_query("/containers/json", &[("filters", &filters)])).await
    }

    async fn labelled_images(&self) -> Result<Vec<ListedImage>, BackendError> {
        let filters = format!(r#"{{"label":["{}"]}}"#, label::UID);
        self.client().get(&with_query("/images/json", &[("filters", &filters)])).await.map_err(in_passing)
    }
}

fn served(rows: Vec<ListedContainer>, images: &[ListedImage], volumes: &[ObjectFacts]) -> Served {
    let running = rows.into_iter().filter_map(|row| running(row, images)).collect();
    let mut newest: BTreeMap<(&str, &str), &ObjectFacts> = BTreeMap::new();
    for volume in volumes {
        let (Some(project), Some(name)) = (volume.labels.get(label::PROJECT), volume.labels.get(label::NAME)) else {
            continue;
        };
        if !is_ours(volume, &Naming::new(project.as_str()), &Policies) {
            continue;
        }
        let place = newest.entry((project, name)).or_insert(volume);
        if (serial(volume), &volume.name) > (serial(place), &place.name) {
            *place = volume;
        }
    }
    let policies = newest.into_iter().map(|((project, sandbox), volume)| {
        let get = |key| volume.labels.get(key).cloned().unwrap_or_default();
        StoredPolicy {
            project: project.to_owned(),
            sandbox: sandbox.to_owned(),
            hash: get(label::HASH),
            text: get(label::SPEC),
            secrets: serde_json::from_str(&get(label::SECRETS)).unwrap_or_default(),
        }
    });
    Served { running, policies: policies.collect() }
}

/// A row that is a sandbox of ours. An image can carry our labels; whoever runs one makes no sandbox by that.
fn running(row: ListedContainer, images: &[ListedImage]) -> Option<RunningSandbox> {
    let get = |labels: &Labels, key| labels.get(key).cloned();
    let uid = get(&row.labels, label::UID)?;
    let inherited = images.iter().any(|image| image.id == row.image_id && image.labels.get(label::UID) == Some(&uid));
    let project = get(&row.labels, label::PROJECT)?;
    let naming = Naming::new(project.as_str());
    let name = row.names.first()?;
    let (sandbox, spec) = match row.labels.get(label::KIND).map(String::as_str)? {
        crate::kinds::container::NOUN => {
            let sandbox = get(&row.labels, label::NAME)?;
            let named = *name == naming.object(&sandbox) || *name == naming.successor(&sandbox);
            (named.then_some(sandbox)?, serde_json::from_str::<Spec>(row.labels.get(label::SPEC)?).ok()?)
        }
        // What an image is set up in; its label is that of the image, its name tells it from others.
        BUILDER => {
            let own = name.strip_prefix(&naming.object(""))?;
            own.strip_prefix(BUILDER)?.starts_with('.').then(|| (own.to_owned(), Spec::default()))?
        }
        _ => return None,
    };
    if inherited || row.pid == 0 {
        return None;
    }
    let networks = row.networks;
    Some(RunningSandbox {
        container: row.id,
        project,
        sandbox,
        pid: row.pid,
        started_at: row.started_at.max(0),
        open: networks.iter().any(|network| network == DEFAULT_NETWORK),
        gated: spec.gate,
        way: spec.way,
        socket: spec.mounts.into_iter().find_map(|mount| match mount.source {
            MountOrigin::Bind { source } if mount.target == Path::new(SOCKET) => Some(source),
            _ => None,
        }),
        own: BTreeMap::new(),
        peers: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::backend::Observe as _;
    use crate::facts::Query;
    use crate::podman::fake::{Fake, failed};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn row(name: &str) -> ListedContainer {
        let labels = labels(&[
            (label::PROJECT, "acme"),
            (label::NAME, "api"),
            (label::KIND, "container"),
            (label::UID, "1"),
            (label::SPEC, r#"{"gate":true}"#),
        ]);
        ListedContainer {
            id: "c1".into(),
            names: vec![name.into()],
            image_id: "i1".into(),
            labels,
            pid: 7,
            ..ListedContainer::default()
        }
    }

    #[test]
    fn only_what_was_made_as_a_sandbox_is_one() {
        let image =
            |uid: &str| ListedImage { id: "i1".into(), labels: labels(&[(label::UID, uid)]), ..ListedImage::default() };
        let found = |row, images: &[ListedImage]| served(vec![row], images, &[]).running;
        let ours = found(row("acme_api"), &[]);
        assert_eq!((ours.len(), ours[0].gated, ours[0].open), (1, true, false));
        assert_eq!(found(row("acme_api.next"), &[image("2")]).len(), 1);
        assert!(found(row("acme_api"), &[image("1")]).is_empty(), "labels of its image");
        assert!(found(row("experiment"), &[]).is_empty(), "a clone");
        assert!(found(ListedContainer { pid: 0, ..row("acme_api") }, &[]).is_empty());
        let builder = |name: &str| {
            let mut row = row(name);
            row.labels.insert(label::KIND.into(), "builder".into());
            row.labels.remove(label::SPEC);
            row
        };
        let built = found(builder("acme_builder.0123"), &[]);
        assert_eq!((built.len(), built[0].sandbox.as_str(), built[0].gated), (1, "builder.0123", false));
        assert!(found(builder("acme_api"), &[]).is_empty() && found(builder("other_builder.0123"), &[]).is_empty());
        assert!(found(builder("acme_builder.0123"), &[image("1")]).is_empty(), "labels of its image");
    }

    #[test]
    fn the_newest_policy_counts() {
        let policy = |name: &str, serial: &str, hash: &str| ObjectFacts {
            name: name.into(),
            labels: labels(&[
                (label::PROJECT, "acme"),
                (label::NAME, "api"),
                (label::KIND, "policy"),
                (label::UID, "1"),
                (label::SERIAL, serial),
                (label::HASH, hash),
                (label::SPEC, "{}"),
            ]),
            internal: false,
        };
        let volumes = [
            policy("acme_api.policy.aa", "10", "a"),
            policy("acme_api.policy.bb", "9", "b"),
            policy("other", "11", "c"),
        ];
        let policies = served(Vec::new(), &[], &volumes).policies;
        assert_eq!(policies.iter().map(|policy| policy.hash.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[tokio::test]
    async fn a_sandbox_is_told_where_it_and_its_peers_are() {
        let rows = |networks: &str| {
            let row = |id: &str, name: &str| {
                let labels = json!({
                    label::PROJECT: "acme", label::NAME: name, label::KIND: "container", label::UID: id, label::SPEC: "{}",
                });
                json!({"Id": id, "Names": [format!("acme_{name}")], "Labels": labels, "Pid": 7, "Networks": [networks]})
            };
            json!([row("c1", "api"), row("c2", "db")]).to_string()
        };
        for (network, named) in [("acme_backend", "backend"), ("backend", "engine:backend")] {
            let fake = Fake::start(move |asked| {
                let inspected = |id: &str, v4: &str, v6: &str| {
                    let endpoint = json!({"IPAddress": v4, "GlobalIPv6Address": v6});
                    json!({"Id": id, "NetworkSettings": {"Networks": {network: endpoint}}}).to_string()
                };
                Some((
                    200,
                    match asked.split('?').next()? {
                        "GET /containers/json" => rows(network),
                        "GET /containers/c1/json" => inspected("c1", "10.89.1.2", ""),
                        "GET /containers/c2/json" => inspected("c2", "10.89.1.3", "fd00::3"),
                        _ => "[]".to_owned(),
                    },
                ))
            });
            let running = fake.await.podman.reader().served().await.expect("looked").running;
            let address = |text: &str| text.parse::<IpAddr>().expect("an address");
            let api = running.iter().find(|sandbox| sandbox.sandbox == "api").expect("it runs");
            assert_eq!(api.own, [(named.to_owned(), vec![address("10.89.1.2")])].into());
            assert_eq!(api.peers, [("db".to_owned(), vec![address("10.89.1.3"), address("fd00::3")])].into());
        }
    }

    #[tokio::test]
    async fn what_is_removed_while_it_is_listed_fails_no_look() {
        for (list, why) in [
            ("GET /volumes/json", "no volume with name acme_api.policy.aa found in database: no such volume"),
            ("GET /images/json", "localhost/sbx/acme/base:0123: image not known"),
            ("GET /images/json", "retrieving size for image \"0123\": layer not known"),
        ] {
            // Each look meets it once.
            let mut lists = 0;
            let fake = Fake::start(move |asked| {
                if asked != list {
                    return Some((200, "[]".to_owned()));
                }
                lists += 1;
                if lists % 2 == 1 { failed(500, why) } else { Some((200, "[]".to_owned())) }
            });
            let fake = fake.await;
            let reader = fake.podman.reader();
            assert_eq!(reader.served().await.expect("looked again"), Served::default(), "{why}");
            let snapshot = reader.snapshot(&Query { project: "acme".to_owned(), ..Query::default() }).await;
            assert!(snapshot.expect("looked again").images.is_empty(), "{why}");
        }
    }
}
