//! What the language can say of egress but nothing enforces yet.
//!
//! The one place that knows: a sandbox is never started more open, nor more closed, than it is written. Goes as soon as
//! a policy is served.

use std::collections::BTreeSet;

use schema::config::{Egress, EgressMode, Image};

use crate::desired::DesireContext;
use crate::kinds::image;
use crate::plan::Notice;

/// An error for every policy that would have to be served.
pub fn notices(context: &DesireContext<'_>) -> Vec<Notice> {
    let sandboxes = context.config.sandboxes.iter().map(|(name, sandbox)| {
        let why = match sandbox.egress.mode {
            EgressMode::Direct => Some("mode `direct`"),
            EgressMode::Allowlist => rules(&sandbox.egress),
            EgressMode::None | EgressMode::Open => None,
        };
        (format!("sandboxes.{name}.egress"), why)
    });
    let images: BTreeSet<_> = image::used(context).into_iter().map(|used| used.name).collect();
    let images = images.into_iter().filter_map(|name| match context.config.images.get(name)? {
        Image::Setup { egress, .. } => Some((format!("images.{name}.setup.egress"), rules(egress))),
        _ => None,
    });
    let problem = |(place, why): (String, Option<&str>)| {
        let message = format!("{} of egress is not available yet", why?);
        Some(context.error("egress-unavailable", &place, message, "write `mode: none`, or `mode: open` for everything"))
    };
    sandboxes.chain(images).filter_map(problem).collect()
}

fn rules(egress: &Egress) -> Option<&'static str> {
    (!egress.policy.is_empty()).then_some("`allow`")
}

#[cfg(test)]
mod tests {
    use schema::policy::{HostPattern, Rule};
    use schema::{Caller, Config, Source};

    use super::*;
    use crate::backend::Observe as _;
    use crate::host_facts::HostFacts;
    use crate::planner::{desire, query};
    use crate::testing::MemoryBackend;

    fn config() -> Config {
        let text = "apiVersion: sbx/v1\nproject: acme\n\
                    images:\n  debian: { ref: docker.io/library/debian:bookworm }\n  base: { from: debian, setup: { run: [a], egress: {} } }\n\
                    sandboxes:\n  one: { image: base }\n  two: { image: base, egress: { mode: direct } }\n  six: { image: base, egress: { mode: none } }\n";
        let source = Source { name: "sandboxes.yaml".into(), directory: "/".into(), text: text.into() };
        let caller = Caller {
            env: std::collections::BTreeMap::new(),
            home: "/home/alice".into(),
            user: "alice".into(),
            uid: 1000,
            gid: 1000,
            data_dir: "/data".into(),
            engine_sockets: Vec::new(),
        };
        schema::load(&[source], &caller).config.expect("no errors")
    }

    async fn blamed(config: &Config) -> Vec<String> {
        let host = HostFacts::default();
        let snapshot = MemoryBackend::default().snapshot(&query(config, &host)).await.expect("in memory");
        let state = desire(config, &host, &snapshot);
        let notices = state.notices.into_iter().filter(|notice| notice.code == "sbx::egress-unavailable");
        notices.map(|notice| format!("{} {}", notice.origin.unwrap_or_default(), notice.message)).collect()
    }

    #[tokio::test]
    async fn nothing_runs_under_a_policy_that_nobody_serves() {
        let mut config = config();
        assert_eq!(blamed(&config).await, ["sandboxes.yaml:8:23 mode `direct` of egress is not available yet"]);
        let rule = Rule {
            host: HostPattern::Any,
            ports: Vec::new(),
            protocol: schema::policy::Protocol::Auto,
            methods: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            encoded_separators: false,
            upgrade: false,
            timeout: None,
            request: schema::policy::HeaderEdits::default(),
            response: schema::policy::HeaderEdits::default(),
            reason: None,
            expires: None,
            place: schema::policy::Place::default(),
        };
        for sandbox in config.sandboxes.values_mut() {
            sandbox.egress.policy.allow.push(rule.clone());
        }
        for image in config.images.values_mut() {
            if let Image::Setup { egress, .. } = image {
                egress.policy.allow.push(rule.clone());
            }
        }
        assert_eq!(
            blamed(&config).await,
            [
                "sandboxes.yaml:7:3 `allow` of egress is not available yet",
                "sandboxes.yaml:8:23 mode `direct` of egress is not available yet",
                "sandboxes.yaml:5:44 `allow` of egress is not available yet",
            ]
        );
    }
}
