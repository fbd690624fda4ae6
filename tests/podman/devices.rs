//! Devices by their CDI names, and the groups that open them.

use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::wait::wait_for;

/// A device that engines do not give to everybody, and that is open to the engine's user in here.
const NODE: &str = "/dev/fuse";

/// Has the host offer `acme.test/dev=one`: a node, a variable, and no hook.
fn offer(engine: &Engine) {
    let dir = engine.dir().join("run/cdi");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        r#"{{"cdiVersion":"0.3.0","kind":"acme.test/dev","devices":[{{"name":"one","containerEdits":
            {{"env":["ACME_DEVICE=one"],"deviceNodes":[{{"path":"{NODE}"}}]}}}}]}}"#
    );
    std::fs::write(dir.join("acme.json"), text).unwrap();
}

on_every_engine! {
    /// What a CDI specification says is in the sandbox that names the device and in no other; a name nobody offers is an
    /// error at its line.
    fn by_cdi_name(engine) {
        offer(engine);
        let file = |name: &str| engine.configure(&format!(
            "sandboxes:\n\x20 dev: {{ image: host, devices: ['acme.test/dev={name}'] }}\n\x20 other: {{ image: host }}"
        ));
        file("two");
        let refused = engine.try_apply(&[]).expect_code(65);
        for part in ["sandboxes.yaml:4:", "acme.test/dev=two", "CDI"] {
            assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
        }
        assert!(engine.containers().is_empty());
        file("one");
        engine.converge();
        // The variable is the main process's: engines do not give it to what is run beside it.
        let script = format!("tr '\\0' '\\n' < /proc/1/environ | grep ACME; [ -c {NODE} ] && echo there; true");
        assert_eq!(engine.shell("dev", &script), "ACME_DEVICE=one\nthere");
        assert_eq!(engine.shell("other", &script), "");
    }
}

/// Nodes of a desktop belong to groups of the user. A sandbox with a device keeps them, where the runtime can (crun); one
/// without has the user's own group only.
#[test]
fn groups_are_kept_with_devices() {
    const GROUP: u32 = 12_345;
    let engine = Engine::without_service(Kind::Rootless5);
    let conf = engine.dir().join("etc/containers.conf");
    let text = std::fs::read_to_string(&conf).unwrap().replace("runtime = \"runc\"", "runtime = \"crun\"");
    std::fs::write(&conf, text).unwrap();
    // It will have nothing of control groups of both versions at once, whose second this user has no part in anyhow.
    engine.as_root("sh").args(["-c", "! [ -d /sys/fs/cgroup/unified ] || umount -l /sys/fs/cgroup/unified"]).ok();
    // The groups kept are those of whoever runs the engine.
    let uid = engine.uid().to_string();
    let groups = format!("{uid},{GROUP}");
    let service = engine
        .as_root("setpriv")
        .env("USER", "sbx-tester")
        .env("LOGNAME", "sbx-tester")
        .args(["--reuid", &uid, "--regid", &uid, "--groups", &groups, "podman", "system", "service", "--time", "0"])
        .arg(engine.url())
        .start();
    wait_for("the API service", Duration::from_secs(20), || engine.answers().then_some(()));

    engine.write("shared/file", "for the group");
    engine.as_root("chown").args([&format!("0:{GROUP}"), "shared/file"]).ok();
    engine.as_root("chmod").args(["040", "shared/file"]).ok();
    engine.configure(&format!(
        "defaults: {{ image: host, mounts: [{{ source: ./shared, target: /srv/shared }}] }}\n\
         sandboxes:\n\x20 dev: {{ devices: [{NODE}] }}\n\x20 other: {{}}"
    ));
    engine.converge();
    assert_eq!(engine.inside("dev", &["cat", "/srv/shared/file"]), "for the group");
    assert_ne!(engine.sbx(&["exec", "other", "--", "cat", "/srv/shared/file"]).run().code, 0);
    drop(service);
}
