//! Ports on internal networks: peers reach what is declared, as long as it is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::invocation::Running;
use crate::on_every_engine;
use crate::wait::wait_for;

/// Answers at 8000 to 8002 by both protocols, at every address: TCP says back what it hears, UDP too.
const SERVE: &str = "import socket, threading
def echo(c):
    try:
        while data := c.recv(99): c.sendall(data)
    except OSError: pass
def tcp(s):
    while True: threading.Thread(target=echo, args=[s.accept()[0]], daemon=True).start()
def udp(s):
    while True: s.sendto(*s.recvfrom(99))
for port in (8000, 8001, 8002):
    s = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=tcp, args=[s]).start()
    d = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    d.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); d.bind(('::', port))
    threading.Thread(target=udp, args=[d]).start()
";

/// Servers of each mode that has rules, on one network, with what they declare; a client, and one under no rules.
fn configuration(declared: &str) -> String {
    let serve = serde_json::json!(["python3", "-c", SERVE]);
    let server = |name: &str, mode: &str| {
        format!("  {name}: {{ networks: [{{ name: backend{declared} }}], egress: {{ {mode} }}, command: {serve} }}\n")
    };
    format!(
        "quotas: {{ perOwner: 9 }}\nnetworks: {{ backend: {{}} }}\ndefaults: {{ image: host }}\nsandboxes:\n{}{}{}{}  \
         client: {{ networks: [backend], command: {serve} }}\n  \
         loose: {{ networks: [backend], egress: {{ mode: open }} }}\n",
        server("lists", "mode: allowlist"),
        server("nobody", "mode: none"),
        server("direct", "mode: direct"),
        server("tunnel", "transport: socket"),
    )
}

const SERVERS: [&str; 4] = ["lists", "nobody", "direct", "tunnel"];

/// What a client in `sandbox` meets at a port: `echo`, `refused` or `silence`.
fn meets(engine: &Engine, sandbox: &str, protocol: &str, host: &str, port: u16) -> String {
    // With `transport: socket` no name resolves.
    let by_address = (sandbox == "tunnel").then(|| addresses(engine, host)[0].to_string());
    let host = by_address.as_deref().unwrap_or(host);
    let script = format!(
        "import socket
(family, kind, _, _, address), *_ = socket.getaddrinfo('{host}', {port}, type=socket.SOCK_{})
s = socket.socket(family, kind); s.settimeout(2)
try:
    s.connect(address); s.send(b'echo'); print(s.recv(99).decode())
except ConnectionRefusedError: print('refused')
except TimeoutError: print('silence')",
        if protocol == "tcp" { "STREAM" } else { "DGRAM" },
    );
    let finished = engine.sbx(&["exec", "-T", sandbox, "--", "python3", "-c", &script]).run();
    if finished.code == 0 { finished.stdout.trim_end().to_owned() } else { format!("{finished:?}") }
}

/// A connection that stays.
struct Talk<'e> {
    _running: Running<'e>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl<'e> Talk<'e> {
    fn start(engine: &'e Engine, sandbox: &str, host: &str, port: u16) -> Self {
        let script = format!(
            "import socket, sys
s = socket.create_connection(('{host}', {port}), timeout=5)
for line in sys.stdin:
    try: s.send(line.encode()); print(s.recv(99).decode().strip() or 'end', flush=True)
    except ConnectionError: print('cut', flush=True)
    except TimeoutError: print('silence', flush=True)"
        );
        let mut invocation = engine.sbx(&["exec", "-T", sandbox, "--", "python3", "-c", &script]);
        invocation.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = invocation.spawn();
        let stdin = running.child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
        Self { _running: running, stdin, stdout }
    }

    /// What comes back for a line.
    fn say(&mut self, line: &str) -> String {
        let mut heard = String::new();
        writeln!(self.stdin, "{line}").expect("it listens");
        self.stdout.read_line(&mut heard).expect("it answers");
        heard.trim_end().to_owned()
    }
}

/// The addresses of a sandbox on the network, of each family that it has.
fn addresses(engine: &Engine, sandbox: &str) -> Vec<IpAddr> {
    let inspected = engine.container(sandbox);
    let endpoint = &inspected["NetworkSettings"]["Networks"]["demo_backend"];
    let address = |key: &str| endpoint[key].as_str()?.parse().ok();
    ["IPAddress", "GlobalIPv6Address"].into_iter().filter_map(address).collect()
}

