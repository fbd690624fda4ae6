//! What tells engines apart: one text for everybody here who reaches the same one, however it is spelled.

use std::path::{Path, PathBuf};

use crate::caller::Directories;

/// The address of the engine that is called `url`; without a name it is the user's own.
///
/// # Guarantees
/// Whoever listens on a usual socket serves the user's own storage, and so does a service that is started for a run:
/// all of them have one address.
pub fn engine_address(url: Option<&str>, directories: &Directories) -> String {
    let own = || format!("user:{}", rustix::process::geteuid().as_raw());
    let Some(url) = url.filter(|url| !url.is_empty()) else { return own() };
    let Some(path) = url.strip_prefix("unix://") else { return url.to_owned() };
    let socket = canonical(Path::new(path));
    if usual_sockets(directories).iter().any(|usual| *usual == Path::new(path) || canonical(usual) == socket) {
        return own();
    }
    format!("unix://{}", socket.display())
}

/// `path` without links and detours, as far as it is there: an engine that does not run is still the same one.
fn canonical(path: &Path) -> PathBuf {
    let parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(parent).unwrap_or_else(|| path.to_owned())
}

/// Where this user's own engine listens, if it does.
fn usual_sockets(directories: &Directories) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let runtimes: Vec<PathBuf> = if uid == 0 {
        ["/run", "/var/run"].map(PathBuf::from).into()
    } else {
        directories.runtime.iter().cloned().chain([PathBuf::from(format!("/run/user/{uid}"))]).collect()
    };
    runtimes.into_iter().map(|runtime| runtime.join("podman/podman.sock")).collect()
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
        let directories = Directories { state: "/s".into(), data: "/d".into(), runtime: None };
        let of = |spelling: &str| engine_address(Some(&format!("unix://{}/{spelling}", root.display())), &directories);
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
        assert_eq!(engine_address(Some("ssh://me@box/s"), &directories), "ssh://me@box/s");
    }

    #[test]
    fn the_users_own_engine_is_one_however_it_is_reached() {
        let runtime = tempfile::tempdir().expect("a directory");
        let directories =
            Directories { state: "/s".into(), data: "/d".into(), runtime: Some(runtime.path().to_owned()) };
        let own = engine_address(None, &directories);
        assert_eq!(engine_address(Some(""), &directories), own);
        let socket = usual_sockets(&directories).remove(0);
        assert_eq!(engine_address(Some(&format!("unix://{}", socket.display())), &directories), own);
    }
}
