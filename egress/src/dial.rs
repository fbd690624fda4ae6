//! Real connections to what a sandbox may reach.
//!
//! ```text
//! host → addresses (policy.hosts, hosts file, DNS) → judge each → dial exactly those
//!      → or the name, unresolved, to the upstream proxy
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use schema::policy::{DnsName, Host, HostPattern, Policy, Rule, Upstream};
use tokio::net::{TcpStream, UdpSocket};

use self::judge::{Consent, Range};
use self::namespace::Outside;
pub use self::proxy::ProxyFault;
pub use self::resolve::NameServers;
use self::resolve::{LISTED, Names, Unresolved};
use crate::generation::Generation;
use crate::synthetic;

pub mod judge;
mod namespace;
mod proxy;
mod race;
mod resolve;

/// How a [`Dialer`] works.
#[derive(Debug, Clone)]
pub struct DialSettings {
    /// Where names are looked up.
    pub name_servers: NameServers,
    /// Addresses this program listens at: dialling one would lead back here.
    pub own: Vec<SocketAddr>,
    /// Most a connection may take to be made, looking up the name and all its addresses together.
    pub timeout: Duration,
}

impl Default for DialSettings {
    /// As this machine's files say; within 15 s.
    fn default() -> Self {
        Self {
            name_servers: NameServers::Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() },
            own: Vec::new(),
            timeout: Duration::from_secs(15),
        }
    }
}

/// Makes connections for sandboxes.
///
/// # Guarantees
/// Only an address that [`judge::judge`] let pass is dialled, and it is the very address that was judged: the name is not
/// looked up again. Names are looked up only here, so only names that were allowed are.
///
/// Behind an upstream proxy names are sent as they are, and what they mean is the proxy's affair: judged are only address
/// literals and names that the policy itself maps. The proxy's own address is configured and not judged.
pub struct Dialer {
    settings: DialSettings,
    names: Names,
    /// Resolvers of other network namespaces, by path.
    elsewhere: Mutex<BTreeMap<PathBuf, Arc<Names>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{host} has no address: DNS knows no such name")]
    NotFound {
        /// The name.
        host: Host,
    },
    /// The name could not be looked up.
    #[error("{host} could not be looked up: {why}")]
    Lookup {
        /// The name.
        host: Host,
        /// What the resolver says.
        why: String,
    },
    /// All its addresses are of kinds that are not dialled.
    #[error("{host} leads to {address}, which is {range}; {} would allow it", remedy(host, *address, range))]
    Refused {
        /// What was asked for.
        host: Host,
        /// The first of the addresses.
        address: IpAddr,
        /// What it lies in.
        range: Range,
    },
    /// It leads back to this program.
    #[error("{host} leads to {address}, which is served by this proxy itself: a loop")]
    Loop {
        /// What was asked for.
        host: Host,
        /// The address.
        address: IpAddr,
    },
    /// Nothing answered in time.
    #[error("{host} port {port} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// What was asked for.
        host: Host,
        /// Port.
        port: u16,
        /// How long was waited.
        after: Duration,
    },
    /// It cannot be connected to.
    #[error("no connection to {host} ({address})")]
    Unreachable {
        /// What was asked for.
        host: Host,
        /// The first address that was tried.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The upstream proxy gave no connection.
    #[error("the upstream proxy {proxy} gave no connection to {host} port {port}")]
    Proxy {
        /// The proxy, as the policy names it.
        proxy: String,
        /// What was asked for.
        host: Host,
        /// Port.
        port: u16,
        /// What happened.
        source: ProxyFault,
    },
    /// The network namespace to dial from cannot be entered.
    #[error("the network namespace {} cannot be entered", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn remedy(host: &Host, address: IpAddr, range: &Range) -> String {
    let network = HostPattern::Network(range.would_allow(address));
    match host {
        Host::Address(_) => {
            format!("a rule for it or for a network within that range, or `dial: {{ allowRanges: [{network}] }}`,")
        }
        Host::Name(_) => format!("`dial: {{ allowRanges: [{network}] }}`"),
    }
}

impl Dialer {
    /// A dialer; looks nothing up yet.
    pub fn new(settings: DialSettings) -> Self {
        let names = Names::new(settings.name_servers.clone(), None);
        Self { settings, names, elsewhere: Mutex::default() }
    }

    /// A connection to `host`, which `generation` allows.
    pub async fn dial(&self, generation: &Generation, host: &Host, port: u16) -> Result<TcpStream, DialError> {
        let policy = &generation.policy;
        self.in_time(host, port, async {
            match &policy.upstream {
                Upstream::Direct => self.direct(policy, host, port, None).await,
                Upstream::Netns(path) => self.direct(policy, host, port, Some(path)).await,
                Upstream::Http(proxy) | Upstream::Socks5(proxy) => self.through(policy, proxy, host, port).await,
            }
        })
        .await
    }

