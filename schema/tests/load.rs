//! `load` on whole documents.

use std::fmt::Write as _;

use schema::config::{Egress, EgressMode};
use schema::{Loaded, Source, load};

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

fn read(texts: &[&str]) -> Loaded {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Source {
            name: format!("{index}.yaml"),
            directory: format!("/srv/{index}").into(),
            text: (*text).to_owned(),
        })
        .collect();
    load(&sources, &caller())
}

#[test]
fn everything_loads() {
    let loaded = read(&[include_str!("../../fixtures/valid/everything.yaml")]);
    assert_eq!(loaded.diagnostics, []);
    insta::assert_json_snapshot!(loaded.config.expect("no errors"));
}

#[test]
fn all_of_egress_loads() {
    let loaded = read(&[include_str!("../../fixtures/valid/egress.yaml")]);
    assert_eq!(loaded.diagnostics, []);
    let config = loaded.config.expect("no errors");
    let egress: Vec<_> = config.sandboxes.iter().map(|(name, sandbox)| (name, &sandbox.egress)).collect();
    insta::assert_json_snapshot!((egress, &config.images["tooled"], &config.tests, &config.assertions));
}

const HEAD: &str = "apiVersion: sbx/v1\nproject: acme\n";

fn config(texts: &[&str]) -> schema::Config {
    let loaded = read(texts);
    assert!(loaded.config.is_some(), "{:#?}", loaded.diagnostics);
    loaded.config.expect("checked")
}

fn codes(texts: &[&str]) -> Vec<&'static str> {
    read(texts).diagnostics.iter().map(|problem| problem.code).collect()
}

#[test]
fn paths_start_at_the_file_they_are_written_in() {
    let base = format!("{HEAD}defaults: {{ overlay: ./one }}\nsandboxes: {{ api: {{ image: host }} }}\n");
    let over = "sandboxes: { api: { mounts: [{ source: ../two, target: /two }] } }\n";
    let config = config(&[&base, over]);
    let api = &config.sandboxes["api"];
    assert_eq!(api.overlay.as_deref(), Some("/srv/0/one".as_ref()));
    assert_eq!(api.mounts[0].source, schema::config::MountSource::Path("/srv/two".into()));
    let place = config.origins.find("sandboxes.api.mounts.0").expect("an origin");
    assert_eq!((place.file.as_str(), place.line), ("1.yaml", 1));
}

#[test]
fn problems_of_every_file_are_found_also_where_a_later_one_hides_them() {
    let base = format!("{HEAD}sandboxes: {{ api: {{ image: host, restart: sometimes }} }}\n");
    let over = "sandboxes: { api: { restart: always, commnd: [a] } }\n";
    assert_eq!(codes(&[&base, over]), ["sbx::wrong-value", "sbx::unknown-field"]);
}

#[test]
fn what_is_wrong_beneath_is_said_once() {
    let text = format!(
        "{HEAD}defaults: {{ env: {{ A: '${{NOPE}}' }}, egress: {{ mode: open }} }}\n\
         sandboxes: {{ one: {{ image: host }}, two: {{ image: host }}, six: {{ image: host }} }}\n"
    );
    assert_eq!(codes(&[&text]), ["sbx::variable-unset", "sbx::open-egress"]);
}

#[test]
fn null_takes_nothing_away() {
    for (field, value) in [("owner", "eve"), ("networks", "[]"), ("env", "{ A: '1' }"), ("limits", "{ cpus: 1 }")] {
        for null in ["", "~", "null"] {
            let defaults = format!("{HEAD}defaults: {{ {field}: {value} }}\n");
            let sandbox = format!("sandboxes:\n  api:\n    image: host\n    {field}: {null}\n");
            assert_eq!(codes(&[&format!("{defaults}{sandbox}")]), ["sbx::wrong-type"], "{field}");
            assert_eq!(codes(&[&defaults, &sandbox]), ["sbx::wrong-type"], "{field}");
        }
    }
}

