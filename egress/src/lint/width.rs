//! Rules that allow more than anybody can mean.

use schema::policy::{DnsName, HostPattern, Rule};

use super::{Finding, Kind};

/// Top-level names that nobody can register names below on the Internet.
const OWN: &[&str] =
    &["test", "local", "localhost", "internal", "invalid", "example", "lan", "home", "corp", "intranet", "arpa"];

/// Below these, whoever wants has a name, or makes one. Not complete: the ones that agents and attackers use.
const ANYBODY: &[&str] = &[
    // Registries with more than one label.
    "co.uk",
    "org.uk",
    "ac.uk",
    "com.au",
    "net.au",
    "org.au",
    "co.jp",
    "ne.jp",
    "or.jp",
    "com.br",
    "com.cn",
    "com.tr",
    "co.in",
    "co.kr",
    "co.nz",
    "co.za",
    "com.mx",
    "com.sg",
    "com.tw",
    "eu.org",
    "us.com",
    "uk.com",
    // Hosting: pages, functions, buckets.
    "github.io",
    "gitlab.io",
    "pages.dev",
    "workers.dev",
    "r2.dev",
    "vercel.app",
    "netlify.app",
    "herokuapp.com",
    "fly.dev",
    "onrender.com",
    "web.app",
    "firebaseapp.com",
    "appspot.com",
    "run.app",
    "cloudfunctions.net",
    "storage.googleapis.com",
    "amazonaws.com",
    "s3.amazonaws.com",
    "cloudfront.net",
    "on.aws",
    "azurewebsites.net",
    "blob.core.windows.net",
    "core.windows.net",
    "azureedge.net",
    "cloudapp.net",
    "digitaloceanspaces.com",
    "b-cdn.net",
    "fastly.net",
    "edgekey.net",
    "blogspot.com",
    "wordpress.com",
    "glitch.me",
    "repl.co",
    "replit.app",
    "deno.dev",
    "surge.sh",
    "hf.space",
    // Tunnels and names that answer with what they are asked for.
    "ngrok.io",
    "ngrok.app",
    "ngrok-free.app",
    "trycloudflare.com",
    "loca.lt",
    "serveo.net",
    "nip.io",
    "sslip.io",
    "xip.io",
    "duckdns.org",
    "requestbin.net",
    "webhook.site",
    "oast.fun",
    "burpcollaborator.net",
    "interact.sh",
];

/// Ports from which on a rule is about every port.
const MANY_PORTS: u32 = 32_768;

pub(super) fn find(rule: &Rule, findings: &mut Vec<Finding>) {
    let mut say = |message: String, help: &str| findings.push(Finding::new(Kind::TooWide, rule, message, help));
    match &rule.host {
        HostPattern::Any => say(
            String::from("`**` allows every name there is: whatever is read inside can be sent to anybody"),
            "name the hosts that are needed",
        ),
        HostPattern::OneLabel(suffix) | HostPattern::AnyDepth(suffix) if is_registry(suffix) => say(
            format!("`{}` is open to whoever registers a name below `{suffix}`", rule.host),
            "name the domain: `**.example.org`",
        ),
        HostPattern::OneLabel(suffix) | HostPattern::AnyDepth(suffix) if ANYBODY.contains(&suffix.as_str()) => say(
            format!("anybody can have a name below `{suffix}`, and read what is sent there"),
            "name the hosts that are needed",
        ),
        // IPv6 addresses in use all lie in one eighth.
        HostPattern::Network(network) if network.prefix_len() <= if network.addr().is_ipv4() { 1 } else { 3 } => {
            say(format!("`{network}` is the whole Internet"), "name the networks that are needed");
        }
        _ => {}
    }
    let ports: u32 = rule.ports.iter().map(|range| u32::from(range.last) - u32::from(range.first) + 1).sum();
    if ports >= MANY_PORTS {
        say(format!("the rule allows {ports} ports"), "name the ports that are needed: 80 and 443 are the default");
    }
}

fn is_registry(suffix: &DnsName) -> bool {
    suffix.labels().count() == 1 && !OWN.contains(&suffix.as_str())
}
