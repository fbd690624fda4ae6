//! Did you mean …?

/// The candidate most like `wrong`, if one is like enough to be worth naming.
///
/// Case and the choice between `-`, `_` and camelCase do not count; of equally near ones the first wins. Long words are
/// not compared: a typing slip is not what is wrong with them.
pub fn did_you_mean<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if wrong.len() > LONGEST {
        return None;
    }
    let folded = fold(wrong);
    // One slip in three characters, at most three: `cpu` → `cpus`, `enviroment` → `environment`, never `a` → `b`.
    let limit = (folded.chars().count() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.filter(|candidate| candidate.len() <= LONGEST && *candidate != wrong) {
        let other = fold(candidate);
        let length = folded.chars().count().max(other.chars().count());
        if length.abs_diff(folded.chars().count().min(other.chars().count())) > limit {
            continue;
        }
        let distance = strsim::osa_distance(&folded, &other);
        if distance <= limit && distance < length && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_meant_and_nothing_else() {
        let fields = ["image", "images", "mounts", "env", "cpus", "noNewPrivileges", "capDrop", "networks", "gui"];
        let cases = [
            ("imgae", Some("image")),
            ("imagee", Some("image")),
            ("Mounts", Some("mounts")),
            ("cpu", Some("cpus")),
            ("no_new_privileges", Some("noNewPrivileges")),
            ("cap-drop", Some("capDrop")),
            ("network", Some("networks")),
            ("environment", None),
            ("x", None),
            ("", None),
            ("ports", None),
        ];
        for (wrong, expected) in cases {
            assert_eq!(did_you_mean(wrong, fields.into_iter()), expected, "{wrong}");
        }
        assert_eq!(did_you_mean(&"i".repeat(1 << 20), fields.into_iter()), None);
    }
}
