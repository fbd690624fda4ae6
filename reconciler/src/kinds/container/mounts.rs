//! What a sandbox sees: host tools, home, mounts, worktrees, desktop sockets, memory, and the overlay on top.

use std::path::{Path, PathBuf};

use schema::config::{EgressMode, Home, Image, Mode, MountSource, Relabel, Sandbox, Transport};

use super::{etc, trust};
use crate::data::SOCKETS;
use crate::desired::DesireContext;
use crate::host_facts::PathKind;
use crate::kinds::{image, worktree};
use crate::plan::Notice;
use crate::resource::Naming;
use crate::spec::{MountOrigin, MountSpec};

/// Where `sbx-init` is mounted inside.
pub const INIT: &str = "/run/sbx/init";

/// Where the directory of a sandbox's socket is mounted inside (`transport: socket`); the socket in it is `egress.sock`.
pub const SOCKET: &str = "/run/sbx/egress";

const MIB: u64 = 1 << 20;
const TMP_BYTES: u64 = 512 * MIB;
const HOME_BYTES: u64 = 1024 * MIB;
const WORK_BYTES: u64 = 512 * MIB;
const RUN_BYTES: u64 = 64 * MIB;

/// Mounts, notices and environment gathered for one sandbox.
pub struct Mounts<'a> {
    context: &'a DesireContext<'a>,
    sandbox: &'a Sandbox,
    specs: Vec<MountSpec>,
    /// What stands in the way.
    pub notices: Vec<Notice>,
    /// Variables that desktop sockets need.
    pub env: Vec<(String, String)>,
}

impl<'a> Mounts<'a> {
    /// All mounts of `sandbox`, each target once: what is listed later wins, and the overlay is last.
    pub fn of(
        context: &'a DesireContext<'a>,
        sandbox: &'a Sandbox,
    ) -> (Vec<MountSpec>, Vec<Notice>, Vec<(String, String)>) {
        let mut all = Self { context, sandbox, specs: Vec::new(), notices: Vec::new(), env: Vec::new() };
        all.memory();
        all.image();
        all.etc();
        all.trust();
        all.home();
        all.configured();
        all.worktrees();
        all.desktop();
        all.work();
        all.overlay();
        if let Some(directory) = sockets(context.naming, &context.host.data, sandbox) {
            all.add(bind(directory, SOCKET.into(), true));
        }
        all.add(bind(context.host.init.clone(), INIT.into(), true));
        (all.specs, all.notices, all.env)
    }

    fn add(&mut self, mount: MountSpec) {
        self.specs.retain(|earlier| earlier.target != mount.target);
        self.specs.push(mount);
    }

    fn place(&self, field: &str) -> String {
        format!("sandboxes.{}.{field}", self.sandbox.name)
    }

    fn fail(&mut self, code: &str, field: &str, message: String, help: &str) {
        self.notices.push(self.context.error(code, &self.place(field), message, help));
    }

    /// A bind of a host path that has to be there and must not lead to a container engine.
    fn bind_source(&mut self, source: &Path, field: &str) -> bool {
        if !self.context.host.paths.contains_key(source) {
            let (message, help) = match self.context.host.unseen.get(source) {
                Some(why) => (
                    format!("{} cannot be looked at: {why}", source.display()),
                    "let yourself enter every directory above it, or remove the mount",
                ),
                None => (format!("{} is not there", source.display()), "create it, or remove the mount"),
            };
            self.fail("missing-source", field, message, help);
            return false;
        }
        let real = self.context.host.resolved.get(source).map_or(source, PathBuf::as_path);
        let alias = self.context.host.aliases.get(source);
        let mut sockets = self.context.host.engine_sockets.iter();
        if let Some(socket) = sockets.find(|socket| socket.starts_with(real) || alias == Some(*socket)) {
            let message = format!("{} leads to the engine's socket {}", source.display(), socket.display());
            self.fail(
                "engine-socket",
                field,
                message,
                "whoever reaches that socket owns the host; mount something narrower",
            );
            return false;
        }
        if let Some(kernel) = schema::KERNELS.iter().find(|kernel| real.starts_with(kernel)) {
            let message = format!("{} leads to {kernel}, and by it to all of the host", source.display());
            self.fail("engine-socket", field, message, "the sandbox has its own; mount something narrower");
            return false;
        }
        // Whoever reads these is any host to the project's sandboxes, gives orders to the daemon, or writes its records.
        let mut own = self.context.host.own.iter();
        if let Some(own) = own.find(|own| own.starts_with(real) || real.starts_with(own) || alias == Some(*own)) {
            let message = format!("{} leads to {}, which is sbx's own", source.display(), own.display());
            let help = "keys, orders to the daemon or its records are there; mount something narrower";
            self.fail("own-files", field, message, help);
            return false;
        }
        true
    }

