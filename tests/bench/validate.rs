//! P5: `validate` of a large file beside the YAML library alone, and of a small one.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use granit_parser::Parser;

use crate::Scale;
use crate::project;
use crate::report::{Report, Row};
use crate::stopwatch::{in_turns, time};

/// `validate` as a whole process; the parsers in this one.
pub fn large_and_small(scale: &Scale, report: &mut Report) {
    let sandboxes = if scale.smoke { 10 } else { 10_000 };
    let dir = tempfile::tempdir().expect("a directory");
    let text = rich(sandboxes);
    let large = dir.path().join("large.yaml");
    let small = dir.path().join("small.yaml");
    fs::write(&large, &text).expect("written");
    fs::write(&small, project::text(2)).expect("written");

    let [events, values, ours, little] = in_turns(
        scale.rounds(15),
        &mut [
            &mut || time(|| Parser::new_from_str(&text).for_each(|event| drop(black_box(event).expect("YAML")))),
            &mut || time(|| serde_yaml::from_str::<serde_yaml::Value>(&text).expect("YAML")),
            &mut || validate(&large, dir.path()),
            &mut || validate(&small, dir.path()),
        ],
    );
    let (ratio, beside_values) = (ours.ratio(&events), ours.ratio(&values));
    let kib = text.len() / 1024;
    let rows = vec![
        Row::new(sandboxes, format!("granit-parser, events only, {kib} KiB"), &events),
        Row::new(sandboxes, "serde_yaml, to its Value", &values),
        Row::new(sandboxes, "sbx validate", &ours).beside("events", ratio, "≤ 3 ×", ratio <= 3.0),
        Row::new(sandboxes, "the same", &ours).beside("Value", beside_values, "≤ 3 ×", beside_values <= 3.0),
        Row::new(2, "sbx validate", &little).beside(
            "10 ms",
            little.median().as_secs_f64() * 100.0,
            "≤ 10 ms",
            little.median() <= Duration::from_millis(10),
        ),
    ];
    report.group("P5", "validate beside the YAML library alone", rows);
}

fn validate(file: &Path, home: &Path) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sbx"));
    command.args(["validate", "--file"]).arg(file).env_clear().env("HOME", home).env("USER", "bench");
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let begun = Instant::now();
    let status = command.status().expect("sbx starts");
    let took = begun.elapsed();
    assert!(status.success(), "sbx validate {}: {status}", file.display());
    took
}

/// Sandboxes of some size, as people write them.
fn rich(sandboxes: usize) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "apiVersion: sbx/v1\nproject: bench\nquotas: {{ perOwner: {sandboxes}, total: {sandboxes} }}\n\
         defaults:\n  image: host\n  limits: {{ cpus: 2, memory: 1GiB, pids: 512 }}\nnetworks:\n  backend: {{}}\n\
         sandboxes:\n"
    );
    for number in 0..sandboxes {
        let _ = write!(
            text,
            "  sandbox-{number:05}:\n    # One of many.\n    owner: bench\n    command: [python3, -m, http.server, \"8000\"]\n    \
             networks: [backend]\n    restart: on-failure\n    limits: {{ memory: 512MiB }}\n    env: {{ RUST_LOG: debug, PORT: \"8000\" }}\n    \
             security: {{ readOnly: true }}\n"
        );
    }
    text
}
