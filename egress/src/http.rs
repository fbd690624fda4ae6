//! HTTP: every request judged, written anew, and sent where it was judged to go.
//!
//! ```text
//! client → guard (well-formed?) → serve → exchange (for this host? allowed?) → upstream → server
//! ```

mod account;
mod asked;
mod chunked;
mod edits;
mod exchange;
pub(crate) mod explicit;
mod gate;
mod guard;
pub mod head;
mod hop;
pub mod intercept;
mod payload;
pub mod plain;
mod refusal;
mod serve;
mod target;
#[cfg(test)]
pub(crate) mod testing;
mod tunnel;
mod upstream;
#[cfg(any(test, fuzzing))]
pub mod walk;
mod web;

pub(crate) use self::asked::{Asked, is_sent_on};
pub use self::web::Web;
