//! Problems of the text itself: YAML, budgets, variables.

use super::Code;
use crate::Severity::Error;

/// Entries in the order of the documentation.
pub(super) const ENTRIES: &[Code] = &[
    UNREADABLE,
    SYNTAX,
    EMPTY_DOCUMENT,
    SEVERAL_DOCUMENTS,
    DUPLICATE_KEY,
    KEY_NOT_TEXT,
    UNKNOWN_ALIAS,
    ALIAS_CYCLE,
    MERGE_NOT_MAPPING,
    CUSTOM_TAG,
    TAG_MISMATCH,
    NUMBER_RANGE,
    TOO_DEEP,
    TOO_LARGE,
    ALIAS_BUDGET,
    VARIABLE_UNSET,
    VARIABLE_SYNTAX,
];

/// The file cannot be read or is not UTF-8.
pub const UNREADABLE: Code = Code {
    code: "sbx::unreadable",
    severity: Error,
    summary: "the file cannot be read",
    cause: "The file does not exist, may not be read, is a directory, or is not UTF-8.",
    cure: "Check the path given with `-f` and its permissions; save the file as UTF-8; `sbx init` writes a first one.",
    example: "$ sbx validate -f missing.yaml",
};

/// Not YAML.
pub const SYNTAX: Code = Code {
    code: "sbx::syntax",
    severity: Error,
    summary: "this is not valid YAML",
    cause: "A bracket or quote is not closed, a tab indents a line, a line is indented by a different amount than its \
            neighbours, or text starts with a character YAML reserves (`@`, `` ` ``, `%`, `*`, `&`, `!`).",
    cure: "Mend the marked place. Indent with spaces; quote text that holds `: `, ` #` or starts with a reserved \
           character. What follows a syntax error is not checked until it is mended.",
    example: "images:\n  tools: { host: {}",
};

/// Nothing in the file.
pub const EMPTY_DOCUMENT: Code = Code {
    code: "sbx::empty-document",
    severity: Error,
    summary: "the file has no content",
    cause: "The file is empty or holds only comments.",
    cure: "Write at least `apiVersion`, `project` and `sandboxes`; `sbx init` writes a commented example.",
    example: "# nothing here yet",
};

/// More than one document.
pub const SEVERAL_DOCUMENTS: Code = Code {
    code: "sbx::several-documents",
    severity: Error,
    summary: "a file holds one document",
    cause: "A second `---` starts another document. What follows it is not read.",
    cure: "Put it into a file of its own and give both with `-f`, or remove the `---`.",
    example: "project: acme\n---\nproject: other",
};

/// A key twice in one mapping.
pub const DUPLICATE_KEY: Code = Code {
    code: "sbx::duplicate-key",
    severity: Error,
    summary: "a key is there twice",
    cause: "The same mapping has the same key more than once. Other tools silently take the last one.",
    cure: "Keep one of the two; both places are shown. Several `<<` become one with a list: `<<: [*a, *b]`.",
    example: "limits:\n  cpus: 2\n  cpus: 4",
};

/// A key that is not text.
pub const KEY_NOT_TEXT: Code = Code {
    code: "sbx::key-not-text",
    severity: Error,
    summary: "a key must be text",
    cause: "YAML reads the key as a number, a boolean, null, a list or a mapping.",
    cure: "Put the key into quotes.",
    example: "env:\n  8080: web",
};

/// An alias without anchor.
pub const UNKNOWN_ALIAS: Code = Code {
    code: "sbx::unknown-alias",
    severity: Error,
    summary: "no anchor of this name comes before the alias",
    cause: "`*name` repeats what `&name` marked earlier in the same file. Anchors are not shared between files.",
    cure: "Define the anchor above the alias, or correct the name. Text that starts with `*` needs quotes.",
    example: "sandboxes:\n  api:\n    limits: *small",
};

/// An alias inside its own anchor.
pub const ALIAS_CYCLE: Code = Code {
    code: "sbx::alias-cycle",
    severity: Error,
    summary: "an alias stands inside what it repeats",
    cause: "The anchor's value contains the alias, so its expansion would never end.",
    cure: "Move the shared part into an anchor of its own, outside the value that repeats it.",
    example: "env: &env\n  more: *env",
};

