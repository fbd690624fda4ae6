//! From where a rule is written to what is underlined.

use std::collections::HashMap;

use schema::{Diagnostic, Sources, Span};

use super::Finding;

/// Where lines begin, by name of the text.
pub(super) struct Places<'a> {
    sources: HashMap<&'a str, (usize, &'a str, Vec<usize>)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        let lines = |text: &str| -> Vec<usize> {
            let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
            std::iter::once(0).chain(after).collect()
        };
        let numbered = sources.iter().enumerate();
        let sources =
            numbered.map(|(index, source)| (source.name.as_str(), (index, source.text.as_str(), lines(&source.text))));
        Self { sources: sources.collect() }
    }

    /// The key at `FILE:LINE:COLUMN` with its value, as far as it is on that line.
    pub(super) fn span(&self, at: &str) -> Option<Span> {
        let (rest, column) = at.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let (column, line): (usize, usize) = (column.parse().ok()?, line.parse().ok()?);
        let (source, text, lines) = self.sources.get(file)?;
        let begin = *lines.get(line.checked_sub(1)?)?;
        let line = text.get(begin..)?.lines().next()?;
        let mark = line.strip_prefix('\u{feff}').map_or(0, |_| 1);
        let start = line.char_indices().nth(column.checked_sub(1)? + mark).map(|(offset, _)| offset)?;
        let end = start + extent(line.get(start..)?);
        Some(Span { source: *source, start: begin + start, end: begin + end })
    }
}

/// Bytes of a key and a plain or quoted scalar.
fn extent(line: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (offset, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open && before != '\\' => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ',' | '}' | ']') => return line[..offset].trim_end().len(),
            (None, '#') if before.is_whitespace() => return line[..offset].trim_end().len(),
            _ => {}
        }
        before = c;
    }
    line.trim_end().len()
}

/// The finding as a problem of the texts.
pub(super) fn diagnostic(finding: &Finding, places: &Places<'_>) -> Diagnostic {
    let Finding { kind, message, help, at, related } = finding;
    let code = kind.code();
    let problem = match places.span(at) {
        Some(span) => code.at(span, message),
        // From a text that is not among these: an allowlist of somewhere else.
        None => code.nowhere(format!("{message} ({at})")),
    };
    let problem = problem.with_help(help);
    match related.as_ref().and_then(|(at, label)| Some((places.span(at)?, *label))) {
        Some((span, label)) => problem.with_related(span, label),
        None => problem,
    }
}
