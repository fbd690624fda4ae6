//! `validate --format github`: workflow commands that GitHub shows beside the changed lines.

use std::fmt::Write as _;

use crate::{LocatedDiagnostic, Severity};

/// One workflow command per line.
pub fn github(diagnostics: &[LocatedDiagnostic]) -> String {
    let mut out = String::new();
    for problem in diagnostics {
        let level = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let title = property(problem.code);
        // Writing to a String cannot fail.
        let _ = match &problem.location {
            Some(place) => write!(
                out,
                "::{level} file={},line={},endLine={},col={},endColumn={},title={title}::",
                property(&place.file),
                place.line,
                place.end_line,
                place.column,
                place.end_column
            ),
            None => write!(out, "::{level} title={title}::"),
        };
        out.push_str(&data(&problem.message));
        if let Some(help) = &problem.help {
            out.push_str("%0Ahelp: ");
            out.push_str(&data(help));
        }
        out.push('\n');
    }
    out
}

/// What would end the command, escaped as GitHub undoes it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property also ends at `:` and `,`.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::locate;
    use crate::report::tests::source;
    use crate::{Span, codes};

    #[test]
    fn nothing_in_a_file_can_forge_a_command() {
        let sources = [source("a,b:c%.yaml", "é: x\n")];
        let span = Span { source: 0, start: 4, end: 5 };
        let mut problem = codes::SYNTAX.at(span, "100%\n::error ::forged\r\n");
        problem.help = Some("a\nb".to_owned());
        let located = locate(&sources, &[problem, codes::UNREADABLE.nowhere("gone")]);
        assert_eq!(
            github(&located),
            "::error file=a%2Cb%3Ac%25.yaml,line=1,endLine=1,col=4,endColumn=5,title=sbx%3A%3Asyntax::\
             100%25%0A::error ::forged%0D%0A%0Ahelp: a%0Ab\n\
             ::error title=sbx%3A%3Aunreadable::gone\n"
        );
    }
}
