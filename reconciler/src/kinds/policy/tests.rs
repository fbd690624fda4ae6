use super::*;

fn spec(rules: &str) -> PolicySpec {
    let policy = serde_json::from_str(&format!(r#"{{"allow":[{rules}]}}"#)).expect("a policy");
    PolicySpec { policy, secrets: BTreeMap::new() }
}

fn rule(host: &str, port: u16, rest: &str, at: &str) -> String {
    format!(r#"{{"host":"{host}","ports":[{{"first":{port},"last":{port}}}]{rest},"place":{{"at":"{at}"}}}}"#)
}

#[test]
fn places_and_order_are_no_part_of_a_policy() {
    let (a, b) = (rule("a.example", 443, "", "f:1"), rule("b.example", 80, "", "f:2"));
    let moved = rule("a.example", 443, "", "g:7");
    let hash = |rules: &str| spec_hash(&spec(rules).canonical());
    assert_eq!(hash(&format!("{a},{b}")), hash(&format!("{b},{moved}")));
    assert_ne!(hash(&a), hash(&b));
    assert!(fields(&spec(&format!("{a},{b}")), &spec(&format!("{b},{moved}"))).0.is_empty());
}

#[test]
fn ports_of_a_network_are_told_as_they_are_let_in() {
    let of = |inbound: &str| PolicySpec {
        policy: serde_json::from_str(&format!(r#"{{"inbound":{{{inbound}}}}}"#)).expect("a policy"),
        secrets: BTreeMap::new(),
    };
    let told = |before: &PolicySpec, after: &PolicySpec| -> Vec<String> {
        let changes = fields(before, after).0;
        changes.iter().map(|change| format!("{} {} -> {}", change.path, change.before, change.after)).collect()
    };
    let some = of(r#""backend":{"tcp":[{"first":5432,"last":5432}]}"#);
    assert_eq!(told(&of(""), &some), [r#"networks[backend] null -> "tcp 5432""#]);
    assert_eq!(told(&some, &of(r#""backend":{}"#)), [r#"networks[backend] "tcp 5432" -> "no port""#]);
    // What was made before there were such ports is the same as ever.
    assert_eq!(to_spec(&Policy::default()).get("inbound"), None);
}

#[test]
fn differences_are_told_rule_by_rule() {
    let get = r#","methods":["GET"]"#;
    let before = format!(
        "{},{},{}",
        rule("a.example", 443, "", ""),
        rule("b.example", 443, get, ""),
        rule("gone.example", 22, r#","protocol":"tcp""#, "")
    );
    let after = format!(
        "{},{},{}",
        rule("a.example", 443, "", ""),
        rule("b.example", 443, r#","methods":["GET","PUT"]"#, ""),
        rule("a.example", 443, get, "")
    );
    let (changes, same) = fields(&spec(&before), &spec(&after));
    let told: Vec<String> =
        changes.iter().map(|change| format!("{} {} -> {}", change.path, change.before, change.after)).collect();
    assert_eq!(same, 1);
    assert_eq!(
        told,
        [
            r#"allow[a.example:443]#2 null -> {"protocol":"auto","methods":["GET"]}"#,
            r#"allow[b.example:443] {"protocol":"auto","methods":["GET"]} -> {"protocol":"auto","methods":["GET","PUT"]}"#,
            r#"allow[gone.example:22] "tcp" -> null"#,
        ]
    );
}
