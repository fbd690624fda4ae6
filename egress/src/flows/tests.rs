use std::sync::atomic::AtomicBool;
use std::thread;

use schema::policy::{Policy, Protocol};

use super::*;
use crate::limits::Limits;
use crate::testing;

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn open(sandbox: &Arc<Sandbox>, shared: &Shared, name: &str, port: u16) -> Result<(FlowGuard, Inspect), Refused> {
    FlowGuard::open(sandbox, shared, host(name), port, Transport::Tcp, None)
}

/// One that may open connections and flows of datagrams.
fn both() -> Arc<Sandbox> {
    let [tcp, udp] = [Protocol::Auto, Protocol::Udp].map(|protocol| testing::rule("a.example", &[443], protocol));
    testing::sandbox(testing::policy(vec![tcp, udp])).0
}

fn open_by(transport: Transport, sandbox: &Arc<Sandbox>, shared: &Shared) -> Result<(FlowGuard, Inspect), Refused> {
    FlowGuard::open(sandbox, shared, host("a.example"), 443, transport, None)
}

fn names(protocol: Protocol, names: &[&str]) -> Policy {
    testing::policy(names.iter().map(|name| testing::rule(name, &[443, 8080], protocol)).collect())
}

#[test]
fn what_the_policy_denies_is_not_opened_and_what_ends_is_forgotten() {
    let (sandbox, _) = testing::sandbox(names(Protocol::Auto, &["a.example"]));
    let shared = testing::shared(Limits { connections: 2, ..Limits::default() });
    assert!(matches!(open(&sandbox, &shared, "b.example", 443), Err(Refused::Policy(Denial::NoRule))));
    assert!(matches!(open(&sandbox, &shared, "a.example", 22), Err(Refused::Policy(Denial::Port(_)))));
    let one = open(&sandbox, &shared, "a.example", 443).unwrap();
    let _two = open(&sandbox, &shared, "a.example", 443).unwrap();
    assert_eq!(open(&sandbox, &shared, "a.example", 443).err(), Some(Refused::TooMany));
    assert_eq!(sandbox.flows.count(), (2, 0));
    drop(one);
    assert_eq!(sandbox.flows.count(), (1, 0));
    open(&sandbox, &shared, "a.example", 443).unwrap();
}

#[test]
fn all_sandboxes_together_have_a_bound_too() {
    let shared = testing::shared(Limits { connections_of_all: 3, sockets_of_all: 2, ..Limits::default() });
    let [greedy, other] = [(); 2].map(|()| both());
    for (transport, many) in [(Transport::Tcp, 3), (Transport::Udp, 2)] {
        let mut held: Vec<_> = (0..many).map(|_| open_by(transport, &greedy, &shared).unwrap()).collect();
        assert_eq!(open_by(transport, &other, &shared).err(), Some(Refused::TooMany));
        assert_eq!(other.flows.count(), (0, 0));
        held.pop();
        open_by(transport, &other, &shared).unwrap();
    }
}

/// Whatever one does, three others find as much: with the bounds of a daemon that may open few files, and many.
#[test]
fn no_sandbox_has_more_than_a_quarter() {
    for descriptors in [1024, 4096, 65_536] {
        let shared = testing::shared(Limits::within(descriptors));
        for transport in [Transport::Tcp, Transport::Udp] {
            let sandboxes = [(); 4].map(|()| both());
            let all = sandboxes
                .each_ref()
                .map(|sandbox| std::iter::from_fn(|| open_by(transport, sandbox, &shared).ok()).collect::<Vec<_>>());
            let counts = all.each_ref().map(Vec::len);
            assert!(counts[0] > 0 && counts == [counts[0]; 4], "{descriptors} {transport:?}: {counts:?}");
        }
    }
}

#[test]
fn another_policy_cuts_what_it_does_not_allow_and_nothing_else() {
    let (sandbox, _) = testing::sandbox(names(Protocol::Auto, &["a.example", "b.example"]));
    let shared = testing::shared(Limits::default());
    let settled = |name: &str, port, speech| {
        let (flow, _) = open(&sandbox, &shared, name, port).unwrap();
        flow.settle(&shared, speech).unwrap();
        flow
    };
    let (tls, revoked) = (settled("a.example", 443, Some(Speech::Tls)), settled("b.example", 443, Some(Speech::Tls)));
    let opaque = settled("a.example", 8080, Some(Speech::Other));
    let (pending, _) = open(&sandbox, &shared, "a.example", 443).unwrap();
    sandbox.swap(testing::generation(2, names(Protocol::Tls, &["a.example"])), &shared);
    assert!(!tls.is_cancelled() && revoked.is_cancelled());
    assert!(opaque.is_cancelled(), "only TLS may pass now");
    assert!(!pending.is_cancelled(), "not yet known what it is");
    assert!(matches!(pending.settle(&shared, Some(Speech::Other)), Err(Denial::Protocol(_))));
    assert_eq!(pending.settle(&shared, Some(Speech::Tls)), Ok(Route::Pass));
    assert_eq!(tls.record(Spoken::Tls, None).generation, 1, "decided by the one that let it in");
    assert_eq!(pending.record(Spoken::Tls, None).generation, 2);
}

