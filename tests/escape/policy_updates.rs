//! Policies change again and again under load: what stays allowed does not notice, what is revoked ends within a second,
//! and the daemon is as large afterwards as it was before.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Engine, Kind};
use crate::soak;
use crate::wait::wait_for;
use crate::world::SERVER;

const KEPT: u16 = 7001;
const CUT: u16 = 7002;
/// Connections that go on all the time.
const FLOWS: usize = 8;
/// Updates after which the daemon has all it is going to need.
const WARM: usize = 40;
/// How much more it may have at the end, in KiB: what allocators keep, and far below what a leak would come to.
const SLACK: u64 = 4096;

/// Talks on connections that stay, and makes one anew that does not.
const CLIENT: &str = "
import os, socket, sys, threading, time
def keep():
    try:
        s = socket.create_connection(('kept.test', 7001), 5)
        while True:
            s.sendall(b'x'); assert s.recv(1) == b'x'; time.sleep(0.002)
    except Exception as error:
        print('lost', error, flush=True); os._exit(1)
def again():
    while True:
        try:
            s = socket.create_connection(('cut.test', 7002), 5)
            while True:
                s.sendall(b'x'); assert s.recv(1)
        except Exception: time.sleep(0.001)
for n in range(8): threading.Thread(target=keep, daemon=True).start()
threading.Thread(target=again, daemon=True).start()
sys.stdin.read()
";

/// Says back what it hears, and counts.
#[derive(Clone, Default)]
struct Echo {
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Echo {
    fn at(engine: &Engine, port: u16) -> Self {
        let listener = engine.listen_outside(&SERVER.to_string(), port);
        let echo = Self::default();
        let shared = echo.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let echo = shared.clone();
                echo.accepted.fetch_add(1, Ordering::SeqCst);
                echo.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let mut byte = [0; 64];
                    while let Ok(read @ 1..) = stream.read(&mut byte) {
                        echo.bytes.fetch_add(read, Ordering::SeqCst);
                        if stream.write_all(&byte[..read]).is_err() {
                            break;
                        }
                    }
                    echo.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        echo
    }

    fn count(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }
}

/// One question to the engine's API, which has to succeed.
fn ask(engine: &Engine, method: &str, path: &str, body: &Value) {
    let mut stream = UnixStream::connect(engine.socket()).expect("the API service listens");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} /v4.0.0/libpod{path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 20"), "{method} {path}: {answer}");
}

/// A connection to the daemon, as `apply` makes one.
struct Control(BufReader<UnixStream>);

impl Control {
    fn open(engine: &Engine) -> Self {
        let directory = std::fs::read_dir(engine.dir().join("run/sbx")).expect("the daemon's directory");
        let socket = directory.map(|place| place.unwrap().path().join("daemon.sock")).find(|path| path.exists());
        let mut control = Self(BufReader::new(UnixStream::connect(socket.expect("a socket")).unwrap()));
        control.ask(&json!({ "ask": "hello", "protocol": 1, "version": "0" }));
        control
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.0.get_mut(), "{question}").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }
}

/// What `apply` does when rules change, without all that it looks at before: another object, in force, the old one gone.
struct Policies {
    /// Names and labels of the two that take turns.
    objects: [(String, BTreeMap<String, String>); 2],
    serial: u64,
}

impl Policies {
    const SERIAL: &'static str = "sbx.serial";

    /// Those of two configurations, of which the second is in force afterwards.
    fn of(engine: &Engine, configurations: [String; 2]) -> Self {
        let objects = configurations.map(|configuration| {
            engine.configure(&configuration);
            engine.apply();
            let volumes = engine.get("/volumes/json");
            let policy = |row: &&Value| row["Name"].as_str().is_some_and(|name| name.contains(".policy."));
            let volume = volumes.as_array().expect("a list").iter().find(policy).expect("a policy");
            let labels = serde_json::from_value(volume["Labels"].clone()).expect("labels");
            (volume["Name"].as_str().unwrap().to_owned(), labels)
        });
        Self { objects, serial: 1000 }
    }

