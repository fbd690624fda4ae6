//! Problems of what a document means.

use super::Code;
use crate::Severity::Error;

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    UNKNOWN_FIELD, //
];

/// A key the schema does not have.
pub const UNKNOWN_FIELD: Code = Code {
    code: "sbx::unknown-field",
    severity: Error,
    summary: "this field does not exist here",
    cause: "A key is misspelled, indented wrongly or belongs to another section. Unknown keys are never ignored.",
    cure: "Use the suggested name, or look the section up with `sbx schema`.",
    example: "sandboxes:\n  api:\n    imagee: tools",
};
