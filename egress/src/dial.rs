//! Real connections to what a sandbox may reach.
//!
//! ```text
//! host → addresses (policy.hosts, hosts file, DNS) → judge each → dial exactly those, and say what they are
//!      → or the name, unresolved, to the upstream proxy
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::civil::Date;
use schema::policy::{DnsName, Host, HostPattern, Policy, Protocol, Rule, Upstream};
use tokio::net::{TcpStream, UdpSocket};

pub use self::error::DialError;
use self::judge::{Consent, Range};
use self::namespace::Outside;
pub use self::own::{Interfaces, Own, addresses as own_addresses};
pub use self::proxy::ProxyFault;
pub(crate) use self::race::AT_ONCE;
pub use self::resolve::NameServers;
use self::resolve::{LISTED, Names, Unresolved};
use crate::generation::Generation;
use crate::synthetic;
use crate::verdict::Transport;

mod error;
pub mod judge;
mod namespace;
mod own;
mod proxy;
mod race;
mod resolve;

/// How a [`Dialer`] works.
#[derive(Debug, Clone)]
pub struct DialSettings {
    /// Where names are looked up.
    pub name_servers: NameServers,
    /// Who says which addresses this machine has: it is not to be reached by them.
    pub interfaces: Interfaces,
    /// Most a connection may take to be made, looking up the name and all its addresses together.
    pub timeout: Duration,
}

impl Default for DialSettings {
    /// As this machine's files say; within 15 s.
    fn default() -> Self {
        Self {
            name_servers: NameServers::Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() },
            interfaces: Interfaces::Kernel,
            timeout: Duration::from_secs(15),
        }
    }
}

/// Makes connections for sandboxes.
///
/// # Guarantees
/// Only an address that [`judge::judge`] let pass is dialled, and it is the very address that was judged: the name is not
/// looked up again. Names are looked up only here, so only names that were allowed are. Which addresses are this machine's
/// is at most a second old; from another network namespace neither those of that one nor ours are dialled.
///
/// Behind an upstream proxy names are sent as they are, and what they mean is the proxy's affair: judged are only address
/// literals and names that the policy itself maps. The proxy's own address is configured and not judged.
pub struct Dialer {
    settings: DialSettings,
    here: NetworkNamespace,
    /// Other network namespaces, by path.
    elsewhere: Mutex<BTreeMap<PathBuf, Arc<NetworkNamespace>>>,
}

/// A network namespace that is dialled from.
struct NetworkNamespace {
    names: Names,
    own: Own,
}

impl NetworkNamespace {
    fn new(settings: &DialSettings, path: Option<&Path>) -> Self {
        let names = Names::new(settings.name_servers.clone(), path.map(Arc::from));
        Self { names, own: Own::new(settings.interfaces.clone()) }
    }
}

/// A connection, or a socket for datagrams.
#[derive(Debug)]
pub struct Dialled<T> {
    /// By which bytes go.
    pub stream: T,
    /// Where it leads.
    pub endpoint: Endpoint,
}

/// Where something leads, and how: what of a policy it depends on beside the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    upstream: Upstream,
    /// The address that was judged; none where an upstream proxy looks the name up.
    to: Option<Found>,
}

/// An address, and what it was when it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    address: IpAddr,
    range: Option<Range>,
}

impl Endpoint {
    /// Whether what was made for `host` could be made under `policy` on `today` as well.
    pub(crate) fn may_stay(&self, policy: &Policy, host: &Host, port: u16, transport: Transport, today: Date) -> bool {
        let allowed = |found: Found| {
            let literal = consenting(policy, host, port, transport, today);
            let consent = Consent { ranges: &policy.dial_allow, literal: &literal };
            judge::judge_classified(found.address, found.range, consent).is_ok()
        };
        self.upstream == policy.upstream && self.to.is_none_or(allowed)
    }
}

impl Dialer {
    /// A dialer; looks nothing up yet.
    pub fn new(settings: DialSettings) -> Self {
        let here = NetworkNamespace::new(&settings, None);
        Self { settings, here, elsewhere: Mutex::default() }
    }

