//! What is legal but unwise, where it is not said beside the check of the same field.

use super::Resolver;
use crate::codes::{MUTABLE_TAG, OPEN_EGRESS, SHORT_IMAGE_NAME};
use crate::config::{Egress, EgressMode};
use crate::document::Node;
use crate::structure::show;
use crate::{Span, raw};

impl Resolver<'_> {
    /// The mode of egress; `node` is the mapping around it.
    pub(super) fn egress(&mut self, raw: Option<&raw::Egress>, node: Option<&Node>, span: Span) -> Egress {
        let mode = raw.and_then(|raw| raw.mode).unwrap_or_default();
        if mode == EgressMode::Open {
            let span = node.and_then(|node| node.get("mode")).map_or(span, |mode| mode.span);
            self.problem(
                OPEN_EGRESS
                    .at(span, "everything the engine's network reaches is open to this sandbox")
                    .with_help("use `none` where nothing is needed: code inside can send out all it can read"),
            );
        }
        Egress { mode, ..Egress::default() }
    }

    /// Warns of image references that mean something else tomorrow or elsewhere.
    pub(super) fn warn_of_reference(&mut self, reference: &str, node: &Node) {
        let (path, digest) = reference.split_once('@').map_or((reference, None), |(path, digest)| (path, Some(digest)));
        let (first, rest) = path.split_once('/').unwrap_or(("", path));
        if digest.is_none() {
            let last = rest.rsplit('/').next().unwrap_or(rest);
            let problem = match last.split_once(':') {
                None => "has no tag, which means `latest`",
                Some((_, "latest")) => "has the tag `latest`",
                Some(_) => "",
            };
            if !problem.is_empty() {
                self.problem(
                    MUTABLE_TAG
                        .at(node.span, format!("`{}` {problem}: it changes without notice", show(reference)))
                        .with_help("name a version, or a digest: `…@sha256:…`"),
                );
            }
        }
        if !(first.contains('.') || first.contains(':') || first == "localhost") {
            self.problem(
                SHORT_IMAGE_NAME.at(node.span, format!("`{}` does not name a registry", show(reference))).with_help(
                    format!(
                        "each host decides where short names come from; for Docker Hub: `docker.io/{}{}`",
                        if first.is_empty() { "library/" } else { "" },
                        show(reference)
                    ),
                ),
            );
        }
    }
}
