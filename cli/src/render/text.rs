//! Laying out words: wrapping to a width, and making foreign text harmless.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` without characters that move the cursor, hide text or turn its direction. Newlines are escaped too.
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) {
        let escaped = text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
            if is_unsafe(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        });
        Cow::Owned(escaped)
    } else {
        Cow::Borrowed(text)
    }
}

fn is_unsafe(c: char) -> bool {
    // Bidirectional controls and invisible characters can make a line read as something else.
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns `text` takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Breaks `text` at spaces into lines of at most `width` columns, the first indented by `first`, the others by `rest`.
/// A word that is too long is broken hard. Line breaks of the text are kept.
pub fn wrap(text: &str, first: &str, rest: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let indent = columns(rest);
    for paragraph in text.split('\n') {
        let paragraph = safe(paragraph);
        let mut line = if lines.is_empty() { first } else { rest }.to_owned();
        // Counted along instead of measured anew: values can be long.
        let mut used = columns(&line);
        let mut fresh = true;
        for word in paragraph.split(' ') {
            if !fresh && used + 1 + columns(word) > width {
                lines.push(std::mem::replace(&mut line, rest.to_owned()));
                used = indent;
                fresh = true;
            }
            if !fresh {
                line.push(' ');
                used += 1;
            }
            for c in word.chars() {
                let wide = c.width().unwrap_or(0);
                if used + wide > width && used > indent {
                    lines.push(std::mem::replace(&mut line, rest.to_owned()));
                    used = indent;
                }
                line.push(c);
                used += wide;
            }
            fresh = false;
        }
        lines.push(line);
    }
    lines
}

/// `1 file`, `2 files`, `2 sandboxes`.
pub fn count(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_width() {
        let text = "a sentence of some words and one-very-long-word-that-does-not-fit-anywhere at all";
        for width in [20, 33, 80] {
            let lines = wrap(text, "  ", "    ", width);
            assert!(lines.iter().all(|line| columns(line) <= width), "{lines:#?}");
            let joined: String = lines.concat().split_whitespace().collect();
            assert_eq!(joined, text.split_whitespace().collect::<String>(), "no character is lost");
        }
        assert_eq!(wrap("", "  ", "", 80), ["  "]);
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_turn_direction() {
        assert_eq!(safe("a\x1b[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\\nd");
        assert!(matches!(safe("größe 数"), Cow::Borrowed(_)));
    }
}
