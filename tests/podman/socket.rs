//! `transport: socket`: no network at all, and a proxy at a unix socket inside.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use crate::egress::{FAR, Far, KEPT, daemon, does_not_reach};
use crate::engine::Engine;
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

const WEB: u16 = 7005;
const SOCKET: &str = "/run/sbx/egress/egress.sock";

/// Says what an HTTP server says to everybody.
fn web(engine: &Engine) {
    let listener = engine.listen_outside(FAR, WEB);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nweb\n");
        }
    });
}

/// What a client in `sandbox` hears that says `request` to the socket at `path`.
fn asks(engine: &Engine, sandbox: &str, path: &str, request: &str) -> String {
    let script = format!(
        "use IO::Socket::UNIX; $SIG{{ALRM}} = sub {{ exit }}; $| = 1; alarm 5; \
         my $s = IO::Socket::UNIX->new(Peer => q({path})) or do {{ print qq(no socket: $!); exit }}; \
         print $s qq({request}\\r\\n\\r\\n); $s->flush; while (sysread $s, my $b, 4096) {{ print $b; last if $b =~ /hello|web/ }}"
    );
    engine.sbx(&["exec", "-T", sandbox, "--", "perl", "-e", &script]).run().stdout
}

fn connect(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}")
}

fn get(host: &str) -> String {
    format!("GET http://{host}:{WEB}/ HTTP/1.1\\r\\nHost: {host}:{WEB}")
}

on_every_engine! {
    /// What rules allow is reached through the socket, nothing by any other way, and by nobody else.
    fn a_socket(engine) {
        let kept = Far::at(engine, KEPT);
        web(engine);
        let sandbox = format!(
            "dev:\n    image: host\n    egress:\n      transport: socket\n      \
             allow: [{{ host: kept.test, ports: [{KEPT}], protocol: tcp }}, {{ host: web.test, ports: [{WEB}], protocol: http }}]\n      \
             hosts: {{ kept.test: [{FAR}], web.test: [{FAR}], other.test: [{FAR}] }}"
        );
        engine.configure(&format!("sandboxes:\n  {sandbox}\n"));
        engine.converge();
        let tunnelled = asks(engine, "dev", SOCKET, &connect("kept.test", KEPT));
        assert!(tunnelled.contains(" 200 ") && tunnelled.ends_with("hello\n"), "{tunnelled}");
        let fetched = asks(engine, "dev", SOCKET, &get("web.test"));
        assert!(fetched.contains(" 200 ") && fetched.ends_with("web\n"), "{fetched}");
        let arrived = kept.accepted();
        for request in [connect("other.test", KEPT), connect("kept.test", WEB), get("other.test"), connect(FAR, KEPT)] {
            let refused = asks(engine, "dev", SOCKET, &request);
            assert!(refused.starts_with("HTTP/1.1 403"), "{request}: {refused}");
        }
        // There is no other way.
        assert_eq!(engine.shell("dev", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo");
        does_not_reach(engine, "kept.test", KEPT);
        does_not_reach(engine, FAR, KEPT);
        assert_eq!(kept.accepted(), arrived);
        let log = engine.sbx(&["egress", "log", "dev"]).ok();
        assert!(log.contains("kept.test") && log.contains("other.test"), "{log}");

        // Whoever else gets to see it.
        let mounts = engine.container("dev")["Mounts"].clone();
        let rows = mounts.as_array().unwrap().iter();
        let mut door = rows.filter(|row| row["Destination"] == "/run/sbx/egress").map(|row| text(&row["Source"]).to_owned());
        let door = door.next_back().expect("it is mounted");
        let beside = |source: &str| {
            engine.configure(&format!(
                "sandboxes:\n  {sandbox}\n  other:\n    image: host\n    mounts: [{{ source: {source}, target: /mnt, mode: ro }}]\n"
            ));
        };
        beside(&door);
        let refused = engine.try_apply(&[]).expect_code(65);
        assert!(refused.told().contains("which is sbx's own"), "{}", refused.stderr);
        // By another name it is not recognized, and of no use.
        let alias = engine.project().join("alias");
        std::fs::create_dir(&alias).unwrap();
        std::fs::hard_link(format!("{door}/egress.sock"), alias.join("egress.sock")).unwrap();
        beside("./alias");
        engine.converge();
        assert_eq!(asks(engine, "other", "/mnt/egress.sock", &connect("kept.test", KEPT)), "");
        assert!(asks(engine, "other", "/mnt/none.sock", "").starts_with("no socket"), "a control: that one is not there");
        assert_eq!(kept.accepted(), arrived);

        // Another daemon makes it anew, where it was.
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let gone = asks(engine, "dev", SOCKET, &connect("kept.test", KEPT));
        assert!(gone.starts_with("no socket"), "{gone}");
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        wait_for("the sandbox to be served again", Duration::from_secs(5), || {
            let sandboxes = daemon(engine)["sandboxes"].clone();
            sandboxes.as_array()?.iter().any(|row| row["policy"].is_string()).then_some(())
        });
        assert!(asks(engine, "dev", SOCKET, &connect("kept.test", KEPT)).ends_with("hello\n"));
    }
}
