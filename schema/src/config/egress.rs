//! What leaves a sandbox, and what the file itself demands of that.

use serde::{Deserialize, Serialize};

use super::Location;
use crate::Name;
use crate::policy::{HostPattern, Policy, Target};

/// What leaves a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// How much of the network is reachable.
    pub mode: EgressMode,
    /// What is allowed; decides with [`EgressMode::Allowlist`] and [`EgressMode::Direct`], empty with the others.
    pub policy: Policy,
    /// How traffic comes to the proxy.
    pub transport: Transport,
}

/// How much of the network a sandbox reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressMode {
    /// What the policy allows, through the proxy: the sandbox has no path of its own. An empty policy allows nothing.
    #[default]
    Allowlist,
    /// Nothing, whatever else is written.
    None,
    /// Everything: the engine's own network, unfiltered.
    Open,
    /// What the policy allows by name and port, over the engine's network and a packet filter. Weaker: addresses are
    /// shared, and nothing looks at what is said.
    Direct,
}

/// How traffic of a sandbox comes to the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By itself: connections are taken over inside the namespace, programs notice nothing.
    #[default]
    Transparent,
    /// Through a unix socket in the sandbox, for images that bring their own client.
    Socket,
}

/// An entry of `tests`: what a policy has to say of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyTest {
    /// Whose policy, by final name: one sandbox, or all replicas of one. Never empty.
    pub sandboxes: Vec<Name>,
    /// The answer that is right.
    pub expect: Expectation,
    /// The target as it is written, with its method.
    pub written: String,
    /// Method in upper case, `GET` where none is written; `None` for targets that have no methods.
    pub method: Option<String>,
    /// The target.
    pub target: Target,
    /// Where it is written.
    #[serde(skip)]
    pub at: Location,
}

/// What a policy should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// It lets the target be reached.
    Allow,
    /// It does not.
    Deny,
}

/// An entry of `assert`: what no sandbox may reach, however the file grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assertion {
    /// The sandboxes it holds for.
    pub sandboxes: NameGlob,
    /// What must not be reached, all of it together by one sandbox. Never empty.
    pub reaches: Vec<Reach>,
    /// Sandboxes it does not hold for.
    pub unless: Exception,
    /// Where it is written.
    #[serde(skip)]
    pub at: Location,
}

/// Something that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// A key of [`crate::Config::networks`].
    Network(Name),
    /// Any host of a pattern, on any port.
    Host(HostPattern),
}

/// Sandboxes an assertion leaves alone: those for which everything that is given holds. Nothing given is none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// Their mode of egress.
    pub egress: Option<EgressMode>,
    /// Their names.
    pub sandboxes: Option<NameGlob>,
}

/// A pattern of names: `*` stands for any text, everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct NameGlob(String);

impl NameGlob {
    /// `None` for a text with other characters than those of names and `*`, or without any.
    pub fn new(text: &str) -> Option<Self> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*');
        (!text.is_empty() && text.chars().all(good)).then(|| Self(text.to_owned()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &Name) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.as_str().strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Taking each part where it first occurs leaves the most for those that follow.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Exception {
    /// Whether a sandbox of this name and mode is left alone.
    pub fn covers(&self, name: &Name, mode: EgressMode) -> bool {
        let Self { egress, sandboxes } = self;
        (egress.is_some() || sandboxes.is_some())
            && egress.is_none_or(|wanted| wanted == mode)
            && sandboxes.as_ref().is_none_or(|glob| glob.matches(name))
    }
}

impl EgressMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowlist => "allowlist",
            Self::None => "none",
            Self::Open => "open",
            Self::Direct => "direct",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let cases = [
            ("*", "api", true),
            ("api", "api", true),
            ("api", "api-1", false),
            ("api-*", "api-1", true),
            ("api-*", "api", false),
            ("*-api", "web-api", true),
            ("*-api", "web-api-1", false),
            ("a*a*a", "abaca", true),
            ("a*a*a", "aba", false),
            ("a**c", "abc", true),
            ("*bc*bc", "abcd", false),
        ];
        for (pattern, name, expected) in cases {
            let glob = NameGlob::new(pattern).expect(pattern);
            assert_eq!(glob.matches(&Name::new(name).expect(name)), expected, "{pattern} {name}");
        }
        for bad in ["", "Api", "a_b", "a?", "[a]"] {
            assert_eq!(NameGlob::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn exceptions_need_everything_they_give() {
        let name = Name::new("api").expect("a name");
        let glob = NameGlob::new("web*");
        let none = Exception { egress: Some(EgressMode::None), sandboxes: None };
        assert!(none.covers(&name, EgressMode::None) && !none.covers(&name, EgressMode::Open));
        assert!(!Exception { sandboxes: glob, ..none }.covers(&name, EgressMode::None));
        assert!(!Exception::default().covers(&name, EgressMode::None));
    }
}
