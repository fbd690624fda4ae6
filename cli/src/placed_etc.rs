//! Files below `/etc` that sandboxes have from us, and directories for their sockets, on this host.

use std::path::Path;

use reconciler::data::SOCKETS;
use reconciler::kinds::container::{self, etc};
use reconciler::resource::Naming;
use schema::Config;
use schema::config::Image;

use crate::failure::Failure;
use crate::placed;

/// Those of every sandbox of `config`, under `data`. Sandboxes that run keep theirs: other content has another name.
pub fn place(data: &Path, config: &Config) -> Result<(), Failure> {
    for file in config.sandboxes.values().flat_map(etc::files) {
        placed::place(&file.path(data), file.text.as_bytes(), 0o644)?;
    }
    let set_up = |image: &Image| matches!(image, Image::Setup { egress, .. } if !egress.policy.allow.is_empty());
    if config.images.values().any(set_up) {
        let file = etc::resolv_conf();
        placed::place(&file.path(data), file.text.as_bytes(), 0o644)?;
    }
    let naming = Naming::new(config.project.as_str());
    let directories = config.sandboxes.values().filter_map(|sandbox| container::sockets(&naming, data, sandbox));
    for directory in directories {
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::io(format!("cannot make {}", directory.display()), &error))?;
    }
    Ok(())
}

/// Removes the directories for sockets of all sandboxes of `project`.
pub fn remove_sockets(data: &Path, project: &str) -> Result<(), Failure> {
    let directory = data.join(SOCKETS);
    // Of no other project: names have no `_`.
    let prefix = Naming::new(project).object("");
    let own = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    for entry in entries.filter(own) {
        std::fs::remove_dir_all(entry.path())
            .map_err(|error| Failure::io(format!("remove {}", entry.path().display()), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::example;

    fn config(egress: &str) -> Config {
        example::config(&format!("sandboxes:\n  api: {{ image: host, egress: {egress} }}\n"))
    }

    #[test]
    fn are_there_for_sandboxes_behind_a_policy() {
        for (egress, count) in [
            ("{ mode: allowlist }", 3),
            ("{ mode: allowlist, allow: [{ host: example.com }] }", 3),
            ("{ mode: direct }", 3),
            ("{ mode: none }", 0),
            ("{ mode: open }", 0),
        ] {
            let data = tempfile::tempdir().expect("a directory");
            let config = config(egress);
            place(data.path(), &config).expect("placed");
            let files: Vec<_> = config.sandboxes.values().flat_map(etc::files).collect();
            assert_eq!(files.len(), count, "{egress}");
            for file in files {
                let path = file.path(data.path());
                assert_eq!(std::fs::read_to_string(&path).expect("there"), file.text);
                assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
            }
        }
    }

    #[test]
    fn directories_for_sockets_go_with_their_project() {
        let data = tempfile::tempdir().expect("a directory");
        let config = config("{ transport: socket, allow: [{ host: example.com }] }");
        remove_sockets(data.path(), "acme").expect("there are none");
        place(data.path(), &config).expect("placed");
        let other = data.path().join("sockets/acme2_api");
        std::fs::create_dir(&other).expect("made");
        std::fs::write(data.path().join("sockets/acme_api/egress.sock"), "").expect("written");
        remove_sockets(data.path(), "acme").expect("removed");
        assert!(other.exists() && !data.path().join("sockets/acme_api").exists());
    }

    /// Both crates say the same without knowing of each other.
    #[test]
    fn the_resolver_is_the_one_that_answers() {
        let config = config("{}");
        let files: Vec<_> = config.sandboxes.values().flat_map(etc::files).collect();
        let (v4, v6) = (egress::synthetic::RESOLVER_V4, egress::synthetic::RESOLVER_V6);
        assert_eq!(files[0].text, format!("nameserver {v4}\nnameserver {v6}\n"));
        assert_eq!(reconciler::kinds::policy::LISTENER, egress::attach::TCP_PORT);
        assert!(container::SOCKET.starts_with("/run/sbx/") && egress::attach::socket_door::NAME == "egress.sock");
    }
}
