//! HTTPS whose requests are judged: programs inside trust the project's authority as they come, and secrets are written into
//! requests outside.

use std::time::Duration;

use hyper::Version;
use serde_json::{Value, json};

use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::project::text;
use crate::upstream::{FAR, Upstream};
use crate::wait::wait_for;

const NAMES: [&str; 3] = ["api.test", "socket.test", "plain.test"];
/// What no sandbox may ever see.
const SECRET: &str = "Bearer 9f86d081-hunter2-of-the-test";

fn upstream(engine: &Engine) -> Upstream {
    Upstream::start(engine, &NAMES, &["stranger.test"], &["other.test"])
}

/// A sandbox `dev` that may do a little with each of the upstream's names. `more` is of the whole file, `rest` of the sandbox.
fn configuration(more: &str, rest: &str) -> String {
    let hosts: Vec<String> =
        NAMES.iter().chain(&["stranger.test", "other.test"]).map(|name| format!("{name}: [{FAR}]")).collect();
    format!(
        "secrets: {{ key: {{ env: KEY }} }}\n{more}sandboxes:\n  dev:\n{rest}    egress:\n      allow:\n\
         \x20       - {{ host: api.test, ports: [443], methods: [GET, POST], paths: ['/v1/**'], request: {{ set: {{ authorization: {{ secret: key }} }} }} }}\n\
         \x20       - {{ host: socket.test, ports: [443], paths: [/socket], upgrade: true }}\n\
         \x20       - {{ host: socket.test, ports: [443], paths: [/plain] }}\n\
         \x20       - {{ host: stranger.test, ports: [443], methods: [GET] }}\n\
         \x20       - {{ host: other.test, ports: [443], methods: [GET] }}\n\
         \x20       - {{ host: plain.test, ports: [443] }}\n      hosts: {{ {} }}",
        hosts.join(", ")
    )
}

#[track_caller]
fn apply(engine: &Engine, upstream: &Upstream) {
    let trusted = engine.write("upstream.pem", &upstream.authority);
    let applied = engine.sbx(&["apply", "--auto-approve"]).env("SSL_CERT_FILE", trusted).env("KEY", SECRET).run();
    applied.expect_code(0);
    engine.sbx(&["plan", "--detailed-exitcode"]).env("KEY", SECRET).run().expect_code(0);
}

