//! Rules as people write them, on one line: for messages, records and suggestions that can be pasted.

use std::borrow::Cow;
use std::fmt::Write as _;

use schema::policy::{HeaderEdits, HeaderValue, PortRange, Protocol, Rule};

/// An allow rule: `{ host: api.example.org, methods: [GET] }`. What is the default is left out.
pub fn allow(rule: &Rule) -> String {
    written(rule, &PortRange::WEB)
}

/// A deny rule. What is the default is left out.
pub fn deny(rule: &Rule) -> String {
    written(rule, &PortRange::ALL)
}

fn written(rule: &Rule, usual_ports: &[PortRange]) -> String {
    // What a rule does not do and where it is written is nobody's text; everything else is here.
    let Rule {
        host,
        ports,
        protocol,
        methods,
        paths,
        headers,
        encoded_separators,
        upgrade,
        timeout,
        request,
        response,
        reason,
        expires,
        place: _,
    } = rule;
    let mut parts = vec![format!("host: {}", scalar(&host.to_string()))];
    if ports != usual_ports {
        parts.push(format!(
            "ports: [{}]",
            list(ports, |range| {
                if range.first == range.last { range.to_string() } else { quoted(&range.to_string()) }
            })
        ));
    }
    let protocol = match protocol {
        Protocol::Auto => None,
        Protocol::Http => Some("http"),
        Protocol::Tls => Some("tls"),
        Protocol::Tcp => Some("tcp"),
        Protocol::Udp => Some("udp"),
    };
    parts.extend(protocol.map(|protocol| format!("protocol: {protocol}")));
    if !methods.is_empty() {
        parts.push(format!("methods: [{}]", list(methods, |method| scalar(method).into_owned())));
    }
    if !paths.is_empty() {
        parts.push(format!("paths: [{}]", list(paths, |path| quoted(path.as_str()))));
    }
    if !headers.is_empty() {
        let header = |header: &schema::policy::HeaderMatch| {
            format!("{}: {}", scalar(&header.name), quoted(header.value.as_deref().unwrap_or("*")))
        };
        parts.push(format!("headers: {{ {} }}", list(headers, header)));
    }
    parts.extend(encoded_separators.then(|| String::from("encodedSeparators: true")));
    parts.extend(upgrade.then(|| String::from("upgrade: true")));
    parts.extend(timeout.map(|timeout| format!("timeout: {}s", timeout.as_secs())));
    parts.extend(edits("request", request));
    parts.extend(edits("response", response));
    parts.extend(reason.as_ref().map(|reason| format!("reason: {}", quoted(reason))));
    parts.extend(expires.map(|day| format!("expires: {day}")));
    format!("{{ {} }}", parts.join(", "))
}

fn edits(name: &str, edits: &HeaderEdits) -> Option<String> {
    let HeaderEdits { remove, set, add } = edits;
    let values = |values: &[(String, HeaderValue)]| {
        list(values, |(name, value)| match value {
            HeaderValue::Text(text) => format!("{}: {}", scalar(name), quoted(text)),
            HeaderValue::Secret(secret) => format!("{}: {{ secret: {secret} }}", scalar(name)),
        })
    };
    let mut parts = Vec::new();
    if !remove.is_empty() {
        parts.push(format!("remove: [{}]", list(remove, |name| scalar(name).into_owned())));
    }
    if !set.is_empty() {
        parts.push(format!("set: {{ {} }}", values(set)));
    }
    if !add.is_empty() {
        parts.push(format!("add: {{ {} }}", values(add)));
    }
    (!parts.is_empty()).then(|| format!("{name}: {{ {} }}", parts.join(", ")))
}

fn list<T>(items: &[T], one: impl FnMut(&T) -> String) -> String {
    items.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Plain where every reader of YAML takes it for this text, else in quotes.
fn scalar(text: &str) -> Cow<'_, str> {
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if plain { Cow::Borrowed(text) } else { Cow::Owned(quoted(text)) }
}

/// Any text, as YAML reads it back.
pub fn quoted(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => made.extend(['\\', c]),
            // A String takes everything. What moves a cursor or turns direction is no text for a terminal.
            c if c.is_control() || !c.is_ascii() && !c.is_alphanumeric() => {
                let _ = write!(made, "\\U{:08x}", u32::from(c));
            }
            c => made.push(c),
        }
    }
    made.push('"');
    made
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schema::policy::HeaderMatch;

    use super::*;

    fn rule(host: &str) -> Rule {
        Rule::of(host.parse().expect(host))
    }

    #[test]
    fn what_is_the_default_is_left_out() {
        assert_eq!(allow(&rule("example.org")), "{ host: example.org }");
        assert_eq!(deny(&rule("example.org")), "{ host: example.org, ports: [80, 443] }");
        let denied = Rule { ports: PortRange::ALL.to_vec(), ..rule("**") };
        assert_eq!(deny(&denied), "{ host: \"**\" }");
        assert_eq!(allow(&denied), "{ host: \"**\", ports: [\"1-65535\"] }");
    }

    #[test]
    fn what_yaml_could_take_for_something_else_is_quoted() {
        for (host, written) in
            [("no", "\"no\""), ("10.0.0.0/8", "\"10.0.0.0/8\""), ("::1", "\"::1\""), ("3com.com", "\"3com.com\"")]
        {
            assert_eq!(allow(&rule(host)), format!("{{ host: {written} }}"));
        }
    }

    #[test]
    fn everything_a_rule_says_is_written() {
        let edits = |value: &str| HeaderEdits {
            remove: vec![String::from("cookie")],
            set: vec![(
                String::from("x-api-key"),
                HeaderValue::Secret(schema::Name::new("model-key").expect("a name")),
            )],
            add: vec![(String::from("via"), HeaderValue::Text(value.to_owned()))],
        };
        let rule = Rule {
            ports: vec![PortRange::one(443), PortRange { first: 8000, last: 8100 }],
            protocol: Protocol::Http,
            methods: vec![String::from("GET"), String::from("NO")],
            paths: vec!["/v1/**".parse().expect("a pattern")],
            headers: vec![
                HeaderMatch { name: String::from("accept"), value: Some(String::from("*json")) },
                HeaderMatch { name: String::from("x-here"), value: None },
            ],
            encoded_separators: true,
            upgrade: true,
            timeout: Some(Duration::from_secs(90)),
            request: edits("sbx"),
            response: edits("a \"b\" \\ \u{1b}[2J\u{202e}"),
            reason: Some(String::from("coding agent")),
            expires: Some(jiff::civil::date(2027, 6, 30)),
            ..rule("*.example.org")
        };
        insta::assert_snapshot!(allow(&rule));
    }
}
