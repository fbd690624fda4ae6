//! Clones and worktrees with the real git, over real transports, and seen from inside real mounts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]

mod fixture;
mod worktrees;
