//! Globs made fast to match: no regular expressions, no backtracking that grows with the text.

use schema::policy::{PathPattern, decode_fully};
use smallvec::SmallVec;

/// A glob over bytes. `*` stands for any bytes but `/`, `**` for any.
///
/// # Guarantees
/// Matching allocates nothing and takes time in proportion to the text, times at most the number of slashes in the
/// pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    /// All literal text, one piece after the other.
    bytes: Box<[u8]>,
    /// Where pieces end in `bytes`, and what comes after them. Never empty; the last one is followed by the end. Between
    /// two runs of stars, and beside `**`, no piece is empty, except at the ends of the pattern.
    pieces: SmallVec<[Piece; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    end: u32,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// `*`
    Star,
    /// `**`
    Stars,
    End,
}

/// Pieces with single stars between them, from the first to the last.
type Part = (usize, usize);

impl Glob {
    /// Of canonical paths.
    pub(super) fn path(pattern: &PathPattern) -> Self {
        // Canonical paths have stars themselves, not their escapes.
        Self::new(pattern.as_str(), |text| text.replace("%2A", "*"), true)
    }

    /// Of what servers could take paths for ([`schema::policy::RequestPath::loosest`]).
    pub(super) fn loose_path(pattern: &PathPattern) -> Self {
        Self::new(pattern.as_str(), decode_fully, true)
    }

    /// Of plain text, where `*` stands for any.
    pub(super) fn text(pattern: &str) -> Self {
        Self::new(pattern, str::as_bytes, false)
    }

    fn new<'a, L: AsRef<[u8]>>(pattern: &'a str, literal: impl Fn(&'a str) -> L, segments: bool) -> Self {
        let mut bytes = Vec::new();
        let mut pieces = SmallVec::new();
        let mut rest = pattern;
        loop {
            let stars = rest.find('*');
            bytes.extend_from_slice(literal(&rest[..stars.unwrap_or(rest.len())]).as_ref());
            let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let Some(at) = stars else {
                pieces.push(Piece { end, then: Then::End });
                break;
            };
            let after = rest[at..].trim_start_matches('*');
            let one = segments && rest.len() - at - after.len() == 1;
            pieces.push(Piece { end, then: if one { Then::Star } else { Then::Stars } });
            rest = after;
        }
        Self { bytes: bytes.into(), pieces }
    }

