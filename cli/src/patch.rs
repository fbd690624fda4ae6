//! Proposed changes of the configuration's files: proven before they are shown, and written whole or not at all.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use owo_colors::Style;
use schema::edit::{Splice, apply};
use schema::policy::{Place, Policy, Rule};
use schema::{Caller, Config, Name, Source};
use similar::TextDiff;

use crate::caller::Person;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Look;

/// The files of a run, as they were and as they would be.
#[derive(Debug, Clone)]
pub struct Patch {
    before: Vec<Source>,
    /// As they would be.
    pub sources: Vec<Source>,
    /// What they would mean.
    pub config: Config,
}

impl Patch {
    /// Nothing changed yet.
    pub fn new(sources: Vec<Source>, config: Config) -> Self {
        Self { before: sources.clone(), sources, config }
    }

    /// Makes `splices`, if the files then mean exactly what they meant, but for the policies in `expected`. Says why not.
    pub fn make(
        &mut self,
        splices: &[Splice],
        caller: &Caller,
        expected: &BTreeMap<Name, Policy>,
    ) -> Result<(), String> {
        let sources = apply(&self.sources, splices);
        let loaded = schema::load(&sources, caller);
        let Some(config) = loaded.config else {
            let error = loaded.diagnostics.into_iter().find(|problem| problem.severity == schema::Severity::Error);
            return Err(error.map_or_else(|| "the file would be wrong".to_owned(), |error| error.message));
        };
        if let Some(why) = other_difference(&self.config, &config, expected) {
            return Err(why);
        }
        (self.sources, self.config) = (sources, config);
        Ok(())
    }

    /// Whether anything would be changed.
    pub fn is_empty(&self) -> bool {
        self.changed().next().is_none()
    }

    fn changed(&self) -> impl Iterator<Item = (&Source, &Source)> {
        self.before.iter().zip(&self.sources).filter(|(before, after)| before.text != after.text)
    }

    /// The change as unified text, which `patch` takes.
    pub fn diff(&self, look: Look) -> String {
        self.changed().map(|(before, after)| diff(before, after, look)).collect()
    }

    /// Writes the files that are changed; their names.
    ///
    /// # Errors
    /// When one of them is not what was read: nothing is written then.
    pub fn write(&self, person: &Person) -> Result<Vec<String>, Failure> {
        let mut files = Vec::new();
        for (before, after) in self.changed() {
            let path = file_of(before)?;
            unchanged(&path, before)?;
            files.push((path, before, after));
        }
        let mut written = Vec::new();
        for (path, before, after) in files {
            person.act(&path, || replace(&path, before, &after.text))?;
            written.push(before.name.clone());
        }
        Ok(written)
    }
}

/// The file of a text, also where a link leads to it.
fn file_of(source: &Source) -> Result<PathBuf, Failure> {
    if source.name == "<stdin>" {
        return Err(Failure::new(Exit::Usage, "sbx::usage", "standard input cannot be written")
            .with_help("name a file with -f, or leave out --write and take the diff"));
    }
    std::fs::canonicalize(&source.name).map_err(|error| Failure::io(&source.name, &error))
}

fn unchanged(path: &Path, source: &Source) -> Result<(), Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::io(&source.name, &error))?;
    if text == source.text.as_bytes() {
        return Ok(());
    }
    let message = format!("{} was changed meanwhile; nothing was written", source.name);
    Err(Failure::new(Exit::TryAgain, "sbx::file-changed", message).with_help("run the command again"))
}

