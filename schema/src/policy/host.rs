//! Hosts: the one canonical form that match, resolve, dial, SNI and `Host` are compared in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A DNS name in canonical form: A-labels, lower case, no trailing dot, 1 to 253 bytes, labels of 1 to 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

/// What a connection is for: a name, or an address written as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A name.
    Name(DnsName),
    /// An address; IPv4-mapped IPv6 is IPv4.
    Address(IpAddr),
}

/// Which hosts a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `example.org`: exactly this name.
    Exact(DnsName),
    /// `*.example.org`: exactly one label before it.
    OneLabel(DnsName),
    /// `**.example.org`: one or more labels before it.
    AnyDepth(DnsName),
    /// `**`: every name, and no address literal.
    Any,
    /// `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`: address literals only, never what a name resolves to.
    Network(IpNet),
}

/// Why a text is no host, or no pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("it is longer than DNS allows: 253 characters, 63 between dots")]
    TooLong,
    /// A label that is empty, starts or ends with a hyphen, or has a character no host name has.
    #[error("{0:?} cannot be part of a host name")]
    Label(String),
    /// Looks like an address but is not the canonical form of one: `127.1`, `0x7f.1`, `010.0.0.1`.
    #[error("{0:?} is neither a name nor an address in its usual form")]
    Numeric(String),
    /// `*` somewhere else than as the whole first label.
    #[error("a star stands for whole labels and only at the start: `*.example.org`, `**.example.org`")]
    Star,
    /// A network whose address has bits set beyond its prefix.
    #[error("{written} has bits set beyond its prefix; the network is {meant}")]
    NetworkBits {
        /// As written.
        written: String,
        /// The network it lies in.
        meant: String,
    },
}

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with U-labels, for people; labels that are none stay as they are.
    pub fn to_unicode(&self) -> String {
        idna::domain_to_unicode(&self.0).0
    }

    /// Its labels, the leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for DnsName {
    type Err = HostError;

    /// Any spelling: upper case, U-labels, one trailing dot.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        // Strict about what stands between dots before mapping, so that nothing maps to a separator.
        if text.contains(['\u{3002}', '\u{ff0e}', '\u{ff61}']) {
            return Err(HostError::Label(text.to_owned()));
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text).map_err(|_| HostError::Label(text.to_owned()))?
        };
        let mut numeric = false;
        for label in ascii.split('.') {
            let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
            if label.is_empty() || !label.bytes().all(byte) || label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::Label(label.to_owned()));
            }
            if label.len() > 63 {
                return Err(HostError::TooLong);
            }
            let hex = label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            numeric = hex || label.bytes().all(|byte| byte.is_ascii_digit());
        }
        if ascii.len() > 253 {
            return Err(HostError::TooLong);
        }
        // Whoever reads `127.1` as an address must not find a rule for a name.
        if numeric {
            return Err(HostError::Numeric(ascii));
        }
        Ok(Self(ascii))
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// A name in any spelling, an IPv4 address in dotted quads, an IPv6 address with or without brackets.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(inside) = bare {
            let address = inside.parse().map_err(|_| HostError::Numeric(text.to_owned()))?;
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(address.to_canonical())),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "**" {
            return Ok(Self::Any);
        }
        if let Some(rest) = text.strip_prefix("**.") {
            return no_star(rest).map(Self::AnyDepth);
        }
        if let Some(rest) = text.strip_prefix("*.") {
            return no_star(rest).map(Self::OneLabel);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let network = network(address, prefix).ok_or_else(|| HostError::Numeric(text.to_owned()))?;
            if network.trunc() != network {
                let meant = network.trunc().to_string();
                return Err(HostError::NetworkBits { written: text.to_owned(), meant });
            }
            return Ok(Self::Network(unmapped(network)));
        }
        match text.parse() {
            Ok(Host::Address(address)) => Ok(Self::Network(address.into())),
            Ok(Host::Name(name)) => Ok(Self::Exact(name)),
            Err(_) if text.contains('*') => Err(HostError::Star),
            Err(error) => Err(error),
        }
    }
}

/// Address and prefix in their usual form only: `IpNet` would take `010.0.0.0/8` for ten.
fn network(address: &str, prefix: &str) -> Option<IpNet> {
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let usual = digits && (prefix == "0" || !prefix.starts_with('0'));
    IpNet::new(address.parse().ok()?, prefix.parse().ok().filter(|_| usual)?).ok()
}

/// IPv4 for networks of IPv4-mapped IPv6 addresses, as hosts are compared.
fn unmapped(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let inside = |network: Ipv6Net| {
        let address = network.addr().to_ipv4_mapped()?;
        Ipv4Net::new(address, network.prefix_len().checked_sub(MAPPED)?).ok()
    };
    match network {
        IpNet::V6(v6) => inside(v6).map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    }
}

fn no_star(text: &str) -> Result<DnsName, HostError> {
    if text.contains('*') { Err(HostError::Star) } else { text.parse() }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    /// Without brackets around IPv6 addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneLabel(name) => write!(f, "*.{name}"),
            Self::AnyDepth(name) => write!(f, "**.{name}"),
            Self::Any => f.write_str("**"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Text in JSON, for types that read back what they print.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = HostError;
            fn try_from(text: String) -> Result<Self, HostError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(DnsName, Host, HostPattern);