on_every_engine! {
    /// Peers of any mode reach a sandbox at the ports it declares and at no other, whatever listens there; what it begins itself
    /// is answered.
    fn ports_are_declared(engine) {
        engine.configure(&configuration(", ports: [8000], udpPorts: [\"8001-8001\"]"));
        engine.converge();
        for server in SERVERS {
            wait_for("the server", Duration::from_secs(20), || {
                (meets(engine, "client", "tcp", server, 8000) == "echo").then_some(())
            });
            let own = addresses(engine, server);
            assert!(!own.is_empty());
            for address in own {
                for from in ["client", "loose"] {
                    let at = |protocol: &str, port| meets(engine, from, protocol, &address.to_string(), port);
                    assert_eq!(at("tcp", 8000), "echo", "{from} {server} {address}");
                    assert_eq!(at("udp", 8001), "echo", "{from} {server} {address}");
                    assert_eq!(at("tcp", 8001), "refused", "{from} {server} {address}");
                    assert_eq!(at("udp", 8000), "silence", "{from} {server} {address}");
                }
            }
            assert_eq!(meets(engine, server, "tcp", "client", 8002), "echo", "{server}: a plain name is every port");
            assert_eq!(meets(engine, server, "udp", "client", 8002), "echo", "{server}: answers come in");
            let others = SERVERS.into_iter().filter(|other| *other != server);
            for other in others {
                assert_eq!(meets(engine, server, "tcp", other, 8000), "echo", "{server} {other}");
                assert_eq!(meets(engine, server, "tcp", other, 8002), "refused", "{server} {other}");
            }
        }
    }

    /// A port is closed, and opened again, without another container: what was connected there is cut, and nothing else.
    fn a_declared_port_is_taken_away(engine) {
        engine.configure(&configuration(", ports: [8000, 8001]"));
        engine.converge();
        let ids = || SERVERS.map(|server| engine.id(server));
        let before = ids();
        let mut talks = Vec::new();
        for server in SERVERS {
            wait_for("the server", Duration::from_secs(20), || {
                (meets(engine, "client", "tcp", server, 8001) == "echo").then_some(())
            });
            let both = [8000, 8001].map(|port| Talk::start(engine, "client", server, port));
            talks.push((server, both));
        }
        for (server, both) in &mut talks {
            assert_eq!(both.each_mut().map(|talk| talk.say("one")), ["one", "one"], "{server}");
        }
        engine.configure(&configuration(", ports: [8000]"));
        let plan = engine.sbx(&["plan"]).run().stdout;
        assert!(plan.contains("networks[backend]") && plan.contains("tcp 8000"), "{plan}");
        engine.apply();
        for (server, both) in &mut talks {
            assert_eq!(both.each_mut().map(|talk| talk.say("two")), ["two", "cut"], "{server}");
            assert_eq!(meets(engine, "client", "tcp", server, 8001), "refused", "{server}");
        }
        // Nobody at all, and everybody again.
        engine.configure(&configuration(", ports: []"));
        engine.apply();
        for server in SERVERS {
            assert_eq!(meets(engine, "client", "tcp", server, 8000), "refused", "{server}");
            assert_eq!(meets(engine, server, "tcp", "client", 8000), "echo", "{server}");
        }
        engine.configure(&configuration(""));
        engine.apply();
        for server in SERVERS {
            assert_eq!(meets(engine, "client", "udp", server, 8002), "echo", "{server}");
        }
        assert_eq!(ids(), before, "the containers are the same");
        // Another daemon holds to it from the first moment on.
        engine.configure(&configuration(", ports: [8000]"));
        engine.apply();
        let lists = addresses(engine, "lists")[0].to_string();
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        // Nobody answers for names either.
        assert_eq!(meets(engine, "client", "tcp", &lists, 8000), "echo", "without a daemon");
        assert_eq!(meets(engine, "client", "tcp", &lists, 8001), "refused", "without a daemon");
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        engine.podman(&["restart", "--time", "1", "demo_lists"]);
        wait_for("the server", Duration::from_secs(20), || {
            (meets(engine, "client", "tcp", "lists", 8000) == "echo").then_some(())
        });
        assert_eq!(meets(engine, "client", "tcp", "lists", 8001), "refused", "after a restart");
    }
}
