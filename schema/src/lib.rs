//! The `sandboxes.yaml` language: text in, typed configuration or problems with places out. No I/O, no async.
//!
//! ```text
//! texts → Document (YAML with spans) → raw types → Config (resolved, checked)
//! ```

pub mod config;
mod diagnostic;
mod name;
mod source;

pub use config::{Config, Location, Origins};
pub use diagnostic::{Diagnostic, LocatedDiagnostic, Severity, Span};
pub use name::{Name, NameError};
pub use source::{Caller, Source, Sources};
