//! Entering the namespaces of an engine.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Open handles on the mount, network and pid namespaces of an engine, and on the network at the far end of its uplink.
pub struct Namespaces {
    mount: File,
    network: File,
    pid: File,
    outside: File,
}

impl Namespaces {
    /// Those that process `pid` (an `unshare --fork`) made for its child. `outside` is the far network's path in there.
    pub fn made_by(pid: u32, outside: &Path) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/ns/{name}"));
        let (mount, network, pid) = (open("mnt")?, open("net")?, open("pid_for_children")?);
        // The mount namespace in which it has a path has to be entered first.
        let mut namespaces = Self { outside: network.try_clone()?, mount, network, pid };
        namespaces.outside = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                namespaces.enter()?;
                File::open(outside)
            });
            thread.join().expect("the opening thread does not panic")
        })?;
        Ok(namespaces)
    }

    /// Starts a command as a direct child of this process, inside. Its id, seen from here, is that of the command
    /// itself, so a signal sent to it reaches nothing in between.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        std::thread::scope(|scope| {
            // A thread of its own: it stays in these namespaces and ends with the call.
            let thread = scope.spawn(|| {
                self.enter()?;
                command.spawn()
            });
            thread.join().expect("the spawning thread does not panic")
        })
    }

    /// Runs `make` in the network of the engine only; what it opens there stays there.
    pub fn within_network<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        within(&self.network, make)
    }

    /// The same in the network at the far end of the engine's uplink: on another machine, to the engine.
    pub fn outside<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        within(&self.outside, make)
    }

    fn enter(&self) -> io::Result<()> {
        // SAFETY: the flag leaves the descriptor table shared; only the working directory becomes this thread's own,
        // which entering a mount namespace demands.
        #[allow(unsafe_code, reason = "rustix marks every flag of unshare unsafe because of one that is not used here")]
        unsafe {
            unshare_unsafe(UnshareFlags::FS)?;
        }
        move_into_link_name_space(self.pid.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(self.mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    }
}

fn within<T: Send>(network: &File, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        });
        thread.join().expect("the opening thread does not panic")
    })
}
