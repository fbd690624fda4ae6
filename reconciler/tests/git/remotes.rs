//! Clones over file, https and ssh, with credentials that only the user's own git configuration knows.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reconciler::backend::{BackendError, ErrorKind};
use reconciler::git::{Git, GitOptions};
use reconciler::op::Op;

use crate::fixture::Host;

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Host {
    fn configure(&self, text: &str) {
        let path = self.path("home/.gitconfig");
        let mut config = std::fs::read_to_string(&path).unwrap();
        config.push_str(text);
        std::fs::write(path, config).unwrap();
    }

    async fn clone_from(&self, repo: &str) -> Result<(), BackendError> {
        self.perform(Op::CloneRepository { repo: repo.to_owned(), clone: self.clone_path() }).await
    }

    async fn clone_and_check_out(&self, repo: &str) {
        self.clone_from(repo).await.expect("cloned");
        let mut spec = self.spec("topic");
        repo.clone_into(&mut spec.repo);
        self.add(&spec).await.expect("added");
        assert_eq!(std::fs::read_to_string(spec.path.join("topic")).unwrap(), "topic\n");
        assert!(self.told.lock().unwrap().iter().any(|line| line.contains("Receiving objects")), "{:?}", self.told);
    }
}

#[tokio::test]
async fn over_file() {
    let host = Host::with_remote("git".as_ref());
    host.clone_and_check_out(&format!("file://{}", host.repo())).await;
    // An object shared by a hard link could be rewritten from inside a sandbox.
    let find = Command::new("find").arg(host.clone_path()).args(["-type", "f", "-links", "+1"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&find.stdout), "");
    let gone = Host::new("git".as_ref());
    let error = gone.clone_from(&format!("file://{}", gone.path("nowhere").display())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(!gone.clone_path().exists());
}

fn https(host: &Host) -> Server {
    let (key, certificate) = (host.path("key.pem"), host.path("certificate.pem"));
    must(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    let both = [std::fs::read(&key).unwrap(), std::fs::read(&certificate).unwrap()].concat();
    std::fs::write(host.path("both.pem"), both).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/git/https_remote.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args([host.dir.path(), &host.path("both.pem")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Server { child, port: line.trim().parse().unwrap() }
}

#[tokio::test]
async fn over_https() {
    let host = Host::with_remote("git".as_ref());
    let server = https(&host);
    let repo = format!("https://127.0.0.1:{}/remote.git", server.port);
    let error = host.clone_from(&repo).await.unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
    host.configure(&format!("[http]\n\tsslCAInfo = {}\n", host.path("certificate.pem").display()));
    let error = host.clone_from(&repo).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let wrong = format!("https://alice:wr0ng@127.0.0.1:{}/remote.git", server.port);
    let error = host.clone_from(&wrong).await.unwrap_err();
    assert!(error.kind == ErrorKind::Denied && !error.message.contains("wr0ng"), "{error}");
    host.configure("[credential]\n\thelper = \"!f() { echo username=alice; echo password=s3cret; }; f\"\n");
    host.clone_and_check_out(&repo).await;
}

fn sshd(host: &Host) -> Server {
    for key in ["host_key", "user_key"] {
        must(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(host.path(key)));
    }
    std::fs::copy(host.path("user_key.pub"), host.path("authorized_keys")).unwrap();
    // Free a moment ago; nobody else in this test asks for one.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = format!("ListenAddress 127.0.0.1:{port}\nPidFile none\nUsePAM no\nStrictModes no\n");
    config.push_str("PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n");
    writeln!(config, "HostKey {}", host.path("host_key").display()).unwrap();
    writeln!(config, "AuthorizedKeysFile {}", host.path("authorized_keys").display()).unwrap();
    std::fs::write(host.path("sshd_config"), config).unwrap();
    // Its directory for privilege separation need not be on the host.
    let start = "if [ \"$(id -u)\" = 0 ]; then mount -t tmpfs none /run && mkdir /run/sshd; fi; exec \"$(command -v sshd || echo /usr/sbin/sshd)\" -D -e -f \"$0\"";
    let mut command = Command::new(if rustix::process::geteuid().is_root() { "unshare" } else { "env" });
    if rustix::process::geteuid().is_root() {
        command.arg("--mount");
    }
    let mut child =
        command.args(["/bin/sh", "-c", start]).arg(host.path("sshd_config")).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = lines.any(|line| line.is_ok_and(|line| line.contains("Server listening")));
    // Nobody reads what it says later; it must be able to say it.
    std::thread::spawn(move || lines.for_each(drop));
    let server = Server { child, port };
    assert!(listens, "sshd did not start");
    server
}

#[tokio::test]
async fn over_ssh() {
    let host = Host::with_remote("git".as_ref());
    let server = sshd(&host);
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let repo = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), server.port, host.repo());
    let known = host.path("known_hosts");
    let ssh = format!("ssh -F none -o UserKnownHostsFile={} -o IdentitiesOnly=yes", known.display());
    host.configure(&format!("[core]\n\tsshCommand = {ssh}\n"));
    let error = host.clone_from(&repo).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Denied && error.message.contains("Host key verification failed"),
        "{error} {:?}",
        host.told
    );
    let key = std::fs::read_to_string(host.path("host_key.pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {key}", server.port)).unwrap();
    let error = host.clone_from(&repo).await.unwrap_err();
    assert!(error.kind == ErrorKind::Denied && error.help.is_some(), "{error} {:?}", host.told);
    host.configure(&format!("[core]\n\tsshCommand = {ssh} -i {}\n", host.path("user_key").display()));
    host.clone_and_check_out(&repo).await;
}

#[tokio::test]
async fn a_silent_remote_is_given_up() {
    let host = Host::new("git".as_ref());
    // Accepts, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let repo = format!("http://{}/x.git", listener.local_addr().unwrap());
    let options = GitOptions {
        remote_deadline: Duration::from_millis(500),
        ..GitOptions::new(host.env.clone(), host.path("scratch"))
    };
    let op = Op::CloneRepository { repo, clone: host.clone_path() };
    let error = Git::new(options).perform(&op, &|_| ()).await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(!host.clone_path().exists());
    drop(listener);
    let closed = host.clone_from("http://127.0.0.1:1/x.git").await.unwrap_err();
    assert_eq!(closed.kind, ErrorKind::Unreachable, "{closed}");
}
