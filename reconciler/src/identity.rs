//! Acting as the person who called `sudo`.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::sync::{mpsc, oneshot};

/// Whose files the ones made on the host are, when that is not the user of this process.
///
/// # Guarantees
/// Work done through it runs on a thread with this user's ids and no capability: what it makes is theirs, what it starts
/// runs as them, and no link they left leads it to where they could not go themselves. The rest of the process keeps its
/// ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Carries words from the thread to whoever waits for it.
pub(crate) type Words = Arc<dyn Fn(&str) + Send + Sync>;

impl Identity {
    /// Does `work` and waits for it.
    ///
    /// # Errors
    /// When this process may not take the ids; `work` was not begun.
    pub fn act<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("identity".into()).spawn_scoped(scope, || {
                self.assume()?;
                Ok(work())
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs the future of `work` to its end; dropping this one drops that. Words given to `work` reach `tell`.
    pub(crate) async fn attend<T, F>(
        &self,
        tell: &(dyn Fn(&str) + Send + Sync),
        work: impl FnOnce(Words) -> F + Send + 'static,
    ) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let (words, mut heard) = mpsc::unbounded_channel::<String>();
        let (mut done, result) = oneshot::channel();
        let identity = self.clone();
        std::thread::Builder::new().name("identity".into()).spawn(move || {
            let begun =
                identity.assume().and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            let runtime = match begun {
                Ok(runtime) => runtime,
                Err(error) => return drop(done.send(Err(error))),
            };
            let words: Words = Arc::new(move |text| drop(words.send(text.to_owned())));
            let result = runtime.block_on(async {
                tokio::select! {
                    result = work(words) => Some(result),
                    () = done.closed() => None,
                }
            });
            if let Some(result) = result {
                let _ = done.send(Ok(result));
            }
        })?;
        // Ends when the thread lets go of its side, whichever way its work ended.
        while let Some(text) = heard.recv().await {
            tell(&text);
        }
        result.await.unwrap_or_else(|_| Err(io::Error::other("the work ended without a result")))
    }

    /// Gives the calling thread these ids, for good. These are the kernel's calls, which concern one thread only; the C
    /// library's would change all.
    fn assume(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups)
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
            .map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &dyn Display) -> io::Error {
        io::Error::other(format!("cannot act as user {}: {error}", self.uid))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::Mutex;

    use super::*;

    const ALICE: Identity = Identity { uid: 11_000, gid: 11_001, groups: Vec::new() };

    /// Only root can be somebody else.
    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn what_is_made_is_theirs_and_what_they_may_not_is_refused() {
        if !is_root() {
            assert!(ALICE.act(|| ()).is_err());
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("set");
        let file = dir.path().join("file");
        ALICE.act(|| std::fs::write(&file, "")).expect("acted").expect("written");
        let metadata = std::fs::metadata(&file).expect("there");
        assert_eq!((metadata.uid(), metadata.gid()), (11_000, 11_001));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        ALICE.act(|| std::fs::write(dir.path().join("other"), "")).expect("acted").expect_err("not theirs");
        // This thread is who it was.
        std::fs::write(dir.path().join("other"), "").expect("written");
    }

    #[tokio::test]
    async fn children_run_as_them_and_words_arrive() {
        if !is_root() {
            return;
        }
        let heard = Mutex::new(Vec::new());
        let tell = |text: &str| heard.lock().expect("one thread").push(text.to_owned());
        let said = ALICE
            .attend(&tell, |words| async move {
                words("one");
                tokio::process::Command::new("id").arg("-u").output().await
            })
            .await
            .expect("acted")
            .expect("started");
        assert_eq!(said.stdout, b"11000\n");
        assert_eq!(*heard.lock().expect("one thread"), ["one"]);
    }
}
