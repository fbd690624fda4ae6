//! Rules, and parts of rules, that nothing can match.

use schema::policy::{PathPattern, Rule};

use super::{Finding, Kind};

pub(super) fn find(rule: &Rule, findings: &mut Vec<Finding>) {
    let mut say = |message: String, help: &str| findings.push(Finding::new(Kind::NeverMatches, rule, message, help));
    let encoded = |path: &&PathPattern| path.as_str().contains("%2F") || path.as_str().contains("%5C");
    if let Some(path) = rule.paths.iter().find(encoded).filter(|_| !rule.encoded_separators) {
        say(
            format!("`{path}` matches nothing: paths with an encoded separator are refused"),
            "add `encodedSeparators: true`, and know that servers disagree about such paths",
        );
    }
    let writes_secret = rule.secrets().next().is_some();
    let refused =
        |tls| rule.ports.iter().all(|range| (range.first..=range.last).all(|port| !rule.allows_request(port, tls)));
    if writes_secret && refused(true) {
        say(
            String::from(
                "nothing comes of this rule: it writes a secret, which goes inside TLS only, and its ports are for plain HTTP",
            ),
            "use port 443, or write `protocol: http` where the way to the server is trusted",
        );
    }
    if rule.upgrade
        && !rule.methods.is_empty()
        && !rule.methods.iter().any(|method| method == "GET" || method == "CONNECT")
    {
        say(
            String::from("`upgrade` has no effect: only GET requests are upgraded"),
            "add GET to `methods`, or remove `upgrade`",
        );
    }
}
