//! Attaching to namespaces of our own, of every kind that an engine makes, as root and as an ordinary user.
//!
//! Everything happens in network namespaces that the tests make and nothing leads out of; addresses in them are the ones
//! of documentation.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod direct;
mod entry;
mod gate;
mod late;
mod network;
mod redirect;
mod sandbox;
mod squatting;
