//! Names and the synthetic addresses that stand for them, in one sandbox.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schema::policy::DnsName;
use sha2::{Digest, Sha256};

use crate::synthetic::{POOL_V4, POOL_V6, RESERVED_V4, RESERVED_V6};

/// How long clients may keep an answer.
pub const TTL: Duration = Duration::from_mins(1);

/// How long an address stands for its name after it was last given out or connected to, whatever else asks for it.
const HELD: Duration = Duration::from_secs(2 * TTL.as_secs());

/// How many IPv4 addresses a name may have: as many words as its hash has.
const PROBES: usize = 8;

/// Which address stands for which name.
///
/// # Guarantees
/// While an address stands for a name, it stands for no other, and it does so at least for twice the time that clients may
/// keep an answer, and as long as a flow to it is open.
///
/// Addresses follow from the name alone (the words of its hash are the candidates, the first free one is taken), so that
/// they outlive a restart of the daemon without being stored. An address whose name was not asked for since the restart
/// means nothing, unless a rule spells the name out.
///
/// # Caveats
/// Of two names with the same first candidate the one that is asked for first gets it. If they are asked for in the other
/// order after a restart, a client that kept the older answer beyond it reaches the other name. Both are allowed, and TLS
/// and HTTP are held to their own name all the same. IPv6 has candidates enough for that never to happen.
#[derive(Debug)]
pub struct Pool {
    started: Instant,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<DnsName, Arc<Lease>>,
    by_v4: HashMap<Ipv4Addr, Arc<Lease>>,
    by_v6: HashMap<Ipv6Addr, Arc<Lease>>,
    /// How many leases are not spelled out by a rule.
    patterned: usize,
    /// When it was last seen that none could be given up. All are looked at for that: once in a second is enough.
    none_idle: Option<u64>,
}

/// One name and its addresses.
#[derive(Debug)]
pub struct Lease {
    name: DnsName,
    v4: Option<Ipv4Addr>,
    v6: Ipv6Addr,
    /// Whether a rule spells the name out.
    spelled: AtomicBool,
    /// When it was last of use, in seconds since the pool's start.
    last: AtomicU64,
    /// Open flows.
    flows: AtomicUsize,
    /// Whether the addresses do not stand for the name any more.
    given_up: AtomicBool,
}

/// Keeps an address standing for its name for as long as it lives.
#[derive(Debug)]
pub struct InUse(Arc<Lease>);

/// There is no address left for another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more names are in use than one sandbox may have")]
pub struct Full;

impl Pool {
    /// An empty pool.
    pub fn new(now: Instant) -> Self {
        Self { started: now, names: Mutex::default() }
    }

    /// Gives addresses to the names that rules spell out, before anybody asks, so that answers from before a restart mean
    /// the same at once. Names that were spelled out before and are not any more are kept like any other.
    pub fn spell<'a>(&self, names: impl IntoIterator<Item = &'a DnsName>, pattern_names: usize, now: Instant) {
        // In one order whatever the order of rules: a name's address must not depend on it.
        let mut wanted: Vec<&DnsName> = names.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let seconds = self.seconds(now);
        let mut held = self.lock();
        let names = &mut *held;
        for lease in names.by_name.values() {
            if wanted.binary_search(&&lease.name).is_err() && lease.spelled.swap(false, Ordering::Relaxed) {
                names.patterned += 1;
            }
        }
        for name in wanted {
            if let Some(lease) = names.by_name.get(name) {
                if !lease.spelled.swap(true, Ordering::Relaxed) {
                    names.patterned -= 1;
                }
            } else {
                // The hash of an IPv6 address is taken: the name stays unknown.
                let _ = names.add(name, true, seconds);
            }
        }
        while names.patterned > pattern_names && names.evict(seconds) {}
    }

    /// The addresses of `name`, which the policy allows. `pattern_names` bounds how many names may have addresses without
    /// being spelled out by a rule.
    pub fn lease(&self, name: &DnsName, pattern_names: usize, now: Instant) -> Result<Arc<Lease>, Full> {
        let seconds = self.seconds(now);
        let mut names = self.lock();
        if let Some(lease) = names.by_name.get(name) {
            lease.last.store(seconds, Ordering::Relaxed);
            return Ok(Arc::clone(lease));
        }
        while names.patterned >= pattern_names {
            if !names.evict(seconds) {
                return Err(Full);
            }
        }
        names.add(name, false, seconds)
    }

    /// The name `address` stands for.
    pub fn find(&self, address: IpAddr, now: Instant) -> Option<InUse> {
        let seconds = self.seconds(now);
        let names = self.lock();
        let lease = match address {
            IpAddr::V4(address) => names.by_v4.get(&address),
            IpAddr::V6(address) => names.by_v6.get(&address),
        }?;
        lease.last.store(seconds, Ordering::Relaxed);
        // Under the lock, so that it cannot be given up meanwhile.
        lease.flows.fetch_add(1, Ordering::Relaxed);
        Some(InUse(Arc::clone(lease)))
    }

    /// Notes that `lease` is given out again; `false` if it was given up and means nothing any more.
    pub fn renew(&self, lease: &Lease, now: Instant) -> bool {
        let seconds = self.seconds(now);
        // Under the lock, so that it cannot be given up meanwhile.
        let _names = self.lock();
        lease.last.store(seconds, Ordering::Relaxed);
        !lease.given_up.load(Ordering::Relaxed)
    }

    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn add(&mut self, name: &DnsName, spelled: bool, seconds: u64) -> Result<Arc<Lease>, Full> {
        let (candidates, v6) = addresses(name);
        let Entry::Vacant(free) = self.by_v6.entry(v6) else { return Err(Full) };
        let v4 = candidates.into_iter().find(|address| !self.by_v4.contains_key(address));
        let lease = Arc::new(Lease {
            name: name.clone(),
            v4,
            v6,
            spelled: AtomicBool::new(spelled),
            last: AtomicU64::new(seconds),
            flows: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
        });
        free.insert(Arc::clone(&lease));
        if let Some(v4) = v4 {
            self.by_v4.insert(v4, Arc::clone(&lease));
        }
        self.by_name.insert(name.clone(), Arc::clone(&lease));
        self.patterned += usize::from(!spelled);
        Ok(lease)
    }

    /// Gives up the name that has been of no use for longest; whether there was one to give up.
    fn evict(&mut self, seconds: u64) -> bool {
        if self.none_idle == Some(seconds) {
            return false;
        }
        let idle = |lease: &&Arc<Lease>| {
            !lease.spelled.load(Ordering::Relaxed)
                && lease.flows.load(Ordering::Relaxed) == 0
                && seconds.saturating_sub(lease.last.load(Ordering::Relaxed)) >= HELD.as_secs()
        };
        let oldest = self.by_name.values().filter(idle).min_by_key(|lease| lease.last.load(Ordering::Relaxed)).cloned();
        let Some(lease) = oldest else {
            self.none_idle = Some(seconds);
            return false;
        };
        lease.given_up.store(true, Ordering::Relaxed);
        self.by_name.remove(&lease.name);
        self.by_v6.remove(&lease.v6);
        if let Some(v4) = lease.v4 {
            self.by_v4.remove(&v4);
        }
        self.patterned -= 1;
        true
    }
}

