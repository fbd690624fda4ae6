//! Images made of one static program, without any registry.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Engine;

/// Programs of the image; each is the same file.
const APPLETS: &[&str] = &[
    "awk", "cat", "chmod", "cp", "dd", "echo", "env", "false", "grep", "head", "id", "ip", "kill", "ln", "ls", "mkdir",
    "mount", "mv", "nc", "nslookup", "od", "ps", "readlink", "rm", "sed", "seq", "sh", "sleep", "stat", "stty", "tail",
    "test", "touch", "tr", "true", "tty", "wc", "wget",
];

/// The name that [`Engine::import_busybox`] gives its image.
pub const BUSYBOX: &str = "localhost/busybox:test";

/// How `podman save` writes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    Docker,
    Oci,
}

impl Engine {
    /// A root directory `dir/name` with a static busybox and little else.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        let root = self.dir().join(name);
        for dir in ["bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox of Debian's busybox-static");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        root
    }

    /// The same as a tar file `dir/name`.
    pub fn rootfs_tar(&self, name: &str) -> PathBuf {
        let root = self.rootfs(&format!("{name}.d"));
        let tar = self.dir().join(name);
        self.as_root("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").ok();
        tar
    }

    /// Puts the image [`BUSYBOX`] into the engine's storage.
    #[track_caller]
    pub fn import_busybox(&self) -> &'static str {
        if !self.dir().join("busybox.tar").exists() {
            let tar = self.rootfs_tar("busybox.tar");
            self.podman(&["import", "--quiet", &tar.to_string_lossy(), BUSYBOX]);
        }
        BUSYBOX
    }

    /// An archive of [`BUSYBOX`] in the project directory, named `name` inside and in the file system; `gzip` packs it.
    /// The image stays in storage.
    #[track_caller]
    pub fn archive(&self, archive: Archive, file: &str, gzip: bool) -> PathBuf {
        self.import_busybox();
        let path = self.project().join(file);
        let format = match archive {
            Archive::Docker => "docker-archive",
            Archive::Oci => "oci-archive",
        };
        let unpacked = path.with_extension("unpacked");
        self.podman(&["save", "--quiet", "--format", format, "--output", &unpacked.to_string_lossy(), BUSYBOX]);
        if gzip {
            let packed = Command::new("gzip").args(["-nc"]).arg(&unpacked).output().unwrap();
            assert!(packed.status.success());
            self.write(&path, packed.stdout);
            fs::remove_file(unpacked).unwrap();
        } else {
            fs::rename(unpacked, &path).unwrap();
        }
        path
    }

    /// Runs a command in a throw-away container of [`BUSYBOX`] without a network.
    #[track_caller]
    pub fn in_busybox(&self, args: &[&str]) -> String {
        let image = self.import_busybox();
        let mut line = vec!["run", "--rm", "--network", "none", image];
        line.extend(args);
        self.podman(&line)
    }
}

/// Whether a file starts as gzip data does.
pub fn is_gzip(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])
}
