//! Mode `direct`: the engine's own network, and a packet filter that opens what our resolver's answers named.
//!
//! ```text
//! question → allowed? → looked up → addresses judged → filter told → answer sent
//! ```
//!
//! Weaker than a proxy: what is open are addresses, which names share, and nothing looks at what is said. What there is to
//! decide is decided by the same evaluator and the same judge of addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::civil::Date;
use schema::policy::{DnsName, Host, HostPattern};
use tokio::sync::oneshot;

use self::book::{Book, LEAST};
use self::openings::{Ports, Run};
use crate::attach::Standing;
use crate::dial::{DialError, Own, may_reach};
use crate::generation::Generation;
use crate::networks::{Addresses, Networks};
use crate::nft::{self, Entry, Group};
use crate::shared::Shared;
use crate::verdict::{ConnectVerdict, Question, Transport};

mod book;
pub mod openings;
#[cfg(test)]
mod tests;

/// Longest that a client may keep an answer, whatever the name's owner says: policies change while clients run.
const LONGEST: Duration = Duration::from_mins(5);

/// Takes the rules of one sandbox.
pub trait Filter: Send + Sync {
    /// Gives it `rules`, in the order of these calls; what comes back is told once they are in force. Dropped, they never
    /// will be. Without rules it tells when those before are in force. After rules that it cannot put in force it takes no
    /// more, and leaves nothing open that it can shut.
    fn give(&self, rules: String) -> oneshot::Receiver<Result<(), String>>;
}

/// What is open to one sandbox, and by which names.
///
/// # Guarantees
/// - Nothing is open but what the generation in force allows: a name's addresses at its ports, each judged as if it were
///   dialled, and networks of rules. A change of the policy closes what it does not allow, for flows that are open too.
/// - Addresses of this machine are closed like any other that is not dialled; one that it gets is so by the next renewal, or
///   with the next rules.
/// - An answer is given only after the filter has opened what it names.
/// - What is open is forgotten a while after its answer has lost its worth, unless it was given anew.
pub struct Direct {
    filter: Box<dyn Filter>,
    interfaces: Own,
    state: Mutex<State>,
    /// Why the filter takes no more rules.
    broken: Mutex<Option<String>>,
}

struct State {
    generation: Arc<Generation>,
    today: Date,
    /// On its internal networks.
    addresses: Addresses,
    /// Addresses of this machine.
    own: Arc<[IpNet]>,
    /// Whether they are others than those by which the filter's table was made.
    own_changed: bool,
    book: Book,
    /// Ports by which hosts are grouped, in the table's order.
    groups: Vec<Ports>,
}

/// What a name means to its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Its addresses; they are open.
    pub addresses: Vec<IpAddr>,
    /// How long a client may keep them.
    pub ttl: Duration,
    /// Where the rule is written, if something was opened that was not open before.
    pub opened: Option<String>,
}

/// Why a name that is allowed means nothing now.
#[derive(Debug)]
pub enum Unopened {
    /// The policy does not allow it (any more).
    Denied,
    /// Another name would have to be forgotten first.
    TooMany,
    /// It has no address that may be dialled.
    Unresolved(DialError),
    /// The filter does not take rules now.
    Filter(String),
}

impl Direct {
    /// Puts `generation` in force by `filter`. `standing` is what an earlier daemon has left open: what of it is still
    /// allowed stays so. `interfaces` says what is this machine's.
    ///
    /// # Errors
    /// The filter does not take the rules, as [`Filter::give`] tells, or the kernel does not say which addresses this machine
    /// has: nothing is open, then.
    pub async fn begin(
        filter: Box<dyn Filter>,
        standing: Vec<Standing>,
        generation: Arc<Generation>,
        addresses: Addresses,
        interfaces: Own,
        today: Date,
    ) -> Result<Self, String> {
        let now = Instant::now();
        let own = match interfaces.here() {
            Ok(own) => own,
            Err(error) => {
                // Nobody can judge what is open; whether that is shut, the other error says less of.
                let networks = Networks::new(&addresses, &generation.policy);
                let _ = filter.give(nft::direct(&networks, &[])).await;
                return Err(format!("this machine's addresses cannot be told: {error}"));
            }
        };
        let mut book = Book::default();
        for Standing { address, name, left } in standing {
            if let Ok(name) = name.parse::<DnsName>() {
                book.inherit(name, address, left, now);
            }
        }
        let state = State { generation, today, addresses, own, own_changed: false, book, groups: Vec::new() };
        let direct = Self { filter, interfaces, state: Mutex::new(state), broken: Mutex::default() };
        let given = direct.filter.give(direct.state().table(now));
        direct.taken(given).await.map(|()| direct)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until rules are in force. That they are not is remembered: nothing more can be promised by this filter.
    async fn taken(&self, given: oneshot::Receiver<Result<(), String>>) -> Result<(), String> {
        let taken = given.await.unwrap_or_else(|_| Err("what gives its rules to the kernel has ended".to_owned()));
        if let Err(why) = &taken {
            // The first reason: those after it say only that there is nobody any more.
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.clone());
        }
        taken
    }

