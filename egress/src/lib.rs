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
pub mod flows;
pub mod generation;
pub mod limits;
pub mod listeners;
pub mod pool;
pub mod route;
pub mod sandbox;
pub mod session;
pub mod shared;
pub mod synthetic;
pub mod verdict;