    fn memory(&mut self) {
        let security = &self.sandbox.security;
        if security.read_only {
            self.add(tmpfs("/tmp".into(), TMP_BYTES, 0o1777));
            // Without it, engines cannot give secrets to a container whose root is read-only.
            self.add(tmpfs("/run".into(), RUN_BYTES, 0o755));
            self.add(tmpfs("/var/tmp".into(), TMP_BYTES, 0o1777));
            if self.sandbox.home == Home::Image {
                self.add(tmpfs(self.sandbox.user.home.clone(), HOME_BYTES, 0o700));
            }
        }
        for (target, bytes) in &security.tmpfs {
            let mode = if target.starts_with("/tmp") || target.starts_with("/var/tmp") { 0o1777 } else { 0o755 };
            self.add(tmpfs(target.clone(), *bytes, mode));
        }
    }

    fn image(&mut self) {
        let Some(Image::Host { dirs, etc }) = self.context.config.images.get(&self.sandbox.image) else { return };
        let links = image::host_links(self.context, dirs);
        for dir in dirs.iter().filter(|dir| !links.contains_key(*dir)) {
            if self.bind_source(dir, "image") {
                self.add(bind(dir.clone(), dir.clone(), true));
            }
        }
        for entry in etc {
            let path = Path::new("/etc").join(entry);
            // An allowlist is an upper bound: distributions differ in what they have.
            if self.context.host.paths.contains_key(&path) {
                self.add(bind(path.clone(), path, true));
            }
        }
    }

    /// What is configured comes later and may put something else there: it decides nothing that is enforced.
    fn etc(&mut self) {
        for file in etc::files(self.sandbox) {
            self.add(bind(file.path(&self.context.host.data), file.target.into(), true));
        }
    }

    /// The same holds of these.
    fn trust(&mut self) {
        if trust::is_shown(self.sandbox) {
            self.add(bind(self.context.host.trust.clone(), trust::DIRECTORY.into(), true));
        }
    }

    fn home(&mut self) {
        let target = self.sandbox.user.home.clone();
        match &self.sandbox.home {
            Home::Image => {}
            Home::Volume(name) => self.add(MountSpec {
                source: MountOrigin::Volume { volume: self.context.naming.object(name.as_str()) },
                target,
                read_only: false,
                relabel: None,
            }),
            Home::Workspace(path) => {
                if self.bind_source(path, "home") {
                    self.add(bind(path.clone(), target, false));
                }
            }
            Home::Tmpfs(bytes) => self.add(tmpfs(target, *bytes, 0o700)),
        }
    }

    fn configured(&mut self) {
        let sandbox = self.sandbox;
        for (index, mount) in sandbox.mounts.iter().enumerate() {
            let schema::config::Mount { source, target, mode, relabel } = mount;
            let source = match source {
                MountSource::Path(path) => {
                    if !self.bind_source(path, &format!("mounts.{index}")) {
                        continue;
                    }
                    MountOrigin::Bind { source: path.clone() }
                }
                MountSource::Volume(name) => MountOrigin::Volume { volume: self.context.naming.object(name.as_str()) },
            };
            let relabel = relabel.map(|relabel| match relabel {
                Relabel::Shared => "z".to_owned(),
                Relabel::Private => "Z".to_owned(),
            });
            self.add(MountSpec { source, target: target.clone(), read_only: *mode == Mode::Ro, relabel });
        }
    }

    fn worktrees(&mut self) {
        let specs: Vec<_> = self.sandbox.worktrees.iter().map(worktree::spec).collect();
        for mount in worktree::mounts(self.context.snapshot, &specs) {
            self.add(mount);
        }
    }