    /// Waits until the filter holds to all that it was told before.
    ///
    /// # Errors
    /// It does not, and will not.
    pub async fn enforced(&self) -> Result<(), String> {
        match self.broken() {
            Some(why) => Err(why),
            None => self.taken(self.filter.give(String::new())).await,
        }
    }

    /// Why the filter takes no more rules, if so: the sandbox has to be attached to again.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another generation in force, or another day: at once, whether or not anybody waits for what is returned.
    ///
    /// Which these are is asked of `newest` when it is its turn, so that of several at once the last one has the newest.
    pub fn enforce(
        self: &Arc<Self>,
        newest: impl FnOnce() -> (Arc<Generation>, Date),
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        self.change(|state| (state.generation, state.today) = newest())
    }

    /// Says who else is on its internal networks, and where it is itself. As [`Direct::enforce`].
    pub fn set_peers(
        self: &Arc<Self>,
        addresses: Addresses,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        self.change(move |state| state.addresses = addresses)
    }

    fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State),
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let given = {
            let mut state = self.state();
            state.learn(&self.interfaces);
            change(&mut state);
            // Under the lock, as everywhere: the filter hears of changes in the order in which they happened.
            self.filter.give(state.table(Instant::now()))
        };
        let direct = Arc::clone(self);
        async move { direct.taken(given).await }
    }

    /// What `name` means, opened.
    ///
    /// A name that cannot be looked up now means what it did, as long as that is open.
    pub async fn resolve(&self, shared: &Shared, name: &DnsName) -> Result<Meaning, Unopened> {
        self.state().book.asked(name, Instant::now());
        self.look_up(shared, name).await
    }

    async fn look_up(&self, shared: &Shared, name: &DnsName) -> Result<Meaning, Unopened> {
        // Not even asked where there is no place for an answer: questions go out.
        if !self.state().has_room(name, shared.limits.pattern_names) {
            return Err(Unopened::TooMany);
        }
        let generation = Arc::clone(&self.state().generation);
        let (addresses, ttl) = match shared.dialer.meaning(&generation.policy, name).await {
            Ok(found) => found,
            Err(error @ (DialError::Lookup { .. } | DialError::TimedOut { .. })) => {
                let last = self.state().book.of(name, Instant::now());
                if last.is_empty() {
                    return Err(Unopened::Unresolved(error));
                }
                (last, LEAST)
            }
            Err(error) => return Err(Unopened::Unresolved(error)),
        };
        let (given, meaning) = self.open(name, &addresses, ttl, shared.limits.pattern_names)?;
        self.taken(given).await.map_err(Unopened::Filter)?;
        Ok(meaning)
    }

    fn open(
        &self,
        name: &DnsName,
        addresses: &[IpAddr],
        ttl: Duration,
        pattern_names: usize,
    ) -> Result<(oneshot::Receiver<Result<(), String>>, Meaning), Unopened> {
        let now = Instant::now();
        let mut state = self.state();
        let host = Host::Name(name.clone());
        // By the generation in force, which may be another one by now than that by which it was looked up.
        let ports = openings::ports(&state.generation, &host, state.today);
        state.learn(&self.interfaces);
        let may = |address: &IpAddr| state.may_mean(&host, *address);
        let addresses = book::bounded(&addresses.iter().copied().filter(may).collect::<Vec<_>>());
        if ports.is_empty() || addresses.is_empty() {
            return Err(Unopened::Denied);
        }
        state.book.forget(now);
        if !state.has_room(name, pattern_names) {
            return Err(Unopened::TooMany);
        }
        let known = state.book.of(name, now);
        let told = state.book.learn(name, &addresses, &ports, ttl, now);
        let news = told.iter().any(|(address, _)| !known.contains(address));
        let opened = news.then(|| state.rule(&host, &ports)).flatten();
        let rules = match state.groups.iter().position(|group| *group == ports) {
            Some(group) if !state.own_changed => {
                nft::entries(group, &entries(name, &state.longest(name, &ports, told, now)))
            }
            _ => state.table(now),
        };
        let given = self.filter.give(rules);
        Ok((given, Meaning { addresses, ttl: ttl.clamp(Duration::from_secs(1), LONGEST), opened }))
    }

    /// Looks names up again that are wanted and whose answers have lost their worth, and closes what this machine has got for
    /// an address of its own.
    pub async fn renew(&self, shared: &Shared) {
        let given = {
            let mut state = self.state();
            state.learn(&self.interfaces);
            state.own_changed.then(|| self.filter.give(state.table(Instant::now())))
        };
        if let Some(given) = given {
            // That it failed is asked for: see `Direct::broken`.
            let _ = self.taken(given).await;
        }
        let due = {
            let state = self.state();
            state.book.due(|name| state.spells(name), Instant::now())
        };
        for name in due {
            // What cannot be opened now has its time, and is tried again.
            if let Err(why) = self.look_up(shared, &name).await {
                tracing::debug!(%name, ?why, "not renewed");
            }
        }
    }

    /// What of that which is open `generation` would close, as people write it, sorted.
    pub fn closed_by(&self, generation: &Generation, today: Date) -> Vec<String> {
        let state = self.state();
        let now = Instant::now();
        let mut closed = Vec::new();
        for (name, known) in state.book.names() {
            if !known.addresses.values().any(|until| *until > now) {
                continue;
            }
            let host = Host::Name(name.clone());
            let still = openings::ports(generation, &host, today).words();
            let open = openings::ports(&state.generation, &host, state.today).words();
            closed.extend(open.iter().filter(|ports| !still.contains(ports)).map(|ports| format!("{name}:{ports}")));
        }
        closed.sort();
        closed
    }

    /// How many names have something open.
    pub fn count(&self) -> usize {
        let now = Instant::now();
        let state = self.state();
        state.book.names().filter(|(_, known)| known.addresses.values().any(|until| *until > now)).count()
    }
}

