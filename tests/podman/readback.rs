//! Every field of a create request, read back: from the engine's record, and from the kernel inside. An engine ignores
//! what it does not know, so a field that is sent is not yet a field that holds. Each is named here, which a test of
//! `reconciler/src/podman/create.rs` sees to.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::on_every_engine;

const FILE: &str = r"
apiVersion: sbx/v1
project: readback
images:
  base: { rootfs: ./base.tar }
  kept: { build: { context: ./kept } }
secrets: { token: { env: TOKEN } }
volumes: { data: {} }
networks: { inner: {} }
sandboxes:
  box:
    image: base
    home: { volume: data }
    mounts:
      - { source: ./rw, target: /srv/rw, mode: rw, relabel: private }
      - { source: ./ro, target: /srv/ro, mode: ro, relabel: shared }
    networks: [inner]
    limits: { cpus: 0.5, memory: 256MiB, pids: 100 }
    restart: on-failure
    security: { readOnly: true }
    env: { PLAIN: a b, TOKEN: { secret: token } }
  alone:
    image: base
    home: { tmpfs: 8MiB }
  shut:
    image: base
    workdir: /workspace
    security: { readOnly: true, tmpfs: { /scratch: 8MiB } }
  full:
    image: kept
    command: [sh, -c, sleep 1000]
    workdir: /made/there
    security: { readOnly: true }
  able:
    image: kept
    command: [sh, -c, sleep 1000]
    workdir: /made/here
    security: { capAdd: [NET_BIND_SERVICE], noNewPrivileges: false, userns: USERNS }
";

/// Fields that other tests of real engines read back.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    ("devices.path", "device /dev/dri is not there", include_str!("desktop.rs")),
    ("groups", "fn groups_are_kept_with_devices", include_str!("devices.rs")),
    ("annotations", "fn groups_are_kept_with_devices", include_str!("devices.rs")),
];

#[test]
fn what_is_read_back_elsewhere_is() {
    for (field, test, text) in ELSEWHERE {
        assert!(text.contains(test), "{field}");
    }
}

/// One field that was sent, and what came of it.
#[track_caller]
fn is(field: &str, came: impl Into<Value>, sent: impl Into<Value>) {
    assert_eq!(came.into(), sent.into(), "{field}");
}

fn apply(engine: &Engine) {
    // What the service has in its environment is no sandbox's.
    engine.kill_service();
    let configuration = engine.dir().join("etc/containers.conf");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let proxy = "[engine]\nenv = [\"HTTP_PROXY=http://user:password@proxy.example\"]\n";
    std::fs::write(configuration, text.replace("[engine]\n", proxy)).unwrap();
    engine.start_service();
    let tar = engine.rootfs_tar("base.tar");
    engine.write("base.tar", std::fs::read(tar).unwrap());
    engine.write("rw/file", "outside");
    engine.write("ro/file", "outside");
    engine.write("kept/busybox", std::fs::read("/bin/busybox").unwrap());
    engine.as_root("chmod").args(["755", "kept/busybox"]).ok();
    let applets =
        ["sh", "sleep", "cat", "id", "readlink"].map(|applet| format!("COPY busybox /bin/{applet}\n")).concat();
    engine.write(
        "kept/Containerfile",
        format!("FROM scratch\n{applets}COPY Containerfile /made/there/file\nVOLUME /kept\nHEALTHCHECK CMD exit 1\n"),
    );
    // An ordinary user's engine maps the caller anyhow: it is asked for by its name there, and the other way by root.
    let userns = if engine.kind().is_rootless() { "keep-id" } else { "host" };
    engine.write("sandboxes.yaml", FILE.replace("USERNS", userns));
    engine
        .sbx(&["apply", "--auto-approve"])
        .env("TOKEN", "very secret")
        // The caller's proxies are theirs too.
        .env("HTTP_PROXY", "http://user:password@proxy.example")
        .run()
        .expect_code(0);
}

fn inspect(engine: &Engine, container: &str) -> Value {
    let text = engine.podman(&["inspect", "--type", "container", container]);
    let mut all: Value = serde_json::from_str(&text).unwrap();
    all[0].take()
}