impl Lease {
    /// The name.
    pub fn name(&self) -> &DnsName {
        &self.name
    }

    /// Its IPv4 address; `None` where all its candidates stand for other names.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.v4
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }
}

impl InUse {
    /// The name.
    pub fn name(&self) -> &DnsName {
        &self.0.name
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The IPv4 addresses a name may have, in the order of preference, and the one IPv6 address.
fn addresses(name: &DnsName) -> ([Ipv4Addr; PROBES], Ipv6Addr) {
    let hash: [u8; 32] = Sha256::digest(name.as_str().as_bytes()).into();
    let usable = (1 << (32 - POOL_V4.prefix_len())) - RESERVED_V4;
    let (words, _) = hash.as_chunks::<4>();
    let mut v4 = [Ipv4Addr::UNSPECIFIED; PROBES];
    for (address, word) in v4.iter_mut().zip(words) {
        let offset = RESERVED_V4 + u32::from_be_bytes(*word) % usable;
        *address = Ipv4Addr::from_bits(POOL_V4.network().to_bits() + offset);
    }
    let mut id = [0; 8];
    id.copy_from_slice(&hash[24..]);
    let id = u64::from_be_bytes(id);
    (v4, Ipv6Addr::from_bits(POOL_V6.network().to_bits() | u128::from(id | RESERVED_V6)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use proptest::prelude::*;

    use super::*;
    use crate::synthetic;

    const MANY: usize = 10_000;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn lease(pool: &Pool, text: &str, now: Instant) -> Arc<Lease> {
        pool.lease(&name(text), MANY, now).unwrap()
    }

    fn meant(pool: &Pool, address: impl Into<IpAddr>, now: Instant) -> Option<String> {
        pool.find(address.into(), now).map(|found| found.name().to_string())
    }

    /// Two names with the same first candidate.
    fn colliding() -> (String, String) {
        let mut seen = HashMap::new();
        (0..)
            .map(|number| format!("n{number}.example.org"))
            .find_map(|text| seen.insert(addresses(&name(&text)).0[0], text.clone()).map(|other| (other, text)))
            .unwrap()
    }

    #[test]
    fn addresses_follow_from_the_name_and_nothing_else() {
        let now = Instant::now();
        let (one, other) = (Pool::new(now), Pool::new(now));
        lease(&one, "a.example.org", now);
        let before = lease(&one, "b.example.org", now);
        let after = lease(&other, "b.example.org", now);
        assert_eq!((before.v4(), before.v6()), (after.v4(), after.v6()));
        // Fixed for good: a sandbox may have kept one over an update of the daemon.
        assert_eq!(before.v4().unwrap().to_string(), "198.19.106.12");
        assert_eq!(before.v6().to_string(), "fd00:5b78::b561:91af:24b9:bd3c");
    }

    #[test]
    fn names_that_rules_spell_out_mean_the_same_right_after_a_restart_and_others_nothing() {
        let now = Instant::now();
        let before = Pool::new(now);
        let spelled = lease(&before, "spelled.example.org", now);
        let other = lease(&before, "other.example.org", now);
        let after = Pool::new(now);
        after.spell([&name("spelled.example.org")], MANY, now);
        assert_eq!(meant(&after, spelled.v4().unwrap(), now).as_deref(), Some("spelled.example.org"));
        assert_eq!(meant(&after, spelled.v6(), now).as_deref(), Some("spelled.example.org"));
        assert_eq!(meant(&after, other.v4().unwrap(), now), None);
        assert_eq!(meant(&after, other.v6(), now), None);
    }

    #[test]
    fn a_second_name_with_the_same_candidate_gets_its_next_one() {
        let now = Instant::now();
        let (first, second) = colliding();
        let pool = Pool::new(now);
        let (held, probed) = (lease(&pool, &first, now), lease(&pool, &second, now));
        assert_ne!(held.v4(), probed.v4());
        assert_eq!(probed.v4(), Some(addresses(&name(&second)).0[1]));
        assert_eq!(meant(&pool, held.v4().unwrap(), now), Some(first));
        assert_eq!(meant(&pool, probed.v4().unwrap(), now), Some(second));
    }

    #[test]
    fn a_full_pool_gives_up_what_rested_longest_but_nothing_held_in_use_or_spelled_out() {
        let start = Instant::now();
        let pool = Pool::new(start);
        pool.spell([&name("spelled.example.org")], 2, start);
        let get = |text: &str, now| pool.lease(&name(text), 2, now);
        let first = get("one.example.org", start).unwrap();
        get("two.example.org", start + Duration::from_secs(1)).unwrap();
        assert_eq!(
            get("three.example.org", start + Duration::from_secs(2)).err(),
            Some(Full),
            "both may be remembered"
        );

        let later = start + HELD + Duration::from_secs(2);
        let used = pool.find(first.v6().into(), later).unwrap();
        let much_later = later + HELD;
        get("three.example.org", much_later).unwrap();
        assert_eq!(meant(&pool, first.v6(), much_later).as_deref(), Some("one.example.org"), "a flow is open");
        assert!(!pool.lock().by_name.contains_key(&name("two.example.org")), "the one that rested");
        drop(used);
        get("four.example.org", much_later + HELD).unwrap();
        assert!(pool.lock().by_name.contains_key(&name("spelled.example.org")));
    }

    #[test]
    fn a_full_pool_is_looked_through_once_in_a_second() {
        let start = Instant::now();
        let pool = Pool::new(start);
        let get = |text: &str, now| pool.lease(&name(text), 1, now);
        let first = get("one.example.org", start).unwrap();
        let later = start + HELD;
        let used = pool.find(first.v6().into(), later).unwrap();
        let full = later + HELD;
        assert_eq!(get("two.example.org", full).err(), Some(Full), "a flow is open");
        drop(used);
        // Whoever asks without end does not have all names looked at each time.
        assert_eq!(get("two.example.org", full + Duration::from_millis(999)).err(), Some(Full));
        get("two.example.org", full + Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn names_no_longer_spelled_out_count_again() {
        let start = Instant::now();
        let pool = Pool::new(start);
        let names: Vec<_> = (0..10).map(|number| name(&format!("n{number}.example.org"))).collect();
        pool.spell(&names, 2, start);
        assert_eq!(pool.lock().patterned, 0);
        pool.spell([], 2, start);
        assert_eq!(pool.lock().patterned, 10, "held for as long as answers may be kept");
        pool.spell(&names[..1], 2, start + HELD);
        assert_eq!(pool.lock().patterned, 2);
        assert_eq!(pool.lock().by_name.len(), 3);
    }

    proptest! {
        #[test]
        fn no_address_ever_stands_for_two_names(numbers in prop::collection::vec((0..400_u32, 0..300_u64), 1..600)) {
            let start = Instant::now();
            let pool = Pool::new(start);
            let mut clock = start;
            // What a client may still remember: address, name, until when.
            let mut remembered: HashMap<IpAddr, (DnsName, Instant)> = HashMap::new();
            for (number, pause) in numbers {
                clock += Duration::from_secs(pause / 100);
                let asked = name(&format!("n{number}.example.org"));
                let Ok(lease) = pool.lease(&asked, 50, clock) else { continue };
                for address in lease.v4().map(IpAddr::from).into_iter().chain([lease.v6().into()]) {
                    prop_assert!(synthetic::stands_for_names(address));
                    if let Some((other, until)) = remembered.get(&address) {
                        prop_assert!(*other == asked || *until <= clock);
                    }
                    remembered.insert(address, (asked.clone(), clock + TTL));
                }
            }
            for (address, (asked, until)) in remembered {
                if until > clock {
                    prop_assert_eq!(meant(&pool, address, clock), Some(asked.to_string()));
                }
            }
        }
    }
}
