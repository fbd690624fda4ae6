//! Records judged again.

use super::*;
use crate::compiled::properties::TODAY;
use crate::testing;
use crate::testing::rules::{With as _, fleet, policy, rule};

fn record(protocol: Spoken, host: &str, port: u16, request: Option<(&str, &str)>, because: Option<&str>) -> Record {
    Record {
        protocol,
        host: host.to_owned(),
        port,
        method: request.map(|(method, _)| method.to_owned()),
        path: request.map(|(_, path)| path.to_owned()),
        allowed: because.is_none(),
        because: because.map(str::to_owned),
        ..testing::record()
    }
}

fn config() -> Config {
    let mut config = fleet(&["api allowlist", "shut none"]);
    config.sandboxes["api"].egress.policy = policy(
        [
            rule("new.test"),
            rule("api.test").methods(&["GET"]).paths(&["/repos/**"]),
            schema::policy::Rule {
                headers: vec![schema::policy::HeaderMatch { name: String::from("x-a"), value: None }],
                ..rule("header.test")
            },
            rule("files.test").protocol(schema::policy::Protocol::Tls),
        ],
        [],
    );
    config
}

#[test]
fn what_changes_is_counted_and_what_cannot_be_told_is_said() {
    let mut records = vec![
        // Opened: asked for by name, then with a port.
        record(Spoken::Dns, "new.test", 53, None, Some("no-rule")),
        record(Spoken::Tls, "new.test", 443, None, Some("no-rule")),
        record(Spoken::Dns, "header.test", 53, None, Some("no-rule")),
        // Closed.
        record(Spoken::Https, "api.test", 443, Some(("POST", "/repos/x")), None),
        record(Spoken::Https, "api.test", 443, Some(("GET", "/user")), None),
        record(Spoken::Tls, "gone.test", 443, None, None),
        record(Spoken::Dns, "gone.test", 53, None, None),
        record(Spoken::Tcp, "files.test", 443, None, None),
        // The same as before.
        record(Spoken::Https, "api.test", 443, Some(("GET", "/repos/x")), None),
        record(Spoken::Tls, "evil.test", 443, None, Some("no-rule")),
        record(Spoken::Dns, "evil.test", 53, None, Some("no-rule")),
        // Nobody looked at its requests; nobody knows its headers.
        record(Spoken::Tls, "api.test", 443, None, None),
        record(Spoken::Https, "header.test", 443, Some(("GET", "/")), None),
        // No policy was the reason, or it is of somebody else.
        record(Spoken::Tls, "new.test", 443, None, Some("sni-mismatch")),
        Record { project: String::from("other"), ..record(Spoken::Tls, "gone.test", 443, None, None) },
        Record { sandbox: String::from("removed"), ..record(Spoken::Tls, "gone.test", 443, None, None) },
        Record { sandbox: String::from("shut"), ..record(Spoken::Http, "x.test", 80, Some(("GET", "/")), None) },
    ];
    records.extend(vec![record(Spoken::Udp, "gone.test", 443, None, None); 212]);
    let replay = replay(&config(), &records, TODAY);
    insta::assert_snapshot!(format!("{replay}\n{}", serde_json::to_string_pretty(&replay).unwrap()));
}

#[test]
fn nothing_recorded_changes_nothing() {
    let replay = replay(&config(), &[], TODAY);
    assert_eq!(replay, Replay::default());
    assert_eq!(replay.to_string(), "0 hosts opened, 0 recorded requests would now be denied");
}
