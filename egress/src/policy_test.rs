//! Policy tests: what the file says its own policies have to answer.

use jiff::civil::Date;
use schema::config::{Expectation, Location, PolicyTest};
use schema::{Config, Name};
use serde::{Serialize, Serializer};

use crate::explain::{Explanation, explain};

/// One test, for one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The sandbox.
    pub sandbox: Name,
    /// The answer that is right.
    pub expect: Expectation,
    /// The target as it is written, with its method.
    pub target: String,
    /// Where the test is written.
    #[serde(serialize_with = "as_text")]
    pub at: Location,
    /// Whether the answer is the right one.
    pub passed: bool,
    /// The answer.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// Runs every test, in the order in which they are written.
pub fn run(config: &Config, today: Date) -> Vec<Tested> {
    let mut tested = Vec::new();
    for PolicyTest { sandboxes, expect, written, method, target, at } in &config.tests {
        for sandbox in sandboxes {
            // The same on every machine: whose addresses they are is not asked.
            let explained = explain(config, sandbox.as_str(), target, method.as_deref(), &(), &[], today);
            let Some(explanation) = explained else {
                continue;
            };
            tested.push(Tested {
                sandbox: sandbox.clone(),
                expect: *expect,
                target: written.clone(),
                at: at.clone(),
                passed: explanation.allowed == (*expect == Expectation::Allow),
                explanation,
            });
        }
    }
    tested
}

fn as_text<S: Serializer>(at: &Location, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
