//! Measures `sbx` beside what bounds it: raw calls to the same engine, other tools on the same socket, the YAML library.
//!
//! Prints a table per group and writes `target/bench.json`. Ratios are taken pair by pair within one run, since absolute
//! times drift; nothing is asserted about them. `docs/performance.md` says what is measured and why.
//!
//! `cargo bench` measures. Run in any other way (`cargo test --bench sbx`), or with `--smoke`, everything is done once with
//! two sandboxes, to show that it works.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../podman/engine.rs"]
mod engine;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../podman/image.rs"]
mod image;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../podman/invocation.rs"]
mod invocation;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../podman/namespaces.rs"]
mod namespaces;
#[path = "../podman/wait.rs"]
mod wait;

mod http;
mod load;
mod neighbour;
mod peer;
mod process;
mod project;
mod recorder;
mod report;
mod stopwatch;

mod converge;
mod daemon;
mod data_path;
mod decide;
mod network;
mod requests;
mod unchanged;
mod validate;

/// How much is done.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Only that it works.
    pub smoke: bool,
    /// Groups to run; empty is all.
    groups: Vec<String>,
}

impl Scale {
    /// Rounds of a measurement.
    pub fn rounds(&self, rounds: usize) -> usize {
        if self.smoke { 1 } else { rounds }
    }

    /// Sandboxes of a measurement.
    pub fn sandboxes(&self, sandboxes: usize) -> usize {
        if self.smoke { 2 } else { sandboxes }
    }

    fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|wanted| wanted.eq_ignore_ascii_case(group))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if role(&arguments) {
        return;
    }
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let groups = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
    let scale = Scale { smoke: given("--smoke") || !given("--bench"), groups };
    let mut report = report::Report::new(&scale);
    if scale.wants("P1") {
        unchanged::alone(&scale, &mut report);
    }
    if scale.wants("P2") {
        unchanged::beside_peers(&scale, &mut report);
    }
    if scale.wants("P3") {
        converge::from_nothing(&scale, &mut report);
    }
    if scale.wants("P4") {
        daemon::start(&scale, &mut report);
    }
    if scale.wants("P5") {
        validate::large_and_small(&scale, &mut report);
    }
    if scale.wants("P6") {
        network::bulk(&scale, &mut report);
    }
    if scale.wants("P7") {
        network::connections(&scale, &mut report);
    }
    if scale.wants("P8") {
        requests::intercepted(&scale, &mut report);
    }
    if scale.wants("P9") {
        network::names(&scale, &mut report);
    }
    if scale.wants("P10") {
        decide::ten_thousand_rules(&scale, &mut report);
    }
    if scale.wants("P11") {
        daemon::memory(&scale, &mut report);
    }
    if scale.wants("P12") {
        daemon::live(&scale, &mut report);
    }
    if scale.wants("neighbour") {
        neighbour::hostile(&scale, &mut report);
    }
    report.write(&target().join("bench.json"));
}

/// Plays a part in a measurement that this very program makes; none of its own if that is not what it was started for.
fn role(arguments: &[String]) -> bool {
    let port = |text: &String| text.parse::<u16>().expect("a port");
    match arguments {
        [role, port_of_origin] if role == "origin" => load::origin(port(port_of_origin)),
        [role, at, certificate, key] if role == "https-origin" => requests::https_origin(port(at), certificate, key),
        [role, tcp, dns, upstream] if role == "data-path" => data_path::passing(port(tcp), port(dns), port(upstream)),
        [role, tcp, dns, upstream, trusted] if role == "intercepting" => {
            data_path::intercepting(port(tcp), port(dns), port(upstream), trusted.as_ref());
        }
        _ => return false,
    }
    true
}

/// Processors.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The build directory: this program lies three levels below it.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    program.ancestors().nth(3).expect("cargo puts programs into PROFILE/deps").to_path_buf()
}
