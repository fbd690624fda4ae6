//! What names really mean: the resolver of this machine, or of another network namespace.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver};
use schema::policy::DnsName;
use tokio::net::{TcpStream, UdpSocket};

use super::namespace;

/// Where names are looked up.
#[derive(Debug, Clone)]
pub enum NameServers {
    /// As the files say; read again when they change.
    Files {
        /// `/etc/resolv.conf`. Its search list is not used: a name means itself.
        resolv_conf: PathBuf,
        /// `/etc/hosts`.
        hosts: PathBuf,
    },
    /// At these servers and nowhere else.
    Fixed(Vec<SocketAddr>),
}

/// How many answers are kept.
const CACHE: u64 = 1024;
/// How long files are taken to be unchanged.
const FRESH: Duration = Duration::from_secs(2);

/// How long what a file says is good: it may be changed at any time.
pub(super) const LISTED: Duration = Duration::from_mins(1);

/// Looks names up as one network namespace would.
pub(super) struct Names {
    servers: NameServers,
    namespace: Option<Arc<Path>>,
    built: Mutex<Option<Built>>,
}

struct Built {
    resolver: Resolver<Runtime>,
    hosts: Arc<Hosts>,
    from: Stamp,
    checked: Instant,
}

/// When the files were last changed.
type Stamp = [Option<SystemTime>; 2];

/// Why a name has no addresses.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// It has none.
    NotFound,
    /// Nobody could be asked, or nobody answered.
    Failed(String),
}

impl Names {
    pub(super) fn new(servers: NameServers, namespace: Option<Arc<Path>>) -> Self {
        Self { servers, namespace, built: Mutex::new(None) }
    }

    /// All addresses of `name`, in no particular order, and for how long they are good.
    pub(super) async fn lookup(&self, name: &DnsName) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
        let mut fqdn = Name::from_ascii(name.as_str()).map_err(|error| Unresolved::Failed(error.to_string()))?;
        // Never completed by a search list: `intranet` would mean one name here and another elsewhere.
        fqdn.set_fqdn(true);
        let (resolver, hosts) = self.resolver().map_err(|error| Unresolved::Failed(error.to_string()))?;
        // What the file says is all there is: DNS is not asked for the family it has no address of.
        let listed = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| hosts.lookup_static_host(&Query::query(fqdn.clone(), kind)))
            .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        if !listed.is_empty() {
            return Ok((listed, LISTED));
        }
        match resolver.lookup_ip(fqdn).await {
            Ok(found) => Ok((found.iter().collect(), found.valid_until().saturating_duration_since(Instant::now()))),
            Err(error) if error.is_no_records_found() => Err(Unresolved::NotFound),
            Err(error) => Err(Unresolved::Failed(error.to_string())),
        }
    }

    fn resolver(&self) -> Result<(Resolver<Runtime>, Arc<Hosts>), NetError> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(built) = &mut *built {
            let mut current = now.duration_since(built.checked) < FRESH;
            if !current && self.stamp() == built.from {
                built.checked = now;
                current = true;
            }
            if current {
                return Ok((built.resolver.clone(), Arc::clone(&built.hosts)));
            }
        }
        // Before reading: what changes meanwhile is read again next time.
        let from = self.stamp();
        let (resolver, hosts) = self.build()?;
        *built = Some(Built { resolver: resolver.clone(), hosts: Arc::clone(&hosts), from, checked: now });
        Ok((resolver, hosts))
    }

    /// As if [`FRESH`] had passed.
    #[cfg(test)]
    pub(super) fn expire(&self) {
        if let Some(built) = &mut *self.built.lock().unwrap_or_else(PoisonError::into_inner) {
            built.checked = built.checked.checked_sub(FRESH).unwrap_or(built.checked);
        }
    }

    fn stamp(&self) -> Stamp {
        let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        match &self.servers {
            NameServers::Files { resolv_conf, hosts } => [changed(&self.resolv_conf(resolv_conf)), changed(hosts)],
            NameServers::Fixed(_) => [None, None],
        }
    }

    /// A namespace made by `ip netns` may have a file of its own, by the same convention.
    fn resolv_conf(&self, usual: &Path) -> PathBuf {
        let own = self.namespace.as_deref().and_then(|path| {
            let name = path.strip_prefix("/run/netns").or_else(|_| path.strip_prefix("/var/run/netns")).ok()?;
            let own = Path::new("/etc/netns").join(name).join("resolv.conf");
            own.is_file().then_some(own)
        });
        own.unwrap_or_else(|| usual.to_owned())
    }

    fn build(&self) -> Result<(Resolver<Runtime>, Arc<Hosts>), NetError> {
        let runtime = Runtime { namespace: self.namespace.clone(), usual: TokioRuntimeProvider::new() };
        let (config, mut options, hosts) = match &self.servers {
            NameServers::Files { resolv_conf, hosts } => {
                let (config, options) = parse_resolv_conf(std::fs::read(self.resolv_conf(resolv_conf))?)?;
                (config, options, read_hosts(hosts)?)
            }
            NameServers::Fixed(servers) => {
                let servers = servers.iter().copied().map(server).collect();
                (ResolverConfig::from_name_servers(servers), ResolverOpts::default(), Hosts::default())
            }
        };
        options.cache_size = CACHE;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = Resolver::builder_with_config(config, runtime).with_options(options).build()?;
        Ok((resolver, Arc::new(hosts)))
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut config.connections {
        connection.port = address.port();
    }
    config
}

/// No file, no names.
fn read_hosts(path: &Path) -> io::Result<Hosts> {
    let mut hosts = Hosts::default();
    match std::fs::File::open(path) {
        Ok(file) => hosts.read_hosts_conf(file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(hosts)
}

/// Makes the resolver's sockets where they belong.
#[derive(Clone)]
pub(super) struct Runtime {
    namespace: Option<Arc<Path>>,
    usual: TokioRuntimeProvider,
}

type Making<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Runtime {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.usual.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Making<Self::Tcp> {
        let Some(path) = self.namespace.clone() else { return self.usual.connect_tcp(server, bind, timeout) };
        Box::pin(async move {
            let socket = namespace::within(&path, move || namespace::tcp_socket(server)).await?;
            let connecting = socket.connect(server);
            let wait = timeout.unwrap_or(Duration::from_secs(5));
            Ok(AsyncIoTokioAsStd(tokio::time::timeout(wait, connecting).await??))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Making<UdpSocket> {
        let Some(path) = self.namespace.clone() else { return self.usual.bind_udp(local, server) };
        Box::pin(
            async move { UdpSocket::from_std(namespace::within(&path, move || namespace::udp_socket(local)).await?) },
        )
    }
}
