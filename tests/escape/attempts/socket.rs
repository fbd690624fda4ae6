//! Transport `socket`.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, ByEngine, TUNNEL, attempt};
use crate::attempts::TUNNELLED;

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "beside-the-socket",
        "s = dial('198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        TUNNELLED,
    )
    .from(TUNNEL)
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt("socket-name-not-listed", "demand(through_socket('other.example.net:443', T), b' 200 ')", TUNNELLED)
        .from(TUNNEL)
        .against(&[Rules])
        .recorded("other.example.net", 443, "no-rule"),
    attempt("socket-foreign-literal", "demand(through_socket('192.0.2.7:443', T), b' 200 ')", TUNNELLED)
        .from(TUNNEL)
        .against(&[Rules])
        .recorded("192.0.2.7", 443, "no-rule"),
    attempt("socket-rebinding", "demand(through_socket('private.example.org:443', T), b' 200 ')", TUNNELLED)
        .from(TUNNEL)
        .against(&[Addresses])
        .recorded("private.example.org", 443, "address-refused"),
    attempt(
        "socket-host-of-another-name",
        "s = socket_proxy(); demand(tunnel(s, 'open.example.org:80'), b' 200 ')
demand(say(s, get('other.example.net', '/', T)), b'world says')",
        TUNNELLED,
    )
    .from(TUNNEL)
    .against(&[Host])
    .recorded("open.example.org", 80, "host-mismatch"),
];
