//! What holds for every policy and question.

use jiff::civil::{Date, date};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use schema::policy::{
    HeaderEdits, HeaderMatch, HeaderValue, Host, Place, Policy, PortRange, Protocol, RequestPath, Rule,
};

use super::Compiled;
use super::naive::Naive;
use crate::route::Route;
use crate::verdict::{ConnectVerdict, Headers, Question, Request, RequestVerdict, Speech, Transport};

/// Few names that are near each other, so that rules and questions meet.
pub(crate) const HOSTS: &[&str] = &[
    "org",
    "example.org",
    "a.example.org",
    "b.a.example.org",
    "xexample.org",
    "192.0.2.7",
    "10.1.2.3",
    "::1",
    "2001:db8::1",
];
const PATTERNS: &[&str] = &[
    "example.org",
    "*.example.org",
    "**.example.org",
    "a.example.org",
    "*.org",
    "**.org",
    "**",
    "192.0.2.0/24",
    "10.0.0.0/8",
    "10.1.2.3",
    "::/0",
    "2001:db8::/32",
    "0.0.0.0/0",
    "*.a.example.org",
];
const PORTS: &[u16] = &[1, 22, 53, 80, 443, 8443, 65535];
const PATHS: &[&str] =
    &["/", "/admin", "/admin/x", "/admin%2Fx", "/a%2F%2561dmin", "/%61dmin;x/y", "/repos/a/b", "/x%252Fy"];
const PATH_PATTERNS: &[&str] = &["/**", "/admin/**", "/admin", "/repos/*/b", "/*", "/a%2F*", "/x%252Fy"];
pub(crate) const TODAY: Date = date(2026, 6, 15);

fn parsed<T>(texts: &'static [&'static str]) -> impl Strategy<Value = T> + Clone
where
    T: std::str::FromStr + std::fmt::Debug + Clone + 'static,
    T::Err: std::fmt::Debug,
{
    select(texts).prop_map(|text| text.parse().expect("a good text"))
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    prop_oneof![
        Just(PortRange::WEB.to_vec()),
        Just(PortRange::ALL.to_vec()),
        select(PORTS).prop_map(|port| vec![PortRange::one(port)]),
        Just(vec![PortRange { first: 1, last: 442 }, PortRange { first: 444, last: 65535 }]),
        Just(vec![PortRange { first: 400, last: 9000 }]),
    ]
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let secret = || HeaderValue::Secret(schema::Name::new("token").expect("a name"));
    prop_oneof![
        6 => Just(HeaderEdits::default()),
        1 => Just(HeaderEdits { remove: vec![String::from("cookie")], ..HeaderEdits::default() }),
        1 => Just(HeaderEdits { set: vec![(String::from("x-api-key"), secret())], ..HeaderEdits::default() }),
    ]
}

prop_compose! {
    fn headers()(value in option::of(select(vec!["*", "a*", "b"])), some in prop::bool::weighted(0.2)) -> Vec<HeaderMatch> {
        let header = HeaderMatch { name: String::from("x-a"), value: value.map(str::to_owned) };
        if some { vec![header] } else { Vec::new() }
    }
}

prop_compose! {
    fn rule()(
        host in parsed(PATTERNS),
        ports in ports(),
        protocol in select(vec![Protocol::Auto, Protocol::Auto, Protocol::Http, Protocol::Tls, Protocol::Tcp, Protocol::Udp]),
        methods in prop_oneof![3 => Just(vec![]), 1 => vec(select(vec!["GET", "POST"]).prop_map(str::to_owned), 1..3)],
        paths in prop_oneof![2 => Just(vec![]), 1 => vec(parsed(PATH_PATTERNS), 1..3)],
        headers in headers(),
        flags in (any::<bool>(), any::<bool>()),
        request in edits(),
        expires in option::weighted(0.2, select(vec![date(2026, 6, 14), date(2026, 6, 15), date(2026, 7, 1)])),
    ) -> Rule {
        Rule {
            host, ports, protocol, methods, paths, headers, request, expires,
            encoded_separators: flags.0,
            upgrade: flags.1,
            timeout: None,
            response: HeaderEdits::default(),
            reason: None,
            place: Place::default(),
        }
    }
}

