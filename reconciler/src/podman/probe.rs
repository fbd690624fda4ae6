//! A closer look at what a plan would destroy, and at names it would take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::client::encode_name;
use super::wire::{ChangedPath, InspectedContainer, InspectedExec};
use super::{Reader, kernel};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{ContainerProbe, ProbeQuery, Probes};

/// What the engine writes into a container by itself.
const ENGINES_OWN: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/run",
    "/var/run",
    "/dev",
    "/proc",
    "/sys",
];

/// Names asked about at a time: more only wait in the engine.
const AT_ONCE: usize = 8;

impl Reader {
    pub(crate) async fn probes(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        let mut probes = Probes::default();
        let empty = Vec::new();
        let looks = query.containers.iter().map(async |id| {
            let tmpfs = query.tmpfs.get(id).unwrap_or(&empty);
            (id.clone(), self.losses(id, tmpfs).await)
        });
        for (id, probe) in futures_util::future::join_all(looks).await {
            match probe {
                Ok(probe) => drop(probes.containers.insert(id, probe)),
                // Gone meanwhile: nothing left to lose.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    let probe = ContainerProbe { unknown: vec![error.message], ..ContainerProbe::default() };
                    probes.containers.insert(id, probe);
                }
            }
        }
        let turns = Semaphore::new(AT_ONCE);
        let containers = query.container_names.iter().map(async |name| {
            let _turn = turns.acquire().await;
            let holder = self.find_container(name).await?.map(|inspected| {
                let short = inspected.id.get(..12).unwrap_or(&inspected.id).to_owned();
                format!("container {short}, {}", inspected.state.status)
            });
            Ok::<_, BackendError>((name.clone(), holder))
        });
        let volumes = query.volume_names.iter().map(async |name| {
            let _turn = turns.acquire().await;
            let held = self.client().exists(&format!("/volumes/{}/exists", encode_name(name))).await?;
            Ok::<_, BackendError>((name.clone(), held.then(|| "a volume without our labels".to_owned())))
        });
        let networks = query.network_names.iter().map(async |name| {
            let _turn = turns.acquire().await;
            let held = self.client().exists(&format!("/networks/{}/exists", encode_name(name))).await?;
            Ok::<_, BackendError>((name.clone(), held.then(|| "a network without our labels".to_owned())))
        });
        let (containers, volumes, networks) =
            tokio::try_join!(try_join_all(containers), try_join_all(volumes), try_join_all(networks))?;
        probes.held_containers = held(containers);
        probes.held_volumes = held(volumes);
        probes.held_networks = held(networks);
        Ok(probes)
    }

    pub(crate) async fn inspect(&self, container: &str) -> Result<InspectedContainer, BackendError> {
        self.client().get(&format!("/containers/{}/json", encode_name(container))).await
    }

    pub(crate) async fn find_container(&self, container: &str) -> Result<Option<InspectedContainer>, BackendError> {
        match self.inspect(container).await {
            // Ids and names share one address: a name may happen to be the beginning of another's id.
            Ok(found) if found.name == container || found.id == container => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn losses(&self, id: &str, tmpfs: &[PathBuf]) -> Result<ContainerProbe, BackendError> {
        let address = format!("/containers/{}", encode_name(id));
        let sized = format!("{address}/json?size=true");
        let changed = format!("{address}/changes");
        let (inspected, changes) = tokio::join!(
            self.client().get::<InspectedContainer>(&sized),
            self.client().get::<Option<Vec<ChangedPath>>>(&changed),
        );
        let inspected = inspected?;
        let mut probe = ContainerProbe { restart: Some(restart(&inspected)), ..ContainerProbe::default() };
        match changes {
            Ok(changes) => {
                let mounts: Vec<&str> = inspected
                    .mounts
                    .iter()
                    .map(|mount| mount.destination.as_str())
                    // Not among the mounts, for the engine.
                    .chain(inspected.host_config.tmpfs.keys().map(String::as_str))
                    .collect();
                let workdir = inspected.config.working_dir.as_str();
                probe.changed_files = count(&changes.unwrap_or_default(), &mounts, workdir);
            }
            Err(error) => probe.unknown.push(format!("writable layer: {}", error.message)),
        }
        if probe.changed_files > 0 {
            probe.changed_bytes = inspected.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        }
        for exec in &inspected.exec_ids {
            match self.client().get::<InspectedExec>(&format!("/exec/{exec}/json")).await {
                Ok(session) if session.running => probe.exec_sessions.push(session.process_config.line()),
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => probe.unknown.push(format!("exec session: {}", error.message)),
            }
        }
        if inspected.state.running || inspected.state.is_paused() {
            self.look_into_tmpfs(inspected.state.pid, &inspected.id, tmpfs, &mut probe).await;
        }
        Ok(probe)
    }

    async fn look_into_tmpfs(&self, pid: u32, id: &str, targets: &[PathBuf], probe: &mut ContainerProbe) {
        for target in targets {
            let counted = if self.facts().local && pid > 0 {
                let walked = target.clone();
                match tokio::task::spawn_blocking(move || kernel::usage(pid, &walked)).await {
                    Ok(Ok(counted)) => Ok(counted),
                    // Another user's namespace: the engine may look where we may not.
                    _ => self.archive_usage(id, target).await,
                }
            } else {
                self.archive_usage(id, target).await
            };
            match counted {
                Ok((0, _)) => {}
                Ok(counted) => drop(probe.tmpfs.insert(target.clone(), counted)),
                Err(error) => probe.unknown.push(format!("{}: {}", target.display(), error.message)),
            }
        }
    }

    /// Files and bytes below `target`, from the headers of the tar the engine makes of it.
    async fn archive_usage(&self, id: &str, target: &Path) -> Result<(u64, u64), BackendError> {
        let path = super::client::with_query(
            &format!("/containers/{}/archive", encode_name(id)),
            &[("path", &target.display().to_string())],
        );
        let body = self.client().call(hyper::Method::GET, &path, super::client::SLOW).await?;
        let unreadable = |error: std::io::Error| BackendError::new(ErrorKind::Failed, error.to_string());
        let mut archive = tar::Archive::new(body.as_ref());
        let (mut files, mut bytes) = (0, 0);
        for entry in archive.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if !entry.header().entry_type().is_dir() {
                files += 1;
                bytes += entry.size();
            }
        }
        Ok((files, bytes))
    }
}

