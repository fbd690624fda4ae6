//! Why there is no connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schema::policy::{Host, HostPattern};

use super::judge::Range;
use super::proxy::ProxyFault;

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
    #[error("{host} leads to {address}, which stands for a name inside of a sandbox: a loop")]
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
    /// Which addresses are this machine's own is not known, so that none can be judged.
    #[error("no connection to {host}: the kernel does not say which addresses this machine has")]
    Interfaces {
        /// What was asked for.
        host: Host,
        /// What the system says.
        source: io::Error,
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
