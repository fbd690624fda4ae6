use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::mount::Targets;
use super::{Resolver, child};
use crate::codes::{DUPLICATE_WORKTREE, WRONG_VALUE};
use crate::config::Worktree;
use crate::document::Node;
use crate::structure::show;
use crate::{Span, raw};

/// What worktrees of all sandboxes have claimed: each of it can be there once.
#[derive(Default)]
pub(super) struct Claims {
    paths: HashMap<PathBuf, Span>,
    branches: HashMap<(PathBuf, String), Span>,
    clones: HashMap<PathBuf, (String, Span)>,
}

impl Resolver<'_> {
    pub(super) fn worktrees(
        &mut self,
        raw: &[raw::Worktree],
        sandbox: &Node,
        copies: u32,
        targets: &mut Targets,
    ) -> Vec<Worktree> {
        let items = sandbox.get("worktrees").map(Node::items).unwrap_or_default();
        raw.iter().zip(items).filter_map(|(raw, node)| self.worktree(raw, node, copies, targets)).collect()
    }

    fn worktree(&mut self, raw: &raw::Worktree, node: &Node, copies: u32, targets: &mut Targets) -> Option<Worktree> {
        let repo = self.repository(child(node, "repo"));
        let branch = self.git_name(child(node, "branch"), "branch");
        let base = raw.base.is_some().then(|| self.git_name(child(node, "base"), "starting point")).flatten();
        let path_node = child(node, "path");
        let path = self.exposed_path(path_node);
        let clone_node = node.get("clone").filter(|_| raw.clone.is_some());
        let clone = match (clone_node, &repo) {
            (Some(clone), _) => self.exposed_path(clone),
            (None, Some(repo)) => Some(self.caller.data_dir.join("clones").join(clone_name(repo))),
            (None, None) => None,
        };
        if let Some(path) = &path {
            self.take_target(targets, path, path_node.span);
        }
        let worktree = Worktree { repo: repo?, branch: branch?, base, path: path?, clone: clone? };
        self.claim(&worktree, node, copies);
        Some(worktree)
    }

    fn claim(&mut self, worktree: &Worktree, node: &Node, copies: u32) {
        let path_span = child(node, "path").span;
        let taken = self.claims.paths.insert(worktree.path.clone(), path_span);
        if copies > 1 || taken.is_some() {
            let mut problem = DUPLICATE_WORKTREE
                .at(path_span, format!("two sandboxes have the worktree `{}`", show(&worktree.path.to_string_lossy())))
                .with_help(if copies > 1 {
                    "replicas would share it; write sandboxes of their own, each with its branch and path"
                } else {
                    "give each its own branch and path"
                });
            problem
                .related
                .extend(taken.filter(|first| *first != path_span).map(|first| (first, "the other one".to_owned())));
            self.problem(problem);
            return;
        }
        let branch_span = child(node, "branch").span;
        let branch = (worktree.clone.clone(), worktree.branch.clone());
        if let Some(first) = self.claims.branches.insert(branch, branch_span) {
            let problem = DUPLICATE_WORKTREE
                .at(branch_span, format!("branch `{}` has two worktrees", show(&worktree.branch)))
                .with_help("git checks a branch of a clone out once; use another branch, or another `clone`")
                .with_related(first, "the other one");
            self.problem(problem);
        }
        let repo_span = child(node, "repo").span;
        let known =
            self.claims.clones.entry(worktree.clone.clone()).or_insert_with(|| (worktree.repo.clone(), repo_span));
        if known.0 != worktree.repo {
            let first = known.1;
            let problem = DUPLICATE_WORKTREE
                .at(
                    repo_span,
                    format!("the clone `{}` is of another repository", show(&worktree.clone.to_string_lossy())),
                )
                .with_help("give each repository its own `clone`, or leave it out")
                .with_related(first, "the other repository");
            self.problem(problem);
        }
    }

    /// A remote address: https, http, ssh, git and file URLs, `user@host:path`, or a path.
    fn repository(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        let help = if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ' && text.contains("://")) {
            "write the address as `git clone` takes it"
        } else if text.starts_with('-') {
            "an address does not start with `-`; write `./-…` for a directory of that name"
        } else if let Some((scheme, _)) = text.split_once("://") {
            match scheme {
                "https" | "http" if has_credentials(&text) => {
                    // Not shown, and used nowhere: it would be in arguments of git, and in the configuration of the
                    // clone, which the sandbox sees.
                    let message = "the address has credentials in it";
                    let help =
                        "leave out what is before the `@`, and give them to git by a credential helper, or use ssh";
                    self.problem(WRONG_VALUE.at(node.span, message).with_help(help));
                    return None;
                }
                "https" | "http" | "ssh" | "git" | "file" => return Some(text),
                _ => "use https, ssh, file, git or http",
            }
        } else if let Some((host, path)) = text.split_once(':').filter(|(host, _)| !host.contains('/')) {
            // `ext::sh -c …` and the like run programs.
            if !path.starts_with(':') && !host.is_empty() && !path.is_empty() {
                return Some(text);
            }
            "remote helpers (`helper::address`) are not used; write https, ssh or a path"
        } else {
            return self.path_of(&text, node).map(|path| path.to_string_lossy().into_owned());
        };
        self.problem(
            WRONG_VALUE.at(node.span, format!("`{}` is not the address of a repository", show(&text))).with_help(help),
        );
        None
    }

    /// A branch, by the rules of git-check-ref-format.
    fn git_name(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node)?;
        let good = !text.is_empty()
            && text.len() <= 250
            && !text.starts_with('-')
            && !text.contains("..")
            && !text.contains("@{")
            && text != "@"
            && text != "HEAD"
            && !text.contains(|c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
            && !text.ends_with('.')
            && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !has_lock_suffix(part));
        if good {
            return Some(text);
        }
        self.problem(
            WRONG_VALUE
                .at(node.span, format!("`{}` cannot name a {what}", show(&text)))
                .with_help("by Git's rule: no spaces, `..`, `~^:?*[\\`, no leading `-`, no `.lock` at the end"),
        );
        None
    }
}

fn has_lock_suffix(part: &str) -> bool {
    Path::new(part).extension().is_some_and(|extension| extension == "lock")
}

/// Directory of the clone of `repo`: readable, and different for different addresses.
fn clone_name(repo: &str) -> String {
    let trimmed = repo.trim_end_matches('/');
    let last = trimmed.rsplit(['/', ':']).next().unwrap_or(trimmed);
    let stem: String = last
        .strip_suffix(".git")
        .unwrap_or(last)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' })
        .take(40)
        .collect();
    let digest = Sha256::digest(repo.as_bytes());
    let hash = digest.iter().take(6).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{stem}-{hash:012x}.git")
}

/// Whether an address of the web says who asks for it.
fn has_credentials(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}
