//! P4, P11 and P12: sandboxes behind policies on a real engine, with the daemon that serves them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::{Engine, Kind};
use crate::recorder::{Recorder, Request};
use crate::report::{Figure, Report, Row};
use crate::stopwatch::{in_turns, time_process};
use crate::wait::wait_for;
use crate::{Scale, converge, http, project};

/// The far end of the engine's uplink.
const FAR: &str = "198.51.100.1";

/// Sandboxes that may reach something, and so have to be served.
fn text(sandboxes: usize, command: &str, rules: &str) -> String {
    let mut text = format!(
        "apiVersion: sbx/v1\nproject: bench\nquotas: {{ perOwner: {sandboxes}, total: {sandboxes} }}\n\
         defaults: {{ owner: bench, image: host, egress: {{ hosts: {{ kept.test: [{FAR}], cut.test: [{FAR}] }}, allow: [{rules}] }} }}\n\
         sandboxes:\n"
    );
    for number in 0..sandboxes {
        text.push_str(&format!("  s{number:05}: {{ {command} }}\n"));
    }
    text
}

const KEPT: &str = "{ host: kept.test, ports: [7001], protocol: tcp }";
const CUT: &str = "{ host: cut.test, ports: [7002], protocol: tcp }";

/// P4: `apply` of one more sandbox, which has a policy, until its command runs, beside `podman run` of what it is made of.
pub fn start(scale: &Scale, report: &mut Report) {
    let engine = Engine::start(Kind::Rootful4);
    let command = "command: [sleep, infinity]";
    let create = recorded_create(&engine);
    let write = |sandboxes| engine.write("sandboxes.yaml", text(sandboxes, command, KEPT));
    let file = write(2);
    // The image is there, and a daemon runs, as where sandboxes come and go.
    project::apply(&engine, &file).run().expect_code(0);
    let container = container(&engine, "bench_s00001");
    let run = |network: &str| {
        let mut words =
            vec!["run", "-d", "--name", "plain", "--cap-drop", "all", "--network", network, "--entrypoint", "sleep"];
        let mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
        let volumes: Vec<String> = mounts
            .iter()
            .filter(|mount| mount["Type"] == "bind")
            .map(|mount| format!("{}:{}:ro", string(&mount["Source"]), string(&mount["Destination"])))
            .collect();
        for volume in &volumes {
            words.extend(["-v", volume]);
        }
        let image = string(&container["ImageName"]);
        words.extend([image.as_str(), "infinity"]);
        let took = time_process(engine.podman_command(&words));
        engine.podman(&["rm", "--force", "--time", "0", "plain"]);
        took
    };
    let less = || {
        let file = write(1);
        project::apply(&engine, &file).run().expect_code(0);
    };
    less();
    let raw = || {
        let socket = engine.socket();
        let begun = Instant::now();
        let id = converge::make(&socket, &create);
        let took = begun.elapsed();
        converge::remove(&socket, &id);
        took
    };
    let apply = || {
        let file = write(2);
        let took = time_process(project::apply(&engine, &file));
        less();
        took
    };
    let [none, default, raw, apply] =
        in_turns(scale.rounds(11), &mut [&mut || run("none"), &mut || run("podman"), &mut { raw }, &mut { apply }]);
    let ratio = apply.ratio(&default);
    let rows = vec![
        Row::new(1, "podman run, network none", &none),
        Row::new(1, "podman run, default network", &default),
        Row::new(1, "the create and the start that sbx makes, alone", &raw).beside(
            "default network",
            raw.ratio(&default),
            "",
            true,
        ),
        Row::new(1, "sbx apply, with a policy in force", &apply).beside(
            "default network",
            ratio,
            "≤ 0.6 ×",
            ratio <= 0.6,
        ),
    ];
    report.group("P4", "one sandbox, until its command runs", rows);
}

/// The call by which a sandbox is made, for one of another name.
fn recorded_create(engine: &Engine) -> Request {
    let recorder = Recorder::start(engine.dir().join("run/recorded.sock"), &engine.socket());
    let file = engine.write("sandboxes.yaml", project::text(1));
    project::apply(engine, &file).env("CONTAINER_HOST", recorder.url()).run().expect_code(0);
    let create = recorder.take().into_iter().find(|request| request.path.ends_with("/containers/create"));
    let create = create.expect("a container was created");
    let body = String::from_utf8(create.body).expect("JSON is text").replace("s00000", "raw");
    Request { body: body.into_bytes(), ..create }
}

/// P11: memory of the daemon that serves fifty sandboxes, and of PID 1 in one of them; and how long another daemon takes,
/// once that one was killed, until it serves all of them again.
pub fn memory(scale: &Scale, report: &mut Report) {
    let engine = Engine::start(Kind::Rootful4);
    let sandboxes = scale.sandboxes(50);
    let file = engine.write("sandboxes.yaml", text(sandboxes, "", KEPT));
    project::apply(&engine, &file).run().expect_code(0);
    // Each has been asked for something, so that nothing is left to be made when it is first needed.
    for number in 0..sandboxes {
        let words = ["exec", "-T", &format!("s{number:05}"), "--", "getent", "hosts", "kept.test"];
        engine.sbx(&words).run().expect_code(0);
    }
    let pid = daemon(&engine);
    let (daemon, own) = (memory_of(&engine, &pid, "VmRSS:"), memory_of(&engine, &pid, "RssAnon:"));
    let first = container(&engine, "bench_s00000")["State"]["Pid"].to_string();
    let first = memory_of(&engine, &first, "VmRSS:");
    report.figures(
        "P11",
        "resident memory",
        vec![
            Figure::new(format!("daemon with {sandboxes} sandboxes"), daemon, "MiB").goal("≤ 20", daemon <= 20.0),
            Figure::new("of that, not pages of the program's file", own, "MiB"),
            Figure::new("PID 1 of a sandbox", first, "MiB").goal("≤ 2", first <= 2.0),
        ],
    );
    let again = served_again(&engine, sandboxes).as_secs_f64();
    report.figures(
        "P11",
        "a daemon after another one was killed",
        vec![
            Figure::new(format!("from its start until it serves all {sandboxes} sandboxes"), again, "s")
                .goal("≤ 2", again <= 2.0),
        ],
    );
}

