//! A text by lines and bytes, as far as changes need to know it.

use std::ops::Range;

use super::EditError;
use crate::document::{Node, NodeKind};

/// A text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<'t> {
    pub(super) text: &'t str,
}

/// What ends the last line of `before`.
pub(super) fn newline(before: &str) -> &'static str {
    let whole = before.rfind('\n').map_or("", |at| &before[..at]);
    if whole.ends_with('\r') { "\r\n" } else { "\n" }
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text }
    }

    fn rest(&self, at: usize) -> &'t str {
        self.text.get(at..).unwrap_or_default()
    }

    pub(super) fn at(&self, at: usize) -> Option<char> {
        self.rest(at).chars().next()
    }

    /// First byte of the line that `at` is in.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
    }

    /// First byte of the line after the one that ends at, or holds, `end`.
    pub(super) fn after(&self, end: usize) -> usize {
        if end > 0 && self.text.as_bytes().get(end - 1) == Some(&b'\n') {
            return end;
        }
        self.rest(end).find('\n').map_or(self.text.len(), |newline| end + newline + 1)
    }

    /// The end of what a node says, without the line breaks that a block may end with. An alias says itself.
    pub(super) fn end_of(&self, node: &Node) -> usize {
        let end = node.used_at().map_or(node.span.end, |alias| alias.end);
        self.trimmed_end(end)
    }

    /// `end` without blanks before it.
    pub(super) fn trimmed_end(&self, end: usize) -> usize {
        self.text.get(..end).map_or(end, |before| before.trim_end().len())
    }

    pub(super) fn is_blank(&self, range: Range<usize>) -> bool {
        self.text.get(range).is_some_and(|text| text.trim().is_empty())
    }

    pub(super) fn is_blank_or_comment(&self, range: Range<usize>) -> bool {
        self.text.get(range).is_some_and(|text| {
            let text = text.trim();
            text.is_empty() || text.starts_with('#') && !text.contains('\n')
        })
    }

    /// Behind blanks of the same line.
    pub(super) fn skip_blanks(&self, at: usize) -> usize {
        let rest = self.rest(at);
        at + (rest.len() - rest.trim_start_matches([' ', '\t']).len())
    }

    /// Behind the comma that follows `end`, if one does.
    pub(super) fn comma_after(&self, end: usize) -> Option<usize> {
        let rest = self.rest(end);
        let blanks = rest.len() - rest.trim_start().len();
        rest[blanks..].starts_with(',').then_some(end + blanks + 1)
    }

    /// Behind the colon that follows a key.
    pub(super) fn colon_after(&self, end: usize) -> Option<usize> {
        let at = self.skip_blanks(end);
        (self.at(at) == Some(':')).then_some(at + 1)
    }

    /// The column of the dash before a block item; `None` where something else stands before it too.
    pub(super) fn dash_before(&self, item: &Node) -> Option<usize> {
        let start = item.used_at().map_or(item.span.start, |alias| alias.start);
        let before = self.text.get(self.line_of(start)..start)?;
        let indent = before.len() - before.trim_start_matches(' ').len();
        let rest = before[indent..].strip_prefix('-')?;
        // An anchor may stand between.
        let rest = rest.trim();
        (rest.is_empty() || rest.starts_with('&') && !rest.contains(' ')).then_some(indent)
    }

    /// Where to insert `line` as a line of its own at `at`, the first byte of a line or the end; and as what.
    pub(super) fn whole_line(&self, at: usize, line: &str) -> (usize, String) {
        let newline = newline(&self.text[..at]);
        if self.text[..at].ends_with('\n') || at == 0 {
            (at, format!("{line}{newline}"))
        } else {
            (at, format!("{newline}{line}"))
        }
    }

    /// Where to insert another entry of a mapping: `flow` is its value in a flow mapping, `block` makes it, without its first
    /// indentation, for a block mapping of a given indentation.
    pub(super) fn append_entry(
        &self,
        mapping: &Node,
        key: &str,
        flow: &str,
        block: &dyn Fn(usize, &str) -> String,
    ) -> Result<(usize, String), EditError> {
        let NodeKind::Mapping(entries) = &mapping.kind else { return Err(EditError::Shape) };
        if self.at(mapping.span.start) == Some('{') {
            let Some(last) = entries.iter().max_by_key(|entry| self.end_of(&entry.value)) else {
                return Ok((mapping.span.start + 1, format!(" {key}: {flow} ")));
            };
            // Null that is not written ends with its key.
            let end = self.end_of(&last.value).max(last.key_span.end);
            return if mapping.span.end > end {
                Ok((end, format!(", {key}: {flow}")))
            } else {
                Err(EditError::Aliased)
            };
        }
        let first = entries.first().ok_or(EditError::Shape)?;
        let indent = first.key_span.start - self.line_of(first.key_span.start);
        let blank = self.is_blank(self.line_of(first.key_span.start)..first.key_span.start);
        if !blank || first.key_span.start != mapping.span.start {
            return Err(EditError::Shape);
        }
        let at = self.after(self.trimmed_end(mapping.span.end));
        Ok(self.whole_line(at, &format!("{}{}", " ".repeat(indent), block(indent, newline(&self.text[..at])))))
    }
}
