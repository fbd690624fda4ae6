//! What `sbx` brings along for the inside of a sandbox.

/// PID 1: a static program for this machine's architecture, to be mounted read-only at `/run/sbx/init`.
pub static INIT: &[u8] = include_bytes!(env!("SBX_INIT"));

/// The hash of [`INIT`], worked out when `sbx` was built: hashing it costs a small run a tenth of its time.
pub const INIT_HASH: &str = concat!("sha256:", env!("SBX_INIT_HASH"));

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    use super::INIT;

    /// Whether the program asks for a loader, which an empty image does not have.
    fn asks_for_loader(program: &[u8]) -> bool {
        const INTERPRETER: u32 = 3;
        let at = |offset: usize, length: usize| {
            let mut bytes = [0; 8];
            bytes[..length].copy_from_slice(&program[offset..offset + length]);
            usize::try_from(u64::from_le_bytes(bytes)).unwrap()
        };
        assert_eq!(&program[..5], b"\x7fELF\x02");
        let (table, entry, count) = (at(32, 8), at(54, 2), at(56, 2));
        (0..count).any(|index| at(table + index * entry, 4) == INTERPRETER as usize)
    }

    fn as_pid_1(options: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--pid", "--fork", "--kill-child"]).args(options).arg("--").args(words).output().unwrap()
    }

    /// Another process copies: a descriptor open for writing here would be inherited, for a moment, by what other tests
    /// start, and a file that anybody can write to does not run.
    fn install(program: &str, path: &Path) {
        let status = Command::new("install").args(["--mode=755", program]).arg(path).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn hash_is_that_of_the_program() {
        assert_eq!(super::INIT_HASH, reconciler::resource::sha256(INIT));
    }

    #[test]
    fn needs_no_loader() {
        assert!(!asks_for_loader(INIT));
        assert!(asks_for_loader(&fs::read("/bin/sh").unwrap()));
    }

    #[test]
    fn runs_in_an_empty_root() {
        let root = tempfile::tempdir().unwrap();
        install(env!("SBX_INIT"), &root.path().join("init"));
        install("/bin/sh", &root.path().join("sh"));
        let root = format!("--root={}", root.path().display());
        let output = as_pid_1(&[&root], &["/init", "--", "/init", "--version"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), concat!("sbx-init ", env!("CARGO_PKG_VERSION"), "\n"));
        assert!(output.status.success());
        // A program that needs a loader does not run there.
        assert_eq!(as_pid_1(&[&root], &["/init", "/sh", "-c", ":"]).status.code(), Some(127));
    }

    #[test]
    fn stays_small() {
        const LIMIT_KIB: u64 = 1536;
        let directory = tempfile::tempdir().unwrap();
        let init = directory.path().join("init");
        install(env!("SBX_INIT"), &init);
        let init = init.to_str().unwrap();
        let output = as_pid_1(&["--mount-proc"], &[init, "sed", "-n", "s/^VmRSS:[^0-9]*//p", "/proc/1/status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let resident: u64 = text.trim().trim_end_matches(" kB").parse().unwrap();
        assert!((1..=LIMIT_KIB).contains(&resident), "{resident} KiB");
    }
}
