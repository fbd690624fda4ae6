//! Whether an engine answers, asked as a run asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reconciler::podman::{Connect, PING, ping};
use tokio::net::UnixStream;

use super::Finding;
use crate::exit::Exit;
use crate::failure::{Failure, io_text};

const CHECK: &str = "engine";

/// What is at a socket.
#[derive(Debug)]
enum Answer {
    /// Podman, and its version.
    Podman(String),
    /// Somebody who is no engine for us: why, and what to do.
    Other(String, Option<String>),
    /// Nobody: why.
    Nobody(String),
}

/// What is to be said of the engine that a run would find; fails when interrupted.
pub(super) fn check(connect: &Connect) -> Result<Vec<Finding>, Failure> {
    match crate::runtime::block_on(async { Ok(look(connect, PING).await) }) {
        Ok(findings) => Ok(findings),
        Err(failure) if failure.exit == Exit::Interrupted => Err(failure),
        Err(failure) => Ok(vec![Finding::error(CHECK, failure.message.clone(), "free some memory or processes")]),
    }
}

async fn look(connect: &Connect, patience: Duration) -> Vec<Finding> {
    let Connect { url, container_host, candidates, .. } = connect;
    match url.as_ref().or(container_host.as_ref()).filter(|url| !url.is_empty()) {
        Some(url) => vec![match url.strip_prefix("unix://") {
            Some(path) => named(Path::new(path), ask(Path::new(path), patience).await),
            None => Finding::ok(CHECK, format!("{url} (not tried)")),
        }],
        None => found(candidates, patience).await,
    }
}

async fn ask(socket: &Path, patience: Duration) -> Answer {
    // Without waiting: where nobody takes connections any more, nobody answers either.
    if let Err(error) = UnixStream::connect(socket).await {
        return Answer::Nobody(io_text(&error));
    }
    match ping(socket, patience).await {
        Ok(version) => Answer::Podman(version),
        Err(error) => Answer::Other(error.message, error.help),
    }
}

fn answers(socket: &Path, version: &str) -> Finding {
    Finding::ok(CHECK, format!("{} answers, Podman {version}", socket.display()))
}

fn named(socket: &Path, answer: Answer) -> Finding {
    let other = "start it with `podman system service -t 0`, or leave --engine-url and CONTAINER_HOST out";
    match answer {
        Answer::Podman(version) => answers(socket, &version),
        Answer::Other(why, help) => Finding::error(CHECK, why, help.unwrap_or_else(|| String::from(other))),
        Answer::Nobody(why) => Finding::error(CHECK, format!("{}: {why}", socket.display()), other),
    }
}

/// The first of `candidates` that answers, as a run takes it, and what keeps it waiting before that.
async fn found(candidates: &[PathBuf], patience: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for socket in candidates {
        match ask(socket, patience).await {
            Answer::Podman(version) => {
                findings.push(answers(socket, &version));
                return findings;
            }
            Answer::Other(why, _) => findings.push(Finding::warning(
                CHECK,
                format!("{why}, and every run asks it first"),
                "start anew whatever listens there (`systemctl --user restart podman.socket`), or remove the socket",
            )),
            Answer::Nobody(_) => {}
        }
    }
    // Nothing is wrong: a service is started for every run. It only takes a little longer.
    findings.push(Finding::ok(
        CHECK,
        "no socket answers; sbx starts the API service for each run (`systemctl --user enable --now podman.socket` saves that time)",
    ));
    findings
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::super::Level;
    use super::*;

    /// Sockets of each kind. What listens ends with the test's process.
    struct Sockets {
        directory: tempfile::TempDir,
        _mute: UnixListener,
    }

    impl Sockets {
        fn open() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let bound = |name: &str| UnixListener::bind(directory.path().join(name)).expect("bound");
            drop(bound("stale"));
            for (name, head) in [("podman", "Libpod-Api-Version: 5.4.2"), ("docker", "Api-Version: 1.43")] {
                let listener = bound(name);
                std::thread::spawn(move || {
                    for mut stream in listener.incoming().map_while(Result::ok) {
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: 2\r\n\r\nOK");
                    }
                });
            }
            let mute = bound("mute");
            Self { directory, _mute: mute }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }
    }

    #[track_caller]
    fn is(finding: &Finding, level: Level, words: &[&str]) {
        assert_eq!((finding.level, finding.remedy.is_none()), (level, level == Level::Ok), "{finding:?}");
        let text = format!("{} {}", finding.message, finding.remedy.as_deref().unwrap_or_default());
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }

    #[tokio::test]
    async fn only_podman_that_answers_is_one() {
        let sockets = Sockets::open();
        for (name, level, words) in [
            ("podman", Level::Ok, ["answers", "Podman 5.4.2"]),
            ("docker", Level::Error, ["is not Podman", "Docker's is not supported"]),
            ("mute", Level::Error, ["does not answer within", "podman system service"]),
            ("stale", Level::Error, ["connection refused", "podman system service"]),
            ("none", Level::Error, ["no such file", "podman system service"]),
        ] {
            let url = format!("unix://{}", sockets.path(name).display());
            // Long enough for whoever answers at all.
            let patience = Duration::from_millis(if name == "mute" { 50 } else { 10_000 });
            let findings = look(&Connect { container_host: Some(url), ..Connect::default() }, patience).await;
            assert_eq!(findings.len(), 1);
            is(&findings[0], level, &words);
        }
        let elsewhere = Connect { url: Some(String::from("ssh://box/s")), ..Connect::default() };
        is(&look(&elsewhere, PING).await[0], Level::Ok, &["ssh://box/s (not tried)"]);
    }

    #[tokio::test]
    async fn one_that_is_found_is_named_with_what_is_in_its_way() {
        let sockets = Sockets::open();
        let found = async |names: &[&str]| {
            let candidates = names.iter().map(|name| sockets.path(name)).collect();
            look(&Connect { candidates, ..Connect::default() }, Duration::from_secs(1)).await
        };
        let findings = found(&["none", "stale", "podman", "mute"]).await;
        assert_eq!(findings.len(), 1, "what comes later is not asked: {findings:?}");
        is(&findings[0], Level::Ok, &["podman answers"]);
        let findings = found(&["mute", "docker", "podman"]).await;
        is(&findings[0], Level::Warning, &["mute does not answer within 1 s", "every run", "restart podman.socket"]);
        is(&findings[1], Level::Warning, &["docker is not Podman", "remove the socket"]);
        is(&findings[2], Level::Ok, &["podman answers"]);
        is(&found(&["none", "stale"]).await[0], Level::Ok, &["no socket answers"]);
    }
}
