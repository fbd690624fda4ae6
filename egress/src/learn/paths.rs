//! From paths that were asked for to patterns that say as much, and not much more.

use std::collections::{BTreeMap, BTreeSet};

use schema::policy::PathPattern;

/// Most patterns of one rule.
const MOST: usize = 8;
/// A part of a path that is longer says no more than which thing is meant, and could be a secret.
const LONGEST: usize = 32;
/// The same where it has letters and digits.
const LONGEST_MIXED: usize = 16;
/// From this length on hexadecimal digits are the name of a commit or an object.
const SHORTEST_HASH: usize = 7;

/// Patterns that match every one of `paths`.
pub(super) fn patterns(paths: &BTreeSet<&str>) -> Vec<PathPattern> {
    let mut texts: BTreeSet<String> = paths.iter().map(|path| general(path)).collect();
    while texts.len() > MOST {
        let Some(parent) = fullest(&texts) else { break };
        texts.retain(|text| !is_below(text, &parent));
        texts.insert(format!("{parent}/**"));
    }
    let mut patterns: Vec<PathPattern> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if patterns.len() != texts.len() {
        // A path that no pattern spells: all of them, rather than some.
        patterns = "/**".parse().into_iter().collect();
    }
    patterns
}

/// `path` with a star for each part that names a single thing.
fn general(path: &str) -> String {
    let part = |part: &str| if is_single(part) { "*".to_owned() } else { part.replace('*', "%2A") };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Whether a part of a path looks like a number, a hash, a UUID or a token.
fn is_single(part: &str) -> bool {
    let is = |test: fn(&u8) -> bool| part.bytes().any(|byte| test(&byte));
    let (digits, letters) = (is(u8::is_ascii_digit), is(u8::is_ascii_alphabetic));
    let hex = part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    !part.is_empty()
        && (part.bytes().all(|byte| byte.is_ascii_digit())
            || hex && digits && part.len() >= SHORTEST_HASH
            || digits && letters && part.len() >= LONGEST_MIXED
            || part.len() > LONGEST)
}

/// The directory with the most directly in it; of those, the deepest.
fn fullest(texts: &BTreeSet<String>) -> Option<String> {
    let mut inside: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        let text = text.strip_suffix("/**").unwrap_or(text);
        if let Some((parent, _)) = text.rsplit_once('/') {
            *inside.entry(parent).or_default() += 1;
        }
    }
    let depth = |parent: &str| parent.matches('/').count();
    // One alone becomes wider without becoming fewer; its turn comes when nothing else is left.
    let several = inside.iter().filter(|(_, count)| **count > 1);
    let best = several.max_by_key(|(parent, count)| (**count, depth(parent)));
    let deepest = || inside.keys().max_by_key(|parent| depth(parent)).map(|parent| (*parent).to_owned());
    best.map(|(parent, _)| (*parent).to_owned()).or_else(deepest)
}

fn is_below(text: &str, parent: &str) -> bool {
    text.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schema::policy::RequestPath;

    use super::*;
    use crate::compiled::matches_path;

    fn made(paths: &[&str]) -> Vec<String> {
        patterns(&paths.iter().copied().collect()).iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }

    #[test]
    fn what_names_a_single_thing_becomes_a_star() {
        assert_eq!(made(&["/repos/acme/api/issues/12", "/repos/acme/api/issues/7"]), ["/repos/acme/api/issues/*"]);
        assert_eq!(made(&["/c/3f2a9b1c", "/c/feedbee"]), ["/c/*", "/c/feedbee"]);
        assert_eq!(made(&["/u/0b5e7c1e-53a1-4d36-9f5e-5f6f3c1d2a3b/x"]), ["/u/*/x"]);
        assert_eq!(made(&["/hooks/T024BE7LD/xoxb17653672481k19847840477"]), ["/hooks/T024BE7LD/*"]);
        assert_eq!(made(&["/v1/messages", "/a*b", "/"]), ["/", "/a%2Ab", "/v1/messages"]);
    }

    #[test]
    fn of_many_in_one_place_that_place_is_allowed() {
        let many: Vec<String> = ('a'..='z').map(|name| format!("/pool/{name}/pkg.deb")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("/dists/stable/Release");
        let few = made(&many);
        assert!(few.len() <= MOST && few.contains(&"/dists/stable/Release".to_owned()), "{few:?}");
        assert!(few.iter().all(|pattern| pattern != "/**"), "{few:?}");
    }

    proptest! {
        #[test]
        fn every_path_is_matched_and_patterns_are_few(
            paths in prop::collection::btree_set("(/[a-c0-9*%41]{1,3}){1,4}", 1..60)
        ) {
            let canonical: Vec<RequestPath> = paths.iter().filter_map(|path| RequestPath::parse(path).ok()).collect();
            let paths: BTreeSet<&str> = canonical.iter().map(RequestPath::as_str).collect();
            let patterns = patterns(&paths);
            prop_assert!(patterns.len() <= MOST);
            for path in paths {
                prop_assert!(patterns.iter().any(|pattern| matches_path(pattern, path)), "{path} {patterns:?}");
            }
        }
    }
}
