//! Whether an engine listens.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Finding;
use crate::caller::{Directories, Person, engine_sockets, variable};

const CHECK: &str = "engine";

pub(super) fn check(url: Option<&str>, person: &Person, directories: &Directories) -> Vec<Finding> {
    let url = url.map(str::to_owned).or_else(|| variable("CONTAINER_HOST"));
    let finding = match url.as_deref() {
        Some(url) => match url.strip_prefix("unix://") {
            Some(path) => named(Path::new(path)),
            None => Finding::ok(CHECK, format!("{url} (not tried)")),
        },
        None => found(person, directories),
    };
    vec![finding]
}

fn named(path: &Path) -> Finding {
    match UnixStream::connect(path) {
        Ok(_) => Finding::ok(CHECK, format!("{} answers", path.display())),
        Err(error) => Finding::error(
            CHECK,
            format!("{}: {}", path.display(), crate::failure::io_text(&error)),
            "start it with `podman system service -t 0`, or leave --engine-url and CONTAINER_HOST out",
        ),
    }
}

fn found(person: &Person, directories: &Directories) -> Finding {
    let sockets: Vec<_> = engine_sockets(person, directories)
        .into_iter()
        .filter(|socket| socket.file_name().is_some_and(|name| name == "podman.sock"))
        .collect();
    match sockets.iter().find(|socket| UnixStream::connect(socket).is_ok()) {
        Some(socket) => Finding::ok(CHECK, format!("{} answers", socket.display())),
        // Nothing is wrong: a service is started for every run. It only takes a little longer.
        None => Finding::ok(
            CHECK,
            "no socket answers; sbx starts the API service for each run (`systemctl --user enable --now podman.socket` saves that time)",
        ),
    }
}
