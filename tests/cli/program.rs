//! A run of `sbx` in a directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Directories that disappear with it.
pub struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["work", "home", "run"] {
            fs::create_dir(place.root.path().join(directory)).unwrap();
        }
        place
    }

    /// One with `text` as its `sandboxes.yaml`.
    pub fn with(text: &str) -> Self {
        let place = Self::new();
        place.write("sandboxes.yaml", text);
        place
    }

    /// The directory commands run in.
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    /// `sbx` with nothing of ours in its environment.
    pub fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sbx"));
        let home = self.root.path().join("home");
        command
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", "/nowhere")
            .env("HOME", &home)
            .env("USER", "tester")
            .env("XDG_RUNTIME_DIR", self.root.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of words to its end; standard output, standard error and exit code in one text.
    pub fn run(&self, line: &str) -> String {
        self.shown(&self.command(line.split_whitespace()).output().unwrap())
    }

    /// The same after `script`, which `sh` runs as root of namespaces of its own: what it mounts nobody else sees.
    pub fn run_in_a_view_of_its_own(&self, script: &str, line: &str) -> String {
        let sbx = self.command(line.split_whitespace());
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!("{script}\nexport PATH=/nowhere\nexec \"$0\" \"$@\"");
        command.args(["--mount", "sh", "-ec", &script]).arg(sbx.get_program()).args(sbx.get_args());
        command.current_dir(self.work()).stdin(Stdio::null()).env_clear();
        command.envs(sbx.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        self.shown(&command.output().expect("unshare of util-linux starts"))
    }

    /// The same with `input` on standard input.
    pub fn run_with(&self, line: &str, input: &[u8]) -> String {
        let mut command = self.command(line.split_whitespace());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        self.shown(&child.wait_with_output().unwrap())
    }

    fn shown(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = format!(
            "exit: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().map_or_else(|| String::from("signal"), |code| code.to_string()),
            text(&output.stdout),
            text(&output.stderr),
        );
        self.redact(&all)
    }

    /// What differs from run to run.
    fn redact(&self, text: &str) -> String {
        // Long temporary names may have been broken over two lines; tests choose inputs that keep them short.
        text.replace(&self.root.path().display().to_string(), "[place]")
            .replace(env!("CARGO_PKG_VERSION"), "[version]")
            .replace(std::env::consts::ARCH, "[arch]")
    }
}

/// A file that is right.
pub const GOOD: &str = "\
apiVersion: sbx/v1
project: acme
sandboxes:
  api: { image: host }
  web: { image: host }
";
