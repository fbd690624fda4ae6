//! Syntax errors in the user's words.

use granit_parser::{ErrorKind, ScanError};

use super::MAX_DEPTH;
use crate::codes;
use crate::{Diagnostic, Span};

/// The diagnostic for what the YAML parser refused; `bracket` is the innermost one that is open.
pub(super) fn diagnose(source: usize, text: &str, error: &ScanError, bracket: Option<Span>) -> Diagnostic {
    let offset = error.marker().byte_offset().unwrap_or(text.len());
    let (message, help) = explain(error.kind());
    // The parser reads ahead, so it may see too many levels before we count them.
    let code = if *error.kind() == ErrorKind::RecursionLimitExceeded { codes::TOO_DEEP } else { codes::SYNTAX };
    let mut problem = code.at(place(source, text, offset, is_tab(error.kind())), message);
    problem.help = help.map(str::to_owned);
    if let Some(bracket) = bracket.filter(|bracket| Some(*bracket) != problem.span) {
        problem.related.push((bracket, "inside of this bracket".to_owned()));
    }
    problem
}

fn is_tab(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed)
}

/// Message and help; kinds that need no better words keep the parser's.
fn explain(kind: &ErrorKind) -> (String, Option<&'static str>) {
    use ErrorKind as Kind;
    const QUOTE: &str = "put text that holds `: ` or ` #`, or starts with a reserved character, into quotes";
    const INDENT: &str = "give the line the same indentation as its neighbours";
    let (message, help) = match kind {
        kind if is_tab(kind) => ("a tab indents this line", "indent with spaces"),
        Kind::UnclosedFlowCollection { open } => {
            return (format!("the bracket `{open}` is not closed"), Some("close it, or check the commas before"));
        }
        Kind::MismatchedFlowCollectionEnd { open, close } => {
            return (format!("`{open}` is closed by `{close}`"), Some("close with the bracket of the same kind"));
        }
        Kind::UnexpectedCharacter { character } => {
            return (format!("text cannot start with `{}`", character.escape_default()), Some(QUOTE));
        }
        Kind::MappingValueNotAllowed | Kind::InvalidColonPlacement => ("a `:` is not expected here", QUOTE),
        Kind::ExpectedBlockMappingKey => ("a key is expected here", INDENT),
        Kind::ExpectedBlockSequenceEntry => ("a `- ` is expected here", INDENT),
        Kind::InvalidIndentation => ("the indentation fits no line above", INDENT),
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => ("a `:` is missing after this key", "write `key: value`"),
        Kind::UnclosedQuotedScalar | Kind::InvalidQuotedScalarIndent | Kind::DocumentIndicatorInQuotedScalar => {
            ("a quote opened above is not closed", "close it with the same quote character")
        }
        Kind::InvalidTrailingSingleQuotedScalar => {
            ("text follows the closing quote", "write a quote inside of single quotes twice: ''")
        }
        Kind::InvalidTrailingDoubleQuotedScalar => {
            ("text follows the closing quote", "write a quote inside of double quotes as \\\"")
        }
        Kind::UnknownQuotedScalarEscape => {
            ("this escape does not exist", "write \\\\ for a backslash, or use single quotes")
        }
        Kind::ExpectedFlowMappingSeparator => {
            ("`,` or `}` is expected here", "close the bracket, or separate entries with `, `")
        }
        Kind::ExpectedFlowSequenceSeparator => {
            ("`,` or `]` is expected here", "close the bracket, or separate items with `, `")
        }
        Kind::RecursionLimitExceeded => {
            return (format!("more than {MAX_DEPTH} levels of nesting"), Some("flatten the marked part"));
        }
        Kind::UndeclaredTagHandle => ("this tag's prefix is not declared", "remove the tag"),
        Kind::BomInsideDocument => ("a byte-order mark stands inside the text", "remove it; files may start with one"),
        kind => {
            let mut message = kind.to_string();
            // One spelling for the commonest phrase, whatever step of the parser it comes from.
            if let Some((_, what)) = message.split_once(", ") {
                message = what.to_owned();
            }
            return (message, None);
        }
    };
    (message.to_owned(), Some(help))
}

/// The word or character at `offset`; at the end of a line or of the text, the character before. The parser finds a tab
/// that indents when it stands behind it.
fn place(source: usize, text: &str, offset: usize, tab: bool) -> Span {
    let mut start = text.floor_char_boundary(offset);
    let line = text[..start].rfind('\n').map_or(0, |index| index + 1);
    if tab && let Some(index) = text[line..].find('\t').filter(|index| text[line..line + index].trim().is_empty()) {
        return Span { source, start: line + index, end: line + index + 1 };
    }
    if text[start..].chars().next().is_none_or(char::is_whitespace) {
        let before = text[..start].trim_end();
        start = before.char_indices().next_back().map_or(start, |(index, _)| index);
    }
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let word = text[start..].chars().take_while(|c| is_word(*c)).map(char::len_utf8).sum::<usize>();
    let length = if word > 0 { word } else { text[start..].chars().next().map_or(0, char::len_utf8) };
    Span { source, start, end: start + length }
}
