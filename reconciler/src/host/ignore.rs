//! `.containerignore`, with the rules container builders agree on.

use std::path::Path;

/// Patterns of one ignore file.
///
/// They are anchored at the root; `*` and `?` stay within a segment, `**` crosses them; what matches a directory matches
/// all in it; `!` takes back; the last pattern that matches counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    takes_back: bool,
    segments: Vec<String>,
}

impl Ignore {
    /// Reads the text of an ignore file.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Pattern::parse).collect())
    }

    /// Whether `path`, relative to the root, is left out.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let segments: Vec<_> = path.iter().map(|segment| segment.to_string_lossy()).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let last = self.0.iter().rev().find(|pattern| pattern.matches_or_holds(&segments));
        last.is_some_and(|pattern| !pattern.takes_back)
    }

    /// Whether a directory that is left out may still hold something that is not.
    pub fn takes_back_any(&self) -> bool {
        self.0.iter().any(|pattern| pattern.takes_back)
    }
}

impl Pattern {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let (takes_back, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
        let mut segments: Vec<String> = Vec::new();
        for segment in line.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                other => segments.push(other.to_owned()),
            }
        }
        // The root itself is never left out.
        (!segments.is_empty()).then_some(Self { takes_back, segments })
    }

    fn matches_or_holds(&self, path: &[&str]) -> bool {
        (1..=path.len()).any(|length| segments_match(&self.segments, &path[..length]))
    }
}

fn segments_match(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            // At the end it stands for what is in a directory, elsewhere for any number of segments.
            if rest.is_empty() { !path.is_empty() } else { (0..=path.len()).any(|n| segments_match(rest, &path[n..])) }
        }
        (Some((first, rest)), Some((segment, more))) => {
            let (first, segment): (Vec<char>, Vec<char>) = (first.chars().collect(), segment.chars().collect());
            segment_matches(&first, &segment) && segments_match(rest, more)
        }
        _ => false,
    }
}

/// Linear in practice: after a mismatch only the last `*` takes one character more.
fn segment_matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], text[t]),
            Some('\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(2),
            Some(c) => (*c == text[t]).then_some(1),
            None => None,
        };
        match (step, &mut star) {
            (Some(width), _) => {
                p += width;
                t += 1;
            }
            (None, Some((at, from))) => {
                *from += 1;
                (p, t) = (*at + 1, *from);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Width of the class at the start of `pattern` when `c` is in it.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
    let inner = &pattern[1..end];
    let (negated, inner) = match inner.split_first() {
        Some(('^' | '!', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    let mut index = 0;
    while index < inner.len() {
        if let [low, '-', high, ..] = inner[index..] {
            found |= (low..=high).contains(&c);
            index += 3;
        } else {
            found |= inner[index] == c;
            index += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_builders_rules() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("target", &["target", "target/a/b"], &["src/target", "targets"]),
            ("**/target", &["target", "a/b/target/c"], &["targets"]),
            ("*.log", &["a.log"], &["a/b.log", "a.logs"]),
            ("**/*.log\n!keep.log", &["a.log", "a/b.log", "x/keep.log"], &["keep.log"]),
            ("docs\n!docs/README*", &["docs", "docs/a"], &["docs/README.md"]),
            ("a?c", &["abc"], &["ac", "a/c"]),
            ("[a-c]x\n[^z]y", &["bx", "ay"], &["dx", "zy"]),
            ("# note\n\n/x/./y/../z/", &["x/z", "x/z/a"], &["x", "x/y", "# note"]),
            ("*\n!src", &["a", "b/c"], &["src", "src/a"]),
            ("dir/**", &["dir/a", "dir/a/b"], &["dir"]),
            ("a\\*b", &["a*b"], &["axb"]),
            (".", &[], &["a"]),
        ];
        for (text, left_out, kept) in cases {
            let ignore = Ignore::parse(text);
            for path in *left_out {
                assert!(ignore.leaves_out(Path::new(path)), "{text:?} should leave out {path}");
            }
            for path in *kept {
                assert!(!ignore.leaves_out(Path::new(path)), "{text:?} should keep {path}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let ignore = Ignore::parse(&format!("{}b", "*a".repeat(40)));
        assert!(!ignore.leaves_out(Path::new(&"a".repeat(255))));
    }
}
