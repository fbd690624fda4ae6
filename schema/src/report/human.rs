//! Problems for people, as `miette` diagnostics. Rendering them is the caller's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use miette::{LabeledSpan, SourceCode};

use super::excerpt::Text;
use crate::codes;
use crate::{Diagnostic, Severity, Sources, Span};

/// All problems of one file, or those without a file.
#[derive(Debug)]
pub struct FileReport {
    title: String,
    /// In the order given to [`reports`].
    pub problems: Vec<Problem>,
}

/// One problem with the text it is in.
#[derive(Debug)]
pub struct Problem {
    diagnostic: Diagnostic,
    text: Option<Arc<Text>>,
    notes: Vec<Note>,
}

/// A place in another file that belongs to a problem.
#[derive(Debug)]
struct Note {
    span: Span,
    message: String,
    text: Arc<Text>,
}

/// One report per file, in the order of the sources; what has no place comes first.
pub fn reports(sources: &Sources, diagnostics: &[Diagnostic]) -> Vec<FileReport> {
    // Copied once per file that has a problem, and only what a terminal can show safely.
    let mut texts: BTreeMap<usize, Arc<Text>> = BTreeMap::new();
    let mut text = |index: usize| {
        let source = sources.get(index)?;
        let make = || Arc::new(Text::new(printable(&source.name), printable(&source.text)));
        Some(Arc::clone(texts.entry(index).or_insert_with(make)))
    };
    let mut files: BTreeMap<Option<usize>, Vec<Problem>> = BTreeMap::new();
    for diagnostic in diagnostics {
        let own = diagnostic.span.map(|span| span.source);
        let elsewhere = diagnostic.related.iter().filter(|(span, _)| Some(span.source) != own);
        let notes = elsewhere
            .filter_map(|(span, message)| {
                Some(Note { span: *span, message: message.clone(), text: text(span.source)? })
            })
            .collect();
        let problem = Problem { diagnostic: diagnostic.clone(), text: own.and_then(&mut text), notes };
        files.entry(own).or_default().push(problem);
    }
    files
        .into_iter()
        .map(|(index, problems)| {
            let count = |severity| problems.iter().filter(|problem| problem.diagnostic.severity == severity).count();
            let counts = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")];
            let counts: Vec<String> = counts
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
                .collect();
            let counts = counts.join(" and ");
            let title = match index.and_then(|index| sources.get(index)) {
                Some(source) => format!("{}: {counts}", printable(&source.name)),
                None => counts,
            };
            FileReport { title, problems }
        })
        .collect()
}

/// Replaces what would drive a terminal or reorder its text by something of the same length, so that places stay.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            // Half of a line break.
            '\r' => ' ',
            '\0'..='\x1f' | '\x7f' => '?',
            '\u{80}'..='\u{9f}' | '\u{61c}' => '¿',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

impl Problem {
    /// What it is about.
    pub fn diagnostic(&self) -> &Diagnostic {
        &self.diagnostic
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for FileReport {}

impl miette::Diagnostic for FileReport {
    fn severity(&self) -> Option<miette::Severity> {
        let worst = self.problems.iter().map(|problem| problem.diagnostic.severity).max();
        worst.map(severity)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.diagnostic.message))
    }
}

impl std::error::Error for Problem {}

impl miette::Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(severity(self.diagnostic.severity))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.diagnostic.help.as_deref().map(printable)?;
        Some(Box::new(help))
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let url = codes::find(self.diagnostic.code)?.url()?;
        Some(Box::new(url))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text.as_deref().map(|text| text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.diagnostic.span?;
        let text = self.text.as_deref()?;
        let range = |span: Span| text.underline(span.start, span.end);
        let own = LabeledSpan::new_primary_with_span(self.diagnostic.label.as_deref().map(printable), range(span));
        let same_file = self.diagnostic.related.iter().filter(move |(related, _)| related.source == span.source);
        let related =
            same_file.map(move |(span, message)| LabeledSpan::new_with_span(Some(printable(message)), range(*span)));
        Some(Box::new(std::iter::once(own).chain(related)))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.notes.is_empty() {
            return None;
        }
        Some(Box::new(self.notes.iter().map(|note| note as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
    }
}

impl std::error::Error for Note {}

impl miette::Diagnostic for Note {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(
            None,
            self.text.underline(self.span.start, self.span.end),
        ))))
    }
}

fn severity(severity: Severity) -> miette::Severity {
    match severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_safe_without_moving_anything() {
        let text = "a\x1b[31m\u{9b}é\u{202e}x\r\n\tz\u{61c}";
        let safe = printable(text);
        assert_eq!(safe, "a?[31m¿é\u{fffd}x \n\tz¿");
        assert_eq!(safe.len(), text.len());
    }
}
