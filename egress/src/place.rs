//! From where something is written, as messages say it, to what is underlined.

use std::collections::HashMap;

use schema::{Location, Sources, Span};

/// Where lines begin, by name of the text.
pub(crate) struct Places<'a> {
    sources: HashMap<&'a str, (usize, &'a str, Vec<usize>)>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        let lines = |text: &str| -> Vec<usize> {
            let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
            std::iter::once(0).chain(after).collect()
        };
        let numbered = sources.iter().enumerate();
        let sources =
            numbered.map(|(index, source)| (source.name.as_str(), (index, source.text.as_str(), lines(&source.text))));
        Self { sources: sources.collect() }
    }

    /// All of `location`.
    pub(crate) fn all_of(&self, location: &Location) -> Option<Span> {
        let Location { file, line, column, end_line, end_column } = location;
        let start = self.offset(file, *line, *column)?;
        let (_, end) = self.offset(file, *end_line, *end_column)?;
        Some(Span { source: start.0, start: start.1, end: end.max(start.1) })
    }

    /// The key at `FILE:LINE:COLUMN` with its value, as far as it is on that line.
    pub(crate) fn span(&self, at: &str) -> Option<Span> {
        let (rest, column) = at.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let (column, line): (usize, usize) = (column.parse().ok()?, line.parse().ok()?);
        let (source, start) = self.offset(file, line, column)?;
        let (_, text, _) = self.sources.get(file)?;
        let end = start + extent(text.get(start..)?.lines().next()?);
        Some(Span { source, start, end })
    }

    /// Source and byte of a place; the place after the last character of a line is one too.
    fn offset(&self, file: &str, line: usize, column: usize) -> Option<(usize, usize)> {
        let (source, text, lines) = self.sources.get(file)?;
        let begin = *lines.get(line.checked_sub(1)?)?;
        let line = text.get(begin..)?.lines().next().unwrap_or_default();
        let mark = usize::from(begin == 0 && line.starts_with('\u{feff}'));
        let mut places = line.char_indices().map(|(offset, _)| offset).chain([line.len()]);
        Some((*source, begin + places.nth(column.checked_sub(1)? + mark)?))
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
