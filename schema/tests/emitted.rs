//! Every code that the sources can tell is in the catalogue, with its severity and its exit codes; and every entry of the
//! catalogue is told somewhere.
//!
//! The crates that find problems of plans and runs are above this one. So their sources are read as text; a way of telling
//! a code that is not known here fails, rather than passing unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use schema::Severity;
use schema::codes;

/// Codes that nobody ever sees: the reader of the output has gone, all has been said, or only a test can turn it on.
const UNSEEN: [&str; 3] = ["sbx::closed", "sbx::said", "sbx::failpoint"];

/// The sources of a crate without its tests and without comments, by path below the repository.
fn sources(root: &str) -> BTreeMap<PathBuf, String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut texts = BTreeMap::new();
    let mut directories = vec![repository.join(root)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.insert(path.clone(), fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    // Modules that are there for tests only, with all below them.
    let tests: Vec<PathBuf> = texts
        .iter()
        .flat_map(|(path, text)| {
            let below = if path.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs") {
                path.with_file_name("")
            } else {
                path.with_extension("")
            };
            let modules = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
                let line = rest.lines().next()?;
                line.trim_start_matches("pub ")
                    .trim_start_matches("pub(crate) ")
                    .strip_prefix("mod ")?
                    .strip_suffix(';')
            });
            modules.map(|name| below.join(name)).collect::<Vec<_>>()
        })
        .collect();
    texts.retain(|path, _| !tests.iter().any(|module| path.with_extension("").starts_with(module)));
    for text in texts.values_mut() {
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let code = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
        // One blank between words, none after a bracket: calls look the same however they are broken into lines.
        *text = code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").replace("( ", "(");
    }
    texts
}

/// What follows each `call` in `text`.
fn after<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(call).map(move |(at, _)| &text[at + call.len()..])
}

/// The text in the quotes that `rest` begins with.
fn quoted(rest: &str) -> Option<&str> {
    rest.strip_prefix('"')?.split_once('"').map(|(text, _)| text)
}

/// The numbers of `Exit`, by variant.
fn exits() -> BTreeMap<String, u8> {
    let all = sources("cli/src");
    let (_, text) = all.iter().find(|(path, _)| path.ends_with("cli/src/exit.rs")).expect("exit.rs");
    after(text, "Self::")
        .filter_map(|rest| {
            let (name, number) = rest.split_once(" => ")?;
            let number = number.split_once(',')?.0.parse().ok()?;
            Some((name.to_owned(), number))
        })
        .collect()
}

/// The exit code of the failure that is made where `before` ends; `None` where the code is not of a failure to be told.
fn exit_of(before: &str, exits: &BTreeMap<String, u8>) -> Option<u8> {
    let variant = |before: &str| {
        let name = before.rsplit_once("Exit::").map(|(_, name)| name)?;
        exits.get(name).copied()
    };
    if before.ends_with("::failed(") {
        return variant("Exit::Failed");
    }
    if before.ends_with("::refused(") {
        return variant("Exit::Refused");
    }
    let before = before.strip_suffix("failure.code = ").map_or(before, |set| set.trim_end().trim_end_matches(';'));
    variant(before.trim_end().trim_end_matches(','))
}

#[test]
fn every_way_to_end_a_run_is_in_the_catalogue_with_its_exit_codes() {
    let exits = exits();
    assert_eq!(exits.get("TryAgain"), Some(&75), "the numbers were read: {exits:?}");
    let mut found: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
    for (path, text) in sources("cli/src") {
        let path = path.display();
        for (at, _) in text.match_indices("\"sbx::") {
            let code = quoted(&text[at..]).expect("a text");
            if UNSEEN.contains(&code) {
                continue;
            }
            let exit = exit_of(&text[..at], &exits);
            assert!(exit.is_some(), "{path}: {code} is told in a way that this test does not know");
            found.entry(code.to_owned()).or_default().extend(exit);
        }
        // No code may come in by a variable, where it would not be seen.
        for call in ["Failure::failed(", "Failure::refused("] {
            for rest in after(&text, call) {
                assert!(rest.starts_with("\"sbx::"), "{path}: {call}{}", &rest[..rest.len().min(60)]);
            }
        }
        for rest in after(&text, "Failure::new(") {
            let code = rest.split_once(", ").map(|(_, rest)| rest);
            assert!(code.is_some_and(|code| code.starts_with("\"sbx::")), "{path}: {}", &rest[..rest.len().min(60)]);
        }
    }
    let catalogue: BTreeMap<String, BTreeSet<u8>> = codes::of_runs()
        .chain(codes::shared_with_runs())
        .map(|ending| (ending.entry.code.to_owned(), ending.exits.iter().copied().collect()))
        .collect();
    assert_eq!(found, catalogue);
}

