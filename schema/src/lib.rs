//! The `sandboxes.yaml` language: text in, typed configuration or problems with places out. No I/O, no async.
//!
//! ```text
//! texts → Document (YAML with spans) → raw types → Config (resolved, checked)
//! ```

pub mod codes;
pub mod config;
mod diagnostic;
pub mod document;
pub mod edit;
mod json_schema;
mod load;
mod merge;
mod name;
mod origins;
pub mod policy;
#[expect(dead_code, reason = "fields whose exact text matters are read from the tree; the type still describes them")]
mod raw;
mod reference;
pub mod report;
mod resolve;
mod source;
mod structure;
mod suggest;
mod variables;

pub use config::{Config, Location, Origins};
pub use diagnostic::{Diagnostic, LocatedDiagnostic, RelatedPlace, Severity, Span};
pub use json_schema::{json_schema, json_schema_text};
pub use load::{Loaded, load};
pub use merge::{merge, merge_sandbox};
pub use name::{Name, NameError};
pub use reference::reference;
pub use resolve::{KERNELS, WELL_KNOWN_SOCKETS};
pub use source::{Caller, Source, Sources};
pub use suggest::did_you_mean;
pub use variables::expand;
