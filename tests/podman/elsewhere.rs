//! A project on two engines of one host.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::wait::wait_for;

/// Its certificate authority is that of its sandboxes on both, whoever of them is remembered where somebody destroys it.
#[test]
fn a_destroy_keeps_what_sandboxes_on_another_engine_use() {
    let engine = Engine::start(Kind::Rootful4);
    let place = |name: &str| engine.dir().join("storage/other").join(name).display().to_string();
    let socket = engine.project().join("other.sock");
    let url = format!("unix://{}", socket.display());
    let (root, run, tmp) = (place("root"), place("run"), place("tmp"));
    let service = ["--root", &root, "--runroot", &run, "--tmpdir", &tmp, "system", "service", "--time", "0", &url];
    let _service = engine.podman_command(&service).start();
    wait_for("the other engine", Duration::from_secs(20), || UnixStream::connect(&socket).ok());
    // With a memory of its own, as another caller has one.
    let there = |args: &[&str]| {
        engine.sbx(args).args(["--engine-url", &url, "--state-dir", "elsewhere"]).run().expect_code(0);
    };

    engine.configure("sandboxes: { dev: { image: host, egress: { allow: [{ host: a.test }] } } }");
    engine.converge();
    let authority = engine.home().join(".local/share/sbx/authority/demo.pem");
    let destroy = ["destroy", "--auto-approve"];
    there(&destroy);
    assert!(authority.exists(), "it was never there");
    there(&["apply", "--auto-approve"]);
    there(&destroy);
    assert!(authority.exists(), "the daemon of the other engine serves it");
    engine.sbx(&destroy).run().expect_code(0);
    assert!(!authority.exists(), "nobody needs it any more");
}