    /// A connection to `host`, which `generation` allows on `today`.
    pub async fn dial(
        &self,
        generation: &Generation,
        host: &Host,
        port: u16,
        today: Date,
    ) -> Result<Dialled<TcpStream>, DialError> {
        let policy = &generation.policy;
        let dialled = self.in_time(host, port, async {
            match &policy.upstream {
                Upstream::Direct => self.direct(policy, host, port, None, today).await,
                Upstream::Netns(path) => self.direct(policy, host, port, Some(path), today).await,
                Upstream::Http(proxy) | Upstream::Socks5(proxy) => self.through(policy, proxy, host, port, today).await,
            }
        });
        let (stream, to) = dialled.await?;
        Ok(Dialled { stream, endpoint: Endpoint { upstream: policy.upstream.clone(), to } })
    }

    /// A socket connected to `host` by which datagrams go, which `generation` allows on `today`.
    ///
    /// # Errors
    /// Proxies carry none.
    pub async fn dial_udp(
        &self,
        generation: &Generation,
        host: &Host,
        port: u16,
        today: Date,
    ) -> Result<Dialled<UdpSocket>, DialError> {
        let policy = &generation.policy;
        let namespace = match &policy.upstream {
            Upstream::Direct => None,
            Upstream::Netns(path) => Some(path.as_path()),
            Upstream::Http(proxy) | Upstream::Socks5(proxy) => {
                let (proxy, host, source) = (proxy.clone(), host.clone(), ProxyFault::Datagrams);
                return Err(DialError::Proxy { proxy, host, port, source });
            }
        };
        self.in_time(host, port, async {
            let addresses = self.addresses(policy, host, port, Transport::Udp, namespace, today).await?;
            let mut failure = None;
            for found in addresses {
                let address = SocketAddr::new(found.address, port);
                match udp_to(address, namespace).await {
                    Ok(stream) => {
                        let endpoint = Endpoint { upstream: policy.upstream.clone(), to: Some(found) };
                        return Ok(Dialled { stream, endpoint });
                    }
                    // No route to this family, mostly.
                    Err(outside) => failure = failure.or(Some((address, outside))),
                }
            }
            Err(failed(host, namespace, failure))
        })
        .await
    }

    async fn in_time<T>(
        &self,
        host: &Host,
        port: u16,
        dialling: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        let after = self.settings.timeout;
        match tokio::time::timeout(after, dialling).await {
            Ok(Err(DialError::Unreachable { source, .. })) if source.kind() == io::ErrorKind::TimedOut => {
                Err(DialError::TimedOut { host: host.clone(), port, after })
            }
            Ok(done) => done,
            Err(_) => Err(DialError::TimedOut { host: host.clone(), port, after }),
        }
    }

    async fn direct(
        &self,
        policy: &Policy,
        host: &Host,
        port: u16,
        namespace: Option<&Path>,
        today: Date,
    ) -> Result<(TcpStream, Option<Found>), DialError> {
        let found = self.addresses(policy, host, port, Transport::Tcp, namespace, today).await?;
        let addresses: Vec<_> = found.iter().map(|found| SocketAddr::new(found.address, port)).collect();
        let connected = race::race(&addresses, async |address| Ok((tcp_to(address, namespace).await?, address))).await;
        let (stream, address) = connected.map_err(|failure| failed(host, namespace, failure))?;
        Ok((stream, found.into_iter().find(|found| found.address == address.ip())))
    }

