//! End-to-end tests of `sbx` on a real Podman: 4 and 5, rootful and rootless.
//!
//! Every test starts an engine of its own ([`engine::Engine`]) in private namespaces, so tests see no containers but
//! their own, may kill anything, and leave nothing behind. They need root and the packages that `./dev` installs; they
//! fail, never skip, where something is missing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[cfg(feature = "failpoints")]
mod chain;
mod collisions;
mod concurrent;
mod contract;
mod converge;
#[cfg(feature = "failpoints")]
mod daemon;
mod desktop;
mod devices;
#[cfg(feature = "failpoints")]
mod direct;
mod drift;
#[cfg(feature = "failpoints")]
mod egress;
mod elsewhere;
mod engine;
mod examples;
mod hostile;
mod https;
mod image;
mod images;
mod interrupt;
mod invocation;
#[cfg(feature = "failpoints")]
mod kill;
mod lifecycle;
mod namespaces;
#[cfg(feature = "failpoints")]
mod operations;
mod peers;
mod picture;
mod planted;
mod project;
mod quotas;
mod readback;
mod readiness;
mod registry;
mod replace;
mod sandbox;
mod secret;
mod service;
#[cfg(feature = "failpoints")]
mod setup;
mod smoke;
#[cfg(feature = "failpoints")]
mod socket;
mod ssh;
mod sudo;
mod terminal;
mod upstream;
mod wait;
mod worktrees;

/// One test per engine from one body: `on_every_engine! { fn name(engine) { ... } }` gives `name::rootful_4`,
/// `name::rootless_4`, `name::rootful_5` and `name::rootless_5`; `engine` is a fresh `&Engine` in each.
#[macro_export]
macro_rules! on_every_engine {
    ($($(#[$meta:meta])* fn $name:ident($engine:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            #[allow(unused_imports)]
            use $crate::engine::{Engine, Kind};

            fn check($engine: &Engine) $body

            #[test]
            fn rootful_4() {
                check(&Engine::start(Kind::Rootful4));
            }
            #[test]
            fn rootless_4() {
                check(&Engine::start(Kind::Rootless4));
            }
            #[test]
            fn rootful_5() {
                check(&Engine::start(Kind::Rootful5));
            }
            #[test]
            fn rootless_5() {
                check(&Engine::start(Kind::Rootless5));
            }
        }
    )+};
}
