//! What is answered to one question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use schema::policy::DnsName;

use super::NEGATIVE_TTL;
use crate::defence::Defence;
use crate::pool::{Lease, TTL};
use crate::sandbox::Sandbox;
use crate::shared::Shared;

/// Most addresses of a peer that are told.
const MAX_ADDRESSES: usize = 16;

/// An answer, and what follows from it.
#[derive(Debug)]
pub(super) struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Records.
    pub records: Vec<Record>,
    /// What keeps the address that is given out standing for the name.
    pub lease: Option<Arc<Lease>>,
    /// The name, if the policy does not allow it.
    pub refused: Option<String>,
    /// Whether the same question has the same answer until policy or peers change.
    pub lasting: bool,
    /// The name whose addresses have to be looked up first.
    pub later: Option<DnsName>,
}

impl Answer {
    /// Nothing but a code.
    pub fn code(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), lease: None, refused: None, lasting: false, later: None }
    }

    fn records(records: Vec<Record>) -> Self {
        Self { records, lasting: true, ..Self::code(ResponseCode::NoError) }
    }

    /// Whether it says that there is nothing.
    pub fn negative(&self) -> bool {
        self.code == ResponseCode::NXDomain || (self.code == ResponseCode::NoError && self.records.is_empty())
    }
}

/// The answer to `query`; of a sandbox that itself connects (`direct`) that to a name that is allowed comes later.
pub(super) fn to(sandbox: &Sandbox, shared: &Shared, v6: bool, direct: bool, query: &Query, now: Instant) -> Answer {
    if query.query_class() != DNSClass::IN {
        return Answer::code(ResponseCode::Refused);
    }
    let asked = query.name();
    if asked.is_root() {
        return Answer::records(Vec::new());
    }
    let Some(name) = canonical(asked) else { return refused(asked.to_ascii().trim_end_matches('.').to_owned()) };
    if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
        return addresses(query, [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], v6);
    }
    if query.query_type() == RecordType::PTR
        && let Some(answer) = reverse(sandbox, asked, now)
    {
        return answer;
    }
    if let Some(peer) = sandbox.peers().get(&name) {
        return addresses(query, peer.iter().copied().take(MAX_ADDRESSES), v6);
    }
    if !sandbox.generation().compiled.resolves(&name, shared.today()) && !Defence::Names.is_off() {
        return refused(name.to_string());
    }
    if !matches!(query.query_type(), RecordType::A | RecordType::AAAA) {
        #[cfg(feature = "failpoints")]
        if Defence::RecordTypes.is_off() {
            let record = Record::from_rdata(asked.clone(), 0, RData::A(A(Ipv4Addr::LOCALHOST)));
            return Answer::records(vec![record]);
        }
        return Answer::records(Vec::new());
    }
    if direct {
        return Answer { later: Some(name), ..Answer::code(ResponseCode::ServFail) };
    }
    match sandbox.pool.lease(&name, shared.limits.pattern_names, now) {
        Ok(lease) => {
            let known = lease.v4().map(IpAddr::from).into_iter().chain([lease.v6().into()]);
            Answer { lease: Some(Arc::clone(&lease)), ..addresses(query, known, v6) }
        }
        // It is allowed, and has its turn when others have not been used for a while.
        Err(_) => Answer::code(ResponseCode::ServFail),
    }
}

/// Those of `known` that are of the type that is asked for, until policy or peers change.
fn addresses(query: &Query, known: impl IntoIterator<Item = IpAddr>, v6: bool) -> Answer {
    Answer { lasting: true, ..for_a_time(query, known, v6, TTL) }
}

/// Those of `known` that are of the type that is asked for, for as long as `ttl`.
pub(super) fn for_a_time(query: &Query, known: impl IntoIterator<Item = IpAddr>, v6: bool, ttl: Duration) -> Answer {
    let record = |data| Record::from_rdata(query.name().clone(), seconds(ttl), data);
    let of_type = known.into_iter().filter_map(|address| match (address, query.query_type()) {
        (IpAddr::V4(address), RecordType::A) => Some(record(RData::A(A(address)))),
        (IpAddr::V6(address), RecordType::AAAA) if v6 => Some(record(RData::AAAA(AAAA(address)))),
        _ => None,
    });
    Answer { lasting: false, ..Answer::records(of_type.collect()) }
}

pub(super) fn refused(name: String) -> Answer {
    Answer { refused: Some(name), lasting: true, ..Answer::code(ResponseCode::NXDomain) }
}

/// What an address of ours is called; `None` where the question is about none.
fn reverse(sandbox: &Sandbox, asked: &Name, now: Instant) -> Option<Answer> {
    let network = asked.parse_arpa_name().ok()?;
    if network.prefix_len() < network.max_prefix_len() {
        return None;
    }
    let name = if network.addr().is_loopback() {
        "localhost".to_owned()
    } else {
        sandbox.pool.find(network.addr(), now)?.name().to_string()
    };
    let data = RData::PTR(PTR(Name::from_ascii(name + ".").ok()?));
    // Not lasting: the address may come to stand for another name.
    Some(Answer { lasting: false, ..Answer::records(vec![Record::from_rdata(asked.clone(), seconds(TTL), data)]) })
}

/// The name in the one canonical form; `None` if no host has such a name. Never confuses a dot within a label with one
/// between labels.
fn canonical(name: &Name) -> Option<DnsName> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        let ordinary = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = std::str::from_utf8(label).ok().filter(|label| label.as_bytes().iter().all(ordinary))?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.parse().ok()
}

/// Says how long there is to be nothing.
pub(super) fn start_of_authority() -> Record {
    let us = Name::root().prepend_label("sbx").unwrap_or_else(|_| Name::root());
    let minimum = seconds(NEGATIVE_TTL);
    let data = SOA::new(us.clone(), us, 1, 3600, 600, 86400, minimum);
    Record::from_rdata(Name::root(), minimum, RData::SOA(data))
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
