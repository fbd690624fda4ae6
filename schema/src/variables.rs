//! `${NAME}` in text values.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::codes;
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

/// Defaults within defaults are followed so far; nobody means more.
const MAX_NESTING: usize = 8;

/// Fills in the variables of one text value.
///
/// - `${NAME}`: the variable, an error when it is not set
/// - `${NAME-default}`: the default when it is not set; `${NAME:-default}`: also when it is empty
/// - `${NAME?message}` and `${NAME:?message}`: the same cases are an error with that message
/// - `$${`: a literal `${`
///
/// A default may hold variables. Any other `$` stands for itself. `span` is where the value is written in `source_text`;
/// problems point at the very `${…}`, where escapes of a quoted text do not hide it. `None` when there was a problem.
pub fn expand(
    text: &str,
    span: Span,
    source_text: &str,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Diagnostic>,
) -> Option<String> {
    expand_with(text, span, source_text, &Parameters::default(), env, problems)
}

/// What stands before the environment: the parameters of an allowlist.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// Values by name.
    pub values: BTreeMap<String, String>,
    /// Those that were asked for.
    pub used: RefCell<BTreeSet<String>>,
}

impl Parameters {
    fn get(&self, name: &str) -> Option<&String> {
        let value = self.values.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(value)
    }
}

/// [`expand`], with parameters that hide variables of the same name.
pub(crate) fn expand_with(
    text: &str,
    span: Span,
    source_text: &str,
    parameters: &Parameters,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Diagnostic>,
) -> Option<String> {
    if !text.contains("${") {
        return Some(text.to_owned());
    }
    let written = source_text.get(span.start..span.end).unwrap_or_default();
    let mut expander = Expander { span, written, found: 0, parameters, env, problems, failed: false };
    let expanded = expander.expand(text, 0);
    (!expander.failed).then_some(expanded)
}

struct Expander<'a> {
    span: Span,
    /// The value as it is written, with its quotes.
    written: &'a str,
    /// How far `written` has been matched.
    found: usize,
    parameters: &'a Parameters,
    env: &'a BTreeMap<String, String>,
    problems: &'a mut Vec<Diagnostic>,
    failed: bool,
}

impl Expander<'_> {
    fn expand(&mut self, text: &str, nesting: usize) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if rest.starts_with("$${") {
                self.locate("$${");
                out.push_str("${");
                rest = &rest[3..];
            } else if rest.starts_with("${") {
                let Some(length) = closing_brace(rest) else {
                    let span = self.locate("${");
                    self.fail(Problem::Syntax("the `${` is not closed".to_owned()), span, "close it with `}`");
                    return out;
                };
                let (expression, after) = rest.split_at(length);
                let span = self.locate(expression);
                let end_of_expression = self.found;
                self.found = self.found.saturating_sub(length.saturating_sub(2));
                self.variable(&expression[2..length - 1], span, nesting, &mut out);
                self.found = end_of_expression;
                rest = after;
            } else {
                out.push('$');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    /// `body` is what stands between the braces.
    fn variable(&mut self, body: &str, span: Span, nesting: usize, out: &mut String) {
        let name_end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
        let (name, operator) = body.split_at(name_end);
        if !is_variable(name) {
            let message = "a variable's name has letters, digits and `_`, and does not start with a digit".to_owned();
            return self.fail(Problem::Syntax(message), span, "write `$${` for a literal `${`");
        }
        // With the colon an empty variable counts as unset, as in a shell.
        let (empty_counts, operator) = match operator.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, operator),
        };
        let value = self
            .parameters
            .get(name)
            .or_else(|| self.env.get(name))
            .filter(|value| !(empty_counts && value.is_empty()));
        match (value, operator.chars().next()) {
            (_, None) if empty_counts => self.unknown_operator(span, name),
            (_, Some(other)) if other != '-' && other != '?' => self.unknown_operator(span, name),
            (Some(value), _) => out.push_str(value),
            (None, Some('-')) if nesting < MAX_NESTING => {
                let default = self.expand(&operator[1..], nesting + 1);
                out.push_str(&default);
            }
            (None, Some('-')) => {
                let message = format!("more than {MAX_NESTING} defaults within defaults");
                self.fail(Problem::Syntax(message), span, "set one of the variables");
            }
            (None, Some(_)) => {
                let reason = &operator[1..];
                let message = if reason.is_empty() { "it is required".to_owned() } else { reason.to_owned() };
                self.fail(Problem::Unset(format!("`{name}` is not set: {message}")), span, &format!("set {name}"));
            }
            (None, None) => {
                let help = match did_you_mean(name, self.parameters.values.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean the parameter `${{{near}}}`?"),
                    None => format!("set {name}, or give a default: ${{{name}:-default}}"),
                };
                self.fail(Problem::Unset(format!("the environment variable `{name}` is not set")), span, &help);
            }
        }
    }

    fn unknown_operator(&mut self, span: Span, name: &str) {
        let help = format!("use ${{{name}}}, ${{{name}:-default}}, ${{{name}-default}} or ${{{name}:?message}}");
        self.fail(Problem::Syntax(format!("what follows `{name}` is not understood")), span, &help);
    }

    fn fail(&mut self, problem: Problem, span: Span, help: &str) {
        self.failed = true;
        let mut problem = match problem {
            Problem::Syntax(message) => codes::VARIABLE_SYNTAX.at(span, message),
            Problem::Unset(message) => codes::VARIABLE_UNSET.at(span, message),
        };
        problem.help = Some(help.to_owned());
        self.problems.push(problem);
    }

    /// Where the next `expression` is written; the whole value when escapes or folding hide it.
    fn locate(&mut self, expression: &str) -> Span {
        let Some(start) = self.written.get(self.found..).and_then(|rest| rest.find(expression)) else {
            return self.span;
        };
        let start = self.found + start;
        self.found = start + expression.len();
        Span { start: self.span.start + start, end: self.span.start + self.found, ..self.span }
    }
}

