//! What leaves a sandbox.
//!
//! ```text
//! schema::policy::Policy → Compiled (evaluator, pure) ─┐
//! namespace → attach → Listeners (sockets born inside) ┴→ server: DNS, TCP, HTTP, UDP → upstream, audit
//! ```
//!
//! Everything that decides asks [`compiled::Compiled`]. This crate neither prints nor reads the environment.

pub mod audit;
pub mod compiled;
pub mod generation;
pub mod listeners;
pub mod sandbox;
pub mod verdict;
