use std::fs;

use crate::program::Place;

#[test]
fn completion_scripts_of_all_shells() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let shown = place.run(&format!("completion {shell}"));
        assert!(shown.starts_with("exit: 0\n"), "{shown}");
        assert!(shown.contains("SBX_COMPLETE"), "{shown}");
    }
}

#[test]
fn names_of_sandboxes_are_completed_from_the_file() {
    let place = Place::new();
    // Half written, as a file is while somebody works.
    place.write("mine.yaml", "sandboxes:\n  api: { image: }\n  app: { replicas: 2 }\n  web:\n");
    place.write(
        "whole.yaml",
        "apiVersion: sbx/v1\nproject: acme\ndefaults: { image: host, replicas: 2 }\nsandboxes: { api: {}, one: { replicas: 1 } }\n",
    );
    let candidates = |words: &[&str]| {
        let mut command = place.command(["--"]);
        command.args(words).env("SBX_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(candidates(&["sbx", "-f", "mine.yaml", "shell", "a"]), "api\napp-1\napp-2");
    assert_eq!(
        candidates(&["sbx", "-f", "whole.yaml", "shell", ""]).lines().take(3).collect::<Vec<_>>(),
        ["api-1", "api-2", "one"]
    );
    assert_eq!(candidates(&["sbx", "-f", "mine.yaml", "plan", "--target", "w"]), "web");
    assert_eq!(candidates(&["sbx", "-f", "missing.yaml", "shell", "a"]), "");
    assert_eq!(candidates(&["sbx", "sta"]), "status\nstart");
}

/// The schema that the program prints, and puts beside a new file, is the one that editors are given.
#[test]
fn the_schema_is_the_committed_one() {
    let committed = include_str!("../../schema/sandboxes.schema.json");
    let place = Place::new();
    let printed = place.command(["schema"]).output().unwrap();
    assert!(printed.status.success() && printed.stdout == committed.as_bytes(), "run `sbx schema`, and compare");
    assert!(place.command(["init"]).output().unwrap().status.success());
    assert!(place.read("sandboxes.schema.json") == committed, "run `sbx init`, and compare");
}

#[test]
fn manual_pages() {
    let place = Place::new();
    assert!(place.run("man pages").starts_with("exit: 0\n"));
    let mut names: Vec<String> = fs::read_dir(place.work().join("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.contains(&String::from("sbx.1")) && names.contains(&String::from("sbx-apply.1")), "{names:?}");
    for name in names {
        let page = place.read(&format!("pages/{name}"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
}
