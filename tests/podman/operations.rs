//! What whoever operates the daemon relies on: what it tells service managers, logs and metrics, what `doctor` finds, and
//! what happens where this host lacks something.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::egress::{CUT, FAR, Far, KEPT, daemon, does_not_reach, reaches};
use crate::engine::Engine;
use crate::invocation::Running;
use crate::on_every_engine;
use crate::wait::wait_for;

/// Where metrics are served; the engine's network is the test's own.
const METRICS: u16 = 9464;

/// One sandbox that notes each start of its command, and may reach one port of the far end.
fn configuration() -> String {
    format!(
        "sandboxes:\n  dev:\n    image: host\n    command: [bash, -c, 'echo begun >>/tmp/starts; exec sleep 1000']\n    \
         egress:\n      allow: [{{ host: kept.test, ports: [{KEPT}], protocol: tcp }}]\n      \
         hosts: {{ kept.test: [{FAR}], cut.test: [{FAR}] }}"
    )
}

/// How often the command was started, whether anybody lets us in or not.
fn starts(engine: &Engine) -> usize {
    engine.podman(&["exec", "demo_dev", "sh", "-c", "cat /tmp/starts 2>/dev/null || true"]).lines().count()
}

/// Whether the only sandbox is ready, and why, as `status` and `list` tell.
fn readiness(engine: &Engine) -> (String, String) {
    let [status, list] = ["status", "list"].map(|command| {
        let told = engine.sbx(&[command, "--json"]).run().expect_code(0).json();
        let ready = &told["sandboxes"][0]["conditions"][0];
        assert_eq!(ready["type"], "Ready", "{told}");
        ["status", "reason"].map(|key| ready[key].as_str().expect("a word").to_owned())
    });
    assert_eq!(status, list);
    status.into()
}

fn served(engine: &Engine) {
    wait_for("the sandbox to be served", Duration::from_secs(20), || {
        daemon(engine)["sandboxes"][0]["policy"].is_string().then_some(())
    });
}

/// What `doctor` says of one thing: how bad it is, with words and remedy in one.
fn finding(engine: &Engine, check: &str, code: i32) -> (String, String) {
    let found = engine.sbx(&["doctor", "--json"]).run().expect_code(code).json();
    let findings = found["findings"].as_array().expect("a list").iter();
    let of_check: Vec<&Value> = findings.filter(|finding| finding["check"] == check).collect();
    assert_eq!(of_check.len(), 1, "{found:#}");
    let text = |key: &str| of_check[0][key].as_str().unwrap_or_default().to_owned();
    (text("level"), format!("{} {}", text("message"), text("remedy")))
}

/// A file of the daemon's in its runtime directory, where the documentation has it.
fn of_daemon(engine: &Engine, name: &str) -> PathBuf {
    let runtime = engine.socket().parent().unwrap().parent().unwrap().join("sbx");
    let places = std::fs::read_dir(&runtime).unwrap().flatten();
    places.map(|place| place.path().join(name)).find(|file| file.exists()).expect("it is there")
}

