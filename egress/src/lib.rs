//! What leaves a sandbox.
//!
//! ```text
//! schema::policy::Policy → Compiled (evaluator, pure) ─┐
//! namespace → attach → Listeners (sockets born inside) ┴→ server: DNS, TCP, HTTP, UDP → upstream, audit
//! ```
//!
//! Everything that decides asks [`compiled::Compiled`]. This crate neither prints nor reads the environment.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails"))]

pub mod attach;
pub mod audit;
pub mod compiled;
pub mod dial;
pub mod flows;
pub mod generation;
pub mod limits;
pub mod listeners;
mod nft;
pub mod pool;
pub mod route;
pub mod sandbox;
pub mod session;
pub mod shared;
pub mod synthetic;
pub mod verdict;
