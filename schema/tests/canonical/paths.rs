//! Paths of requests and of rules.

use super::*;

#[test]
fn paths_become_one() {
    let cases = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b?q=/../x", "/a/b"),
        ("/a/", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../c", "/a/c"),
        ("/a/%2e%2e/c", "/c"),
        ("/a/%2E./c", "/c"),
        ("/a/.%2e/c", "/c"),
        ("/%7Euser/%61", "/~user/a"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a%20b", "/a%20b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%252e%252ea/a", "/%252e%252ea/a"),
        ("/a%253Bb", "/a%253Bb"),
        ("/%2a/%2A*", "/*/**"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a..b/...", "/a..b/..."),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        // A latin-1 byte that is no UTF-8 is somebody's file.
        ("/%E9t%E9", "/%E9t%E9"),
    ];
    for (raw, canonical) in cases {
        assert_eq!(RequestPath::parse(raw).as_ref().map(RequestPath::as_str), Ok(canonical), "{raw}");
    }
    for (raw, encoded) in [
        ("/a%2fb", true),
        ("/a%5Cb", true),
        ("/a%252Fb", true),
        ("/a%25255Cb", true),
        ("/a%252Eb", false),
        ("/a/b", false),
    ] {
        assert_eq!(RequestPath::parse(raw).map(|path| path.has_encoded_separators()), Ok(encoded), "{raw}");
    }
}

#[test]
fn paths_that_servers_disagree_about_are_refused() {
    use TargetError::{AboveRoot, Character, EmptySegment, HiddenDots, Overlong, Parameter, Percent};
    let cases = [
        ("", Character),
        ("a", Character),
        ("*", Character),
        ("http://a/b", Character),
        ("/a b", Character),
        ("/a\tb", Character),
        ("/a\0", Character),
        ("/a\r\nX: y", Character),
        ("/a\\b", Character),
        ("/é", Character),
        ("/a#b", Character),
        ("/a%00", Character),
        ("/a%0d%0aX:%20y", Character),
        ("/a%1f", Character),
        ("/a%7f", Character),
        ("/a%7F", Character),
        ("/%", Percent),
        ("/%2", Percent),
        ("/%zz", Percent),
        ("/%u002e", Percent),
        ("/%+1", Percent),
        ("//", EmptySegment),
        ("//a", EmptySegment),
        ("/a//b", EmptySegment),
        ("/a/%2e//b", EmptySegment),
        ("/..", AboveRoot),
        ("/../a", AboveRoot),
        ("/a/../../b", AboveRoot),
        ("/%2e%2e/a", AboveRoot),
        ("/a/..;/b", Parameter),
        ("/a/.;x/b", Parameter),
        ("/a/%2e%2e;/b", Parameter),
        ("/a/..%3b/b", Parameter),
        ("/a%2f..%2fb", HiddenDots),
        ("/a%5c..%5cb", HiddenDots),
        ("/..%2fb", HiddenDots),
        ("/a/..%2f", HiddenDots),
        ("/a%2f%2e%2e", HiddenDots),
        ("/a%2f..;x%2fb", HiddenDots),
        ("/a%2f.", HiddenDots),
        ("/%252e%252e/a", HiddenDots),
        ("/a/%2525252E./b", HiddenDots),
        ("/a/%252E", HiddenDots),
        ("/a/..%253Bx/b", HiddenDots),
        ("/a%252F..%252Fb", HiddenDots),
        ("/a%c0%afb", Overlong),
        ("/%c0%ae%c0%ae/b", Overlong),
        ("/a%c1%9cb", Overlong),
        ("/a%e0%80%afb", Overlong),
        ("/a%f0%80%80%afb", Overlong),
    ];
    for (raw, error) in cases {
        assert_eq!(RequestPath::parse(raw), Err(error), "{raw}");
    }
}

#[test]
fn path_patterns_are_canonical_as_paths_are() {
    let good = [
        ("/", "/"),
        ("/**", "/**"),
        ("/a/*/b", "/a/*/b"),
        ("/%7euser/*", "/~user/*"),
        ("/a%2f*", "/a%2F*"),
        ("/%2a", "/%2A"),
        ("/é", "/%C3%A9"),
        ("/a*.b", "/a*.b"),
        ("/.../.a", "/.../.a"),
    ];
    for (text, canonical) in good {
        assert_eq!(text.parse::<PathPattern>().as_ref().map(PathPattern::as_str), Ok(canonical), "{text}");
    }
    let never = |text: &str| PathError::Never(text.to_owned());
    let bad = [
        ("", PathError::Relative),
        ("a", PathError::Relative),
        ("**", PathError::Relative),
        ("/***", PathError::Stars),
        ("/a//b", never("//")),
        ("/a/./b", never(".")),
        ("/a/../b", never("..")),
        ("/a/%2e%2e/b", never("..")),
        ("/a/..;x", never("..;x")),
        ("/a%2f..", never("a%2F..")),
        ("/a?b", never("?")),
        ("/a#b", never("#")),
        ("/a b", never(" ")),
        ("/a\\b", never("\\")),
        ("/a\0", never("\0")),
        ("/a%00", PathError::Escape),
        ("/a%c0%af", PathError::Escape),
        ("/%", PathError::Percent),
        ("/%é", PathError::Percent),
    ];
    for (text, error) in bad {
        assert_eq!(text.parse::<PathPattern>(), Err(error), "{text:?}");
    }
}
