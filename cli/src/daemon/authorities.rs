//! The certificate authorities of the projects that are served: read when the first of their sandboxes comes, and again
//! when somebody has made another one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use egress::shared::Shared;

use crate::trust::{Stamp, TrustPlace, Trusted, stamp};

/// How often the end of an authority, and whom this host trusts, are looked at.
const AGAIN: Duration = Duration::from_hours(24);

/// Gives the data path the authority of each project that it serves.
#[derive(Debug)]
pub struct Authorities {
    data: PathBuf,
    shared: Arc<Shared>,
    known: Mutex<HashMap<String, Known>>,
}

/// As long as it is held, the project is served.
#[derive(Debug)]
pub struct Lease;

#[derive(Debug)]
struct Known {
    lease: Weak<Lease>,
    /// Which file it was read from.
    file: Option<Stamp>,
    looked: Instant,
}

impl Authorities {
    /// Those below `data`, for `shared`.
    pub fn new(data: PathBuf, shared: Arc<Shared>) -> Self {
        Self { data, shared, known: Mutex::default() }
    }

    /// What is shared with the data path.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Has the TLS of `project` end by its authority while the lease lives.
    ///
    /// Without one nothing is served less, but what has to be looked into is refused; it is tried again.
    pub fn lease(&self, project: &str) -> Arc<Lease> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = known.get(project).and_then(|known| known.lease.upgrade()) {
            return lease;
        }
        let lease = Arc::new(Lease);
        let file = self.load(project);
        known.insert(project.to_owned(), Known { lease: Arc::downgrade(&lease), file, looked: Instant::now() });
        lease
    }

    /// Reads again what has changed, and forgets who is served no more.
    pub fn refresh(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|project, known| {
            let served = known.lease.strong_count() > 0;
            if !served {
                self.shared.web.remove_authority(project);
            }
            served
        });
        for (project, known) in known.iter_mut() {
            let now = stamp(&TrustPlace::new(&self.data, project).authority());
            if now.is_none() || now != known.file || known.looked.elapsed() > AGAIN {
                known.file = self.load(project);
                known.looked = Instant::now();
            }
        }
    }

    fn load(&self, project: &str) -> Option<Stamp> {
        let place = TrustPlace::new(&self.data, project);
        match place.ensure() {
            Ok(Trusted { authority, renewed }) => {
                if let Some(why) = renewed {
                    tracing::warn!(project, why, "its certificate authority was made anew: start its sandboxes again");
                }
                self.shared.web.set_authority(project, Arc::new(authority));
                stamp(&place.authority())
            }
            Err(failure) => {
                tracing::warn!(project, why = failure.message, "no certificate authority: nothing is looked into");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(authorities: &Authorities, project: &str) -> Option<String> {
        authorities.shared.web.authority(project).map(|authority| authority.certificate_pem().to_owned())
    }

    #[test]
    fn another_one_is_taken_up_and_nobodys_is_forgotten() {
        let data = tempfile::tempdir().expect("a directory");
        let authorities = Authorities::new(data.path().to_owned(), Arc::default());
        let lease = authorities.lease("acme");
        let first = certificate(&authorities, "acme").expect("there");
        let place = TrustPlace::new(data.path(), "acme");
        authorities.refresh();
        assert_eq!(certificate(&authorities, "acme").as_ref(), Some(&first));

        std::fs::remove_file(place.authority()).expect("removed");
        let made = place.ensure().expect("made by somebody else").authority.certificate_pem().to_owned();
        authorities.refresh();
        assert_eq!(certificate(&authorities, "acme"), Some(made.clone()));
        assert_ne!(made, first);

        std::fs::remove_file(place.authority()).expect("removed");
        authorities.refresh();
        assert_ne!(certificate(&authorities, "acme"), Some(made), "made here");
        assert!(place.authority().exists());

        assert!(Arc::ptr_eq(&lease, &authorities.lease("acme")));
        drop(lease);
        authorities.refresh();
        assert_eq!(certificate(&authorities, "acme"), None);
    }
}
