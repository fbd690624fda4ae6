//! Control groups, namespaces, SELinux.

use super::Finding;

/// The content of a file; `None` where it cannot be read.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn check(root: bool) -> Vec<Finding> {
    judge(root, &|path| std::fs::read_to_string(path).ok())
}

/// What is to be said of the kernel whose files `read` gives.
fn judge(root: bool, read: Read<'_>) -> Vec<Finding> {
    vec![cgroups(root, read), namespaces(root, read), selinux(read)]
}

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

fn cgroups(root: bool, read: Read<'_>) -> Finding {
    const CHECK: &str = "limits";
    const V2: &str = "boot with cgroup v2: systemd.unified_cgroup_hierarchy=1 on the kernel command line";
    const UNIFIED: &str = "/sys/fs/cgroup";
    let own = read("/proc/self/cgroup").unwrap_or_default();
    if let Some(of_all) = read(&format!("{UNIFIED}/cgroup.controllers")) {
        let there = if root {
            of_all
        } else {
            // What is delegated to this user is what the engine can use.
            let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
            read(&format!("{UNIFIED}{}/cgroup.controllers", path.trim_end_matches('/'))).unwrap_or_default()
        };
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
    let there = own.lines().filter_map(|line| line.split(':').nth(1)).collect::<Vec<_>>().join(",").replace(',', " ");
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

fn namespaces(root: bool, read: Read<'_>) -> Finding {
    const CHECK: &str = "user namespaces";
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Finding::error(CHECK, "the kernel allows none", "sysctl -w user.max_user_namespaces=28633");
    }
    // The rest is about who may make them without being root.
    if root {
        return Finding::ok(CHECK, "allowed");
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Finding::error(CHECK, "only root may make them", "sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return Finding::warning(
            CHECK,
            "AppArmor restricts them to programs with a profile",
            "use the distribution's own Podman, whose profile allows them",
        );
    }
    Finding::ok(CHECK, "allowed")
}

fn selinux(read: Read<'_>) -> Finding {
    const CHECK: &str = "SELinux";
    match read("/sys/fs/selinux/enforce").as_deref().map(str::trim) {
        Some("1") => Finding::warning(
            CHECK,
            "enforcing: a mount that is not labelled for containers cannot be read inside",
            "give mounts of your own `relabel: private` or `relabel: shared`; never relabel a directory the host shares",
        ),
        Some(_) => Finding::ok(CHECK, "permissive"),
        None => Finding::ok(CHECK, "not in use"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    /// What is said of `check` on a kernel with these files and no others.
    #[track_caller]
    fn said(check: &str, root: bool, files: &[(&str, &str)], level: Level, words: &[&str]) {
        let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        let findings = judge(root, &read);
        let finding = findings.iter().find(|finding| finding.check == check).expect("it is checked");
        assert_eq!((finding.level, finding.remedy.is_none()), (level, level == Level::Ok), "{finding:?}");
        let text = format!("{} {}", finding.message, finding.remedy.as_deref().unwrap_or_default());
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }

    #[test]
    fn limits() {
        let said = |root, files: &[(&str, &str)], level, words: &[&str]| said("limits", root, files, level, words);
        let all = ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        let some = ("/sys/fs/cgroup/cgroup.controllers", "cpuset memory\n");
        said(true, &[all], Level::Ok, &["cgroup v2"]);
        said(true, &[some], Level::Warning, &["cgroup v2, but cpu, pids cannot be limited", "cgroup_disable="]);

        let slice = "/sys/fs/cgroup/user.slice/user@1000.service/cgroup.controllers";
        let own = ("/proc/self/cgroup", "0::/user.slice/user@1000.service\n");
        said(false, &[all, own, (slice, "cpu memory pids")], Level::Ok, &["cgroup v2"]);
        said(false, &[all, own, (slice, "memory pids")], Level::Warning, &["but cpu cannot be limited", "Delegate="]);
        said(false, &[all, own], Level::Warning, &["cpu, memory, pids", "Delegate="]);
        // In a namespace of control groups, whose root is the own one.
        said(false, &[all, ("/proc/self/cgroup", "0::/\n")], Level::Ok, &["cgroup v2"]);

        let first = ("/proc/self/cgroup", "3:cpu,cpuacct:/a\n2:memory:/a\n1:pids:/a\n");
        said(true, &[first], Level::Ok, &["cgroup v1"]);
        let fewer = ("/proc/self/cgroup", "3:cpu,cpuacct:/a\n1:name=systemd:/a\n");
        said(true, &[fewer], Level::Warning, &["cgroup v1, and memory, pids cannot", "unified_cgroup_hierarchy=1"]);
        said(false, &[first], Level::Warning, &["without root nothing can be limited", "unified_cgroup_hierarchy=1"]);
    }

    #[test]
    fn user_namespaces() {
        let said = |root, files: &[(&str, &str)], level, words: &[&str]| {
            said("user namespaces", root, files, level, words);
        };
        let none = ("/proc/sys/user/max_user_namespaces", "0\n");
        let of_root = ("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
        let profiles = ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        for root in [true, false] {
            said(root, &[], Level::Ok, &["allowed"]);
            said(root, &[none], Level::Error, &["allows none", "sysctl -w user.max_user_namespaces"]);
        }
        said(true, &[of_root, profiles], Level::Ok, &["allowed"]);
        said(false, &[of_root], Level::Error, &["only root", "sysctl -w kernel.unprivileged_userns_clone=1"]);
        said(false, &[profiles], Level::Warning, &["AppArmor", "distribution's own Podman"]);
    }

    #[test]
    fn selinux() {
        let enforce = |text| [("/sys/fs/selinux/enforce", text)];
        said("SELinux", true, &enforce("1"), Level::Warning, &["enforcing", "relabel: private"]);
        said("SELinux", true, &enforce("0"), Level::Ok, &["permissive"]);
        said("SELinux", true, &[], Level::Ok, &["not in use"]);
    }
}
