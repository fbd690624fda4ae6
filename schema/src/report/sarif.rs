//! `validate --format sarif`: SARIF 2.1.0, for code scanning.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::codes::{self, Code};
use crate::{LocatedDiagnostic, Location, Severity};

/// A SARIF log of one run. `version` is that of the tool.
pub fn sarif(diagnostics: &[LocatedDiagnostic], version: &str) -> Value {
    let rules: Vec<Value> = codes::catalogue().map(rule).collect();
    let results: Vec<Value> = diagnostics.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "sbx", "version": version, "rules": rules } },
            // Ours count characters; the default of the format is UTF-16 units.
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: &Code) -> Value {
    let mut rule = json!({
        "id": code.code,
        "shortDescription": { "text": format!("{}.", code.summary) },
        "fullDescription": { "text": code.cause },
        "help": {
            "text": code.cure,
            "markdown": format!("{}\n\n```yaml\n{}\n```", code.cure, code.example),
        },
        "defaultConfiguration": { "level": level(code.severity) },
    });
    if let (Some(url), Some(rule)) = (code.url(), rule.as_object_mut()) {
        rule.insert("helpUri".to_owned(), url.into());
    }
    rule
}

fn result(problem: &LocatedDiagnostic) -> Value {
    let text = match &problem.help {
        Some(help) => format!("{}. Help: {help}", problem.message),
        None => problem.message.clone(),
    };
    let mut result = Map::new();
    result.insert("ruleId".to_owned(), problem.code.into());
    if let Some(index) = codes::catalogue().position(|entry| entry.code == problem.code) {
        result.insert("ruleIndex".to_owned(), index.into());
    }
    result.insert("level".to_owned(), level(problem.severity).into());
    result.insert("message".to_owned(), json!({ "text": text }));
    if let Some(place) = &problem.location {
        result.insert("locations".to_owned(), json!([{ "physicalLocation": physical(place) }]));
    }
    if !problem.related.is_empty() {
        let place = |(id, related): (usize, &crate::RelatedPlace)| {
            let message = json!({ "text": related.message });
            json!({ "id": id, "message": message, "physicalLocation": physical(&related.location) })
        };
        let related: Vec<Value> = problem.related.iter().enumerate().map(place).collect();
        result.insert("relatedLocations".to_owned(), related.into());
    }
    Value::Object(result)
}

fn physical(place: &Location) -> Value {
    json!({
        "artifactLocation": { "uri": uri(&place.file) },
        "region": {
            "startLine": place.line,
            "startColumn": place.column,
            "endLine": place.end_line,
            "endColumn": place.end_column,
        },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// The path as a URI reference; one to the working directory stays relative, as code scanning wants it.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::locate;
    use crate::report::tests::source;
    use crate::{Span, codes};

    #[test]
    fn paths_become_uris() {
        let cases = [
            ("sandboxes.yaml", "sandboxes.yaml"),
            ("./a b/ü.yaml", "a%20b/%C3%BC.yaml"),
            ("/etc/x:y.yaml", "file:///etc/x%3Ay.yaml"),
            ("<stdin>", "%3Cstdin%3E"),
        ];
        for (path, expected) in cases {
            assert_eq!(uri(path), expected);
        }
    }

    #[test]
    fn results_refer_to_rules_and_places() {
        let sources = [source("a.yaml", "a: 1\na: 2\n")];
        let mut problem = codes::DUPLICATE_KEY.at(Span { source: 0, start: 5, end: 6 }, "twice");
        problem.related.push((Span { source: 0, start: 0, end: 1 }, "first here".to_owned()));
        let log = sarif(&locate(&sources, &[problem]), "1.2.3");
        let run = &log["runs"][0];
        let result = &run["results"][0];
        let index = result["ruleIndex"].as_u64().and_then(|index| usize::try_from(index).ok()).expect("an index");
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "sbx::duplicate-key");
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!(*region, json!({ "startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 2 }));
        assert_eq!(result["relatedLocations"][0]["message"]["text"], "first here");
    }
}
