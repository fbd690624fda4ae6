//! What tells engines apart, from the side of the command line.

use std::path::PathBuf;

use reconciler::podman::address;

use crate::caller::Directories;

/// The address of the engine that is called `url`; without a name it is the user's own. See [`address`].
pub fn engine_address(url: Option<&str>, directories: &Directories) -> String {
    address(url, &own_sockets(directories))
}

/// Where this user's own engine listens, if it does.
pub fn own_sockets(directories: &Directories) -> Vec<PathBuf> {
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
    use super::*;

    #[test]
    fn the_users_own_engine_is_one_however_it_is_reached() {
        let runtime = tempfile::tempdir().expect("a directory");
        let directories = Directories {
            state: "/s".into(),
            state_is_named: false,
            data: "/d".into(),
            runtime: Some(runtime.path().to_owned()),
        };
        let own = engine_address(None, &directories);
        let socket = own_sockets(&directories).remove(0);
        assert_eq!(engine_address(Some(&format!("unix://{}", socket.display())), &directories), own);
    }
}
