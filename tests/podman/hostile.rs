//! Names, paths and images that mean harm.

use crate::engine::{Engine, Kind};
use crate::on_every_engine;

/// Names that look like others, break lines, options or directories: refused where they are written, nothing is made.
#[test]
fn names() {
    let engine = Engine::start(Kind::Rootless4);
    let long = "a".repeat(300);
    for name in
        ["d\u{435}v", "dev\\nweb", "-dev", "../dev", "..", "dev/../../x", "Dev", "dev_web", "", "dev\\u0000", &long]
    {
        for body in [
            format!("sandboxes: {{ \"{name}\": {{ image: host }} }}"),
            format!("volumes: {{ \"{name}\": {{}} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
            format!("networks: {{ \"{name}\": {{}} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
        ] {
            engine.configure(&body);
            let refused = engine.sbx(&["validate"]).run().expect_code(65);
            assert!(
                refused.stderr.contains("sandboxes.yaml:3:") || refused.stdout.contains("sandboxes.yaml:3:"),
                "{body}: {}",
                refused.stderr
            );
            assert!(!refused.stderr.contains(&long), "a long name is cut");
            engine.try_apply(&[]).expect_code(65);
        }
    }
    assert!(engine.containers().is_empty());
    engine.write("sandboxes.yaml", "apiVersion: sbx/v1\nproject: ../other\nsandboxes: { dev: { image: host } }\n");
    engine.try_apply(&[]).expect_code(65);
    engine.configure("sandboxes: { dev: { image: host } }");
    engine.sbx(&["validate"]).run().expect_code(0);
}

on_every_engine! {
    /// Spaces, quotes, commas, newlines and what looks like options, in sources and in targets.
    fn paths(engine) {
        let odd = "a 'b' \"c\",ro=true:rw $(touch pwned) -v";
        engine.write(format!("{odd}/file"), "found");
        engine.write(format!("overlay/etc/{odd}"), "overlaid");
        // A line break hides the rest of a path from whoever reads a plan or a log.
        engine.configure("sandboxes: { dev: { image: host, mounts: [{ source: \"./a\\nb\" }] } }");
        let refused = engine.try_apply(&[]).expect_code(65);
        assert!(refused.told().contains("sandboxes.yaml:3:"), "{}", refused.stderr);
        let quoted = serde_json::to_string(odd).unwrap();
        let target = serde_json::to_string(&format!("/srv/{odd}")).unwrap();
        engine.configure(&format!(
            "sandboxes: {{ dev: {{ image: host, home: {{ tmpfs: 8MiB }}, overlay: ./overlay, env: {{ ODD: {quoted} }},\n\
             \x20 mounts: [{{ source: {}, target: {target}, mode: rw }}] }} }}",
            serde_json::to_string(&format!("./{odd}")).unwrap(),
        ));
        engine.converge();
        assert_eq!(engine.shell("dev", "cat \"/srv/$ODD/file\" \"/etc/$ODD\" && echo more > \"/srv/$ODD/new\""), "foundoverlaid");
        assert_eq!(std::fs::read_to_string(engine.project().join(odd).join("new")).unwrap(), "more\n");
        assert!(!engine.project().join("pwned").exists());
        engine.inside("dev", &["sh", "-c", "[ ! -e /pwned ] && [ ! -e ~/pwned ]"]);
    }

    /// An image that carries our labels: what others start from it is theirs, what we start from it is ours.
    fn an_image_with_our_labels(engine) {
        let tar = engine.rootfs_tar("evil.tar");
        let labels = ["project=demo", "kind=container", "name=dev", "uid=0123456789abcdef", "spec-hash=sha256:00", "spec={}"];
        let changes: Vec<String> = labels.iter().map(|label| format!("--change=LABEL sbx.{label}")).collect();
        let mut line = vec!["import", "--quiet"];
        line.extend(changes.iter().map(String::as_str));
        let path = tar.to_string_lossy();
        line.extend([path.as_ref(), "localhost/evil:1"]);
        engine.podman(&line);
        engine.podman(&["run", "--detach", "--name", "theirs", "--network", "none", "localhost/evil:1", "sleep", "1000"]);
        engine.podman(&["create", "--name", "demo_web", "--network", "none", "localhost/evil:1", "true"]);
        let theirs = || engine.state().into_iter().filter(|(key, _)| key.ends_with("theirs") || key.ends_with("demo_web")).collect::<Vec<_>>();
        let before = theirs();
        assert_eq!(before.len(), 2);

        engine.configure("images: { evil: { ref: 'localhost/evil:1', pull: never } }\nsandboxes: { dev: { image: evil, home: { tmpfs: 8MiB } } }");
        engine.converge();
        assert_eq!(engine.inside("dev", &["echo", "mine"]), "mine");
        engine.configure("images: { evil: { ref: 'localhost/evil:1', pull: never } }\nsandboxes: { dev: { image: evil, home: { tmpfs: 8MiB }, env: { A: '1' } } }");
        engine.converge();
        assert_eq!(theirs(), before);
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!(engine.containers().keys().collect::<Vec<_>>(), ["demo_web", "theirs"]);
        assert_eq!(theirs(), before);
    }
}
