//! Which policies and assertions are what was written, so that they can be judged although something else is wrong.
//!
//! Everything here errs on one side: what may have come out otherwise than it was meant counts as unsound, and whoever
//! judges it would blame the user for a mistake that was reported already.

use super::Resolver;
use crate::document::{Entry, Node, NodeKind};
use crate::structure::{Check, Extent};
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Severity};

/// Fields of a sandbox that say what it reaches, and how many of it there are.
const POLICY: [&str; 3] = ["egress", "networks", "replicas"];
/// The field that says what lies beneath.
const BENEATH: [&str; 1] = ["extends"];

impl Resolver<'_> {
    /// How much has been said so far, for [`Self::failed_since`].
    pub(super) fn said(&self) -> usize {
        self.problems.len()
    }

    /// Whether something was wrong since then.
    pub(super) fn failed_since(&self, said: usize) -> bool {
        is_failure(&self.problems[said..])
    }

    /// Whether the structure of what `node`, the body of a sandbox with everything beneath it, reaches is right.
    pub(super) fn policy_is_right(node: &Node) -> bool {
        part_is_right(node, &POLICY) && extends_is_right(node)
    }
}

/// Whether the structure of what `node`, the body of a sandbox or a layer, extends is right.
pub(super) fn extends_is_right(node: &Node) -> bool {
    part_is_right(node, &BENEATH)
}

/// Whether the structure of `node` is that of `definition`.
pub(super) fn is_right(definition: &str, node: &Node) -> bool {
    let mut problems = Vec::new();
    let refused = Check::new(Extent::Whole, &mut problems).definition(definition, "", node.span, node);
    refused.is_some() && !is_failure(&problems)
}

/// Whether `fields` of a sandbox are right, and none of them is there under a misspelled name.
fn part_is_right(node: &Node, fields: &[&str]) -> bool {
    let NodeKind::Mapping(entries) = &node.kind else { return false };
    let meant =
        |entry: &&Entry| fields.contains(&&*entry.key) || did_you_mean(&entry.key, fields.iter().copied()).is_some();
    let part = entries.iter().filter(meant).cloned().collect();
    is_right("Sandbox", &Node { kind: NodeKind::Mapping(part), ..node.clone() })
}

fn is_failure(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}
