//! What the language can say of egress but nothing enforces, here or at all.
//!
//! The one place that knows: a sandbox is never started more open, nor more closed, than it is written.

use std::collections::BTreeSet;

use schema::config::{Egress, Image, Sandbox};
use schema::policy::{PortRange, Rule, Upstream};

use crate::desired::DesireContext;
use crate::kinds::image;
use crate::plan::Notice;

/// An error for every policy that would have to be served.
pub fn notices(context: &DesireContext<'_>) -> Vec<Notice> {
    let images: BTreeSet<_> = image::used(context).into_iter().map(|used| used.name).collect();
    let images = images.into_iter().filter_map(|name| match context.config.images.get(name)? {
        Image::Setup { egress, .. } => Some((format!("images.{name}.setup.egress"), unserved(egress))),
        _ => None,
    });
    let problem = |(place, why): (String, Option<&str>)| {
        let message = format!("{} of egress is not available yet", why?);
        Some(context.error(
            "egress-unavailable",
            &place,
            message,
            "leave methods, paths and headers out, or write `mode: open` for everything",
        ))
    };
    images.filter_map(problem).chain(unreachable(context)).collect()
}

/// Network namespaces are entered by root only.
fn unreachable(context: &DesireContext<'_>) -> Vec<Notice> {
    if !context.snapshot.engine.rootless {
        return Vec::new();
    }
    let elsewhere = |sandbox: &&Sandbox| matches!(sandbox.egress.policy.upstream, Upstream::Netns(_));
    let notice = |sandbox: &Sandbox| {
        context.error(
            "egress-unavailable",
            &format!("sandboxes.{}.egress.upstream.netns", sandbox.name),
            "a rootless engine's proxy cannot dial from another network namespace",
            "use a rootful engine, or `proxy` or `socks5` of something that listens there",
        )
    };
    context.config.sandboxes.values().filter(elsewhere).map(notice).collect()
}

/// A set-up trusts no certificate of ours, and nobody keeps secrets for it.
fn unserved(egress: &Egress) -> Option<&'static str> {
    let inside_tls = |rule: &Rule| rule.needs_requests() && rule.ports.iter().any(|ports| *ports != PortRange::one(80));
    if !egress.policy.secrets().is_empty() {
        return Some("a secret in `setup`");
    }
    egress.policy.allow.iter().any(inside_tls).then_some("a rule about requests inside TLS in `setup`")
}

#[cfg(test)]
mod tests {
    use schema::Config;

    use crate::backend::Observe as _;
    use crate::host_facts::HostFacts;
    use crate::planner;
    use crate::testing::{MemoryBackend, config, desired};

    async fn blamed(config: &Config) -> Vec<String> {
        let state = desired(config, &HostFacts::default()).await;
        let notices = state.notices.into_iter().filter(|notice| notice.code == "sbx::egress-unavailable");
        notices.map(|notice| format!("{} {}", notice.origin.unwrap_or_default(), notice.message)).collect()
    }

    #[tokio::test]
    async fn only_root_enters_network_namespaces() {
        let config = config(
            "images:\n  debian: { ref: docker.io/library/debian:bookworm }\nsandboxes:\n  \
             vpn: { image: debian, egress: { allow: [{ host: a.example }], upstream: { netns: /run/netns/vpn } } }\n  \
             chained: { image: debian, egress: { allow: [{ host: a.example }], upstream: { socks5: \"127.0.0.1:1080\" } } }\n",
        );
        assert_eq!(blamed(&config).await, Vec::<String>::new(), "the engine is rootful");
        let mut snapshot = MemoryBackend::default().snapshot(&planner::query(&config, &HostFacts::default())).await;
        snapshot.as_mut().expect("in memory").engine.rootless = true;
        let state = planner::desire(&config, &HostFacts::default(), &snapshot.expect("in memory"));
        assert_eq!(state.notices.len(), 1, "{:#?}", state.notices);
        let notice = &state.notices[0];
        assert_eq!((notice.code.as_str(), notice.severity.as_str()), ("sbx::egress-unavailable", "error"));
        assert!(notice.origin.as_ref().is_some_and(|at| at.starts_with("sandboxes.yaml:6:")), "{notice:?}");
    }

    #[tokio::test]
    async fn nothing_runs_under_a_policy_that_nobody_serves() {
        let config = config(
            "images:\n  debian: { ref: docker.io/library/debian:bookworm }\n  \
             base: { from: debian, setup: { run: [a], egress: { allow: [{ host: a.example, paths: [/v1] }] } } }\n  \
             fine: { from: debian, setup: { run: [a], egress: { deny: [{ host: a.example }] } } }\n  \
             plain: { from: debian, setup: { run: [b], egress: { allow: [{ host: a.example }] } } }\n  \
             idle: { from: debian, setup: { run: [b], egress: { allow: [{ host: a.example, paths: [/v1] }] } } }\n\
             sandboxes:\n  \
             direct: { image: fine, egress: { mode: direct } }\n  \
             rules: { image: base, egress: { allow: [{ host: a.example }] } }\n  \
             empty: { image: base, egress: { allow: [], deny: [{ host: a.example }] } }\n  \
             none: { image: base, egress: { mode: none } }\n  \
             open: { image: base, egress: { mode: open } }\n  \
             plain: { image: plain }\n  \
             socket: { image: base, egress: { transport: socket } }\n",
        );
        assert_eq!(
            blamed(&config).await,
            ["sandboxes.yaml:5:44 a rule about requests inside TLS in `setup` of egress is not available yet",]
        );
    }
}
