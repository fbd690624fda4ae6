//! Into the namespaces of another process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat, fstat, openat, stat};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, capabilities, configure_capability_in_ambient_set, move_into_link_name_space,
    set_capabilities, set_thread_res_gid, set_thread_res_uid,
};

use super::error::Refusal;
use super::{kernel, target};

/// The process whose network namespace we are in.
#[derive(Debug)]
pub struct Inside {
    pid: u32,
    pidfd: OwnedFd,
    directory: OwnedFd,
}

impl Inside {
    /// Its number, in our own process namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The name it gave itself.
    pub fn name(&self) -> Option<String> {
        let file = openat(&self.directory, "comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        io::read_to_string(fs::File::from(file)).ok().map(|text| text.trim_end().to_owned())
    }
}

/// Enters the network namespace of process `pid`, and the user namespace that this belongs to.
///
/// # Guarantees
/// It is the process of `pidfd`, which began at `started`: it lived on after its namespaces were opened through its
/// directory, which is never another process's. Our own network namespace, and that of the host's PID 1, are refused.
///
/// # Assumptions
/// The process has one thread.
pub fn enter(pid: u32, started: u64, pidfd: OwnedFd) -> Result<Inside, Refusal> {
    let gone = |_: io::Error| Refusal::Gone { pid };
    let directory = target::directory(pid).map_err(gone)?;
    if target::started(directory.as_fd()).map_err(gone)? != started {
        return Err(Refusal::Gone { pid });
    }
    let network = openat(&directory, "ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    if !target::is_alive(pidfd.as_fd()) {
        return Err(Refusal::Gone { pid });
    }
    let network = network.map_err(|error| Refusal::enter("open the sandbox's network namespace", error))?;
    refuse_shared(&network)?;

    let owner =
        kernel::owner(&network).map_err(|error| Refusal::enter("tell whose the network namespace is", error))?;
    let ours = identity(Path::new("/proc/self/ns/user"));
    if fstat(&owner).ok().map(|found| key(&found)) != ours || ours.is_none() {
        move_into_link_name_space(owner.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|error| Refusal::enter("enter the sandbox's user namespace", error))?;
        become_root()?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| Refusal::enter("enter the sandbox's network namespace", error))?;
    Ok(Inside { pid, pidfd, directory })
}

fn refuse_shared(network: &OwnedFd) -> Result<(), Refusal> {
    let found = fstat(network).map_err(|error| Refusal::enter("look at the sandbox's network namespace", error))?;
    // Without root the second cannot be looked at, and could not be entered either.
    for shared in ["/proc/self/ns/net", "/proc/1/ns/net"] {
        if identity(Path::new(shared)) == Some(key(&found)) {
            return Err(Refusal::SharedNetwork);
        }
    }
    Ok(())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    stat(path).ok().map(|found| key(&found))
}

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Makes the capabilities that entering gave survive an exec, for `nft`: as root of the user namespace they do by
/// themselves. Under keep-id nobody outside is root inside, but may become it; where there is no root at all, the one
/// capability is made ambient.
fn become_root() -> Result<(), Refusal> {
    let (user, group) = (Uid::ROOT, Gid::ROOT);
    // Nothing depends on the group.
    let _ = set_thread_res_gid(group, group, group);
    if set_thread_res_uid(user, user, user).is_ok() {
        return Ok(());
    }
    let ambient = || {
        let mut sets = capabilities(None)?;
        sets.inheritable |= CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets)?;
        configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)
    };
    ambient().map_err(|error| Refusal::enter("keep the capability to administer the sandbox's network", error))
}