fn inside(engine: &Engine, sandbox: &str, script: &str) -> String {
    engine.podman(&["exec", &format!("readback_{sandbox}"), "sh", "-c", script])
}

fn status(engine: &Engine, sandbox: &str, field: &str) -> String {
    let text = inside(engine, sandbox, "cat /proc/1/status");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

/// Options of what is mounted at `target`, those of the mount and those of its file system, from a list of the kernel's.
fn options(mounts: &str, target: &str) -> Vec<String> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(target));
    let words: Vec<&str> = line.unwrap_or_else(|| panic!("no {target} in {mounts}")).split(' ').collect();
    let both = [words[5], words[words.len() - 1]];
    both.iter().flat_map(|options| options.split(',')).map(str::to_owned).collect()
}

on_every_engine! {
    /// What the engine noted.
    fn the_engine_notes_every_field(engine) {
        apply(engine);
        let uid = engine.uid();
        let noted = inspect(engine, "readback_box");
        let (config, host) = (&noted["Config"], &noted["HostConfig"]);
        is("name", noted["Name"].clone(), "readback_box");
        is("image", noted["ImageName"].as_str().unwrap().starts_with("localhost/sbx/readback/base:"), true);
        is("entrypoint", noted["Path"].clone(), "/run/sbx/init");
        is("hostname", config["Hostname"].clone(), "box");
        is("user", config["User"].clone(), format!("{uid}:{uid}"));
        is("work_dir", config["WorkingDir"].clone(), inside(engine, "box", "echo $HOME"));
        is("labels", config["Labels"]["sbx.project"].clone(), "readback");
        let security: Vec<String> = serde_json::from_value(host["SecurityOpt"].clone()).unwrap();
        is("no_new_privileges", security.iter().any(|option| option.starts_with("no-new-privileges")), true);
        let able: Vec<String> = serde_json::from_value(inspect(engine, "readback_able")["HostConfig"]["SecurityOpt"].clone()).unwrap();
        is("no_new_privileges", able.iter().any(|option| option.starts_with("no-new-privileges")), false);
        is("cap_drop", noted["EffectiveCaps"].as_array().is_none_or(Vec::is_empty), true);
        is("cap_drop", noted["BoundingCaps"].as_array().is_none_or(Vec::is_empty), true);
        is("read_only_filesystem", host["ReadonlyRootfs"].clone(), true);
        is("privileged", host["Privileged"].clone(), false);
        is("remove", host["AutoRemove"].clone(), false);
        is("init", host["Init"].as_bool().unwrap_or_default(), false);
        is("restart_policy", host["RestartPolicy"]["Name"].clone(), "on-failure");
        is("stop_timeout", config["StopTimeout"].clone(), 10);
        is("stop_signal", ["15", "\"SIGTERM\""].contains(&config["StopSignal"].to_string().as_str()), true);
        is("systemd", config["SystemdMode"].as_bool().unwrap_or_default(), false);
        is("sdnotifyMode", config["sdNotifyMode"].clone(), "ignore");
        is("terminal", config["Tty"].clone(), false);
        is("stdin", config["OpenStdin"].clone(), false);
        is("pidns.nsmode", host["PidMode"].clone(), "private");
        is("utsns.nsmode", host["UTSMode"].clone(), "private");
        is("cgroupns.nsmode", host["CgroupMode"].clone(), "private");
        // A namespace of its own in both versions; 4.3 lets other containers ask to join it.
        is("ipcns.nsmode", host["IpcMode"].clone(), if engine.kind().is_5() { "private" } else { "shareable" });
        if !engine.kind().is_rootless() {
            is("resource_limits.memory.limit", host["Memory"].clone(), 256 << 20);
            is("resource_limits.pids.limit", host["PidsLimit"].clone(), 100);
            is("resource_limits.cpu.quota", host["CpuQuota"].clone(), 50_000);
            is("resource_limits.cpu.period", host["CpuPeriod"].clone(), 100_000);
        }
        let networks: Vec<&String> = noted["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
        is("Networks", json!(networks), json!(["readback_inner"]));
        let aliases = noted["NetworkSettings"]["Networks"]["readback_inner"]["Aliases"].as_array().unwrap();
        is("Networks.NAME.aliases", aliases.contains(&json!("box")), true);
        is("netns.nsmode", host["NetworkMode"].clone(), "bridge");
        is("netns.nsmode", inspect(engine, "readback_alone")["HostConfig"]["NetworkMode"].clone(), "none");
        let text = noted.to_string();
        is("httpproxy", text.contains("proxy.example"), false);
        assert!(!text.contains("very secret"), "{text}");
        let secrets = config["Secrets"].as_array().unwrap();
        assert_eq!(secrets.len(), 1, "{secrets:?}");
        let secret = secrets[0]["Name"].as_str().unwrap();
        is("secrets.Source", secret.starts_with("readback_token."), true);
        is("secrets.Target", inside(engine, "box", &format!("cat /run/sbx/secrets/{secret}")), "very secret");
        is("secrets.UID", secrets[0]["UID"].clone(), uid);
        is("secrets.GID", secrets[0]["GID"].clone(), uid);
        is("secrets.Mode", secrets[0]["Mode"].clone(), 0o400);
        let mounts = noted["Mounts"].as_array().unwrap();
        let at = |target: &str| mounts.iter().find(|mount| mount["Destination"] == target).expect("a mount");
        let (shared, home) = (at("/srv/rw"), inside(engine, "box", "echo $HOME"));
        is("mounts.destination", shared["Destination"].clone(), "/srv/rw");
        is("mounts.source", shared["Source"].clone(), engine.project().join("rw").to_string_lossy());
        is("mounts.type", shared["Type"].clone(), "bind");
        // What asks for a label leaves no trace where there is no SELinux: an engine notes nothing of it then. That it is sent
        // where it is asked for, and nowhere else, is shown in `reconciler/src/podman/create/mount.rs`.
        is("mounts.options", shared["RW"].clone(), true);
        is("volumes.Dest", at(&home)["Type"].clone(), "volume");
        is("volumes.Name", at(&home)["Name"].clone(), "readback_data");

        // The image asks for a check of its health and for a volume of its own: the engine runs and makes neither.
        let noted = inspect(engine, "readback_able");
        let config = &noted["Config"];
        is("command", config["Cmd"].clone(), json!(["sh", "-c", "sleep 1000"]));
        is("create_working_dir", inside(engine, "able", "pwd"), "/made/here");
        let health = &config["Healthcheck"];
        is("healthconfig.Test", health["Test"].clone(), json!(["NONE"]));
        is("healthconfig.Interval", health["Interval"].clone(), 30_000_000_000_u64);
        is("healthconfig.Timeout", health["Timeout"].clone(), 30_000_000_000_u64);
        is("healthconfig.Retries", health["Retries"].clone(), 3);
        let mounted = |noted: &Value| {
            let mounts = noted["Mounts"].as_array().unwrap();
            mounts.iter().any(|mount| mount["Destination"] == "/kept")
        };
        is("image_volume_mode", mounted(&noted), false);
        // The same image with nothing asked for has all of it, and the variable of the service.
        engine.podman(&["create", "--name", "control", noted["ImageName"].as_str().unwrap(), "sh"]);
        let control = inspect(engine, "control");
        assert!(mounted(&control), "{control:#}");
        assert_ne!(control["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
        assert!(control["Config"]["Env"].to_string().contains("proxy.example"), "{control:#}");
    }

    /// What the kernel enforces.
    fn the_kernel_enforces_every_field(engine) {
        apply(engine);
        for sandbox in ["box", "alone"] {
            for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(status(engine, sandbox, field), "0000000000000000", "{sandbox} {field}");
            }
            assert_eq!(status(engine, sandbox, "NoNewPrivs"), "1");
            assert_eq!(status(engine, sandbox, "Seccomp"), "2");
            assert_eq!(status(engine, sandbox, "Name"), "sbx-init:ready");
        }
        assert_eq!(status(engine, "able", "NoNewPrivs"), "0", "it is asked for there");
        let uid = engine.uid().to_string();
        assert_eq!(inside(engine, "box", "id -u"), uid);
        let numbers = |text: String| text.split_whitespace().map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
        let map = |sandbox: &str, ids: &str| numbers(inside(engine, sandbox, &format!("cat /proc/self/{ids}_map")));
        let host_map = |ids: &str| numbers(engine.command("cat").arg(format!("/proc/self/{ids}_map")).ok());
        if engine.kind().is_rootless() {
            is("userns.nsmode", map("able", "uid"), map("box", "uid"));
            is("userns.nsmode", map("box", "uid") == host_map("uid"), false);
            is("userns.value", inside(engine, "able", "id -u; id -g"), format!("{uid}\n{uid}"));
        } else {
            is("userns.nsmode", map("able", "uid"), host_map("uid"));
            is("idmappings.HostUIDMapping", map("box", "uid") == host_map("uid"), false);
            is("idmappings.HostGIDMapping", map("box", "gid") == host_map("gid"), false);
            // Where the engine can, nobody but the caller is anybody outside.
            let rows: &[u32] = if engine.kind().is_5() { &[0, 0, 1, 1, 0x7000_0001, 65_535] } else { &[0, 0, 65_536] };
            let columns = |numbers: &[u32], at: usize| numbers.iter().skip(at).step_by(3).copied().collect::<Vec<_>>();
            for (field, ids, column) in [
                ("idmappings.UIDMap.container_id", "uid", 0),
                ("idmappings.UIDMap.host_id", "uid", 1),
                ("idmappings.UIDMap.size", "uid", 2),
                ("idmappings.GIDMap.container_id", "gid", 0),
                ("idmappings.GIDMap.host_id", "gid", 1),
                ("idmappings.GIDMap.size", "gid", 2),
            ] {
                is(field, columns(&map("box", ids), column), columns(rows, column));
            }
        }
        let namespace = |kind: &str| inside(engine, "able", &format!("readlink /proc/self/ns/{kind}"));
        for kind in ["cgroup", "ipc", "uts", "pid", "net"] {
            let hosts = engine.command("readlink").arg(format!("/proc/self/ns/{kind}")).ok();
            assert_ne!(namespace(kind), hosts, "{kind}");
        }
        for field in ["CapBnd", "CapPrm"] {
            let bits = u64::from_str_radix(&status(engine, "able", field), 16).unwrap();
            is("cap_add", bits & !(1 << 10), 0);
        }
        is("cap_add", status(engine, "able", "CapBnd"), "0000000000000400");
        // Root has its entries already.
        if engine.kind().is_rootless() {
            let home = inside(engine, "box", "echo $HOME");
            let passwd = inside(engine, "box", "cat /etc/passwd");
            let end = format!(":{home}:/bin/sh");
            let ours = |line: &str| line.contains(&format!(":*:{uid}:{uid}:")) && line.ends_with(&end);
            is("passwd_entry", passwd.lines().any(ours), true);
            let group = inside(engine, "box", "cat /etc/group");
            // Podman 4.3 does not know the field, and makes an entry of its own.
            let entry =
                if engine.kind().is_5() { format!("sbx-tester:x:{uid}:") } else { format!("{uid}:x:{uid}:{uid}") };
            is("group_entry", group.lines().last().unwrap(), entry);
        }

        // Nothing that is mounted gives anybody another identity or a device; memory has its bound.
        let home = inside(engine, "box", "echo $HOME");
        let [in_box, in_alone, in_shut] =
            ["box", "alone", "shut"].map(|sandbox| inside(engine, sandbox, "cat /proc/self/mountinfo"));
        for (field, mounts, target, more) in [
            ("mounts.options", &in_box, "/srv/rw", "rw"),
            ("mounts.options", &in_box, "/srv/ro", "ro"),
            ("mounts.options", &in_box, "/run/sbx/init", "ro"),
            ("volumes.Options", &in_box, &*home, "rw"),
            ("mounts.options", &in_alone, &*home, "size=8192k"),
            // What a read-only root comes with, and what its sandbox asks for besides.
            ("mounts.options", &in_shut, "/tmp", "size=524288k"),
            ("mounts.options", &in_shut, "/var/tmp", "size=524288k"),
            ("mounts.options", &in_shut, "/run", "size=65536k"),
            ("mounts.options", &in_shut, &*home, "size=1048576k"),
            ("mounts.options", &in_shut, "/workspace", "size=524288k"),
            ("mounts.options", &in_shut, "/scratch", "size=8192k"),
        ] {
            let options = options(mounts, target);
            for wanted in ["nosuid", "nodev", more] {
                assert!(options.iter().any(|option| option == wanted), "{field}: {target}: {options:?}");
            }
        }
        let modes = [("/var/tmp", "1777"), ("/run", "755"), (&*home, "700"), ("/workspace", "755"), ("/scratch", "755")];
        for (place, mode) in modes {
            is("mounts.options", inside(engine, "shut", &format!("stat -c %a {place}")), mode);
        }
        is("mounts.options", inside(engine, "alone", "stat -c %a $HOME"), "700");
        for place in ["/tmp/x", "/workspace/x", "x", "$HOME/x"] {
            assert_eq!(inside(engine, "shut", &format!("echo new > {place} && echo written")), "written", "{place}");
        }
        // What the image has where there is space to work is there, beside what is made; it is not the image's.
        let there = "pwd; cat file; echo new > x && echo written";
        let file = std::fs::read_to_string(engine.project().join("kept/Containerfile")).unwrap();
        for _ in 0..2 {
            assert_eq!(inside(engine, "full", there), format!("/made/there\n{file}written"));
            engine.sbx(&["restart", "full", "--accept-loss", "container/full"]).run().expect_code(0);
            assert_eq!(inside(engine, "full", "cat *"), file.trim_end());
        }

        // Swap is no way around a ceiling on memory.
        let memsw = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
        let ceiling = (256_u64 << 20).to_string();
        if !engine.kind().is_rootless() && std::path::Path::new(memsw).exists() {
            let pid = inspect(engine, "readback_box")["State"]["Pid"].to_string();
            let groups = engine.as_root("cat").arg(format!("/proc/{pid}/cgroup")).ok();
            let group = groups.lines().find_map(|line| line.split_once(":memory:")).expect("a memory group").1;
            let file = format!("/sys/fs/cgroup/memory{group}/memory.memsw.limit_in_bytes");
            is("resource_limits.memory.swap", engine.as_root("cat").arg(file).ok(), ceiling);
        } else if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            // Counted apart from the rest there.
            let group = |file: &str| inside(engine, "box", &format!("cat /sys/fs/cgroup/{file}"));
            is("resource_limits.memory.limit", group("memory.max"), ceiling);
            is("resource_limits.memory.swap", group("memory.swap.max"), "0");
        }

        // Read-only where it should be, and only there.
        for place in ["/x", "/etc/x", "/srv/ro/file", "/run/sbx/init"] {
            let said = inside(engine, "box", &format!("touch {place} 2>&1 && echo written || true"));
            assert!(said.contains("Read-only file system"), "{place}: {said}");
        }
        for place in ["$HOME/x", "/srv/rw/file"] {
            assert_eq!(inside(engine, "box", &format!("echo new > {place} && echo written")), "written", "{place}");
        }
        assert_eq!(inside(engine, "alone", "touch $HOME/x && stat -c %u $HOME"), uid);

        // The environment is what the file says; the secret is there, the proxies are not.
        let env = engine.podman(&["exec", "readback_box", "/run/sbx/init", "exec", "--", "env"]);
        assert!(env.lines().any(|line| line == "PLAIN=a b"), "{env}");
        assert!(env.lines().any(|line| line == "TOKEN=very secret"), "{env}");
        let env = inside(engine, "box", "tr '\\0' '\\n' < /proc/1/environ");
        is("env", env.contains("PLAIN=a b"), true);
        assert!(!env.contains("very secret"), "{env}");
        is("httpproxy", env.to_lowercase().contains("proxy"), false);
        is("env_host", env.contains("CONTAINERS_CONF"), false);

        // Nothing but `lo` without networks; no way out with an internal one but into the dead end.
        assert_eq!(inside(engine, "alone", "ls /sys/class/net"), "lo");
        let routes = inside(engine, "box", "ip route");
        let out: Vec<&str> = routes.lines().filter(|route| route.starts_with("default")).collect();
        assert!(out.iter().all(|route| !route.contains("via") && route.contains("dev sbx0")), "{routes}");
        assert_eq!(out.len(), 1, "{routes}");
    }
}