    fn update(&mut self, engine: &Engine, control: &mut Control, to: usize) {
        self.serial += 1;
        let (name, labels) = &mut self.objects[to];
        let serial = labels.keys().find(|key| key.contains("serial")).cloned().unwrap_or(Self::SERIAL.to_owned());
        labels.insert(serial, self.serial.to_string());
        let hash = labels.iter().find(|(key, _)| key.ends_with("hash")).expect("a hash").1.clone();
        ask(engine, "POST", "/volumes/create", &json!({ "Name": name, "Labels": labels }));
        let answer = control.ask(&json!({ "ask": "enforce", "project": "demo", "sandbox": "dev", "policy": hash }));
        assert_eq!(answer["answer"], "done", "{answer}");
        ask(engine, "DELETE", &format!("/volumes/{}", self.objects[1 - to].0), &Value::Null);
    }
}

/// Resident memory in KiB, and descriptors.
fn size(engine: &Engine, pid: u64) -> (u64, usize) {
    let status = engine.as_root("cat").arg(format!("/proc/{pid}/status")).ok();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    let descriptors = engine.as_root("ls").arg(format!("/proc/{pid}/fd")).ok();
    (line.trim().trim_end_matches(" kB").parse().expect("a number"), descriptors.lines().count())
}

fn allowing(names: &[(&str, u16)]) -> String {
    let rules: Vec<String> =
        names.iter().map(|(name, port)| format!("{{ host: {name}, ports: [{port}], protocol: tcp }}")).collect();
    format!(
        "sandboxes: {{ dev: {{ image: host, egress: {{ allow: [{}], hosts: {{ kept.test: [{SERVER}], cut.test: [{SERVER}] }} }} }} }}",
        rules.join(", ")
    )
}

#[test]
fn policies_change_under_load() {
    let updates = soak::times("SBX_SOAK_UPDATES", 200).max(2 * WARM);
    let engine = Engine::start(Kind::Rootful4);
    let (kept, cut) = (Echo::at(&engine, KEPT), Echo::at(&engine, CUT));
    let both = allowing(&[("kept.test", KEPT), ("cut.test", CUT)]);
    let mut policies = Policies::of(&engine, [allowing(&[("kept.test", KEPT)]), both]);
    let mut client = engine.sbx(&["exec", "-T", "dev", "--", "python3", "-c", CLIENT]);
    client.command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn();
    wait_for("the load", Duration::from_secs(10), || {
        (Echo::count(&kept.open) == FLOWS && Echo::count(&cut.open) == 1).then_some(())
    });
    let daemon = engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"]["pid"].as_u64().expect("it runs");
    let mut control = Control::open(&engine);

    let mut before = None;
    for number in 0..updates {
        let revoking = number % 2 == 0;
        policies.update(&engine, &mut control, usize::from(!revoking));
        if revoking {
            let ended = || (Echo::count(&cut.open) == 0).then_some(());
            wait_for("the revoked flow to be cut", Duration::from_secs(1), ended);
        } else {
            let again = || (Echo::count(&cut.open) == 1).then_some(());
            wait_for("a flow that is allowed again", Duration::from_secs(5), again);
        }
        let held = (Echo::count(&kept.accepted), Echo::count(&kept.open));
        assert_eq!(held, (FLOWS, FLOWS), "no flow that is still allowed ended, at update {number}");
        if number == WARM - 1 {
            before = Some((size(&engine, daemon), Echo::count(&kept.bytes)));
        }
    }
    let ((memory, descriptors), said) = before.expect("more updates than that");
    let (memory_after, descriptors_after) = size(&engine, daemon);
    assert!(Echo::count(&kept.bytes) > said + FLOWS * (updates - WARM), "they went on talking");
    assert!(Echo::count(&cut.accepted) >= updates / 2, "it was there, and cut, each time");
    assert!(memory_after <= memory + SLACK, "the daemon grew from {memory} to {memory_after} KiB");
    assert!(descriptors_after <= descriptors + 8, "{descriptors} descriptors, and {descriptors_after} afterwards");
    eprintln!(
        "{updates} updates: {memory} KiB and {descriptors} descriptors before, {memory_after} and {descriptors_after} after"
    );
    assert!(client.child.try_wait().unwrap().is_none(), "the client goes on");
}
