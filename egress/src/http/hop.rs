//! Headers that are between two neighbours and go no further.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Never sent on, in either direction. `Trailer` is: trailers are.
const BETWEEN: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers that say where a message goes and where it ends, or are this program's own. No rule may change them.
const FIXED: [&str; 5] = ["host", "content-length", "trailer", "expect", LOOP];

/// Marks requests that this program has sent, so that it knows them if they come back.
pub(super) const LOOP: &str = "sbx-hop";

/// Whether rules may change the header, which is in lower case.
pub(super) fn may_change(name: &str) -> bool {
    !BETWEEN.contains(&name) && !FIXED.contains(&name)
}

/// Whether `Connection` names `option`.
pub(super) fn nominates(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|named| named.eq_ignore_ascii_case(option))
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim))
}

/// Takes out what goes no further. `TE: trailers` is written anew: it is how a client says that it reads trailers.
pub(super) fn strip(headers: &mut HeaderMap) {
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    let named: Vec<HeaderName> = options(headers).filter_map(|option| option.parse().ok()).collect();
    for name in named.iter().filter(|name| may_change(name.as_str())) {
        headers.remove(name);
    }
    for name in BETWEEN {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        strip(&mut map);
        let mut left: Vec<_> =
            map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        left.sort();
        left
    }

    #[test]
    fn what_connection_names_goes_but_not_what_frames() {
        let left = stripped(&[
            ("connection", "close, x-a"),
            ("connection", "Content-Length, host, sbx-hop, X-B"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("host", "a"),
            ("content-length", "1"),
            ("sbx-hop", "mark"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("http2-settings", "x"),
            ("trailer", "x-t"),
        ]);
        let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-length", "host", "sbx-hop", "trailer", "x-c"]);
    }

    #[test]
    fn only_trailers_stay_of_te() {
        let te = |value| stripped(&[("te", value)]);
        assert_eq!(te("trailers"), [("te".to_owned(), "trailers".to_owned())]);
        assert_eq!(te("gzip, Trailers"), [("te".to_owned(), "trailers".to_owned())]);
        assert_eq!(te("gzip;q=0.5"), []);
    }
}
