use indexmap::IndexMap;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Rule;
use super::pattern::VARIABLE;

/// A named list of rules: just the list, or rules with parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Allowlist {
    /// Rules, and names of other lists.
    List(Vec<AllowItem>),
    /// Rules with parameters.
    Parameters(ParameterizedRules),
}

/// Rules with parameters, which whoever uses them fills in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-meant" = {"parameters": "params", "args": "params", "allow": "rules"}))]
pub(crate) struct ParameterizedRules {
    /// What has to be given, by name, and what kind of thing it is: `host`, `port`, `path`, `method` or any `string`.
    /// `${NAME}` stands for it in the rules.
    #[schemars(extend("propertyNames" = {"pattern": VARIABLE}, "examples" = [{"host": "host"}]))]
    pub params: Option<IndexMap<String, ParameterKind>>,

    /// The rules, and names of other lists.
    #[schemars(extend("examples" = [[{"host": "${host}", "methods": ["GET", "HEAD"], "paths": ["/repos/**"]}]]))]
    pub rules: Vec<AllowItem>,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ParameterKind {
    /// Any text on one line.
    String,
    /// A host as rules have it: a name, `*.name`, `**.name`, an address or a range.
    Host,
    /// A port or a range of ports.
    Port,
    /// A path as rules have it.
    Path,
    /// An HTTP method.
    Method,
}

/// An entry of `allow` or `deny`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = told_apart)]
pub(crate) enum AllowItem {
    /// The name of an allowlist.
    Name(String),
    /// An allowlist with its parameters.
    Use(Use),
    /// A rule.
    Rule(Box<Rule>),
}

/// Up to which every reader of JSON takes a whole number for the same.
const EXACT: i64 = 1 << 53;

/// An allowlist with its parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend(
    "additionalProperties" = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": -EXACT, "maximum": EXACT, "x-help": "put it in quotes"}]},
    "examples" = [{"use": "read-only-api", "host": "api.github.com"}]
))]
pub(crate) struct Use {
    /// Name of the allowlist; its parameters stand beside it.
    #[schemars(extend("examples" = ["read-only-api"]))]
    pub r#use: String,
}

/// What is a use and what a rule is told by `use`: an editor then explains what is wrong with the one that is meant.
fn told_apart(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else { return };
    if let Some(rule) = choices.pop()
        && let Some(used) = choices.pop()
    {
        let condition = json!({"type": "object", "required": ["use"], "properties": {"use": true}});
        choices.push(json!({"if": condition, "then": used, "else": rule}));
    }
}
