//! Which addresses are never dialled, whatever name led to them. Pure.
//!
//! Judged is the address that is dialled, after names were resolved: a name that is allowed can be made to mean any address
//! by whoever owns it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::defence::Defence;

/// What makes an address one that is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Serves credentials of the machine to whoever asks.
    Metadata,
    /// The machine itself.
    Loopback,
    /// An interface's: the machine itself, at which others reach it too.
    Machine,
    /// `0.0.0.0` and `::`: the machine itself, to most systems.
    Unspecified,
    /// Private networks, unique local addresses.
    Private,
    /// Shared by the customers of a provider.
    CarrierNat,
    /// Neighbours on the same link.
    LinkLocal,
    /// Groups.
    Multicast,
    /// Everybody on the link.
    Broadcast,
    /// For benchmarks; where this program takes the addresses it answers names with.
    Benchmark,
    /// Set aside, or without a meaning yet.
    Reserved,
}

/// A range that an address was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// What it is.
    pub kind: Kind,
    /// Its extent.
    pub network: IpNet,
    /// The IPv4 address that the IPv6 address stands for, where that is what lies in the range.
    pub embedded: Option<Ipv4Addr>,
}

const V4: [(Ipv4Net, Kind); 18] = [
    // The narrower ones first: the first that contains an address names it.
    (v4([169, 254, 169, 254], 32), Kind::Metadata),
    (v4([169, 254, 170, 2], 32), Kind::Metadata),
    (v4([169, 254, 170, 23], 32), Kind::Metadata),
    (v4([100, 100, 100, 200], 32), Kind::Metadata),
    (v4([168, 63, 129, 16], 32), Kind::Metadata),
    (v4([192, 0, 0, 192], 32), Kind::Metadata),
    (v4([0, 0, 0, 0], 8), Kind::Unspecified),
    (v4([10, 0, 0, 0], 8), Kind::Private),
    (v4([100, 64, 0, 0], 10), Kind::CarrierNat),
    (v4([127, 0, 0, 0], 8), Kind::Loopback),
    (v4([169, 254, 0, 0], 16), Kind::LinkLocal),
    (v4([172, 16, 0, 0], 12), Kind::Private),
    (v4([192, 0, 0, 0], 24), Kind::Reserved),
    (v4([192, 168, 0, 0], 16), Kind::Private),
    (v4([198, 18, 0, 0], 15), Kind::Benchmark),
    (v4([224, 0, 0, 0], 4), Kind::Multicast),
    (v4([255, 255, 255, 255], 32), Kind::Broadcast),
    (v4([240, 0, 0, 0], 4), Kind::Reserved),
];

const V6: [(Ipv6Net, Kind); 16] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Kind::Metadata),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), Kind::Metadata),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Kind::Metadata),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Kind::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Kind::Loopback),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Kind::Private),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Kind::LinkLocal),
    // Site-local: given up in 2004, still routed within sites.
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Kind::Private),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Kind::Multicast),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Kind::Benchmark),
    // Identifiers that are no locations.
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), Kind::Reserved),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), Kind::Reserved),
    // Translation to IPv4 within one site: where in the address the IPv4 address stands is the site's choice.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Kind::Reserved),
    // All that is not global unicast, `2000::/3`.
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 3), Kind::Reserved),
    (v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 2), Kind::Reserved),
    (v6([0x8000, 0, 0, 0, 0, 0, 0, 0], 1), Kind::Reserved),
];

/// The well-known prefix of translation to IPv4.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix)
}

/// The range that makes `address` one that is not dialled by default; `None` for the rest of the Internet.
///
/// `own` are the addresses of this machine's interfaces, whatever else they are. Addresses that stand for an IPv4 address
/// (mapped, NAT64, 6to4, Teredo, ISATAP) are what that address is.
pub fn classify(address: IpAddr, own: &[IpNet]) -> Option<Range> {
    match address.to_canonical() {
        IpAddr::V4(address) => classify_v4(address, own),
        IpAddr::V6(address) => classify_v6(address, own),
    }
}

fn classify_v4(address: Ipv4Addr, own: &[IpNet]) -> Option<Range> {
    let range = V4.iter().find(|(network, _)| network.contains(&address)).map(|&(network, kind)| Range {
        kind,
        network: network.into(),
        embedded: None,
    });
    of_machine(address.into(), range, own)
}

fn classify_v6(address: Ipv6Addr, own: &[IpNet]) -> Option<Range> {
    let stands_for = embedded(address);
    if let Some(range) = stands_for
        .into_iter()
        .flatten()
        .find_map(|inner| classify_v4(inner, own).map(|range| Range { embedded: Some(inner), ..range }))
    {
        return Some(range);
    }
    let range = V6.iter().find(|(network, _)| network.contains(&address)).map(|&(network, kind)| Range {
        kind,
        network: network.into(),
        embedded: None,
    });
    of_machine(address.into(), range.filter(|_| !NAT64.contains(&address)), own)
}

