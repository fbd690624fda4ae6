//! Letting a sandbox out for a while, to learn what it needs.

use std::time::Duration;

use jiff::Timestamp;

use super::Daemon;
use super::table::{Phase, refresh};
use super::world::Key;

/// Longest that anybody may learn.
pub const LONGEST: Duration = Duration::from_hours(24);
/// How long flows that end with it may take until they are recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether they are.
const LOOK: Duration = Duration::from_millis(10);

/// A sandbox that is let out for as long as this lives.
///
/// # Guarantees
/// When it is dropped, however that comes, the policy alone is in force again, and what it does not allow is cut.
pub struct Learning {
    daemon: Daemon,
    key: Key,
    /// When it has to end.
    pub until: Timestamp,
}

impl Daemon {
    /// Lets a sandbox out that is served.
    ///
    /// # Errors
    /// Says why it cannot be.
    pub fn learn(&self, project: &str, sandbox: &str, most: Duration) -> Result<Learning, String> {
        let key = (project.to_owned(), sandbox.to_owned());
        if most > LONGEST {
            return Err(format!("nobody learns for longer than {} h at once", LONGEST.as_secs() / 3600));
        }
        let until = Timestamp::now().checked_add(most).map_err(|error| error.to_string())?;
        let mut table = self.table();
        if table.frozen.is_some() {
            return Err("the daemon is being replaced".to_owned());
        }
        let served = table.entries.values().any(|entry| {
            entry.running.project == key.0 && entry.running.sandbox == key.1 && matches!(entry.phase, Phase::Served(_))
        });
        if !served {
            return Err(format!("the daemon does not serve sandbox {sandbox}"));
        }
        if table.learning.contains_key(&key) {
            return Err(format!("somebody learns about sandbox {sandbox} already"));
        }
        table.learning.insert(key.clone(), until);
        drop(table);
        tracing::warn!(project, sandbox, %until, "let out to learn: all that no deny rule is about is allowed");
        let learning = Learning { daemon: self.clone(), key, until };
        learning.daemon.renew(&learning.key);
        Ok(learning)
    }

    /// Puts what now holds for a sandbox in force.
    fn renew(&self, key: &Key) {
        let mut table = self.table();
        let about = |id: &&String| {
            let running = &table.entries[*id].running;
            running.project == key.0 && running.sandbox == key.1
        };
        let ids: Vec<String> = table.entries.keys().filter(about).cloned().collect();
        for id in ids {
            refresh(&mut table, &id, &self.shared.recorder);
        }
        drop(table);
        self.change();
    }

    /// Open flows of a sandbox that what is in force does not allow: they are about to end.
    fn ending(&self, key: &Key) -> usize {
        let table = self.table();
        let policy = table.policies.get(key).and_then(|stored| serde_json::from_str(&stored.text).ok());
        drop(table);
        policy.map_or(0, |policy| self.would_cut(&key.0, &key.1, &policy).len())
    }
}

impl Learning {
    /// Ends it, and waits until everything that was learned is recorded.
    pub async fn end(self) {
        let (daemon, key) = (self.daemon.clone(), self.key.clone());
        drop(self);
        let recorded = async {
            while daemon.ending(&key) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Whatever has not ended by then is told without its last bytes, or not at all.
        let _ = tokio::time::timeout(RECORDED_WITHIN, recorded).await;
        daemon.shared.recorder.flush().await;
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.daemon.table().learning.remove(&self.key);
        self.daemon.renew(&self.key);
        tracing::info!(project = self.key.0, sandbox = self.key.1, "learned: the policy alone holds again");
    }
}

impl std::fmt::Debug for Learning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learning").field("key", &self.key).field("until", &self.until).finish_non_exhaustive()
    }
}
