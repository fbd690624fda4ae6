//! Images from a registry. It is served by the test, over plain HTTP, on the loopback interface of the engine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::{Engine, Kind};
use crate::image::BUSYBOX;
use crate::invocation::Finished;
use crate::project::text;

const ADDRESS: &str = "127.0.0.1:5000";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Of what stands here every manifest is told, and no content ever comes.
const STALLED: &str = "/v2/stalled/";

/// A registry to read from. It serves until the test process ends, and is of no use once the engine is gone.
struct Registry {
    blobs: PathBuf,
    /// `tiny/manifests/1` and the digest it stands for.
    tags: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Registry {
    /// Serves nothing yet. The engine learns that it speaks plain HTTP, so its service must not have been started.
    fn serve(engine: &Engine) -> Self {
        trust(engine);
        let registry = Self { blobs: engine.dir().join("blobs"), tags: Arc::default() };
        fs::create_dir(&registry.blobs).unwrap();
        let (blobs, tags) = (registry.blobs.clone(), Arc::clone(&registry.tags));
        let listener = listen(engine, ADDRESS);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (blobs, tags) = (blobs.clone(), Arc::clone(&tags));
                // Whoever hangs up early is not our concern.
                std::thread::spawn(move || answer(&stream, &blobs, &tags.lock().unwrap().clone()));
            }
        });
        registry
    }

    /// Has `tiny:1` stand for a new image that says `said` in `/said`. Nothing of it stays in the engine's storage.
    #[track_caller]
    fn publish(&self, engine: &Engine, said: &str) -> String {
        let root = engine.rootfs(&format!("root-{said}"));
        fs::write(root.join("said"), said).unwrap();
        let (tar, dir) = (engine.dir().join(format!("{said}.tar")), engine.dir().join(format!("{said}.oci")));
        engine.as_root("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").ok();
        engine.podman(&["import", "--quiet", &tar.to_string_lossy(), BUSYBOX]);
        engine.podman(&["save", "--quiet", "--format", "oci-dir", "--output", &dir.to_string_lossy(), BUSYBOX]);
        engine.podman(&["rmi", BUSYBOX]);
        for blob in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::copy(blob.path(), self.blobs.join(blob.file_name())).unwrap();
        }
        let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
        let digest = text(&index["manifests"][0]["digest"]).to_owned();
        self.tags.lock().unwrap().insert("tiny/manifests/1".to_owned(), digest.clone());
        digest
    }
}

/// Has the engine speak plain HTTP to everything on its loopback interface.
fn trust(engine: &Engine) {
    let dir = engine.home().join(".config/containers/registries.conf.d");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("loopback.conf"), "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n").unwrap();
}

/// Listens on the engine's side: a socket belongs to the network it was made in.
fn listen(engine: &Engine, address: &str) -> TcpListener {
    engine.namespaces().within_network(|| TcpListener::bind(address)).expect("the address is free")
}