#[test]
fn what_nobody_looked_at_cannot_go_on_where_something_has_to_be_seen() {
    let (sandbox, _) = testing::sandbox(names(Protocol::Tcp, &["a.example"]));
    let shared = testing::shared(Limits::default());
    let (flow, inspect) = open(&sandbox, &shared, "a.example", 443).unwrap();
    assert_eq!((inspect, flow.settle(&shared, None)), (Inspect::Nothing, Ok(Route::Pass)));
    sandbox.swap(testing::generation(2, names(Protocol::Tcp, &["a.example", "b.example"])), &shared);
    assert!(!flow.is_cancelled());
    sandbox.swap(testing::generation(3, names(Protocol::Auto, &["a.example"])), &shared);
    assert!(flow.is_cancelled());
}

/// Another day begins while a policy is changed, say: whoever is second has not read before the first has written.
#[test]
fn what_is_in_force_is_read_when_nobody_else_can_change_it() {
    let (sandbox, _) = testing::sandbox(names(Protocol::Auto, &["a.example"]));
    let shared = testing::shared(Limits::default());
    let (flow, _) = open(&sandbox, &shared, "a.example", 443).unwrap();
    let cut = sandbox.flows.judge_again(|| {
        assert!(sandbox.flows.open.try_lock().is_err(), "somebody else could be first");
        (Arc::new(testing::generation(2, Policy::default())), shared.today())
    });
    assert!(cut == 1 && flow.is_cancelled());
}

/// However opening and a change of policy fall together: what the last policy does not allow is not open.
#[test]
fn no_flow_slips_past_a_change() {
    let shared = testing::shared(Limits { connections: usize::MAX, ..Limits::default() });
    for _ in 0..200 {
        let (sandbox, _) = testing::sandbox(names(Protocol::Auto, &["a.example"]));
        let denied = AtomicBool::new(false);
        thread::scope(|scope| {
            let opening = scope.spawn(|| {
                let mut flows = Vec::new();
                while !denied.load(Ordering::Relaxed) {
                    match open(&sandbox, &shared, "a.example", 443) {
                        Ok((flow, _)) => {
                            let settled = flow.settle(&shared, Some(Speech::Tls)).is_ok();
                            flows.push((flow, settled));
                        }
                        Err(_) => break,
                    }
                }
                flows
            });
            sandbox.swap(testing::generation(2, Policy::default()), &shared);
            denied.store(true, Ordering::Relaxed);
            for (flow, settled) in opening.join().unwrap() {
                assert!(flow.is_cancelled() || !settled);
            }
        });
    }
}

/// A connection outside counts, and where it leads is held against each policy, for as long as it is there.
#[tokio::test]
async fn where_requests_lead_is_remembered_no_longer_than_what_they_go_by() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open_policy = || testing::policy(vec![testing::rule("a.example", &[port], Protocol::Http)]);
    let closed = |number| testing::generation(number, Policy { dial_allow: Vec::new(), ..open_policy() });
    let (sandbox, _) = testing::sandbox(open_policy());
    let shared = testing::shared(Limits::default());
    let (flow, _) = open(&sandbox, &shared, "a.example", port).unwrap();
    let generation = Arc::clone(&sandbox.generation());
    let endpoint = shared.dialer.dial(&generation, &host("a.example"), port, shared.today()).await.unwrap().endpoint;
    let known = || flow.flow.judged().asked.len();
    let asks = || {
        let mut outside = Outside::take(&sandbox, &shared).unwrap();
        flow.asks(&shared, &mut outside, endpoint.clone()).then_some(outside)
    };
    let both = [asks().unwrap(), asks().unwrap()];
    assert!(known() == 2 && both.iter().all(Outside::may_be_asked));
    drop(both);
    assert_eq!(known(), 0);

    // On another day, say: the policy is the same, and so is its number.
    let kept = asks().unwrap();
    sandbox.flows.judge_again(|| (Arc::new(closed(1)), shared.today()));
    assert!(!kept.may_be_asked(), "nothing goes by it any more");
    assert_eq!(known(), 0);
    assert!(asks().unwrap().may_be_asked(), "but by another");

    // What was dialled under the policy of before.
    sandbox.swap(closed(2), &shared);
    assert!(asks().is_none());
    assert_eq!(known(), 0);
    drop(kept);
    assert_eq!(sandbox.flows.lock().outside, 0);
}
