//! Somebody who calls, the same on every host.

use schema::Caller;

/// Alice, with an engine that listens at an unusual place too.
pub fn caller() -> Caller {
    Caller {
        env: [("USER", "alice"), ("HOME", "/home/alice"), ("XDG_RUNTIME_DIR", "/run/user/1000")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        today: jiff::civil::date(2027, 6, 1),
        data_dir: "/home/alice/.local/share/sbx".into(),
        engine_sockets: vec!["/srv/engines/podman.sock".into()],
    }
}
