//! Since when rules are in force: without that, nobody can say of a new one that it is never used.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;

use crate::tighten::Ages;

/// The file, beside the records of a project.
const FILE: &str = "rules.json";
/// One that is longer was not written here.
const MOST_BYTES: u64 = 64 << 20;

/// Since when the rules of each sandbox of a project are in force; nothing where that cannot be read.
pub fn read(directory: &Path) -> BTreeMap<String, Ages> {
    let path = directory.join(FILE);
    if std::fs::metadata(&path).map_or(0, |found| found.len()) > MOST_BYTES {
        return BTreeMap::new();
    }
    // Lost, it is begun anew: that makes rules younger than they are, and of young ones nothing is said.
    std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Says that exactly `rules` are in force for `sandbox` from `now` on: those that were already keep their age.
pub(super) fn write(directory: &Path, sandbox: &str, rules: Vec<String>, now: Timestamp) -> io::Result<()> {
    let mut all = read(directory);
    let known = all.get(sandbox).cloned().unwrap_or_default();
    let ages: Ages = rules
        .into_iter()
        .map(|rule| {
            let since = known.get(&rule).copied().unwrap_or(now);
            (rule, since)
        })
        .collect();
    if ages == known {
        return Ok(());
    }
    all.insert(sandbox.to_owned(), ages);
    replace(directory, &all)
}

/// Forgets sandboxes that are `gone`, by their names and the ages of their rules.
pub(super) fn forget(directory: &Path, gone: impl Fn(&str, &Ages) -> bool) -> io::Result<()> {
    let mut all = read(directory);
    let before = all.len();
    all.retain(|sandbox, ages| !gone(sandbox, ages));
    if all.len() == before {
        return Ok(());
    }
    if all.is_empty() { std::fs::remove_file(directory.join(FILE)) } else { replace(directory, &all) }
}

fn replace(directory: &Path, all: &BTreeMap<String, Ages>) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let (path, new) = (directory.join(FILE), directory.join("rules.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(all)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_keep_their_age_for_as_long_as_they_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |second| Timestamp::from_second(second).expect("a time");
        let put = |sandbox: &str, rules: &[&str], second| {
            let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            write(dir.path(), sandbox, rules, at(second)).expect("written");
        };
        put("api", &["a", "b"], 1);
        put("web", &["a"], 2);
        put("api", &["b", "c"], 3);
        put("api", &["a", "b", "c"], 4);
        let read = read(dir.path());
        let ages = |sandbox: &str| read[sandbox].iter().map(|(rule, since)| (rule.clone(), since.as_second()));
        let of = |sandbox: &str| ages(sandbox).collect::<Vec<_>>();
        let pairs =
            |pairs: &[(&str, i64)]| pairs.iter().map(|(rule, at)| ((*rule).to_owned(), *at)).collect::<Vec<_>>();
        assert_eq!(of("api"), pairs(&[("a", 4), ("b", 1), ("c", 3)]));
        assert_eq!(of("web"), pairs(&[("a", 2)]));
        std::fs::write(dir.path().join(FILE), "no JSON").expect("written");
        assert!(super::read(dir.path()).is_empty());
    }
}