    /// A socket connected to `host` by which datagrams go, which `generation` allows.
    ///
    /// # Errors
    /// Proxies carry none.
    pub async fn dial_udp(&self, generation: &Generation, host: &Host, port: u16) -> Result<UdpSocket, DialError> {
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
            let addresses = self.addresses(policy, host, port, namespace).await?;
            let mut failure = None;
            for address in addresses {
                match udp_to(address, namespace).await {
                    Ok(socket) => return Ok(socket),
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
    ) -> Result<TcpStream, DialError> {
        let addresses = self.addresses(policy, host, port, namespace).await?;
        let connected = race::race(&addresses, |address| tcp_to(address, namespace)).await;
        connected.map_err(|failure| failed(host, namespace, failure))
    }

    /// By way of the upstream proxy, which resolves. What the policy itself says names mean is told to it as addresses.
    async fn through(&self, policy: &Policy, proxy: &str, host: &Host, port: u16) -> Result<TcpStream, DialError> {
        let fault = |source| DialError::Proxy { proxy: proxy.to_owned(), host: host.clone(), port, source };
        let target = match host {
            Host::Name(name) if !policy.hosts.contains_key(name) => host.clone(),
            Host::Name(_) | Host::Address(_) => {
                let judged = self.addresses(policy, host, port, None).await?;
                judged.first().map_or_else(|| host.clone(), |address| Host::Address(address.ip()))
            }
        };
        let (at, at_port) = authority(proxy).ok_or_else(|| fault(ProxyFault::Address))?;
        let addresses: Vec<_> = self.known(policy, &at, None).await?.0.iter().map(|ip| (*ip, at_port).into()).collect();
        self.not_own(&at, &addresses)?;
        let connected = race::race(&addresses, |address| tcp_to(address, None)).await;
        let mut stream = connected.map_err(|failure| failed(&at, None, failure))?;
        let asked = match policy.upstream {
            Upstream::Socks5(_) => proxy::socks5(&mut stream, &target, port).await,
            _ => proxy::connect(&mut stream, &target, port).await,
        };
        asked.map(|()| stream).map_err(fault)
    }

    /// Addresses of `host` that may be dialled, in the order in which they are tried; never none.
    async fn addresses(
        &self,
        policy: &Policy,
        host: &Host,
        port: u16,
        namespace: Option<&Path>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let (known, _) = self.known(policy, host, namespace).await?;
        self.judged(policy, host, port, &known)
    }

    /// Those of `known` that may be dialled, in the order in which they are tried; never none.
    fn judged(&self, policy: &Policy, host: &Host, port: u16, known: &[IpAddr]) -> Result<Vec<SocketAddr>, DialError> {
        let literal = match host {
            Host::Address(address) => rules_about(policy, *address, port),
            Host::Name(_) => Vec::new(),
        };
        let consent = Consent { ranges: &policy.dial_allow, literal: &literal };
        let mut first = None;
        let mut judged = Vec::with_capacity(known.len());
        for address in race::order(known) {
            match judge::judge(address, consent) {
                Ok(()) => judged.push(SocketAddr::new(address, port)),
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
            _ => self.not_own(host, &judged).map(|()| judged),
        }
    }

    /// What `name` means, for whoever reaches it without us: addresses that may be dialled, and for how long they are good.
    pub(crate) async fn meaning(&self, policy: &Policy, name: &DnsName) -> Result<(Vec<IpAddr>, Duration), DialError> {
        let host = Host::Name(name.clone());
        self.in_time(&host, 0, async {
            let (known, ttl) = self.known(policy, &host, None).await?;
            let judged = self.judged(policy, &host, 0, &known)?;
            Ok((judged.iter().map(SocketAddr::ip).collect(), ttl))
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
            None => self.names.lookup(name).await,
            Some(path) => self.names_in(path).lookup(name).await,
        };
        match found {
            Ok((found, ttl)) => Ok((found.iter().map(IpAddr::to_canonical).collect(), ttl)),
            Err(Unresolved::NotFound) => Err(DialError::NotFound { host: host.clone() }),
            Err(Unresolved::Failed(why)) => Err(DialError::Lookup { host: host.clone(), why }),
        }
    }

    fn names_in(&self, path: &Path) -> Arc<Names> {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let names = elsewhere
            .entry(path.to_owned())
            .or_insert_with(|| Arc::new(Names::new(self.settings.name_servers.clone(), Some(Arc::from(path)))));
        Arc::clone(names)
    }

    fn not_own(&self, host: &Host, addresses: &[SocketAddr]) -> Result<(), DialError> {
        let own = addresses.iter().find(|address| self.settings.own.contains(address));
        own.map_or(Ok(()), |address| Err(DialError::Loop { host: host.clone(), address: address.ip() }))
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whether a connection for `host` that was made to `address` could be made under `policy` as well.
pub(crate) fn may_stay(policy: &Policy, host: &Host, port: u16, address: IpAddr) -> bool {
    let literal = match host {
        Host::Address(literal) => rules_about(policy, *literal, port),
        Host::Name(_) => Vec::new(),
    };
    judge::judge(address, Consent { ranges: &policy.dial_allow, literal: &literal }).is_ok()
}

/// Networks of the rules that allow `address` at `port` now. Asked only about address literals.
fn rules_about(policy: &Policy, address: IpAddr, port: u16) -> Vec<IpNet> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let holds = |rule: &&Rule| rule.has_port(port) && rule.holds(today);
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
