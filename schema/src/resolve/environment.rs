use indexmap::IndexMap;

use super::Resolver;
use super::reference::Kind;
use crate::Span;
use crate::codes::WRONG_VALUE;
use crate::config::EnvValue;
use crate::document::Node;
use crate::structure::show;
use crate::variables::is_variable;

impl Resolver<'_> {
    /// The variables under `env`.
    pub(super) fn environment(&mut self, node: Option<&Node>) -> IndexMap<String, EnvValue> {
        let entries = node.map(Node::entries).unwrap_or_default();
        let mut environment = IndexMap::with_capacity(entries.len());
        for entry in entries {
            self.env_name(&entry.key, entry.key_span);
            let value = match entry.value.get("secret") {
                Some(secret) => {
                    let Some(name) = secret.as_str() else { continue };
                    self.reference(Kind::Secret, name, secret.span).map(EnvValue::Secret)
                }
                None => self.scalar(&entry.value).map(EnvValue::Text),
            };
            environment.extend(value.map(|value| (entry.key.to_string(), value)));
        }
        environment
    }

    pub(super) fn env_name(&mut self, name: &str, span: Span) {
        if !is_variable(name) {
            self.problem(
                WRONG_VALUE
                    .at(span, format!("`{}` is not the name of an environment variable", show(name)))
                    .with_help("use letters, digits and `_`; the first is no digit"),
            );
        }
    }
}
