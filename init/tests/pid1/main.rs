//! The program as what it is: PID 1 of a namespace of its own, watched from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod command;
mod gate;
mod readiness;
mod reap;
mod sandbox;
mod secret;
mod signal;
mod terminal;
