//! Control groups, namespaces, SELinux.

use std::path::Path;

use super::Finding;

pub(super) fn check(root: bool) -> Vec<Finding> {
    vec![cgroups(root), namespaces(root), selinux()]
}

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

fn cgroups(root: bool) -> Finding {
    const CHECK: &str = "limits";
    const V2: &str = "boot with cgroup v2: systemd.unified_cgroup_hierarchy=1 on the kernel command line";
    let unified = Path::new("/sys/fs/cgroup");
    if unified.join("cgroup.controllers").exists() {
        let directory = if root { unified.to_path_buf() } else { own_cgroup(unified) };
        let there = std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        let missing = missing(&there);
        if missing.is_empty() {
            return Finding::ok(CHECK, "cgroup v2; cpu, memory and pids can be limited");
        }
        let remedy = if root {
            String::from("enable the controllers in the kernel: remove cgroup_disable= from its command line")
        } else {
            String::from("let systemd delegate them: Delegate=cpu memory pids for user@.service, then log in again")
        };
        return Finding::warning(CHECK, format!("cgroup v2, but {missing} cannot be limited"), remedy);
    }
    if !root {
        return Finding::warning(CHECK, "cgroup v1: without root nothing can be limited", V2);
    }
    let mounted = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let there =
        mounted.lines().filter_map(|line| line.split(':').nth(1)).collect::<Vec<_>>().join(",").replace(',', " ");
    let missing = missing(&there);
    if missing.is_empty() {
        Finding::ok(CHECK, "cgroup v1; cpu, memory and pids can be limited")
    } else {
        Finding::warning(CHECK, format!("cgroup v1, and {missing} cannot be limited"), V2)
    }
}

fn missing(controllers: &str) -> String {
    let there: Vec<&str> = controllers.split_whitespace().collect();
    CONTROLLERS.into_iter().filter(|name| !there.contains(name)).collect::<Vec<_>>().join(", ")
}

/// What is delegated to this user is what the engine can use.
fn own_cgroup(unified: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    unified.join(path)
}

fn namespaces(root: bool) -> Finding {
    const CHECK: &str = "user namespaces";
    let setting = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return Finding::error(CHECK, "the kernel allows none", "sysctl -w user.max_user_namespaces=28633");
    }
    // The rest is about who may make them without being root.
    if root {
        return Finding::ok(CHECK, "allowed");
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return Finding::error(CHECK, "only root may make them", "sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return Finding::warning(
            CHECK,
            "AppArmor restricts them to programs with a profile",
            "use the distribution's own Podman, whose profile allows them",
        );
    }
    Finding::ok(CHECK, "allowed")
}

fn selinux() -> Finding {
    const CHECK: &str = "SELinux";
    match std::fs::read_to_string("/sys/fs/selinux/enforce").as_deref().map(str::trim) {
        Ok("1") => Finding::warning(
            CHECK,
            "enforcing: a mount that is not labelled for containers cannot be read inside",
            "give mounts of your own `relabel: private` or `relabel: shared`; never relabel a directory the host shares",
        ),
        Ok(_) => Finding::ok(CHECK, "permissive"),
        Err(_) => Finding::ok(CHECK, "not in use"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_the_controllers_that_are_missing() {
        assert_eq!(super::missing("cpuset cpu io memory pids"), "");
        assert_eq!(super::missing("cpuset memory"), "cpu, pids");
    }
}
