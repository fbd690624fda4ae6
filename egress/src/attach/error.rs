//! Why a sandbox could not be attached to.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a sandbox could not be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The process has ended, or its number is another one's by now.
    #[error("process {pid} is gone, or is another one by now")]
    Gone {
        /// The number.
        pid: u32,
    },
    /// The process could not be looked at.
    #[error("process {pid} cannot be looked at")]
    Target {
        /// The number.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// A port of ours is taken. Traffic for it ends at whoever holds it, inside.
    #[error("somebody inside holds {protocol} port {port}; restart the sandbox to be rid of them")]
    Squatted {
        /// `TCP` or `UDP`.
        protocol: String,
        /// The port.
        port: u16,
    },
    /// The sandbox is in our own network namespace, or the host's: rules there would cut off everybody.
    #[error("the sandbox shares the host's network; it must have its own")]
    SharedNetwork,
    /// There is no `nft`.
    #[error("the program nft is not installed (looked in {}); install the package nftables", places.join(", "))]
    NoNft {
        /// Directories looked into.
        places: Vec<String>,
    },
    /// The kernel or `nft` did not take the rules.
    #[error("the rules were not taken: {said}")]
    Rules {
        /// What `nft` said.
        said: String,
    },
    /// The namespaces are not for us to enter.
    #[error("cannot {what}; the daemon must run as the user whose engine runs the sandbox")]
    Enter {
        /// What was refused.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Something else failed inside.
    #[error("cannot {what} inside the sandbox's network")]
    Inside {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// PID 1 neither waits at its gate nor is past it. It may only just have been started.
    #[error("PID 1 neither waits at its gate nor is past it; restart the sandbox")]
    NoGate,
    /// The child could not be started.
    #[error("cannot start {} as a helper", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child did not do its part.
    #[error("the helper {0}")]
    Helper(String),
}

/// The same as it comes out of the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    Gone { pid: u32 },
    Squatted { protocol: String, port: u16 },
    SharedNetwork,
    NoNft { places: Vec<String> },
    Rules { said: String },
    Enter { what: String, errno: i32 },
    Inside { what: String, errno: i32 },
    NoGate,
    Helper { what: String },
}

impl Refusal {
    /// A failed call inside: `what` completes "cannot …".
    pub fn inside(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Inside { what: what.into(), errno: errno(&error.into()) }
    }

    /// A refused entry: `what` completes "cannot …".
    pub fn enter(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Enter { what: what.into(), errno: errno(&error.into()) }
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl From<Refusal> for AttachError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Gone { pid } => Self::Gone { pid },
            Refusal::Squatted { protocol, port } => Self::Squatted { protocol, port },
            Refusal::SharedNetwork => Self::SharedNetwork,
            Refusal::NoNft { places } => Self::NoNft { places },
            Refusal::Rules { said } => Self::Rules { said },
            Refusal::Enter { what, errno } => Self::Enter { what, source: io::Error::from_raw_os_error(errno) },
            Refusal::Inside { what, errno } => Self::Inside { what, source: io::Error::from_raw_os_error(errno) },
            Refusal::NoGate => Self::NoGate,
            Refusal::Helper { what } => Self::Helper(what),
        }
    }
}
