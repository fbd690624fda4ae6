//! Programs that Podman and `sbx` call.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Finding;

/// Where distributions put programs that only Podman calls.
const HELPERS: [&str; 4] =
    ["/usr/libexec/podman", "/usr/lib/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman"];

pub(super) fn check(root: bool) -> Vec<Finding> {
    let mut findings = vec![podman(), git()];
    findings.push(match ["crun", "runc"].into_iter().find_map(find) {
        Some(path) => Finding::ok("runtime", path.display().to_string()),
        None => Finding::error("runtime", "neither crun nor runc is installed", "install the package crun or runc"),
    });
    for (name, package) in [("netavark", "netavark"), ("aardvark-dns", "aardvark-dns")] {
        findings.push(match find(name) {
            Some(path) => Finding::ok(name, path.display().to_string()),
            None => Finding::warning(
                name,
                "not found: `networks:` and `egress: open` will not work",
                format!("install the package {package}"),
            ),
        });
    }
    if !root {
        for name in ["newuidmap", "newgidmap"] {
            findings.push(match find(name) {
                Some(path) => Finding::ok(name, path.display().to_string()),
                None => Finding::error(
                    name,
                    "not found: Podman cannot run without root",
                    "install the package uidmap (shadow-utils)",
                ),
            });
        }
        findings.push(match ["pasta", "slirp4netns"].into_iter().find_map(find) {
            Some(path) => Finding::ok("user network", path.display().to_string()),
            None => Finding::warning(
                "user network",
                "neither pasta nor slirp4netns is installed: `egress: open` will not work",
                "install the package passt or slirp4netns",
            ),
        });
    }
    findings
}

fn podman() -> Finding {
    const CHECK: &str = "podman";
    let Some(path) = find("podman") else {
        return Finding::error(CHECK, "not found", "install the package podman (4.3 or later)");
    };
    let Some(text) = version_of(&path) else {
        return Finding::error(
            CHECK,
            format!("{} does not tell its version", path.display()),
            "run `podman version` and repair what it reports",
        );
    };
    match numbers(&text) {
        Some(version) if version >= (4, 3) => Finding::ok(CHECK, text),
        _ => Finding::error(CHECK, format!("{text} is too old"), "install Podman 4.3 or later"),
    }
}

fn git() -> Finding {
    const CHECK: &str = "git";
    match find("git").and_then(|path| version_of(&path)) {
        Some(text) => Finding::ok(CHECK, text),
        None => Finding::warning(CHECK, "not found: `worktrees:` will not work", "install the package git"),
    }
}

fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// The first two numbers of `podman version 4.3.1`.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = word.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn find(program: &str) -> Option<PathBuf> {
    // Administrators' programs are often not in a user's PATH, and Podman finds them all the same.
    let more = HELPERS.into_iter().chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]).map(PathBuf::from);
    crate::caller::search_path()
        .into_iter()
        .chain(more)
        .map(|directory| directory.join(program))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(numbers("podman version 4.3.1"), Some((4, 3)));
        assert_eq!(numbers("podman version 5.4.2-dev"), Some((5, 4)));
        assert_eq!(numbers("podman"), None);
    }
}
