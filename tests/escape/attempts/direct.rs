//! Mode `direct`.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, ByEngine, DIRECT, attempt};
use crate::attempts::{DATAGRAM, PLAIN, SECURE};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "direct-port-not-listed",
        "s = dial('open.example.org', 8080); demand(say(s, get('open.example.org', '/', T)), b'world')",
        SECURE,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-foreign-literal", "demand(http('192.0.2.7', get('192.0.2.7', '/', T)), b'world')", PLAIN)
        .from(DIRECT)
        .against(&[Filter])
        .unaudited(),
    attempt(
        "direct-metadata-literal",
        "s = dial('169.254.169.254', 80); demand(say(s, get('169.254.169.254', '/', T)), b'world')",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "direct-udp-to-a-port-not-listed",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('open.example.org', 443)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-host-address", "demand(say(dial('198.51.100.2', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
        .from(DIRECT)
        .against(&[Filter])
        .unaudited(),
    attempt(
        "direct-gateway-of-the-engine",
        "demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-ipv6-literal", "demand(http('2001:db8::7', get('2001:db8::7', '/', T)), b'world')", PLAIN)
        .from(DIRECT)
        .against_engine(ByEngine::Fixed("the engine's network has no route for IPv6"))
        .unaudited(),
    attempt(
        "direct-all-nodes-of-the-engines-network",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.sendto(T.encode(), ('ff02::1', 7777, 0, socket.if_nametoindex('eth0')))",
        DATAGRAM,
    )
    .from(DIRECT)
    .against(&[Ipv6])
    .unaudited(),
    attempt("direct-v4-mapped-literal", "demand(http('::ffff:192.0.2.7', get('192.0.2.7', '/', T)), b'world')", PLAIN)
        .from(DIRECT)
        .against(&[Filter])
        .unaudited(),
    attempt("direct-address-of-another-sandbox", "demand(http(BESIDE, get('beside', '/x'), 7000), b'404')", PLAIN)
        .from(DIRECT)
        .against(&[Filter])
        .unaudited(),
    attempt(
        "direct-icmp",
        "try: s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
except PermissionError: s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(b'\\x08\\0\\0\\0\\0\\1\\0\\1' + T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .from(DIRECT)
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "direct-icmpv6",
        "try: s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
except PermissionError: s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.sendto(b'\\x80\\0\\0\\0\\0\\1\\0\\1' + T.encode(), ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))",
        DATAGRAM,
    )
    .from(DIRECT)
    .against_engine(ByEngine::Confinement)
    .against(&[Ipv6])
    .unaudited(),
    attempt(
        "direct-raw-socket",
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253); s.sendto(T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .from(DIRECT)
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-foreign-resolver", "ask_dns('198.51.100.1', T + '.example.net') == (0, 1) or 1 / 0", PLAIN)
        .from(DIRECT)
        .against(&[Redirect, Filter])
        .unaudited(),
    attempt(
        "direct-rebinding",
        "demand(http('private.example.org', get('private.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Addresses])
    .recorded("private.example.org", 53, "address-refused"),
    attempt(
        "direct-rebinding-to-the-host",
        "demand(say(dial('host.example.org', 7777), T.encode() + b'\\n'), T.encode())",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Addresses])
    .recorded("host.example.org", 53, "address-refused"),
];