#[test]
fn whole_numbers_can_have_a_point() {
    let text = format!(
        "{HEAD}quotas: {{ total: 20.0 }}\n\
         sandboxes:\n  api:\n    image: host\n    replicas: 2.0\n    user: {{ uid: 7.0 }}\n    limits: {{ memory: 8.388608e6, cpus: 2.0 }}\n    \
         env: {{ V: 2.0 }}\n    egress: {{ allow: [{{ host: a.test, ports: [443.0] }}] }}\n"
    );
    let config = config(&[&text]);
    let api = &config.sandboxes["api-2"];
    assert_eq!((config.quotas.total, api.user.uid, api.limits.memory), (20, 7, Some(8 << 20)));
    assert_eq!(api.limits.cpus_milli, Some(2000));
    assert_eq!(api.egress.policy.allow[0].ports, [schema::policy::PortRange::one(443)]);
    assert_eq!(api.env["V"], schema::config::EnvValue::Text("2.0".to_owned()), "taken as it is written");
    let half = format!("{HEAD}sandboxes: {{ api: {{ image: host, replicas: 1.5 }} }}\n");
    assert_eq!(codes(&[&half]), ["sbx::wrong-type"]);
}

#[test]
fn variables_and_parameters_are_filled_in_in_timeouts() {
    let text = format!(
        "{HEAD}allowlists:\n  slow: {{ params: {{ most: string }}, rules: [{{ host: a.test, timeout: \"${{most}}\" }}] }}\n\
         sandboxes:\n  api:\n    image: host\n    egress:\n      allow: [{{ use: slow, most: 20s }}, {{ host: b.test, timeout: \"${{T:-1m}}\" }}]\n"
    );
    let config = config(&[&text]);
    let timeouts: Vec<_> = config.sandboxes["api"].egress.policy.allow.iter().map(|rule| rule.timeout).collect();
    assert_eq!(timeouts, [20, 60].map(|seconds| Some(std::time::Duration::from_secs(seconds))));
}

#[test]
fn what_no_layer_can_complete_is_wrong_in_a_layer() {
    let profile = |fields: &str| format!("{HEAD}profiles: {{ spare: {{ {fields} }} }}\n");
    for fields in ["mounts: [{ target: /x }]", "egress: { allow: [{ ports: [1] }] }", "home: {}", "env: { A: {} }"] {
        assert_eq!(codes(&[&profile(fields)]), ["sbx::missing-field"], "{fields}");
    }
    // A file over others says of a mapping what it changes.
    let image =
        format!("{HEAD}images: {{ app: {{ ref: \"a.test/app:1\" }} }}\nsandboxes: {{ api: {{ image: app }} }}\n");
    assert_eq!(codes(&[&image, "images: { app: { pull: always } }\n"]), Vec::<&str>::new());
    assert_eq!(codes(&[&image, "{}\n"]), Vec::<&str>::new());
}

#[test]
fn layers_lie_in_order() {
    let text = format!(
        "{HEAD}defaults: {{ restart: always, env: {{ A: defaults, B: defaults, C: defaults, D: defaults }} }}\n\
         profiles:\n  low: {{ env: {{ B: low, C: low, D: low }} }}\n  high: {{ extends: low, env: {{ C: high, D: high }} }}\n\
         sandboxes: {{ api: {{ extends: high, image: host, env: {{ D: own }} }} }}\n"
    );
    let config = config(&[&text]);
    let api = &config.sandboxes["api"];
    let values: Vec<String> = api.env.values().map(|value| format!("{value:?}")).collect();
    assert_eq!(values, ["Text(\"defaults\")", "Text(\"low\")", "Text(\"high\")", "Text(\"own\")"]);
    assert_eq!(api.restart, schema::config::Restart::Always);
}

#[test]
fn replicas_are_counted_out_and_blamed_where_they_are_written() {
    let text = format!("{HEAD}sandboxes:\n  api: {{ image: host, replicas: 3 }}\n");
    let config = config(&[&text]);
    let names: Vec<&str> = config.sandboxes.keys().map(schema::Name::as_str).collect();
    assert_eq!(names, ["api-1", "api-2", "api-3"]);
    assert_eq!(config.origins.find("sandboxes.api-3").map(|place| place.line), Some(4));
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = config(&[&format!("{HEAD}sandboxes: {{ api: {{ image: host }} }}\n")]);
    let api = &config.sandboxes["api"];
    assert_eq!((config.quotas.per_owner, config.quotas.total), (5, 7));
    assert_eq!((api.limits.cpus_milli, api.limits.memory, api.limits.pids), (Some(2000), Some(4 << 30), Some(2048)));
    assert_eq!((api.owner.as_str(), api.user.name.as_str(), api.user.uid), ("alice", "alice", 1000));
    assert_eq!(api.egress, Egress::default());
    assert!(api.egress.mode == EgressMode::Allowlist && api.egress.policy.is_empty());
    assert!(api.security.no_new_privileges);
    assert_eq!(api.security.cap_drop, ["ALL"]);
    assert_eq!(api.workdir, std::path::Path::new("/home/alice"));
    assert!(config.images.contains_key("host"), "the built-in image is there when it is used");
}

