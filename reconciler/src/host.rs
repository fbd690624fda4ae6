//! Gathers the facts of the host that desired state depends on. Reads, hashes, runs secret commands; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schema::Config;
use schema::config::{Home, Image, MountSource, SecretSource};

use crate::host_facts::{Fact, HostFacts};
use crate::identity::Identity;
use crate::resource::secret_hash;

pub(crate) mod archive;
pub mod cdi;
pub mod context;
pub mod ignore;
mod link;
pub mod lockfile;
pub mod overlay;
mod path;
pub mod rootfs;
pub mod secret;
mod walk;

/// What only the caller knows of the host.
#[derive(Debug, Clone)]
pub struct HostEnv {
    /// The caller's environment: secrets, desktop variables, and what secret commands run with.
    pub env: BTreeMap<OsString, OsString>,
    /// Who runs secret commands, when that is not the user of this process.
    pub identity: Option<Identity>,
    /// The caller's runtime directory.
    pub runtime_dir: Option<PathBuf>,
    /// `sandboxes.lock`; it need not be there.
    pub lockfile: Option<PathBuf>,
    /// Where `sbx` keeps its data.
    pub data: PathBuf,
    /// Where `sbx-init` is.
    pub init: PathBuf,
    /// The directory of what the project's sandboxes trust for TLS; it need not be there when none does.
    pub trust: PathBuf,
    /// Directories of CDI specifications, `/etc/cdi` and `/var/run/cdi`.
    pub cdi_dirs: Vec<PathBuf>,
    /// Where sockets of container engines may be.
    pub engine_sockets: Vec<PathBuf>,
    /// Files and directories of `sbx` itself that no sandbox may be shown.
    pub own: Vec<PathBuf>,
    /// How long a secret command may take.
    pub secret_deadline: Duration,
}

/// How closely the host is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Which files there are, and nothing of what is in them: enough to start, stop or remove what is there.
    Places,
    /// All but secret commands, which may prompt somebody: enough to tell how things stand.
    Unasked,
    /// All of it.
    Whole,
}

/// What makes planning pointless.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The lockfile is there and cannot be used.
    #[error(transparent)]
    Lockfile(#[from] lockfile::LockfileError),
}

/// Variables of the caller that desktop clients follow.
const DESKTOP: &[&str] =
    &["WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "PULSE_SERVER", "DISPLAY", "XDG_SESSION_TYPE"];

/// Sockets of a desktop session below its runtime directory.
const DESKTOP_SOCKETS: &[&str] = &["wayland-0", "pipewire-0", "pulse/native", "bus"];

/// Gathers the facts `config` depends on, as far as `depth` goes. Facts that cannot be had are recorded with the reason.
pub async fn gather(config: &Config, env: &HostEnv, depth: Depth) -> Result<HostFacts, HostError> {
    let locked = env.lockfile.as_deref().map(lockfile::read).transpose()?.unwrap_or_default();
    let paths = path::look(wanted_paths(config, env));
    let (inputs, contexts, overlays, secrets) =
        tokio::join!(inputs(config, depth), contexts(config, depth), overlays(config), secrets(config, env, depth));
    let variable =
        |name: &&str| Some(((*name).to_owned(), env.env.get(std::ffi::OsStr::new(name))?.to_str()?.to_owned()));
    let mut identities = paths.identities;
    for (tree, files) in &overlays {
        identities.extend(files.iter().flatten().map(|file| (tree.join(&file.path), file.id)));
    }
    let (sockets, own) = (path::real_sockets(&env.engine_sockets), path::real_or_named(&env.own));
    let aliases = path::aliases(&identities, &paths.resolved, sockets.iter().chain(&own));
    Ok(HostFacts {
        paths: paths.kinds,
        unseen: paths.unseen,
        identities,
        resolved: paths.resolved,
        engine_sockets: sockets,
        own,
        aliases,
        root_links: path::root_links(Path::new("/")),
        inputs,
        contexts,
        overlays,
        unread: unread(config, depth),
        secrets,
        locked,
        cdi: cdi::devices(&env.cdi_dirs),
        data: env.data.clone(),
        init: env.init.clone(),
        trust: env.trust.clone(),
        runtime_dir: env.runtime_dir.clone(),
        desktop: DESKTOP.iter().filter_map(variable).collect(),
    })
}

fn wanted_paths(config: &Config, env: &HostEnv) -> BTreeSet<PathBuf> {
    let mut wanted = BTreeSet::from([PathBuf::from("/dev/dri"), env.init.clone(), env.trust.clone()]);
    for image in config.images.values() {
        if let Image::Host { dirs, etc } = image {
            wanted.extend(dirs.iter().cloned());
            wanted.extend(etc.iter().map(|entry| Path::new("/etc").join(entry)));
        }
    }
    if let Some(runtime) = &env.runtime_dir {
        wanted.extend(DESKTOP_SOCKETS.iter().map(|name| runtime.join(name)));
        if let Some(display) = env.env.get(std::ffi::OsStr::new("WAYLAND_DISPLAY")) {
            wanted.insert(runtime.join(display));
        }
    }
    for sandbox in config.sandboxes.values() {
        wanted.extend(sandbox.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Path(path) => Some(path.clone()),
            MountSource::Volume(_) => None,
        }));
        if let Home::Workspace(path) = &sandbox.home {
            wanted.insert(path.clone());
        }
        wanted.extend(sandbox.overlay.clone());
        wanted.extend(sandbox.devices.iter().filter(|device| device.starts_with('/')).map(PathBuf::from));
    }
    wanted
}

