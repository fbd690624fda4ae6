//! A child with all that it started, which ends when nobody waits for it any more.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// Kills a process group when dropped, whether its time was up or the run was interrupted.
pub(crate) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// That of `child`, which was started as the leader of one.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Kills nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Its leader was waited for: its number may be somebody else's by now.
    pub(crate) fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
