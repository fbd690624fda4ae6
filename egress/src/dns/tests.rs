use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Query;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use schema::policy::{Policy, Protocol};

use super::*;
use crate::limits::Limits;
use crate::synthetic;
use crate::testing::{self, Records};
use crate::{fuzz, fuzzing};

struct World {
    sandbox: Arc<Sandbox>,
    records: Arc<Records>,
    refusals: Arc<Refusals>,
    resolver: Resolver,
    now: Instant,
}

fn world_with(policy: Policy, limits: Limits) -> World {
    let (sandbox, records) = testing::sandbox(policy);
    let shared = testing::shared(limits);
    let now = Instant::now();
    let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
    let v6 = Arc::new(AtomicBool::new(true));
    let mut resolver = Resolver::new(Arc::clone(&sandbox), shared, Arc::clone(&refusals), v6, None, now);
    resolver.refresh();
    World { sandbox, records, refusals, resolver, now }
}

fn world() -> World {
    let rules = ["example.org", "*.example.net"].map(|host| testing::rule(host, &[], Protocol::Auto));
    world_with(testing::policy(rules.into()), Limits::default())
}

fn question(name: &str, of: RecordType) -> Message {
    let mut message = Message::new(7, hickory_proto::op::MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), of));
    message
}

impl World {
    fn send(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut response = vec![1, 2, 3];
        matches!(self.resolver.answer(bytes, &mut response, self.now), Reply::Ready).then_some(response)
    }

    fn send_message(&mut self, message: &Message) -> Message {
        let bytes = message.to_vec().unwrap();
        let first = self.send(&bytes).unwrap();
        assert_eq!(self.send(&bytes).unwrap(), first, "the second time, from memory");
        Message::from_vec(&first).unwrap()
    }

    fn ask(&mut self, name: &str, of: RecordType) -> Message {
        self.send_message(&question(name, of))
    }

    /// Code, and addresses.
    fn addresses(&mut self, name: &str, of: RecordType) -> (ResponseCode, Vec<String>) {
        let response = self.ask(name, of);
        let text = |record: &hickory_proto::rr::Record| record.data.to_string();
        (response.response_code, response.answers.iter().map(text).collect())
    }
}

#[test]
fn allowed_names_have_synthetic_addresses() {
    let mut world = world();
    for name in ["example.org.", "EXAMPLE.org.", "one.example.net."] {
        let response = world.ask(name, RecordType::A);
        assert_eq!(response.response_code, ResponseCode::NoError);
        let [record] = &response.answers[..] else { panic!("{response:?}") };
        assert_eq!((record.name.to_string().as_str(), record.ttl), (name, 60));
        let RData::A(address) = record.data else { panic!("{record:?}") };
        assert!(synthetic::stands_for_names(Ipv4Addr::from(address).into()));
        let meant = world.sandbox.pool.find(Ipv4Addr::from(address).into(), world.now).unwrap();
        assert_eq!(meant.name().as_str(), name.trim_end_matches('.').to_ascii_lowercase());

        let response = world.ask(name, RecordType::AAAA);
        let RData::AAAA(address) = response.answers[0].data else { panic!("{response:?}") };
        assert!(synthetic::stands_for_names(Ipv6Addr::from(address).into()));
        assert!(response.recursion_available && response.recursion_desired && !response.truncation);
        assert_eq!(response.id, 7);
    }
    assert!(world.records.all().is_empty());
}

#[test]
fn nothing_else_exists() {
    let mut world = world();
    for name in ["example.com.", "sub.example.org.", "a.b.example.net.", "example.net.", "org.", "1.2.3.4.", "a_b.c."] {
        for of in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::PTR] {
            let response = world.ask(name, of);
            assert_eq!(response.response_code, ResponseCode::NXDomain, "{name} {of}");
            assert!(response.answers.is_empty());
            assert_eq!(response.authorities[0].record_type(), RecordType::SOA, "so that it is remembered for a while");
            assert_eq!(response.authorities[0].ttl, 5);
        }
    }
    let refused: Vec<_> = world.records.all().into_iter().map(|record| record.host).collect();
    assert_eq!(
        refused,
        ["example.com", "sub.example.org", "a.b.example.net", "example.net", "org", "1.2.3.4", "a_b.c"]
    );
    assert!(world.records.all().iter().all(|record| !record.allowed && record.protocol == crate::audit::Spoken::Dns));
}

#[test]
fn other_types_of_allowed_names_are_empty() {
    use RecordType::{ANY, AXFR, CNAME, HTTPS, MX, NS, NULL, PTR, SOA, SRV, SVCB, TXT};
    let mut world = world();
    for of in [TXT, NULL, ANY, PTR, AXFR, HTTPS, SVCB, MX, NS, SOA, SRV, CNAME, RecordType::Unknown(65_400)] {
        assert_eq!(world.addresses("example.org.", of), (ResponseCode::NoError, vec![]), "{of}");
    }
    assert_eq!(world.addresses("example.org.", RecordType::A).1.len(), 1);
}

