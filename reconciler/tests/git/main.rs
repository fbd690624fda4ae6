//! Clones and worktrees with the real git, over real transports, and seen from inside real mounts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "a test is given git by its PATH")]

mod fixture;
mod hostile;
mod remotes;
mod sandbox;
mod worktrees;
