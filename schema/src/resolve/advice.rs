//! What is legal but unwise, where it is not said beside the check of the same field.

use super::Resolver;
use crate::codes::{MUTABLE_TAG, SHORT_IMAGE_NAME};
use crate::document::Node;
use crate::structure::show;

impl Resolver<'_> {
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