    /// By way of the upstream proxy, which resolves. What the policy itself says names mean is told to it as addresses.
    async fn through(
        &self,
        policy: &Policy,
        proxy: &str,
        host: &Host,
        port: u16,
        today: Date,
    ) -> Result<(TcpStream, Option<Found>), DialError> {
        let fault = |source| DialError::Proxy { proxy: proxy.to_owned(), host: host.clone(), port, source };
        let to = match host {
            Host::Name(name) if !policy.hosts.contains_key(name) => None,
            Host::Name(_) | Host::Address(_) => {
                self.addresses(policy, host, port, Transport::Tcp, None, today).await?.into_iter().next()
            }
        };
        let target = to.map_or_else(|| host.clone(), |found| Host::Address(found.address));
        let (at, at_port) = authority(proxy).ok_or_else(|| fault(ProxyFault::Address))?;
        let addresses: Vec<_> = self.known(policy, &at, None).await?.0.iter().map(|ip| (*ip, at_port).into()).collect();
        let connected = race::race(&addresses, |address| tcp_to(address, None)).await;
        let mut stream = connected.map_err(|failure| failed(&at, None, failure))?;
        let asked = match policy.upstream {
            Upstream::Socks5(_) => proxy::socks5(&mut stream, &target, port).await,
            _ => proxy::connect(&mut stream, &target, port).await,
        };
        asked.map(|()| (stream, to)).map_err(fault)
    }

    /// Addresses of `host` that may be dialled, in the order in which they are tried; never none, nor more than are tried.
    async fn addresses(
        &self,
        policy: &Policy,
        host: &Host,
        port: u16,
        transport: Transport,
        namespace: Option<&Path>,
        today: Date,
    ) -> Result<Vec<Found>, DialError> {
        let (known, _) = self.known(policy, host, namespace).await?;
        let own = self.own_in(host, namespace).await?;
        let literal = consenting(policy, host, port, transport, today);
        let mut judged = judged(host, &known, &own, Consent { ranges: &policy.dial_allow, literal: &literal })?;
        judged.truncate(race::MOST);
        Ok(judged)
    }

    /// What must not be reached as the machine's own from `namespace`.
    async fn own_in(&self, host: &Host, namespace: Option<&Path>) -> Result<Arc<[IpNet]>, DialError> {
        let unknown = |source| DialError::Interfaces { host: host.clone(), source };
        let here = self.here.own.here().map_err(unknown)?;
        let Some(path) = namespace else { return Ok(here) };
        let there = self.elsewhere(path).own.within(path).await.map_err(|outside| match outside {
            Outside::Enter(source) => DialError::Namespace { path: path.to_owned(), source },
            Outside::Work(source) => unknown(source),
        })?;
        Ok(here.iter().chain(there.iter()).copied().collect())
    }

    /// What `name` means, for whoever reaches it without us: addresses that may be dialled, and for how long they are good.
    pub(crate) async fn meaning(&self, policy: &Policy, name: &DnsName) -> Result<(Vec<IpAddr>, Duration), DialError> {
        let host = Host::Name(name.clone());
        self.in_time(&host, 0, async {
            let (known, ttl) = self.known(policy, &host, None).await?;
            let own = self.own_in(&host, None).await?;
            let judged = judged(&host, &known, &own, Consent { ranges: &policy.dial_allow, literal: &[] })?;
            Ok((judged.iter().map(|found| found.address).collect(), ttl))
        })
        .await
    }

    /// What `host` means, not judged, and for how long it does.
    async fn known(
        &self,
        policy: &Policy,
        host: &Host,
        namespace: Option<&Path>,
    ) -> Result<(Vec<IpAddr>, Duration), DialError> {
        let name = match host {
            Host::Address(address) => return Ok((vec![address.to_canonical()], LISTED)),
            Host::Name(name) => name,
        };
        if let Some(mapped) = policy.hosts.get(name) {
            return Ok((mapped.iter().map(IpAddr::to_canonical).collect(), LISTED));
        }
        let found = match namespace {
            None => self.here.names.lookup(name).await,
            Some(path) => self.elsewhere(path).names.lookup(name).await,
        };
        match found {
            Ok((found, ttl)) => Ok((found.iter().map(IpAddr::to_canonical).collect(), ttl)),
            Err(Unresolved::NotFound) => Err(DialError::NotFound { host: host.clone() }),
            Err(Unresolved::Failed(why)) => Err(DialError::Lookup { host: host.clone(), why }),
        }
    }

