//! An engine behind ssh: a real sshd inside, and the system's own client with the user's configuration.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::engine::{Engine, Kind};
use crate::invocation::{Finished, Running};
use crate::wait::wait_for;

const PORT: u16 = 2222;

/// A client takes its keys from the home directory that the account names, whatever `HOME` says; so a wrapper in front
/// of the real one names the configuration.
fn client(engine: &Engine) -> String {
    let dir = engine.dir().join("ssh");
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let config = format!(
        "IdentityFile {dir}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {dir}/known_hosts\n\
         StrictHostKeyChecking accept-new\n",
        dir = dir.display()
    );
    fs::write(dir.join("config"), config).unwrap();
    let wrapper = format!("#!/bin/sh\nexec /usr/bin/ssh -F {}/config \"$@\"\n", dir.display());
    fs::write(bin.join("ssh"), wrapper).unwrap();
    engine.as_root("chmod").arg("755").arg(bin.join("ssh")).ok();
    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display())
}

/// Serves ssh until dropped.
fn sshd(engine: &Engine) -> Running<'_> {
    let dir = engine.dir().join("ssh");
    for key in ["host_key", "user_key"] {
        engine.as_root("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(key)).ok();
    }
    let config = format!(
        "ListenAddress 127.0.0.1:{PORT}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         HostKey {dir}/host_key\nAuthorizedKeysFile {dir}/user_key.pub\n",
        dir = dir.display()
    );
    fs::write(dir.join("sshd_config"), config).unwrap();
    // Its directory for privilege separation need not be there.
    let start = "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f \"$0\"";
    let mut command = engine.as_root("sh").args(["-c", start]).arg(dir.join("sshd_config"));
    command.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = command.spawn();
    let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("Server listening"))), "sshd did not start");
    // Nobody reads what it says later; it must be able to say it.
    std::thread::spawn(move || lines.for_each(drop));
    server
}

/// An apply whose data are in a file system that the engine does not see, as those of another machine are.
fn elsewhere(engine: &Engine, path: &str) -> Finished {
    let (url, data) =
        (format!("ssh://root@127.0.0.1:{PORT}{}", engine.socket().display()), engine.dir().join("unseen"));
    fs::create_dir(&data).unwrap();
    let script = "mount -t tmpfs none \"$0\" && XDG_DATA_HOME=$0 exec \"$@\"";
    let command = engine.as_root("unshare").args(["--mount", "sh", "-c", script]).arg(&data).arg(engine.sbx_path());
    let command = command.args(["--engine-url", &url, "apply", "--auto-approve"]);
    command.env("PATH", path).env("NO_COLOR", "1").run()
}

fn over_ssh(kind: Kind) {
    let engine = Engine::start(kind);
    let path = client(&engine);
    let _server = sshd(&engine);
    let root = engine.rootfs_tar("root.tar");
    engine.configure(&format!(
        "images: {{ base: {{ rootfs: {} }} }}\nsandboxes: {{ dev: {{ image: base }} }}",
        root.display()
    ));
    let sbx = |port: u16, args: &[&str]| {
        let url = format!("ssh://root@127.0.0.1:{port}{}", engine.socket().display());
        let command = engine.sbx(&["--engine-url", &url]).args(args).env_remove("CONTAINER_HOST").env("PATH", &path);
        command.input("typed\n").run()
    };
    sbx(PORT, &["plan", "--detailed-exitcode"]).expect_code(2);
    // It is told that sandboxes are made where nothing of this machine is, unless both see the same files, as they do here.
    let planned = sbx(PORT, &["plan", "--json"]).expect_code(0).json();
    assert_eq!(planned["warnings"][0]["code"], "sbx::remote-engine", "{planned:#}");
    let blind = elsewhere(&engine, &path).expect_code(1);
    for part in ["no such file or directory", "the engine runs on another machine", "run sbx on that machine"] {
        assert!(blind.told().contains(part), "{part}: {}", blind.stderr);
    }
    sbx(PORT, &["apply", "--auto-approve"]).expect_code(0);
    let planned = sbx(PORT, &["plan", "--json", "--detailed-exitcode"]).expect_code(0).json();
    assert_eq!(planned["warnings"].as_array().map(Vec::len), Some(0), "{planned:#}");
    assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
    let told = sbx(PORT, &["exec", "dev", "--", "sh", "-c", "cat; echo out; echo err >&2; exit 7"]).expect_code(7);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("typed\nout\n", "err\n"));

    // Nobody listens there: said, with what to try.
    let refused = sbx(PORT + 1, &["plan"]).expect_code(69);
    for part in ["Connection refused", "`ssh -p 2223 root@127.0.0.1 ls"] {
        assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
    }
    assert!(!refused.told().contains("systemctl --user start"), "{}", refused.stderr);

    sbx(PORT, &["destroy", "--auto-approve"]).expect_code(0);
    assert!(engine.containers().is_empty());
    // No tunnel outlives its run.
    let tunnels = || engine.command("sh").args(["-c", "grep -lazx -e -N /proc/[0-9]*/cmdline"]).run().stdout;
    let scratch =
        || engine.command("sh").args(["-c", "find \"$TMPDIR\" -name 'sbx-*' ! -name '*.turn'; true"]).run().stdout;
    let gone = || {
        wait_for("the end of every tunnel", Duration::from_secs(10), || tunnels().is_empty().then_some(()));
    };
    gone();
    // Nor does it when the run is interrupted: while the other end says nothing yet, and while the host is looked at.
    let _mute = engine.namespaces().within_network(|| TcpListener::bind(("127.0.0.1", PORT + 2))).unwrap();
    engine.configure(
        "images: { base: { rootfs: ./root.tar } }\n\
         secrets: { slow: { command: [sh, -c, 'touch begun; sleep 54321; true'] } }\n\
         sandboxes: { dev: { image: base, env: { SLOW: { secret: slow } } } }",
    );
    for (port, signal, begun) in [
        (PORT + 2, Signal::INT, &tunnels as &dyn Fn() -> String),
        (PORT + 2, Signal::HUP, &tunnels),
        (PORT + 2, Signal::KILL, &tunnels),
        (PORT, Signal::TERM, &|| engine.command("sh").args(["-c", "cat begun && echo begun"]).run().stdout),
    ] {
        let url = format!("ssh://root@127.0.0.1:{port}{}", engine.socket().display());
        let command = engine.sbx(&["--engine-url", &url, "plan"]).env_remove("CONTAINER_HOST").env("PATH", &path);
        let plan = command.start();
        wait_for("the plan to be under way", Duration::from_secs(20), || (!begun().is_empty()).then_some(()));
        assert!(!tunnels().is_empty());
        plan.signal(signal);
        // A kill leaves nobody who could say anything.
        let (code, said) = if signal == Signal::KILL { (137, "") } else { (130, "error: interrupted\n") };
        let plan = plan.finish().expect_code(code);
        assert_eq!((plan.stdout.as_str(), plan.stderr.as_str()), ("", said));
        gone();
        wait_for("the end of its directory", Duration::from_secs(10), || scratch().is_empty().then_some(()));
    }
    let sleeps = || engine.command("sh").args(["-c", "grep -lazx 54321 /proc/[0-9]*/cmdline"]).run().stdout;
    wait_for("the end of what the command started", Duration::from_secs(10), || sleeps().is_empty().then_some(()));
}

#[test]
fn over_ssh_rootful_4() {
    over_ssh(Kind::Rootful4);
}

#[test]
fn over_ssh_rootful_5() {
    over_ssh(Kind::Rootful5);
}
