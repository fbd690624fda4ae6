//! Where the branch of a new worktree starts.

use std::path::Path;

use super::admin::{is_branch_name, read_line};
use super::clone::fetch;
use super::command::Reads;
use super::view::View;
use super::{Progress, guard};
use crate::backend::{BackendError, ErrorKind};
use crate::spec::WorktreeSpec;

/// Finds or makes the branch of `spec`.
///
/// A local branch is taken as it is; else one of the remote is tracked; else it starts at `base`, or at the remote's
/// default branch. Whether the branch has a commit: in an empty repository it has none yet.
pub(super) async fn branch(
    view: &View<'_>,
    spec: &WorktreeSpec,
    progress: Progress<'_>,
) -> Result<Start, BackendError> {
    if !is_branch_name(&spec.branch) {
        return Err(BackendError::new(ErrorKind::Failed, format!("{:?} is no name for a branch", spec.branch)));
    }
    let local = format!("refs/heads/{}", spec.branch);
    if view.commit(&local).await?.is_some() {
        return Ok(Start { born: true, tracks: false });
    }
    fetch(view, &spec.repo, &spec.clone, progress).await?;
    if let Some(commit) = view.commit(&format!("refs/remotes/origin/{}", spec.branch)).await? {
        create(view, &spec.clone, &local, &commit).await?;
        return Ok(Start { born: true, tracks: true });
    }
    let start = match &spec.base {
        Some(base) => Some(base_commit(view, base).await?),
        None => default_commit(view, &spec.clone).await?,
    };
    match start {
        Some(commit) => create(view, &spec.clone, &local, &commit).await?,
        None => return Ok(Start { born: false, tracks: false }),
    }
    Ok(Start { born: true, tracks: false })
}

/// See [`branch`].
pub(super) struct Start {
    /// Whether the branch has a commit.
    pub born: bool,
    /// Whether the branch was made to track the remote's of the same name.
    pub tracks: bool,
}

async fn create(view: &View<'_>, clone: &Path, name: &str, commit: &str) -> Result<(), BackendError> {
    guard::refuse_links(clone)?;
    // The empty old value: it must not exist.
    view.call(Reads::Nothing, ["update-ref", "--no-deref", name, commit, ""]).run().await.map(drop)
}

async fn base_commit(view: &View<'_>, base: &str) -> Result<String, BackendError> {
    // The remote's branch first: a local one of the same name is as old as its last use.
    let spellings = [
        format!("refs/remotes/origin/{base}"),
        format!("refs/heads/{base}"),
        format!("refs/tags/{base}"),
        format!("refs/remotes/{base}"),
        base.to_owned(),
    ];
    for name in &spellings {
        if let Some(commit) = view.commit(name).await? {
            return Ok(commit);
        }
    }
    let known = branches(view).await?;
    let error =
        BackendError::new(ErrorKind::NotFound, format!("there is no branch, tag or commit {base:?} to start from"));
    Err(match nearest(base, &known) {
        Some(name) => error.with_help(format!("did you mean `{name}`?")),
        None if known.is_empty() => error.with_help("the remote is empty: leave `base` out"),
        None => {
            error.with_help(format!("the remote has: {}", known.iter().take(8).cloned().collect::<Vec<_>>().join(", ")))
        }
    })
}

/// The remote's default branch; `None` when the repository is empty.
async fn default_commit(view: &View<'_>, clone: &Path) -> Result<Option<String>, BackendError> {
    if let Some(commit) = view.commit("refs/remotes/origin/HEAD").await? {
        return Ok(Some(commit));
    }
    // Clones made by hand do not record the remote's; their own is what the remote's was.
    let head = read_line(&clone.join("HEAD")).unwrap_or_default();
    if let Some(name) = String::from_utf8_lossy(&head).strip_prefix("ref: refs/heads/") {
        for name in [format!("refs/remotes/origin/{name}"), format!("refs/heads/{name}")] {
            if let Some(commit) = view.commit(&name).await? {
                return Ok(Some(commit));
            }
        }
    }
    let known = branches(view).await?;
    match known.first() {
        None => Ok(None),
        Some(first) => Err(BackendError::new(ErrorKind::NotFound, "the remote's default branch is not known")
            .with_help(format!("set `base`, to `{first}` for example"))),
    }
}

async fn branches(view: &View<'_>) -> Result<Vec<String>, BackendError> {
    let args = ["for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin"];
    let listed = view.call(Reads::Nothing, args).run().await?;
    let names = String::from_utf8_lossy(&listed);
    Ok(names.lines().filter(|name| *name != "HEAD").map(str::to_owned).collect())
}

/// The name that differs from `wanted` by the fewest edits, a third of its length at most.
fn nearest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let distance = |a: &str, b: &str| {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = (diagonal + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
                diagonal = above;
            }
        }
        row[b.len()]
    };
    let most = (wanted.chars().count() / 3).max(1);
    let candidates = names.iter().map(|name| (distance(wanted, name), name.as_str()));
    candidates.filter(|(edits, _)| *edits <= most).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        let names = ["main", "develop", "feature/login"].map(str::to_owned);
        assert_eq!(nearest("mian", &names), None);
        assert_eq!(nearest("mai", &names), Some("main"));
        assert_eq!(nearest("feature/logni", &names), Some("feature/login"));
        assert_eq!(nearest("release", &names), None);
    }
}