fn answer(mut stream: &TcpStream, blobs: &Path, tags: &BTreeMap<String, String>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if path.starts_with(STALLED) && path.contains("/blobs/") {
        loop {
            std::thread::park();
        }
    }
    let found = path.strip_prefix("/v2/").and_then(|path| {
        if path.is_empty() {
            return Some((String::new(), "application/json", b"{}".to_vec()));
        }
        let form = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
        let digest = tags.get(path).map_or_else(|| path.rsplit('/').next().unwrap_or_default(), String::as_str);
        let content = fs::read(blobs.join(digest.strip_prefix("sha256:")?)).ok()?;
        Some((digest.to_owned(), form, content))
    });
    let unknown = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let (digest, form, content) = found.unwrap_or_else(|| (String::new(), "application/json", unknown.to_vec()));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {form}\r\nContent-Length: {}\r\n", content.len())?;
    write!(stream, "Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n")?;
    if !digest.is_empty() {
        write!(stream, "Docker-Content-Digest: {digest}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(&content) }
}

fn configure(engine: &Engine, reference: &str, pull: &str) {
    engine.configure(&format!(
        "images: {{ far: {{ ref: '{reference}', pull: {pull} }} }}\nsandboxes: {{ dev: {{ image: far }} }}"
    ));
}

/// Pulled, pinned, moved: what runs is what the configuration and the lockfile say.
fn pulls_and_pins(kind: Kind) {
    let engine = Engine::without_service(kind);
    let registry = Registry::serve(&engine);
    let first = registry.publish(&engine, "first");
    engine.start_service();
    let reference = format!("{ADDRESS}/tiny:1");

    // Not there, and not to be fetched.
    configure(&engine, &reference, "never");
    assert_eq!(engine.planned_for("image/far")["action"], "forbidden");
    let forbidden = engine.try_apply(&[]).expect_code(73);
    for part in ["image/far", "sandboxes.yaml:3:", &reference, "never"] {
        assert!(forbidden.told().contains(part), "{part}: {}", forbidden.stderr);
    }

    configure(&engine, &reference, "missing");
    engine.converge();
    assert_eq!(engine.shell("dev", "cat /said"), "first");

    // Nothing is pinned yet.
    let unpinned = engine.try_apply(&["--locked"]).expect_code(73);
    for part in ["sbx lock", "sandboxes.yaml:3:", &reference] {
        assert!(unpinned.told().contains(part), "{part}: {}", unpinned.stderr);
    }
    let id = engine.id("dev");
    engine.sbx(&["lock"]).run().expect_code(0);
    let lock = fs::read_to_string(engine.project().join("sandboxes.lock")).unwrap();
    assert!(lock.contains(&reference) && lock.contains(&first), "{lock}");
    // It pins what is there: nothing to do.
    engine.sbx(&["plan", "--locked", "--detailed-exitcode"]).run().expect_code(0);
    engine.try_apply(&["--locked"]).expect_code(0);
    engine.sbx(&["plan", "--locked", "--detailed-exitcode"]).run().expect_code(0);

    // The tag moves. A lockfile does not follow, and neither does `missing`.
    let second = registry.publish(&engine, "second");
    assert_ne!(first, second);
    configure(&engine, &reference, "always");
    engine.try_apply(&["--locked"]).expect_code(0);
    assert_eq!(engine.id("dev"), id);
    fs::remove_file(engine.project().join("sandboxes.lock")).unwrap();
    configure(&engine, &reference, "missing");
    engine.converge();
    assert_eq!(engine.shell("dev", "cat /said"), "first");

    // `always` does, and says why.
    configure(&engine, &reference, "always");
    let moved = engine.apply();
    let said = format!("{}{}", moved.stdout, moved.stderr);
    assert!(said.contains("-/+ container/dev") && said.contains("image: digest moved"), "{said}");
    assert_eq!(engine.shell("dev", "cat /said"), "second");
    engine.expect_nothing_to_do();
    engine.sbx(&["lock"]).run().expect_code(0);
    let lock = fs::read_to_string(engine.project().join("sandboxes.lock")).unwrap();
    assert!(lock.contains(&second) && !lock.contains(&first), "{lock}");

    // Commands run in an image whose tag moves are run again; that the tag was asked about is not enough.
    let set_up = || {
        engine.configure(&format!(
            "images: {{ far: {{ ref: '{reference}', pull: always }}, tooled: {{ from: far, setup: {{ run: ['cp /said /heard'] }} }} }}\n\
             sandboxes: {{ dev: {{ image: tooled }} }}"
        ));
    };
    fs::remove_file(engine.project().join("sandboxes.lock")).unwrap();
    engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
    engine.podman(&["rmi", "--all", "--force"]);
    set_up();
    engine.converge();
    assert_eq!(engine.shell("dev", "cat /heard"), "second");
    let id = engine.id("dev");
    engine.apply();
    assert_eq!(engine.id("dev"), id);
    registry.publish(&engine, "third");
    engine.apply();
    assert_eq!(engine.shell("dev", "cat /heard"), "third");
    engine.expect_nothing_to_do();
    configure(&engine, &reference, "always");

    // A digest that the engine does not have is fetched, though the tag stands for another one.
    engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
    engine.podman(&["rmi", "--all", "--force"]);
    engine.write("sandboxes.lock", lock.replace(&second, &first));
    engine.try_apply(&["--locked"]).expect_code(0);
    assert_eq!(engine.shell("dev", "cat /said"), "first");
    engine.sbx(&["plan", "--locked", "--detailed-exitcode"]).run().expect_code(0);
}

#[test]
fn pulls_and_pins_rootful_4() {
    pulls_and_pins(Kind::Rootful4);
}

#[test]
fn pulls_and_pins_rootful_5() {
    pulls_and_pins(Kind::Rootful5);
}

/// What a registry refuses is told with the image and its line, and soon.
fn refusals(kind: Kind) {
    let engine = Engine::without_service(kind);
    let registry = Registry::serve(&engine);
    let digest = registry.publish(&engine, "first");
    registry.tags.lock().unwrap().insert("stalled/manifests/1".to_owned(), digest);
    // It accepts, as the backlog does, and never answers.
    let _silent = listen(&engine, "127.0.0.1:5001");
    engine.start_service();
    let cases = [
        ("127.0.0.1:5002/tiny:1", 1, "refused"),
        ("127.0.0.1:5000/nowhere:1", 1, "unknown"),
        ("127.0.0.1:5001/tiny:1", 124, "the registry 127.0.0.1:5001 has been silent for"),
        ("127.0.0.1:5000/stalled:1", 124, "the registry 127.0.0.1:5000 has been silent for"),
    ];
    // Who talks first and stalls then is out of time as a whole, or silent: which comes first depends on when it talked.
    let named = |failed: &Finished, reference: &str, why: &str, late: &str| {
        let told = failed.told();
        let is_late = reference.contains("stalled") && told.contains(late);
        for part in ["image/far", "sandboxes.yaml:3:", reference.split('/').next().unwrap(), why] {
            assert!(is_late || told.contains(part), "{reference}, {part}: {}", failed.stderr);
        }
    };
    for (reference, code, why) in cases {
        for pull in ["missing", "always"] {
            configure(&engine, reference, pull);
            let begun = Instant::now();
            let failed = engine.try_apply(&["--timeout", "8s"]).expect_code(code);
            assert!(begun.elapsed() < Duration::from_secs(30), "{reference}, {pull}: {:?}", begun.elapsed());
            named(&failed, reference, why, "the time was up while image/far was pulled; nothing was changed");
            assert!(engine.containers().is_empty());
        }
        let begun = Instant::now();
        let failed = engine.sbx(&["lock", "--timeout", "8s"]).run().expect_code(code);
        assert!(begun.elapsed() < Duration::from_secs(30), "{reference}: {:?}", begun.elapsed());
        named(&failed, reference, why, "not every image was pulled within 8s; nothing was written");
        assert!(!engine.project().join("sandboxes.lock").exists());
    }
}

#[test]
fn refusals_rootful_4() {
    refusals(Kind::Rootful4);
}

#[test]
fn refusals_rootful_5() {
    refusals(Kind::Rootful5);
}