/// Kills the daemon; the time from the start of another one until that serves all of so many sandboxes.
fn served_again(engine: &Engine, sandboxes: usize) -> Duration {
    let served = || {
        let status = engine.sbx(&["daemon", "status", "--json"]).run().json();
        let all = status["daemon"]["sandboxes"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|sandbox| sandbox["policy"].is_string() && sandbox["problem"].is_null()).count()
    };
    assert_eq!(served(), sandboxes, "all are served before");
    engine.as_root("kill").args(["-9", &daemon(engine)]).ok();
    let gone = || (engine.sbx(&["daemon", "status"]).run().code != 0).then_some(());
    wait_for("the end of the daemon", Duration::from_secs(10), gone);
    let begun = Instant::now();
    engine.sbx(&["daemon", "start"]).run().expect_code(0);
    wait_for("all of them to be served", Duration::from_mins(1), || (served() == sandboxes).then_some(()));
    begun.elapsed()
}

/// P12: half of five hundred open flows are allowed no more. They are of two sandboxes: how many one may have goes with the
/// descriptors that the daemon may, which here are what the machine leaves.
pub fn live(scale: &Scale, report: &mut Report) {
    const SANDBOXES: usize = 2;
    let flows = if scale.smoke { 4 } else { 500 };
    let engine = Engine::start(Kind::Rootful4);
    let both = format!("{KEPT}, {CUT}");
    let file = engine.write("sandboxes.yaml", text(SANDBOXES, "", &both));
    project::apply(&engine, &file).run().expect_code(0);
    let (kept, cut) = (Far::at(&engine, 7001), Far::at(&engine, 7002));
    let script = format!(
        "import socket, sys\n\
         held = [socket.create_connection((host, port)) for host, port in [('kept.test', 7001), ('cut.test', 7002)] * {}]\n\
         sys.stdin.read()",
        flows / 2 / SANDBOXES
    );
    let clients = (0..SANDBOXES).map(|number| {
        let sandbox = format!("s{number:05}");
        let mut client = engine.sbx(&["exec", "-T", &sandbox, "--", "python3", "-c", &script]);
        client.command.stdin(std::process::Stdio::piped());
        client.spawn()
    });
    let clients: Vec<_> = clients.collect();
    wait_for("the flows", Duration::from_mins(1), || (kept.open() + cut.open() == flows).then_some(()));
    engine.write("sandboxes.yaml", text(SANDBOXES, "", KEPT));
    let begun = Instant::now();
    let apply = time_process(project::apply(&engine, &file));
    let left = || Some(cut.open()).filter(|open| *open == 0);
    wait_for("the end of what is revoked", Duration::from_secs(10), left);
    let all = begun.elapsed();
    let after = all.saturating_sub(apply).as_secs_f64();
    kept.say();
    let lost = flows / 2 - kept.open();
    drop(clients);
    report.figures(
        "P12",
        "a change of policy with five hundred open flows, half of them revoked",
        vec![
            Figure::new("from the start of apply until the last revoked one is cut", all.as_secs_f64(), "s"),
            Figure::new("of which after the end of apply", after, "s").goal("≤ 1", after <= 1.0),
            #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
            Figure::new("flows lost that are still allowed", lost as f64, "").goal("0", lost == 0),
        ],
    );
}

/// A server beyond the uplink that holds what connects.
struct Far {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    open: Arc<AtomicUsize>,
}

impl Far {
    fn at(engine: &Engine, port: u16) -> Self {
        let listener = engine.listen_outside(FAR, port);
        let far = Self { streams: Arc::default(), open: Arc::default() };
        let (streams, open) = (Arc::clone(&far.streams), Arc::clone(&far.open));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                open.fetch_add(1, Ordering::SeqCst);
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let open = Arc::clone(&open);
                std::thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        far
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Says something to everybody, which fails where nobody listens any more.
    fn say(&self) {
        for stream in self.streams.lock().unwrap().iter_mut() {
            let _ = stream.write_all(b"x");
        }
    }
}

fn container(engine: &Engine, name: &str) -> Value {
    let path = format!("/v4.0.0/libpod/containers/{name}/json");
    serde_json::from_slice(&http::call(&engine.socket(), "GET", &path, b"")).expect("JSON")
}

fn daemon(engine: &Engine) -> String {
    engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"]["pid"].to_string()
}

/// Resident memory of a process of the engine, all or one kind of it, in MiB.
fn memory_of(engine: &Engine, pid: &str, kind: &str) -> f64 {
    let status = engine.as_root("cat").arg(format!("/proc/{pid}/status")).ok();
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("a process has memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
