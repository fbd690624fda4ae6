//! Problems on their way out: places counted out, sorted, in the formats of `sbx validate`.
//!
//! [`json()`], [`github()`] and [`sarif()`] are for programs. [`FileReport`] is for people: a `miette` diagnostic that the
//! caller renders.

use crate::origins::Place;
use crate::{Diagnostic, LocatedDiagnostic, Location, RelatedPlace, Severity, Sources, Span};

mod excerpt;
mod github;
mod human;
mod json;
mod sarif;

pub use github::github;
pub use human::{FileReport, Problem, reports};
pub use json::json;
pub use sarif::sarif;

/// Sorts for reading: by file and place, what has no place first; what is said twice about a place is kept once.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| (a.span, b.severity, a.code, &a.message).cmp(&(b.span, a.severity, b.code, &b.message)));
    diagnostics.dedup_by(|a, b| (a.span, a.code, &a.message) == (b.span, b.code, &b.message));
}

/// Whether a configuration with these problems may be used; `strict` refuses warnings too.
pub fn is_valid(diagnostics: &[LocatedDiagnostic], strict: bool) -> bool {
    !strict && diagnostics.iter().all(|problem| problem.severity != Severity::Error) || diagnostics.is_empty()
}

/// Counts lines and columns of spans.
#[derive(Debug)]
pub struct Locator<'a> {
    sources: &'a Sources,
    /// By source.
    tables: Vec<Table>,
}

/// What it takes to count without reading a text again.
#[derive(Debug)]
struct Table {
    /// First byte of each line. In half a word: a hostile text has a line in every other byte, and none that is read is
    /// longer than this can count.
    lines: Vec<u32>,
    /// Characters before each block: a place costs one block, however long its line is.
    characters: Vec<usize>,
}

/// Bytes in a block of [`Table::characters`].
const BLOCK: usize = 1024;

impl Table {
    fn new(text: &str) -> Self {
        let before = text.as_bytes().chunks(BLOCK).scan(0, |sum, block| {
            let before = *sum;
            *sum += characters(block);
            Some(before)
        });
        Self { lines: lines(text), characters: before.collect() }
    }

    /// Characters of `text` before `offset`.
    fn before(&self, text: &str, offset: usize) -> Option<usize> {
        let block = (offset / BLOCK).min(self.characters.len().checked_sub(1)?);
        Some(self.characters.get(block)? + characters(text.as_bytes().get(block * BLOCK..offset)?))
    }
}

/// First byte of each line.
fn lines(text: &str) -> Vec<u32> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0).chain(breaks.map(|(index, _)| u32::try_from(index + 1).unwrap_or(u32::MAX))).collect()
}

/// Characters that begin in `bytes`.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

impl<'a> Locator<'a> {
    /// Reads every text once.
    pub fn new(sources: &'a Sources) -> Self {
        Self { sources, tables: sources.iter().map(|source| Table::new(&source.text)).collect() }
    }

    /// The place of `span`; `None` when its source is not among the texts.
    pub fn locate(&self, span: Span) -> Option<Location> {
        let source = self.sources.get(span.source)?;
        let place = self.place(span)?;
        Some(place.in_file(source.name.clone()))
    }

    /// The same without the name of the file.
    pub(crate) fn place(&self, span: Span) -> Option<Place> {
        let (line, column) = self.position(span.source, span.start)?;
        let (end_line, end_column) = self.position(span.source, span.end.max(span.start))?;
        Some(Place { source: span.source, line, column, end_line, end_column })
    }

    /// A diagnostic with its places counted out.
    pub fn diagnostic(&self, diagnostic: &Diagnostic) -> LocatedDiagnostic {
        let place = |(span, message): &(Span, String)| {
            self.locate(*span).map(|location| RelatedPlace { message: message.clone(), location })
        };
        LocatedDiagnostic {
            code: diagnostic.code,
            severity: diagnostic.severity,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
            location: diagnostic.span.and_then(|span| self.locate(span)),
            related: diagnostic.related.iter().filter_map(place).collect(),
        }
    }

    /// Line and column of a byte, from 1; a byte-order mark is no column.
    fn position(&self, source: usize, offset: usize) -> Option<(usize, usize)> {
        let text = &self.sources.get(source)?.text;
        let table = self.tables.get(source)?;
        let offset = text.floor_char_boundary(offset);
        let line = table.lines.partition_point(|start| *start as usize <= offset);
        let start = *table.lines.get(line.checked_sub(1)?)? as usize;
        let mark = usize::from(start == 0 && offset > 0 && text.starts_with('\u{feff}'));
        let column = match offset {
            0 => 1,
            // Nearly all lines are short.
            _ if offset - start <= BLOCK => characters(text.as_bytes().get(start..offset)?) - mark + 1,
            _ => table.before(text, offset)? - table.before(text, start)? - mark + 1,
        };
        Some((line, column))
    }
}

/// Places counted out, in the order given.
pub fn locate(sources: &Sources, diagnostics: &[Diagnostic]) -> Vec<LocatedDiagnostic> {
    let locator = Locator::new(sources);
    diagnostics.iter().map(|diagnostic| locator.diagnostic(diagnostic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, codes};

    pub(super) fn source(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), directory: "/".into(), text: text.to_owned() }
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "\u{feff}é: x\r\nkey: ü\tz\n\nlast";
        let sources = [source("a.yaml", text)];
        let locator = Locator::new(&sources);
        let cases = [
            ("é", (1, 1, 1, 2)),
            ("x", (1, 4, 1, 5)),
            ("key", (2, 1, 2, 4)),
            ("z", (2, 8, 2, 9)),
            ("last", (4, 1, 4, 5)),
            ("z\n\nla", (2, 8, 4, 3)),
        ];
        for (part, expected) in cases {
            let start = text.find(part).expect(part);
            let place = locator.locate(Span { source: 0, start, end: start + part.len() }).expect("a place");
            assert_eq!((place.line, place.column, place.end_line, place.end_column), expected, "{part:?}");
        }
        let end = locator.locate(Span { source: 0, start: 999, end: 9999 }).expect("clamped");
        assert_eq!((end.line, end.column), (4, 5));
        assert_eq!(locator.locate(Span { source: 1, start: 0, end: 0 }), None);
    }

    #[test]
    fn sorts_by_place_and_says_nothing_twice() {
        let at = |source, start| codes::SYNTAX.at(Span { source, start, end: start }, "x");
        let mut problems = vec![at(1, 0), at(0, 5), codes::UNREADABLE.nowhere("y"), at(0, 1), at(0, 5)];
        sort(&mut problems);
        let places: Vec<_> =
            problems.iter().map(|problem| problem.span.map(|span| (span.source, span.start))).collect();
        assert_eq!(places, [None, Some((0, 1)), Some((0, 5)), Some((1, 0))]);
    }
}
