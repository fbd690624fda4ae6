//! Images that are set up under an allowlist of their own.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::egress::{FAR, daemon};
use crate::engine::Engine;
use crate::on_every_engine;

const WEB: u16 = 7005;

/// Says what an HTTP server says to everybody; how many there were.
fn web(engine: &Engine) -> Arc<AtomicUsize> {
    let listener = engine.listen_outside(FAR, WEB);
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nweb\n");
        }
    });
    count
}

/// An image in which `command` is run, which may reach `names`.
fn configuration(local: &str, names: &str, command: &str) -> String {
    format!(
        "images:\n  local: {{ ref: {local}, pull: never }}\n  tooled:\n    from: local\n    setup:\n      \
         run: [{}]\n      egress:\n        allow: [{names}]\n        \
         hosts: {{ web.test: [{FAR}], other.test: [{FAR}] }}\n\
         sandboxes:\n  dev: {{ image: tooled, home: {{ tmpfs: 8MiB }} }}\n",
        serde_json::json!(command)
    )
}

on_every_engine! {
    /// What the set-up may reach is what it names, and the image is that of its inputs.
    fn an_allowlist_of_its_own(engine) {
        let far = web(engine);
        let local = engine.import_busybox();
        let allowed = format!("{{ host: web.test, ports: [{WEB}], protocol: tcp }}");
        // Whoever it is asked of, and whatever it is told: programs that look names up by themselves, without libraries.
        let fetch = |name: &str| {
            format!(
                "nslookup {name} >/answer 2>&1 || {{ cat /answer; exit 1; }}; \
                 nc $(sed -n -E 's/^Address:[^0-9]*([0-9.]+)$/\\1/p' /answer | head -n 1) {WEB} </dev/null >/fetched"
            )
        };
        engine.configure(&configuration(local, &allowed, &fetch("other.test")));
        let refused = engine.try_apply(&[]);
        assert_ne!(refused.code, 0, "{refused:?}");
        let told = refused.told();
        assert!(told.contains("setup.egress.allow") && told.contains("other.test"), "{told}");
        assert_eq!(far.load(Ordering::SeqCst), 0, "nothing arrived");
        let denied = engine.sbx(&["egress", "log", "--denied"]).ok();
        assert!(denied.contains("other.test"), "{denied}\n{told}");
        assert!(engine.containers().is_empty(), "no builder is left: {:?}", engine.containers());

        engine.configure(&configuration(local, &allowed, &fetch("web.test")));
        engine.converge();
        assert!(engine.shell("dev", "cat /fetched").ends_with("web"));
        assert_eq!(far.load(Ordering::SeqCst), 1);
        let volumes = engine.get("/volumes/json").to_string();
        assert!(!volumes.contains("builder"), "what it was held to is gone: {volumes}");
        assert_eq!(daemon(engine)["sandboxes"], serde_json::json!([]), "nobody is served any more");
        // The sandbox itself may reach nothing.
        assert_ne!(engine.sbx(&["exec", "-T", "dev", "--", "sh", "-c", "nslookup web.test"]).run().code, 0);
        assert_eq!(far.load(Ordering::SeqCst), 1);

        // Another list is another image.
        let wider = format!("{allowed}, {{ host: other.test, ports: [{WEB}], protocol: tcp }}");
        engine.configure(&configuration(local, &wider, &fetch("web.test")));
        assert!(engine.planned().contains(&"create image/tooled".to_owned()), "{:?}", engine.planned());
    }
}