/// Python that asks as programs do, with nothing said about whom to trust.
const ASK: &str = r"
import json, os, socket, ssl, sys, urllib.error, urllib.request
def ask(method, url, accept='*/*', context=None):
    headers = {'Accept': accept, 'Authorization': 'Basic mine'}
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=9, context=context) as got:
            return [got.status, got.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
    except OSError as error:
        return [0, str(error)]
def websocket(host, path):
    context = ssl.create_default_context()
    with socket.create_connection((host, 443), 9) as plain, context.wrap_socket(plain, server_hostname=host) as stream:
        stream.sendall(f'GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'.encode())
        head = b''
        while b'\r\n\r\n' not in head:
            got = stream.recv(4096)
            if not got: break
            head += got
        status = int(head.split()[1])
        if status != 101: return [status, '']
        stream.sendall(b'hello through')
        return [status, stream.recv(99).decode()]
";

/// What Python inside says to `expression`.
#[track_caller]
fn python(engine: &Engine, expression: &str) -> Value {
    let script = format!("{ASK}\nprint(json.dumps({expression}))\n");
    let said = engine.sbx(&["exec", "-T", "dev", "--", "python3", "-"]).input(script).run().expect_code(0).stdout;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

on_every_engine! {
    /// Allowed is what the rules allow, request by request; a refusal says why; a server that proves nothing gets nothing.
    fn requests_inside_tls(engine) {
        let upstream = upstream(engine);
        engine.configure(&configuration("", "    image: host\n"));
        apply(engine, &upstream);
        let said = python(engine, "ask('GET', 'https://api.test/v1/models')");
        assert_eq!(said, json!([200, "far says GET /v1/models of api.test by HTTP/1.1\n"]));
        assert_eq!(upstream.last("/v1/models").headers["authorization"], SECRET, "and nothing of what was sent inside");
        let before = upstream.got().len();

        let said = python(engine, "ask('GET', 'https://api.test/v2/models')");
        assert_eq!(said[0], 403, "{said}");
        assert!(text(&said[1]).contains("may not reach GET https://api.test/v2/models"), "{said}");
        assert!(text(&said[1]).contains("paths: [\"/v2/models\"]"), "{said}");
        let said = python(engine, "ask('DELETE', 'https://api.test/v1/models', 'application/json')");
        assert_eq!(said[0], 403, "{said}");
        let told: Value = serde_json::from_str(text(&said[1])).unwrap();
        assert_eq!((&told["error"], &told["because"], &told["host"]), (&json!("egress-denied"), &json!("method"), &json!("api.test")), "{told}");
        for name in ["stranger.test", "other.test"] {
            let said = python(engine, &format!("ask('GET', 'https://{name}/')"));
            assert_eq!(said[0], 502, "{said}");
        }
        assert_eq!(upstream.got().len(), before, "nothing of what was refused arrived");

        assert_eq!(python(engine, "websocket('socket.test', '/socket')"), json!([101, "hello through"]));
        assert_eq!(python(engine, "websocket('socket.test', '/plain')"), json!([403, ""]));
        assert_eq!(python(engine, "ask('GET', 'https://socket.test/plain')")[0], 200);

        // What need not be looked into is passed through: the server itself has to be trusted there.
        let said = python(engine, "ask('GET', 'https://plain.test/')");
        assert!(said[0] == 0 && text(&said[1]).contains("CERTIFICATE_VERIFY_FAILED"), "{said}");
        let passed = format!("ask('GET', 'https://plain.test/', context=ssl.create_default_context(cadata={}))", json!(upstream.authority));
        let said = python(engine, &passed);
        assert_eq!(said[0], 200, "{said}");
        // And nobody else's certificate is shown for what is looked into, so whoever trusts only others notices.
        let strict = format!("ask('GET', 'https://api.test/v1/x', context=(lambda c: (c.load_verify_locations(cadata={}), c)[1])(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))", json!(upstream.authority));
        assert_eq!(python(engine, &strict)[0], 0);

        wait_for("the records", Duration::from_secs(2), || {
            let log = engine.sbx(&["egress", "log", "dev"]).ok();
            (log.contains("/v2/models") && log.contains("/v1/models")).then_some(())
        });
    }

    /// The value of a secret is in what the server gets, and nowhere else that somebody inside, or who looks at the engine,
    /// can see.
    fn a_secret_stays_outside(engine) {
        let upstream = upstream(engine);
        let rest = "    image: host\n    command: [sleep, infinity]\n    env: { CANARY: a-canary-of-the-test }\n";
        engine.configure(&configuration("", rest));
        apply(engine, &upstream);
        engine.shell("dev", "echo a-canary-of-the-test >/tmp/canary");
        assert_eq!(python(engine, "ask('POST', 'https://api.test/v1/echo')")[0], 200);
        assert_eq!(upstream.last("/v1/echo").headers["authorization"], SECRET);

        let authority = authority(engine);
        let key = authority.split("PRIVATE KEY-----\n").nth(1).expect("a key").lines().next().unwrap();
        // Backwards, so that the search does not find itself.
        let turned = |text: &str| text.chars().rev().collect::<String>();
        let needles = json!({ "secret": turned(&SECRET[7..]), "key": turned(key), "canary": turned("a-canary-of-the-test") });
        let script = format!("NEEDLES = {needles}\n{SEARCH}");
        let found = engine.sbx(&["exec", "-T", "dev", "--", "python3", "-"]).input(script).run().expect_code(0).stdout;
        for place in ["canary /tmp/canary", "/environ\n", "/mem\n"] {
            assert!(found.contains(place), "the search would not find what is there: {place}: {found}");
        }
        for line in found.lines() {
            assert!(line.starts_with("canary "), "{line} is in what a sandbox sees");
        }

        wait_for("the record", Duration::from_secs(2), || engine.sbx(&["egress", "log"]).ok().contains("/v1/echo").then_some(()));
        let mut told = vec![
            engine.podman(&["inspect", "demo_dev"]),
            engine.sbx(&["egress", "log", "--json"]).ok(),
            engine.sbx(&["plan", "--json"]).env("KEY", SECRET).run().stdout,
            engine.sbx(&["status", "--json"]).run().stdout,
            engine.sbx(&["egress", "policy", "dev", "--json"]).run().stdout,
        ];
        for volume in engine.podman(&["volume", "ls", "-q"]).lines() {
            told.push(engine.podman(&["volume", "inspect", volume]));
        }
        assert!(told.iter().any(|text| text.contains("api.test")));
        for text in told {
            assert!(!text.contains(&SECRET[7..]), "{text}");
        }
        // On the host's disks neither: only in memory, in a file of the daemon's own.
        let dir = engine.dir().display().to_string();
        let files = engine.as_root("grep").args(["-rlsF", "--devices=skip", "--exclude-dir=root", &SECRET[7..], &dir]).run().stdout;
        assert!(files.lines().all(|file| file.ends_with("/secrets")), "{files}");
    }

    /// The same authority for as long as it is good, whoever is started again; another one needs no other container.
    fn the_authority(engine) {
        let upstream = upstream(engine);
        engine.configure(&configuration("", "    image: host\n"));
        apply(engine, &upstream);
        let works = || assert_eq!(python(engine, "ask('GET', 'https://api.test/v1/x')")[0], 200);
        works();
        let (id, first) = (engine.id("dev"), authority(engine));
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let trusted = engine.project().join("upstream.pem");
        apply(engine, &upstream);
        works();
        assert_eq!((engine.id("dev"), authority(engine)), (id.clone(), first.clone()));

        // Not to be changed from inside.
        let refused = engine.sbx(&["exec", "dev", "--", "sh", "-c", "echo x >>/run/sbx/trust/ca-bundle.pem || rm /run/sbx/trust/ca-bundle.pem"]).run();
        assert_ne!(refused.code, 0);

        engine.as_root("sh").args(["-c", &format!("echo damaged >'{}'", authority_file(engine).display())]).ok();
        let planned = engine.sbx(&["plan"]).env("KEY", SECRET).env("SSL_CERT_FILE", trusted).run().expect_code(0);
        assert!(planned.told().contains("certificate authority was made anew"), "{}", planned.stderr);
        assert_ne!(authority(engine), first);
        wait_for("the daemon to take it up", Duration::from_secs(5), || {
            (python(engine, "ask('GET', 'https://api.test/v1/x')")[0] == 200).then_some(())
        });
        assert_eq!(engine.id("dev"), id);
        engine.sbx(&["plan", "--detailed-exitcode"]).env("KEY", SECRET).run().expect_code(0);

        // All of it lost: a new start shows what was made anew.
        let data = engine.home().join(".local/share/sbx");
        engine.as_root("rm").arg("-r").args([data.join("trust"), data.join("authority")]).ok();
        let plan = engine.sbx(&["plan", "--json"]).env("KEY", SECRET).run().expect_code(0).stdout;
        assert!(plan.contains("the file behind /run/sbx/trust was replaced: restart"), "{plan}");
        apply(engine, &upstream);
        works();
        assert_eq!(engine.id("dev"), id);
    }
}

fn authority_file(engine: &Engine) -> std::path::PathBuf {
    engine.home().join(".local/share/sbx/authority/demo.pem")
}

fn authority(engine: &Engine) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let path = authority_file(engine);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    std::fs::read_to_string(path).unwrap()
}

/// Says in which files and which other processes' environment, arguments and memory the needles are.
const SEARCH: &str = r"
import os, stat
needles = {name: text[::-1].encode() for name, text in NEEDLES.items()}
def look(path, data):
    for name, needle in needles.items():
        if needle in data: print(name, path)
def read(path):
    try:
        with open(path, 'rb') as file: return file.read()
    except OSError: return b''
skipped = {'/usr', '/lib', '/lib32', '/lib64', '/libx32', '/bin', '/sbin', '/proc', '/sys'}
for top, directories, files in os.walk('/'):
    directories[:] = [name for name in directories if os.path.join(top, name) not in skipped]
    for name in files:
        path = os.path.join(top, name)
        try: regular = stat.S_ISREG(os.stat(path).st_mode)
        except OSError: continue
        if regular: look(path, read(path))
for process in filter(str.isdigit, os.listdir('/proc')):
    if int(process) == os.getpid(): continue
    for name in ('environ', 'cmdline'): look(f'/proc/{process}/{name}', read(f'/proc/{process}/{name}'))
    try:
        with open(f'/proc/{process}/maps') as maps, open(f'/proc/{process}/mem', 'rb', 0) as memory:
            for line in maps:
                first, last = (int(part, 16) for part in line.split()[0].split('-'))
                if line.split()[1][0] != 'r' or 'vvar' in line or 'vsyscall' in line: continue
                try:
                    memory.seek(first); look(f'/proc/{process}/mem', memory.read(last - first))
                except (OSError, OverflowError, ValueError): pass
    except OSError: pass
";

/// Programs as they come on this machine: curl by HTTP/2 on both sides, Node, Java.
fn clients(kind: Kind) {
    let engine = &Engine::start(kind);
    let upstream = upstream(engine);
    let image =
        "images: { tools: { host: { etc: [ssl, ca-certificates, alternatives, ld.so.cache, java-17-openjdk] } } }\n";
    engine.configure(&configuration(image, "    image: tools\n"));
    apply(engine, &upstream);
    let run = |script: &str| engine.sbx(&["exec", "-T", "dev", "--", "bash", "-c", script]).run();

    let curl =
        run("curl -sS --max-time 9 -w '%{http_code} %{http_version} %{ssl_verify_result}' https://api.test/v1/curl")
            .expect_code(0);
    assert_eq!(curl.stdout, "far says GET /v1/curl of api.test by HTTP/2.0\n200 2 0");
    assert_eq!(upstream.last("/v1/curl").version, Version::HTTP_2);
    let curl =
        run("curl -sS --max-time 9 --http1.1 -o /dev/null -w '%{http_code} %{http_version}' https://api.test/v2/curl")
            .expect_code(0);
    assert_eq!(curl.stdout, "403 1.1");
    let distrusting = run("curl -sS --max-time 9 --cacert /dev/null https://api.test/v1/distrusting");
    assert_ne!(distrusting.code, 0, "{}", distrusting.stdout);

    let node = "node -e \"fetch('https://api.test/v1/node').then(got => got.text()).then(text => process.stdout.write(text), \
                error => { console.error(error); process.exit(1) })\"";
    assert_eq!(run(node).expect_code(0).stdout, "far says GET /v1/node of api.test by HTTP/1.1\n");
    let distrusting = run(&format!("NODE_EXTRA_CA_CERTS= {node}"));
    assert_ne!(distrusting.code, 0, "{}", distrusting.stdout);

    // It looks for a list of certificates there, and finds something else; that it asked is what counts.
    let java = "keytool -printcrl -file https://api.test/v1/java";
    let said = run(java);
    assert!(upstream.got().iter().any(|got| got.path == "/v1/java"), "{said:?}");
    let before = upstream.got().len();
    let distrusting = run(&format!("JAVA_TOOL_OPTIONS= {java}"));
    assert_eq!(upstream.got().len(), before, "{distrusting:?}");
}

#[test]
fn clients_rootful_4() {
    clients(Kind::Rootful4);
}

#[test]
fn clients_rootless_4() {
    clients(Kind::Rootless4);
}
