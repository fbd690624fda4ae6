//! Builds PID 1 (crate `init`) as a static program for `sbx` to carry, so that one build of `sbx` yields all of it.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// Settings of the build of `sbx` that must not reach the build of PID 1: it always has the same profile, flags and
/// place, and a lint or coverage run of `sbx` is none of its business.
const NOT_FOR_INIT: [&str; 8] = [
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
];

fn main() {
    let workspace = workspace();
    for input in ["Cargo.toml", "Cargo.lock", "init/Cargo.toml", "init/src"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }

    let target = variable("TARGET");
    // A directory of its own: the build of `sbx` holds the lock on the usual one until this script ends.
    let directory = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(&workspace);
    for name in NOT_FOR_INIT {
        cargo.env_remove(name);
    }
    cargo
        .args(["build", "--quiet", "--locked", "--package", "sbx-init", "--bin", "sbx-init", "--profile", "init"])
        // Named even when it is the host, or the flags would apply to build scripts too.
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&directory)
        .env("CARGO_BUILD_BUILD_DIR", &directory)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("cargo, building sbx-init: {status}")),
        Err(error) => fail(&format!("cargo cannot be run to build sbx-init: {error}")),
    }

    let program = directory.join(target).join("init").join("sbx-init");
    println!("cargo::rustc-env=SBX_INIT={}", program.display());
    let content = std::fs::read(&program).unwrap_or_else(|error| fail(&format!("{}: {error}", program.display())));
    let mut hash = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    println!("cargo::rustc-env=SBX_INIT_HASH={hash}");
}

fn workspace() -> PathBuf {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}")))
}

#[allow(clippy::disallowed_methods, reason = "a build script has one way to fail, and nothing to drop")]
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1)
}
