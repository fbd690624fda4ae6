//! A plan with everything in it, for the tests of this directory.

use reconciler::plan::{Action, Change, FORMAT_VERSION, FieldChange, Loss, Notice, Plan, PlanEngine, Summary};
use reconciler::resource::ResourceId;
use serde_json::{Value, json};

/// A plan without changes.
pub fn empty() -> Plan {
    Plan {
        format_version: FORMAT_VERSION.to_owned(),
        project: String::from("acme"),
        generated_at: String::from("2026-03-01T12:00:00Z"),
        engine: PlanEngine { kind: String::from("podman"), version: String::from("5.4.2") },
        changes: Vec::new(),
        summary: Summary::default(),
        warnings: Vec::new(),
        partial: false,
        basis: Vec::new(),
    }
}

/// A bare change.
pub fn change(action: Action, kind: &str, name: &str) -> Change {
    Change {
        resource: ResourceId::new(kind, name),
        sandbox: None,
        kind: kind.to_owned(),
        action,
        because: Vec::new(),
        drift: false,
        fields: Vec::new(),
        unchanged: 0,
        loses: Vec::new(),
        cuts: Vec::new(),
        origin: None,
        after: Vec::new(),
        steps: Vec::new(),
    }
}

fn field(path: &str, before: Value, after: Value, forces_replacement: bool) -> FieldChange {
    FieldChange { path: path.to_owned(), before, after, forces_replacement }
}

/// All kinds of changes.
pub fn plan() -> Plan {
    let digest = |c: &str| json!(format!("docker.io/library/debian@sha256:{}", c.repeat(64)));
    let changes = vec![
        Change {
            origin: Some(String::from("sandboxes.yaml:14:3")),
            because: vec![String::from("not there")],
            fields: vec![field("name", Value::Null, json!("acme_api-data"), false)],
            ..change(Action::Create, "volume", "api-data")
        },
        Change {
            drift: true,
            because: vec![String::from("removed outside of sbx")],
            origin: Some(String::from("sandboxes.yaml:17:3")),
            ..change(Action::Create, "network", "backend")
        },
        Change {
            sandbox: Some(String::from("api")),
            because: vec![String::from("image: digest moved")],
            origin: Some(String::from("sandboxes.yaml:21:3")),
            unchanged: 14,
            fields: vec![
                field("image", digest("a"), digest("b"), true),
                field("limits.memory", json!(2_147_483_648u64), json!(4_294_967_296u64), false),
                field("env.RUST_LOG", Value::Null, json!("debug"), true),
                field("env.OLD", json!("1"), Value::Null, true),
                field(
                    "command",
                    json!(["sh", "-c", "cargo watch -x run", "--", "--release"]),
                    json!(["sh", "-c", "cargo watch -x test", "--", "--release"]),
                    true,
                ),
                field(
                    "env.SCRIPT",
                    json!("set -e\nexport A=1\necho one\necho two\necho three\n"),
                    json!("set -e\nexport A=2\necho one\necho two\necho three\n"),
                    true,
                ),
            ],
            loses: vec![
                Loss {
                    what: String::from("writable layer"),
                    detail: String::from("12 files, 3.1 MiB"),
                    count: None,
                    consent: String::from("container/api"),
                },
                Loss {
                    what: String::from("uncommitted files"),
                    detail: String::from("3 in /home/alice/worktrees/api/feature/login"),
                    count: None,
                    consent: String::from("worktree//home/alice/worktrees/api/feature/login"),
                },
            ],
            ..change(Action::Replace, "container", "api")
        },
        Change {
            drift: true,
            sandbox: Some(String::from("web")),
            because: vec![String::from("limits were edited outside of sbx")],
            fields: vec![field("limits.pids", json!(64), json!(2048), false)],
            origin: Some(String::from("sandboxes.yaml:33:3")),
            unchanged: 19,
            ..change(Action::Update, "container", "web")
        },
        Change {
            because: vec![String::from("no longer in the configuration")],
            ..change(Action::Delete, "container", "old")
        },
        Change {
            because: vec![String::from(
                "a container acme_db exists that sbx did not create; rename it, or name the sandbox differently",
            )],
            origin: Some(String::from("sandboxes.yaml:40:3")),
            ..change(Action::Forbidden, "container", "db")
        },
        Change {
            fields: vec![field(
                "env.LONG",
                Value::Null,
                json!((1..=40).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n")),
                false,
            )],
            origin: Some(String::from("sandboxes.yaml:50:3")),
            ..change(Action::Create, "container", "long")
        },
        Change { origin: Some(String::from("sandboxes.yaml:9:3")), ..change(Action::Noop, "image", "base") },
    ];
    Plan {
        changes,
        summary: Summary { create: 3, update: 1, replace: 1, delete: 1, noop: 1, forbidden: 1 },
        warnings: vec![
            Notice {
                code: String::from("sbx::missing-device"),
                severity: String::from("warning"),
                message: String::from("sandbox api asks for nvidia.com/gpu=all, which this host does not offer"),
                help: Some(String::from("install the vendor's CDI specification, or remove the device")),
                origin: Some(String::from("sandboxes.yaml:30:15")),
            },
            Notice {
                code: String::from("sbx::partial-plan"),
                severity: String::from("warning"),
                message: String::from("this plan is partial: --target leaves everything else as it is"),
                help: None,
                origin: None,
            },
        ],
        partial: true,
        ..empty()
    }
}
