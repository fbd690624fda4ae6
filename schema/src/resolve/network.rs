use super::{Resolver, child};
use crate::codes::NOT_AVAILABLE;
use crate::config::Network;
use crate::document::Entry;
use crate::raw;

impl Resolver<'_> {
    pub(super) fn network(&mut self, entry: &Entry) -> Network {
        let raw: Option<raw::Network> = self.typed("Network", entry);
        if raw.and_then(|raw| raw.internal) == Some(false) {
            self.problem(
                NOT_AVAILABLE
                    .at(child(&entry.value, "internal").span, "networks with a way out are not available yet")
                    .with_help("write `internal: true`; `egress: { mode: open }` lets a single sandbox out"),
            );
        }
        Network { internal: true }
    }
}
