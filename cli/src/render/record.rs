//! A record of what was decided, on one line.

use egress::audit::Record;

use super::text::safe;

/// For people: time, sandbox, what became of it, what it was, why.
pub fn line(record: &Record) -> String {
    let Record {
        time,
        project: _,
        sandbox,
        generation: _,
        protocol,
        host,
        port,
        method,
        path,
        allowed,
        because,
        rule,
        sent,
        received,
        duration_ms,
    } = record;
    let time = jiff::Timestamp::from_second(time.as_second()).unwrap_or(*time);
    let verdict = if *allowed { "allowed" } else { "DENIED " };
    let mut text = format!("{time} {} {verdict} {} ", safe(sandbox), protocol.word());
    if let Some(method) = method {
        text.push_str(&format!("{} ", safe(method)));
    }
    text.push_str(&safe(host));
    if *protocol != egress::audit::Spoken::Dns {
        text.push_str(&format!(":{port}"));
    }
    if let Some(path) = path {
        text.push_str(&safe(path));
    }
    if let Some(because) = because {
        text.push_str(&format!(" {}", safe(because)));
    }
    if let Some(rule) = rule {
        text.push_str(&format!(" by {}", safe(rule)));
    }
    if sent + received > 0 {
        text.push_str(&format!(" sent {sent} B, received {received} B"));
    }
    if *duration_ms > 0 {
        text.push_str(&format!(" in {duration_ms} ms"));
    }
    text
}

#[cfg(test)]
mod tests {
    use egress::audit::Spoken;

    use super::*;

    #[test]
    fn one_line_whatever_is_in_it() {
        let record = Record {
            time: jiff::Timestamp::from_second(1_764_100_000).expect("a time"),
            project: "acme".into(),
            sandbox: "api".into(),
            generation: 3,
            protocol: Spoken::Https,
            host: "example.org\n\u{1b}[2J".into(),
            port: 443,
            method: Some("GET".into()),
            path: Some("/v1/items".into()),
            allowed: false,
            because: Some("method".into()),
            rule: Some("example.org (sandboxes.yaml:9:5)".into()),
            sent: 120,
            received: 0,
            duration_ms: 4,
        };
        let text = line(&record);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.starts_with("2025-11-25T19:46:40Z api DENIED  https GET example.org"), "{text}");
        assert!(
            text.ends_with(":443/v1/items method by example.org (sandboxes.yaml:9:5) sent 120 B, received 0 B in 4 ms"),
            "{text}"
        );
        let dns = line(&Record {
            protocol: Spoken::Dns,
            host: "example.net".into(),
            allowed: true,
            because: None,
            rule: None,
            method: None,
            path: None,
            sent: 0,
            duration_ms: 0,
            ..record
        });
        assert_eq!(dns, "2025-11-25T19:46:40Z api allowed dns example.net");
    }
}
