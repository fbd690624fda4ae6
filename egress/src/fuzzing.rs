//! What reads bytes from a sandbox, with what must hold whatever the bytes are: for fuzzers, and for the bounded runs of the
//! tests.
//!
//! Each function panics where something does not hold, and gives what it read, so that a run can tell whether it has met
//! more than refusals.
#![allow(clippy::panic, reason = "how a fuzzer is told")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use schema::policy::{HostPattern, Policy, Rule};

use crate::audit::{Record, Sink};
use crate::detect::{Detected, Detector};
use crate::dns::{Reply, Resolver};
use crate::generation::Generation;
use crate::http::walk::{Walk, walk};
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::synthetic;
use crate::tls::client_hello::{ClientHello, Fault, Reader};

/// A `ClientHello`, read at once and in pieces of `piece` bytes: the same comes out.
pub fn client_hello(bytes: &[u8], piece: usize) -> Result<Option<ClientHello>, Fault> {
    let at_once = Reader::default().feed(bytes);
    let mut reader = Reader::default();
    let mut in_pieces = Ok(None);
    for piece in bytes.chunks(piece.max(1)) {
        in_pieces = reader.feed(piece);
        if !matches!(in_pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(in_pieces, at_once, "by {piece}: {}", bytes.escape_ascii());
    at_once
}

/// What a client speaks, told from all of `bytes` and from one more at a time: the same, as far as it is decided.
pub fn first_bytes(bytes: &[u8]) -> Option<Detected> {
    let at_once = Detector::default().look(bytes);
    let mut detector = Detector::default();
    let slowly = (1..=bytes.len()).find_map(|length| detector.look(&bytes[..length]));
    match (&slowly, &at_once) {
        // Not beyond what is decided on: what follows it may come or not.
        (Some(Detected::Tls(_) | Detected::Http | Detected::Opaque | Detected::Ssl2), _) | (None, None) => {
            assert_eq!(slowly, at_once, "{}", bytes.escape_ascii());
        }
        (Some(Detected::Broken(_)), Some(Detected::Broken(_))) => {}
        _ => panic!("{slowly:?} and {at_once:?}: {}", bytes.escape_ascii()),
    }
    at_once
}

/// Requests of HTTP/1, one after the other, bodies included, read at once and in pieces of `piece` bytes: the same comes out.
pub fn requests(bytes: &[u8], piece: usize) -> Walk {
    let whole = walk(bytes, usize::MAX);
    assert_eq!(walk(bytes, piece.max(1)), whole, "by {piece}: {}", bytes.escape_ascii());
    whole
}

/// Answers questions about names, all of which exist.
#[derive(Debug)]
pub struct Names {
    resolver: Resolver,
    now: Instant,
}

struct Nowhere;

impl Sink for Nowhere {
    fn record(&self, _: Record) {}
}

impl Default for Names {
    fn default() -> Self {
        let rule = Rule::of(HostPattern::Any);
        let policy = Policy { allow: vec![rule], ..Policy::default() };
        let generation = Generation::new(1, policy, BTreeMap::new());
        let sandbox = Arc::new(Sandbox::new("project".to_owned(), "sandbox".to_owned(), Arc::new(Nowhere), generation));
        let shared =
            Shared { limits: Limits { dns_rate: None, dns_new: None, ..Limits::default() }, ..Shared::default() };
        let shared = Arc::new(shared);
        let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
        let now = Instant::now();
        let mut resolver = Resolver::new(sandbox, shared, refusals, Arc::new(AtomicBool::new(true)), None, now);
        resolver.refresh();
        Self { resolver, now }
    }
}

impl Names {
    /// Whether a message is answered: in bounds, with its own number, and with addresses of ours only.
    pub fn ask(&mut self, bytes: &[u8]) -> bool {
        let mut response = Vec::new();
        if !matches!(self.resolver.answer(bytes, &mut response, self.now), Reply::Ready) {
            return false;
        }
        assert!(response.len() <= usize::from(crate::dns::PAYLOAD), "{}", response.len());
        assert_eq!(response[..2], bytes[..2]);
        assert!(response[2] & 0x80 != 0, "an answer is marked as one");
        let message = Message::from_vec(&response).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
        for record in message.answers {
            let ours = match record.data {
                RData::A(address) => is_ours(std::net::Ipv4Addr::from(address).into()),
                RData::AAAA(address) => is_ours(std::net::Ipv6Addr::from(address).into()),
                // The name of an address of ours.
                RData::PTR(_) => true,
                _ => false,
            };
            assert!(ours, "{record:?}");
        }
        true
    }
}

/// One that stands for a name, or `localhost`.
fn is_ours(address: IpAddr) -> bool {
    synthetic::contains(address) || address.is_loopback()
}
