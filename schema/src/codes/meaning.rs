//! Problems of names, references and paths.

use super::Code;
use crate::Severity::Error;

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    INVALID_NAME,
    DUPLICATE_NAME,
    UNKNOWN_REFERENCE,
    EXTENDS_CYCLE,
    IMAGE_CYCLE,
    INVALID_PATH,
    ENGINE_SOCKET,
    RESERVED_TARGET,
    DUPLICATE_TARGET,
    DUPLICATE_WORKTREE,
    RELABEL_SHARED,
];

/// A name that breaks the rule.
pub const INVALID_NAME: Code = Code {
    code: "sbx::invalid-name",
    severity: Error,
    summary: "this cannot be a name",
    cause: "Names of projects, sandboxes, images, volumes, networks, allowlists, secrets and profiles become host names, container names and \
            parts of paths.",
    cure: "Use 3 to 63 of `a-z`, `0-9` and `-`; begin with a letter, do not end with `-`, no `--`.",
    example: "apiVersion: sbx/v1\nproject: Acme_Corp",
};

/// Two sandboxes with one name.
pub const DUPLICATE_NAME: Code = Code {
    code: "sbx::duplicate-name",
    severity: Error,
    summary: "two sandboxes have the same name",
    cause: "A replica (`api-1` of `api` with `replicas: 2`) has the name of another sandbox.",
    cure: "Rename one of them.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, replicas: 2 }\n  api-1: { image: host }",
};

/// A reference to nothing.
pub const UNKNOWN_REFERENCE: Code = Code {
    code: "sbx::unknown-reference",
    severity: Error,
    summary: "nothing of that name is in the file",
    cause: "Something names an image, volume, network, allowlist, secret, profile or sandbox that is not defined.",
    cure: "Correct the name, or add the entry. Only the image `host` is built in.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, networks: [backend] }",
};

/// Profiles in a circle.
pub const EXTENDS_CYCLE: Code = Code {
    code: "sbx::extends-cycle",
    severity: Error,
    summary: "profiles extend each other in a circle",
    cause: "Following `extends` leads back to where it began.",
    cure: "Remove one `extends` of the circle.",
    example: "apiVersion: sbx/v1\nproject: acme\nprofiles:\n  one: { extends: two }\n  two: { extends: one }",
};

/// Images in a circle.
pub const IMAGE_CYCLE: Code = Code {
    code: "sbx::image-cycle",
    severity: Error,
    summary: "images are made from each other in a circle",
    cause: "Following `from` leads back to where it began: none of them can be made first.",
    cure: "Start one of them from an image that is not made by a set-up.",
    example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  one: { from: two, setup: { run: [a] } }\n  two: { from: one, setup: { run: [b] } }",
};

/// A path nothing can be done with.
pub const INVALID_PATH: Code = Code {
    code: "sbx::invalid-path",
    severity: Error,
    summary: "this path cannot be used",
    cause: "A path inside a sandbox is relative, or a path is empty or begins with `~` and a name.",
    cure: "Write paths inside absolute; on the host relative ones start at the file's directory. Spaces and quotes are fine.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts: [{ source: ./docs, target: docs }]",
};

/// The engine handed over.
pub const ENGINE_SOCKET: Code = Code {
    code: "sbx::engine-socket",
    severity: Error,
    summary: "this would hand the host to the sandbox",
    cause: "The path is the socket of a container engine, a directory above one, or in `/proc`. Whoever reaches it controls \
            the host, read-only or not.",
    cure: "Mount only the directories that are needed. There is no switch that allows this.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts: [{ source: /var/run/docker.sock }]",
};

/// A target that is taken by the system.
pub const RESERVED_TARGET: Code = Code {
    code: "sbx::reserved-target",
    severity: Error,
    summary: "nothing can be mounted there",
    cause: "The root, `/proc`, `/sys`, `/dev` and `/run/sbx` belong to the engine and to `sbx`.",
    cure: "Choose another target; devices go under `devices`.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts: [{ source: ./dev, target: /dev/mine }]",
};

/// Two mounts at one place.
pub const DUPLICATE_TARGET: Code = Code {
    code: "sbx::duplicate-target",
    severity: Error,
    summary: "two things are mounted at the same path",
    cause: "Mounts, the home, tmpfs and worktrees of a sandbox have the same path inside: one would hide the other.",
    cure: "Change one target, or remove one. Profiles and `defaults` count too.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts:\n      - { source: ./one, target: /srv }\n      - { source: ./two, target: /srv/ }",
};

/// A worktree twice.
pub const DUPLICATE_WORKTREE: Code = Code {
    code: "sbx::duplicate-worktree",
    severity: Error,
    summary: "worktrees claim the same thing",
    cause: "Two worktrees have the same path, check out the same branch of a clone, or name one clone for two repositories; \
            replicas share the worktrees they are written with.",
    cure: "Give each worktree its own path and branch.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    replicas: 2\n    worktrees: [{ repo: https://example.org/api.git, branch: main, path: ~/api }]",
};

/// Relabelling what everybody uses.
pub const RELABEL_SHARED: Code = Code {
    code: "sbx::relabel-shared",
    severity: Error,
    summary: "a shared host directory must not be relabelled",
    cause: "`relabel` changes SELinux labels on the host for good. On a directory the rest of the host uses, that locks other \
            programs out.",
    cure: "Remove `relabel`, or mount a directory that only sandboxes use.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    mounts: [{ source: /usr, target: /host, relabel: private }]",
};
