//! What was measured, as tables and as JSON.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::Scale;
use crate::stopwatch::Times;

/// Everything of one run.
#[derive(Serialize)]
pub struct Report {
    format_version: &'static str,
    smoke: bool,
    machine: Machine,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    load_before: String,
    podman: String,
}

#[derive(Serialize)]
struct Group {
    id: &'static str,
    title: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<Figure>,
}

/// One number that is no time in turns with others.
#[derive(Serialize)]
pub struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<(&'static str, bool)>,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value: round(value), unit, goal: None }
    }

    /// With what it should be, and whether it is.
    pub fn goal(mut self, goal: &'static str, met: bool) -> Self {
        self.goal = Some((goal, met));
        self
    }
}

/// One thing that was measured.
#[derive(Serialize)]
pub struct Row {
    sandboxes: usize,
    what: String,
    median_ms: f64,
    samples_ms: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Beside>,
}

/// How it compares.
#[derive(Serialize)]
struct Beside {
    to: String,
    ratio: f64,
    goal: String,
    met: bool,
}

impl Row {
    /// A floor or a peer.
    pub fn new(sandboxes: usize, what: impl Into<String>, times: &Times) -> Self {
        let samples_ms = times.0.iter().copied().map(milliseconds).collect();
        Self { sandboxes, what: what.into(), median_ms: milliseconds(times.median()), samples_ms, beside: None }
    }

    /// With its `ratio` to something else, and whether that is good enough.
    pub fn beside(mut self, to: &str, ratio: f64, goal: impl Into<String>, met: bool) -> Self {
        self.beside = Some(Beside { to: to.to_owned(), ratio: round(ratio), goal: goal.into(), met });
        self
    }
}

impl Report {
    pub fn new(scale: &Scale) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version = std::process::Command::new("podman").arg("--version").output();
        let podman = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let machine = Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            podman: podman.unwrap_or_default(),
        };
        println!("{} cores, load {}, {}", machine.cores, machine.load_before, machine.podman);
        Self { format_version: "1.0", smoke: scale.smoke, machine, groups: Vec::new() }
    }

    /// Adds a group and prints it.
    pub fn group(&mut self, id: &'static str, title: impl Into<String>, rows: Vec<Row>) {
        let group = Group { id, title: title.into(), rows, figures: Vec::new() };
        println!("\n{} {}\n", group.id, group.title);
        println!("| N | what | median ms | min – max | ratio | goal | met |\n|--:|---|--:|--:|--:|---|---|");
        for row in &group.rows {
            let spread = row.samples_ms.iter().copied();
            let (least, most) = (spread.clone().fold(f64::INFINITY, f64::min), spread.fold(0.0, f64::max));
            let compared = row.beside.as_ref().map_or_else(
                || " | |".to_owned(),
                |beside| {
                    // Where there is no goal there is nothing to meet.
                    let met = match (beside.goal.as_str(), beside.met) {
                        ("", _) => "",
                        (_, true) => "yes",
                        (_, false) => "no",
                    };
                    format!("{:.2} × {} | {} | {met}", beside.ratio, beside.to, beside.goal)
                },
            );
            println!(
                "| {} | {} | {:.1} | {least:.1} – {most:.1} | {compared} |",
                row.sandboxes, row.what, row.median_ms
            );
        }
        self.groups.push(group);
    }

    /// Adds a group of single numbers and prints it.
    pub fn figures(&mut self, id: &'static str, title: impl Into<String>, figures: Vec<Figure>) {
        let group = Group { id, title: title.into(), rows: Vec::new(), figures };
        println!("\n{} {}\n", group.id, group.title);
        println!("| what | value | goal | met |\n|---|--:|---|---|");
        for Figure { what, value, unit, goal } in &group.figures {
            let (goal, met) = goal.map_or(("", ""), |(goal, met)| (goal, if met { "yes" } else { "no" }));
            println!("| {what} | {value:.2} {unit} | {goal} | {met} |");
        }
        self.groups.push(group);
    }

    /// Writes the JSON.
    pub fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        fs::write(path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("\nwritten to {}", path.display());
    }
}

fn milliseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1000.0)
}

/// To thousandths.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
