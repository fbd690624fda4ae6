//! Why a run could not do what it was asked: the `code` of a failure, with the exit code that goes with it. Told by the
//! program.

use super::{Code, INVALID_TARGET, TOO_LARGE, UNREADABLE};
use crate::Severity::Error;

/// How a run can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// What it means.
    pub entry: Code,
    /// The exit codes it can go with, in ascending order.
    pub exits: &'static [u8],
}

const fn ending(
    exits: &'static [u8],
    code: &'static str,
    summary: &'static str,
    cause: &'static str,
    cure: &'static str,
    example: &'static str,
) -> Ending {
    Ending { entry: Code { code, severity: Error, summary, cause, cure, example }, exits }
}

/// Problems of a file that end a run under their own code, as there is nothing to say more about.
pub(super) const SHARED: &[Ending] = &[
    Ending { entry: UNREADABLE, exits: &[65] },
    Ending { entry: TOO_LARGE, exits: &[65] },
    Ending { entry: INVALID_TARGET, exits: &[64] },
];

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Ending] = &[
    // What was typed.
    ending(
        &[64],
        "sbx::usage",
        "the command line cannot be understood",
        "A command, a flag or a value does not exist or does not go with the others; or standard input is to be read twice or \
         written to.",
        "See `sbx --help` or `sbx COMMAND --help`.",
        "$ sbx plan --no-such-flag",
    ),
    ending(
        &[64],
        "sbx::unknown-sandbox",
        "the configuration has no sandbox of that name",
        "The name is misspelled, or another file is meant. Replicas are named `NAME-1`, `NAME-2` and so on.",
        "Use a name of the file (`sbx list` shows them), or name the file with `-f`.",
        "$ sbx logs wbe",
    ),
    ending(
        &[64],
        "sbx::name",
        "this cannot be the name of a project",
        "`sbx init --project` got a name that is not 3 to 63 of `a-z`, `0-9` and `-`, beginning with a letter.",
        "Use letters, digits and hyphens.",
        "$ sbx init --project My_App",
    ),
    // What stands in the way before anything begins.
    ending(
        &[65],
        "sbx::invalid-configuration",
        "the configuration has errors",
        "At least one of the errors in the first part of this page. With `--json` they are in `diagnostics`. Nothing was changed.",
        "Mend what is marked; `sbx validate` checks without an engine.",
        "$ sbx plan -f broken.yaml",
    ),
    ending(
        &[65],
        "sbx::plan-errors",
        "the plan has errors",
        "At least one of the errors in the second part of this page: something that the file names is not on this host, or there \
         would be too many sandboxes. Nothing was changed.",
        "Do what the plan says beside each error.",
        "$ sbx apply",
    ),
    ending(
        &[65],
        "sbx::lockfile",
        "the lockfile cannot be used",
        "`sandboxes.lock` cannot be read, was damaged, or is of a newer `sbx`.",
        "Delete it and write it anew with `sbx lock`, or take it from version control.",
        "$ sbx plan",
    ),
    ending(
        &[73],
        "sbx::not-locked",
        "not every image is pinned",
        "`--locked` was given, and an image of the configuration has no digest in `sandboxes.lock`. Nothing was changed.",
        "Pin them with `sbx lock`.",
        "$ sbx apply --locked",
    ),
    ending(
        &[1],
        "sbx::no-digest",
        "the engine tells no digest of the image",
        "The image was pulled, but the engine names no digest of the registry that the reference leads to.",
        "Write the reference in full, with registry and tag.",
        "$ sbx lock",
    ),
    ending(
        &[1],
        "sbx::unreadable-plan",
        "the saved plan cannot be read",
        "The file is not there, may not be read, or was not written by `sbx plan --out` of this version.",
        "Make a new one with `sbx plan --out FILE`.",
        "$ sbx apply missing.plan",
    ),
    ending(
        &[75],
        "sbx::stale-plan",
        "the plan no longer fits what is there",
        "Between the plan and its execution the file, a sandbox or something on the host changed; or the saved plan is for another \
         engine or project. What moved is listed. A step that met the change in the middle is not carried out.",
        "Plan again, look at it, and apply the new plan.",
        "$ sbx apply saved.plan",
    ),
    ending(
        &[75],
        "sbx::lock-held",
        "another sbx is changing the project",
        "A project on an engine is changed by one `sbx` at a time; the message says which process holds it.",
        "Wait until it is done, or let `sbx` wait with `--lock-timeout 5m`.",
        "$ sbx apply --lock-timeout 5m",
    ),
    ending(
        &[75],
        "sbx::file-changed",
        "the file was changed meanwhile",
        "Between reading the file and writing the proposed rules somebody else wrote it. It is left as it is.",
        "Run the command again.",
        "$ sbx egress learn api --write",
    ),
    // What needs a person's word.
    ending(
        &[73],
        "sbx::approval-needed",
        "nobody is here to approve the plan",
        "A change needs a `yes`, and standard input is no terminal, or `--json` was given. Nothing was changed.",
        "Look at `sbx plan`, then pass `--auto-approve`, or apply a plan saved with `sbx plan --out FILE`.",
        "$ sbx apply < /dev/null",
    ),
    ending(
        &[73],
        "sbx::not-approved",
        "the plan was not approved",
        "The answer to the question was something else than `yes`. Nothing was changed.",
        "Type the whole word, or pass `--auto-approve`.",
        "$ sbx apply",
    ),
    ending(
        &[73],
        "sbx::loss",
        "something would be lost that cannot be brought back",
        "The plan removes a volume, work that is in no branch, or files written in a sandbox, and nobody has consented to it. Each \
         loss is listed. Nothing was changed.",
        "Save it first, or consent to each with `--accept-loss`, as the message names it.",
        "$ sbx apply --accept-loss volume/old-data",
    ),
    ending(
        &[73],
        "sbx::forbidden",
        "something in the way is not ours",
        "A container, volume, network, file or directory with the name that is needed was not made by this project. `sbx` never \
         touches what it did not make.",
        "Rename yours in the file, or remove what is in the way yourself.",
        "$ sbx apply",
    ),
    ending(
        &[73],
        "sbx::exists",
        "a file is there already",
        "`sbx init` does not write over a configuration, nor `sbx daemon install` over a unit that somebody else wrote.",
        "Edit the file that is there, move it away, or choose another directory.",
        "$ sbx init",
    ),
    // Sandboxes in another state.
    ending(
        &[1],
        "sbx::not-created",
        "the sandbox is not there",
        "It is in the file, but has not been created yet, or was destroyed.",
        "Create it with `sbx apply`.",
        "$ sbx exec api -- true",
    ),
    ending(
        &[1],
        "sbx::not-running",
        "the sandbox does not run",
        "It is there, but its main process has ended or it was stopped.",
        "Start it with `sbx start NAME`; `sbx logs NAME` shows what it wrote last.",
        "$ sbx exec api -- true",
    ),
    ending(
        &[1],
        "sbx::at-gate",
        "the sandbox waits at its gate",
        "Its policy is not in force yet, as no daemon holds it to it. Until then nothing runs in it.",
        "Run `sbx daemon start` or `sbx apply`; `sbx daemon status` tells what stands in the way.",
        "$ sbx shell api",
    ),
    // Egress.
    ending(
        &[73],
        "sbx::not-learning",
        "this sandbox has nothing to learn",
        "`sbx egress learn` proposes rules for `mode: allowlist`; the sandbox has another mode.",
        "Give it `mode: allowlist`.",
        "$ sbx egress learn api",
    ),
    ending(
        &[73],
        "sbx::not-recorded",
        "nothing is recorded of this sandbox",
        "`sbx egress tighten` goes by what was let out, which is recorded with `mode: allowlist` only; the sandbox has another mode.",
        "Give it `mode: allowlist`, and let it work for a while.",
        "$ sbx egress tighten api",
    ),
    ending(
        &[75],
        "sbx::in-use",
        "the rules are being used right now",
        "While `sbx egress tighten` looked, the sandbox used a rule that was about to be taken away. Nothing is proposed.",
        "Run it again.",
        "$ sbx egress tighten api",
    ),
    ending(
        &[1],
        "sbx::authority",
        "the certificate authority cannot be made",
        "The authority by which the proxy reads TLS, or the files by which sandboxes trust it, could not be made.",
        "The message says what failed. Authority and files are made anew by the next run.",
        "$ sbx apply",
    ),
    // The daemon.
    ending(
        &[1],
        "sbx::no-daemon",
        "no daemon runs",
        "The command needs the daemon that serves egress, and there is none.",
        "Start it with `sbx daemon start`; `sbx apply` does when it needs one.",
        "$ sbx egress learn api",
    ),
    ending(
        &[1, 75, 124],
        "sbx::daemon",
        "the daemon does not do what it should",
        "It could not be started (1), answered something unexpected or has been replaced by a newer one (1); another one runs \
         already (75), or one runs and does not answer (124).",
        "See `sbx daemon status` and the log that it names; `sbx daemon run` shows more. Stop one that is in the way with \
         `sbx daemon stop`.",
        "$ sbx daemon run",
    ),
    // The engine, git and the operating system.
    ending(
        &[69],
        "sbx::engine-unreachable",
        "no engine answers",
        "Podman's service is not installed, does not run, or listens elsewhere; or it went away in the middle.",
        "Start it with `systemctl --user start podman.socket`, or name another with `--engine-url`; `sbx doctor` tells more.",
        "$ sbx status --engine-url unix:///nowhere",
    ),
    ending(
        &[124],
        "sbx::timed-out",
        "a deadline passed",
        "The bound given by `--timeout`, or the one that a request, a pull, a readiness check or the end of the daemon has, was \
         reached. Steps that were done stay done; what was begun is taken back or completed.",
        "Give it longer with `--timeout`; look at the engine with `sbx doctor` when it is slow as such.",
        "$ sbx apply --timeout 30s",
    ),
    ending(
        &[1],
        "sbx::not-found",
        "what the engine was asked for is not there",
        "An image is neither on the engine nor in its registry, or an object went away in the middle.",
        "Check the reference of the image, or run the command again.",
        "$ sbx lock",
    ),
    ending(
        &[1],
        "sbx::conflict",
        "the engine's state forbids it",
        "Somebody else holds the name, or the object is in a state that does not allow what was asked.",
        "See what the message names with `podman ps --all`, and run the command again.",
        "$ sbx apply",
    ),
    ending(
        &[1],
        "sbx::denied",
        "the engine, the registry or git refuses",
        "You may not use the engine's socket, are not logged in to the registry, or may not read the repository.",
        "Log in (`podman login REGISTRY`), or correct the permissions that the message names.",
        "$ sbx lock",
    ),
    ending(
        &[1],
        "sbx::no-space",
        "no space is left",
        "The engine's storage or a directory of `sbx` is full, or a quota is used up.",
        "Free some space (`podman system df` shows what the engine holds) and run the command again.",
        "$ sbx apply",
    ),
    ending(
        &[1],
        "sbx::transient",
        "something failed that passes",
        "A connection broke off, or the engine was busy. What can be tried again was tried again first.",
        "Run the command again.",
        "$ sbx apply",
    ),
    ending(
        &[1],
        "sbx::failed",
        "the engine or git failed",
        "Anything that none of the other codes says more about. The message is what the engine or git said.",
        "Act on the message; `sbx doctor` checks what an engine needs.",
        "$ sbx apply",
    ),
    ending(
        &[1],
        "sbx::io",
        "a file, directory or stream cannot be used",
        "The operating system refuses to read or write what the message names: permissions, a full or read-only disk, or a name \
         that is not there.",
        "Check the permissions, free some space, or choose another place with `--state-dir` or `XDG_DATA_HOME`.",
        "$ sbx schema > /dev/full",
    ),
    ending(
        &[1],
        "sbx::completion",
        "there is no completion for this shell",
        "The completion of the shell is not part of this build.",
        "Use one of the shells that `sbx completion --help` lists.",
        "$ sbx completion fish",
    ),
    ending(
        &[130],
        "sbx::interrupted",
        "the run was interrupted",
        "Ctrl-C or a termination signal ended it, or a question was left without an answer. What was begun was completed or taken \
         back.",
        "Run it again: it goes on from what is there.",
        "$ sbx apply",
    ),
    ending(
        &[1],
        "sbx::bug",
        "this is a mistake in sbx",
        "Something happened that cannot happen.",
        "Report it, with the message and what `sbx --version` says.",
        "$ sbx --version",
    ),
];
