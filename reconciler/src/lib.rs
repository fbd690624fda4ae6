//! Converges sandboxes on a container engine.
//!
//! ```text
//! Config + HostFacts → Desired ┐
//!                              ├→ Plan → (execute) → Outcome
//! engine, git → Snapshot ──────┘
//! ```
//!
//! Everything up to the plan is pure. I/O is in backends ([`backend::Observe`], [`backend::Perform`]) and in the
//! executor. This crate neither prints nor reads the environment.

pub mod backend;
pub mod facts;
pub mod host_facts;
pub mod op;
pub mod outcome;
pub mod plan;
pub mod resource;
pub mod spec;
