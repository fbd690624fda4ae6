//! Rules of egress that are legal but unwise.

use super::Code;
use crate::Severity::{Error, Warning};

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    RULE_SHADOWED,
    RULE_REDUNDANT,
    RULE_TOO_WIDE,
    RULE_NEVER_MATCHES,
    RULE_NEEDS_HTTP,
    LOOKALIKE_HOST,
    ASSERTION_FAILED,
];

/// An allow rule under a deny rule.
pub const RULE_SHADOWED: Code = Code {
    code: "sbx::rule-shadowed",
    severity: Warning,
    summary: "a deny rule takes away all that the rule allows",
    cause: "Deny wins over allow, whatever the order. A deny rule covers all hosts and ports of this allow rule.",
    cure: "Remove the rule that is not meant, or make the deny rule narrower.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow: [{ host: gist.github.com }]\n      deny: [{ host: \"**.github.com\" }]",
};

/// An allow rule within another.
pub const RULE_REDUNDANT: Code = Code {
    code: "sbx::rule-redundant",
    severity: Warning,
    summary: "another rule allows all of it",
    cause: "Allow rules add up: what one of them allows is allowed. A narrow rule beside a wide one narrows nothing.",
    cure: "Remove it, or make the wider rule narrower.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow: [{ host: \"**.example.org\" }, { host: api.example.org, methods: [GET] }]",
};

/// An allow rule for everything.
pub const RULE_TOO_WIDE: Code = Code {
    code: "sbx::rule-too-wide",
    severity: Warning,
    summary: "the rule allows more than anybody can mean",
    cause: "It is about every name, every name below a registry or a hosting service where anybody gets one, the whole Internet, or \
            nearly all ports. Code inside can send what it can read to whoever has such a name.",
    cure: "Name the hosts and ports that are needed.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: \"**\" }] }",
};

/// A rule, or a part of one, without a match.
pub const RULE_NEVER_MATCHES: Code = Code {
    code: "sbx::rule-never-matches",
    severity: Warning,
    summary: "nothing can match the rule, or a part of it",
    cause: "A path with an encoded separator is refused unless the rule takes those; a secret is written inside TLS only; only GET \
            requests are upgraded.",
    cure: "Change the rule as the message says, or remove it.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: gitlab.com, paths: [\"/api/v4/projects/acme%2Fapi/**\"] }] }",
};

/// A rule for any bytes where requests are looked at.
pub const RULE_NEEDS_HTTP: Code = Code {
    code: "sbx::rule-needs-http",
    severity: Warning,
    summary: "only HTTP passes here, because of another rule",
    cause: "Where some rule is about methods, paths or headers, every request is looked at, and what is not HTTP does not pass. \
            A deny rule that names no ports is about all of them.",
    cure: "Give the rule about requests the ports on which HTTP is spoken.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow: [{ host: github.com, ports: [22, 443] }]\n      deny: [{ host: github.com, paths: [\"/login/**\"] }]",
};

/// A host that looks like another.
pub const LOOKALIKE_HOST: Code = Code {
    code: "sbx::lookalike-host",
    severity: Warning,
    summary: "the host looks like another one",
    cause: "It mixes letters of several scripts, has letters that look like those of another host, or is one slip away from a host \
            that is well known. Such names are registered to be taken for the other one.",
    cure: "Check which one is meant.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: githab.com }] }",
};

/// An assertion that does not hold.
pub const ASSERTION_FAILED: Code = Code {
    code: "sbx::assertion-failed",
    severity: Error,
    summary: "a sandbox reaches what an assertion says it must not",
    cause: "The policies of the file, with its networks, let the sandbox reach everything the assertion names. The message has the \
            way: sandbox, network, peer, host, port, rule. Whoever sits in a peer can pass things on, so that what peers reach counts.",
    cure: "Remove the rule or the network on the way, or give the assertion an exception under `unless`.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: example.org }] }\nassert:\n  - never: { sandbox: \"*\", reaches: [\"**\"] }",
};
