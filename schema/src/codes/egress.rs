//! Problems of allowlists, rules, tests and assertions.

use super::Code;
use crate::Severity::{Error, Warning};

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    INVALID_RULE,
    UNENFORCEABLE,
    TOO_MANY_UDP_PORTS,
    ALLOWLIST_PARAMETER,
    ALLOWLIST_CYCLE,
    INVALID_TARGET,
    RULE_EXPIRES,
    MATCHES_NOTHING,
];

/// A part of a rule in the wrong form.
pub const INVALID_RULE: Code = Code {
    code: "sbx::invalid-rule",
    severity: Error,
    summary: "a part of a rule is not in its form",
    cause: "A host, port, path, method, header, address or date cannot be read as one, or could never match anything.",
    cure: "Write it in the form the message names. Hosts stand alone, without scheme, port or path.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: \"https://github.com\" }] }",
};

/// A rule that would be ignored.
pub const UNENFORCEABLE: Code = Code {
    code: "sbx::unenforceable",
    severity: Error,
    summary: "this cannot be enforced where it stands",
    cause: "Methods, paths and headers are seen in HTTP only, not with `protocol: tcp` or `udp` nor with `mode: direct`; a \
            deny rule changes nothing and never expires; port 53 leads to the sandbox's own resolver, and datagrams \
            to addresses are refused but with `mode: direct`; with `mode: none` and `open` no rule decides anything, nor with \
            `open` the ports of a network; and on a network some capabilities lead past every rule. What is written and cannot hold is never ignored.",
    cure: "Remove the marked part, or change the protocol or mode that rules it out.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: db.example.com, ports: [5432], protocol: tcp, methods: [GET] }] }",
};

/// More ports for datagrams than are served.
pub const TOO_MANY_UDP_PORTS: Code = Code {
    code: "sbx::too-many-udp-ports",
    severity: Error,
    summary: "the rules have too many ports for datagrams",
    cause: "The proxy has sockets inside for each port that a rule of `protocol: udp` names, and descriptors of its own for each \
            of them, which all sandboxes share. All such rules of a sandbox together may name 128 ports.",
    cure: "Name the ports that are needed. With `mode: direct`, where nothing listens, there may be any number.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: media.example.com, ports: [\"10000-20000\"], protocol: udp }] }",
};

/// Parameters that do not fit.
pub const ALLOWLIST_PARAMETER: Code = Code {
    code: "sbx::allowlist-parameter",
    severity: Error,
    summary: "the parameters of the allowlist do not fit",
    cause: "An allowlist is used without one of its `params`, with one it does not have, or with a value that is not of the \
            parameter's kind.",
    cure: "Write `{ use: NAME, PARAMETER: value }` with exactly the parameters that the allowlist lists.",
    example: "apiVersion: sbx/v1\nproject: acme\nallowlists:\n  read-only: { params: { host: host }, rules: [{ host: \"${host}\", methods: [GET] }] }\nsandboxes:\n  api: { image: host, egress: { allow: [read-only] } }",
};

/// Allowlists in a circle.
pub const ALLOWLIST_CYCLE: Code = Code {
    code: "sbx::allowlist-cycle",
    severity: Error,
    summary: "allowlists use each other in a circle",
    cause: "Following the names in an allowlist leads back to where it began, or to more than 100,000 rules.",
    cure: "Remove one use of the circle.",
    example: "apiVersion: sbx/v1\nproject: acme\nallowlists:\n  one: [two]\n  two: [one]",
};

/// A target that cannot be read.
pub const INVALID_TARGET: Code = Code {
    code: "sbx::invalid-target",
    severity: Error,
    summary: "this is not something that can be reached",
    cause: "Tests name a URL with its scheme, and a method before it where that matters: `POST https://host/path`, \
            `ssh://host:22`, `tcp://host:5432`, `udp://host:53`.",
    cure: "Correct the URL; methods go with `http` and `https` only.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host }\ntests:\n  - { sandbox: api, deny: example.com }",
};

/// A rule at its end.
pub const RULE_EXPIRES: Code = Code {
    code: "sbx::rule-expires",
    severity: Warning,
    summary: "the rule expires, or has expired",
    cause: "The last day in `expires` is less than a week ahead, or has passed. An expired rule allows nothing.",
    cure: "Remove the rule, or move the date.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: example.com, expires: 2020-01-31 }] }",
};

/// A pattern without anything to match.
pub const MATCHES_NOTHING: Code = Code {
    code: "sbx::matches-nothing",
    severity: Warning,
    summary: "the pattern matches no sandbox",
    cause: "An assertion holds for no sandbox of the file, so it cannot fail.",
    cure: "Correct the pattern; `*` stands for any text. Replicas are named `NAME-1`, `NAME-2` and so on.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host }\nassert:\n  - { never: { sandbox: \"wbe-*\", reaches: [\"**\"] } }",
};
