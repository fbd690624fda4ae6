//! What a hostile sandbox costs its neighbour: connections and questions of one sandbox, alone and beside another that floods
//! the same daemon with all it may.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use crate::Scale;
use crate::engine::{Engine, Kind};
use crate::invocation::Running;
use crate::project;
use crate::report::{Report, Row};
use crate::stopwatch::Times;
use crate::wait::wait_for;

/// The far end of the engine's uplink.
const SERVER: &str = "198.51.100.1";
const PORT: u16 = 7001;

/// Both may reach the same; the hostile one has half a processor, as hostile ones should: what it takes of the machine
/// itself is not the daemon's to bound.
const CONFIGURATION: &str = "\
apiVersion: sbx/v1
project: bench
defaults:
  image: host
  egress:
    allow: [{ host: far.test, ports: [7001], protocol: tcp }, { host: far.test }, { host: '**.wild.test' }]
    hosts: { far.test: [198.51.100.1] }
sandboxes:
  quiet: {}
  hostile: { limits: { cpus: 0.5 } }
";

/// For each line, so many connections with a question and an answer, fewer in a second than it may have, and so many names;
/// the 99th percentile of both, in microseconds.
const QUIET: &str = "
import socket, sys, time
def connect():
    s = socket.create_connection((ADDRESS, 7001)); s.sendall(b'x'); s.recv(1); s.close()
def name():
    u.send(QUESTION); u.recv(512)
ADDRESS = socket.getaddrinfo('far.test', 7001, socket.AF_INET)[0][4][0]
QUESTION = bytes.fromhex('123401000001000000000000') + b'\\3far\\4test\\0\\0\\1\\0\\1'
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('198.18.0.1', 53)); u.settimeout(2)
def p99(work, count, pause):
    took = []
    for _ in range(count):
        begun = time.perf_counter(); work(); took.append(time.perf_counter() - begun)
        if pause: time.sleep(pause)
    return int(sorted(took)[int(len(took) * 0.99)] * 1e6)
print('ready', flush=True)
for line in sys.stdin:
    count = int(line); print(p99(connect, count, 0.003), p99(name, count, 0), flush=True)
";

/// Connections that say nothing, heads that never end, connections in a row, and questions without end.
const HOSTILE: &str = "
import socket, threading, time
def silent():
    held = []
    while True:
        try: s = socket.create_connection(('far.test', 80), 1); s.sendall(b'GET /'); held.append(s)
        except OSError: held = held[500:]; time.sleep(0.01)
def rush():
    while True:
        try: s = socket.create_connection(('far.test', 7001), 1); s.sendall(b'x'); s.close()
        except OSError: pass
def ask():
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); n = 0
    while True:
        n += 1; label = b'n%09d' % n
        try: u.sendto(bytes.fromhex('123401000001000000000000') + bytes([len(label)]) + label + b'\\4wild\\4test\\0\\0\\1\\0\\1', ('198.18.0.1', 53))
        except OSError: pass
for work in (silent, rush, rush, ask, ask): threading.Thread(target=work, daemon=True).start()
print('ready', flush=True)
while True: time.sleep(60)
";

/// As much of the machine, and nothing of the daemon: what another program costs by running at all.
const COMPUTING: &str = "
import threading
def work():
    while True: sum(range(1000))
for _ in range(5): threading.Thread(target=work, daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
";

/// A program in a sandbox that has said that it is ready.
struct Inside<'e> {
    running: Running<'e>,
    answers: BufReader<ChildStdout>,
}

impl<'e> Inside<'e> {
    fn start(engine: &'e Engine, file: &std::path::Path, sandbox: &str, program: &str) -> Self {
        let invocation = engine.sbx(&["exec", "-T"]).arg("-f").arg(file);
        let mut invocation = invocation.args([sandbox, "--", "python3", "-c", program]);
        invocation.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = invocation.spawn();
        let answers = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
        let mut inside = Self { running, answers };
        assert_eq!(inside.line(), "ready");
        inside
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    /// Latencies of `count` connections and as many names: their 99th percentiles.
    fn measure(&mut self, count: usize) -> [Duration; 2] {
        writeln!(self.running.child.stdin.as_mut().expect("stdin is piped"), "{count}").expect("it reads");
        let line = self.line();
        let mut numbers = line.split(' ').map(|text| Duration::from_micros(text.parse().expect("a number")));
        [numbers.next().expect("connections"), numbers.next().expect("names")]
    }
}

/// In turns: alone, and beside the hostile one.
pub fn hostile(scale: &Scale, report: &mut Report) {
    let engine = Engine::start(Kind::Rootful4);
    let listener = engine.listen_outside(SERVER, PORT);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    let _ = stream.write_all(&byte);
                }
            });
        }
    });
    let file = engine.write("sandboxes.yaml", CONFIGURATION);
    project::apply(&engine, &file).run().expect_code(0);
    let count = if scale.smoke { 20 } else { 1000 };
    let mut quiet = Inside::start(&engine, &file, "quiet", QUIET);
    quiet.measure(count);
    let [mut alone, mut computing, mut beside] = [const { [Times(Vec::new()), Times(Vec::new())] }; 3];
    for _ in 0..scale.rounds(9) {
        let mut take = |all: &mut [Times; 2]| {
            all.iter_mut().zip(quiet.measure(count)).for_each(|(all, time)| all.0.push(time));
        };
        take(&mut alone);
        for (program, all) in [(COMPUTING, &mut computing), (HOSTILE, &mut beside)] {
            let other = Inside::start(&engine, &file, "hostile", program);
            take(all);
            drop(other);
            // What was started in the sandbox outlives who started it.
            project::sbx(&engine, &file, &["exec", "-T", "hostile"]).args(["--", "pkill", "python3"]).run();
            wait_for("the other one's end", Duration::from_secs(10), || {
                let left = project::sbx(&engine, &file, &["exec", "-T", "hostile"]);
                (left.args(["--", "pgrep", "python3"]).run().code == 1).then_some(())
            });
        }
    }
    let mut rows = Vec::new();
    for (index, what) in ["connection and answer", "name"].into_iter().enumerate() {
        let (alone, computing, beside) = (&alone[index], &computing[index], &beside[index]);
        rows.push(Row::new(1, format!("{what}, p99, alone"), alone));
        let row = Row::new(2, format!("{what}, p99, beside a sandbox that only computes"), computing);
        rows.push(row.beside("alone", computing.ratio(alone), "", true));
        let row = Row::new(2, format!("{what}, p99, beside a hostile sandbox"), beside);
        let ratio = beside.ratio(alone);
        rows.push(row.beside("alone", ratio, "≤ 1.2 ×", ratio <= 1.2));
    }
    report.group("neighbour", "what a hostile sandbox costs its neighbour", rows);
}
