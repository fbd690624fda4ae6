//! `docs/cli.md`, made from the code and kept in step with it: `UPDATE=1 cargo test` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

#[test]
fn the_reference_is_in_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("docs/ can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/cli.md is out of step with the code: run `UPDATE=1 cargo test -p sbx-cli reference`"
    );
}

fn reference() -> String {
    let mut root = crate::args::command();
    root.build();
    let mut text = String::from(
        "# Commands\n\nGenerated from the program: change `cli/src/` and run `UPDATE=1 cargo test -p sbx-cli reference`.\n\n\
         Results go to standard output, everything else to standard error.\n\n\
         ## Global options\n\nBefore or after the command.\n\n",
    );
    arguments(&mut text, root.get_arguments().filter(|argument| is_global(argument)));
    exits(&mut text);
    forms(&mut text);
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        one(&mut text, command.get_name(), command);
    }
    text
}

fn exits(text: &mut String) {
    text.push_str(
        "\n## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | done |\n| 1 | failed |\n| 64 | usage error |\n\
         | 65 | invalid configuration |\n| 69 | engine unreachable |\n\
         | 73 | refused: needs a flag or a consent that was not given |\n\
         | 75 | try again: the lock is held, the plan is stale |\n| 124 | timed out |\n| 130 | interrupted |\n\n\
         SIGINT (Ctrl-C), SIGTERM and SIGHUP interrupt: commands that only look end at once; one that is changing something\n\
         finishes the step in hand, takes back or completes the change, and reports. The second signal ends it at once, but\n\
         for SIGHUP after SIGHUP, as a terminal that goes is told by more than one; the next run goes on from there. Under\n\
         `nohup` SIGHUP is ignored.\n\n\
         `plan --detailed-exitcode` ends with 2 when there is something to do, or not to be touched. `diff` ends with 1 when something differs\n\
         and with more than 1 on an error. `exec` and `shell` end with the code of the command, or with 143 or 129 when\n\
         SIGTERM or SIGHUP cuts them short. `egress learn` takes the signal for the end of learning.\n\n\
         With `--json` a failure is a document in the place of the result: `{\"format_version\":\"1.0\",\"error\":{\"code\":…,\n\
         \"exit_code\":…,\"message\":…,\"help\":…}}`. What each code means is in [errors.md](errors.md).\n",
    );
}

/// What `--json` makes of standard output, and the commands that do so. `tests/podman/contract.rs` holds them to it.
const FORMS: [(&str, &[&str]); 5] = [
    (
        "one document",
        &[
            "init",
            "validate",
            "schema",
            "plan",
            "diff",
            "status",
            "list",
            "explain",
            "test",
            "lock",
            "egress policy",
            "egress learn",
            "egress tighten",
            "daemon start",
            "daemon status",
            "daemon stop",
            "daemon install",
            "doctor",
            "version",
        ],
    ),
    ("a line with the plan, one for each event, and one with the outcome", &["apply", "destroy"]),
    ("a line for each event, and one with the outcome", &["start", "stop", "restart"]),
    ("a line for each line or record, with `--follow` and without", &["logs", "egress log"]),
    (
        "as without `--json`: what it says is a program's, a terminal's or a log",
        &["exec", "shell", "completion", "man", "daemon run"],
    ),
];

#[test]
fn the_form_of_each_command_is_known() {
    fn leaves(command: &Command, name: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let name = format!("{name} {}", below.get_name()).trim_start().to_owned();
            if below.has_subcommands() { leaves(below, &name, found) } else { found.push(name) }
        }
    }
    let mut found = Vec::new();
    leaves(&crate::args::command(), "", &mut found);
    let mut told: Vec<&str> = FORMS.iter().flat_map(|(_, commands)| *commands).copied().collect();
    found.sort_unstable();
    told.sort_unstable();
    assert_eq!(found, told);
}

fn forms(text: &mut String) {
    text.push_str(
        "\n## JSON\n\nWith `--json` standard output is one document, or a document on each line, written when it happens:\n\n\
         | standard output | commands |\n|---|---|\n",
    );
    for (form, commands) in FORMS {
        let commands: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
        writeln!(text, "| {form} | {} |", commands.join(", ")).expect("a String takes all");
    }
    text.push_str(
        "\n`status --watch` prints a document on a line whenever something has changed. Where there is nothing to tell, as\n\
         of a log without records, there is no line. A run that fails ends with the document of its failure, on a line.\n",
    );
}

/// A command and, below it, its own commands; `name` is how it is called.
fn one(text: &mut String, name: &str, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace("[OPTIONS] ", "").replace(" [OPTIONS]", "");
    writeln!(text, "\n## `sbx {name}`\n\n{about}.\n\n```text\n{usage}\n```\n").expect("a String takes all");
    let own: Vec<&Arg> = command.get_arguments().filter(|argument| !is_global(argument)).collect();
    if !own.is_empty() {
        arguments(text, own.into_iter());
    }
    if let Some(after) = command.get_after_help() {
        writeln!(text, "\n```text\n{after}\n```").expect("a String takes all");
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        one(text, &format!("{name} {}", below.get_name()), below);
    }
}

fn arguments<'a>(text: &mut String, all: impl Iterator<Item = &'a Arg>) {
    text.push_str("| argument | |\n|---|---|\n");
    for argument in
        all.filter(|argument| !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version"))
    {
        let mut names: Vec<String> = Vec::new();
        names.extend(argument.get_short().map(|short| format!("-{short}")));
        names.extend(argument.get_long().map(|long| format!("--{long}")));
        let values: Vec<String> =
            argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        let takes_value = argument.get_action().takes_values();
        let name = match (names.is_empty(), takes_value) {
            (true, _) => values.join(" "),
            (false, true) => format!("{} {}", names.join(", "), values.join(" ")),
            (false, false) => names.join(", "),
        };
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
        let choices: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|_| takes_value)
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !choices.is_empty() {
            write!(help, ": {}", choices.join(", ")).expect("a String takes all");
        }
        let default: Vec<String> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if takes_value && !default.is_empty() {
            write!(help, " (default `{}`)", default.join(" ")).expect("a String takes all");
        }
        writeln!(text, "| `{name}` | {} |", help.replace('|', "\\|")).expect("a String takes all");
    }
}

fn is_global(argument: &Arg) -> bool {
    argument.get_help_heading() == Some("Global options")
}