prop_compose! {
    pub(crate) fn policy()(allow in vec(rule(), 0..6), deny in vec(rule(), 0..4)) -> Policy {
        let number = |list: &str, mut rules: Vec<Rule>| {
            for (index, rule) in rules.iter_mut().enumerate() {
                rule.place.at = format!("{list}.{index}");
            }
            rules
        };
        Policy { allow: number("allow", allow), deny: number("deny", deny), ..Policy::default() }
    }
}

/// What is asked, kept alive.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    method: &'static str,
    path: RequestPath,
    headers: Pairs,
    upgrade: bool,
    pub(crate) tls: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Pairs(pub(crate) Vec<(&'static str, &'static str)>);

impl Headers for Pairs {
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(has, value)| *has == name && matches(value.as_bytes()))
    }
}

prop_compose! {
    pub(crate) fn asked()(
        host in parsed(HOSTS),
        port in select(PORTS),
        udp in prop::bool::weighted(0.2),
        method in select(vec!["GET", "POST", "post", "TRACE"]),
        path in select(PATHS).prop_map(|path| RequestPath::parse(path).expect("a good path")),
        headers in vec(select(vec![("x-a", "a1"), ("x-a", "b"), ("x-b", "a")]), 0..2),
        upgrade in prop::bool::weighted(0.2),
        tls in any::<bool>(),
    ) -> Asked {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        Asked { host, port, transport, method, path, headers: Pairs(headers), upgrade, tls }
    }
}

impl Asked {
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    pub(crate) fn path(&self) -> &RequestPath {
        &self.path
    }

    pub(crate) fn headers(&self) -> &Pairs {
        &self.headers
    }

    pub(crate) fn upgrade(&self) -> bool {
        self.upgrade
    }

    pub(crate) fn question(&self) -> Question<'_> {
        Question { host: &self.host, port: self.port, transport: self.transport }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        let Self { method, path, headers, upgrade, tls, .. } = self;
        Request { method, path, headers, upgrade: *upgrade, tls: *tls }
    }
}

/// Which rule, not only what it says: equal rules are told apart by their places.
fn placed(rule: &Rule) -> String {
    rule.place.at.clone()
}

fn connect_text(verdict: &ConnectVerdict) -> String {
    match verdict {
        ConnectVerdict::Allow { inspect, rule } => format!("{inspect:?} by {}", placed(rule)),
        ConnectVerdict::Deny(denial) => format!("{} {:?}", denial.because(), denial.rule().map(|rule| placed(rule))),
    }
}

fn request_text(verdict: &RequestVerdict) -> String {
    match verdict {
        RequestVerdict::Allow(rule) => format!("by {}", placed(rule)),
        RequestVerdict::Deny(denial) => format!("{} {:?}", denial.because(), denial.rule().map(|rule| placed(rule))),
    }
}

