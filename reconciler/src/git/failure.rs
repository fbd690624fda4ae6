//! What a failed git means: its words, in the C locale, sorted into kinds.

use super::command::Output;
use crate::backend::{BackendError, ErrorKind};

const NO_CREDENTIALS: &str =
    "sbx asks nobody for passwords: set up an ssh key with an agent, or a git credential helper, for this remote";

const CLOSED: &str = "make it yours to read and write, or choose another path";

const NO_ANSWER: &str = "check the address in `repo` and the network";

/// Words of git and ssh, the kind they stand for, and the cure. The first row that fits counts.
const MEANINGS: &[(&str, ErrorKind, Option<&str>)] = &[
    ("no space left on device", ErrorKind::NoSpace, Some("free some space and apply again")),
    ("disk quota exceeded", ErrorKind::NoSpace, Some("free some space and apply again")),
    (
        "host key verification failed",
        ErrorKind::Denied,
        Some("connect once by hand with ssh to check the host's key, or add it to known_hosts"),
    ),
    ("authentication failed", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("terminal prompts disabled", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("could not read username", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("could not read password", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("permission denied (", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("returned error: 403", ErrorKind::Denied, Some(NO_CREDENTIALS)),
    ("server certificate verification failed", ErrorKind::Denied, Some("set http.sslCAInfo in your git configuration")),
    ("ssl certificate problem", ErrorKind::Denied, Some("set http.sslCAInfo in your git configuration")),
    ("transport 'ext' not allowed", ErrorKind::Denied, Some("use an https, ssh or file address")),
    ("does not appear to be a git repository", ErrorKind::NotFound, Some("check the address in `repo`")),
    ("repository not found", ErrorKind::NotFound, Some("check the address in `repo`, and that you may read it")),
    ("does not exist", ErrorKind::NotFound, Some("check the address in `repo`")),
    ("not found", ErrorKind::NotFound, Some("check the address in `repo`")),
    ("could not resolve host", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("name or service not known", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("connection refused", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("no route to host", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("network is unreachable", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("connection timed out", ErrorKind::Transient, None),
    ("failed to connect", ErrorKind::Unreachable, Some(NO_ANSWER)),
    ("connection reset", ErrorKind::Transient, None),
    ("early eof", ErrorKind::Transient, None),
    ("rpc failed", ErrorKind::Transient, None),
    ("remote end hung up", ErrorKind::Transient, None),
    ("returned error: 5", ErrorKind::Transient, None),
    ("permission denied", ErrorKind::Denied, Some(CLOSED)),
];

/// The error of a call that ended with a code other than 0.
pub(super) fn classify(output: &Output) -> BackendError {
    // Advice comes after the cause; the cause is what git marks, or the first thing said.
    let marked = |line: &&String| ["fatal:", "error:", "ERROR:"].iter().any(|mark| line.starts_with(mark));
    let mut causes: Vec<&str> = output.stderr.iter().filter(marked).map(String::as_str).collect();
    if causes.is_empty() {
        causes.extend(output.stderr.first().map(String::as_str));
    }
    let all = output.stderr.join("\n").to_lowercase();
    let meaning = MEANINGS.iter().find(|(words, ..)| all.contains(words));
    // ssh says why in words of its own, before git's "could not read from remote repository".
    if let Some((words, ..)) = meaning
        && let Some(line) = output.stderr.iter().find(|line| line.to_lowercase().contains(words))
        && !causes.contains(&line.as_str())
    {
        causes.insert(0, line);
    }
    causes.truncate(3);
    let said = causes.join("; ");
    let message = match (said.is_empty(), output.status.code()) {
        (false, _) => format!("git: {}", said.trim_start_matches("fatal: ")),
        (true, Some(code)) => format!("git ended with code {code} and said nothing"),
        (true, None) => format!("git was killed ({})", output.status),
    };
    let (kind, help) = meaning.map_or((ErrorKind::Failed, None), |(_, kind, help)| (*kind, *help));
    let error = BackendError::new(kind, message);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// The error of a file operation on `path`.
pub(super) fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> BackendError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Failed,
    };
    let denied = kind == ErrorKind::Denied;
    let error = BackendError::new(kind, format!("cannot {doing} {}: {error}", path.display()));
    if denied { error.with_help(CLOSED) } else { error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn sorts_what_git_says() {
        let cases = [
            ("fatal: unable to access 'https://x/': Could not resolve host: x", ErrorKind::Unreachable),
            ("Permission denied (publickey).\nfatal: Could not read from remote repository.", ErrorKind::Denied),
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", ErrorKind::Denied),
            ("fatal: repository '/srv/x' does not exist", ErrorKind::NotFound),
            ("error: RPC failed; curl 18\nfatal: early EOF", ErrorKind::Transient),
            ("fatal: write error: No space left on device", ErrorKind::NoSpace),
            ("fatal: something new", ErrorKind::Failed),
        ];
        for (said, kind) in cases {
            let stderr = said.lines().map(str::to_owned).collect();
            let error = classify(&Output { status: ExitStatusExt::from_raw(128 << 8), stdout: Vec::new(), stderr });
            assert_eq!(error.kind, kind, "{said}");
            assert!(error.message.starts_with("git: "), "{}", error.message);
        }
    }

    #[test]
    fn says_something_when_git_says_nothing() {
        let output = Output { status: ExitStatusExt::from_raw(1 << 8), stdout: Vec::new(), stderr: Vec::new() };
        assert_eq!(classify(&output).message, "git ended with code 1 and said nothing");
    }
}