/// Asks for the metrics over `stream`, as Prometheus does.
fn scrape(mut stream: impl Read + Write) -> String {
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Waits until what `scraped` gives has every documented name for the sandbox, each counted by what was done.
fn has_every_metric(what: &str, scraped: impl Fn() -> String) {
    let of = r#"project="demo",sandbox="dev""#;
    let wanted = [
        format!(r#"sbx_egress_decisions_total{{{of},protocol="tcp",allowed="true"}}"#),
        format!(r#"sbx_egress_decisions_total{{{of},protocol="tcp",allowed="false"}}"#),
        format!(r#"sbx_egress_bytes_total{{{of},direction="received"}}"#),
        format!(r#"sbx_egress_duration_seconds_bucket{{le="+Inf",{of},protocol="tcp"}}"#),
        format!(r#"sbx_egress_duration_seconds_sum{{{of},protocol="tcp"}}"#),
        format!(r#"sbx_egress_dns_questions_total{{{of},allowed="true"}}"#),
    ];
    let missing = |text: &str| -> Vec<String> {
        let counted = |name: &&String| {
            let line = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
            line.and_then(|number| number.trim().parse::<f64>().ok()).is_some_and(|number| number > 0.0)
        };
        wanted.iter().filter(|name| !counted(name)).cloned().collect()
    };
    let mut last = String::new();
    // A connection is counted once it has ended on both sides.
    let found = crate::wait::eventually(Duration::from_secs(10), || {
        last = scraped();
        missing(&last).is_empty().then_some(())
    });
    assert!(found.is_some(), "{what} has no {:#?} in\n{last}", missing(&last));
    assert!(last.contains(&format!("sbx_egress_flows{{{of}}} ")), "{last}");
    assert!(last.lines().any(|line| line == "sbx_egress_lost_records 0"), "{last}");
}

/// Reaches what is allowed, and tries what is not.
fn traffic(engine: &Engine) {
    reaches(engine, "kept.test", KEPT);
    does_not_reach(engine, "kept.test", CUT);
}

/// Lines of a command that goes on, as they come.
fn lines(running: &mut Running<'_>) -> mpsc::Receiver<String> {
    let stdout = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
    lines
}

/// Perl that becomes the program in its arguments, which may not enter namespaces, as where a seccomp profile forbids it.
fn forbids_setns() -> String {
    let (prctl, setns) = match std::env::consts::ARCH {
        "x86_64" => (157, 308),
        _ => (167, 268),
    };
    format!(
        "my $filter = join '', map {{ pack 'SCCL', @$_ }} [0x20, 0, 0, 0], [0x15, 0, 1, {setns}], [0x06, 0, 0, 0x50001], \
         [0x06, 0, 0, 0x7fff0000]; my $program = pack 'S x6 P', 4, $filter; \
         syscall({prctl}, 38, 1, 0, 0, 0) and die $!; syscall({prctl}, 22, 2, $program, 0, 0) and die $!; exec @ARGV; die $!;"
    )
}

on_every_engine! {
    /// Without `nft` nothing of a sandbox's own runs, and it is said why; once it is there, everything goes on.
    fn without_nft(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure(&configuration());
        assert_eq!(finding(engine, "egress policies", 0).0, "ok");
        engine.as_root("mount").args(["--bind", "/dev/null", "/usr/sbin/nft"]).ok();
        let failed = engine.try_apply(&[]).expect_code(1);
        let told = failed.told();
        assert!(told.contains("the program nft is not installed"), "{told}");
        assert!(told.contains("install the package nftables"), "{told}");
        let (level, told) = finding(engine, "egress policies", 0);
        assert_eq!(level, "warning");
        assert!(told.contains("nft is not installed") && told.contains("install the package nftables"), "{told}");

        // Whoever starts it, and whatever is there by now: it waits.
        engine.podman(&["start", "demo_dev"]);
        assert_eq!(starts(engine), 0, "something of it ran");
        let refused = engine.sbx(&["exec", "dev", "--", "true"]).run().expect_code(1);
        assert!(refused.told().contains("waits at its gate"), "{}", refused.stderr);
        assert_eq!(readiness(engine), ("False".to_owned(), "AtItsGate".to_owned()));
        wait_for("the daemon to say so", Duration::from_secs(10), || {
            daemon(engine)["sandboxes"][0]["problem"].as_str().is_some_and(|why| why.contains("nft")).then_some(())
        });
        let (level, told) = finding(engine, "daemon", 0);
        assert_eq!(level, "warning", "{told}");
        assert!(told.contains("demo/dev: ") && told.contains("nft"), "{told}");

        engine.as_root("umount").arg("/usr/sbin/nft").ok();
        engine.converge();
        assert_eq!(starts(engine), 1);
        assert_eq!(readiness(engine), ("True".to_owned(), "Running".to_owned()));
        traffic(engine);
        assert_eq!(finding(engine, "egress policies", 0).0, "ok");
    }

    /// Where no daemon can be started nothing is made that needs one, and it is said what is in the way.
    fn without_a_daemon(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure(&configuration());
        let refused = |words: &[&str]| {
            let failed = engine.try_apply(&[]).expect_code(1);
            for word in words {
                assert!(failed.told().contains(word), "{word}: {}", failed.stderr);
            }
            assert!(engine.containers().is_empty(), "{:?}", engine.containers());
        };
        // Where its log would be there is no directory, which root cannot write to either.
        let place = engine.home().join(".local/state/sbx/daemon");
        engine.command("mkdir").arg("-p").arg(place.parent().unwrap()).ok();
        engine.command("touch").arg(&place).ok();
        refused(&["policy/dev", "the daemon cannot be started: its log", "choose another place with --state-dir"]);
        engine.command("rm").arg(&place).ok();
        // Its program ends at once, and what it said last is told.
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let lock = of_daemon(engine, "daemon.lock");
        engine.command("rm").arg(&lock).ok();
        engine.command("mkdir").arg(&lock).ok();
        let said = "the daemon could not be started; nothing that needs it was changed";
        refused(&["policy/dev", said, "daemon.lock: is a directory", "its log is", "`sbx daemon run` shows more"]);
        engine.command("rmdir").arg(&lock).ok();

        engine.converge();
        assert_eq!(starts(engine), 1);
        traffic(engine);
    }

    /// A daemon that may not enter namespaces lets nobody in, whoever starts the sandbox; `apply` tells.
    fn without_a_way_into_namespaces(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure(&configuration());
        let without_setns = |words: &str| {
            let sbx = engine.sbx_path().display().to_string();
            let words = [vec![sbx.as_str()], words.split(' ').collect()].concat();
            engine.command("perl").env("CONTAINER_HOST", engine.url()).args(["-e", &forbids_setns()]).args(words).run()
        };
        let failed = without_setns("apply --auto-approve").expect_code(1);
        for word in ["container/dev", "namespace", "the daemon must run as the user whose engine runs the sandbox"] {
            assert!(failed.told().contains(word), "{word}: {}", failed.stderr);
        }
        engine.podman(&["start", "demo_dev"]);
        wait_for("the daemon to say so", Duration::from_secs(10), || {
            let problem = daemon(engine)["sandboxes"][0]["problem"].as_str().map(str::to_owned);
            problem.is_some_and(|why| why.contains("namespace")).then_some(())
        });
        assert_eq!(starts(engine), 0, "something of it ran");
        assert_eq!(readiness(engine), ("False".to_owned(), "AtItsGate".to_owned()));

        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        engine.converge();
        assert_eq!(starts(engine), 1);
        traffic(engine);
    }

    /// `doctor` misses a daemon where one is needed, and only there.
    fn the_doctor_knows_the_daemon(engine) {
        let (level, told) = finding(engine, "daemon", 0);
        assert!(level == "ok" && told.contains("no sandbox needs one"), "{told}");
        engine.configure(&configuration());
        engine.converge();
        let (level, told) = finding(engine, "daemon", 0);
        assert!(level == "ok" && told.contains("serves 1 sandbox"), "{told}");
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let (level, told) = finding(engine, "daemon", 1);
        assert!(level == "error" && told.contains("demo/dev") && told.contains("sbx daemon start"), "{told}");
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        served(engine);
        assert_eq!(finding(engine, "daemon", 0).0, "ok");
        // A program of another time.
        let later = engine.sbx(&["doctor"]).env("SBX_DAEMON_VERSION", "99.0.0").run().expect_code(0);
        assert!(later.stdout.contains("older than this program, 99.0.0"), "{}", later.stdout);
        engine.sbx(&["destroy", "--auto-approve", "--accept-loss", "container/dev"]).run().expect_code(0);
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let (level, told) = finding(engine, "daemon", 0);
        assert!(level == "ok" && told.contains("no sandbox needs one"), "{told}");
    }

    /// A service manager is told when it answers and that it lives, its log and its metrics are for programs, and a log
    /// that is followed tells a denial as it happens.
    fn what_a_daemon_tells(engine) {
        let _kept = Far::at(engine, KEPT);
        let path = engine.dir().join("notify.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let told = || {
            let mut text = [0; 512];
            let length = manager.recv(&mut text).expect("a word of the daemon");
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        let address = format!("127.0.0.1:{METRICS}");
        let watched = engine
            .sbx(&["daemon", "run", "--log-format", "json", "--metrics", &address])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .start();
        assert_eq!(told().trim(), "READY=1");
        // It answers by then, so that whoever was waiting for it may go on.
        let pid = daemon(engine)["pid"].clone();
        assert!(pid.is_u64(), "{pid}");
        assert_eq!(told().trim(), "WATCHDOG=1");

        engine.configure(&configuration());
        engine.converge();
        assert_eq!(daemon(engine)["pid"], pid, "it is the one that is used");
        traffic(engine);
        has_every_metric("the address", || {
            let connect = || TcpStream::connect(("127.0.0.1", METRICS));
            scrape(engine.namespaces().within_network(connect).expect("metrics are served"))
        });
        watched.signal(Signal::TERM);
        let ended = watched.finish().expect_code(0);
        let records: Vec<Value> = ended
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let of = |message: &str| {
            let found = records.iter().find(|record| record["fields"]["message"] == message);
            found.unwrap_or_else(|| panic!("no {message} in {}", ended.stderr))
        };
        assert!(of("the daemon runs")["timestamp"].is_string());
        assert_eq!(of("served")["fields"]["sandbox"], "dev");
        assert_eq!(of("the daemon ends")["level"], "INFO");
        let mut last = told();
        while last.trim() == "WATCHDOG=1" {
            last = told();
        }
        assert_eq!(last.trim(), "STOPPING=1");

        // Without an address it is a socket, its owner's alone.
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        served(engine);
        let mut following = engine.sbx(&["egress", "log", "dev", "--denied", "--follow", "--since", "0s"]).start();
        let lines = lines(&mut following);
        traffic(engine);
        let line = lines.recv_timeout(Duration::from_secs(10)).expect("the denial, as it happens");
        assert!(line.contains("DENIED") && line.contains(&format!("kept.test:{CUT}")), "{line}");
        does_not_reach(engine, "cut.test", CUT);
        let line = lines.recv_timeout(Duration::from_secs(10)).expect("the next one");
        assert!(line.contains("DENIED") && line.contains("cut.test"), "{line}");
        following.signal(Signal::INT);
        assert_eq!(following.finish().code, 130, "interrupted");
        let socket = of_daemon(engine, "metrics.sock");
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        has_every_metric("the socket", || scrape(UnixStream::connect(&socket).expect("metrics are served")));
    }

    /// A newer program's `apply` ousts a unit's daemon, which starts anew as the newer one and takes the place back, while
    /// policies come into force: the `apply` goes on with whoever is there.
    fn an_apply_amid_replacements(engine) {
        let _kept = Far::at(engine, KEPT);
        // As the unit has it: started again by the exit code, after a moment.
        let sbx = engine.sbx_path();
        let run = format!("{} daemon run --replace --supervised", sbx.display());
        let script = format!("SBX_DAEMON_VERSION=0.0.1 {run}; [ $? = 1 ] && sleep 0.5 && exec {run}");
        let unit = engine.command("sh").env("CONTAINER_HOST", engine.url()).args(["-c", &script]).start();
        let version = || daemon(engine)["version"].as_str().map(str::to_owned);
        wait_for("the older daemon", Duration::from_secs(10), || version().filter(|version| version == "0.0.1"));
        let sandboxes = ["dev", "dev-0", "dev-1", "dev-2", "dev-3"].map(|name| format!("  {name}: {{}}\n")).concat();
        let configure = |rules: &str| {
            engine.configure(&format!(
                "defaults:\n  image: host\n  egress: {{ allow: [{rules}], hosts: {{ kept.test: [{FAR}] }} }}\n\
                 sandboxes:\n{sandboxes}"
            ));
        };
        let rule = format!("{{ host: kept.test, ports: [{KEPT}], protocol: tcp }}");
        configure(&rule);
        engine.apply();
        configure(&format!("{rule}, {{ host: other.test }}"));
        engine.converge();
        reaches(engine, "kept.test", KEPT);
        assert_ne!(version().as_deref(), Some("0.0.1"));
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let ended = unit.finish().expect_code(0);
        assert!(ended.stderr.contains("a newer daemon has taken over"), "it was ousted: {}", ended.stderr);
    }
}