#[test]
fn what_only_tests_can_turn_on_is_in_no_other_build() {
    let mut seen = 0;
    for (path, text) in sources("cli/src") {
        for (at, _) in text.match_indices("\"sbx::failpoint\"") {
            let function = text[..at].rfind(" fn ").expect("in a function");
            let attribute = text[..function].ends_with("#[cfg(feature = \"failpoints\")]");
            assert!(attribute, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn every_notice_of_a_plan_is_in_the_catalogue_with_its_severity() {
    let mut found: BTreeMap<String, Severity> = BTreeMap::new();
    let mut add = |code: &str, severity| {
        let before = found.insert(code.to_owned(), severity);
        assert!(before.is_none_or(|before| before == severity), "{code} has two severities");
    };
    for (path, text) in sources("reconciler/src") {
        let shown = path.display();
        for (call, severity) in [
            (".error(", Severity::Error),
            (".fail(", Severity::Error),
            (".warning(", Severity::Warning),
            (".warn(", Severity::Warning),
        ] {
            for rest in after(&text, call) {
                match quoted(rest) {
                    Some(code) => add(&format!("sbx::{code}"), severity),
                    // `fail` passes on what it was given.
                    None => assert!(rest.starts_with("code, "), "{shown}: {call}{}", &rest[..rest.len().min(60)]),
                }
            }
        }
        // Made without them: the code comes first, the severity next.
        for (at, _) in text.match_indices("\"sbx::") {
            let rest = &text[at..];
            let code = quoted(rest).expect("a text");
            if code == "sbx::{code}" {
                continue;
            }
            if text[..at].ends_with("notice.code == ") {
                assert!(text.contains(&format!("(\"{}\"", code.trim_start_matches("sbx::"))), "{shown}: {code}");
                continue;
            }
            assert!(text[..at].ends_with("Notice { code: "), "{shown}: {code}");
            let severity = after(rest, "severity: ").next().and_then(quoted).expect("a severity");
            add(code, if severity == "error" { Severity::Error } else { Severity::Warning });
        }
    }
    let shared = "sbx::engine-socket";
    assert_eq!(found.remove(shared), codes::find(shared).map(|entry| entry.severity), "the text may tell it as well");
    let catalogue: BTreeMap<String, Severity> =
        codes::of_plans().map(|entry| (entry.code.to_owned(), entry.severity)).collect();
    assert_eq!(found, catalogue);
}

#[test]
fn every_problem_of_a_file_is_found_somewhere() {
    let mut all = sources("schema/src");
    all.retain(|path, _| !path.components().any(|part| part.as_os_str() == "codes"));
    let constants: BTreeMap<&str, String> = sources("schema/src/codes")
        .into_values()
        .flat_map(|text| {
            after(&text, "pub const ")
                .filter_map(|rest| {
                    let (name, rest) = rest.split_once(": Code = Code { code: ")?;
                    let code = codes::find(quoted(rest)?)?.code;
                    Some((code, name.to_owned()))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    all.extend(sources("egress/src"));
    let mut text = all.values().map(String::as_str).collect::<Vec<_>>().join("\n");
    for import in ["use crate::codes::", "use schema::codes::"] {
        while let Some(at) = text.find(import) {
            let end = text[at..].find(';').expect("an import ends");
            text.replace_range(at..at + end, "");
        }
    }
    let used = |name: &str| {
        let word = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_uppercase() || next == '_');
        after(&text, name).any(word)
    };
    // What a run ends with as well is told by the program.
    let elsewhere: Vec<&str> = codes::shared_with_runs().map(|ending| ending.entry.code).collect();
    let unused: Vec<&str> = codes::catalogue()
        .map(|entry| entry.code)
        .filter(|code| !elsewhere.contains(code) && !constants.get(code).is_some_and(|name| used(name)))
        .collect();
    assert_eq!(unused, [""; 0]);
    // The library makes problems from the catalogue only.
    for (path, text) in ["schema/src", "egress/src", "init/src"].map(sources).iter().flatten() {
        let catalogue = path.components().any(|part| part.as_os_str() == "codes");
        assert!(catalogue || !text.contains("\"sbx::"), "{}", path.display());
    }
}
