//! Behind another proxy, or in another network namespace: what is allowed goes that way, and nothing else goes any way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::egress::{CUT, FAR, Far, KEPT, allowing, does_not_reach, reaches};
use crate::engine::Engine;
use crate::on_every_engine;
use crate::wait::wait_for;

const HTTP: u16 = 3128;
const SOCKS: u16 = 1080;

/// A proxy at the far end that stands for every server. It remembers where it was asked to connect to, and refuses to connect
/// to the second port.
struct Proxy {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(
        engine: &Engine,
        port: u16,
        shake: fn(&mut BufReader<TcpStream>) -> std::io::Result<(String, bool)>,
    ) -> Self {
        let listener = engine.listen_outside(FAR, port);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let remembered = Arc::clone(&asked);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let asked = Arc::clone(&remembered);
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    let Ok((target, connected)) = shake(&mut stream) else { return };
                    asked.lock().unwrap().push(target);
                    if connected {
                        let _ = stream.get_mut().write_all(b"hello\n");
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    }
                });
            }
        });
        Self { asked }
    }

    /// What it was asked for since this was called last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn http(stream: &mut BufReader<TcpStream>) -> std::io::Result<(String, bool)> {
    let mut lines = stream.by_ref().lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned();
    let connected = !target.ends_with(&format!(":{CUT}"));
    let answer = if connected { "200 OK" } else { "403 Forbidden" };
    write!(stream.get_mut(), "HTTP/1.1 {answer}\r\n\r\n")?;
    Ok((target, connected))
}

fn socks5(stream: &mut BufReader<TcpStream>) -> std::io::Result<(String, bool)> {
    let mut exact = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = exact(2)?[1];
    exact(methods.into())?;
    stream.get_mut().write_all(&[5, 0])?;
    let mut exact = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    let host = match exact(4)?[3] {
        1 => <[u8; 4]>::try_from(exact(4)?).map(|octets| std::net::Ipv4Addr::from(octets).to_string()).unwrap(),
        3 => {
            let length = exact(1)?[0];
            String::from_utf8(exact(length.into())?).unwrap()
        }
        kind => panic!("kind {kind} of address"),
    };
    let port = exact(2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    let connected = port != CUT;
    stream.get_mut().write_all(&[5, if connected { 0 } else { 2 }, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok((format!("{host}:{port}"), connected))
}

const NAMES: [(&str, u16); 2] = [("kept.test", KEPT), ("kept.test", CUT)];

/// Why the last connection to `port` did not come about.
fn because(engine: &Engine, port: u16) -> String {
    wait_for("the record", Duration::from_secs(5), || {
        let log = engine.sbx(&["egress", "log", "--json"]).ok();
        let mut records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let last = records.rfind(|record| record["port"] == port && record["because"].is_string())?;
        Some(last["because"].as_str().unwrap().to_owned())
    })
}

on_every_engine! {
    /// By HTTP and by SOCKS5, and changed in place; what the policy denies is not asked for, what the other proxy denies is
    /// not reached any other way.
    fn another_proxy(engine) {
        // Where a connection would lead that went by itself.
        let directly = [Far::at(engine, KEPT), Far::at(engine, CUT)];
        let (http, socks) = (Proxy::start(engine, HTTP, http), Proxy::start(engine, SOCKS, socks5));
        let chained = |way: &str| format!("{}\n      upstream: {{ {way} }}", allowing("", &NAMES));
        engine.configure(&chained(&format!("proxy: \"http://{FAR}:{HTTP}\"")));
        engine.converge();
        let id = engine.id("dev");
        reaches(engine, "kept.test", KEPT);
        let asked = http.asked();
        assert!(asked.len() == 1 && asked[0].ends_with(&format!(":{KEPT}")), "{asked:?}");
        does_not_reach(engine, "kept.test", CUT);
        assert_eq!((http.asked().len(), because(engine, CUT).as_str()), (1, "upstream-proxy"));
        does_not_reach(engine, "other.test", KEPT);
        does_not_reach(engine, FAR, KEPT);
        assert_eq!(http.asked(), Vec::<String>::new(), "what is denied is nobody's to hear");

        engine.configure(&chained(&format!("socks5: \"{FAR}:{SOCKS}\"")));
        assert_eq!(engine.planned(), ["update policy/dev"]);
        engine.converge();
        assert_eq!(engine.id("dev"), id);
        reaches(engine, "kept.test", KEPT);
        does_not_reach(engine, "kept.test", CUT);
        does_not_reach(engine, "other.test", KEPT);
        assert_eq!((socks.asked().len(), http.asked().len()), (2, 0));
        assert_eq!(directly.map(|far| far.accepted()), [0, 0]);
    }

    /// Dialled from there where root runs the engine; an error of the plan elsewhere.
    fn another_network_namespace(engine) {
        let away = [Far::at(engine, KEPT), Far::at(engine, CUT)];
        // It is served on an address of that namespace itself.
        let elsewhere = format!(
            "{}\n      upstream: {{ netns: /run/netns/vpn }}\n      dial: {{ allowRanges: [{FAR}] }}",
            allowing("", &NAMES[..1])
        );
        engine.configure(&elsewhere);
        if engine.kind().is_rootless() {
            let refused = engine.sbx(&["plan"]).run().expect_code(65);
            // Lines end where there is room for no more.
        let told = refused.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("error: sandboxes.yaml:6:5: a rootless engine's proxy cannot dial from another"), "{told}");
            return;
        }
        engine.as_root("ip").args(["netns", "add", "vpn"]).ok();
        let within = |args: &[&str]| engine.as_root("ip").args(["netns", "exec", "vpn"]).args(args.iter());
        within(&["ip", "link", "set", "lo", "up"]).ok();
        within(&["ip", "address", "add", &format!("{FAR}/32"), "dev", "lo"]).ok();
        let serve = format!(
            "import socket; s = socket.create_server(('{FAR}', {KEPT}))\nwhile True: s.accept()[0].sendall(b'hello\\n')"
        );
        let server = within(&["python3", "-c", &serve]).start();
        let listens = format!("exec 3<>/dev/tcp/{FAR}/{KEPT}");
        wait_for("the server", Duration::from_secs(10), || {
            (within(&["bash", "-c", &listens]).run().code == 0).then_some(())
        });
        engine.converge();
        reaches(engine, "kept.test", KEPT);
        does_not_reach(engine, "other.test", KEPT);
        assert_eq!(away.map(|far| far.accepted()), [0, 0], "nothing went by the engine's own network");
        server.signal(rustix::process::Signal::KILL);
    }
}
