//! The lines around a place, as `miette` asks for them.
//!
//! `miette`'s own reading walks a text from its start for every place, and shows lines however long they are. Here the
//! lines are counted once, and of a line that is no longer readable only the part around the place is shown.

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Longest excerpt shown as it is, in bytes.
const MOST: usize = 4096;
/// What is shown on each side of a place in a line that is too long.
const AROUND: usize = 60;
/// Lines between two excerpts that are shown rather than left out.
const GAP: usize = 4;
/// Longest underline.
const UNDERLINE: usize = 400;

/// A text whose parts can be shown.
#[derive(Debug)]
pub(super) struct Text {
    name: String,
    content: String,
    /// First byte of each line.
    lines: Vec<u32>,
}

impl Text {
    /// `content` is what a terminal can show.
    pub(super) fn new(name: String, content: String) -> Self {
        let lines = super::lines(&content);
        Self { name, content, lines }
    }

    /// What of `start..end` is underlined.
    pub(super) fn underline(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        let start = self.content.floor_char_boundary(start);
        start..self.content.floor_char_boundary(end.min(start + UNDERLINE)).max(start)
    }

    /// Index of the line that holds the byte.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start as usize <= offset).saturating_sub(1)
    }

    /// First byte of the line of this index.
    fn first_byte(&self, line: usize) -> Option<usize> {
        self.lines.get(line).map(|start| *start as usize)
    }
}

impl SourceCode for Text {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let start = self.content.floor_char_boundary(span.offset());
        let end = self.content.floor_char_boundary(span.offset() + span.len()).max(start);
        // The last byte of the span, so that one that ends with its line does not reach into the next.
        let last = self.line(end.saturating_sub(1).max(start));
        let first = self.line(start).saturating_sub(before);
        let mut from = self.first_byte(first).unwrap_or_default();
        let mut to = self.first_byte(last + after + 1).map_or(self.content.len(), |next| next - 1);
        if to - from > MOST {
            // Two places that are too far apart for one excerpt get one each.
            if end - start > MOST {
                return Err(MietteError::OutOfBounds);
            }
            let line_start = self.first_byte(self.line(start)).unwrap_or_default();
            let line_end = self.first_byte(last + 1).map_or(self.content.len(), |next| next - 1);
            from = line_start.max(self.content.floor_char_boundary(start.saturating_sub(AROUND)));
            to = line_end.min(self.content.floor_char_boundary(end + AROUND)).max(from);
        }
        // `miette` asks without context for the line and column it names in the heading.
        if before == 0 && after == 0 {
            from = start;
        }
        let line = self.line(from);
        let line_start = self.first_byte(line).unwrap_or_default();
        let skipped = self.content.get(line_start..from).unwrap_or_default();
        let column = skipped.trim_start_matches('\u{feff}').chars().count();
        let data = self.content.get(from..to).unwrap_or_default();
        // Only read to see whether two excerpts touch; a small gap is better shown than cut.
        let count = data.matches('\n').count() + GAP;
        let span = SourceSpan::from((from, data.len()));
        let contents = MietteSpanContents::new_named(self.name.clone(), data.as_bytes(), span, line, column, count);
        Ok(Box::new(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, part: &str) -> (usize, usize, String) {
        let start = text.find(part).expect(part);
        let source = Text::new("x".to_owned(), text.to_owned());
        let contents = source.read_span(&(start, part.len()).into(), 1, 1).expect("contents");
        let data = String::from_utf8(contents.data().to_vec()).expect("text");
        assert_eq!(contents.span().len(), data.len());
        assert_eq!(contents.span().offset(), text.find(&data).expect("a part of the text"));
        (contents.line(), contents.column(), data)
    }

    #[test]
    fn shows_the_lines_around_a_place() {
        let text = "one\ntwo\nthree\nfour\nfive";
        assert_eq!(excerpt(text, "three"), (1, 0, "two\nthree\nfour".to_owned()));
        assert_eq!(excerpt(text, "one"), (0, 0, "one\ntwo".to_owned()));
        assert_eq!(excerpt(text, "five"), (3, 0, "four\nfive".to_owned()));
        assert_eq!(excerpt(text, "two\n"), (0, 0, "one\ntwo\nthree".to_owned()));
    }

    #[test]
    fn shows_a_part_of_a_long_line() {
        let text = format!("a\n{}HERE{}\nb", "é".repeat(10_000), "é".repeat(10_000));
        let (line, column, data) = excerpt(&text, "HERE");
        assert_eq!((line, column), (1, 10_000 - 30));
        assert_eq!(data, format!("{0}HERE{0}", "é".repeat(30)));
    }
}
