//! Real clients inside of sandboxes do their real work on real servers outside, through the policy, and nothing else.
//!
//! Every test has an engine of its own and, on an address of the engine's network, the servers it needs ([`world`]):
//! nginx, git's own, sshd, PostgreSQL and Redis from Debian's packages, registries of packages made by the test. Each name exists
//! twice: below [`world::ALLOWED`], where the policy lets the client do its work, and below [`world::DENIED`], where the
//! same server would answer and the same client is refused: at once, with a record, and without a request that arrives.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod cache;
mod client;
mod database;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/engine.rs"]
mod engine;
mod git;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/invocation.rs"]
mod invocation;
#[path = "../escape/name_server.rs"]
mod name_server;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/namespaces.rs"]
mod namespaces;
mod packages;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/project.rs"]
mod project;
mod server;
#[allow(dead_code, reason = "shared with the other tests on engines")]
#[path = "../podman/wait.rs"]
mod wait;
mod web;
mod world;
