//! Addresses of remotes: whether two mean the same repository, and how one is shown.

/// Whether two addresses mean the same repository.
///
/// A trailing `.git` or slash, the default port, the case of the host, `host:path` beside `ssh://host/path`, `file://`
/// beside a plain path and credentials of http addresses make no difference.
pub fn same_remote(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// `address` without a password, also where it stands in the middle of a sentence.
pub fn redact(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.find("://") {
        let (before, after) = rest.split_at(index + 3);
        result.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '?' || c.is_whitespace() || c == '\'').unwrap_or(after.len());
        let authority = &after[..end];
        match authority.rsplit_once('@') {
            // A lone user of an http address may be a token.
            Some((userinfo, host))
                if userinfo.contains(':') || before.ends_with("http://") || before.ends_with("https://") =>
            {
                result.push_str("***@");
                result.push_str(host);
            }
            _ => result.push_str(authority),
        }
        rest = &after[end..];
    }
    result.push_str(rest);
    result
}

#[derive(PartialEq, Eq)]
struct Normal {
    scheme: String,
    user: Option<String>,
    host: String,
    port: Option<String>,
    path: String,
}

fn normal(address: &str) -> Normal {
    let address = address.trim();
    if let Some((scheme, rest)) = address.split_once("://") {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "git+ssh" | "ssh+git" => "ssh".to_owned(),
            other => other.to_owned(),
        };
        if scheme == "file" {
            return local(rest);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
            _ => (host, None),
        };
        let default = [("ssh", "22"), ("https", "443"), ("http", "80"), ("git", "9418")];
        let port = port.filter(|port| !port.is_empty() && !default.contains(&(scheme.as_str(), *port)));
        // Who logs in at an http server decides what may be read, not what it is.
        let user = userinfo.filter(|_| scheme == "ssh").map(|user| user.split(':').next().unwrap_or(user).to_owned());
        return Normal { user, host: host.to_lowercase(), port: port.map(str::to_owned), path: path_of(path), scheme };
    }
    match address.split_once(':') {
        // As git reads it: a colon before any slash is a host's.
        Some((host, path)) if !host.contains('/') && !host.is_empty() => {
            let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user.to_owned()), host));
            let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
            Normal { scheme: "ssh".to_owned(), user, host, port: None, path: path_of(path) }
        }
        _ => local(address),
    }
}

fn local(path: &str) -> Normal {
    let path = format!("/{}", path_of(path));
    Normal { scheme: "file".to_owned(), user: None, host: String::new(), port: None, path }
}

fn path_of(path: &str) -> String {
    let path = path.trim_matches('/');
    path.strip_suffix("/.git").or_else(|| path.strip_suffix(".git")).unwrap_or(path).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_same_repository_by_its_other_spellings() {
        let same = [
            ("https://h.example/a/b.git", "https://H.example:443/a/b/"),
            ("https://token@h.example/a/b", "https://h.example/a/b"),
            ("git@h.example:a/b.git", "ssh://git@h.example/a/b"),
            ("ssh://git@h.example:22/a/b", "git@h.example:/a/b.git/"),
            ("/srv/git/b.git", "file:///srv/git/b"),
            ("/srv/git/b/.git", "/srv/git/b"),
        ];
        for (a, b) in same {
            assert!(same_remote(a, b), "{a} {b}");
        }
        let different = [
            ("https://h.example/a/b", "ssh://h.example/a/b"),
            ("git@h.example:a/b", "alice@h.example:a/b"),
            ("https://h.example/a/b", "https://h.example:8443/a/b"),
            ("https://h.example/a/b", "https://h.example/a/B"),
            ("/srv/git/b", "/srv/git/c"),
            ("/h/b", "h:/b"),
        ];
        for (a, b) in different {
            assert!(!same_remote(a, b), "{a} {b}");
        }
    }

    #[test]
    fn shows_no_password() {
        let cases = [
            ("fatal: 'https://u:p@h/x' gone", "fatal: 'https://***@h/x' gone"),
            ("https://token@h/x", "https://***@h/x"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:x", "git@h:x"),
            ("https://h/a@b", "https://h/a@b"),
        ];
        for (text, shown) in cases {
            assert_eq!(redact(text), shown);
        }
    }
}