#[test]
fn without_ipv6_there_are_no_addresses_of_it() {
    let mut world = world();
    assert_eq!(world.addresses("example.org.", RecordType::AAAA).1.len(), 1);
    world.resolver.v6.store(false, Ordering::Relaxed);
    world.resolver.refresh();
    assert_eq!(world.addresses("example.org.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
    assert_eq!(world.addresses("example.org.", RecordType::A).1.len(), 1);
}

#[test]
fn localhost_and_addresses_of_ours_are_known() {
    let mut world = world();
    let ok = |text: &str| (ResponseCode::NoError, vec![text.to_owned()]);
    assert_eq!(world.addresses("localhost.", RecordType::A), ok("127.0.0.1"));
    assert_eq!(world.addresses("x.localhost.", RecordType::AAAA), ok("::1"));
    assert_eq!(world.addresses("localhost.", RecordType::TXT), (ResponseCode::NoError, vec![]));
    assert_eq!(world.addresses("1.0.0.127.in-addr.arpa.", RecordType::PTR), ok("localhost."));

    let address = world.addresses("example.org.", RecordType::A).1.remove(0);
    let reverse = Name::from(address.parse::<Ipv4Addr>().unwrap()).to_string();
    assert_eq!(world.addresses(&reverse, RecordType::PTR), ok("example.org."));
    assert_eq!(world.addresses("9.9.19.198.in-addr.arpa.", RecordType::PTR).0, ResponseCode::NXDomain);
    assert_eq!(world.addresses("8.8.8.8.in-addr.arpa.", RecordType::PTR).0, ResponseCode::NXDomain);
    assert_eq!(world.addresses(".", RecordType::NS), (ResponseCode::NoError, vec![]), "above all there is");
}

#[test]
fn peers_have_their_own_addresses() {
    let mut world = world();
    assert_eq!(world.addresses("db.", RecordType::A).0, ResponseCode::NXDomain);
    world.sandbox.set_peers([("db".parse().unwrap(), vec!["10.89.0.3".parse().unwrap()])].into());
    world.resolver.refresh();
    assert_eq!(world.addresses("db.", RecordType::A), (ResponseCode::NoError, vec!["10.89.0.3".to_owned()]));
    assert_eq!(world.addresses("db.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
    assert_eq!(world.addresses("sub.db.", RecordType::A).0, ResponseCode::NXDomain);
}

#[test]
fn another_policy_holds_at_once() {
    let mut world = world();
    let shared = testing::shared(Limits::default());
    let ask = |world: &mut World, name| {
        world.resolver.refresh();
        world.addresses(name, RecordType::A).0
    };
    assert_eq!(ask(&mut world, "example.org."), ResponseCode::NoError);
    assert_eq!(ask(&mut world, "example.com."), ResponseCode::NXDomain);
    let rules = vec![testing::rule("example.com", &[], Protocol::Auto)];
    world.sandbox.swap(testing::generation(2, testing::policy(rules)), &shared);
    assert_eq!(ask(&mut world, "example.org."), ResponseCode::NXDomain);
    assert_eq!(ask(&mut world, "example.com."), ResponseCode::NoError);
}

#[test]
fn an_address_that_was_given_up_is_not_given_out_from_memory() {
    let rules = vec![testing::rule("*.example.net", &[], Protocol::Auto)];
    let mut world = world_with(testing::policy(rules), Limits { pattern_names: 1, ..Limits::default() });
    let before = world.addresses("one.example.net.", RecordType::AAAA);
    assert_eq!(world.addresses("two.example.net.", RecordType::AAAA).0, ResponseCode::ServFail, "no place");
    world.now += Duration::from_mins(3);
    let two = world.addresses("two.example.net.", RecordType::AAAA);
    assert_ne!(two, before);
    assert_eq!(world.addresses("one.example.net.", RecordType::AAAA).0, ResponseCode::ServFail, "its place was taken");
}

#[test]
fn edns_is_spoken_and_tells_why() {
    let mut world = world();
    let mut message = question("example.com.", RecordType::A);
    message.set_edns(Edns::new());
    let response = world.send_message(&message);
    let edns = response.edns.unwrap();
    assert_eq!(edns.max_payload(), PAYLOAD);
    let Some(EdnsOption::Unknown(_, why)) = edns.option(EXTENDED_ERROR.into()) else { panic!("{edns:?}") };
    assert_eq!(why[..2], BLOCKED.to_be_bytes());

    let mut message = question("example.org.", RecordType::A);
    message.set_edns(Edns::new().set_version(1).clone());
    let response = world.send_message(&message);
    assert_eq!(u16::from(response.response_code), u16::from(ResponseCode::BADVERS));
    assert!(response.answers.is_empty());
    assert!(world.ask("example.org.", RecordType::A).edns.is_none(), "not to those who did not ask for it");
}

#[test]
fn what_is_no_question_is_refused_or_dropped() {
    let mut world = world();
    for (name, bytes) in fuzz::corpus("dns") {
        let code = Message::from_vec(&world.send(&bytes).unwrap()).unwrap().response_code;
        let expected = match name.as_str() {
            "a" | "aaaa-edns" | "any" | "dig" | "https" => ResponseCode::NoError,
            "denied" | "long-labels" | "odd-bytes" | "ptr" => ResponseCode::NXDomain,
            "pointer" | "pointer-loop" | "two-questions" => ResponseCode::FormErr,
            "update" => ResponseCode::NotImp,
            other => panic!("what is {other}?"),
        };
        assert_eq!(code, expected, "{name}");
    }

    let good = question("example.org.", RecordType::A).to_vec().unwrap();
    assert!(world.send(&good[..11]).is_none(), "less than a header");
    assert!(world.send(&[]).is_none());
    let mut response = good.clone();
    response[2] |= 0x80;
    assert!(world.send(&response).is_none(), "a response is never answered: two servers would go on for ever");
    assert_eq!(world.send(&good[..good.len() - 1]).unwrap()[3], 1, "malformed");
    assert_eq!(world.send(&[&good[..], &vec![0; MAX_MESSAGE]].concat()).unwrap()[3], 1, "too long");
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(world.send_message(&chaos).response_code, ResponseCode::Refused);
}

#[test]
fn too_many_questions_are_not_answered() {
    let rules = vec![testing::rule("example.org", &[], Protocol::Auto)];
    let mut world = world_with(testing::policy(rules), Limits { dns_rate: Some(10), ..Limits::default() });
    let bytes = question("example.org.", RecordType::A).to_vec().unwrap();
    let answered = |world: &mut World| (0..50).filter(|_| world.send(&bytes).is_some()).count();
    assert_eq!(answered(&mut world), 10);
    world.now += Duration::from_millis(500);
    assert_eq!(answered(&mut world), 5);
    assert_eq!(world.records.all()[0].because.as_deref(), Some("dns-rate"));
}

#[test]
fn questions_that_cost_much_are_fewer_and_cost_nobody_the_cheap_ones() {
    let rules = vec![testing::rule("**.example.org", &[], Protocol::Auto)];
    let limits = Limits { dns_rate: Some(1000), dns_new: Some(10), ..Limits::default() };
    let mut world = world_with(testing::policy(rules), limits);
    let ask = |name: String| question(&name, RecordType::A).to_vec().unwrap();
    let known = ask("known.example.org.".into());
    assert!(world.send(&known).is_some());
    let answered = (0..50).filter(|number| world.send(&ask(format!("n{number}.example.org."))).is_some()).count();
    assert_eq!(answered, 9);
    assert_eq!((0..50).filter(|_| world.send(&known).is_some()).count(), 50, "what was asked lately");
    assert_eq!(world.records.all()[0].because.as_deref(), Some("dns-rate"));
    world.now += Duration::from_millis(500);
    assert!(world.send(&ask("later.example.org.".into())).is_some());
}

#[test]
fn refusals_are_recorded_once_a_minute_and_never_without_bound() {
    let limits = Limits { refusal_records: 20, dns_rate: None, dns_new: None, ..Limits::default() };
    let mut world = world_with(Policy::default(), limits);
    for number in 0..3000 {
        world.addresses(&format!("n{}.example.", number % 1000), RecordType::A);
    }
    assert_eq!(world.records.all().len(), 20);
}

#[test]
fn asking_for_many_names_hides_no_other_refusal() {
    let limits = Limits { refusal_records: 20, dns_rate: None, dns_new: None, ..Limits::default() };
    let mut world = world_with(Policy::default(), limits);
    for number in 0..100 {
        world.addresses(&format!("n{number}.example."), RecordType::A);
    }
    assert_eq!(world.records.all().len(), 20);
    world.refusals.connection("169.254.169.254", 80, "no-rule");
    let last = world.records.all().pop().unwrap();
    assert_eq!((last.host.as_str(), last.port), ("169.254.169.254", 80));
}

/// A few bytes that unfold to tens of thousands of labels.
#[test]
fn only_what_has_the_form_of_a_question_is_read() {
    let mut world = world();
    let good = question("example.org.", RecordType::A).to_vec().unwrap();
    for (at, count) in [(4, 0), (4, 2), (4, 0x275), (6, 1), (8, 1), (10, 3)] {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&u16::to_be_bytes(count));
        for _ in 0..count {
            bytes.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        }
        bytes.truncate(MAX_MESSAGE);
        assert_eq!(world.send(&bytes).unwrap()[3], 1, "malformed: {count} at {at}");
    }
    assert_eq!(world.send(&good).unwrap()[3] & 15, 0);
}

#[test]
fn no_bytes_do_harm() {
    let mut names = fuzzing::Names::default();
    let mut answered = 0;
    fuzz::run("dns", |bytes, _| answered += usize::from(names.ask(bytes)));
    assert!(answered > 1000, "{answered}");
}
