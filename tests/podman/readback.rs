//! Every field of a create request, read back: from the engine's record, and from the kernel inside. An engine ignores
//! what it does not know, so a field that is sent is not yet a field that holds.

use serde_json::Value;

use crate::engine::Engine;
use crate::on_every_engine;

const FILE: &str = r"
apiVersion: sbx/v1
project: readback
images: { base: { rootfs: ./base.tar } }
secrets: { token: { env: TOKEN } }
volumes: { data: {} }
networks: { inner: {} }
sandboxes:
  box:
    image: base
    home: { volume: data }
    mounts:
      - { source: ./rw, target: /srv/rw, mode: rw }
      - { source: ./ro, target: /srv/ro, mode: ro }
    networks: [inner]
    limits: { cpus: 0.5, memory: 256MiB, pids: 100 }
    restart: on-failure
    security: { readOnly: true }
    env: { PLAIN: a b, TOKEN: { secret: token } }
  alone:
    image: base
    home: { tmpfs: 8MiB }
";

fn apply(engine: &Engine) {
    let tar = engine.rootfs_tar("base.tar");
    engine.write("base.tar", std::fs::read(tar).unwrap());
    engine.write("rw/file", "outside");
    engine.write("ro/file", "outside");
    engine.write("sandboxes.yaml", FILE);
    engine
        .sbx(&["apply", "--auto-approve"])
        .env("TOKEN", "very secret")
        // The caller's and the service's proxies are theirs.
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

on_every_engine! {
    /// What the engine noted.
    fn the_engine_notes_every_field(engine) {
        apply(engine);
        let noted = inspect(engine, "readback_box");
        let (config, host) = (&noted["Config"], &noted["HostConfig"]);
        let security: Vec<String> = serde_json::from_value(host["SecurityOpt"].clone()).unwrap();
        assert!(security.iter().any(|option| option.starts_with("no-new-privileges")), "{security:?}");
        assert!(noted["EffectiveCaps"].as_array().is_none_or(Vec::is_empty), "{}", noted["EffectiveCaps"]);
        assert!(noted["BoundingCaps"].as_array().is_none_or(Vec::is_empty), "{}", noted["BoundingCaps"]);
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["AutoRemove"], false);
        assert_ne!(host["Init"], true);
        assert_eq!(host["RestartPolicy"]["Name"], "on-failure");
        assert_eq!(config["StopTimeout"], 10);
        assert_eq!(config["Hostname"], "box");
        assert_eq!(inside(engine, "box", "echo $HOME"), config["WorkingDir"].as_str().unwrap());
        assert_eq!(noted["Path"], "/run/sbx/init");
        for (field, value) in [("PidMode", "private"), ("UTSMode", "private")] {
            assert_eq!(host[field], value, "{field}");
        }
        // A namespace of its own in both versions; 4.3 lets other containers ask to join it.
        assert_eq!(host["IpcMode"], if engine.kind().is_5() { "private" } else { "shareable" });
        if !engine.kind().is_rootless() {
            assert_eq!(host["Memory"], 256 << 20);
            assert_eq!(host["PidsLimit"], 100);
            assert_eq!(host["CpuQuota"], 50_000);
        }
        let networks: Vec<&String> = noted["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
        assert_eq!(networks, ["readback_inner"]);
        assert_eq!(inspect(engine, "readback_alone")["HostConfig"]["NetworkMode"], "none");
        let text = noted.to_string();
        assert!(!text.contains("proxy.example"), "{text}");
        assert!(!text.contains("very secret"), "{text}");
        let secrets = config["Secrets"].as_array().unwrap();
        assert_eq!(secrets.len(), 1, "{secrets:?}");
        let uid = engine.uid();
        for (field, value) in [("UID", uid), ("GID", uid), ("Mode", 0o400)] {
            assert_eq!(secrets[0][field], value, "{field}");
        }
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
        let uid = engine.uid().to_string();
        assert_eq!(inside(engine, "box", "id -u"), uid);
        let map = inside(engine, "box", "cat /proc/self/uid_map");
        let host_map = engine.command("cat").arg("/proc/self/uid_map").ok();
        assert_ne!(map, host_map, "a user namespace of its own");

        // Swap is no way around a ceiling on memory.
        let memsw = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
        if !engine.kind().is_rootless() && std::path::Path::new(memsw).exists() {
            let pid = inspect(engine, "readback_box")["State"]["Pid"].to_string();
            let groups = engine.as_root("cat").arg(format!("/proc/{pid}/cgroup")).ok();
            let group = groups.lines().find_map(|line| line.split_once(":memory:")).expect("a memory group").1;
            let file = format!("/sys/fs/cgroup/memory{group}/memory.memsw.limit_in_bytes");
            assert_eq!(engine.as_root("cat").arg(file).ok(), (256_u64 << 20).to_string());
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
        assert!(env.contains("PLAIN=a b") && !env.contains("very secret"), "{env}");
        assert!(!env.to_lowercase().contains("proxy"), "{env}");

        // Nothing but `lo` without networks; no way out with an internal one but into the dead end.
        assert_eq!(inside(engine, "alone", "ls /sys/class/net"), "lo");
        let routes = inside(engine, "box", "ip route");
        let out: Vec<&str> = routes.lines().filter(|route| route.starts_with("default")).collect();
        assert!(out.iter().all(|route| !route.contains("via") && route.contains("dev sbx0")), "{routes}");
        assert_eq!(out.len(), 1, "{routes}");
    }
}
