//! `sbx` as a program: what it prints, where, and how it ends. No engine is needed, and none of the caller's own files,
//! variables or sockets are seen.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod bad_input;
mod bombs;
mod ci;
mod generated;
mod init;
mod limits;
mod no_engine;
mod policies;
mod program;
mod promises;
mod shipped;
mod streams;
mod tighten;
mod usage;
mod validate;