/// Puts another file in the place of `path`, with the mode and the owner of the one there was.
fn replace(path: &Path, before: &Source, text: &str) -> Result<(), Failure> {
    let mut name = path.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::metadata(path).and_then(|found| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
            std::os::unix::fs::fchown(&file, Some(found.uid()), Some(found.gid()))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(found.mode() & 0o7777))?;
        file.sync_all()
    });
    let replaced =
        written.map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error)).and_then(|()| {
            // Again, as late as can be.
            unchanged(path, before)?;
            std::fs::rename(&temporary, path).map_err(|error| Failure::io(path.display(), &error))
        });
    if replaced.is_err() {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

fn diff(before: &Source, after: &Source, look: Look) -> String {
    let text = TextDiff::from_lines(&before.text, &after.text);
    let text = text.unified_diff().context_radius(3).header(&before.name, &after.name).to_string();
    if !look.color {
        return text;
    }
    text.lines().fold(String::new(), |mut out, line| {
        let style = match line.as_bytes() {
            [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => Style::new().bold(),
            [b'-', ..] => Style::new().red(),
            [b'+', ..] => Style::new().green(),
            [b'@', ..] => Style::new().cyan(),
            _ => Style::new(),
        };
        out.push_str(&look.paint(style, line));
        out.push('\n');
        out
    })
}

/// Whether they say the same, wherever it is written.
fn same_but_for_places<T: serde::Serialize>(before: &[T], after: &[T]) -> bool {
    let text = |list: &[T]| serde_json::to_string(list).ok();
    text(before).is_some_and(|before| text(after) == Some(before))
}

/// What differs beyond the policies that should, in words.
fn other_difference(before: &Config, after: &Config, expected: &BTreeMap<Name, Policy>) -> Option<String> {
    let same = before.project == after.project
        && before.quotas == after.quotas
        && before.images == after.images
        && before.secrets == after.secrets
        && before.volumes == after.volumes
        && before.networks == after.networks
        && same_but_for_places(&before.tests, &after.tests)
        && same_but_for_places(&before.assertions, &after.assertions)
        && before.sandboxes.keys().eq(after.sandboxes.keys());
    if !same {
        return Some("other parts of the file would change too".to_owned());
    }
    for (name, was) in &before.sandboxes {
        let is = after.sandboxes.get(name)?;
        let mut meant = was.clone();
        let wanted = expected.get(name);
        if let Some(policy) = wanted {
            meant.egress.policy = policy.clone();
        }
        if meant == *is {
            continue;
        }
        let mut is = is.clone();
        for policy in [&mut meant.egress.policy, &mut is.egress.policy] {
            sort(policy);
        }
        if meant != is {
            return Some(match wanted {
                Some(_) => format!("sandbox {name} would reach something else"),
                None => format!("sandbox {name} has it too, and would change with it"),
            });
        }
    }
    None
}

/// The order of rules has no meaning, nor has where they are written.
fn sort(policy: &mut Policy) {
    for rules in [&mut policy.allow, &mut policy.deny] {
        rules.sort_by_cached_key(|rule| format!("{:?}", Rule { place: Place::default(), ..rule.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::config;

    fn file(text: &str) -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sandboxes.yaml");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let source = Source { name: path.display().to_string(), directory: dir.path().into(), text: text.to_owned() };
        (dir, source)
    }

    #[test]
    fn assertions_are_the_same_when_they_say_the_same() {
        let assertions = |reaches: &str, space: &str| {
            let text = format!(
                "{space}sandboxes: {{ api: {{ image: host }} }}\n\
                 assert: [{{ never: {{ sandbox: api, reaches: [{reaches}] }} }}]\n"
            );
            config(&text).assertions
        };
        let one = assertions("'**'", "");
        assert!(same_but_for_places(&one, &assertions("'**'", "\n\n")), "elsewhere in the file");
        assert!(!same_but_for_places(&one, &assertions("example.org", "")), "as many, but others");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let (dir, source) = file("one\n");
        let path = PathBuf::from(&source.name);
        let link = dir.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let linked = Source { name: link.display().to_string(), ..source.clone() };
        replace(&file_of(&linked).expect("there"), &linked, "two\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "two\n");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_file_that_was_changed_meanwhile_is_left_alone() {
        let (dir, source) = file("one\n");
        std::fs::write(&source.name, "mine\n").expect("written");
        let path = PathBuf::from(&source.name);
        assert_eq!(replace(&path, &source, "two\n").expect_err("changed").code, "sbx::file-changed");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "mine\n");
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1, "no temporary file stays");
    }
}
