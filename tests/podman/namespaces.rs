//! Entering the namespaces of an engine.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Open handles on the mount, network and pid namespaces of an engine.
pub struct Namespaces {
    mount: File,
    network: File,
    pid: File,
}

impl Namespaces {
    /// Those that process `pid` (an `unshare --fork`) made for its child.
    pub fn made_by(pid: u32) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/ns/{name}"));
        Ok(Self { mount: open("mnt")?, network: open("net")?, pid: open("pid_for_children")? })
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
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
                make()
            });
            thread.join().expect("the opening thread does not panic")
        })
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
