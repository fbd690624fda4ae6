//! `load` on whole documents.

use schema::{Caller, Loaded, Source, load};

fn caller() -> Caller {
    Caller {
        env: [("USER", "alice"), ("HOME", "/home/alice"), ("XDG_RUNTIME_DIR", "/run/user/1000")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        data_dir: "/home/alice/.local/share/sbx".into(),
        engine_sockets: vec!["/srv/engines/podman.sock".into()],
    }
}

fn read(texts: &[&str]) -> Loaded {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Source {
            name: format!("{index}.yaml"),
            directory: format!("/work/{index}").into(),
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
