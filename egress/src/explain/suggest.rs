//! The rule that is missing.

use jiff::civil::Date;
use schema::policy::{Host, HostPattern, PathPattern, PortRange, Protocol, Rule};

use crate::compiled::Compiled;
use crate::http::is_sent_on;
use crate::judge::Wish;
use crate::verdict::{Denial, Request, Speech, Transport};

/// The narrowest rule that would allow `wish`, which was denied; `None` where no allow rule would help, or the method is
/// never sent on. `asked_method` says that the method of the request is one that somebody named.
pub(crate) fn rule(
    compiled: &Compiled,
    wish: &Wish<'_>,
    denial: &Denial,
    asked_method: bool,
    today: Date,
) -> Option<Rule> {
    let Wish { question, speech, request } = *wish;
    let judged = compiled.outlook(question, today).ok()?;
    if request.is_some_and(|request| !is_sent_on(request.method)) {
        return None;
    }
    if judged && request.is_none() && question.transport == Transport::Tcp {
        return None;
    }
    if request.is_some_and(|request| compiled.denied_request(question, &request).is_some()) {
        return None;
    }
    let unknown = matches!(denial, Denial::NoRule | Denial::Port(_) | Denial::Expired(_));
    let asked = |request: &Request<'_>| asked_method || request.path.as_str() != "/" || request.upgrade;
    // Where connections pass unseen, a rule about methods or paths would end those that are not HTTP.
    let narrow = request.filter(|request| judged || unknown && asked(request));
    // Plain HTTP is judged request by request also where nothing else is.
    let seen = narrow.or(request.filter(|_| speech == Speech::Http));
    let host = match question.host {
        Host::Name(name) => HostPattern::Exact(name.clone()),
        Host::Address(address) => HostPattern::Network((*address).into()),
    };
    let protocol = match (question.transport, speech, question.port) {
        (Transport::Udp, ..) => Protocol::Udp,
        (_, Speech::Other, 80 | 443) => Protocol::Tcp,
        (_, Speech::Http, 443) => Protocol::Http,
        (_, Speech::Tls, 80) => Protocol::Tls,
        _ => Protocol::Auto,
    };
    Some(Rule {
        ports: vec![PortRange::one(question.port)],
        protocol,
        methods: narrow.iter().map(|request| request.method.to_owned()).collect(),
        // A star in a path stands for itself.
        paths: narrow.iter().filter_map(|request| literal(request.path.as_str())).collect(),
        encoded_separators: seen.is_some_and(|request| request.path.has_encoded_separators()),
        upgrade: seen.is_some_and(|request| request.upgrade),
        ..Rule::of(host)
    })
}

/// The pattern that matches `path` only.
fn literal(path: &str) -> Option<PathPattern> {
    path.replace('*', "%2A").parse().ok()
}