    /// Desktop sockets keep their host names below `/run/user/UID`, which is where every client looks.
    fn desktop(&mut self) {
        let gui = self.sandbox.gui;
        let inside = PathBuf::from(format!("/run/user/{}", self.sandbox.user.uid));
        let desktop = |key: &str| self.context.host.desktop.get(key).cloned();
        let mut wanted: Vec<(&str, PathBuf, Option<&str>)> = Vec::new();
        if gui.wayland {
            wanted.push((
                "gui.wayland",
                desktop("WAYLAND_DISPLAY").unwrap_or_else(|| "wayland-0".into()).into(),
                Some("WAYLAND_DISPLAY"),
            ));
        }
        if gui.audio {
            wanted.push(("gui.audio", "pipewire-0".into(), None));
            wanted.push(("gui.audio", "pulse/native".into(), Some("PULSE_SERVER")));
        }
        if gui.dbus {
            wanted.push(("gui.dbus", "bus".into(), Some("DBUS_SESSION_BUS_ADDRESS")));
        }
        if wanted.is_empty() && !gui.dri {
            return;
        }
        let mut audio = false;
        for (field, name, variable) in wanted {
            let Some(runtime) = &self.context.host.runtime_dir else {
                self.fail(
                    "missing-socket",
                    field,
                    "XDG_RUNTIME_DIR is not set: there is no desktop session to share".into(),
                    "run sbx inside the desktop session, or switch this off",
                );
                continue;
            };
            let source = runtime.join(&name);
            if self.context.host.paths.get(&source) != Some(&PathKind::Socket) {
                // Either sound server will do.
                if field != "gui.audio" {
                    let message = format!("{} is not a socket", source.display());
                    self.fail("missing-socket", field, message, "start the session's service, or switch this off");
                }
                continue;
            }
            audio |= field == "gui.audio";
            let target =
                inside.join(name.file_name().filter(|_| field == "gui.wayland").map_or(name.clone(), PathBuf::from));
            if let Some(variable) = variable {
                let value = match variable {
                    "PULSE_SERVER" => format!("unix:{}", target.display()),
                    "DBUS_SESSION_BUS_ADDRESS" => format!("unix:path={}", target.display()),
                    _ => target.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                };
                self.env.push((variable.to_owned(), value));
            }
            self.add(bind(source, target, false));
        }
        if gui.audio && !audio && self.context.host.runtime_dir.is_some() {
            self.fail(
                "missing-socket",
                "gui.audio",
                "neither a PipeWire nor a PulseAudio socket is there".into(),
                "start the sound server, or switch this off",
            );
        }
        if gui.wayland || gui.audio || gui.dbus {
            self.env.push(("XDG_RUNTIME_DIR".to_owned(), inside.display().to_string()));
        }
    }

    /// Below a read-only root, space to work in where nothing else is. What the image has there stays in sight.
    fn work(&mut self) {
        let directory = &self.sandbox.workdir;
        let covered = self.specs.iter().any(|mount| directory.starts_with(&mount.target));
        let fixed = directory == Path::new("/") || schema::KERNELS.iter().any(|kernel| directory.starts_with(kernel));
        if self.sandbox.security.read_only && !covered && !fixed {
            let source = MountOrigin::Tmpfs { size: WORK_BYTES, mode: 0o755, copied: true };
            self.add(MountSpec { source, target: directory.clone(), read_only: false, relabel: None });
        }
    }

    /// File by file, so that directories keep what the overlay does not name. `home/user` stands for the real home.
    fn overlay(&mut self) {
        let Some(tree) = &self.sandbox.overlay else { return };
        match self.context.host.overlays.get(tree) {
            Some(Ok(files)) => {
                for file in files {
                    let target = match file.path.strip_prefix("home/user") {
                        Ok(rest) => self.sandbox.user.home.join(rest),
                        Err(_) => Path::new("/").join(&file.path),
                    };
                    self.add(bind(tree.join(&file.path), target, true));
                }
            }
            Some(Err(why)) => {
                let message = format!("overlay {}: {why}", tree.display());
                self.fail("overlay", "overlay", message, "correct the path or its content");
            }
            None => self.fail("overlay", "overlay", format!("overlay {} was not looked at", tree.display()), ""),
        }
    }
}

/// The directory on the host for the socket of `sandbox`, below the directory where `sbx` keeps its data; none where it
/// comes by another way. A directory, as a mount would show a socket that is there no more for ever.
pub fn sockets(naming: &Naming, data: &Path, sandbox: &Sandbox) -> Option<PathBuf> {
    let wanted = sandbox.egress.mode == EgressMode::Allowlist && sandbox.egress.transport == Transport::Socket;
    wanted.then(|| data.join(SOCKETS).join(naming.object(sandbox.name.as_str())))
}

fn bind(source: PathBuf, target: PathBuf, read_only: bool) -> MountSpec {
    MountSpec { source: MountOrigin::Bind { source }, target, read_only, relabel: None }
}