/// What an address in `range` is where it may be one of this machine's. Loopback is always, and says so itself; of metadata
/// it is the more dangerous part.
fn of_machine(address: IpAddr, range: Option<Range>, own: &[IpNet]) -> Option<Range> {
    if range.is_some_and(|range| matches!(range.kind, Kind::Loopback | Kind::Metadata)) {
        return range;
    }
    let own = own.iter().find(|network| network.contains(&address));
    own.map(|network| Range { kind: Kind::Machine, network: *network, embedded: None }).or(range)
}

/// IPv4 addresses that packets to `address` end at, or are carried through.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [_, second, third, .., seventh, eighth] = address.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let last = from(seventh, eighth);
    if NAT64.contains(&address) {
        return [Some(last), None];
    }
    if SIX_TO_FOUR.contains(&address) {
        return [Some(from(second, third)), None];
    }
    if TEREDO.contains(&address) {
        let [_, _, server_high, server_low, ..] = address.segments();
        return [Some(from(!seventh, !eighth)), Some(from(server_high, server_low))];
    }
    // ISATAP: any prefix, interface identifier `[02]00:5efe:` and the IPv4 address.
    let [_, _, _, _, fifth, sixth, ..] = address.segments();
    if sixth == 0x5efe && fifth & !0x0200 == 0 {
        return [Some(last), None];
    }
    [None, None]
}

/// All ranges that are refused by default, and those whose addresses stand for IPv4 ones.
pub(crate) fn ranges() -> impl Iterator<Item = IpNet> {
    let v4 = V4.iter().map(|(network, _)| IpNet::V4(*network));
    let v6 = V6.iter().map(|(network, _)| *network).chain([NAT64, SIX_TO_FOUR, TEREDO]);
    v4.chain(v6.map(IpNet::V6))
}

/// Whether `address` lies where addresses stand for IPv4 ones by their prefix.
pub(crate) fn stands_for_v4(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => [NAT64, SIX_TO_FOUR, TEREDO].iter().any(|network| network.contains(&address)),
    }
}

/// Whether packets to `address` end at an IPv4 one, or are carried through one: there, or by its second half (ISATAP).
pub(crate) fn ends_at_v4(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => embedded(address) != [None, None],
    }
}

/// What opens ranges that are refused by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent<'a> {
    /// Ranges of the policy that may be dialled.
    pub ranges: &'a [IpNet],
    /// Networks of the rules that allow the address as a literal; empty where a name was asked for.
    pub literal: &'a [IpNet],
}

/// Whether `address` may be dialled from where `own` are the machine's addresses.
///
/// # Guarantees
/// An address in a range that is refused by default passes only if the policy names it: by a range of `dial.allowRanges`
/// that covers it, or, for address literals, by a rule about a network that lies within the refused range. A rule for
/// `10.0.0.0/8` is consent to private addresses; a rule for `0.0.0.0/0` says nothing about loopback. Metadata addresses
/// and the machine's own are opened only by a range that is that address: who opens a network means others in it.
pub fn judge(address: IpAddr, own: &[IpNet], consent: Consent<'_>) -> Result<(), Range> {
    judge_classified(address, classify(address, own), consent)
}

/// The same, where it is known what `address` is.
pub fn judge_classified(address: IpAddr, range: Option<Range>, consent: Consent<'_>) -> Result<(), Range> {
    let Some(range) = range else { return Ok(()) };
    let within = |network: &IpNet| range.network.contains(network);
    let address = address.to_canonical();
    let covers = |network: &IpNet| {
        network.contains(&address) || range.embedded.is_some_and(|inner| network.contains(&IpAddr::V4(inner)))
    };
    let by_range =
        consent.ranges.iter().any(|network| covers(network) && (!range.kind.wants_to_be_named() || within(network)));
    let by_literal = || consent.literal.iter().any(|network| covers(network) && within(network));
    if by_range || by_literal() || Defence::Addresses.is_off() { Ok(()) } else { Err(range) }
}

impl Kind {
    /// Whether a wider range that happens to cover such an address says nothing about it.
    fn wants_to_be_named(self) -> bool {
        matches!(self, Self::Metadata | Self::Machine)
    }
}

impl Range {
    /// What `dial.allowRanges` would have to hold for `address` to be dialled, as narrow as it can be written.
    pub fn would_allow(&self, address: IpAddr) -> IpNet {
        self.embedded.map_or_else(|| address.to_canonical().into(), |inner| IpAddr::V4(inner).into())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "the metadata address of a cloud",
            Self::Loopback => "loopback",
            Self::Machine => "an address of this machine",
            Self::Unspecified => "unspecified",
            Self::Private => "private",
            Self::CarrierNat => "shared by a provider's customers",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Benchmark => "set aside for benchmarks",
            Self::Reserved => "reserved",
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, network, embedded } = self;
        match embedded {
            Some(inner) => write!(f, "{kind} ({inner} in {network})"),
            None => write!(f, "{kind} ({network})"),
        }
    }
}

#[cfg(test)]
mod tests;
