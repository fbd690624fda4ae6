//! Into a sandbox's network namespace: the rules and the sockets that make us the only way out.
//!
//! ```text
//! daemon ── starts itself as `__attach` ──▶ child (single-threaded) ── setns ──▶ namespace: rules, adapter, sockets
//!        ◀────────────── Listeners, Gate over SCM_RIGHTS ──────────────────────┘
//! ```
//!
//! A process with threads cannot enter a user namespace, so a child does it: [`child::main`], which the program has to
//! call before anything else when its first argument is [`ARGUMENT`]. The child works with system calls, netlink and the
//! `nft` program only; nothing of the sandbox's files is opened, and nothing of it is executed.
//!
//! # Guarantees
//! - Rules come before sockets, sockets before the gate: whatever fails, and wherever the child is killed, nothing opens.
//! - The rules are one transaction, the same for every policy: TCP goes to [`TCP_PORT`] and DNS to [`DNS_PORT`] of the
//!   namespace's own loopback, datagrams to synthetic addresses stay local, peers are reached directly and come in at
//!   declared ports, and everything else is refused at once. They accept no flow for having begun earlier.
//! - A process number that was given away meanwhile is not entered, nor is the network namespace that we run in.
//! - Attaching again replaces the rules as a whole. Sockets of an earlier daemon must be closed by then.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::listeners::Listeners;
use crate::networks::Networks;

mod adapter;
mod channel;
pub mod child;
mod conversation;
mod enter;
mod error;
mod feeder;
mod gate;
mod kernel;
pub(crate) mod netlink;
mod socket;
pub mod socket_door;
mod target;
mod wire;

pub use adapter::Adapter;
pub use error::AttachError;
pub(crate) use error::Refusal;
pub use feeder::{Direct, Feeder, Standing, attach_direct};
pub use gate::{GATE, Gate, OPEN};
pub use target::Target;

use wire::Task;

/// The first argument with which the program is the child; see [`child::main`].
pub const ARGUMENT: &str = "__attach";

/// The port on the loopback addresses of a sandbox that takes every TCP connection; also the explicit proxy's.
pub const TCP_PORT: u16 = 64080;

/// The port on the loopback addresses of a sandbox that takes DNS, by UDP and TCP.
pub const DNS_PORT: u16 = 64053;

/// What a sandbox is to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// UDP ports of the policy: a socket each that takes what is sent there at any synthetic address.
    pub udp: BTreeSet<u16>,
    /// Its internal networks.
    pub networks: Networks,
    /// Whether its PID 1 was told to wait (`sbx-init --gate`).
    pub gate: bool,
}

/// A sandbox that everything leaves through us, or not at all.
#[derive(Debug)]
pub struct Attached {
    /// Sockets to serve.
    pub listeners: Listeners,
    /// Holds PID 1 until the sockets are served; none where PID 1 does not wait (any more).
    pub gate: Option<Gate>,
    /// What was done, for logs and `status`.
    pub report: Report,
}

/// What the namespace turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where routes to everything lead, and nothing comes out.
    pub adapter: Adapter,
    /// Whether there is IPv6 inside. Without it there is no socket for it, and still rules against it.
    pub ipv6: bool,
    /// What is not as it should be and does no harm, in words.
    pub problems: Vec<String>,
}

/// The `nft` program that rules are given through, if it is installed. It is looked for in fixed places only.
pub fn nft() -> Option<PathBuf> {
    crate::nft::program()
}

/// Attaches to the sandbox whose PID 1 is `target`, by starting `program` (this executable; `/proc/self/exe` stays right
/// across upgrades) as a child.
///
/// Takes 10 to 30 ms. Call [`Gate::open`] once the listeners are served.
///
/// # Errors
/// See [`AttachError`]. What was done inside stays: rules without anybody behind them refuse everything.
pub async fn attach(program: &Path, target: &Target, plan: &Plan) -> Result<Attached, AttachError> {
    let Plan { udp, networks, gate } = plan.clone();
    let answer = conversation::hold(program, target, Task::Attach { udp, networks, gate }).await?;
    let Some(report) = answer.report else { return Err(AttachError::Helper("did not say what it did".to_owned())) };
    Ok(Attached { listeners: answer.listeners, gate: answer.gate, report })
}

/// Attaches to a sandbox that comes to us by another way: it is let in, and nothing leaves it but to its peers.
///
/// # Errors
/// See [`attach`].
pub async fn attach_closed(program: &Path, target: &Target, plan: &Plan) -> Result<Attached, AttachError> {
    let Plan { udp: _, networks, gate } = plan.clone();
    let answer = conversation::hold(program, target, Task::Closed { networks, gate }).await?;
    let Some(report) = answer.report else { return Err(AttachError::Helper("did not say what it did".to_owned())) };
    Ok(Attached { listeners: answer.listeners, gate: answer.gate, report })
}

/// Makes sockets for more UDP ports in an attached sandbox.
///
/// A port that the policy no longer has needs nothing but its socket closed.
pub async fn add_udp(program: &Path, target: &Target, ports: &BTreeSet<u16>) -> Result<Vec<UdpSocket>, AttachError> {
    let answer = conversation::hold(program, target, Task::Udp { ports: ports.clone() }).await?;
    Ok(answer.listeners.udp)
}

/// Replaces what an attached sandbox holds to on its networks, in one step: connections to peers that are gone, and from peers
/// to ports that are not declared any more, end at their next packet.
///
/// The table is replaced as a whole: a predecessor's may have been another one.
pub async fn update_networks(program: &Path, target: &Target, networks: &Networks) -> Result<(), AttachError> {
    conversation::hold(program, target, Task::Networks { networks: networks.clone() }).await?;
    Ok(())
}
