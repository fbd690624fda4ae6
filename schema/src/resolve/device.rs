use std::path::Path;

use super::Resolver;
use super::path::clean;
use crate::codes::WRONG_VALUE;
use crate::document::Node;
use crate::structure::show;

impl Resolver<'_> {
    /// CDI names and device paths.
    pub(super) fn devices(&mut self, sandbox: &Node) -> Vec<String> {
        let items = sandbox.get("devices").map(Node::items).unwrap_or_default();
        let mut devices = Vec::with_capacity(items.len());
        for item in items {
            let Some(text) = self.text(item) else { continue };
            if text.starts_with("/dev/") {
                let path = clean(Path::new(&text));
                if path.starts_with("/dev")
                    && path != Path::new("/dev")
                    && !text.chars().any(|c| c.is_control() || c == ':')
                {
                    devices.push(path.to_string_lossy().into_owned());
                    continue;
                }
            } else if is_cdi_name(&text) {
                devices.push(text);
                continue;
            }
            self.problem(
                WRONG_VALUE
                    .at(item.span, format!("`{}` is neither a device nor a CDI name", show(&text)))
                    .with_help("write a path such as `/dev/kvm`, or `vendor/class=name` such as `nvidia.com/gpu=all`"),
            );
        }
        devices
    }
}

fn is_cdi_name(text: &str) -> bool {
    let word = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    text.split_once('=').is_some_and(|(kind, name)| {
        let kind = kind.split_once('/');
        word(name, "_-.:") && kind.is_some_and(|(vendor, class)| word(vendor, "_-.") && word(class, "_-"))
    })
}
