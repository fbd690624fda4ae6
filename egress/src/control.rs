//! What is said over the daemon's control socket: one JSON document a line, a question and its answer in turn.
//!
//! The first question of a connection is [`Request::Hello`]. Whoever may connect may do everything: the socket is its
//! owner's alone (0600), and the daemon also looks at who connects.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;

use schema::Name;
use schema::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::audit::Record;

pub mod client;
pub mod handover;
pub mod server;

/// Newest version of the protocol. Both ends know all versions from [`OLDEST`] on and speak the lower one of their newest;
/// what is added within a version is optional.
///
/// [`Request::Hello`], [`Response::Hello`], [`Request::HandOver`] and [`Request::Stop`] with what answers them stay as they
/// are in every version: by these a daemon gives way to a newer one.
pub const PROTOCOL: u32 = 1;

/// Oldest version of the protocol that is still spoken.
pub const OLDEST: u32 = 1;

/// The version to speak with somebody whose newest is `theirs`, when one's own is `newest`; `None` when there is none.
fn common(theirs: u32, newest: u32) -> Option<u32> {
    let lower = theirs.min(newest);
    (lower >= OLDEST).then_some(lower)
}

/// Longest line: a policy of ten thousand rules takes a few megabytes.
pub const MAX_LINE: usize = 32 << 20;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Comes first.
    Hello {
        /// The newest version of the protocol that whoever asks knows.
        protocol: u32,
        /// Its own version, for the log.
        version: String,
    },
    /// How things stand.
    Status,
    /// Look at the engine now, and answer once `policy` is in force for every running container of the sandbox.
    Enforce {
        /// Project.
        project: String,
        /// Sandbox.
        sandbox: String,
        /// Hash of the policy; `None` when nothing is to be served for it any more.
        policy: Option<String>,
        /// Values of the secrets it writes into requests.
        #[serde(default)]
        secrets: BTreeMap<Name, SecretValue>,
    },
    /// Which open flows would end if `policy` were in force.
    WouldCut {
        /// Project.
        project: String,
        /// Sandbox.
        sandbox: String,
        /// The policy.
        policy: Box<Policy>,
    },
    /// Let a sandbox out to learn what it needs, for so long or until this connection ends. Answered by
    /// [`Response::Learning`] at once, and by [`Response::Done`] once its policy alone holds again and all is recorded.
    Learn {
        /// Project.
        project: String,
        /// Sandbox.
        sandbox: String,
        /// Most seconds.
        seconds: u64,
    },
    /// What [`Request::Learn`] began on this connection is to end now; it is answered by that one's [`Response::Done`].
    EndLearning,
    /// Give sockets and secrets to whoever asks, stop serving and end. What follows is in [`handover`].
    HandOver,
    /// Stop serving and end.
    Stop,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello(Hello),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// Done.
    Done,
    /// To [`Request::Learn`]: it has begun.
    Learning {
        /// When it ends by itself, RFC 3339.
        until: String,
    },
    /// To [`Request::WouldCut`].
    Flows {
        /// The flows, as people write them: `github.com:443`.
        flows: Vec<String>,
    },
    /// To [`Request::HandOver`]: so many sandboxes follow, each with its sockets.
    Sandboxes {
        /// How many.
        count: usize,
        /// Secrets by their salted hash.
        secrets: BTreeMap<String, SecretValue>,
    },
    /// It could not be done.
    Failed {
        /// Why.
        message: String,
        /// Whether that is because a successor takes over, which can be asked instead.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replaced: bool,
    },
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the protocol that is spoken from here on: as a daemon says it, the newest it knows or a lower one that
    /// it was asked for.
    pub protocol: u32,
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Who started it.
    #[serde(default)]
    pub starter: Starter,
}

impl Hello {
    /// What this process says of itself.
    pub fn own(version: String, starter: Starter) -> Self {
        Self { protocol: PROTOCOL, version, pid: std::process::id(), starter }
    }
}

/// Who started a daemon, and so who sees to it that it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Starter {
    /// A person, or nobody knows.
    #[default]
    Person,
    /// `sbx`, in the background, because something needed it.
    Sbx,
    /// A service manager, which starts it again when it fails.
    ServiceManager,
}

/// The value of a secret on its way to the daemon, and the salted hash it goes by.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// Salted hash; what policies are stored with.
    pub hash: String,
    /// The value.
    pub value: Vec<u8>,
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// How things stand in the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs, RFC 3339.
    pub since: String,
    /// Why the engine cannot be reached; `None` while it can.
    pub engine: Option<String>,
    /// Where its records are, on this host.
    pub records: String,
    /// Records that were lost because they came faster than they could be written, or could not be written.
    pub lost_records: u64,
    /// Containers it serves, or should.
    pub sandboxes: Vec<SandboxStatus>,
}

/// One container in the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Project.
    pub project: String,
    /// Sandbox.
    pub sandbox: String,
    /// Id of the container.
    pub container: String,
    /// Hash of the policy in force; `None` while nothing is served.
    pub policy: Option<String>,
    /// Counts the policies that were in force since the daemon serves it.
    pub generation: u64,
    /// Since when what it is held to is in force, RFC 3339; absent while nothing is served, and of an older daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<String>,
    /// What stands in the way: of serving at all, or of the newest policy.
    pub problem: Option<String>,
    /// Secrets whose values the daemon was not given: requests that need them fail.
    #[serde(default)]
    pub missing_secrets: Vec<String>,
    /// Open flows.
    pub flows: usize,
    /// Until when it is let out to learn what it needs, RFC 3339; absent while its policy alone holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<String>,
    /// What was refused last, newest last.
    #[serde(default)]
    pub denied: Vec<Record>,
}

/// What goes wrong between the two ends of a control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no daemon listens on {0}")]
    Absent(String),
    /// The connection broke, or could not be made.
    #[error("the daemon's control socket: {0}")]
    Io(#[from] std::io::Error),
    /// Something else was said than should have been.
    #[error("the daemon said something unexpected: {0}")]
    Protocol(String),
    /// The daemon speaks no version of the protocol that this program knows.
    #[error(
        "the daemon is version {} and speaks version {} of the protocol; this program knows {OLDEST} to {PROTOCOL}",
        .0.version, .0.protocol
    )]
    Version(Hello),
    /// It was not done: the daemon is on its way out, and its successor is to be asked.
    #[error("{0}")]
    Replaced(String),
    /// It could not be done; the daemon says why.
    #[error("{0}")]
    Failed(String),
}

impl ControlError {
    /// Whether nobody listens.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }

    /// Whether the daemon ended, or is about to, with the question unanswered. A successor may answer it.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Replaced(_) => true,
            Self::Io(error) => {
                matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
            }
            Self::Absent(_) | Self::Protocol(_) | Self::Version(_) | Self::Failed(_) => false,
        }
    }
}
