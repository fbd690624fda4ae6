//! Links, addresses and routes of the namespace we are in.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// A netlink socket of the namespace in which it was made.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

/// The index of `lo` in every network namespace.
pub const LOOPBACK: u32 = 1;

/// The kernel's table of its own addresses.
const TABLE_LOCAL: u8 = 255;

/// How often all addresses are asked for, where they change meanwhile.
const ATTEMPTS: usize = 16;

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// Out of an interface, preferred to every other one to the same destination.
    Out(u32),
    /// To ourselves.
    Local,
}

impl Netlink {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        // Protocol 0 of this family is the one for routes.
        Ok(Self(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Makes a dummy device.
    pub fn add_dummy(&self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]));
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a pair of devices, both here.
    pub fn add_pair(&self, name: &str, other: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(other)))),
        ]));
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Brings a device up.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Keeps a device from giving itself an IPv6 address, and from asking around on behalf of it.
    pub fn keep_quiet(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![quiet])]));
        self.ask(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Gives a device one address; that it has it already is fine.
    pub fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
        message.header.index = index;
        // Nobody else can have it: it may be used at once.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds or replaces the route to `destination`; what is sent there comes from `source`.
    pub fn set_route(&self, destination: IpNet, route: Route, source: IpAddr) -> io::Result<()> {
        let (index, table, kind, scope) = match route {
            Route::Out(index) => (index, RouteHeader::RT_TABLE_MAIN, RouteType::Unicast, RouteScope::Link),
            Route::Local => (LOOPBACK, TABLE_LOCAL, RouteType::Local, RouteScope::Host),
        };
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.addr());
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.table = table;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = scope;
        message.header.kind = kind;
        if destination.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination.addr())));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
        if destination.addr().is_ipv6() {
            // Without one the kernel takes 1024, behind everything an engine may have added.
            message.attributes.push(RouteAttribute::Priority(1));
        }
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Addresses at which the namespace itself answers: those of its interfaces, all of a network that `lo` has, and the first
    /// one of an IPv6 network.
    pub fn addresses(&self) -> io::Result<Vec<IpNet>> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.list_addresses()? {
                return Ok(found);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "they change all the time"))
    }

    /// None where they changed meanwhile: one may be missing.
    fn list_addresses(&self) -> io::Result<Option<Vec<IpNet>>> {
        self.send(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let (mut found, mut whole) = (Vec::new(), true);
        let mut answer = vec![0; 64 * 1024];
        loop {
            // Each piece is there as soon as the one before was taken: this does not wait.
            let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
            let mut rest = answer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                    }
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(found)),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                        found.extend(own(&address));
                    }
                    _ => {}
                }
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }

    /// The index of a device.
    pub fn index(name: &str) -> io::Result<u32> {
        let any = socket_with(rustix::net::AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(rustix::net::netdevice::name_to_index(any, name)?)
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.0, &bytes, SendFlags::empty())?;
        Ok(())
    }

    /// Sends one request, and takes the kernel's word for it.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        // One request at a time, answered before `send` returns: this does not wait.
        let mut answer = [0; 8192];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = answer.get(..length).unwrap_or_default();
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) => match error.code {
                None => Ok(()),
                Some(_) => Err(error.to_io()),
            },
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What of an interface's address is the machine's own.
fn own(message: &AddressMessage) -> Vec<IpNet> {
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(found) => address = Some(*found),
            AddressAttribute::Local(found) => local = Some(*found),
            _ => {}
        }
    }
    // Of a link between two, `address` is the other end.
    let Some(found) = local.or(address) else { return Vec::new() };
    let network = IpNet::new(found, message.header.prefix_len).unwrap_or(found.into()).trunc();
    match found {
        // The kernel takes all of an IPv4 network that `lo` has for its own.
        IpAddr::V4(_) if message.header.index == LOOPBACK => vec![network],
        // That of whoever routes for the network (RFC 4291, 2.6.1), which may be us: the kernel does not list it here.
        IpAddr::V6(_) => vec![found.into(), network.addr().into()],
        IpAddr::V4(_) => vec![found.into()],
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

#[cfg(test)]
mod tests {
    use rustix::net::socketpair;

    use super::*;

    /// The end of a list, as the kernel says it.
    fn done(code: i32) -> Vec<u8> {
        [&20_u32.to_ne_bytes()[..], &3_u16.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat()
    }

    /// An address of interface 2, in a message with `flags`.
    fn address(text: &str, flags: u16) -> Vec<u8> {
        let network: IpNet = text.parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.family = family(network.addr());
        message.header.prefix_len = network.prefix_len();
        message.header.index = 2;
        message.attributes.push(AddressAttribute::Address(network.addr()));
        let payload = NetlinkPayload::from(RouteNetlinkMessage::NewAddress(message));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    /// What becomes of these answers, one piece after another; and how often was asked.
    fn heard(answers: &[Vec<u8>]) -> (io::Result<Vec<String>>, usize) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, kernel) = socketpair(rustix::net::AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        for answer in answers {
            send(&kernel, answer, SendFlags::empty()).unwrap();
        }
        let found = Netlink(near).addresses().map(|found| found.iter().map(ToString::to_string).collect());
        let asked =
            std::iter::from_fn(|| recv(&kernel, &mut [0; 256][..], RecvFlags::empty()).ok().filter(|got| got.0 > 0));
        (found, asked.count())
    }

    #[test]
    fn all_addresses_or_an_error() {
        let (found, asked) = heard(&[[address("192.0.2.1/24", 0), address("2001:db8::5/64", 0)].concat(), done(0)]);
        assert_eq!(
            (found.unwrap(), asked),
            (["192.0.2.1/32", "2001:db8::5/128", "2001:db8::/128"].map(String::from).into(), 1)
        );
        let (failed, _) = heard(&[address("192.0.2.1/24", 0), done(-12)]);
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(12));
    }

    #[test]
    fn what_has_changed_meanwhile_is_asked_for_again() {
        let interrupted = [address("192.0.2.1/24", NLM_F_DUMP_INTR), done(0)];
        let (found, asked) = heard(&[&interrupted[..], &[address("192.0.2.2/24", 0), done(0)]].concat());
        assert_eq!((found.unwrap(), asked), (vec!["192.0.2.2/32".to_owned()], 2));
        let (never, asked) = heard(&interrupted.iter().cycle().take(2 * ATTEMPTS).cloned().collect::<Vec<_>>());
        assert_eq!((never.unwrap_err().kind(), asked), (io::ErrorKind::Interrupted, ATTEMPTS));
    }
}
