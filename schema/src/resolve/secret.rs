use super::{Resolver, child};
use crate::config::SecretSource;
use crate::document::Entry;
use crate::raw;

impl Resolver<'_> {
    pub(super) fn secret(&mut self, entry: &Entry) -> SecretSource {
        let node = &entry.value;
        let raw: Option<raw::Secret> = self.typed("Secret", entry);
        match raw {
            Some(raw::Secret { env: Some(name), .. }) => {
                self.env_name(&name, child(node, "env").span);
                SecretSource::Env(name)
            }
            Some(raw::Secret { file: Some(_), .. }) => {
                SecretSource::File(self.path(child(node, "file")).unwrap_or_default())
            }
            _ => SecretSource::Command(self.command_line(child(node, "command"))),
        }
    }
}