#[test]
fn nothing_open_comes_of_a_mode_that_does_not_exist() {
    for mode in ["Allowlist", "Open", "OPEN", "", "all", "opne"] {
        let text = format!("{HEAD}sandboxes: {{ api: {{ image: host, egress: {{ mode: \"{mode}\" }} }} }}\n");
        assert!(read(&[&text]).config.is_none(), "{mode}");
    }
}

/// The codes that are wrong in `egress` of a sandbox over these layers, beside the warning of an open one.
fn in_layers(defaults: &str, profile: &str, own: &str) -> Vec<&'static str> {
    let text = format!(
        "{HEAD}allowlists: {{ names: [{{ host: a.example }}] }}\ndefaults: {{ {defaults} }}\nprofiles: {{ one: {{ {profile} }} }}\n\
         sandboxes:\n  api: {{ image: host, extends: one, {own} }}\n  web: {{ image: host, egress: {{ mode: allowlist, allow: [names] }} }}\n"
    );
    codes(&[&text]).into_iter().filter(|code| *code != "sbx::open-egress").collect()
}

#[test]
fn a_mode_takes_away_what_is_beneath_it_and_nothing_that_is_above() {
    let names = "egress: { allow: [names] }";
    for mode in ["none", "open"] {
        let mode = format!("egress: {{ mode: {mode} }}");
        let both = mode.replace("mode", "deny: [names], mode");
        for fine in [(names, "", &*mode), (names, &*mode, ""), ("", names, &*mode), (&*mode, "", "")] {
            assert_eq!(in_layers(fine.0, fine.1, fine.2), Vec::<&str>::new(), "{fine:?}");
        }
        let ignored =
            [(&*mode, "", names), (&*mode, names, ""), ("", &*mode, names), ("", "", &*both), (names, &*both, "")];
        for wrong in ignored {
            assert_eq!(in_layers(wrong.0, wrong.1, wrong.2), ["sbx::unenforceable"], "{wrong:?}");
        }
        // Whatever is said above it counts again with another mode.
        let back = "egress: { mode: allowlist, allow: [names] }";
        for fine in [(&*mode, "", back), (&*mode, back, ""), (&*mode, names, "egress: { mode: allowlist }")] {
            assert_eq!(in_layers(fine.0, fine.1, fine.2), Vec::<&str>::new(), "{fine:?}");
        }
    }
    // Of files that make up one layer the later ones are above.
    let file = |egress: &str| format!("sandboxes: {{ api: {{ egress: {egress} }} }}\n");
    let head = format!("{HEAD}sandboxes: {{ api: {{ image: host }} }}\n");
    let rule = "{ allow: [{ host: a.example }] }";
    assert_eq!(codes(&[&head, &file(rule), &file("{ mode: none }")]), Vec::<&str>::new());
    assert_eq!(codes(&[&head, &file("{ mode: none }"), &file(rule)]), ["sbx::unenforceable"]);
}

#[test]
fn modes_without_a_policy_have_none() {
    let text = format!(
        "{HEAD}defaults: {{ image: host, egress: {{ allow: [{{ host: a.example }}], upstream: {{ netns: /n }}, transport: socket }} }}\n\
         sandboxes: {{ one: {{}}, two: {{ egress: {{ mode: none }} }}, six: {{ egress: {{ mode: open }} }} }}\n"
    );
    let config = config(&[&text]);
    let [one, two, six] = ["one", "two", "six"].map(|name| &config.sandboxes[name].egress);
    assert!(one.policy.allow.len() == 1 && one.transport == schema::config::Transport::Socket);
    for (egress, mode) in [(two, EgressMode::None), (six, EgressMode::Open)] {
        assert_eq!(*egress, Egress { mode, ..Egress::default() });
    }
}

