//! A backend in memory that behaves like an engine and a git host, for properties that need many runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use schema::{Caller, Config, Source};

use crate::backend::{BackendError, ErrorKind, Observe, Perform, Progress};
use crate::desired::DesiredState;
use crate::facts::{
    ContainerFacts, ContainerProbe, DaemonFacts, EngineFacts, ImageFacts, ObjectFacts, Observed, ProbeQuery, Probes,
    Query, RepositoryFacts, ServedFacts, Snapshot, State, WorktreeFacts, WorktreePlace,
};
use crate::host_facts::HostFacts;
use crate::op::Op;
use crate::planner;
use crate::resource::{Labels, label};
use crate::spec::{ContainerSpec, ImageSpec, LimitSpec, MountOrigin, NetworkSpec};

/// The configuration of a project `acme` with this in its `sandboxes.yaml`.
pub fn config(body: &str) -> Config {
    let text = format!("apiVersion: sbx/v1\nproject: acme\n{body}");
    let source = Source { name: "sandboxes.yaml".into(), directory: "/project".into(), text };
    let caller = Caller {
        env: BTreeMap::new(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        today: jiff::civil::Date::MIN,
        data_dir: "/data".into(),
        engine_sockets: Vec::new(),
    };
    schema::load(&[source], &caller).config.expect("a configuration without errors")
}

/// What `config` asks for on this host and an engine without anything.
pub async fn desired(config: &Config, host: &HostFacts) -> DesiredState {
    let snapshot = MemoryBackend::default().snapshot(&planner::query(config, host)).await.expect("in memory");
    planner::desire(config, host, &snapshot)
}

/// Everything the backend holds.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Containers by id, with the specification they were made from and their ceilings.
    pub containers: BTreeMap<String, Container>,
    /// Images by id.
    pub images: BTreeMap<String, ImageFacts>,
    /// Volumes by name.
    pub volumes: BTreeMap<String, Labels>,
    /// Networks by name: labels and whether internal.
    pub networks: BTreeMap<String, (Labels, bool)>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Labels>,
    /// Clones by path: the remote.
    pub repositories: BTreeMap<PathBuf, String>,
    /// Worktrees by path.
    pub worktrees: BTreeMap<PathBuf, WorktreePlace>,
    /// The daemon, when it runs: the policy in force by container id.
    pub daemon: Option<BTreeMap<String, Option<String>>>,
    /// Operations performed.
    pub performed: Vec<Op>,
    /// Operations after which every further one fails, if set.
    pub fail_after: Option<usize>,
    /// Only this operation (counted from 0) fails, if set.
    pub fail_at: Option<usize>,
    serial: u64,
}

/// A container of the world.
#[derive(Debug, Clone)]
pub struct Container {
    /// What lists show.
    pub facts: ContainerFacts,
    /// Restart policy in force.
    pub restart: String,
    /// What it would lose.
    pub probe: ContainerProbe,
    /// Never becomes ready.
    pub broken: bool,
}

/// The backend.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    world: Mutex<World>,
    /// Commands that never become ready.
    pub broken_commands: BTreeSet<String>,
}

impl MemoryBackend {
    /// The world, to look at and to edit from outside.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Facts of the engine it pretends to be.
pub fn engine() -> EngineFacts {
    EngineFacts {
        kind: "podman".to_owned(),
        version: "5.4.2".to_owned(),
        rootless: false,
        limits: ["cpu", "memory", "pids"].map(str::to_owned).into(),
        updates_restart: true,
        local: true,
    }
}

impl World {
    fn id(&mut self) -> String {
        self.serial += 1;
        format!("{:064x}", self.serial)
    }

    /// Adds a container as somebody else would.
    pub fn add_container(&mut self, name: &str, labels: Labels, image_id: &str) -> String {
        let id = self.id();
        let facts = ContainerFacts {
            id: id.clone(),
            name: name.to_owned(),
            labels,
            state: State::Running,
            exit_code: None,
            image_id: image_id.to_owned(),
            image: image_id.to_owned(),
            networks: Vec::new(),
            mount_targets: Vec::new(),
            pid: 1,
            created_at: String::new(),
            started_at: 0,
            exited_at: 0,
            limits: Observed::Present(LimitSpec::default().into()),
            replaced_binds: Vec::new(),
        };
        let (restart, probe) = ("no".to_owned(), ContainerProbe::default());
        self.containers.insert(id.clone(), Container { facts, restart, probe, broken: false });
        id
    }

    fn container(&mut self, key: &str) -> Result<&mut Container, BackendError> {
        self.containers
            .values_mut()
            .find(|container| container.facts.id == key || container.facts.name == key)
            .ok_or_else(|| BackendError::new(ErrorKind::NotFound, format!("no container {key}")))
    }