    /// Whether all of `text` is what the glob stands for.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut part = self.part(0);
        if self.is_last(part) {
            return self.whole(part, text);
        }
        // What `**` swallows is better short: the earliest end of each part leaves the most room for the next.
        let Some(mut at) = self.forward(part, text, 0) else { return false };
        loop {
            part = self.part(part.1 + 1);
            if self.is_last(part) {
                return self.backward(part, text, at);
            }
            let Some(end) = self.search(part, text, at) else { return false };
            at = end;
        }
    }

    fn literal(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.pieces[before].end);
        &self.bytes[start as usize..self.pieces[index].end as usize]
    }

    fn part(&self, first: usize) -> Part {
        let stars = self.pieces[first..].iter().position(|piece| piece.then != Then::Star);
        (first, first + stars.unwrap_or(0))
    }

    fn is_last(&self, part: Part) -> bool {
        part.1 + 1 == self.pieces.len()
    }

    /// The part is all of `text`.
    fn whole(&self, (first, last): Part, text: &[u8]) -> bool {
        let end = self.literal(last);
        if first == last {
            return text == end;
        }
        let Some(at) = self.forward((first, last - 1), text, 0) else { return false };
        text[at..].strip_suffix(end).is_some_and(|gap| !gap.contains(&b'/'))
    }

    /// The earliest end of the part when it begins at `start`. The first place for a piece is the best one: within a
    /// segment a later one leaves less room, and a piece with a slash has but one place.
    fn forward(&self, (first, last): Part, text: &[u8], start: usize) -> Option<usize> {
        let begin = self.literal(first);
        let mut at = text[start..].starts_with(begin).then_some(start + begin.len())?;
        for index in first + 1..=last {
            let piece = self.literal(index);
            while !text[at..].starts_with(piece) {
                if *text.get(at)? == b'/' {
                    return None;
                }
                at += 1;
            }
            at += piece.len();
        }
        Some(at)
    }

    /// Whether the part ends `text` and begins at `limit` or later.
    fn backward(&self, (first, last): Part, text: &[u8], limit: usize) -> bool {
        let Some(mut rest) = text[limit..].strip_suffix(self.literal(last)) else { return false };
        for index in (first..last).rev() {
            let piece = self.literal(index);
            loop {
                if let Some(before) = rest.strip_suffix(piece) {
                    rest = before;
                    break;
                }
                match rest {
                    [before @ .., byte] if *byte != b'/' => rest = before,
                    _ => return false,
                }
            }
        }
        true
    }

    /// The earliest end of the part when it begins at `from` or later.
    fn search(&self, part: Part, text: &[u8], from: usize) -> Option<usize> {
        let begin = self.literal(part.0);
        let mut start = from;
        while start <= text.len() {
            if text[start..].starts_with(begin) {
                if let Some(end) = self.forward(part, text, start) {
                    return Some(end);
                }
                // What failed after a first piece without a slash fails from everywhere in that segment.
                if !begin.contains(&b'/') {
                    start += text[start..].iter().position(|byte| *byte == b'/')?;
                }
            }
            start += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the words say, by trying everything.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            [b'*', rest @ ..] => {
                (0..=text.len()).take_while(|at| !text[..*at].contains(&b'/')).any(|at| naive(rest, &text[at..]))
            }
            [byte, rest @ ..] => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::path(&pattern.parse().expect(pattern)).matches(text.as_bytes())
    }

    #[test]
    fn stars_stand_for_what_they_say() {
        let cases = [
            ("/", "/", true),
            ("/", "/a", false),
            ("/repos/**", "/repos/", true),
            ("/repos/**", "/repos/a/b", true),
            ("/repos/**", "/repos", false),
            ("/repos/*", "/repos/a", true),
            ("/repos/*", "/repos/", true),
            ("/repos/*", "/repos/a/b", false),
            ("/repos/*/issues", "/repos/a/issues", true),
            ("/repos/*/issues", "/repos/a/b/issues", false),
            ("/repos/**/issues", "/repos/a/b/issues", true),
            ("/repos/**/issues", "/repos/issues", false),
            ("/**", "/", true),
            ("/*.tar.gz", "/a.tar.gz", true),
            ("/*.tar.gz", "/a.tar.gz.sig", false),
            ("/%2A", "/*", true),
            ("/%2A", "/a", false),
            ("/a*a", "/a", false),
            ("/**/*.js", "/x/y/z.js", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(Glob::text("Bearer *").matches(b"Bearer a/b"));
        assert!(!Glob::text("Bearer *").matches(b"bearer a"));
        assert!(Glob::text("**").matches(b""));
    }

    #[test]
    fn an_escaped_star_is_a_star_however_it_is_read() {
        let glob = Glob::loose_path(&"/%2A/x".parse().expect("a pattern"));
        assert!(glob.matches(b"/*/x"));
        assert!(!glob.matches(b"/a/x"));
    }

    #[test]
    fn hostile_texts_take_no_longer_than_others() {
        // A matcher that goes back for each star takes longer than anybody waits; no time is measured.
        let text = format!("/{}", "a".repeat(1 << 16));
        for pattern in ["/**/*/**/*a*a*a*a*b", "/**a*a*a*a*a*a*a*b", "/**a**a**a**a**a**a**b", "/**a*b**"] {
            assert!(!matches(pattern, &text), "{pattern}");
        }
        let segments = "/a".repeat(1 << 15);
        for pattern in ["/**/*/**/*b", "/**/a*/a*/a*/a*/b**", "/**a*/**a*/**a*/b"] {
            assert!(!matches(pattern, &segments), "{pattern}");
        }
    }

    /// No row of three stars: no pattern has one.
    fn pattern() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!["a", "b", "/", "a*", "/*", "b**", "/**"]), 0..8)
            .prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn matches_what_trying_everything_matches(pattern in pattern(), text in "/[ab/]{0,12}") {
            let glob = Glob::new(&pattern, str::as_bytes, true);
            prop_assert_eq!(glob.matches(text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
