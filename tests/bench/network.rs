//! P6, P7 and P9: what is passed through, and names, beside the servers that are known for it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::data_path::{NAME, NAMES, name};
use crate::process::{Process, free_port, wait_for_port};
use crate::report::{Report, Row};
use crate::stopwatch::{Times, in_turns, time};
use crate::{Scale, cores, load, peer};

/// Answers with an address.
const FOUND: u8 = 0;
/// There is no such name.
const NXDOMAIN: u8 = 3;

/// What is measured, beside its peer if that is installed.
struct Beside {
    ours: Process,
    our_port: u16,
    /// Process, port, what it is.
    peer: Option<(Process, u16, &'static str)>,
    /// Where names are asked of ours.
    names: u16,
    origin: (Process, u16),
    files: tempfile::TempDir,
}

impl Beside {
    fn haproxy() -> Self {
        let mut beside = Self::nobody();
        let port = free_port();
        let configuration = beside.write("haproxy.cfg", &haproxy(port, beside.origin.1));
        beside.peer = peer::server("haproxy").map(|program| {
            let process = Process::start(&program, &["-q", "-f", &configuration]);
            wait_for_port("haproxy", port);
            (process, port, "HAProxy")
        });
        beside
    }

    fn dnsmasq() -> Self {
        let mut beside = Self::nobody();
        let port = free_port();
        let configuration = beside.write("dnsmasq.conf", &dnsmasq(port));
        beside.peer = peer::server("dnsmasq").map(|program| {
            let process = Process::start(&program, &["--keep-in-foreground", "-C", &configuration]);
            wait_for_port("dnsmasq", port);
            (process, port, "dnsmasq")
        });
        beside
    }