    fn create(&mut self, name: &str, labels: &Labels, spec: &ContainerSpec, broken: bool) -> Result<(), BackendError> {
        if let Some(there) = self.containers.values().find(|container| container.facts.name == name) {
            let same = there.facts.labels.get(label::UID) == labels.get(label::UID);
            return if same { Ok(()) } else { Err(conflict(name)) };
        }
        let image = self
            .images
            .values()
            .find(|image| image.tags.iter().chain(&image.digests).any(|tag| *tag == spec.image.reference))
            .ok_or_else(|| BackendError::new(ErrorKind::NotFound, format!("no image {}", spec.image.reference)))?
            .clone();
        for mount in &spec.mounts {
            if let MountOrigin::Volume { volume } = &mount.source
                && !self.volumes.contains_key(volume)
            {
                return Err(BackendError::new(ErrorKind::NotFound, format!("no volume {volume}")));
            }
        }
        let networks = match &spec.network {
            NetworkSpec::None => Vec::new(),
            NetworkSpec::Bridge { networks, .. } => networks.clone(),
        };
        if let Some(missing) = networks.iter().find(|name| *name != "podman" && !self.networks.contains_key(*name)) {
            return Err(BackendError::new(ErrorKind::NotFound, format!("no network {missing}")));
        }
        if let Some(missing) = spec.secret_env.values().find(|name| !self.secrets.contains_key(*name)) {
            return Err(BackendError::new(ErrorKind::NotFound, format!("no secret {missing}")));
        }
        // An engine merges the image's labels beneath those of the container.
        let mut all = image.labels.clone();
        all.extend(labels.clone());
        let id = self.add_container(name, all, &image.id);
        let container = self.container(&id)?;
        container.facts.state = State::Created;
        container.facts.networks = networks;
        container.facts.limits = Observed::Present(spec.limits.into());
        container.restart.clone_from(&spec.restart);
        container.broken = broken;
        Ok(())
    }

    fn in_use(&self, id: &str) -> bool {
        self.containers.values().any(|container| container.facts.image_id == id)
    }

    /// Hash of the policy that is the newest for a sandbox.
    pub fn newest_policy(&self, sandbox: &str) -> Option<String> {
        let get = |labels: &Labels, key| labels.get(key).cloned().unwrap_or_default();
        let of = |labels: &&Labels| get(labels, label::KIND) == "policy" && get(labels, label::NAME) == sandbox;
        let serial = |labels: &&Labels| get(labels, label::SERIAL).parse::<u64>().unwrap_or_default();
        self.volumes.values().filter(of).max_by_key(serial).map(|labels| get(labels, label::HASH))
    }