/// Hashes archives and root filesystems, side by side on the threads for blocking work.
async fn inputs(config: &Config, depth: Depth) -> BTreeMap<PathBuf, Fact<String>> {
    let mut tasks = Vec::new();
    let mut seen = BTreeSet::new();
    for image in config.images.values().filter(|_| depth != Depth::Places) {
        match image {
            Image::Archive { path } if seen.insert(path.clone()) => {
                tasks.push(blocking(path.clone(), archive::hash));
            }
            Image::Rootfs { path } if seen.insert(path.clone()) => {
                tasks.push(blocking(path.clone(), rootfs::hash));
            }
            Image::Archive { .. }
            | Image::Rootfs { .. }
            | Image::Build { .. }
            | Image::Host { .. }
            | Image::Ref { .. }
            | Image::Setup { .. } => {}
        }
    }
    collect(tasks).await
}

/// Hashes build contexts, each with one Containerfile: that is what an image is made of, and sent for it.
async fn contexts(config: &Config, depth: Depth) -> BTreeMap<PathBuf, BTreeMap<PathBuf, Fact<String>>> {
    let mut wanted: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for image in config.images.values().filter(|_| depth != Depth::Places) {
        if let Image::Build { context, containerfile, .. } = image {
            wanted.entry(context.clone()).or_default().insert(containerfile.clone());
        }
    }
    let mut facts = BTreeMap::new();
    for (context, files) in wanted {
        let hash = |file: PathBuf| {
            let context = context.clone();
            blocking(file, move |file| context::hash(&context, &BTreeSet::from([file.to_owned()])))
        };
        let tasks = files.into_iter().map(hash).collect();
        facts.insert(context.clone(), collect(tasks).await);
    }
    facts
}

async fn overlays(config: &Config) -> BTreeMap<PathBuf, Fact<Vec<crate::host_facts::OverlayFile>>> {
    let trees: BTreeSet<&PathBuf> = config.sandboxes.values().filter_map(|sandbox| sandbox.overlay.as_ref()).collect();
    collect(trees.into_iter().map(|tree| blocking(tree.clone(), overlay::files)).collect()).await
}

type Task<T> = (PathBuf, tokio::task::JoinHandle<Fact<T>>);

fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Task<T> {
    let at = path.clone();
    (path, tokio::task::spawn_blocking(move || work(&at).map_err(|error| error.to_string())))
}

async fn collect<T>(tasks: Vec<Task<T>>) -> BTreeMap<PathBuf, Fact<T>> {
    let mut facts = BTreeMap::new();
    for (path, task) in tasks {
        let fact = task.await.unwrap_or_else(|error| Err(format!("looking at it was cut off: {error}")));
        facts.insert(path, fact);
    }
    facts
}

/// Secrets that are used, and whose command is not run.
fn unread(config: &Config, depth: Depth) -> BTreeSet<String> {
    let used = config.read_secrets().into_iter();
    let unread = used.filter(|name| config.secrets.get(*name).is_some_and(|source| !is_read(source, depth)));
    unread.map(ToString::to_string).collect()
}

fn is_read(source: &SecretSource, depth: Depth) -> bool {
    match source {
        SecretSource::Command(_) => depth == Depth::Whole,
        SecretSource::Env(_) | SecretSource::File(_) => depth != Depth::Places,
    }
}

/// Hashes of the secrets that a sandbox uses. Commands run side by side.
async fn secrets(config: &Config, env: &HostEnv, depth: Depth) -> BTreeMap<String, Fact<String>> {
    let read = config.read_secrets().into_iter().filter_map(|name| {
        let (name, source) = (name.as_str(), config.secrets.get(name).filter(|source| is_read(source, depth))?);
        Some(async move {
            use secrecy::ExposeSecret as _;
            let value = secret::read(source, env).await.map_err(|error| error.to_string());
            let hash = value.map(|value| secret_hash(config.project.as_str(), name, value.expose_secret()));
            (name.to_owned(), hash)
        })
    });
    futures_util::future::join_all(read).await.into_iter().collect()
}
