//! Words for denials: the same on the command line and in what a refused client is told.

use jiff::civil::Date;
use serde_json::{Value, json};

use super::suggest;
use crate::compiled::Compiled;
use crate::judge::Wish;
use crate::verdict::{Denial, Speech, Transport};
use crate::written;

/// Why `wish` was denied: a fragment of a sentence.
pub(crate) fn why(wish: &Wish<'_>, denial: &Denial, today: Date) -> String {
    let (host, port) = (wish.question.host, wish.question.port);
    let udp = wish.question.transport == Transport::Udp;
    let method = wish.request.map_or("GET", |request| request.method);
    match denial {
        Denial::NoRule => format!("no rule names {host}"),
        Denial::Denied(rule) if !rule.needs_requests() => String::from("a deny rule names it"),
        Denial::Denied(_) if udp => {
            String::from("a deny rule is about requests to it, and nobody sees requests in datagrams")
        }
        Denial::Denied(_) => String::from("a deny rule is about this request"),
        Denial::Expired(rule) => match rule.expires {
            Some(last) if last < today => format!("the rule for {host} held until {last}"),
            _ => format!("the rule for {host} has expired"),
        },
        Denial::Port(rule) if rule.has_port(port) && udp => {
            format!("no rule for {host} allows datagrams to port {port}")
        }
        Denial::Port(rule) if rule.has_port(port) => {
            format!("the rules for {host} allow only datagrams to port {port}")
        }
        Denial::Port(_) => format!("no rule for {host} names port {port}"),
        Denial::Protocol(rule) if wish.request.is_none() && rule.needs_requests() => {
            format!("requests to {host} are looked at, so that only HTTP passes")
        }
        Denial::Protocol(rule) if rule.secrets().next().is_some() && wish.speech == Speech::Http => {
            format!("the rule for {host} writes a secret, which goes inside TLS only")
        }
        Denial::Protocol(_) => {
            let spoken = match wish.speech {
                Speech::Tls => "TLS",
                Speech::Http => "HTTP outside of TLS",
                Speech::Other => "anything but TLS and HTTP",
            };
            format!("no rule for {host} allows {spoken} on port {port}")
        }
        Denial::Method(_) => format!("no rule for {host} allows the method {method}"),
        Denial::UnfitMethod => format!("{method} is not sent on where requests are looked at"),
        Denial::Path(_) => format!("no rule for {host} allows {method} of this path"),
        Denial::Header(_) => format!("the rule for {host} asks for a header that is missing or different"),
        Denial::Upgrade(_) => format!("the rule for {host} does not let connections be upgraded"),
        Denial::EncodedSeparator(_) => {
            format!("the rule for {host} does not take paths with an encoded separator")
        }
    }
}

/// Something that was refused, to be told to whoever asked for it. What is told says nothing of other rules nor of where
/// the configuration is: a sandbox need not know.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Who asked.
    pub sandbox: &'a str,
    /// For what.
    pub wish: Wish<'a>,
    /// The answer.
    pub denial: &'a Denial,
}

/// For people: what was refused, why, and the rule to ask for.
pub fn refusal_text(refused: &Refused<'_>, compiled: &Compiled, today: Date) -> String {
    let Refused { sandbox, wish, denial } = refused;
    let mut text = format!("sbx: sandbox {sandbox} may not reach {}: {}.\n", target(wish), why(wish, denial, today));
    match missing(refused, compiled, today) {
        Some(rule) => {
            text.push_str(&format!("To ask for it: this rule under sandboxes.{sandbox}.egress.allow\n  - {rule}\n"));
        }
        None => text.push_str("No further allow rule would change that.\n"),
    }
    text
}

/// The same for programs.
pub fn refusal_json(refused: &Refused<'_>, compiled: &Compiled, today: Date) -> Value {
    let Refused { sandbox, wish, denial } = refused;
    json!({
        "error": "egress-denied",
        "because": denial.because(),
        "message": why(wish, denial, today),
        "sandbox": sandbox,
        "host": wish.question.host.to_string(),
        "port": wish.question.port,
        "method": wish.request.map(|request| request.method),
        "path": wish.request.map(|request| request.path.as_str()),
        "allow": missing(refused, compiled, today),
    })
}

fn missing(refused: &Refused<'_>, compiled: &Compiled, today: Date) -> Option<String> {
    let rule = suggest::rule(compiled, &refused.wish, refused.denial, true, today)?;
    Some(written::allow(&rule))
}

/// `POST https://api.example.org/v1`, `example.org:22`.
fn target(wish: &Wish<'_>) -> String {
    let (host, port) = (wish.question.host, wish.question.port);
    let host = match host {
        schema::policy::Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        host => host.to_string(),
    };
    let Some(request) = wish.request else { return format!("{host}:{port}") };
    let (scheme, usual) = if request.tls { ("https", 443) } else { ("http", 80) };
    let port = if port == usual { String::new() } else { format!(":{port}") };
    format!("{} {scheme}://{host}{port}{}", request.method, request.path.as_str())
}
