//! The `sandboxes.yaml` language: text in, typed configuration or problems with places out. No I/O, no async.
//!
//! ```text
//! texts → Document (YAML with spans) → raw types → Config (resolved, checked)
//! ```

pub mod codes;
pub mod config;
mod diagnostic;
pub mod document;
mod merge;
mod name;
pub mod report;
mod source;
mod suggest;
mod variables;

pub use config::{Config, Location, Origins};
pub use diagnostic::{Diagnostic, LocatedDiagnostic, RelatedPlace, Severity, Span};
pub use merge::{merge, merge_sandbox};
pub use name::{Name, NameError};
pub use source::{Caller, Source, Sources};
pub use suggest::did_you_mean;
pub use variables::expand;
