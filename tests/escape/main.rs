//! Attempts to get out of a sandbox, each beside a positive control, on real engines.
//!
//! The table of attempts is [`attempts::all`]; what runs inside is Python, what is outside is the test's own
//! [`world::World`]: name server, web servers, sinks, beyond the engine's uplink and on the engine's own machine. A refusal
//! counts only when nothing arrived in the world, no packet was on the uplink, it took less than two seconds, and the
//! audit log has it; a control counts only when the world got what it sent.
//!
//! Each attempt says what stands in its way ([`attempt::Attempt::defences`]), and [`mutation`] has it get through once that
//! is turned off: an attempt that cannot succeed proves nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod attempt;
mod attempts;
mod capture;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/engine.rs"]
mod engine;
mod failures;
mod inside;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/invocation.rs"]
mod invocation;
#[cfg(feature = "failpoints")]
mod mutation;
mod name_server;
#[path = "../podman/namespaces.rs"]
mod namespaces;
mod policy_updates;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/project.rs"]
mod project;
mod soak;
#[cfg(feature = "failpoints")]
mod start_window;
mod table;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/wait.rs"]
mod wait;
mod world;
