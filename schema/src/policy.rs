//! Egress policy as plain values in canonical form.
//!
//! These types say what a policy *is*: the language fills them, plans compare them, engines store them, and the one
//! evaluator, in the `egress` crate, decides by them. Nothing here decides.

mod host;
mod http;
mod path;
mod reading;
mod rule;
mod url;

pub use host::{DnsName, Host, HostError, HostPattern};
pub use http::{HeaderEdits, HeaderMatch, HeaderValue};
pub use path::{PathError, PathPattern};
pub use reading::decode_fully;
pub use rule::{Inbound, MOST_UDP_PORTS, Place, Policy, PortRange, Protocol, Rule, Upstream};
pub use url::{RequestPath, Target, TargetError};
