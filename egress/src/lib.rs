//! What leaves a sandbox.
//!
//! ```text
//! schema::policy::Policy → Compiled (evaluator, pure) ─┐
//! namespace → attach → Listeners (sockets born inside) ┴→ server: DNS, TCP, HTTP, UDP → upstream, audit
//! ```
//!
//! Everything that decides asks [`compiled::Compiled`]. This crate neither prints nor reads the environment.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails"))]

// By these names the targets of `fuzz/` know us and their fuzzer; see `fuzz::targets`.
#[cfg(test)]
extern crate self as egress;
#[cfg(test)]
extern crate self as libfuzzer_sys;

mod accept;
pub mod assertion;
pub mod attach;
pub mod audit;
pub mod compiled;
mod connection;
pub mod control;
mod cover;
pub mod daemon;
pub mod defence;
pub mod destination;
pub mod detect;
pub mod dial;
pub mod direct;
pub mod dns;
pub mod explain;
pub mod flows;
#[cfg(test)]
mod fuzz;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod generation;
mod handover;
pub mod http;
pub mod judge;
pub mod learn;
pub mod limits;
pub mod lint;
pub mod listeners;
pub mod metrics;
pub mod networks;
mod nft;
mod permit;
mod place;
pub mod policy_test;
pub mod pool;
pub mod recorder;
mod refusals;
mod refuse;
pub mod replay;
mod requests;
pub mod route;
pub mod sandbox;
pub mod service;
pub mod session;
pub mod shared;
mod splice;
pub mod synthetic;
mod tasks;
#[cfg(test)]
mod testing;
mod throttle;
pub mod tighten;
pub mod tls;
mod transparent;
mod udp;
pub mod verdict;
pub mod written;

#[cfg(test)]
pub(crate) use fuzz::targets::fuzz_target;
