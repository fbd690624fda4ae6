//! The data path as the daemon runs it, in a process of its own, on loopback: without a sandbox around it, as the servers it
//! is compared with have none either.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use egress::audit::{Record, Sink};
use egress::destination::{Destination, Meant};
use egress::generation::Generation;
use egress::http::Web;
use egress::limits::Limits;
use egress::listeners::Listeners;
use egress::sandbox::Sandbox;
use egress::service::Service;
use egress::shared::Shared;
use egress::tls::authority::Authority;
use egress::tls::outbound::{Outbound, Trust};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schema::policy::Policy;
use serde_json::json;

/// The name that is allowed.
pub const NAME: &str = "example.org";

const PROJECT: &str = "bench";

/// How many other names are allowed, to make the list as long as its peer's.
pub const NAMES: usize = 1000;

/// One of the other names.
pub fn name(number: usize) -> String {
    format!("n{}.example.net", number % NAMES)
}

/// All connections are meant for one place, as if the kernel had said so.
struct Always(SocketAddr);

impl Destination for Always {
    fn of(&self, _: &tokio::net::TcpStream) -> std::io::Result<Meant> {
        Ok(Meant::Address(self.0))
    }
}

/// Where records go when nobody wants them.
struct Nowhere;

impl Sink for Nowhere {
    fn record(&self, _: Record) {}
}

/// Serves until it is killed: TCP on `tcp`, questions for names on `dns`; what is allowed leads to `upstream` on loopback.
pub fn passing(tcp: u16, dns: u16, upstream: u16) {
    serve(tcp, dns, upstream, json!({ "protocol": "tls" }), &Shared::default);
}

/// The same where requests inside TLS are judged, each, and servers are believed that the authority in `trusted` vouches for.
pub fn intercepting(tcp: u16, dns: u16, upstream: u16, trusted: &Path) {
    let requests = json!({ "protocol": "auto", "methods": ["GET"], "paths": ["/measured/**"] });
    serve(tcp, dns, upstream, requests, &|| {
        let authority = CertificateDer::from_pem_file(trusted).expect("a certificate");
        let web = Web::new(Outbound::new(Trust { native: false, extra: vec![authority] }));
        web.set_authority(PROJECT, Arc::new(Authority::generate(PROJECT).expect("an authority")));
        Shared { web, ..Shared::default() }
    });
}

fn serve(tcp: u16, dns: u16, upstream: u16, what: serde_json::Value, shared: &dyn Fn() -> Shared) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(crate::cores())
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let generation = Generation::new(1, policy(upstream, what), std::collections::BTreeMap::default());
        let sandbox = Arc::new(Sandbox::new(PROJECT.into(), "one".into(), Arc::new(Nowhere), generation));
        // Bounds on how often are there to slow down what is measured here.
        let limits = Limits { dns_rate: None, dns_new: None, connection_rate: None, ..Limits::default() };
        let shared = Shared { limits, ..shared() };
        let lease = sandbox.pool.lease(&NAME.parse().expect("a name"), 10, Instant::now()).expect("an address");
        let meant = Always(SocketAddr::new(lease.v4().expect("a v4 address").into(), upstream));
        let listeners = Listeners {
            tcp: vec![TcpListener::bind((Ipv4Addr::LOCALHOST, tcp)).expect("the port is free")],
            dns_udp: vec![UdpSocket::bind((Ipv4Addr::LOCALHOST, dns)).expect("the port is free")],
            ..Listeners::default()
        };
        let _serving = Service::start_with(sandbox, listeners, Arc::new(shared), Arc::new(meant)).expect("it starts");
        std::future::pending::<()>().await;
    });
}

fn policy(upstream: u16, what: serde_json::Value) -> Policy {
    let rule = |host: &str, port: u16, what: serde_json::Value| {
        let mut rule = json!({ "host": host, "ports": [{ "first": port, "last": port }], "place": { "at": host } });
        rule.as_object_mut().expect("it is one").extend(what.as_object().expect("it is one").clone());
        rule
    };
    let mut rules = vec![rule(NAME, upstream, what)];
    rules.extend((0..NAMES).map(|number| rule(&name(number), 443, json!({ "protocol": "auto" }))));
    let hosts = json!({ NAME: ["127.0.0.1"] });
    serde_json::from_value(json!({ "allow": rules, "hosts": hosts, "dialAllow": ["127.0.0.0/8"] })).expect("a policy")
}
