//! What an image or a sandbox leaves in the way: of mounts, of its own user, and of whoever looks from outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::on_every_engine;

/// Says which descriptors the shell has that runs it. What it opens to look is closed by the time it is looked at.
const DESCRIPTORS: &str = "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true";

on_every_engine! {
    /// Links of an image lead within its root, also where something is mounted: nothing is mounted on the host, and
    /// nothing of it is seen.
    fn links_of_an_image_at_mount_points(engine) {
        let outside = engine.project().join("outside");
        for link in ["absolute", "upwards", "volume", "home"] {
            engine.write(format!("outside/{link}/key"), "never to be seen");
        }
        engine.write("shared/file", "meant to be seen");
        let root = engine.rootfs("linked");
        fs::create_dir(root.join("srv")).unwrap();
        for link in ["absolute", "volume", "home"] {
            symlink(outside.join(link), root.join("srv").join(link)).unwrap();
        }
        let upwards = format!("{}{}", "../".repeat(32), outside.join("upwards").display());
        symlink(upwards, root.join("srv/upwards")).unwrap();
        symlink("/nowhere/yet", root.join("srv/dangling")).unwrap();
        let shared = ["absolute", "upwards", "dangling", "plain"]
            .map(|name| format!("{{ source: ./shared, target: /srv/{name}, mode: rw }}"))
            .join(", ");
        engine.configure(&format!(
            "images: {{ linked: {{ rootfs: {} }} }}\nvolumes: {{ data: {{}} }}\n\
             sandboxes: {{ dev: {{ image: linked, home: {{ tmpfs: 8MiB }}, user: {{ home: /srv/home }},\n\
             \x20 mounts: [{shared}, {{ volume: data, target: /srv/volume, mode: rw }}] }} }}",
            root.display()
        ));
        engine.converge();
        let seen = "for place in absolute upwards dangling plain; do cat /srv/$place/file; echo; done";
        assert_eq!(engine.shell("dev", seen), ["meant to be seen"; 4].join("\n"));
        // On each its own, by whatever name: what is written is where it was meant to be.
        let write = "for place in absolute upwards dangling plain volume home; do echo x > /srv/$place/$place; done; ls /srv/home";
        assert_eq!(engine.shell("dev", write), "home");
        let listed = |dir: &str| {
            let entries = fs::read_dir(engine.project().join(dir)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(listed("shared"), ["absolute", "dangling", "file", "plain", "upwards"]);
        for link in ["absolute", "upwards", "volume", "home"] {
            assert_eq!(listed(&format!("outside/{link}")), ["key"]);
        }
        assert_eq!(engine.shell("dev", "cat /srv/*/key 2>/dev/null; true"), "");
        // What a restart would lose is counted in there, too.
        let asked = engine.sbx(&["restart", "dev"]).run().expect_code(73);
        assert!(asked.told().contains("/srv/home: 1 file"), "{}", asked.stderr);
    }

    /// Device nodes and setuid files that somebody puts into what is mounted: neither means anything inside, whoever may
    /// gain privileges there. On the host both do.
    fn devices_and_setuid_files_in_a_share(engine) {
        let uid = if engine.kind().is_rootless() { engine.uid() } else { 12_345 };
        engine.configure(&format!(
            "volumes: {{ data: {{}} }}\n\
             sandboxes: {{ dev: {{ image: host, home: {{ tmpfs: 8MiB }}, security: {{ noNewPrivileges: false }},\n\
             \x20 user: {{ name: worker, uid: {uid}, gid: {uid}, home: /home/worker }},\n\
             \x20 mounts: [{{ source: ./shared, target: /srv/shared, mode: rw }},\n\
             \x20   {{ volume: data, target: /srv/volume, mode: rw }}] }} }}"
        ));
        engine.write("shared/file", "text");
        engine.converge();
        let volume = engine.podman(&["volume", "inspect", "--format", "{{.Mountpoint}}", "demo_data"]);
        let shared = engine.project().join("shared").display().to_string();
        for dir in [&shared, volume.trim()] {
            let plant = "cp /usr/bin/id . && chmod 6755 id && mknod -m 666 zero c 1 5";
            engine.as_root("sh").args(["-ec", plant]).cwd(dir).ok();
            // Beside it, out here: whoever runs it is root, and the node is what it says.
            let run = engine.as_root("setpriv").cwd(dir);
            let identity = ["--reuid", &uid.to_string(), "--clear-groups", "./id", "-u"];
            assert_eq!(run.args(identity).ok(), "0", "{dir}");
            assert_eq!(engine.as_root("sh").args(["-c", "head -c 1 zero | wc -c"]).cwd(dir).ok(), "1", "{dir}");
        }
        assert_eq!(engine.shell("dev", "grep NoNewPrivs /proc/self/status | tr -dc 01"), "0");
        for dir in ["/srv/shared", "/srv/volume"] {
            assert_eq!(engine.shell("dev", &format!("{dir}/id -u")), uid.to_string(), "{dir}");
            let read = |node: &str| format!("head -c 1 {node} 2>&1 | tr '\\0' 'z'");
            let refused = engine.shell("dev", &read(&format!("{dir}/zero")));
            assert!(refused.contains("Permission denied"), "{dir}: {refused}");
            assert_eq!(engine.shell("dev", &read("/dev/zero")), "z");
        }
    }

    /// A FIFO in the place of a file that is read from outside: whoever plans is told, and waits for nobody to write.
    fn a_fifo_keeps_nobody_waiting(engine) {
        engine.write("shared/overlay/etc/motd", "hello");
        engine.write("shared/token", "value");
        engine.configure(
            "secrets: { token: { file: ./shared/token } }\n\
             sandboxes: { dev: { image: host, env: { T: { secret: token } }, overlay: ./shared/overlay,\n\
             \x20 home: { tmpfs: 8MiB }, mounts: [{ source: ./shared, target: /srv/shared, mode: rw }] } }",
        );
        engine.converge();
        for place in ["overlay/etc/motd", "token"] {
            engine.shell("dev", &format!("cd /srv/shared && mv {place} kept && mkfifo {place}"));
            for command in [&["plan"][..], &["apply", "--auto-approve"]] {
                let begun = Instant::now();
                let refused = engine.sbx(command).run().expect_code(65);
                let file = place.rsplit('/').next().unwrap();
                // A plan tells it where it tells everything.
                let told = format!("{}{}", refused.stdout, refused.stderr);
                assert!(told.contains(file), "{command:?}, {place}: {told}");
                assert!(begun.elapsed() < Duration::from_secs(10), "{command:?}, {place}: {:?}", begun.elapsed());
            }
            engine.shell("dev", &format!("cd /srv/shared && mv kept {place}"));
        }
        engine.expect_nothing_to_do();
    }

    /// Whatever `sbx` was given open, and whatever the engine has open: a command inside has its three.
    fn no_descriptor_is_inherited(engine) {
        engine.write("key", "never to be read");
        engine.configure(&format!(
            "sandboxes: {{ dev: {{ image: host, command: [sh, -c, '{DESCRIPTORS}; sleep 1000'] }} }}"
        ));
        let holding = |args: &[&str]| {
            let run = engine.command("sh").args(["-c", "exec 7<key 8>>key; exec \"$@\"", "-"]).arg(engine.sbx_path());
            run.env("CONTAINER_HOST", engine.url()).env("NO_COLOR", "1").args(args).ok()
        };
        holding(&["apply", "--auto-approve"]);
        assert_eq!(engine.sbx(&["logs", "dev"]).ok(), "0\n1\n2");
        let exec = |script: &str| holding(&["exec", "-T", "dev", "--", "sh", "-c", script]);
        assert_eq!(exec(DESCRIPTORS), "0\n1\n2");
        assert_eq!(exec(&format!("exec 9</dev/null; {DESCRIPTORS}")), "0\n1\n2\n9");
    }
}
