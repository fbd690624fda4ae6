//! Which addresses were given out for which name, and until when they stay open. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use schema::policy::DnsName;

use super::openings::Ports;

/// How much longer than its answer an address stays open: a flow that began at the answer's last moment has that long, and
/// so has whoever looks names up, to come back.
pub const GRACE: Duration = Duration::from_mins(2);

/// Answers are good for no less than this: clients need time to connect, and somebody has to look names up again.
pub const LEAST: Duration = Duration::from_secs(30);

/// How long a name that only a pattern allows is looked up again by itself, after it was last asked for.
const WANTED: Duration = Duration::from_hours(1);

/// Most addresses of one family of a name.
const MOST: usize = 16;

/// Names and their addresses.
#[derive(Debug, Default)]
pub struct Book {
    names: BTreeMap<DnsName, Known>,
}

/// One name.
#[derive(Debug, Clone)]
pub struct Known {
    /// Until when each address is open.
    pub addresses: BTreeMap<IpAddr, Instant>,
    /// At which ports, by the policy in force.
    pub ports: Ports,
    /// Until when the answer holds.
    fresh: Instant,
    /// When it was last asked for.
    asked: Instant,
}

impl Known {
    fn at(now: Instant) -> Self {
        Self { addresses: BTreeMap::new(), ports: Ports::default(), fresh: now, asked: now }
    }
}

impl Book {
    /// Takes an answer: its addresses stay open for `ttl` and [`GRACE`]. Those that are to be opened, or for longer than
    /// the filter has been told, with how long from now.
    pub fn learn(
        &mut self,
        name: &DnsName,
        addresses: &[IpAddr],
        ports: &Ports,
        ttl: Duration,
        now: Instant,
    ) -> Vec<(IpAddr, Duration)> {
        let ttl = ttl.max(LEAST);
        let known = self.names.entry(name.clone()).or_insert_with(|| Known::at(now));
        known.ports.clone_from(ports);
        known.fresh = now + ttl;
        let until = known.fresh + GRACE;
        let mut told = Vec::new();
        for address in addresses {
            match known.addresses.get_mut(address) {
                // Nearly as long as it would be: the filter need not be told of every question.
                Some(open) if *open + GRACE / 4 >= until => {}
                Some(open) => {
                    *open = until;
                    told.push((*address, ttl + GRACE));
                }
                None => {
                    known.addresses.insert(*address, until);
                    told.push((*address, ttl + GRACE));
                }
            }
        }
        told
    }

    /// Takes what was found open, from a time before anybody remembers.
    pub fn inherit(&mut self, name: DnsName, address: IpAddr, left: Duration, now: Instant) {
        let known = self.names.entry(name).or_insert_with(|| Known::at(now));
        known.addresses.insert(address, now + left);
    }

    /// Somebody asked for it.
    pub fn asked(&mut self, name: &DnsName, now: Instant) {
        if let Some(known) = self.names.get_mut(name) {
            known.asked = now;
        }
    }

    /// Forgets what is not open any more.
    pub fn forget(&mut self, now: Instant) {
        self.names.retain(|_, known| {
            known.addresses.retain(|_, until| *until > now);
            !known.addresses.is_empty()
        });
    }

    /// Holds all names to another policy: `ports` are open of a name, if any, and what `keep` says of its addresses.
    pub fn judge(&mut self, ports: impl Fn(&DnsName) -> Ports, keep: impl Fn(&DnsName, IpAddr) -> bool) {
        self.names.retain(|name, known| {
            known.ports = ports(name);
            known.addresses.retain(|address, _| keep(name, *address));
            !known.ports.is_empty() && !known.addresses.is_empty()
        });
    }

    /// Names whose answers hold no more, and that are still wanted: those that `spelled` says, and those that were asked
    /// for lately.
    pub fn due(&self, spelled: impl Fn(&DnsName) -> bool, now: Instant) -> Vec<DnsName> {
        let due =
            |(name, known): &(&DnsName, &Known)| known.fresh <= now && (spelled(name) || known.asked + WANTED > now);
        self.names.iter().filter(due).map(|(name, _)| name.clone()).collect()
    }

    /// Addresses of `name` that are open.
    pub fn of(&self, name: &DnsName, now: Instant) -> Vec<IpAddr> {
        let open =
            |known: &Known| known.addresses.iter().filter(|(_, until)| **until > now).map(|(at, _)| *at).collect();
        self.names.get(name).map(open).unwrap_or_default()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = (&DnsName, &Known)> {
        self.names.iter()
    }
}

/// As many of `addresses` as one name may have, each family by itself.
pub fn bounded(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let family = |v4: bool| addresses.iter().copied().filter(move |address| address.is_ipv4() == v4).take(MOST);
    family(true).chain(family(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn addresses_are_open_for_their_answer_and_a_grace() {
        let (now, mut book) = (Instant::now(), Book::default());
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let told = book.learn(&name("a.example"), &[a], &Ports::default(), MINUTE, now);
        assert_eq!(told, [(a, MINUTE + GRACE)]);
        assert!(book.learn(&name("a.example"), &[a], &Ports::default(), MINUTE, now).is_empty(), "the filter knows");
        // Another answer: the older address has its time, and no more.
        let later = now + MINUTE;
        assert_eq!(book.learn(&name("a.example"), &[b], &Ports::default(), MINUTE, later), [(b, MINUTE + GRACE)]);
        assert_eq!(book.of(&name("a.example"), later), [a, b]);
        book.forget(now + MINUTE + GRACE);
        assert_eq!(book.of(&name("a.example"), later), [b]);
        book.forget(later + MINUTE + GRACE);
        assert_eq!(book.names().count(), 0);
    }

    #[test]
    fn names_that_are_wanted_are_due_when_their_answer_is_old() {
        let (now, mut book) = (Instant::now(), Book::default());
        for wanted in ["spelled.example", "a.pattern.example"] {
            book.learn(&name(wanted), &[address("192.0.2.1")], &Ports::default(), Duration::ZERO, now);
        }
        let spelled = |asked: &DnsName| *asked == name("spelled.example");
        assert!(book.due(spelled, now + LEAST / 2).is_empty());
        assert_eq!(book.due(spelled, now + LEAST).len(), 2);
        assert_eq!(book.due(spelled, now + WANTED), [name("spelled.example")]);
        book.asked(&name("a.pattern.example"), now + WANTED);
        assert_eq!(book.due(spelled, now + WANTED).len(), 2);
    }

    #[test]
    fn a_name_has_so_many_addresses_of_each_family() {
        let many: Vec<IpAddr> = (0..40_u8).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let all: Vec<IpAddr> = many.iter().copied().chain([address("2001:db8::1")]).collect();
        assert_eq!(bounded(&all).len(), MOST + 1);
    }
}
