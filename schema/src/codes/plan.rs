//! What only a plan finds: the file is right, but does not fit this host or this engine. Told by the reconciler.

use super::Code;
use crate::Severity::{Error, Warning};

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    Code {
        code: "sbx::missing-source",
        severity: Error,
        summary: "what is to be mounted is not on this host",
        cause: "A mount or a profile names a file or directory of the host that does not exist or that you may not see.",
        cure: "Create it, correct the path, or remove the mount.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, mounts: [{ source: /srv/not-there, target: /srv }] }",
    },
    Code {
        code: "sbx::own-files",
        severity: Error,
        summary: "the mount leads to what sbx keeps for itself",
        cause: "The path is, holds or lies in a directory of the certificate authority, of the daemon's sockets and secrets, or of \
                records (the state directory, that of `--state-dir` too). Whoever reaches these is any host to the project's \
                sandboxes, gives orders to the daemon, or writes what `egress learn` and `tighten` believe.",
        cure: "Mount something narrower.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, mounts: [{ source: /run/sbx, target: /mnt }] }",
    },
    Code {
        code: "sbx::missing-socket",
        severity: Error,
        summary: "a socket of the desktop session is not there",
        cause: "`gui` asks for a display, for sound or for the bus, and the session that `sbx` runs in has no such socket; or \
                `XDG_RUNTIME_DIR` is not set, so there is no session at all.",
        cure: "Run `sbx` inside the desktop session, start the service that is missing, or switch that part of `gui` off.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, gui: { wayland: true } }",
    },
    Code {
        code: "sbx::missing-device",
        severity: Error,
        summary: "the device is not there",
        cause: "`devices` names a device node that this host does not have, or a CDI name that no specification in `/etc/cdi` or \
                `/var/run/cdi` describes; or `gui.dri` is on, and there is no `/dev/dri`.",
        cure: "Name a device of this host; generate the specification (for NVIDIA: `nvidia-ctk cdi generate`); or remove it.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, devices: [/dev/not-there] }",
    },
    Code {
        code: "sbx::overlay",
        severity: Error,
        summary: "the overlay cannot be used",
        cause: "The directory that `overlay` names cannot be read, or it holds something else than files and directories.",
        cure: "Correct the path or what is in the directory.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, overlay: ./not-there }",
    },
    Code {
        code: "sbx::image-input",
        severity: Error,
        summary: "what the image is made from cannot be read",
        cause: "A build's directory, its `Containerfile`, or a file that goes into the image is not there or may not be read, so \
                nobody can tell whether the image is still current.",
        cure: "Correct the path, or make what it names readable.",
        example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  tools: { build: { context: ./not-there } }\nsandboxes:\n  api: { image: tools }",
    },
    Code {
        code: "sbx::secret-unavailable",
        severity: Error,
        summary: "the value of a secret cannot be had",
        cause: "The environment variable is not set, the file cannot be read, the command failed or took too long; or the value is \
                empty, too long or holds a NUL byte. Nothing is changed without it.",
        cure: "Make the source available: set the variable, mend the file or the command, and run again.",
        example: "apiVersion: sbx/v1\nproject: acme\nsecrets:\n  token: { env: NOT_SET }\nsandboxes:\n  api: { image: host, env: { TOKEN: { secret: token } } }",
    },
    Code {
        code: "sbx::clone-conflict",
        severity: Error,
        summary: "one directory cannot hold two repositories",
        cause: "Two worktrees of different repositories have the same `clone`. A file that says so is refused before as \
                `sbx::duplicate-worktree`; the plan looks again, as it would overwrite one by the other.",
        cure: "Give one of them another `clone`, or leave it out: each repository then gets a directory of its own.",
        example: "$ sbx plan",
    },
    Code {
        code: "sbx::egress-unavailable",
        severity: Error,
        summary: "this egress cannot be served here",
        cause: "The egress of an image's `setup` has a rule about requests inside TLS, or a secret: a set-up trusts no certificate \
                of ours. Or something needs more than the engine can do, such as `upstream.netns` of a rootless one. Nothing is \
                ever started more open, nor more closed, than it is written.",
        cure: "Leave methods, paths, headers and secrets out of the set-up's rules; else do what the message says.",
        example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  debian: { ref: \"docker.io/library/debian:bookworm\" }\n  tools:\n    from: debian\n    setup:\n      run: [\"curl -fO https://example.com/tool\"]\n      egress: { allow: [{ host: example.com, methods: [GET] }] }\nsandboxes:\n  api: { image: tools }",
    },
    Code {
        code: "sbx::quota",
        severity: Error,
        summary: "there would be more sandboxes than the quotas allow",
        cause: "The plan adds sandboxes, or gives some to another owner, and then their owner, or all owners together, would hold \
                more than `quotas` allows. Sandboxes of all projects on the engine count, and those that other runs are about \
                to create. What runs already is left alone.",
        cure: "Destroy a sandbox nobody needs (the message lists them), or raise `quotas.perOwner` or `quotas.total`.",
        example: "apiVersion: sbx/v1\nproject: acme\nquotas: { total: 1 }\nsandboxes:\n  api: { image: host }\n  web: { image: host }",
    },
    Code {
        code: "sbx::limits-unsupported",
        severity: Warning,
        summary: "this engine cannot enforce all limits",
        cause: "Without root an engine limits processors, memory and processes only with cgroup v2 and the controllers delegated \
                to the user. Limits that it cannot enforce are not set.",
        cure: "See `sbx doctor`, which tells what is missing and how to get it; or remove the limit.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { image: host, limits: { memory: 1GiB } }",
    },
    Code {
        code: "sbx::remote-engine",
        severity: Warning,
        summary: "sandboxes of an engine elsewhere are not shown what is here",
        cause: "The engine is reached over ssh, or runs in a process namespace of its own, and the plan makes sandboxes. An \
                engine mounts what it finds at a path where it runs; `sbx-init`, the directories of `image: host`, sources of \
                mounts and devices were placed and looked at on this machine. Unless both see the same files at the same \
                paths, no such sandbox starts.",
        cure: "Run `sbx` on that machine. From here such an engine is for looking and for what runs already: `plan`, `status`, \
               `list`, `logs`, `exec`, `shell`, `stop`.",
        example: "$ sbx --engine-url ssh://me@build.example/run/user/1000/podman/podman.sock plan",
    },
    Code {
        code: "sbx::worktree-branch",
        severity: Warning,
        summary: "another branch is checked out than the file says",
        cause: "Somebody switched branches in the worktree. That is work: it is told, and never undone.",
        cure: "Check the branch out there, or change `branch` in the file.",
        example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    worktrees: [{ repo: \"https://git.example.com/a.git\", branch: main, path: /srv/a }]",
    },
    Code {
        code: "sbx::volume-kept",
        severity: Warning,
        summary: "a volume that the file no longer has is kept",
        cause: "A volume was removed from the file. What is in it could not be brought back, so it stays until you say otherwise.",
        cure: "Remove it with the `--accept-loss` that the message names, put it back into the file, or leave it.",
        example: "$ sbx apply --accept-loss volume/old-data",
    },
    Code {
        code: "sbx::stray",
        severity: Warning,
        summary: "a container has our labels under another name",
        cause: "A container carries the labels of a sandbox that is to go, but not its name: somebody renamed or copied it. It is \
                left alone, as it may have been set aside.",
        cure: "Remove it if nobody needs it: `podman rm NAME`.",
        example: "$ podman rename acme_api mine\n$ sbx destroy",
    },
    Code {
        code: "sbx::partial-plan",
        severity: Warning,
        summary: "the plan leaves out whatever is not a target",
        cause: "`--target` was given. The plan holds the sandboxes that it names, and what they need; whatever else differs is \
                neither in it nor changed.",
        cure: "Nothing has to be done. Plan without `--target` to see everything.",
        example: "$ sbx plan --target api",
    },
];
