//! The last look before anything runs in a container: does every mount show what the plan has looked at?
//!
//! Engines take a bind's source by its path, and follow it when the container starts. Between the plan's look and that
//! moment whoever can write to a directory on the way may have put something else there. So a start is made in two
//! steps: the engine sets everything up, mounts and all, with the first process waiting; what is mounted is compared by
//! device and inode; only then does the process run.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use hyper::Method;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tokio::time::sleep;

use super::client::{SLOW, with_query};
use super::container::{LOOK_AGAIN, address};
use super::wire::InspectedContainer;
use super::{Podman, kernel};
use crate::backend::{BackendError, ErrorKind};
use crate::op::Entry;

/// What the engine calls a container whose first process waits.
const INITIALIZED: &str = "initialized";
/// How often a container is set up for a look. An engine cleans up once for each run that has ended.
const SET_UPS: u32 = 5;

impl Podman {
    /// Starts a container, once it is seen that it shows what the plan has looked at.
    ///
    /// # Guarantees
    /// When it is refused nothing has run in it, and it is stopped.
    ///
    /// # Caveats
    /// An engine on another machine, and a start that is not ours, are beyond this. An engine may be late with cleaning up
    /// after the last run, and take down what it has just set up: it is set up and looked at again. When that happens in
    /// the instant before the start, the look comes right after it.
    pub(crate) async fn enter_container(&self, container: &str, entries: &[Entry]) -> Result<(), BackendError> {
        if entries.is_empty() || !self.facts().local {
            return self.start_container(container).await;
        }
        for _ in 0..SET_UPS {
            let Some(pid) = self.set_up_to_wait(container).await? else {
                // It runs, or did: what it sees is no secret to it any more.
                return self.start_container(container).await;
            };
            let process = kernel::Process::of(pid);
            let looked = look(pid, entries).await;
            // As long as it lives it is what is set up: the engine need not be asked.
            if !process.as_ref().is_some_and(kernel::Process::lives) {
                sleep(LOOK_AGAIN).await;
                continue;
            }
            if let Err(refusal) = looked {
                self.stop_at_once(container).await?;
                return Err(refusal);
            }
            self.start_container(container).await?;
            if process.is_some_and(|process| process.lives()) {
                self.entered().insert(container.to_owned(), pid);
                return Ok(());
            }
            // It has ended, or the engine had to set it up once more in between.
            let started = self.reader().inspect(container).await?.state;
            if started.pid != pid
                && started.running
                && let Err(refusal) = look(started.pid, entries).await
            {
                self.stop_at_once(container).await?;
                return Err(refusal);
            }
            return Ok(());
        }
        Err(BackendError::new(ErrorKind::Transient, "the engine takes down again what it has set up"))
    }

    /// Has the engine set up everything but the first process, which waits; its number. `None` when it runs already.
    async fn set_up_to_wait(&self, container: &str) -> Result<Option<u32>, BackendError> {
        // 304, "is so already", is no failure.
        let made = self.client().call(Method::POST, &address(container, "/init"), SLOW).await;
        if let Err(failure) = &made
            && matches!(failure.kind, ErrorKind::NotFound | ErrorKind::Unreachable)
        {
            return Err(failure.clone());
        }
        let pid_files = &self.reader().shared.pid_files;
        if made.is_ok()
            && let Some(pid) = pid_files.first_process(container)
        {
            return Ok(Some(pid));
        }
        let InspectedContainer { id, state, pid_file, .. } = self.reader().inspect(container).await?;
        pid_files.learn(&id, &pid_file);
        match made {
            _ if state.status == INITIALIZED => Ok(Some(state.pid)),
            _ if state.running || state.is_paused() => Ok(None),
            // Taken down meanwhile; whoever looks will see.
            Ok(_) => Ok(Some(0)),
            Err(failure) => Err(failure),
        }
    }

    /// Numbers of first processes of containers that were started and not yet waited for.
    pub(super) fn entered(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.reader().shared.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stop_at_once(&self, container: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, "/stop"), &[("timeout", "0")]);
        self.client().call(Method::POST, &path, SLOW).await.map(drop)
    }
}

/// Whether the process `pid` sees what it should. Looking blocks.
async fn look(pid: u32, entries: &[Entry]) -> Result<(), BackendError> {
    let entries = entries.to_vec();
    let looked = tokio::task::spawn_blocking(move || check(pid, &entries)).await;
    looked.unwrap_or_else(|error| Err(BackendError::new(ErrorKind::Failed, error.to_string())))
}

/// Compares what the waiting process `pid` sees with `entries`.
///
/// # Errors
/// `Stale` when a source has been replaced since the plan looked at it, `Conflict` when something mounted below a
/// read-only source can be written.
fn check(pid: u32, entries: &[Entry]) -> Result<(), BackendError> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let root = open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        BackendError::new(ErrorKind::Failed, format!("what is mounted cannot be looked at: {error}"))
            .with_help("run sbx as the engine's user, or as root")
    })?;
    for entry in entries {
        same(&root, entry)?;
    }
    let here = table("/proc/self/mountinfo");
    let inside = table(&format!("/proc/{pid}/mountinfo"));
    match writable_below(entries, &here, &inside) {
        None => Ok(()),
        Some((source, target)) => {
            let message = format!(
                "{} is mounted on this host below a read-only source, and could be written at {}",
                source.display(),
                target.display()
            );
            Err(BackendError::new(ErrorKind::Conflict, message)
                .with_help("make the sandbox anew with `sbx apply --replace`: a new one shows it read-only"))
        }
    }
}

