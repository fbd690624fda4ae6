//! Mode `direct`.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, DIRECT, attempt};
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