/// `<<` of something that is not a mapping.
pub const MERGE_NOT_MAPPING: Code = Code {
    code: "sbx::merge-not-mapping",
    severity: Error,
    summary: "`<<` merges mappings only",
    cause: "The value of `<<` is neither a mapping nor a list of mappings.",
    cure: "Let `<<` refer to a mapping, or write the value under a key. A key that is really called `<<` needs quotes.",
    example: "env: &env [A, B]\nother:\n  <<: *env",
};

/// A tag outside the core schema.
pub const CUSTOM_TAG: Code = Code {
    code: "sbx::custom-tag",
    severity: Error,
    summary: "custom tags mean nothing here",
    cause: "A value carries a tag such as `!include` or `!reset`. Only the tags of the YAML core schema (`!!str`, `!!int`, \
            `!!float`, `!!bool`, `!!null`, `!!seq`, `!!map`) are known.",
    cure: "Remove the tag. To combine files give several `-f`; text that starts with `!` needs quotes.",
    example: "sandboxes: !include sandboxes.d",
};

/// A core tag on a value that is something else.
pub const TAG_MISMATCH: Code = Code {
    code: "sbx::tag-mismatch",
    severity: Error,
    summary: "the value is not what its tag says",
    cause: "A tag such as `!!int` stands before a value that cannot be read that way.",
    cure: "Remove the tag or correct the value.",
    example: "limits: { cpus: !!int many }",
};

/// A number that does not fit.
pub const NUMBER_RANGE: Code = Code {
    code: "sbx::number-range",
    severity: Error,
    summary: "the number does not fit",
    cause: "A whole number is outside of 64 bits, so its digits would be lost.",
    cure: "Quote it if it is text, such as a tag made of digits; else use a smaller number.",
    example: "env: { BUILD: 20270630123456789012 }",
};

/// Too many levels.
pub const TOO_DEEP: Code = Code {
    code: "sbx::too-deep",
    severity: Error,
    summary: "more than 64 levels of nesting",
    cause: "Lists and mappings are nested too deeply; no valid configuration needs more than a dozen levels.",
    cure: "Flatten the marked part.",
    example: "env: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
};

/// Too much text or too many values.
pub const TOO_LARGE: Code = Code {
    code: "sbx::too-large",
    severity: Error,
    summary: "the file is too large",
    cause: "The text is longer than 16 MiB or holds more than 700,000 keys and values, far beyond what 10,000 \
            sandboxes need.",
    cure: "Check that it is the right file; split a really large fleet into projects.",
    example: "$ sbx validate -f disk.img",
};

/// Too much produced by aliases.
pub const ALIAS_BUDGET: Code = Code {
    code: "sbx::alias-budget",
    severity: Error,
    summary: "aliases expand to too much",
    cause: "Aliases and `<<` together produce more than 100,000 keys and values. Aliases of aliases grow exponentially.",
    cure: "Use `defaults:` or `profiles:` with `extends:` for what many sandboxes share.",
    example: "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n# … and so on",
};

/// A variable without a value.
pub const VARIABLE_UNSET: Code = Code {
    code: "sbx::variable-unset",
    severity: Error,
    summary: "the environment variable is not set",
    cause: "`${NAME}` is filled from the environment `sbx` runs in, and there is no such variable; for `${NAME:?text}` also \
            when it is empty.",
    cure: "Set the variable, or give a default: `${NAME:-default}`. A literal `${` is written `$${`.",
    example: "defaults:\n  owner: \"${TEAM}\"",
};

/// A malformed variable.
pub const VARIABLE_SYNTAX: Code = Code {
    code: "sbx::variable-syntax",
    severity: Error,
    summary: "this is not a variable",
    cause: "`${` is followed by something else than `NAME}`, `NAME:-default}`, `NAME-default}`, `NAME:?message}` or \
            `NAME?message}`, or the brace is not closed.",
    cure: "Correct it, or write `$${` for a literal `${`.",
    example: "defaults:\n  owner: \"${TEAM\"",
};
