//! A decision allocates nothing: counted, not timed.
#![allow(unsafe_code, reason = "an allocator that counts has to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use egress::compiled::Compiled;
use egress::verdict::{ConnectVerdict, Inspect, Question, Request, RequestVerdict, Transport};
use jiff::civil::date;
use schema::policy::{DnsName, HeaderMatch, Host, HostPattern, Policy, PortRange, RequestPath, Rule};

thread_local! {
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is the system allocator's; a number is kept besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNTED.with(|counted| counted.set(counted.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNTED.with(Cell::get);
    let made = work();
    (made, COUNTED.with(Cell::get) - before)
}

fn rule(host: &str) -> Rule {
    Rule::of(host.parse::<HostPattern>().expect(host))
}

fn policy() -> Policy {
    let names = (0..10_000).map(|number| rule(&format!("{}host-{number}.example.org", ["", "*.", "**."][number % 3])));
    let mut api = rule("api.example.org");
    api.methods = vec![String::from("GET"), String::from("POST")];
    api.paths = ["/v1/**", "/**/*/raw/**"].map(|path| path.parse().expect(path)).to_vec();
    api.headers = vec![HeaderMatch { name: String::from("accept"), value: Some(String::from("*/json*")) }];
    let mut admin = rule("**.example.org");
    admin.ports = PortRange::ALL.to_vec();
    admin.paths = vec!["/admin/**".parse().expect("a path")];
    Policy {
        allow: names.chain([api, rule("10.0.0.0/8"), rule("**.org")]).collect(),
        deny: vec![admin, rule("denied.example.org")],
        ..Policy::default()
    }
}

struct Accept;

impl egress::verdict::Headers for Accept {
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        name == "accept" && matches(b"application/json")
    }
}

#[test]
fn no_decision_allocates() {
    let compiled = Compiled::new(&policy());
    let today = date(2026, 6, 15);
    // That counting works.
    assert!(counted(|| black_box(String::from("text"))).1 > 0);

    let hosts = [
        "host-42.example.org",
        "a.b.host-41.example.org",
        "denied.example.org",
        "api.example.org",
        "x.com",
        "10.1.2.3",
        "::1",
    ];
    for text in hosts {
        let host: Host = text.parse().expect(text);
        for port in [22, 80, 443] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let question = Question { host: &host, port, transport };
                let (verdict, allocations) = counted(|| compiled.connect(question, today));
                assert_eq!(allocations, 0, "{text}:{port} {verdict:?}");
            }
            for path in ["/v1/a/b", "/a%2Fb", "/public/%2561/admin/x"] {
                let path = RequestPath::parse(path).expect(path);
                for (upgrade, tls) in [(false, true), (true, false)] {
                    let request = Request { method: "GET", path: &path, headers: &Accept, upgrade, tls };
                    let question = Question { host: &host, port, transport: Transport::Tcp };
                    let (verdict, allocations) = counted(|| compiled.request(question, &request, today));
                    assert_eq!(allocations, 0, "{text}:{port} {verdict:?}");
                }
            }
        }
        if let Ok(name) = text.parse::<DnsName>() {
            assert_eq!(counted(|| compiled.resolves(&name, today)).1, 0, "{text}");
        }
    }
    // The questions above are not all answered in the first line.
    let host: Host = "api.example.org".parse().expect("a host");
    let question = Question { host: &host, port: 443, transport: Transport::Tcp };
    assert!(matches!(compiled.connect(question, today), ConnectVerdict::Allow { inspect: Inspect::Requests, .. }));
    let path = RequestPath::parse("/v1/a/b").expect("a path");
    let request = Request { method: "GET", path: &path, headers: &Accept, upgrade: false, tls: true };
    assert!(matches!(compiled.request(question, &request, today), RequestVerdict::Allow(_)));
}
