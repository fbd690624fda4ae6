//! What daemon and child say to each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::{Report, Standing};
use crate::networks::Networks;

/// The first message to the child; its one descriptor is the target's pidfd.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub pid: u32,
    pub started: u64,
    pub task: Task,
    /// Defences that tests have turned off.
    #[cfg(feature = "failpoints")]
    pub without: u64,
}

/// What to do inside.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    Attach {
        udp: BTreeSet<u16>,
        networks: Networks,
        gate: bool,
    },
    Udp {
        ports: BTreeSet<u16>,
    },
    /// Another table in the place of the one of [`Task::Attach`] or [`Task::Closed`].
    Networks {
        networks: Networks,
    },
    /// No socket is made: there is another way to us.
    Closed {
        networks: Networks,
        gate: bool,
    },
    /// The child stays, and takes [`Feed`] after [`Feed`].
    Direct {
        gate: bool,
    },
    /// Nothing is open any more that was for [`Task::Direct`].
    Shut,
}

/// A part of rules to give to the kernel; the last one is answered by `Done` or `Refused`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    pub rules: String,
    pub last: bool,
}

/// A message from the child. `Done` or `Refused` is the last one for a task.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// As many descriptors come with it, in the same order.
    Sockets(Vec<Role>),
    /// What is open since before.
    Standing(Vec<Standing>),
    Done(Option<Report>),
    Refused(Refusal),
}

/// What a passed descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Tcp,
    DnsTcp,
    DnsUdp,
    Udp,
    Gate,
}