#[test]
fn allowlists_that_multiply_end() {
    let mut lists = String::from("  l0x: { params: { at: string }, rules: [{ host: \"h${at}.example\" }] }\n");
    for level in 1..40 {
        let uses = ["a", "b", "c"].map(|more| format!("{{ use: l{}x, at: \"${{at}}{more}\" }}", level - 1));
        writeln!(lists, "  l{level}x: {{ params: {{ at: string }}, rules: [{}] }}", uses.join(", "))
            .expect("a String takes everything");
    }
    let text = format!(
        "{HEAD}allowlists:\n{lists}sandboxes: {{ api: {{ image: host, egress: {{ allow: [{{ use: l39x, at: x }}], deny: [{{ use: l38x, at: x }}] }} }} }}\n"
    );
    let start = std::time::Instant::now();
    let found = codes(&[&text]);
    assert!(!found.is_empty() && found.iter().all(|code| *code == "sbx::allowlist-cycle"), "{found:?}");
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    let chain: Vec<String> = (0..5000).map(|n| format!("  l{n}x: [l{}x]\n", n + 1)).collect();
    let chain = chain.concat();
    let text = format!(
        "{HEAD}allowlists:\n{chain}  l5000x: []\nsandboxes: {{ api: {{ image: host, egress: {{ allow: [l0x] }} }} }}\n"
    );
    assert!(codes(&[&text]).contains(&"sbx::allowlist-cycle"));
}

#[test]
fn chains_that_are_too_long_are_told_in_whatever_order_they_are_written() {
    let lists = |length: usize, deepest_first: bool| {
        let chain = (1..length).map(|n| format!("  l{n}x: [l{}x]\n", n + 1));
        let mut lines: Vec<String> = chain.chain([format!("  l{length}x: [{{ host: a.example }}]\n")]).collect();
        if deepest_first {
            lines.reverse();
        }
        format!(
            "{HEAD}allowlists:\n{}sandboxes: {{ api: {{ image: host, egress: {{ allow: [l1x] }} }} }}\n",
            lines.concat()
        )
    };
    let profiles = |length: usize, deepest_first: bool| {
        let chain = (1..length).map(|n| format!("  p{n}x: {{ extends: p{}x }}\n", n + 1));
        let mut lines: Vec<String> = chain.chain([format!("  p{length}x: {{ workdir: /deepest }}\n")]).collect();
        if deepest_first {
            lines.reverse();
        }
        format!("{HEAD}profiles:\n{}sandboxes: {{ api: {{ image: host, extends: p1x }} }}\n", lines.concat())
    };
    for deepest_first in [false, true] {
        assert_eq!(codes(&[&lists(65, deepest_first)]), ["sbx::allowlist-cycle"], "{deepest_first}");
        assert_eq!(config(&[&lists(64, deepest_first)]).sandboxes["api"].egress.policy.allow.len(), 1);
        assert_eq!(codes(&[&profiles(65, deepest_first)]), ["sbx::extends-cycle"], "{deepest_first}");
        let deepest = &config(&[&profiles(64, deepest_first)]).sandboxes["api"];
        assert_eq!(deepest.workdir, std::path::Path::new("/deepest"));
    }
}

#[test]
fn many_rules_and_many_users_of_them_load_quickly() {
    let mut rules = String::new();
    for n in 0..10_000 {
        writeln!(rules, "    - {{ host: \"h{n}.example\", methods: [GET], paths: [\"/a/**\"] }}")
            .expect("a String takes everything");
    }
    let text = format!(
        "{HEAD}allowlists:\n  many:\n{rules}sandboxes: {{ api: {{ image: host, egress: {{ allow: [many] }} }} }}\n"
    );
    let start = std::time::Instant::now();
    assert_eq!(config(&[&text, &text]).sandboxes["api"].egress.policy.allow.len(), 10_000);
    // Takes about a second unoptimized; comparing every rule of one file with every one of the other takes minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn every_way_to_an_engine_socket_is_refused() {
    let ways = [
        "/",
        "/run",
        "/run/",
        "//run//podman",
        "/run/podman/podman.sock",
        "/var/run",
        "/var",
        "/var/run/docker.sock",
        "/usr/../var/run/docker.sock",
        "/run/user/1000",
        "/run/user",
        "/srv/engines",
        "/srv",
        "/proc/self/root",
        "${XDG_RUNTIME_DIR}/podman/podman.sock",
        "../../run",
        "/home/../run/containerd",
    ];
    for way in ways {
        for field in [
            format!("mounts: [{{ source: '{way}', target: /x }}]"),
            format!("home: {{ workspace: '{way}' }}"),
            format!("overlay: '{way}'"),
            format!("worktrees: [{{ repo: https://example.org/a.git, branch: main, path: '{way}' }}]"),
        ] {
            let text = format!("{HEAD}sandboxes: {{ api: {{ image: host, {field} }} }}\n");
            assert!(codes(&[&text]).contains(&"sbx::engine-socket"), "{field}");
        }
    }
    for fine in ["/srv/data", "/run/lock", "/var/lib/acme", "./run", "/runner"] {
        let text =
            format!("{HEAD}sandboxes: {{ api: {{ image: host, mounts: [{{ source: {fine}, target: /x }}] }} }}\n");
        assert_eq!(codes(&[&text]), Vec::<&str>::new(), "{fine}");
    }
}

