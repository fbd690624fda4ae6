//! P1 and P2: nothing to do, alone and beside other tools.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::invocation::Invocation;
use crate::peer::{self, Peer};
use crate::project::{self, LIST};
use crate::recorder::Recorder;
use crate::report::{Report, Row};
use crate::stopwatch::{Times, in_turns, time, time_process};
use crate::{Scale, http};

/// What the goal of P1 adds to the floor.
const ALLOWANCE_MS: f64 = 10.0;

/// `plan` and `apply` of unchanged sandboxes, beside one list of their containers.
pub fn alone(scale: &Scale, report: &mut Report) {
    let sizes: &[(usize, usize)] = if scale.smoke { &[(2, 1)] } else { &[(20, 31), (200, 15), (1000, 9)] };
    let mut rows = Vec::new();
    for &(sandboxes, rounds) in sizes {
        let (engine, file) = project::converged(sandboxes);
        let [list, plan, apply] = in_turns(
            scale.rounds(rounds),
            &mut [
                &mut || time(|| http::call(&engine.socket(), "GET", LIST, b"")),
                &mut || time_process(project::plan(&engine, &file)),
                &mut || time_process(project::apply(&engine, &file)),
            ],
        );
        rows.push(Row::new(sandboxes, "one raw list", &list));
        rows.push(against_list(Row::new(sandboxes, "sbx plan", &plan), &plan, &list));
        rows.push(against_list(Row::new(sandboxes, "sbx apply", &apply), &apply, &list));
        if sandboxes <= 20 {
            tell_calls("sbx", &engine, project::plan(&engine, &file));
        }
    }
    report.group("P1", "nothing to do: plan and apply beside one raw list of the same containers", rows);
}

/// The goal is a multiple of the floor and a constant: met when the median of time over allowed time is at most one.
fn against_list(row: Row, times: &Times, list: &Times) -> Row {
    let within = times
        .0
        .iter()
        .zip(&list.0)
        .filter(|(ours, floor)| ours.as_secs_f64() * 1000.0 <= 1.5 * floor.as_secs_f64() * 1000.0 + ALLOWANCE_MS);
    let met = within.count() * 2 > times.0.len();
    row.beside("list", times.ratio(list), "≤ 1.5 × + 10 ms", met)
}

/// Prints what `invocation` asks the engine when nothing is to do. A relay stands between them.
fn tell_calls(name: &str, engine: &Engine, invocation: Invocation<'_>) {
    let recorder = Recorder::start(engine.dir().join(format!("run/{name}.sock")), &engine.socket());
    let url = recorder.url();
    invocation.env("CONTAINER_HOST", &url).env("PODMAN_SOCKET", &url).env("DOCKER_HOST", &url).run().expect_code(0);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for request in recorder.take() {
        *counts.entry(request.call()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(call, count)| format!("{count} × {call}")).collect();
    println!("{name} asks: {}", counts.join(", "));
}

/// The same at 20 sandboxes beside other tools with as many equivalent services of their own on the same engine.
pub fn beside_peers(scale: &Scale, report: &mut Report) {
    let sandboxes = scale.sandboxes(20);
    let (engine, file) = project::converged(sandboxes);
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&http::call(&engine.socket(), "GET", LIST, b"")).expect("JSON");
    let id = listed[0]["Id"].as_str().expect("an id");
    let container = http::call(&engine.socket(), "GET", &format!("/v4.0.0/libpod/containers/{id}/json"), b"");
    let services = peer::services(&serde_json::from_slice(&container).expect("JSON"), sandboxes);
    let compose = engine.write("compose/compose.yaml", services);

    let mut rows = Vec::new();
    for peer in peer::installed() {
        let [theirs, list, plan, apply] = beside(&peer, scale, &engine, &file, &compose);
        rows.push(Row::new(sandboxes, format!("{} up -d", peer.name), &theirs));
        // Nothing that lists can be faster than this.
        rows.push(Row::new(sandboxes, "one raw list", &list).beside("faster", theirs.ratio(&list), "", true));
        for (what, ours) in [("sbx plan", plan), ("sbx apply", apply)] {
            let ratio = theirs.ratio(&ours);
            rows.push(Row::new(sandboxes, what, &ours).beside("faster", ratio, "≥ 4 ×", ratio >= 4.0));
        }
    }
    report.group("P2", "nothing to do, beside other tools with equivalent services", rows);
}

fn beside(
    peer: &Peer,
    scale: &Scale,
    engine: &Engine,
    file: &std::path::Path,
    compose: &std::path::Path,
) -> [Times; 4] {
    let before = running(engine);
    peer.up(engine, compose).run().expect_code(0);
    assert_eq!(running(engine), before + scale.sandboxes(20), "{} has its services running", peer.name);
    tell_calls(peer.name, engine, peer.up(engine, compose));
    in_turns(
        scale.rounds(15),
        &mut [
            &mut || time_process(peer.up(engine, compose)),
            &mut || time(|| http::call(&engine.socket(), "GET", LIST, b"")),
            &mut || time_process(project::plan(engine, file)),
            &mut || time_process(project::apply(engine, file)),
        ],
    )
}

fn running(engine: &Engine) -> usize {
    let list = http::call(&engine.socket(), "GET", "/v4.0.0/libpod/containers/json", b"");
    serde_json::from_slice::<Vec<serde_json::Value>>(&list).expect("JSON").len()
}