    /// What a daemon does when it looks: it serves what runs and has a policy, and nothing else.
    fn settle(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        let served = self.containers.values().filter(|container| container.facts.state == State::Running);
        let served = served.filter_map(|container| {
            let policy = self.newest_policy(container.facts.labels.get(label::NAME)?)?;
            Some((container.facts.id.clone(), Some(policy)))
        });
        self.daemon = Some(served.collect());
    }
}

fn conflict(name: &str) -> BackendError {
    BackendError::new(ErrorKind::Conflict, format!("the name {name} is in use"))
}

fn labelled(labels: &Labels) -> bool {
    labels.contains_key(label::PROJECT)
}

#[async_trait]
impl Observe for MemoryBackend {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        let world = self.world();
        let object = |name: &String, labels: &Labels, internal: bool| ObjectFacts {
            name: name.clone(),
            labels: labels.clone(),
            internal,
        };
        let mut checkouts: BTreeMap<PathBuf, BTreeMap<String, PathBuf>> = BTreeMap::new();
        for (path, place) in &world.worktrees {
            if let WorktreePlace::Worktree(WorktreeFacts { clone, branch: Some(branch), .. }) = place {
                checkouts.entry(clone.clone()).or_default().insert(branch.clone(), path.clone());
            }
        }
        Ok(Snapshot {
            engine: engine(),
            containers: world.containers.values().map(|c| c.facts.clone()).filter(|c| labelled(&c.labels)).collect(),
            images: world
                .images
                .values()
                .map(|image| ImageFacts { in_use: world.in_use(&image.id), ..image.clone() })
                .filter(|image| {
                    labelled(&image.labels)
                        || image.tags.iter().any(|tag| tag.starts_with("localhost/sbx/"))
                        || image.tags.iter().chain(&image.digests).any(|name| query.images.contains(name))
                })
                .collect(),
            volumes: world.volumes.iter().filter(|(_, l)| labelled(l)).map(|(n, l)| object(n, l, false)).collect(),
            networks: world
                .networks
                .iter()
                .filter(|(_, l)| labelled(&l.0))
                .map(|(n, l)| object(n, &l.0, l.1))
                .collect(),
            secrets: world.secrets.iter().filter(|(_, l)| labelled(l)).map(|(n, l)| object(n, l, false)).collect(),
            repositories: query
                .clones
                .iter()
                .map(|path| {
                    let facts = world.repositories.get(path);
                    let observed = facts.map_or(Observed::Absent, |remote| {
                        Observed::Present(RepositoryFacts { remote: remote.clone(), bare: true })
                    });
                    (path.clone(), observed)
                })
                .collect(),
            worktrees: query
                .worktrees
                .keys()
                .map(|path| {
                    let place = world.worktrees.get(path).cloned();
                    (path.clone(), place.map_or(Observed::Absent, Observed::Present))
                })
                .collect(),
            checkouts,
            daemon: match &world.daemon {
                None => Observed::Absent,
                Some(served) => Observed::Present(DaemonFacts {
                    version: "1".to_owned(),
                    served: served
                        .iter()
                        .map(|(id, policy)| ServedFacts {
                            container: id.clone(),
                            policy: policy.clone(),
                            ..ServedFacts::default()
                        })
                        .collect(),
                }),
            },
        })
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        let world = self.world();
        let mut probes = Probes::default();
        for container in world.containers.values() {
            if query.containers.contains(&container.facts.id) {
                let restart = Some(container.restart.clone());
                let probe = ContainerProbe { restart, ..container.probe.clone() };
                probes.containers.insert(container.facts.id.clone(), probe);
            }
            if query.container_names.contains(&container.facts.name) {
                probes.held_containers.insert(container.facts.name.clone(), "a container".to_owned());
            }
        }
        for path in query.worktrees.keys() {
            let place = world.worktrees.get(path).cloned();
            probes.worktrees.insert(path.clone(), place.map_or(Observed::Absent, Observed::Present));
        }
        for name in world.volumes.keys().filter(|name| query.volume_names.contains(*name)) {
            probes.held_volumes.insert(name.clone(), "a volume".to_owned());
        }
        for name in world.networks.keys().filter(|name| query.network_names.contains(*name)) {
            probes.held_networks.insert(name.clone(), "a network".to_owned());
        }
        Ok(probes)
    }
}

#[async_trait]
impl Perform for MemoryBackend {
    async fn perform(&self, op: &Op, _progress: Progress<'_>) -> Result<(), BackendError> {
        let mut world = self.world();
        let index = world.performed.len();
        if world.fail_after.is_some_and(|limit| index >= limit) || world.fail_at == Some(index) {
            world.performed.push(op.clone());
            return Err(BackendError::new(ErrorKind::Failed, format!("injected failure at operation {index}")));
        }
        world.performed.push(op.clone());
        self.apply(&mut world, op)
    }
}

