//! Problems of fields, types and fixed values.

use super::Code;
use crate::Severity::Error;

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] =
    &[NOT_AVAILABLE, WRONG_TYPE, WRONG_VALUE, MISSING_FIELD, CONFLICTING_FIELDS, UNSUPPORTED_VERSION];

/// A field or value of a later version.
pub const NOT_AVAILABLE: Code = Code {
    code: "sbx::not-available",
    severity: Error,
    summary: "this is not available yet",
    cause: "The field or value is part of the language, but this version of `sbx` cannot do it. Ignoring it would leave a \
            sandbox other than the one you described.",
    cure: "Remove it, or use a version of `sbx` that has it.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    services: { worker: { command: [cargo, watch] } }",
};

/// A value of another kind.
pub const WRONG_TYPE: Code = Code {
    code: "sbx::wrong-type",
    severity: Error,
    summary: "the value is of another kind",
    cause: "A list stands where text is expected, text where a number is, or the value was left out. In YAML 1.2 `yes`, \
            `no`, `on` and `off` are text; `1.10` is a number.",
    cure: "Write what the message says is expected; quote numbers that are meant as text.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    command: sleep infinity",
};

/// A value that does not fit.
pub const WRONG_VALUE: Code = Code {
    code: "sbx::wrong-value",
    severity: Error,
    summary: "the value is not one this field takes",
    cause: "The value is of the right kind but out of range, not one of the allowed words, or not in the form the field has: \
            a size, a duration, a branch, an image reference, a device.",
    cure: "Write one of the values or a form that the message names.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    image: host\n    limits: { memory: 4GB }",
};

/// A field that must be there.
pub const MISSING_FIELD: Code = Code {
    code: "sbx::missing-field",
    severity: Error,
    summary: "a required field is not there",
    cause: "The mapping needs the field, or the field that is there needs another one beside it.",
    cure: "Add the field. Fields of sandboxes can also come from `defaults` and `profiles`.",
    example: "apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api:\n    command: [sleep, infinity]",
};

/// Fields that exclude each other.
pub const CONFLICTING_FIELDS: Code = Code {
    code: "sbx::conflicting-fields",
    severity: Error,
    summary: "fields exclude each other",
    cause: "An image has one source, a secret one origin, a home one kind, a mount one thing it shows.",
    cure: "Keep one of the marked fields.",
    example: "apiVersion: sbx/v1\nproject: acme\nimages:\n  app: { ref: docker.io/library/debian:bookworm, archive: ./app.tar }",
};

/// Another version of the language.
pub const UNSUPPORTED_VERSION: Code = Code {
    code: "sbx::unsupported-version",
    severity: Error,
    summary: "this version of the language is not known",
    cause: "The file is written for another version of `sbx`, or the version is misspelled.",
    cure: "Write `apiVersion: sbx/v1`.",
    example: "apiVersion: sbx/v9\nproject: acme",
};