/// What gets through, to the end.
pub(crate) fn passes(compiled: &Compiled, asked: &Asked) -> bool {
    let ConnectVerdict::Allow { inspect, .. } = compiled.connect(asked.question(), TODAY) else { return false };
    let speech = if asked.tls { Speech::Tls } else { Speech::Http };
    match Route::of(inspect, asked.port, Some(speech)) {
        Route::Pass => true,
        Route::Requests | Route::Intercept => {
            matches!(compiled.request(asked.question(), &asked.request(), TODAY), RequestVerdict::Allow(_))
        }
        Route::Refuse => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_fast_evaluator_says_what_the_plain_one_says(policy in policy(), asked in asked()) {
        let (fast, plain) = (Compiled::new(&policy), Naive::new(&policy));
        let (ours, theirs) = (fast.connect(asked.question(), TODAY), plain.connect(asked.question(), TODAY));
        prop_assert_eq!(connect_text(&ours), connect_text(&theirs));
        let (ours, theirs) = (
            fast.request(asked.question(), &asked.request(), TODAY),
            plain.request(asked.question(), &asked.request(), TODAY),
        );
        prop_assert_eq!(request_text(&ours), request_text(&theirs));
        if let Host::Name(name) = &asked.host {
            prop_assert_eq!(fast.resolves(name, TODAY), plain.resolves(name, TODAY));
        }
    }

    #[test]
    fn another_deny_rule_allows_nothing(mut policy in policy(), more in rule(), asked in asked()) {
        let before = passes(&Compiled::new(&policy), &asked);
        policy.deny.push(more);
        let after = passes(&Compiled::new(&policy), &asked);
        prop_assert!(before || !after);
    }

    #[test]
    fn without_an_allow_rule_nothing_passes(mut policy in policy(), asked in asked()) {
        policy.allow.clear();
        prop_assert!(!passes(&Compiled::new(&policy), &asked));
    }

    #[test]
    fn the_order_of_rules_changes_nothing_that_passes(mut policy in policy(), asked in asked()) {
        let before = passes(&Compiled::new(&policy), &asked);
        policy.allow.reverse();
        policy.deny.reverse();
        prop_assert_eq!(before, passes(&Compiled::new(&policy), &asked));
    }

    /// Unless it makes requests be looked at, where only HTTP passes.
    #[test]
    fn another_allow_rule_denies_no_request(mut policy in policy(), more in rule(), asked in asked()) {
        let before = passes(&Compiled::new(&policy), &asked);
        let opaque = more.needs_requests();
        policy.allow.push(more);
        prop_assert!(!before || opaque || passes(&Compiled::new(&policy), &asked));
    }

    /// A name that cannot be reached is not known; one that can, is.
    #[test]
    fn what_resolves_is_what_some_port_of_can_be_reached(policy in policy(), name in parsed::<schema::policy::DnsName>(&HOSTS[..5])) {
        let compiled = Compiled::new(&policy);
        let host = Host::Name(name.clone());
        // Beside every end of a range that rules here have.
        let ends = [
            1, 2, 21, 22, 23, 52, 53, 54, 79, 80, 81, 399, 400, 442, 443, 444, 8442, 8443, 8444, 9000, 9001, 65534, 65535,
        ];
        let reached = ends.into_iter().any(|port| {
            [Transport::Tcp, Transport::Udp].into_iter().any(|transport| {
                matches!(compiled.connect(Question { host: &host, port, transport }, TODAY), ConnectVerdict::Allow { .. })
            })
        });
        prop_assert_eq!(compiled.resolves(&name, TODAY), reached);
    }
}

/// Which of several values a server takes is not known.
#[test]
fn every_value_has_to_be_allowed_and_one_is_enough_to_deny() {
    let rule = r#"{"host":"a.example","ports":[{"first":80,"last":80}],"protocol":"http","place":{"at":"f:1"},
        "headers":[{"name":"x-team","value":"acme-*"}]}"#;
    let any = r#"{"host":"a.example","ports":[{"first":80,"last":80}],"protocol":"http","place":{"at":"f:2"}}"#;
    let policy = |text: String| serde_json::from_str::<Policy>(&text).expect("a policy");
    let allowing = Compiled::new(&policy(format!(r#"{{"allow":[{rule}]}}"#)));
    let denying = Compiled::new(&policy(format!(r#"{{"allow":[{any}],"deny":[{rule}]}}"#)));
    let passes_with = |compiled: &Compiled, values: &[&'static str]| {
        let headers = Pairs(values.iter().map(|value| ("x-team", *value)).collect());
        let host = Host::Name("a.example".parse().expect("a name"));
        let path = RequestPath::parse("/").expect("a path");
        let request = Request { method: "GET", path: &path, headers: &headers, upgrade: false, tls: false };
        let question = Question { host: &host, port: 80, transport: Transport::Tcp };
        matches!(compiled.request(question, &request, TODAY), RequestVerdict::Allow(_))
    };
    for (values, allowed, denied) in [
        (&["acme-1", "acme-2"][..], true, true),
        (&["acme-1", "other"], false, true),
        (&["other", "acme-1"], false, true),
        (&["other"], false, false),
        (&[], false, false),
    ] {
        assert_eq!(passes_with(&allowing, values), allowed, "{values:?}");
        assert_eq!(!passes_with(&denying, values), denied, "{values:?}");
    }
}
