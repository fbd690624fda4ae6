//! Configurations to measure with, on an engine of their own.

use std::fmt::Write as _;
use std::path::Path;

use crate::engine::{Engine, Kind};
use crate::http;
use crate::invocation::Invocation;

/// Containers of any project, as `sbx` asks for them.
pub const LIST: &str = "/v4.0.0/libpod/containers/json?all=true&filters=%7B%22label%22%3A%5B%22sbx.project%22%5D%7D";

/// Sandboxes with the tools of this machine and without a network.
pub fn text(sandboxes: usize) -> String {
    let mut text = format!(
        "apiVersion: sbx/v1\nproject: bench\nquotas: {{ perOwner: {sandboxes}, total: {sandboxes} }}\n\
         defaults: {{ owner: bench, image: host }}\nsandboxes:\n"
    );
    for number in 0..sandboxes {
        let _ = writeln!(text, "  s{number:05}: {{}}");
    }
    text
}

/// `sbx` on a configuration, without questions or pictures.
pub fn sbx<'e>(engine: &'e Engine, file: &Path, arguments: &[&str]) -> Invocation<'e> {
    engine.sbx(arguments).arg("-f").arg(file)
}

/// An engine on which the sandboxes of `file` run.
pub fn converged(sandboxes: usize) -> (Engine, std::path::PathBuf) {
    let engine = Engine::start(Kind::Rootful4);
    let file = engine.write("sandboxes.yaml", text(sandboxes));
    apply(&engine, &file).run().expect_code(0);
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&http::call(&engine.socket(), "GET", LIST, b"")).expect("JSON");
    assert_eq!(listed.len(), sandboxes);
    (engine, file)
}

/// `sbx apply` that asks nobody.
pub fn apply<'e>(engine: &'e Engine, file: &Path) -> Invocation<'e> {
    sbx(engine, file, &["apply", "--auto-approve"])
}

/// `sbx plan` that fails unless it is empty.
pub fn plan<'e>(engine: &'e Engine, file: &Path) -> Invocation<'e> {
    sbx(engine, file, &["plan", "--detailed-exitcode"])
}
