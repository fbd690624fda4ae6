use schema::policy::{Policy, Protocol};

use super::*;
use crate::dial::{DialSettings, Dialer, Interfaces, NameServers};
use crate::limits::Limits;
use crate::testing;

/// Takes every rule, and keeps it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(Vec<String>, bool)>>);

impl Kept {
    fn last(&self) -> String {
        self.0.lock().unwrap().0.iter().rfind(|rules| !rules.is_empty()).cloned().unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().0.iter().filter(|rules| !rules.is_empty()).count()
    }

    fn break_down(&self) {
        self.0.lock().unwrap().1 = true;
    }
}

impl Filter for Kept {
    fn give(&self, rules: String) -> oneshot::Receiver<Result<(), String>> {
        let (tell, told) = oneshot::channel();
        let mut kept = self.0.lock().unwrap();
        kept.0.push(rules);
        let _ = tell.send(if kept.1 { Err("no more".to_owned()) } else { Ok(()) });
        told
    }
}

const TODAY: Date = jiff::civil::date(2026, 1, 1);

/// Allows these names at port 443; each means an address of the documentation's, or a private one.
fn policy(names: &[&str]) -> Policy {
    let allow = names.iter().map(|name| testing::rule(name, &[443], Protocol::Tcp)).collect();
    let hosts = [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2"), ("private.test", "10.1.2.3")];
    let hosts = hosts.map(|(name, address)| (name.parse().unwrap(), vec![address.parse().unwrap()]));
    Policy { allow, hosts: hosts.into(), ..Policy::default() }
}

fn generation(names: &[&str]) -> Arc<Generation> {
    Arc::new(testing::generation(1, policy(names)))
}

/// Nobody can be asked for names that the policy does not map.
fn shared() -> Shared {
    let settings = DialSettings {
        name_servers: NameServers::Fixed(vec!["127.0.0.1:9".parse().unwrap()]),
        timeout: Duration::from_millis(200),
        // Addresses of the documentation's may be this machine's.
        interfaces: Interfaces::Fixed(Vec::new()),
    };
    Shared { dialer: Dialer::new(settings), ..Shared::default() }
}

async fn begin(names: &[&str], standing: Vec<Standing>) -> (Arc<Direct>, Kept) {
    let kept = Kept::default();
    let filter = Box::new(kept.clone());
    let begun = Direct::begin(filter, standing, generation(names), Addresses::default(), Own::nobody(), TODAY);
    let direct = begun.await.unwrap();
    (Arc::new(direct), kept)
}

#[tokio::test]
async fn what_is_this_machines_is_not_opened() {
    let kept = Kept::default();
    let own = Own::new(Interfaces::Fixed(vec!["192.0.2.2/32".parse().unwrap()]));
    let mut policy = policy(&["a.test", "b.test"]);
    policy.allow.push(testing::rule("192.0.2.0/29", &[22], Protocol::Tcp));
    let generation = Arc::new(testing::generation(1, policy));
    let filter = Box::new(kept.clone());
    let direct = Direct::begin(filter, vec![], generation, Addresses::default(), own, TODAY).await.unwrap();
    let table = kept.last();
    assert!(table.contains("192.0.2.0-192.0.2.1") && table.contains("192.0.2.3-192.0.2.7"), "{table}");
    direct.resolve(&shared(), &name("a.test")).await.unwrap();
    let denied = direct.resolve(&shared(), &name("b.test")).await;
    assert!(matches!(denied, Err(Unopened::Denied)), "{denied:?}");
    assert!(!kept.last().contains("192.0.2.2 "), "{}", kept.last());
}

/// Whoever is the first to learn of it, and whether or not that opens anything by itself.
#[tokio::test]
async fn what_this_machine_gets_is_closed_by_the_next_rules_or_renewal() {
    for (asked, is_open) in [("b.test", true), ("a.test", false)] {
        let (mut direct, kept) = begin(&["a.test", "b.test"], vec![]).await;
        direct.resolve(&shared(), &name("a.test")).await.unwrap();
        assert!(kept.last().contains("192.0.2.1 timeout"), "{}", kept.last());
        let got = Interfaces::Fixed(vec!["192.0.2.1/32".parse().unwrap()]);
        Arc::get_mut(&mut direct).unwrap().interfaces = Own::new(got);
        assert_eq!(direct.resolve(&shared(), &name(asked)).await.is_ok(), is_open, "{asked}");
        if !is_open {
            direct.renew(&shared()).await;
        }
        let table = kept.last();
        assert!(table.contains("delete table") && !table.contains("192.0.2.1 "), "{asked}: {table}");
        assert_eq!(table.contains("192.0.2.2 timeout"), is_open, "{asked}: {table}");
        let count = kept.count();
        direct.renew(&shared()).await;
        assert_eq!(kept.count(), count, "nothing is new");
    }
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn standing(address: &str, name: &str) -> Standing {
    Standing { address: address.parse().unwrap(), name: name.to_owned(), left: Duration::from_mins(1) }
}

#[tokio::test]
async fn what_a_name_means_is_open_before_it_is_told() {
    let (direct, kept) = begin(&["a.test", "b.test", "private.test"], vec![]).await;
    assert!(!kept.last().contains("192.0.2.1"));
    let meaning = direct.resolve(&shared(), &name("a.test")).await.unwrap();
    assert_eq!(meaning.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(kept.last().contains("192.0.2.1 timeout") && kept.last().contains("443"), "{}", kept.last());
    assert!(meaning.opened.is_some());
    // Another name at the same ports is an entry more; the same name again is nothing.
    direct.resolve(&shared(), &name("b.test")).await.unwrap();
    assert!(kept.last().starts_with("add element inet sbx open4_0 { 192.0.2.2 }"), "{}", kept.last());
    let count = kept.count();
    assert_eq!(direct.resolve(&shared(), &name("b.test")).await.unwrap().opened, None);
    assert_eq!((kept.count(), direct.count()), (count, 2));
}

#[tokio::test]
async fn what_may_not_be_dialled_is_not_opened() {
    let (direct, kept) = begin(&["a.test", "private.test"], vec![]).await;
    let refused = direct.resolve(&shared(), &name("private.test")).await;
    assert!(matches!(refused, Err(Unopened::Unresolved(DialError::Refused { .. }))), "{refused:?}");
    assert!(matches!(direct.resolve(&shared(), &name("b.test")).await, Err(Unopened::Denied)));
    assert!(!kept.last().contains("10.1.2.3") && !kept.last().contains("192.0.2.2"));
    let mut opens = policy(&["private.test"]);
    opens.dial_allow = vec!["10.1.2.3/32".parse().unwrap()];
    direct.enforce(|| (Arc::new(testing::generation(2, opens)), TODAY)).await.unwrap();
    direct.resolve(&shared(), &name("private.test")).await.unwrap();
    assert!(kept.last().contains("10.1.2.3"));
    // And not any more.
    direct.enforce(|| (generation(&["private.test"]), TODAY)).await.unwrap();
    assert!(!kept.last().contains("10.1.2.3"), "{}", kept.last());
}

#[tokio::test]
async fn a_change_closes_what_it_revokes_and_nothing_else() {
    let (direct, kept) = begin(&["a.test", "b.test"], vec![]).await;
    for open in ["a.test", "b.test"] {
        direct.resolve(&shared(), &name(open)).await.unwrap();
    }
    assert_eq!(direct.closed_by(&generation(&["a.test"]), TODAY), ["b.test:443"]);
    direct.enforce(|| (generation(&["a.test"]), TODAY)).await.unwrap();
    assert!(kept.last().contains("192.0.2.1") && !kept.last().contains("192.0.2.2"), "{}", kept.last());
    assert_eq!(direct.count(), 1);
}

/// Another day begins while a policy is changed, say: whoever is second has not read before the first has written.
#[tokio::test]
async fn what_is_in_force_is_read_when_nobody_else_can_change_it() {
    let (direct, kept) = begin(&["a.test"], vec![]).await;
    direct.resolve(&shared(), &name("a.test")).await.unwrap();
    let newest = || {
        assert!(direct.state.try_lock().is_err(), "somebody else could be first");
        (generation(&[]), TODAY)
    };
    direct.enforce(newest).await.unwrap();
    assert!(!kept.last().contains("192.0.2.1"), "{}", kept.last());
}

#[tokio::test]
async fn what_an_earlier_daemon_opened_is_judged_anew() {
    let left = ["192.0.2.1", "192.0.2.7"].map(|address| standing(address, "a.test"));
    let others = [standing("192.0.2.2", "b.test"), standing("10.1.2.3", "a.test"), standing("192.0.2.9", "no name")];
    let (direct, kept) = begin(&["a.test"], left.into_iter().chain(others).collect()).await;
    assert!(kept.last().contains("192.0.2.1 timeout") && kept.last().contains("192.0.2.7 timeout"));
    for closed in ["192.0.2.2", "10.1.2.3", "192.0.2.9"] {
        assert!(!kept.last().contains(closed), "{closed}: {}", kept.last());
    }
    assert_eq!(direct.count(), 1);
}

#[tokio::test]
async fn the_last_good_answer_holds_while_nobody_can_be_asked() {
    let (direct, _) = begin(&["away.test"], vec![standing("192.0.2.5", "away.test")]).await;
    let meaning = direct.resolve(&shared(), &name("away.test")).await.unwrap();
    assert_eq!(meaning.addresses, ["192.0.2.5".parse::<IpAddr>().unwrap()]);
    direct.renew(&shared()).await;
    assert_eq!(direct.count(), 1);
    let (direct, _) = begin(&["away.test"], vec![]).await;
    let unknown = direct.resolve(&shared(), &name("away.test")).await;
    assert!(matches!(unknown, Err(Unopened::Unresolved(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_filter_that_takes_nothing_is_told() {
    let (direct, kept) = begin(&["a.test"], vec![]).await;
    assert_eq!(direct.broken(), None);
    kept.break_down();
    assert!(matches!(direct.resolve(&shared(), &name("a.test")).await, Err(Unopened::Filter(_))));
    assert_eq!(direct.broken().as_deref(), Some("no more"));
}

#[tokio::test]
async fn where_no_name_has_room_nobody_is_asked() {
    let (direct, _) = begin(&["*.test"], vec![]).await;
    let full = Shared { limits: Limits { pattern_names: 0, ..Limits::default() }, ..shared() };
    assert!(matches!(direct.resolve(&full, &name("unmapped.test")).await, Err(Unopened::TooMany)));
    let asked = direct.resolve(&shared(), &name("unmapped.test")).await;
    assert!(matches!(asked, Err(Unopened::Unresolved(_))), "{asked:?}");
}

#[tokio::test]
async fn an_address_of_two_names_is_open_as_long_as_the_longer_needs() {
    let (direct, kept) = begin(&["a.test", "b.test"], vec![]).await;
    let address = ["192.0.2.9".parse().unwrap()];
    let open = |text: &str, ttl: u64| drop(direct.open(&name(text), &address, Duration::from_secs(ttl), 10).unwrap());
    open("a.test", 3600);
    open("b.test", 60);
    let rules = kept.last();
    let timeout = rules.rsplit_once(" timeout ").map(|(_, rest)| rest.split(['s', 'm']).next().unwrap().to_owned());
    let timeout: u64 = timeout.unwrap_or_default().parse().unwrap_or_else(|_| panic!("{rules}"));
    assert!(rules.contains("192.0.2.9") && (3600..=3720).contains(&timeout), "{rules}");
}

#[tokio::test]
async fn patterns_allow_so_many_names() {
    let mut wide = policy(&["*.test", "b.test"]);
    wide.hosts.insert(name("c.test"), vec!["192.0.2.3".parse().unwrap()]);
    let (direct, _) = begin(&["a.test"], vec![]).await;
    direct.enforce(|| (Arc::new(testing::generation(2, wide)), TODAY)).await.unwrap();
    let limits = crate::limits::Limits { pattern_names: 1, ..Default::default() };
    let shared = Shared { limits, ..shared() };
    direct.resolve(&shared, &name("a.test")).await.unwrap();
    assert!(matches!(direct.resolve(&shared, &name("c.test")).await, Err(Unopened::TooMany)));
    direct.resolve(&shared, &name("b.test")).await.unwrap();
}
