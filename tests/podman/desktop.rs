//! What of a desktop a sandbox is given: the session's sockets and the GPU, each where it is asked for and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::engine::{Engine, Kind};
use crate::invocation::Finished;

/// Says which addresses a desktop's programs would use, one a line, and connects to each; then what is in the place of the
/// sockets.
const CONNECT: &str = r#"
for address in "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY" "$XDG_RUNTIME_DIR/pipewire-0" "${PULSE_SERVER#unix:}" \
    "${DBUS_SESSION_BUS_ADDRESS#unix:path=}"; do
  python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$address" 2>/dev/null && echo "$address"
done
env | grep -E '^(XDG_RUNTIME_DIR|WAYLAND_DISPLAY|PULSE_SERVER|DBUS_SESSION_BUS_ADDRESS)=' | wc -l
"#;

/// One with everything of a session, one with nothing of it.
const BODY: &str = "\
sandboxes:
  dev:
    image: host
    gui:
      wayland: true
      audio: true
      dbus: true
  other: { image: host }";

/// A session's runtime directory, empty.
fn session(engine: &Engine) -> PathBuf {
    let runtime = engine.dir().join("session");
    fs::create_dir_all(runtime.join("pulse")).unwrap();
    runtime
}

fn listen(socket: &Path) -> UnixListener {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
    listener
}

fn apply_in(engine: &Engine, runtime: &Path) -> Finished {
    let apply = engine.sbx(&["apply", "--auto-approve"]);
    apply.env("XDG_RUNTIME_DIR", runtime).env("WAYLAND_DISPLAY", "wayland-7").run()
}

#[track_caller]
fn expect_missing(refused: Finished, said: &[&str]) {
    let refused = refused.expect_code(65);
    for part in said {
        assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
    }
    let count = format!("{} error", said.len());
    assert!(refused.told().contains(&count), "{count}: {}", refused.stderr);
}

/// Each socket that is asked for and not there is an error at its line; what is there is connected to from inside by the
/// address that programs are given. PipeWire alone will do, and so will PulseAudio.
#[test]
fn sockets_of_the_session() {
    for kind in [Kind::Rootful4, Kind::Rootless5] {
        let engine = Engine::start(kind);
        engine.configure(BODY);
        let runtime = session(&engine);
        let nowhere = engine.sbx(&["apply", "--auto-approve"]).env_remove("XDG_RUNTIME_DIR").run().expect_code(65);
        assert!(nowhere.told().contains("XDG_RUNTIME_DIR is not set"), "{}", nowhere.stderr);

        // A file of the name is no socket.
        fs::write(runtime.join("bus"), "").unwrap();
        let wayland = format!("sandboxes.yaml:7:7: {} is not a socket", runtime.join("wayland-7").display());
        let audio = "sandboxes.yaml:8:7: neither a PipeWire nor a PulseAudio socket is there";
        let bus = format!("sandboxes.yaml:9:7: {} is not a socket", runtime.join("bus").display());
        expect_missing(apply_in(&engine, &runtime), &[&wayland, audio, &bus]);
        let _wayland = listen(&runtime.join("wayland-7"));
        expect_missing(apply_in(&engine, &runtime), &[audio, &bus]);
        fs::remove_file(runtime.join("bus")).unwrap();
        let _bus = listen(&runtime.join("bus"));
        expect_missing(apply_in(&engine, &runtime), &[audio]);
        assert!(engine.containers().is_empty());

        let inside = format!("/run/user/{}", engine.uid());
        let _pulse = listen(&runtime.join("pulse/native"));
        apply_in(&engine, &runtime).expect_code(0);
        let expected = format!("{inside}/wayland-7\n{inside}/pulse/native\n{inside}/bus\n4");
        assert_eq!(engine.shell("dev", CONNECT), expected, "{kind:?}");
        assert_eq!(engine.shell("other", CONNECT), "0", "{kind:?}");

        // The other sound server takes its place.
        fs::remove_file(runtime.join("pulse/native")).unwrap();
        let _pipewire = listen(&runtime.join("pipewire-0"));
        apply_in(&engine, &runtime).expect_code(0);
        let expected = format!("{inside}/wayland-7\n{inside}/pipewire-0\n{inside}/bus\n3");
        assert_eq!(engine.shell("dev", CONNECT), expected, "{kind:?}");
        assert_eq!(engine.shell("other", CONNECT), "0", "{kind:?}");
    }
}

/// Gives the engine a `/dev` of its own with little in it.
const OWN_DEV: &str = "
mkdir own-dev && mount -t tmpfs -o mode=755 tmpfs own-dev && cd own-dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/fuse .
mkdir net pts shm mqueue && cp -a /dev/net/tun net
mount --rbind /dev/pts pts && mount --rbind /dev/shm shm
ln -s /proc/self/fd fd && ln -s pts/ptmx ptmx
cd .. && mount --move own-dev /dev
";

/// The GPU's nodes, a sound card's, and a device by path, of which nodes that discard everything have the part here: without them the plan
/// says so at their lines; with them they are in the sandbox that asks, and can be opened, and in no other.
#[test]
fn nodes_of_the_host() {
    for kind in [Kind::Rootful4, Kind::Rootless5] {
        let engine = Engine::without_service(kind);
        engine.as_root("sh").args(["-ec", OWN_DEV]).cwd(engine.dir().join("storage")).ok();
        engine.start_service();
        engine.configure(
            "sandboxes:\n\
             \x20 dev:\n\
             \x20   image: host\n\
             \x20   gui: { dri: true }\n\
             \x20   devices: [/dev/acme, /dev/snd]\n\
             \x20 other: { image: host }",
        );
        let gpu = "sandboxes.yaml:6:12: device /dev/dri is not there";
        let device = "sandboxes.yaml:7:15: device /dev/acme is not there";
        let sound = "sandboxes.yaml:7:26: device /dev/snd is not there";
        expect_missing(engine.try_apply(&[]), &[gpu, device, sound]);
        let make = |node: &str| engine.as_root("mknod").args(["-m", "666", node, "c", "1", "3"]).ok();
        make("/dev/acme");
        expect_missing(engine.try_apply(&[]), &[gpu, sound]);
        assert!(engine.containers().is_empty());

        engine.as_root("mkdir").args(["/dev/dri", "/dev/snd"]).ok();
        for node in ["/dev/dri/renderD128", "/dev/snd/controlC0", "/dev/snd/pcmC0D0p"] {
            make(node);
        }
        engine.converge();
        let script = "for node in /dev/dri/* /dev/acme /dev/snd/*; do [ -c $node ] && echo frame >$node && echo $node; done; true";
        assert_eq!(
            engine.shell("dev", script),
            "/dev/dri/renderD128\n/dev/acme\n/dev/snd/controlC0\n/dev/snd/pcmC0D0p",
            "{kind:?}"
        );
        assert_eq!(engine.shell("other", script), "", "{kind:?}");
    }
}
