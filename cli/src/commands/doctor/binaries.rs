//! Programs that Podman and `sbx` call.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Finding;

/// Where distributions put programs that only Podman calls.
const HELPERS: [&str; 4] =
    ["/usr/libexec/podman", "/usr/lib/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman"];

pub(super) fn check(root: bool) -> Vec<Finding> {
    judge(root, &find, &version_of)
}

/// What is to be said of this host, where `find` knows programs by name and `version` what they say of themselves.
fn judge(
    root: bool,
    find: &dyn Fn(&str) -> Option<PathBuf>,
    version: &dyn Fn(&Path) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = vec![podman(find, version), git(find, version)];
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

fn podman(find: &dyn Fn(&str) -> Option<PathBuf>, version: &dyn Fn(&Path) -> Option<String>) -> Finding {
    const CHECK: &str = "podman";
    let Some(path) = find("podman") else {
        return Finding::error(CHECK, "not found", "install the package podman (4.3 or later)");
    };
    let Some(text) = version(&path) else {
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

fn git(find: &dyn Fn(&str) -> Option<PathBuf>, version: &dyn Fn(&Path) -> Option<String>) -> Finding {
    const CHECK: &str = "git";
    match find("git").and_then(|path| version(&path)) {
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
    use super::super::Level;
    use super::*;

    const ALL: [&str; 9] =
        ["podman", "git", "crun", "netavark", "aardvark-dns", "newuidmap", "newgidmap", "pasta", "runc"];

    /// Findings where only `there` is installed, and Podman says `version` of itself.
    fn judged(root: bool, there: &[&str], version: Option<&str>) -> Vec<Finding> {
        let find = |name: &str| there.contains(&name).then(|| Path::new("/usr/bin").join(name));
        let version = |path: &Path| {
            let text = if path.ends_with("podman") { version } else { Some("git version 2.39.5") };
            text.map(str::to_owned)
        };
        judge(root, &find, &version)
    }

    #[test]
    fn what_is_missing_is_named_with_the_package_that_has_it() {
        let without = |names: &[&str]| -> Vec<&str> { ALL.into_iter().filter(|name| !names.contains(name)).collect() };
        for (missing, check, level, words) in [
            (&["podman"][..], "podman", Level::Error, ["not found", "package podman"]),
            (&["git"], "git", Level::Warning, ["`worktrees:` will not work", "package git"]),
            (&["crun", "runc"], "runtime", Level::Error, ["neither crun nor runc", "crun or runc"]),
            (&["netavark"], "netavark", Level::Warning, ["`networks:`", "package netavark"]),
            (&["aardvark-dns"], "aardvark-dns", Level::Warning, ["`networks:`", "package aardvark-dns"]),
            (&["newuidmap"], "newuidmap", Level::Error, ["cannot run without root", "package uidmap"]),
            (&["newgidmap"], "newgidmap", Level::Error, ["cannot run without root", "package uidmap"]),
            (&["pasta"], "user network", Level::Warning, ["`egress: open`", "passt or slirp4netns"]),
        ] {
            let findings = judged(false, &without(missing), Some("podman version 5.4.2"));
            let bad: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
            assert_eq!(bad.len(), 1, "{missing:?}: {bad:?}");
            assert_eq!((bad[0].check, bad[0].level), (check, level));
            let text = format!("{} {}", bad[0].message, bad[0].remedy.as_deref().unwrap_or_default());
            assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        }
        // One of two is enough, and what only users without root need root does not miss.
        let fine = |root, missing: &[&str]| {
            let findings = judged(root, &without(missing), Some("podman version 4.3.1"));
            assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        };
        fine(false, &["crun"]);
        fine(false, &["runc"]);
        fine(true, &["newuidmap", "newgidmap", "pasta"]);
    }

    #[test]
    fn a_podman_that_is_too_old_or_broken_is_an_error() {
        for (version, words) in [
            (Some("podman version 3.4.4"), ["3.4.4 is too old", "4.3 or later"]),
            (Some("podman version 4.2.0"), ["4.2.0 is too old", "4.3 or later"]),
            (Some("something else"), ["is too old", "4.3 or later"]),
            (None, ["/usr/bin/podman does not tell its version", "podman version"]),
        ] {
            let finding = judged(true, &ALL, version).swap_remove(0);
            assert_eq!((finding.check, finding.level), ("podman", Level::Error));
            let text = format!("{} {}", finding.message, finding.remedy.unwrap_or_default());
            assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(numbers("podman version 4.3.1"), Some((4, 3)));
        assert_eq!(numbers("podman version 5.4.2-dev"), Some((5, 4)));
        assert_eq!(numbers("podman"), None);
    }
}