#[test]
fn cyclic_and_long_chains_end() {
    let chain: Vec<String> = (0..5000).map(|n| format!("  p{n}x: {{ extends: p{}x }}\n", n + 1)).collect();
    let chain = chain.concat();
    let text =
        format!("{HEAD}profiles:\n{chain}  p5000x: {{}}\nsandboxes: {{ api: {{ image: host, extends: p0x }} }}\n");
    assert!(codes(&[&text]).contains(&"sbx::extends-cycle"));
    let images: Vec<String> =
        (0..5000).map(|n| format!("  i{n}x: {{ from: i{}x, setup: {{ run: [a] }} }}\n", n + 1)).collect();
    let images = images.concat();
    let text = format!("{HEAD}images:\n{images}  i5000x: {{ archive: ./a }}\nsandboxes: {{ api: {{ image: i0x }} }}\n");
    assert_eq!(codes(&[&text]), Vec::<&str>::new());
}

#[test]
fn a_fleet_on_one_line_takes_no_longer_than_on_many() {
    let entries: Vec<String> =
        (0..10_000).map(|n| format!("\"box-{n}\": {{\"image\": \"host\", \"command\": [\"é\"]}}")).collect();
    let text =
        format!("{{\"apiVersion\": \"sbx/v1\", \"project\": \"acme\", \"sandboxes\": {{{}}}}}", entries.join(", "));
    let start = std::time::Instant::now();
    let config = config(&[&text]);
    assert_eq!(config.sandboxes.len(), 10_000);
    // Takes about a second unoptimized; counting each place from the start of the line would take minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn any_one_mistake_is_reported_at_its_place_and_never_panics() {
    let texts =
        [include_str!("../../fixtures/valid/everything.yaml"), include_str!("../../fixtures/valid/egress.yaml")];
    texts.into_iter().for_each(every_mistake);
}

fn every_mistake(text: &str) {
    let wrong = ["", "[1]", "~", "{a: b}", "-1", "1e999", "\"\\0\"", "\"\\u202e\"", "\"${\"", "../../..", "~x", "yes"];
    for (index, line) in text.lines().enumerate() {
        let Some((key, _)) = line.split_once(": ") else { continue };
        for value in wrong {
            let changed: Vec<&str> = text.lines().collect();
            let line = format!("{key}: {value}");
            let changed = [&changed[..index], &[line.as_str()], &changed[index + 1..]].concat().join("\n");
            let loaded = read(&[&changed]);
            let errors = loaded.diagnostics.iter().any(|problem| problem.severity == schema::Severity::Error);
            assert_eq!(loaded.config.is_none(), errors, "{line}");
            for problem in &loaded.diagnostics {
                let span = problem.span.expect("a place");
                assert!(changed.get(span.start..span.end).is_some(), "{line}: {problem:?}");
            }
        }
    }
}

/// Lists that are used by many ways are there once: their number doubles with each level otherwise.
#[test]
fn a_list_that_is_used_by_many_ways_is_there_once() {
    let mut text = String::from(
        "apiVersion: sbx/v1\nproject: acme\nallowlists:\n  one-0: [{ host: a.test }, { host: b.test }]\n  two-0: [{ host: c.test }]\n",
    );
    for level in 1..20 {
        let below = level - 1;
        text.push_str(&format!(
            "  one-{level}: [one-{below}, two-{below}, one-{below}]\n  two-{level}: [two-{below}, one-{below}]\n"
        ));
    }
    text.push_str("sandboxes:\n  api: { image: host, egress: { allow: [one-19, two-19] } }\n");
    let config = config(&[&text]);
    let hosts: Vec<String> =
        config.sandboxes["api"].egress.policy.allow.iter().map(|rule| rule.host.to_string()).collect();
    assert_eq!(hosts, ["a.test", "b.test", "c.test"]);
}
