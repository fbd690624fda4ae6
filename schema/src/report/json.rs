//! `validate --format json`.

use serde_json::{Value, json};

use super::is_valid;
use crate::LocatedDiagnostic;

/// The document of `validate --format json`.
pub fn json(diagnostics: &[LocatedDiagnostic], strict: bool) -> Value {
    json!({ "format_version": "1.0", "valid": is_valid(diagnostics, strict), "diagnostics": diagnostics })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::locate;
    use crate::report::tests::source;
    use crate::{Span, codes};

    #[test]
    fn has_the_documented_shape() {
        let sources = [source("sandboxes.yaml", "a: 1\nimagee: x\n")];
        let mut problem = codes::UNKNOWN_FIELD.at(Span { source: 0, start: 5, end: 11 }, "no `imagee`");
        problem.help = Some("did you mean `image`?".to_owned());
        problem.related.push((Span { source: 0, start: 0, end: 1 }, "beside this".to_owned()));
        let located = locate(&sources, &[problem, codes::UNREADABLE.nowhere("gone")]);
        let expected = json!({
            "format_version": "1.0", "valid": false,
            "diagnostics": [
                { "code": "sbx::unknown-field", "severity": "error", "message": "no `imagee`",
                  "help": "did you mean `image`?",
                  "file": "sandboxes.yaml", "line": 2, "column": 1, "end_line": 2, "end_column": 7,
                  "related": [{ "message": "beside this", "file": "sandboxes.yaml",
                                "line": 1, "column": 1, "end_line": 1, "end_column": 2 }] },
                { "code": "sbx::unreadable", "severity": "error", "message": "gone", "help": null }
            ]
        });
        assert_eq!(json(&located, false), expected);
        assert_eq!(json(&[], true)["valid"], true);
    }
}
