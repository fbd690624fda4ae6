//! P3: twenty sandboxes from nothing, beside the same create and start calls made without `sbx`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::{Engine, Kind};
use crate::project::{self, LIST};
use crate::recorder::{Recorder, Request};
use crate::report::{Report, Row};
use crate::stopwatch::{in_turns, time, time_process};
use crate::{Scale, http};

/// `apply` beside raw calls; the image is there, the containers are not.
pub fn from_nothing(scale: &Scale, report: &mut Report) {
    let sandboxes = scale.sandboxes(20);
    let engine = Engine::start(Kind::Rootful4);
    let file = engine.write("sandboxes.yaml", project::text(sandboxes));
    let recorder = Recorder::start(engine.dir().join("run/recorded.sock"), &engine.socket());
    project::apply(&engine, &file).env("CONTAINER_HOST", recorder.url()).run().expect_code(0);
    let asked = recorder.take();
    tell_calls(&asked, sandboxes);
    let creates: Vec<Request> =
        asked.into_iter().filter(|request| request.path.ends_with("/containers/create")).collect();
    assert_eq!(creates.len(), sandboxes);
    remove_all(&engine);

    let socket = engine.socket();
    let raw = |at_once: usize| {
        let took = time(|| create_and_start(&socket, &creates, at_once));
        remove_all(&engine);
        took
    };
    let [apply, one, two, four, eight] = in_turns(
        scale.rounds(9),
        &mut [
            &mut || {
                let took = time_process(project::apply(&engine, &file));
                remove_all(&engine);
                took
            },
            &mut || raw(1),
            &mut || raw(2),
            &mut || raw(4),
            &mut || raw(8),
        ],
    );
    let floors = [(1, one), (2, two), (4, four), (8, eight)];
    let mut rows: Vec<Row> = floors
        .iter()
        .map(|(at_once, times)| Row::new(sandboxes, format!("raw create and start, {at_once} at once"), times))
        .collect();
    let (at_once, best) = floors.iter().min_by_key(|(_, times)| times.median()).expect("four of them");
    let ratio = apply.ratio(best);
    rows.push(Row::new(sandboxes, "sbx apply", &apply).beside(
        &format!("raw, {at_once} at once"),
        ratio,
        "≤ 1.15 ×",
        ratio <= 1.15,
    ));
    report.group("P3", "from nothing, beside the same create and start calls made without sbx", rows);
}

/// Makes the recorded calls again, `at_once` at a time, and starts what they make.
fn create_and_start(socket: &Path, creates: &[Request], at_once: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(create) = creates.get(next.fetch_add(1, Ordering::Relaxed)) {
                    make(socket, create);
                }
            });
        }
    });
}

/// Makes one recorded call again, and starts what it makes: its id.
pub fn make(socket: &Path, create: &Request) -> String {
    let made = http::call(socket, "POST", &create.path, &create.body);
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    let id = made["Id"].as_str().expect("an id");
    http::call(socket, "POST", &format!("/v4.0.0/libpod/containers/{id}/start"), b"");
    id.to_owned()
}

/// Removes a container and what came with it.
pub fn remove(socket: &Path, id: &str) {
    http::call(socket, "DELETE", &format!("/v4.0.0/libpod/containers/{id}?force=true&timeout=0&v=true"), b"");
}

fn remove_all(engine: &Engine) {
    let socket = engine.socket();
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&http::call(&socket, "GET", LIST, b"")).expect("JSON");
    for container in listed {
        remove(&socket, container["Id"].as_str().expect("an id"));
    }
}

/// Prints how often each address was asked.
fn tell_calls(asked: &[Request], sandboxes: usize) {
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for request in asked {
        *counts.entry(request.call()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(call, count)| format!("{count} × {call}")).collect();
    println!("calls to make {sandboxes} sandboxes: {}", counts.join(", "));
}
