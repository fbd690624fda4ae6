//! What tells engines apart: one text for everybody here who reaches the same one, however it is spelled.

use std::path::{Path, PathBuf};

use super::Origin;

/// The address of the engine that is called `url`; without a name it is the user's own, which listens, if it does, on one
/// of the sockets `own`.
///
/// # Guarantees
/// Whoever listens on a usual socket serves the user's own storage, and so does a service that is started for a run:
/// all of them have one address.
pub fn address(url: Option<&str>, own: &[PathBuf]) -> String {
    let users = || format!("user:{}", rustix::process::geteuid().as_raw());
    let Some(url) = url.filter(|url| !url.is_empty()) else { return users() };
    let Some(path) = url.strip_prefix("unix://") else { return url.to_owned() };
    let socket = canonical(Path::new(path));
    if own.iter().any(|usual| *usual == Path::new(path) || canonical(usual) == socket) {
        return users();
    }
    format!("unix://{}", socket.display())
}

impl Origin {
    /// The address of the engine that was found like this.
    pub(super) fn address(&self, own: &[PathBuf]) -> String {
        match self {
            Self::Named(url) => address(Some(url), own),
            Self::Found(path) => address(Some(&format!("unix://{}", path.display())), own),
            // Its socket is this run's own, the storage it serves is the user's.
            Self::Started => address(None, own),
        }
    }
}

/// `path` without links and detours, as far as it is there: an engine that does not run is still the same one.
fn canonical(path: &Path) -> PathBuf {
    let parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(parent).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_spelling_of_a_socket_is_one_engine() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it is there");
        let real = root.join("real");
        std::fs::create_dir(&real).expect("made");
        symlink(&real, root.join("link")).expect("made");
        let of = |spelling: &str| address(Some(&format!("unix://{}/{spelling}", root.display())), &[]);
        let expected = format!("unix://{}/real/podman.sock", root.display());
        // Whether it is there yet or not.
        for _ in 0..2 {
            for spelling in ["real/podman.sock", "link/podman.sock", "link/../real/./podman.sock", "/real//podman.sock"]
            {
                assert_eq!(of(spelling), expected, "{spelling}");
            }
            std::fs::write(real.join("podman.sock"), "").expect("written");
        }
        symlink(real.join("podman.sock"), root.join("alias.sock")).expect("made");
        assert_eq!(of("alias.sock"), expected);
        assert_ne!(of("real/other.sock"), expected);
        assert_eq!(address(Some("ssh://me@box/s"), &[]), "ssh://me@box/s");
    }

    #[test]
    fn the_users_own_engine_is_one_however_it_is_reached() {
        let own = PathBuf::from("/run/user/7/podman/podman.sock");
        let of = |origin: Origin| origin.address(std::slice::from_ref(&own));
        let expected = address(None, &[]);
        assert_eq!(address(Some(""), &[]), expected);
        // Two runs that each started a service of their own, and two that met one.
        assert_eq!(of(Origin::Started), expected);
        assert_eq!(of(Origin::Found(own.clone())), expected);
        assert_eq!(of(Origin::Named(format!("unix://{}", own.display()))), expected);
        assert_ne!(of(Origin::Found("/run/podman/podman.sock".into())), expected, "the system's is another one");
    }
}
