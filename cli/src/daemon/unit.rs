//! The unit by which systemd runs the daemon.

use std::path::{Path, PathBuf};

use super::Place;
use crate::failure::Failure;

/// Name of the unit.
pub const NAME: &str = "sbx-daemon.service";
/// First line of ours; a file without it is somebody else's.
const MARK: &str = "# Written by `sbx daemon install`; changes are lost with the next one.";

/// How systemd is spoken to about it.
pub fn systemctl(system: bool) -> &'static str {
    if system { "systemctl" } else { "systemctl --user" }
}

/// The text of the unit. `system`: one of the system manager rather than of a user's.
pub fn text(program: &Path, place: &Place, system: bool) -> String {
    let quoted = |text: &str| {
        // systemd reads `%` and `$` as its own, and words in double quotes.
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
        format!("\"{text}\"")
    };
    let mut line = format!("{} daemon run --replace --supervised", quoted(&program.display().to_string()));
    line.push_str(&format!(" --state-dir {}", quoted(&place.state.display().to_string())));
    if let Some(url) = &place.engine_url {
        line.push_str(&format!(" --engine-url {}", quoted(url)));
    }
    let memory = super::start::MEMORY.map(|(name, value)| format!("{name}={value}")).join(" ");
    let target = if system { "multi-user.target" } else { "default.target" };
    format!(
        "{MARK}
[Unit]
Description=Egress of sbx sandboxes
Documentation=man:sbx-daemon(1)
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={line}
ExecReload=/bin/kill -HUP $MAINPID
# What was ordered to end, with `sbx daemon stop` too, stays so. 75: another daemon runs that is not to give way.
Restart=on-failure
RestartPreventExitStatus=75
RestartSec=500ms
WatchdogSec=30s
UMask=0077
Environment={memory}
LimitNOFILE=65536
# An engine's service that the daemon started ends by itself; what runs in sandboxes is not the daemon's to end.
KillMode=mixed

[Install]
WantedBy={target}
"
    )
}

/// Where it belongs.
pub fn path(system: bool, home: &Path, config: Option<&Path>) -> PathBuf {
    if system {
        return Path::new("/etc/systemd/system").join(NAME);
    }
    let config = config.map_or_else(|| home.join(".config"), Path::to_path_buf);
    config.join("systemd/user").join(NAME)
}

/// Writes it; whether anything changed.
pub fn write(path: &Path, text: &str) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    match std::fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(false),
        Ok(there) if !there.starts_with(MARK) => {
            return Err(Failure::refused("sbx::exists", format!("{} is not ours", path.display()))
                .with_help("move it away, and run the command again"));
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            directory: "/run/user/1000/sbx/x".into(),
            log: "/x".into(),
            records: "/x".into(),
            state: "/home/al ice/.local/state/sbx".into(),
            data: "/data".into(),
            engine_url: Some("unix:///run/100%/podman.sock".into()),
        }
    }

    #[test]
    fn systemd_finds_nothing_wrong() {
        let found = std::process::Command::new("systemd-analyze").arg("--version").output();
        let found = found.expect("systemd-analyze is there: of Debian's package systemd, which ./dev installs");
        assert!(found.status.success());
        let dir = tempfile::tempdir().expect("a directory");
        for system in [true, false] {
            let path = dir.path().join(NAME);
            std::fs::write(&path, text(Path::new("/bin/true"), &place(), system)).expect("written");
            let mut command = std::process::Command::new("systemd-analyze");
            command.arg(if system { "--system" } else { "--user" }).args(["--man=no", "verify"]).arg(&path);
            let checked = command.env("XDG_RUNTIME_DIR", dir.path()).output().expect("runs");
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            // What it says about other units of the machine is not ours.
            let ours: Vec<&str> = said.lines().filter(|line| line.contains(NAME)).collect();
            assert!(ours.is_empty(), "{ours:#?}");
            assert!(checked.status.success(), "{said}");
        }
        // It does find what is wrong.
        let path = dir.path().join(NAME);
        let wrong = text(Path::new("/bin/true"), &place(), true).replace("Restart=on-failure", "Restart=perhaps");
        std::fs::write(&path, wrong).expect("written");
        let checked = std::process::Command::new("systemd-analyze").args(["--man=no", "verify"]).arg(&path).output();
        assert!(String::from_utf8_lossy(&checked.expect("runs").stderr).to_lowercase().contains("restart"));
    }

    #[test]
    fn somebody_elses_unit_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = path(false, dir.path(), None);
        let text = text(Path::new("/usr/bin/sbx"), &place(), false);
        assert!(text.contains(r#"--engine-url "unix:///run/100%%/podman.sock""#), "{text}");
        assert!(text.contains(" daemon run --replace --supervised "), "{text}");
        assert!(write(&path, &text).expect("written"));
        assert!(!write(&path, &text).expect("there"), "nothing to do");
        assert!(write(&path, &text.replace("500ms", "1s")).expect("an older one of ours"));
        std::fs::write(&path, "[Service]\n").expect("written");
        assert!(write(&path, &text).is_err());
    }
}