/// The names that somebody holds.
fn held(found: Vec<(String, Option<String>)>) -> BTreeMap<String, String> {
    found.into_iter().filter_map(|(name, holder)| Some((name, holder?))).collect()
}

fn restart(inspected: &InspectedContainer) -> String {
    // Unset is "" on 4.3 and "no" on 5.x.
    let name = &inspected.host_config.restart_policy.name;
    if name.is_empty() { "no".to_owned() } else { name.clone() }
}

/// Paths that were added, changed or deleted by what ran inside.
///
/// A directory is listed when anything below it changed, and so are the directories made as mount points: only paths
/// that no other listed path lies below are counted, unless a mount does. The engine also makes a missing working
/// directory; as long as nothing is in it, nothing is lost with it.
fn count(changes: &[ChangedPath], mounts: &[&str], workdir: &str) -> u64 {
    let below =
        |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    paths.sort_unstable();
    let counted = changes.iter().filter(|change| {
        let path = change.path.as_str();
        let owned_by_engine = ENGINES_OWN.iter().any(|own| below(path, own));
        let in_mount = mounts.iter().any(|mount| below(path, mount));
        let leads_to_mount = mounts.iter().chain([&workdir]).any(|made| below(made, path))
            || ENGINES_OWN.iter().any(|own| below(own, path));
        let dir = format!("{path}/");
        let next = paths.partition_point(|other| *other < dir.as_str());
        let has_children = change.kind != 2 && paths.get(next).is_some_and(|other| other.starts_with(&dir));
        !owned_by_engine && !in_mount && !leads_to_mount && !has_children
    });
    counted.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ran_inside_counts() {
        let changes: Vec<ChangedPath> = [
            ("/etc", 0),
            ("/etc/passwd", 0),
            ("/run", 0),
            ("/run/sbx", 1),
            ("/home", 0),
            ("/home/me", 1),
            ("/home/me/work", 1),
            ("/var", 0),
            ("/var/lib", 0),
            ("/var/lib/x", 1),
            ("/var/lib/x/file", 1),
            ("/var/lib-2", 2),
        ]
        .map(|(path, kind)| ChangedPath { path: path.to_owned(), kind })
        .into_iter()
        .collect();
        assert_eq!(count(&changes, &["/home/me/work", "/run/sbx/init"], "/"), 2);
        assert_eq!(count(&changes[4..7], &[], "/home/me/work"), 0, "the working directory, empty");
        assert_eq!(count(&changes[4..7], &[], "/home/me"), 1, "and with something in it");
        assert_eq!(count(&[], &[], ""), 0);
    }
}
