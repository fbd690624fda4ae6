use insta::assert_snapshot;

use crate::program::Place;

const FLEET: &str = "\
apiVersion: sbx/v1
project: acme
networks: { backend: {} }
secrets:
  model-key: { env: MODEL_KEY }
allowlists:
  github:
    - { host: github.com, ports: [443, 22] }
    - { host: \"*.githubusercontent.com\" }
  read-only-api:
    params: { host: string }
    rules: [{ host: \"${host}\", methods: [GET, HEAD], paths: [\"/repos/**\"] }]
sandboxes:
  api:
    image: host
    networks: [backend]
    egress:
      allow:
        - github
        - { use: read-only-api, host: api.github.com }
        - { host: api.anthropic.com, methods: [POST], paths: [\"/v1/**\"], request: { set: { x-api-key: { secret: model-key } } } }
        - { host: db.example.org, ports: [5432], protocol: tcp, reason: reports }
      deny:
        - { host: gist.github.com }
  dbs: { image: host, networks: [{ name: backend, ports: [5432] }] }
  web: { image: host, egress: { mode: open } }
tests:
  - { sandbox: api, deny: \"POST https://api.github.com/repos/acme/api/issues\" }
  - { sandbox: api, allow: \"ssh://github.com:22\" }
  - { sandbox: dbs, deny: \"https://example.org/\" }
assert:
  - never: { sandbox: dbs, reaches: [\"*.example.com\"] }
";

#[test]
fn explains_what_is_allowed_and_what_is_not() {
    let place = Place::with(FLEET);
    let lines = [
        "explain api https://api.github.com/repos/acme/api",
        "explain api https://api.github.com/repos/acme/api/issues --method POST",
        "explain api https://gist.github.com/x",
        "explain api tcp://db.example.org:5432",
        "explain api https://evil.example/collect --method POST",
        "explain api tcp://dbs:5432",
        "explain api tcp://dbs:22",
        "explain dbs tcp://api:22",
        "explain web https://evil.example/",
        "explain dbs https://evil.example/",
    ];
    assert_snapshot!(lines.map(|line| format!("$ sbx {line}\n{}\n", place.run(line))).concat());
}

#[test]
fn explains_to_programs() {
    let place = Place::with(FLEET);
    assert_snapshot!(place.run("explain api https://api.github.com/user --json"));
    assert!(place.run("explain api ssh://github.com --json").starts_with("exit: 0\n"));
}

/// What is suggested is what has to be added: word for word.
#[test]
fn what_explain_suggests_works() {
    let place = Place::with(FLEET);
    for question in [
        "https://api.github.com/user --method DELETE",
        "https://evil.example/a*b%2Fc?x=1 --method POST",
        "ssh://evil.example",
        "udp://evil.example:5353",
        "tcp://10.1.2.3:443",
        "http://127-0-0-1.example:443/",
        "wss://evil.example/socket",
    ] {
        let before = place.run(&format!("explain api {question} --json"));
        assert!(before.starts_with("exit: 1\n"), "{before}");
        let json = before.split("--- stdout\n").nth(1).unwrap().split("--- stderr").next().unwrap();
        let explained: serde_json::Value = serde_json::from_str(json).unwrap();
        let rule = explained["allow"].as_str().unwrap_or_else(|| panic!("{question}: {before}"));
        let fixed = FLEET.replace("        - github\n", &format!("        - github\n        - {rule}\n"));
        assert_ne!(fixed, FLEET);
        place.write("fixed.yaml", fixed);
        let after = place.run(&format!("-f fixed.yaml explain api {question}"));
        assert!(after.starts_with("exit: 0\n"), "{question}: {rule}\n{after}");
    }
}

#[test]
fn explain_refuses_what_has_no_one_meaning() {
    let place = Place::with(FLEET);
    let lines = [
        "explain api example.org",
        "explain api https://user@example.org/",
        "explain api https://example.org/a//b",
        "explain apo https://example.org/",
        "explain api https://example.org/ --header nonsense",
    ];
    assert_snapshot!(lines.map(|line| format!("$ sbx {line}\n{}\n", place.run(line))).concat());
}

#[test]
fn headers_count() {
    let place = Place::with(
        "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow: [{ host: a.example, headers: { x-team: \"core*\" } }]\n",
    );
    let mut command = place.command(["explain", "api", "https://a.example/", "--header", "X-Team: core-1"]);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    let mut command = place.command(["explain", "api", "https://a.example/", "--header", "X-Team: other"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    assert!(place.run("explain api https://a.example/").contains("asks for a header"));
}

#[test]
fn tests_of_the_file_pass_and_fail() {
    let place = Place::with(FLEET);
    assert_snapshot!("passing", place.run("test"));
    assert_eq!(place.run("test -q"), "exit: 0\n--- stdout\n--- stderr\n");

    let wrong =
        format!("{FLEET}  - never: {{ sandbox: \"*\", reaches: [backend, \"**\"] }}\n    unless: {{ egress: open }}\n")
            .replace("deny: \"POST", "allow: \"POST");
    place.write("wrong.yaml", wrong);
    assert_snapshot!("failing", place.run("-f wrong.yaml test"));
    assert_snapshot!("failing_quietly", place.run("-f wrong.yaml test -q"));
    assert_snapshot!("failing_as_json", place.run("-f wrong.yaml test --json"));
    // What must not be is not put in place either.
    assert_snapshot!("not_valid", place.run("-f wrong.yaml validate"));
    assert!(place.run("-f wrong.yaml plan").starts_with("exit: 65\n"));
    assert!(place.run("-f wrong.yaml apply -y").starts_with("exit: 65\n"));
    // What is there can still be looked at and taken away.
    assert!(place.run("-f wrong.yaml --engine-url unix:///nowhere/podman.sock status").starts_with("exit: 69\n"));
    assert!(place.run("-f wrong.yaml --engine-url unix:///nowhere/podman.sock destroy -y").starts_with("exit: 69\n"));
    assert!(
        place.run("-f wrong.yaml --engine-url unix:///nowhere/podman.sock plan --destroy").starts_with("exit: 69\n")
    );
}

#[test]
fn effective_policies_are_shown() {
    let place = Place::with(FLEET);
    let mut command = place.command(["egress", "policy"]);
    // Wide enough for a table that nobody has to decipher.
    let output = command.env("COLUMNS", "140").output().unwrap();
    assert_snapshot!("policies", String::from_utf8(output.stdout).unwrap());
    assert_snapshot!("policy_as_json", place.run("egress policy api --json"));
    assert!(place.run("egress policy apo").starts_with("exit: 64\n"));
}

#[test]
fn nothing_to_test() {
    assert_snapshot!(Place::with(crate::program::GOOD).run("test"));
}

#[test]
fn unwise_rules_are_warned_of() {
    let place = Place::with(
        "\
apiVersion: sbx/v1
project: acme
allowlists:
  shared:
    - host: \"**.example.org\"   # wide
    - { ports: [443], host: www.example.org }
sandboxes:
  api:
    image: host
    egress:
      allow:
        - shared
        - { host: gist.github.com }
        - { host: githab.com, ports: [22, 443] }
        - { host: \"**\" }
      deny:
        - { host: \"**.github.com\" }
        - { host: githab.com, paths: [\"/login\"] }
  web: { image: host, egress: { allow: [shared] } }
",
    );
    assert_snapshot!(place.run("validate"));
    assert!(place.run("validate --strict").starts_with("exit: 65\n"));
}

/// Every entry of the catalogue that the policies can bring up shows in its own example.
#[test]
fn examples_of_codes_show_the_problem() {
    for code in schema_codes() {
        let place = Place::with(code.1);
        let shown = place.run("validate --format json");
        assert!(shown.contains(&format!("\"code\": \"{}\"", code.0)), "{}: {shown}", code.0);
    }
}

fn schema_codes() -> Vec<(&'static str, &'static str)> {
    let ours = |code: &&schema::codes::Code| {
        code.code.starts_with("sbx::rule-") || matches!(code.code, "sbx::lookalike-host" | "sbx::assertion-failed")
    };
    let found: Vec<_> = schema::codes::catalogue().filter(ours).map(|code| (code.code, code.example)).collect();
    assert!(found.len() >= 7, "{found:?}");
    found
}

/// Two sandboxes, each with rules that are unwise, and an assertion that fails for the second.
const UNWISE: &str = "\
apiVersion: sbx/v1
project: acme
networks: { backend: {} }
allowlists:
  shared: [{ host: evil.example, ports: [443] }]
profiles:
  strict: { egress: { deny: [{ host: gist.example }] } }
sandboxes:
  api:
    image: host
    egress: { allow: [{ host: \"**\" }] }
  web:
    image: host
    extends: [strict]
    networks: [backend]
    egress: { allow: [shared, { host: \"*.com\" }] }
assert:
  - never: { sandbox: web, reaches: [backend, evil.example] }
    unless: { sandbox: \"ci-*\" }
";

/// Codes of all that is found in `text`, and of what.
fn found(text: &str) -> Vec<String> {
    let place = Place::with(text);
    let shown = place.run("validate --format json");
    let json = shown.split("--- stdout\n").nth(1).unwrap().split("--- stderr").next().unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    let diagnostics = report["diagnostics"].as_array().unwrap_or_else(|| panic!("{shown}"));
    let said = |diagnostic: &serde_json::Value| {
        format!("{} {}", diagnostic["code"].as_str().unwrap(), diagnostic["message"].as_str().unwrap())
    };
    diagnostics.iter().map(said).collect()
}

fn of_policies(found: &[String]) -> Vec<&String> {
    found.iter().filter(|said| said.starts_with("sbx::rule-") || said.starts_with("sbx::assertion")).collect()
}

/// One run finds all: what is wrong elsewhere hides nothing that policies bring up.
#[test]
fn policies_are_judged_beside_errors() {
    let all = found(UNWISE);
    assert_eq!(of_policies(&all).len(), 3, "{all:?}");
    for (code, was, is) in [
        ("sbx::variable-unset", "  api:\n", "  api:\n    env: { TOKEN: \"${NOBODY_SETS_IT}\" }\n"),
        ("sbx::variable-unset", "    networks:", "    workdir: /srv/${NOBODY_SETS_IT}\n    networks:"),
        ("sbx::unknown-field", "  web:\n    image: host\n", "  web:\n    imagee: host\n"),
        ("sbx::unknown-reference", "  web:\n    image: host\n", "  web:\n    image: hots\n"),
        ("sbx::wrong-type", "  strict: { ", "  strict: { gui: 1, "),
        ("sbx::invalid-name", "project: acme", "project: Acme"),
    ] {
        let text = UNWISE.replacen(was, is, 1);
        assert_ne!(text, UNWISE);
        let found = found(&text);
        assert!(found.iter().any(|said| said.starts_with(code)), "{is}: {found:?}");
        assert_eq!(of_policies(&found), of_policies(&all), "{is}");
    }
}

/// What an error took away, or left as it was not meant, is not held against anybody.
#[test]
fn policies_that_errors_are_in_are_not_judged() {
    let all = found(UNWISE);
    let (wide, web) = (of_policies(&all)[0], of_policies(&all)[1..].to_vec());
    for (was, is) in [
        // Without what is wrong the rule would allow more, or the sandbox have fewer denials.
        ("host: \"*.com\"", "host: \"*.com\", methods: [get]"),
        ("host: \"*.com\"", "hst: \"*.com\""),
        ("host: evil.example, ports: [443]", "host: evil.example, ports: [web]"),
        ("host: evil.example, ports: [443]", "host: evil.example, prts: [22]"),
        ("host: evil.example, ports: [443]", "host: \"${NOBODY_SETS_IT}\""),
        ("[shared,", "[sharde,"),
        ("egress: { allow: [shared,", "egress: { mode: nnoe, allow: [shared,"),
        ("egress: { allow: [shared,", "egres: { mode: none }\n    egress: { allow: [shared,"),
        ("egress: { allow: [shared,", "egress: { deny: [{ hots: evil.example }], allow: [shared,"),
        ("extends: [strict]", "extends: [strcit]"),
        ("extends: [strict]", "extend: [strict]"),
        ("extends: [strict]", "extends: 5"),
        ("networks: [backend]", "networks: [backend, frontend]"),
        ("deny: [{ host: gist.example }]", "deny: [{ host: \"gist example\" }]"),
    ] {
        let text = UNWISE.replacen(was, is, 1);
        assert_ne!(text, UNWISE);
        let found = found(&text);
        assert_eq!(of_policies(&found), [wide], "{is}");
    }
    // Layers that may be missing may be anybody's.
    for (was, is) in [
        ("profiles:\n", "defaults: [1]\nprofiles:\n"),
        ("strict: {", "strict: { extends: [nobody],"),
        ("strict: {", "strict: { extends: [strict],"),
    ] {
        let found = found(&UNWISE.replacen(was, is, 1));
        assert!(!found.is_empty() && of_policies(&found).is_empty(), "{is}: {found:?}");
    }
    // An assertion that lacks a part demands something else.
    for (was, is) in [
        ("reaches: [backend,", "reaches: [backedn,"),
        ("reaches: [backend,", "reaches: [\"${NOBODY_SETS_IT}\","),
        ("sandbox: \"ci-*\"", "egress: nnoe"),
        ("sandbox: \"ci-*\"", "sandboxx: \"*\""),
    ] {
        let found = found(&UNWISE.replacen(was, is, 1));
        let judged: Vec<_> = of_policies(&found).into_iter().filter(|said| !said.contains("assertion")).collect();
        assert_eq!(of_policies(&found), judged, "{is}");
        assert_eq!(judged.len() + 1, 1 + web.len(), "{is}");
    }
    // Of a text that cannot be read, or of a language that is not known, nobody says anything.
    for (was, is) in [("project: acme", "project: acme\nproject: acme"), ("sbx/v1", "sbx/v9")] {
        let found = found(&UNWISE.replacen(was, is, 1));
        assert!(!found.is_empty() && of_policies(&found).is_empty(), "{is}: {found:?}");
    }
}