    fn nobody() -> Self {
        let (our_port, names, origin) = (free_port(), free_port(), free_port());
        let text = |port: u16| port.to_string();
        let behind = Process::role(&["origin", &text(origin)]);
        wait_for_port("the origin", origin);
        let ours = Process::role(&["data-path", &text(our_port), &text(names), &text(origin)]);
        wait_for_port("the data path", our_port);
        let files = tempfile::tempdir().expect("a directory");
        Self { ours, our_port, peer: None, names, origin: (behind, origin), files }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }
}

/// HAProxy as its manual has it for this: inspects the name, passes bytes on in the kernel.
fn haproxy(port: u16, origin: u16) -> String {
    format!(
        "global\n  maxconn 4000\n  nbthread {threads}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         option splice-request\n  option splice-response\n\
         frontend in\n  bind 127.0.0.1:{port}\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_sni -i {NAME} }}\n  \
         tcp-request content reject if {{ req.ssl_hello_type 1 }}\n  \
         use_backend out if {{ req.ssl_sni -i {NAME} }}\n\
         backend out\n  server origin 127.0.0.1:{origin}\n",
        threads = cores()
    )
}

/// dnsmasq with the same list, and nothing else.
fn dnsmasq(port: u16) -> String {
    let mut text = format!(
        "port={port}\nno-resolv\nno-hosts\nuser=root\nlisten-address=127.0.0.1\nbind-interfaces\naddress=/#/\n"
    );
    for number in 0..NAMES {
        let _ = writeln!(text, "address=/{}/198.18.1.{}", name(number), number % 250);
    }
    text
}

/// P6: bytes of TLS that is passed through by its name.
pub fn bulk(scale: &Scale, report: &mut Report) {
    let (size, bytes) = if scale.smoke { ("16 MiB", 16 << 20) } else { ("4 GiB", 4 << 30) };
    let beside = Beside::haproxy();
    let origin = beside.origin.1;
    let direct = || time(|| load::bulk(origin, bytes));
    let mut rows = Vec::new();
    let used: [RefCell<Vec<Duration>>; 2] = Default::default();
    let moved = |process: &Process, port: u16, used: &RefCell<Vec<Duration>>| {
        let before = process.processor_time();
        let took = time(|| load::bulk(port, bytes));
        used.borrow_mut().push(process.processor_time().saturating_sub(before));
        took
    };
    let ours = || moved(&beside.ours, beside.our_port, &used[0]);
    if let Some((process, port, who)) = &beside.peer {
        let theirs = || moved(process, *port, &used[1]);
        let [floor, peer, sbx] = in_turns(scale.rounds(9), &mut [&mut { direct }, &mut { theirs }, &mut { ours }]);
        rows.push(Row::new(1, format!("{size} from the origin, nothing between"), &floor));
        rows.push(Row::new(1, format!("{size} through {who}"), &peer));
        rows.push(faster(Row::new(1, format!("{size} through sbx"), &sbx), &peer, &sbx, who, 1.0));
        let [ours, theirs] = used.map(|used| counted(used.into_inner()));
        rows.push(Row::new(1, format!("processor time of {who}"), &theirs));
        rows.push(faster(Row::new(1, "processor time of sbx", &ours), &theirs, &ours, who, 1.0));
    } else {
        let [floor, sbx] = in_turns(scale.rounds(9), &mut [&mut { direct }, &mut { ours }]);
        rows.push(Row::new(1, format!("{size} from the origin, nothing between"), &floor));
        rows.push(Row::new(1, format!("{size} through sbx"), &sbx));
    }
    report.group("P6", "TLS that is passed through by its name: bytes over one connection", rows);
}

/// The round that does not count goes; it may be a matter of less than the clock shows.
fn counted(mut times: Vec<Duration>) -> Times {
    if times.len() > 1 {
        times.remove(0);
    }
    Times(times.into_iter().map(|time| time.max(Duration::from_millis(1))).collect())
}

/// P7: new connections of the same.
pub fn connections(scale: &Scale, report: &mut Report) {
    const AT_ONCE: usize = 16;
    let count = if scale.smoke { 20 } else { 5000 };
    let beside = Beside::haproxy();
    let run = |port: u16| time(|| load::connections(port, count, AT_ONCE));
    let rows = pair(scale, &beside, run, "connections", count, 0.9);
    report.group("P7", "TLS that is passed through by its name: new connections, 16 at once", rows);
}

/// P9: answers about names on the list, and about others.
pub fn names(scale: &Scale, report: &mut Report) {
    let count = if scale.smoke { 100 } else { 100_000 };
    let listed: Vec<String> = (0..NAMES).map(name).collect();
    let unlisted: Vec<String> = (0..NAMES).map(|number| format!("n{number}.denied.example")).collect();
    let mut beside = Beside::dnsmasq();
    // What both are asked is the port for names.
    beside.our_port = beside.names;
    let mut rows = Vec::new();
    for (what, names, code) in [("answers, allowed", &listed, FOUND), ("answers, denied", &unlisted, NXDOMAIN)] {
        let run = |port: u16| time(|| load::questions(port, names, count, code));
        rows.extend(pair(scale, &beside, run, what, count, 1.0));
    }
    report.group("P9", "names: a list of a thousand, 32 questions under way", rows);
}

fn pair(
    scale: &Scale,
    beside: &Beside,
    run: impl Fn(u16) -> Duration,
    what: &str,
    count: usize,
    goal: f64,
) -> Vec<Row> {
    let ours = || run(beside.our_port);
    if let Some((_, port, who)) = &beside.peer {
        let [theirs, ours] = in_turns(scale.rounds(11), &mut [&mut || run(*port), &mut { ours }]);
        let row = Row::new(count, format!("{what}: sbx"), &ours);
        vec![Row::new(count, format!("{what}: {who}"), &theirs), faster(row, &theirs, &ours, who, goal)]
    } else {
        let [ours] = in_turns(scale.rounds(11), &mut [&mut { ours }]);
        vec![Row::new(count, format!("{what}: sbx"), &ours)]
    }
}

/// How many times as fast as its peer.
fn faster(row: Row, theirs: &Times, ours: &Times, who: &str, goal: f64) -> Row {
    let ratio = theirs.ratio(ours);
    row.beside(&format!("as fast as {who}"), ratio, format!("≥ {goal} ×"), ratio >= goal)
}
