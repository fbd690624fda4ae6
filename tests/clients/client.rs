//! What clients inside do, and what is demanded of them.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::Value;

use crate::wait::wait_for;
use crate::world::{ALLOWED, DENIED, World};

/// A refusal that takes longer has left the client waiting; what is between is the client's own start on a busy machine.
const QUICK: Duration = Duration::from_secs(10);

/// Where the authority of the world is inside, for clients that are told.
pub const AUTHORITY: &str = "/opt/trust/ca.pem";

impl World<'_> {
    /// A sandbox `dev` that has the tools of this machine, those of Java too, `./trust` at `/opt/trust`, and these rules;
    /// `more` are further fields.
    #[track_caller]
    pub fn apply(&self, more: &str, rules: &[&str]) {
        let rules = rules.join("\n        - ");
        let engine = self.engine;
        let java = if fs::exists("/etc/java-17-openjdk").is_ok_and(|there| there) && !engine.kind().is_5() {
            ", java-17-openjdk"
        } else {
            ""
        };
        engine.configure(&format!(
            "images:\n\
             \x20 tools: {{ host: {{ etc: [ssl, ca-certificates, alternatives, ld.so.cache{java}] }} }}\n\
             sandboxes:\n\
             \x20 dev:\n\
             \x20   image: tools\n\
             \x20   mounts: [{{ source: ./trust, target: /opt/trust }}{more}]\n\
             \x20   egress:\n\
             \x20     allow:\n        - {rules}"
        ));
        let authority = engine.project().join("trust/ca.pem");
        engine.sbx(&["apply", "--auto-approve"]).env("SSL_CERT_FILE", authority).run().expect_code(0);
    }

    /// A directory that nginx serves under `label.example.org`, and under `label.example.net`, which is not allowed.
    pub fn www(&self, label: &str) -> PathBuf {
        let www = self.dir().join("www");
        let dir = www.join(format!("{label}.{ALLOWED}"));
        fs::create_dir_all(&dir).unwrap();
        match symlink(&dir, www.join(format!("{label}.{DENIED}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => dir,
        }
    }

    /// The client does its work; what it prints.
    #[track_caller]
    pub fn works(&self, script: &str) -> String {
        self.inside(script).ok()
    }

    /// The same client, with `label.example.org` replaced by `label.example.net`: it fails, at once; nginx hears nothing;
    /// the log says which name it was.
    #[track_caller]
    pub fn refused_elsewhere(&self, label: &str, script: &str) {
        let (allowed, denied) = (format!("{label}.{ALLOWED}"), format!("{label}.{DENIED}"));
        assert!(script.contains(&allowed), "{script} does not name {allowed}");
        let script = script.replace(&allowed, &denied);
        self.fails_quickly(&script);
        assert_eq!(self.requests(&denied, ""), [""; 0], "arrived although {denied} is not allowed");
        self.recorded(&script, |record| record["host"] == denied);
    }

    /// A client that asks an allowed host for what is not allowed there fails, at once; nginx hears nothing of it; the log
    /// says what it was.
    #[track_caller]
    pub fn refused_there(&self, host: &str, path: &str, script: &str) {
        self.fails_quickly(script);
        assert_eq!(self.requests(host, path), [""; 0], "arrived although {path} is not allowed");
        self.recorded(script, |record| {
            record["host"] == host && record["path"].as_str().is_some_and(|asked| asked.contains(path))
        });
    }

    /// The script fails, and does not take long to.
    #[track_caller]
    pub fn fails_quickly(&self, script: &str) {
        let begun = Instant::now();
        let finished = self.inside(script).run();
        let took = begun.elapsed();
        assert_ne!(finished.code, 0, "{script}\nwas let through: {}", finished.stdout);
        let said = finished.stderr + &finished.stdout;
        assert!(took < QUICK, "{script}\nwas refused after {took:?}: {said}");
        eprintln!("refused after {took:?}, as it should be: {script}\n{said}");
    }

    /// There is a record of a refusal that `fits`.
    #[track_caller]
    pub fn recorded(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        wait_for(&format!("a record of the refusal of {what}"), Duration::from_secs(5), || {
            let log = self.engine.sbx(&["egress", "log", "dev", "--denied", "--json"]).ok();
            log.lines().any(|line| serde_json::from_str(line).is_ok_and(|record| fits(&record))).then_some(())
        });
    }

    fn inside(&self, script: &str) -> crate::invocation::Invocation<'_> {
        self.engine.sbx(&["exec", "-T", "dev", "--", "bash", "-euo", "pipefail", "-c", script])
    }
}