impl State {
    /// Takes over which addresses are this machine's. Without an answer, what was known is still better than nothing.
    fn learn(&mut self, interfaces: &Own) {
        match interfaces.here() {
            Ok(own) => {
                self.own_changed |= own != self.own;
                self.own = own;
            }
            Err(error) => tracing::warn!(%error, "this machine's addresses cannot be told"),
        }
    }

    /// Whether `address` may be opened because `host`, a name, means it.
    fn may_mean(&self, host: &Host, address: IpAddr) -> bool {
        // No port: only rules about addresses ask for it.
        may_reach(&self.generation.policy, host, 0, Transport::Tcp, address, &self.own, self.today)
    }

    /// The whole table, after everything that is not allowed any more was forgotten.
    fn table(&mut self, now: Instant) -> String {
        let Self { generation, today, addresses, own, own_changed, book, groups } = self;
        *own_changed = false;
        book.forget(now);
        let host = |name: &DnsName| Host::Name(name.clone());
        book.judge(
            |name| openings::ports(generation, &host(name), *today),
            |name, address| may_reach(&generation.policy, &host(name), 0, Transport::Tcp, address, own, *today),
        );
        let mut all: BTreeMap<Ports, (Vec<Run>, Vec<Entry>)> = openings::networks(generation, own, *today)
            .into_iter()
            .map(|(ports, runs)| (ports, (runs, Vec::new())))
            .collect();
        for (name, known) in book.names() {
            let left = known.addresses.iter().map(|(address, until)| (*address, until.saturating_duration_since(now)));
            let (_, entries_of) = all.entry(known.ports.clone()).or_default();
            entries_of.extend(entries(name, &left.collect::<Vec<_>>()));
        }
        *groups = all.keys().cloned().collect();
        let rows: Vec<Group<'_>> =
            all.iter().map(|(ports, (networks, entries))| Group { ports, networks, entries }).collect();
        nft::direct(&Networks::new(addresses, &generation.policy), &rows)
    }

    /// The addresses of `name` with how long they have to be open: as long as for any name that shares their set.
    fn longest(
        &self,
        name: &DnsName,
        ports: &Ports,
        told: Vec<(IpAddr, Duration)>,
        now: Instant,
    ) -> Vec<(IpAddr, Duration)> {
        let of_others = |address: &IpAddr| {
            let others = self.book.names().filter(|(other, _)| *other != name);
            others
                .filter(|(_, known)| known.ports == *ports)
                .filter_map(|(_, known)| known.addresses.get(address))
                .map(|until| until.saturating_duration_since(now))
                .max()
                .unwrap_or_default()
        };
        told.into_iter().map(|(address, lifetime)| (address, lifetime.max(of_others(&address)))).collect()
    }

    /// Whether a rule spells `name` out.
    fn spells(&self, name: &DnsName) -> bool {
        self.generation.policy.allow.iter().any(|rule| matches!(&rule.host, HostPattern::Exact(host) if host == name))
    }

    /// Whether another name may be known: names that rules spell out always may.
    fn has_room(&self, name: &DnsName, pattern_names: usize) -> bool {
        let known = self.book.names().any(|(known, _)| known == name);
        known || self.spells(name) || self.book.names().count() < pattern_names
    }

    /// Where the rule is written that opens `ports` of `host`.
    fn rule(&self, host: &Host, ports: &Ports) -> Option<String> {
        let tcp = ports.tcp.first().map(|range| (range.first, Transport::Tcp));
        let (port, transport) = tcp.or_else(|| ports.udp.first().map(|range| (range.first, Transport::Udp)))?;
        match self.generation.compiled.connect(Question { host, port, transport }, self.today) {
            ConnectVerdict::Allow { rule, .. } => Some(rule.place.to_string()),
            ConnectVerdict::Deny(_) => None,
        }
    }
}

fn entries(name: &DnsName, addresses: &[(IpAddr, Duration)]) -> Vec<Entry> {
    let entry = |(address, lifetime): &(IpAddr, Duration)| Entry {
        address: *address,
        name: name.to_string(),
        lifetime: *lifetime,
    };
    addresses.iter().map(entry).collect()
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").field("broken", &self.broken()).finish_non_exhaustive()
    }
}