fn same(root: &OwnedFd, entry: &Entry) -> Result<(), BackendError> {
    let Entry { target, source: Some(source), .. } = entry else { return Ok(()) };
    match kernel::inside(root, target) {
        Ok(found) if found == (source.id.device, source.id.inode) => Ok(()),
        // Behind a directory of somebody else's, where whoever calls may not look, and the engine may.
        Err(Errno::ACCESS) => {
            tracing::debug!(target = %target.display(), "out of reach");
            Ok(())
        }
        Ok(_) | Err(_) => {
            let message = format!("{} is not what it was when the plan was made", source.path.display());
            Err(BackendError::new(ErrorKind::Stale, message)
                .with_help("find out who replaced it, then apply again; nothing has run with what is there now"))
        }
    }
}

/// A line of mountinfo: where, and whether it can be written.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    point: PathBuf,
    writable: bool,
}

fn table(path: &str) -> Vec<Mounted> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(mounted).collect()
}

fn mounted(line: &str) -> Option<Mounted> {
    let mut fields = line.split(' ');
    let point = kernel::unescape(fields.nth(4)?);
    let writable = fields.next()?.split(',').any(|option| option == "rw");
    Some(Mounted { point, writable })
}

/// A mount below a read-only source that is there inside and writable, though nothing asks for that: where it is on the
/// host, and inside.
fn writable_below(entries: &[Entry], here: &[Mounted], inside: &[Mounted]) -> Option<(PathBuf, PathBuf)> {
    for entry in entries.iter().filter(|entry| entry.read_only) {
        let Some(source) = &entry.source else { continue };
        let source = source.path.canonicalize().unwrap_or_else(|_| source.path.clone());
        for below in here.iter().filter(|mounted| mounted.point != source) {
            let Ok(rest) = below.point.strip_prefix(&source) else { continue };
            let target = entry.target.join(rest);
            let asked_for = |other: &&Entry| {
                target.starts_with(&other.target) && other.target.starts_with(&entry.target) && *other != entry
            };
            let covered = entries.iter().filter(asked_for).any(|other| !other.read_only);
            // The last one at a place is the one that is seen.
            let seen = inside.iter().rfind(|mounted| mounted.point == target);
            if seen.is_some_and(|mounted| mounted.writable) && !covered {
                return Some((below.point.clone(), target));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host_facts::FileId;
    use crate::op::Source;
    use crate::podman::fake::{Fake, inspected};

    fn entry(source: &str, target: &str, read_only: bool) -> Entry {
        let source = Source { path: source.into(), id: FileId { device: 1, inode: 1 } };
        Entry { target: target.into(), read_only, source: Some(source) }
    }

    fn mounts(points: &[(&str, bool)]) -> Vec<Mounted> {
        points.iter().map(|(point, writable)| Mounted { point: Path::new(point).into(), writable: *writable }).collect()
    }

    #[test]
    fn lines_are_read() {
        let line = r"36 35 98:0 /mnt1 /mnt2\0121 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(mounted(line), Some(Mounted { point: "/mnt2\n1".into(), writable: true }));
        let line = "36 35 98:0 / /a ro,noatime - ext3 /dev/root rw";
        assert_eq!(mounted(line), Some(Mounted { point: "/a".into(), writable: false }));
    }

    #[test]
    fn what_appears_below_a_read_only_source_is_read_only() {
        let here = mounts(&[("/", true), ("/not-there/data/new", true), ("/not-there/database", true)]);
        let read_only = [entry("/not-there/data", "/srv", true)];
        let found = writable_below(&read_only, &here, &mounts(&[("/srv", false), ("/srv/new", true)]));
        assert_eq!(found, Some(("/not-there/data/new".into(), "/srv/new".into())));
        // Beside it: read-only, not inside at all, or asked for, it is as it should be.
        for inside in [mounts(&[("/srv/new", true), ("/srv/new", false)]), mounts(&[("/srv", false)])] {
            assert_eq!(writable_below(&read_only, &here, &inside), None);
        }
        let asked = [entry("/not-there/data", "/srv", true), entry("/not-there/data/new", "/srv/new", false)];
        assert_eq!(writable_below(&asked, &here, &mounts(&[("/srv/new", true)])), None);
        let writable = [entry("/not-there/data", "/srv", false)];
        assert_eq!(writable_below(&writable, &here, &mounts(&[("/srv/new", true)])), None);
    }

    #[tokio::test]
    async fn what_was_taken_down_after_a_look_is_looked_at_again() {
        let id = FileId { device: 0, inode: 0 };
        let entries =
            [Entry { target: "/".into(), read_only: false, source: Some(Source { path: "/swapped".into(), id }) }];
        // It never stays set up: no process to look at, and nothing is started.
        let fake = Fake::start(|asked| match asked {
            "POST /containers/c/init" => Some((204, String::new())),
            _ => inspected("c", "c", "exited", "u"),
        })
        .await;
        let failure = fake.podman.enter_container("c", &entries).await.expect_err("gives up");
        assert_eq!(failure.kind, crate::backend::ErrorKind::Transient);
        assert!(fake.changes().iter().all(|asked| asked == "POST /containers/c/init"), "{:?}", fake.changes());
    }
}
