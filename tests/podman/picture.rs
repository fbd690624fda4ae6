//! The picture of a plan in README: what `sbx plan` really shows, of sandboxes that are there. `UPDATE=1` draws it anew.

use std::path::Path;

use crate::engine::{Engine, Kind};

/// What is there.
const BEFORE: &str = "\
apiVersion: sbx/v1
project: acme
networks: { backend: {}, front: {} }
defaults: { image: host, command: [sleep, infinity] }
sandboxes:
  api:
    env: { LOG_LEVEL: info }
    networks: [backend]
  web:
    limits: { memory: 2GiB }
    networks: [backend]
  store:
    limits: { pids: 2048 }
    networks: [backend]
";

/// What is wanted.
const AFTER: &str = "\
apiVersion: sbx/v1
project: acme
networks: { backend: {}, front: {} }
volumes: { cache: {} }
defaults: { image: host, command: [sleep, infinity] }
sandboxes:
  api:
    env: { LOG_LEVEL: debug }
    networks: [backend]
  web:
    limits: { memory: 4GiB }
    networks: [backend, front]
  store:
    limits: { pids: 2048 }
    networks: [backend]
  worker:
    env: { NODE_ENV: production }
    mounts: [{ source: /usr/share, target: /srv/models, mode: ro }, { volume: cache, target: /cache, mode: rw }]
    egress: { allow: [{ host: api.example.com, ports: [443] }] }
";

/// A dark terminal of today in place of one of 1987, whose dark red nobody can read on black.
const COLOURS: [(&str, &str); 7] = [
    (".fg { fill: #AAAAAA }", ".fg { fill: #d0d7de }"),
    (".bg { fill: #000000 }", ".bg { fill: #161b22 }"),
    (".fg-green { fill: #00AA00 }", ".fg-green { fill: #3fb950 }"),
    (".fg-magenta { fill: #AA00AA }", ".fg-magenta { fill: #d2a8ff }"),
    (".fg-red { fill: #AA0000 }", ".fg-red { fill: #ff7b72 }"),
    (".fg-yellow { fill: #AA5500 }", ".fg-yellow { fill: #e3b341 }"),
    (".dimmed { opacity: 0.4; }", ".dimmed { fill: #8b949e }"),
];

#[test]
fn the_picture_is_what_a_plan_shows() {
    let engine = Engine::start(Kind::Rootful5);
    engine.write("sandboxes.yaml", BEFORE);
    engine.apply();
    engine.podman(&["update", "--pids-limit", "64", "acme_store"]);
    engine.shell("api", "for n in 1 2 3 4 5 6 7 8 9 10 11; do head -c 300000 /dev/zero >/var/tmp/$n; done");
    engine.write("sandboxes.yaml", AFTER);
    let shown = engine.sbx(&["plan", "--color", "always"]).env_remove("NO_COLOR").env("COLUMNS", "80").ok();
    // A newer engine is no reason for another picture.
    let shown = shown.replace(&engine.podman(&["version", "--format", "{{.Client.Version}}"]), "5.4.2");

    let mut picture = anstyle_svg::Term::new().render_svg(&format!("$ sbx plan\n{shown}\n"));
    for (drawn, wanted) in COLOURS {
        assert!(picture.contains(drawn), "{drawn}");
        picture = picture.replace(drawn, wanted);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/picture.svg");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &picture).expect("docs/ can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == picture,
        "docs/picture.svg is not what a plan shows by now: run the test with `UPDATE=1`\n{shown}"
    );
}
