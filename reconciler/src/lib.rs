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
pub mod data;
pub mod desired;
pub mod diff;
mod elsewhere;
pub mod executor;
pub mod facts;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod git;
pub mod host;
pub mod host_facts;
pub mod identity;
pub mod kinds;
pub mod op;
pub mod options;
pub mod outcome;
pub mod ownership;
pub mod plan;
pub mod planner;
pub mod podman;
pub mod prepare;
mod process_group;
#[cfg(test)]
mod properties;
pub mod quotas;
pub mod resource;
pub mod spec;
#[cfg(test)]
mod testing;
mod unenforced;
mod unread;

pub use executor::{ExecuteOptions, execute};
pub use options::{Destroy, Intent, PlanOptions};
pub use planner::desire;
pub use prepare::{Prepared, prepare};