/// Whether `text` can name a variable, or a parameter.
pub(crate) fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

enum Problem {
    Syntax(String),
    Unset(String),
}

/// Length of the `${…}` that `text` starts with, inner ones included.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut index = 0;
    while let Some(rest) = text.get(index..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("$${") {
            index += 3;
        } else if rest.starts_with("${") {
            open += 1;
            index += 2;
        } else if rest.starts_with('}') {
            index += 1;
            open -= 1;
            if open == 0 {
                return Some(index);
            }
        } else {
            index += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(written: &str, text: &str) -> Result<String, Vec<(String, String)>> {
        let env = [("USER", "alice"), ("EMPTY", ""), ("HOME_1", "/home/ä")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let source = format!("# é\nkey: {written}\n");
        let start = source.find(written).expect("the value");
        let span = Span { source: 0, start, end: start + written.len() };
        let mut problems = Vec::new();
        let expanded = expand(text, span, &source, &env, &mut problems);
        assert_eq!(expanded.is_none(), !problems.is_empty());
        expanded.ok_or_else(|| {
            let place = |problem: &Diagnostic| problem.span.map(|span| source[span.start..span.end].to_owned());
            problems.iter().map(|problem| (place(problem).unwrap_or_default(), problem.message.clone())).collect()
        })
    }

    #[test]
    fn fills_in_variables() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("${USER}", "alice"),
            ("a${USER}b${HOME_1}c", "aaliceb/home/äc"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NOPE:-x y: z}", "x y: z"),
            ("${NOPE-}", ""),
            ("${NOPE:-${USER}}", "alice"),
            ("${NOPE:-${NOPE:-${USER}}!}", "alice!"),
            ("${USER:-${NOPE}}", "alice"),
            ("${USER:?wanted}", "alice"),
            ("${EMPTY?wanted}", ""),
            ("$${USER}", "${USER}"),
            ("$$${USER}", "$${USER}"),
            ("${NOPE:-$${x}", "${x"),
            ("$USER costs $5 and $$ $", "$USER costs $5 and $$ $"),
            ("é${USER}é", "éaliceé"),
        ];
        for (text, expected) in cases {
            assert_eq!(run(&format!("'{text}'"), text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn problems_point_at_the_expression() {
        let cases = [
            ("${NOPE}", vec![("${NOPE}", "the environment variable `NOPE` is not set")]),
            ("é${USER}${NOPE}/${GONE}", vec![("${NOPE}", "`NOPE` is not set"), ("${GONE}", "`GONE` is not set")]),
            ("$${NOPE} ${NOPE}", vec![("${NOPE}", "is not set")]),
            ("${NOPE:?no team}", vec![("${NOPE:?no team}", "`NOPE` is not set: no team")]),
            ("${EMPTY:?}", vec![("${EMPTY:?}", "`EMPTY` is not set: it is required")]),
            ("${NOPE:-a${GONE}}", vec![("${GONE}", "`GONE` is not set")]),
            ("a ${USER", vec![("${", "not closed")]),
            ("${}", vec![("${}", "a variable's name")]),
            ("${1A}", vec![("${1A}", "a variable's name")]),
            ("${ USER }", vec![("${ USER }", "a variable's name")]),
            ("${USER:}", vec![("${USER:}", "what follows `USER`")]),
            ("${USER:+x}", vec![("${USER:+x}", "what follows `USER`")]),
            ("${USER/a/b}", vec![("${USER/a/b}", "what follows `USER`")]),
        ];
        for (text, expected) in cases {
            let problems = run(&format!("\"{text}\""), text).expect_err(text);
            assert_eq!(problems.len(), expected.len(), "{text}: {problems:?}");
            for ((place, message), (expected_place, expected_message)) in problems.iter().zip(expected) {
                assert_eq!(place, expected_place, "{text}");
                assert!(message.contains(expected_message), "{text}: {message}");
            }
        }
        // An escape hides the expression: the whole value is marked.
        assert_eq!(run("\"\\x24{NOPE}\"", "${NOPE}").expect_err("unset")[0].0, "\"\\x24{NOPE}\"");
    }

    #[test]
    fn hostile_text_is_bounded() {
        assert!(run("x", &"${A:-".repeat(100_000)).is_err());
        let nested = format!("{}{}", "${A:-".repeat(1000), "}".repeat(1000));
        assert!(run("x", &nested).is_err());
    }
}
