use insta::assert_snapshot;

use crate::program::{GOOD, Place};

#[test]
fn help_is_a_result() {
    assert_snapshot!(Place::new().run("--help"));
}

#[test]
fn nothing_asked() {
    let shown = Place::new().run("");
    assert!(shown.starts_with("exit: 64\n--- stdout\n--- stderr\n"), "{shown}");
}

#[test]
fn mistakes_end_with_64() {
    let place = Place::with(GOOD);
    let mut all = String::new();
    for line in [
        "plna",
        "plan --taget api",
        "apply --parallelism 0",
        "apply --timeout soon",
        "apply saved.plan --target api",
        "exec api",
        "exec api -e",
        "stop",
        "logs api --since yesterday",
        "validate --format xml",
        "completion tcsh",
        "plan --color sometimes",
        "plan --target apii",
        "plan --replace nothing-like-it",
        "start apii",
        "-f - -f - validate",
        "init --project Not_A_Name",
    ] {
        let shown = place.run(line);
        assert!(shown.starts_with("exit: 64\n--- stdout\n--- stderr\n"), "{line}: {shown}");
        let message = shown.lines().nth(3).unwrap_or_default();
        all.push_str(&format!("sbx {line}\n    {message}\n"));
    }
    assert_snapshot!(all);
}

#[test]
fn global_options_stand_anywhere() {
    let place = Place::new();
    place.write("other.yaml", GOOD);
    for line in ["-f other.yaml validate --json", "validate --json -f other.yaml", "--json validate --file=other.yaml"]
    {
        let shown = place.run(line);
        assert!(shown.starts_with("exit: 0\n"), "{line}: {shown}");
        assert!(shown.contains("\"valid\": true"), "{line}: {shown}");
    }
}

#[test]
fn version() {
    let place = Place::new();
    assert_snapshot!(place.run("version") + &place.run("version --json") + &place.run("--version"));
}

#[test]
fn a_mistake_is_a_document_where_json_is_asked_for() {
    let shown = Place::new().run("--json apply --bogus");
    assert!(
        shown.starts_with("exit: 64\n--- stdout\n{\"format_version\":\"1.0\",\"error\":{\"code\":\"sbx::usage\""),
        "{shown}"
    );
    for (line, message) in [
        ("exec --json", "the following required arguments were not provided: <SANDBOX>, <CMD>..."),
        ("exec --json api", "the following required arguments were not provided: <CMD>..."),
        (
            "plan --json --color sometimes",
            "invalid value 'sometimes' for '--color <WHEN>' [possible values: auto, always, never]",
        ),
    ] {
        let shown = Place::new().run(line);
        assert!(shown.contains(&format!("\"message\":\"{message}\"")), "{line}: {shown}");
    }
}

/// On a terminal of 80 columns the help of every command stays on it, and what follows the options stands as it is
/// written: lines that were broken by hand are not broken once more.
#[test]
fn help_fits_a_narrow_terminal() {
    let place = Place::new();
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let (mut seen, mut followed) = (0, 0);
    while let Some(words) = commands.pop() {
        let line = words.iter().map(String::as_str).chain(["--help"]);
        let output = place.command(line).env("COLUMNS", "80").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("Usage: "), "{words:?}: {help}");
        seen += 1;
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
        let below = help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
        let names = below.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        for name in names.filter_map(|line| line.split_whitespace().next()) {
            commands.push(words.iter().cloned().chain([name.to_owned()]).collect());
        }
        let output = place.command(words.iter().map(String::as_str).chain(["--help"])).env("COLUMNS", "100").output();
        let wide = String::from_utf8(output.unwrap().stdout).unwrap();
        let written = |help: &str| help.rsplit_once("\nExamples:\n").map(|(_, rest)| rest.to_owned());
        assert_eq!(written(&help), written(&wide), "{words:?}");
        followed += usize::from(written(&help).is_some());
    }
    assert!(seen > 25 && followed > 20, "{seen} commands, {followed} with examples");
}