fn tmpfs(target: PathBuf, size: u64, mode: u32) -> MountSpec {
    MountSpec { source: MountOrigin::Tmpfs { size, mode, copied: false }, target, read_only: false, relabel: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::host_facts::{HostFacts, PathKind};
    use crate::testing::{config, desired};

    #[tokio::test]
    async fn what_leads_to_files_of_sbx_is_not_mounted() {
        let paths = [
            "/data",
            "/data/authority/acme.pem",
            "/run/user/7",
            "/project",
            "/project/state/egress/0123/acme/one/audit.jsonl",
            "/root",
            "/home/alice/linked",
            "/mnt/same-files",
            // Beside them.
            "/data/other",
            "/run/user/7/bus",
            "/project/source",
            "/srv",
        ];
        let own = ["/data/authority", "/run/user/7/sbx", "/project/state", "/root/.local/share/sbx/authority"];
        let host = HostFacts {
            data: "/data".into(),
            own: own.map(Into::into).into(),
            resolved: [("/home/alice/linked".into(), "/project".into())].into(),
            aliases: [("/mnt/same-files".into(), "/data/authority".into())].into(),
            paths: paths.iter().map(|path| (path.into(), PathKind::Directory)).collect(),
            ..HostFacts::default()
        };
        let mount = |(n, path): (usize, &&str)| format!("{{ source: {path}, target: /mnt/{n} }}");
        let mounts = paths.iter().enumerate().map(mount).collect::<Vec<_>>().join(", ");
        let config = config(&format!("sandboxes:\n  one: {{ image: host, mounts: [{mounts}] }}\n"));
        let state = desired(&config, &host).await;
        let refused = state.notices.iter().filter(|notice| notice.code == "sbx::own-files");
        let refused: Vec<&str> = refused.filter_map(|notice| notice.message.split(' ').next()).collect();
        assert_eq!(refused, &paths[..8]);
    }

    /// Memory below a read-only root: where nothing else is, and nowhere else.
    #[tokio::test]
    async fn a_read_only_root_comes_with_space_to_work_in() {
        let memory = async |body: &str| {
            let paths =
                ["/project/here", "/usr", "/lib", "/lib64"].map(|path| (path.into(), PathKind::Directory)).into();
            let host = HostFacts { paths, ..HostFacts::default() };
            let text = format!("volumes: {{ data: {{}} }}\nsandboxes: {{ one: {{ image: host, {body} }} }}\n");
            let state = desired(&config(&text), &host).await;
            let spec = state.resources.iter().find(|resource| resource.id.kind == crate::kinds::container::NOUN);
            let mounts = spec.expect("a container").spec["mounts"].as_array().expect("a list").clone();
            let memory = mounts.into_iter().filter(|mount| mount["type"] == "tmpfs");
            memory.map(|mount| (mount["target"].as_str().expect("a path").to_owned(), mount["size"].as_u64())).collect()
        };
        let sized = |rows: &[(&str, u64)]| -> BTreeMap<String, Option<u64>> {
            rows.iter().map(|(target, mib)| ((*target).to_owned(), Some(mib << 20))).collect()
        };
        let usual = [("/tmp", 512), ("/run", 64), ("/var/tmp", 512)];
        let home = ("/home/alice", 1024);
        let read_only = "security: { readOnly: true }";
        let cases: [(&str, &[(&str, u64)]); 9] = [
            ("", &[home]),
            ("workdir: /home/alice/src", &[home]),
            ("workdir: /tmp/work", &[home]),
            ("workdir: /", &[home]),
            ("workdir: /proc/sys", &[home]),
            ("workdir: /work, mounts: [{ source: ./here, target: /work/here }]", &[home, ("/work", 512)]),
            ("workdir: /work/here, mounts: [{ source: ./here, target: /work }]", &[home]),
            ("workdir: /work, home: { volume: data }", &[("/work", 512)]),
            ("workdir: /usr/src", &[home]),
        ];
        for (body, more) in cases {
            let comma = if body.is_empty() { "" } else { ", " };
            let got: BTreeMap<_, _> = memory(&format!("{body}{comma}{read_only}")).await;
            assert_eq!(got, sized(&[&usual[..], more].concat()), "{body}");
        }
        let got: BTreeMap<_, _> = memory("workdir: /work, security: { readOnly: true, tmpfs: { /work: 1MiB } }").await;
        assert_eq!(got, sized(&[&usual[..], &[home, ("/work", 1)]].concat()));
        let got: BTreeMap<_, _> = memory("workdir: /work").await;
        assert_eq!(got, BTreeMap::new(), "nothing is read-only there");
    }
}
