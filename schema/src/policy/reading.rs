//! The most generous reading of a path: what the laxest server could take it for.

/// What a server could take a canonical path for that decodes escapes until none is left (as `decoded` is), takes `\` for
/// `/`, drops `;` parameters, joins repeated slashes and resolves dot segments after all that. Deny rules are judged by it
/// as well, so that no spelling of a denied path gets past them.
///
/// Linear in the length of `decoded`.
pub(super) fn loosest(decoded: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut directory = false;
    for segment in decoded.split(|byte| *byte == b'/') {
        let segment = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut made = Vec::with_capacity(decoded.len());
    for segment in &kept {
        made.push(b'/');
        made.extend_from_slice(segment);
    }
    if directory {
        made.push(b'/');
    }
    made
}

/// Whether a path decoded so has dot segments.
pub(super) fn has_dots(decoded: &[u8]) -> bool {
    let name =
        |segment: &'_ [u8]| segment.split(|byte| *byte == b';').next().is_some_and(|name| matches!(name, b"." | b".."));
    decoded.split(|byte| *byte == b'/').any(name)
}

/// `text` with escapes decoded until none is left (`%2561` is `a`), and `\` as `/`.
pub fn decode_fully(text: &str) -> Vec<u8> {
    let mut made = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        made.push(byte);
        // What a decoded byte completes is an escape again; each one takes two bytes away, so this ends.
        while let [.., b'%', high, low] = *made.as_slice() {
            let (Some(high), Some(low)) = (hex(high), hex(low)) else { break };
            made.truncate(made.len() - 3);
            made.push(high << 4 | low);
        }
        if let Some(last @ b'\\') = made.last_mut() {
            *last = b'/';
        }
    }
    made
}

/// The value of a hex digit.
pub(super) const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_path_as_the_laxest_server_would() {
        let cases: &[(&str, &str)] = &[
            ("/", "/"),
            ("/admin", "/admin"),
            ("/admin/", "/admin/"),
            ("/public%2F..%2Fadmin", "/admin"),
            ("/public%5C..%5Cadmin", "/admin"),
            ("/%2561dmin", "/admin"),
            ("/%252561dmin", "/admin"),
            ("/public/%252e%252e/admin/", "/admin/"),
            ("/public/%252E%252E%252Fadmin", "/admin"),
            ("/admin;x=1/users", "/admin/users"),
            ("/admin%3Bx/users", "/admin/users"),
            ("/a%2F%2Fb", "/a/b"),
            ("/a/.%2F", "/a/"),
            ("/..", "/"),
            ("/%40me", "/@me"),
            ("/%", "/%"),
            ("/%2", "/%2"),
            ("/%%32%35", "/%"),
        ];
        for (path, reading) in cases {
            assert_eq!(String::from_utf8_lossy(&loosest(&decode_fully(path))), *reading, "{path}");
        }
    }

    #[test]
    fn decoding_is_linear_whatever_is_nested() {
        // One that starts again for each layer takes minutes for this.
        let nested = format!("/%{}61", "25".repeat(1 << 20));
        assert_eq!(decode_fully(&nested), b"/a");
    }
}
