//! A plan in a file: what was shown, what was wished, and where the configuration came from.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use reconciler::plan::{FORMAT_VERSION, Plan};
use reconciler::{Destroy, PlanOptions};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::{Failure, io_text};

/// What the user asked for beyond the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Only these sandboxes.
    pub targets: BTreeSet<String>,
    /// Sandboxes to make anew.
    pub replace: BTreeSet<String>,
    /// Losses consented to.
    pub accepted: BTreeSet<String>,
    /// Only what was changed from outside.
    pub refresh_only: bool,
    /// Remove everything.
    pub destroy: bool,
    /// And the volumes.
    pub volumes: bool,
    /// And the worktrees.
    pub worktrees: bool,
    /// And the engine's copies of secrets.
    pub secrets: bool,
}

impl Wishes {
    /// As the planner takes them.
    pub fn options(&self) -> PlanOptions {
        PlanOptions {
            targets: self.targets.clone(),
            replace: self.replace.clone(),
            accepted: self.accepted.clone(),
            refresh_only: self.refresh_only,
            destroy: self.destroy.then_some(Destroy {
                volumes: self.volumes,
                worktrees: self.worktrees,
                secrets: self.secrets,
            }),
            ..PlanOptions::default()
        }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// Version of this shape; `sbx` reads its own only.
    pub format_version: String,
    /// The configuration files, absolute.
    pub files: Vec<PathBuf>,
    /// Address of the engine it was made against.
    pub engine: String,
    /// What was wished.
    pub wishes: Wishes,
    /// The plan itself.
    pub plan: Plan,
}

/// A plan with everything in it is still far smaller.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

impl SavedPlan {
    /// Writes it, readable for the caller only. The file is whole or not there.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io(format!("cannot write {}", path.display()), &error);
        let mut name = path.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(crate::render::json::line(self).as_bytes()).and_then(|()| file.sync_all())
            })
            .and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|error| {
            // What is left of a failed write is of no use to anybody.
            let _ = std::fs::remove_file(&temporary);
            failed(error)
        })
    }

    /// Reads one.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        use std::io::Read as _;
        let name = path.display();
        let mut text = String::new();
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)).map_err(|error| {
            Failure::failed("sbx::unreadable-plan", format!("cannot read the plan {name}: {}", io_text(&error)))
                .with_help("make one with `sbx plan --out FILE`")
        })?;
        let damaged = |why: String| {
            Failure::failed("sbx::unreadable-plan", format!("{name} is not a plan of this sbx: {why}"))
                .with_help("make a new one with `sbx plan --out FILE`")
        };
        let saved: Self = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if saved.format_version != FORMAT_VERSION {
            return Err(damaged(format!("its version is {}", crate::render::text::safe(&saved.format_version))));
        }
        Ok(saved)
    }

    /// Refuses to carry it out on another engine than its own: what it shows is not about what is there.
    pub fn refuse_other_engine(&self, address: &str) -> Result<(), Failure> {
        if self.engine == address {
            return Ok(());
        }
        let made = crate::render::text::safe(&self.engine);
        Err(stale(vec![format!("the plan is for engine {made}, and this is {address}")]))
    }
}

/// The failure of a plan that no longer fits.
pub fn stale(moved: Vec<String>) -> Failure {
    Failure::new(Exit::TryAgain, "sbx::stale-plan", "the plan is stale; nothing was changed")
        .with_details(moved)
        .with_help("plan again, look at it, and apply the new plan")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::render::sample;

    #[test]
    fn reads_back_and_is_nobody_elses() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.json");
        let saved = SavedPlan {
            format_version: FORMAT_VERSION.to_owned(),
            files: vec![PathBuf::from("/x/sandboxes.yaml")],
            engine: "unix:///run/podman/podman.sock".into(),
            wishes: Wishes { destroy: true, volumes: true, ..Wishes::default() },
            plan: sample::plan(),
        };
        saved.write(&path).expect("written");
        saved.write(&path).expect("written again");
        assert_eq!(SavedPlan::read(&path).expect("read"), saved);
        saved.refuse_other_engine("unix:///run/podman/podman.sock").expect("its own");
        let failure = saved.refuse_other_engine("user:1000").expect_err("another one");
        assert_eq!((failure.exit, failure.code), (Exit::TryAgain, "sbx::stale-plan"));
        let told = "the plan is for engine unix:///run/podman/podman.sock, and this is user:1000";
        assert_eq!(failure.details, [told]);
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1, "no temporary file stays");
    }

    #[test]
    fn damaged_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.json");
        for text in ["", "{}", "[1]", "{\"format_version\":\"9\"}"] {
            std::fs::write(&path, text).expect("written");
            let failure = SavedPlan::read(&path).expect_err("no plan");
            assert_eq!(failure.code, "sbx::unreadable-plan");
        }
    }
}