impl MemoryBackend {
    fn apply(&self, world: &mut World, op: &Op) -> Result<(), BackendError> {
        match op {
            Op::CreateImage { object, spec } => {
                // A registry answers the same reference with the same image.
                let id = match spec {
                    ImageSpec::Ref { reference, .. } => crate::resource::sha256(reference.as_bytes()),
                    _ => world.id(),
                };
                // A pulled or loaded image has the labels of whoever built it.
                let others = matches!(spec, ImageSpec::Ref { .. } | ImageSpec::Archive { .. });
                let mut labels = if others { Labels::new() } else { object.labels.clone() };
                if let ImageSpec::Setup { from, .. } = spec {
                    let base = world.images.values().find(|image| image.tags.contains(&from.reference));
                    let base = base.ok_or_else(|| BackendError::new(ErrorKind::NotFound, "no base"))?;
                    labels.insert(label::BASE.to_owned(), base.id.clone());
                }
                // A name stands for one image: the one that had it keeps the rest of its names.
                for image in world.images.values_mut() {
                    image.tags.retain(|tag| *tag != object.name);
                }
                let (tags, digests) = (vec![object.name.clone()], Vec::new());
                world.images.insert(id.clone(), ImageFacts { id, tags, digests, labels, in_use: false });
            }
            Op::RemoveImage { image } => {
                let used: Vec<String> = world.images.keys().filter(|id| world.in_use(id)).cloned().collect();
                for facts in world.images.values_mut() {
                    facts.tags.retain(|tag| tag != image);
                }
                world.images.retain(|id, facts| !facts.tags.is_empty() || used.contains(id));
            }
            Op::CreateVolume { object } => match world.volumes.get(&object.name) {
                Some(there) if there.get(label::UID) != object.labels.get(label::UID) => {
                    return Err(conflict(&object.name));
                }
                _ => {
                    world.volumes.insert(object.name.clone(), object.labels.clone());
                }
            },
            Op::RemoveVolume { volume } => {
                // Engines refuse while a container, running or not, has it mounted.
                let mark = format!("\"volume\":\"{volume}\"");
                let mounts =
                    |facts: &ContainerFacts| facts.labels.get(label::SPEC).is_some_and(|spec| spec.contains(&mark));
                if world.containers.values().any(|container| mounts(&container.facts)) {
                    return Err(BackendError::new(ErrorKind::Conflict, format!("{volume} is in use")));
                }
                world.volumes.remove(volume);
            }
            Op::EnsureDaemon => {
                world.daemon.get_or_insert_default();
                world.settle();
            }
            Op::EnforcePolicy { sandbox, policy, .. } => {
                if policy.is_some() {
                    world.daemon.get_or_insert_default();
                }
                if *policy != world.newest_policy(sandbox) {
                    return Err(BackendError::new(ErrorKind::Stale, "the engine has another policy"));
                }
                world.settle();
            }
            Op::CreateNetwork { object, spec } => match world.networks.get(&object.name) {
                Some((there, _)) if there.get(label::UID) != object.labels.get(label::UID) => {
                    return Err(conflict(&object.name));
                }
                _ => {
                    world.networks.insert(object.name.clone(), (object.labels.clone(), spec.internal));
                }
            },
            Op::RemoveNetwork { network } => {
                if world.containers.values().any(|container| container.facts.networks.contains(network)) {
                    return Err(BackendError::new(ErrorKind::Conflict, format!("{network} has members")));
                }
                world.networks.remove(network);
            }
            Op::CreateSecret { object, .. } => {
                world.secrets.insert(object.name.clone(), object.labels.clone());
            }
            Op::RemoveSecret { secret } => {
                world.secrets.remove(secret);
            }
            Op::CloneRepository { repo, clone } => {
                world.repositories.insert(clone.clone(), repo.clone());
            }
            Op::AddWorktree { spec, holder } | Op::LockWorktree { spec, holder, .. } => {
                if !world.repositories.contains_key(&spec.clone) {
                    return Err(BackendError::new(ErrorKind::NotFound, "no clone"));
                }
                let facts = WorktreeFacts {
                    admin: crate::git::admin_name(&spec.path),
                    clone: spec.clone.clone(),
                    branch: Some(spec.branch.clone()),
                    lock: Some(format!("sbx {holder}")),
                    dirty: Some(0),
                    ignored: Some(0),
                    unpushed: Some(0),
                };
                world.worktrees.insert(spec.path.clone(), WorktreePlace::Worktree(facts));
            }
            Op::RemoveWorktree { spec, .. } => {
                world.worktrees.remove(&spec.path);
            }
            Op::CreateContainer { name, labels, spec } => {
                let broken = spec.command.first().is_some_and(|command| self.broken_commands.contains(command));
                world.create(name, labels, spec, broken)?;
            }
            Op::StartContainer { container, .. } => {
                let container = world.container(container)?;
                container.facts.state = State::Running;
                container.facts.replaced_binds.clear();
            }
            Op::AwaitReady { container } => {
                let container = world.container(container)?;
                if container.broken {
                    container.facts.state = State::Exited;
                    container.facts.exit_code = Some(127);
                    return Err(BackendError::new(ErrorKind::Failed, "ended with exit code 127 before it was ready"));
                }
            }
            Op::StopContainer { container } => {
                if let Ok(container) = world.container(container) {
                    container.facts.state = State::Exited;
                    container.facts.exit_code = Some(0);
                    container.facts.replaced_binds.clear();
                }
            }
            Op::RemoveContainer { container, uid } => {
                world.containers.retain(|id, there| {
                    let meant = id == container || there.facts.name == *container;
                    let other = uid.as_ref().is_some_and(|uid| there.facts.labels.get(label::UID) != Some(uid));
                    !meant || other
                });
            }
            Op::RenameContainer { container, to } => {
                let id = world.container(container)?.facts.id.clone();
                if world.containers.values().any(|there| there.facts.name == *to && there.facts.id != id) {
                    return Err(conflict(to));
                }
                world.container(&id)?.facts.name.clone_from(to);
            }
            Op::UpdateContainer { container, limits, restart } => {
                let container = world.container(container)?;
                container.facts.limits = Observed::Present((*limits).into());
                if let Some(restart) = restart {
                    container.restart.clone_from(restart);
                }
            }
            Op::ConnectNetwork { container, network, .. } => {
                let networks = &mut world.container(container)?.facts.networks;
                networks.push(network.clone());
                networks.sort();
                networks.dedup();
            }
            Op::DisconnectNetwork { container, network } => {
                world.container(container)?.facts.networks.retain(|name| name != network);
            }
        }
        Ok(())
    }
}
