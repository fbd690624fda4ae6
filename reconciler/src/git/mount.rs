//! What a sandbox sees of a clone. `docs/design/2026-11-21-worktrees.md` says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::spec::{MountOrigin, MountSpec, WorktreeSpec};

/// The mounts of a sandbox with `worktrees`, each with the name of its administrative directory
/// ([`super::admin_name`], or what [`crate::facts::WorktreeFacts`] says). In order: a mount comes after those it lies in.
///
/// All sources exist once the worktrees were added or locked.
pub fn mounts(worktrees: &[(&WorktreeSpec, &str)]) -> Vec<MountSpec> {
    let mut by_clone: BTreeMap<&Path, Vec<(&WorktreeSpec, &str)>> = BTreeMap::new();
    for (spec, admin) in worktrees {
        by_clone.entry(&spec.clone).or_default().push((spec, admin));
    }
    let mut mounts = Vec::new();
    for (clone, members) in by_clone {
        let Some((_, first)) = members.first() else { continue };
        // A root of the sandbox's own: what is created beside the known entries never reaches the clone.
        mounts.push(bind(root(clone, first), clone, false));
        let same = |name: &str, read_only| bind(clone.join(name), &clone.join(name), read_only);
        mounts.extend(["objects", "refs", "logs"].map(|name| same(name, false)));
        mounts.extend(["objects/info", "hooks", "info", "worktrees"].map(|name| same(name, true)));
        // Rewritten by renaming: reached through links into directories, so that nobody looks at an old file.
        mounts.push(same(PACKED, false));
        mounts.push(bind(clone.to_owned(), &clone.join(COMMON), true));
        for (_, admin) in &members {
            let admin = Path::new("worktrees").join(admin);
            let own = |name: &str| bind(clone.join(&admin).join(name), &clone.join(&admin).join(name), true);
            mounts.push(bind(clone.join(&admin), &clone.join(&admin), false));
            // They decide which repository and configuration a git on the host would take.
            mounts.extend(["commondir", "gitdir", "config.worktree"].map(own));
        }
        for (spec, _) in &members {
            mounts.push(bind(spec.path.clone(), &spec.path, false));
            mounts.push(bind(spec.path.join(".git"), &spec.path.join(".git"), true));
        }
    }
    mounts
}

fn bind(source: PathBuf, target: &Path, read_only: bool) -> MountSpec {
    MountSpec { source: MountOrigin::Bind { source }, target: target.to_owned(), read_only, relabel: None }
}

/// Directory of what `sbx` keeps in a clone, relative to it.
pub(super) const OURS: &str = "sbx";
/// Directory with `packed-refs`.
pub(super) const PACKED: &str = "sbx/packed";
/// Inside a sandbox: the whole clone, read-only.
pub(super) const COMMON: &str = "sbx/common";

/// The root a sandbox sees in place of the clone's.
pub(super) fn root(clone: &Path, admin: &str) -> PathBuf {
    clone.join("sbx/roots").join(admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &str) -> WorktreeSpec {
        WorktreeSpec {
            repo: "/srv/api.git".to_owned(),
            clone: "/c/api".into(),
            branch: "login".to_owned(),
            base: None,
            path: path.into(),
        }
    }

    #[test]
    fn parents_come_first_and_targets_once() {
        let (a, b) = (spec("/w/a"), spec("/w/b"));
        let mounts = mounts(&[(&a, "a-1"), (&b, "b-2")]);
        for (index, mount) in mounts.iter().enumerate() {
            for later in &mounts[index + 1..] {
                assert!(!mount.target.starts_with(&later.target), "{:?} hides {:?}", later.target, mount.target);
            }
        }
    }

    #[test]
    fn only_shared_data_and_its_own_can_be_written() {
        let a = spec("/w/a");
        let writable: Vec<_> = mounts(&[(&a, "a-1")])
            .into_iter()
            .filter(|m| !m.read_only)
            .map(|m| m.target.display().to_string())
            .collect();
        let expected = [
            "/c/api",
            "/c/api/objects",
            "/c/api/refs",
            "/c/api/logs",
            "/c/api/sbx/packed",
            "/c/api/worktrees/a-1",
            "/w/a",
        ];
        assert_eq!(writable, expected);
    }
}
