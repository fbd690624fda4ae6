use std::fs;
use std::path::PathBuf;

use reconciler::resource::{sha256, short};

use crate::program::Place;

const FLEET: &str = "\
apiVersion: sbx/v1
project: acme
allowlists:
  alone: [{ host: alone.example }]
  shared:
    - { host: shared.example }   # by both
    - { host: pair.example }
defaults: { image: host }
sandboxes:
  # what builds
  api:
    egress:
      allow:
        - { host: used.example, ports: [443] }
        # the web
        - host: web.example # two ports
          reason: mirrors
        - { host: never.example } # nobody knows why
        - { host: api.example, ports: [443], methods: [GET, POST, DELETE] }
        - { host: docs.example, ports: [443], paths: [/v1/**, '/v2/*'] } # two versions
        - alone
        - shared
        - { host: young.example }
        - { host: unapplied.example }
  web: { egress: { allow: [shared] } }
";

/// An engine that nobody serves: its daemon's records are its own.
const ENGINE: &str = "unix:///nowhere/podman.sock";

struct Recorded {
    place: Place,
    directory: PathBuf,
}

impl Recorded {
    fn new() -> Self {
        let place = Place::with(FLEET);
        let state = place.work().join("state");
        let directory = state.join("egress").join(short(&sha256(ENGINE.as_bytes()))).join("acme");
        fs::create_dir_all(directory.join("api")).unwrap();
        Self { place, directory }
    }

    /// Records `times` uses, `days` ago, `what` being all that tells them from others.
    fn uses(&self, times: usize, days: i64, what: &str) {
        let time = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        let line = format!(
            "{{\"time\":\"{time}\",\"project\":\"acme\",\"sandbox\":\"api\",\"generation\":1,\"allowed\":true,{what}}}\n"
        );
        let file = self.directory.join("api/audit.jsonl");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, before + &line.repeat(times)).unwrap();
    }

    /// Says since when rules are in force, by what is written of them.
    fn ages(&self, rules: &[(&str, i64)]) {
        let since = |days: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)).to_string();
        let ages: serde_json::Map<_, _> =
            rules.iter().map(|(rule, days)| ((*rule).to_owned(), since(*days).into())).collect();
        fs::write(self.directory.join("rules.json"), serde_json::json!({ "api": ages, "web": ages }).to_string())
            .unwrap();
    }

    fn run(&self, line: &str) -> String {
        self.place.run(&format!("egress tighten api --engine-url {ENGINE} --state-dir state {line}"))
    }
}

fn used() -> Recorded {
    let recorded = Recorded::new();
    recorded.uses(1, 40, "\"protocol\":\"tls\",\"host\":\"used.example\",\"port\":443");
    recorded.uses(120, 3, "\"protocol\":\"tls\",\"host\":\"web.example\",\"port\":443");
    recorded.uses(
        30,
        2,
        "\"protocol\":\"https\",\"host\":\"api.example\",\"port\":443,\"method\":\"GET\",\"path\":\"/x\"",
    );
    recorded.uses(
        2,
        1,
        "\"protocol\":\"https\",\"host\":\"api.example\",\"port\":443,\"method\":\"POST\",\"path\":\"/x\"",
    );
    recorded.uses(
        20,
        1,
        "\"protocol\":\"https\",\"host\":\"docs.example\",\"port\":443,\"method\":\"GET\",\"path\":\"/v2/x\"",
    );
    recorded.uses(5, 1, "\"protocol\":\"tls\",\"host\":\"pair.example\",\"port\":443");
    // Allowed then, and by nothing in the file any more: no reason to leave things as they are.
    recorded.uses(3, 9, "\"protocol\":\"tls\",\"host\":\"went.example\",\"port\":443");
    recorded.ages(&[
        ("{ host: used.example, ports: [443] }", 40),
        ("{ host: web.example, reason: \"mirrors\" }", 40),
        ("{ host: never.example }", 30),
        ("{ host: api.example, ports: [443], methods: [GET, POST, DELETE] }", 30),
        ("{ host: docs.example, ports: [443], paths: [\"/v1/**\", \"/v2/*\"] }", 30),
        ("{ host: alone.example }", 30),
        ("{ host: shared.example }", 30),
        ("{ host: pair.example }", 30),
        ("{ host: young.example }", 1),
    ]);
    recorded
}

/// Times are those of the run.
fn without_times(text: &str) -> String {
    text.split(' ')
        .map(|word| {
            if word.contains('T') && word.contains('Z') && word.contains(':') && word.contains('-') {
                let rest = word.find('Z').map_or("", |at| &word[at + 1..]);
                format!("[time]{rest}")
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn unused_rules_are_taken_out_and_shared_ones_named() {
    let recorded = used();
    insta::assert_snapshot!(without_times(&recorded.run("")));
    assert_eq!(recorded.place.read("sandboxes.yaml"), FLEET, "nothing was written");
    let written = recorded.run("--write");
    assert!(written.starts_with("exit: 0\n") && written.contains("Wrote sandboxes.yaml"), "{written}");
    let policy = recorded.place.run("egress policy api");
    for gone in ["never.example", "alone.example"] {
        assert!(!policy.contains(gone), "{policy}");
    }
    for kept in ["used.example", "shared.example", "young.example", "unapplied.example"] {
        assert!(policy.contains(kept), "{policy}");
    }
    assert!(
        recorded.place.read("sandboxes.yaml").contains("        # the web\n        - host: web.example # two ports\n")
    );
}

#[test]
fn programs_are_told_the_same() {
    let answer = used().run("--json");
    let json = answer.split("--- stdout\n").nth(1).unwrap().split("--- stderr").next().unwrap();
    let told: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(told["format_version"], "1.0");
    assert_eq!(told["evidence"]["records"], 181);
    assert_eq!(told["too_little"], serde_json::Value::Null);
    let of = |host: &str| {
        let rules = told["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["rule"].as_str().unwrap().contains(host)).unwrap().clone()
    };
    assert_eq!(of("never.example")["proposal"], "remove");
    assert_eq!(of("never.example")["kept"], serde_json::Value::Null);
    assert_eq!(of("web.example")["proposal"]["narrow"]["ports"][0]["first"], 443);
    assert_eq!(of("api.example")["proposal"]["narrow"]["methods"], serde_json::json!(["GET", "POST"]));
    assert_eq!(of("docs.example")["proposal"]["narrow"]["paths"], serde_json::json!(["/v2/*"]));
    assert!(of("shared.example")["kept"].as_str().unwrap().contains("sandbox web has it too"));
    assert!(told["diff"].as_str().unwrap().contains("-        - { host: never.example } # nobody knows why"));
}

#[test]
fn too_little_evidence_proves_nothing() {
    let nothing = Recorded::new().run("");
    assert!(nothing.contains("--- stdout\n--- stderr") && nothing.contains("nothing is recorded of it"), "{nothing}");
    let few = Recorded::new();
    few.uses(20, 40, "\"protocol\":\"tls\",\"host\":\"web.example\",\"port\":443");
    assert!(few.run("").contains("fewer than 100 connections and requests are recorded: 20"));
    let short = Recorded::new();
    short.uses(200, 1, "\"protocol\":\"tls\",\"host\":\"web.example\",\"port\":443");
    let told = short.run("");
    assert!(told.contains("--- stdout\n--- stderr") && told.contains("for less than 7days"), "{told}");
}

#[test]
fn a_rule_that_has_connections_looked_into_stays() {
    let recorded = used();
    let text = FLEET.replace(
        "        - { host: never.example } # nobody knows why\n",
        "        - { host: never.example, paths: [/v1/**] }\n        - { host: '*.example', ports: [443] }\n",
    );
    fs::write(recorded.place.work().join("sandboxes.yaml"), text).unwrap();
    recorded.ages(&[
        ("{ host: never.example, paths: [\"/v1/**\"] }", 30),
        ("{ host: used.example, ports: [443] }", 40),
        ("{ host: alone.example }", 30),
    ]);
    let told = recorded.run("");
    assert!(told.contains("kept, since without it nobody would look into connections that { host: "), "{told}");
    assert!(!told.contains("-        - { host: never.example, paths"), "{told}");
    assert!(told.contains("alone"), "what examines nothing can go: {told}");
}