    fn elsewhere(&self, path: &Path) -> Arc<NetworkNamespace> {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let known = elsewhere.entry(path.to_owned());
        Arc::clone(known.or_insert_with(|| Arc::new(NetworkNamespace::new(&self.settings, Some(path)))))
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Those of `known` that may be dialled where `own` are the machine's, in the order in which they are tried; never none.
fn judged(host: &Host, known: &[IpAddr], own: &[IpNet], consent: Consent<'_>) -> Result<Vec<Found>, DialError> {
    let mut first = None;
    let mut judged = Vec::with_capacity(known.len());
    for address in race::order(known) {
        let range = judge::classify(address, own);
        match judge::judge_classified(address, range, consent) {
            Ok(()) => judged.push(Found { address, range }),
            Err(range) => first = first.or(Some((address, range))),
        }
    }
    match first {
        Some((address, range)) if judged.is_empty() => {
            let host = host.clone();
            // It stands for a name inside of a sandbox. Out here it means nothing, unless the policy opens it: this
            // program may itself run inside of a sandbox.
            if synthetic::contains(address) {
                return Err(DialError::Loop { host, address });
            }
            Err(DialError::Refused { host, address, range })
        }
        None if judged.is_empty() => Err(DialError::NotFound { host: host.clone() }),
        _ => Ok(judged),
    }
}

/// Whether `address`, which is what `host` is or means, may be reached under `policy` on `today` where `own` are the
/// machine's.
pub(crate) fn may_reach(
    policy: &Policy,
    host: &Host,
    port: u16,
    transport: Transport,
    address: IpAddr,
    own: &[IpNet],
    today: Date,
) -> bool {
    let literal = consenting(policy, host, port, transport, today);
    judge::judge(address, own, Consent { ranges: &policy.dial_allow, literal: &literal }).is_ok()
}

/// Networks of the rules that allow the address `host` at `port` on `today`; none where it is a name.
pub(crate) fn consenting(policy: &Policy, host: &Host, port: u16, transport: Transport, today: Date) -> Vec<IpNet> {
    let Host::Address(address) = host else { return Vec::new() };
    let carries = |rule: &Rule| (rule.protocol == Protocol::Udp) == (transport == Transport::Udp);
    let holds = |rule: &&Rule| rule.has_port(port) && carries(rule) && rule.holds(today);
    let network = |rule: &Rule| match rule.host {
        HostPattern::Network(network) if network.contains(&address.to_canonical()) => Some(network),
        _ => None,
    };
    policy.allow.iter().filter(holds).filter_map(network).collect()
}

/// `host:port`, IPv6 addresses in brackets.
fn authority(text: &str) -> Option<(Host, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.parse().ok()?, port.parse().ok().filter(|port| *port != 0)?))
}

async fn tcp_to(address: SocketAddr, namespace: Option<&Path>) -> Result<TcpStream, Outside> {
    let socket = match namespace {
        None => namespace::tcp_socket(address).map_err(Outside::Work)?,
        Some(path) => namespace::within(path, move || namespace::tcp_socket(address)).await?,
    };
    let stream = socket.connect(address).await.map_err(Outside::Work)?;
    stream.set_nodelay(true).map_err(Outside::Work)?;
    Ok(stream)
}

async fn udp_to(address: SocketAddr, namespace: Option<&Path>) -> Result<UdpSocket, Outside> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = match namespace {
        None => namespace::udp_socket(local).map_err(Outside::Work)?,
        Some(path) => namespace::within(path, move || namespace::udp_socket(local)).await?,
    };
    let socket = UdpSocket::from_std(socket).map_err(Outside::Work)?;
    socket.connect(address).await.map_err(Outside::Work)?;
    Ok(socket)
}

fn failed(host: &Host, namespace: Option<&Path>, failure: Option<(SocketAddr, Outside)>) -> DialError {
    let host = host.clone();
    match (failure, namespace) {
        (None, _) => DialError::NotFound { host },
        (Some((_, Outside::Enter(source))), Some(path)) => DialError::Namespace { path: path.to_owned(), source },
        (Some((address, outside)), _) => DialError::Unreachable { host, address, source: outside.into() },
    }
}

#[cfg(test)]
mod tests;
