//! What is legal but unwise.

use super::Code;
use crate::Severity::Warning;

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] =
    &[MUTABLE_TAG, SHORT_IMAGE_NAME, SENSITIVE_MOUNT, OPEN_EGRESS, CAPABILITY_ADDED, PRIVILEGES_ALLOWED, UNUSED];

/// An image that moves.
pub const MUTABLE_TAG: Code = Code {
    code: "sbx::mutable-tag",
    severity: Warning,
    summary: "the image changes without notice",
    cause: "`latest`, or no tag at all, names another image tomorrow.",
    cure: "Name a version or a digest; `sbx lock` pins the digest of what you have.",
    example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  debian: { ref: docker.io/library/debian:latest }\nsandboxes:\n  api: { image: debian }",
};

/// An image without a registry.
pub const SHORT_IMAGE_NAME: Code = Code {
    code: "sbx::short-image-name",
    severity: Warning,
    summary: "the image names no registry",
    cause: "Each host decides by its own configuration which registry a short name comes from.",
    cure: "Write the registry: `docker.io/library/debian:bookworm`.",
    example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  debian: { ref: \"debian:bookworm\" }\nsandboxes:\n  api: { image: debian }",
};

/// Credentials handed over.
pub const SENSITIVE_MOUNT: Code = Code {
    code: "sbx::sensitive-mount",
    severity: Warning,
    summary: "the mount holds credentials",
    cause: "The path is your home directory, above it, or holds keys and tokens (`~/.ssh`, `~/.gnupg`, `~/.aws`, …). Code in the \
            sandbox can read and, if writable, change them.",
    cure: "Mount what is needed, or pass one value through `secrets`.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts: [{ source: ~/.ssh }]",
};

/// Everything may leave.
pub const OPEN_EGRESS: Code = Code {
    code: "sbx::open-egress",
    severity: Warning,
    summary: "the sandbox reaches everything",
    cause: "`egress.mode: open` is the engine's own network, unfiltered.",
    cure: "Use `none` where the sandbox needs no network.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, egress: { mode: open } }",
};

/// A capability given.
pub const CAPABILITY_ADDED: Code = Code {
    code: "sbx::capability-added",
    severity: Warning,
    summary: "a capability is given to the sandbox",
    cause: "Capabilities are parts of root's power; each one widens what code inside can do to the host.",
    cure: "Remove it unless the sandbox does not work without.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, security: { capAdd: [NET_RAW] } }",
};

/// `no_new_privs` off.
pub const PRIVILEGES_ALLOWED: Code = Code {
    code: "sbx::privileges-allowed",
    severity: Warning,
    summary: "processes may gain privileges",
    cause: "With `noNewPrivileges: false` a setuid program runs as its owner.",
    cure: "Remove the line; the default is `true`.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, security: { noNewPrivileges: false } }",
};

/// An entry nobody uses.
pub const UNUSED: Code = Code {
    code: "sbx::unused",
    severity: Warning,
    summary: "nothing uses this entry",
    cause: "No sandbox refers to the image, volume, network, allowlist, secret or profile, directly or through another entry; \
            or no rule to the parameter of its allowlist.",
    cure: "Remove it, or use it.",
    example: "apiVersion: sbx/v1\nproject: acme\nvolumes: { old-data: {} }",
};
