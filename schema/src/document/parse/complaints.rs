//! What is wrong with a document, with both places where there are two.

use granit_parser::Tag;

use super::{Reader, Stop};
use crate::codes;
use crate::document::{Node, NodeKind};
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

impl Reader<'_, '_> {
    /// Records a problem, once however often an alias repeats its place, and stops when there are too many.
    pub(super) fn report(&mut self, problem: Diagnostic) -> Result<(), Stop> {
        if self.replay.is_none() {
            self.problems.push(problem);
        }
        if self.problems.len() < self.most_problems { Ok(()) } else { Err(Stop) }
    }

    pub(super) fn report_duplicate(&mut self, key: &str, span: Span, first: Span) -> Result<(), Stop> {
        let mut problem = codes::DUPLICATE_KEY.at(span, format!("the key `{}` is there twice", shorten(key)));
        problem.label = Some("again here".to_owned());
        problem.related.push((first, "first here".to_owned()));
        problem.help = Some(match key {
            "<<" => "merge several with a list: `<<: [*a, *b]`".to_owned(),
            _ => "keep one of the two".to_owned(),
        });
        self.report(problem)
    }

    pub(super) fn report_key(&mut self, key: &Node) -> Result<(), Stop> {
        let span = key.used_at().unwrap_or(key.span);
        let mut problem = codes::KEY_NOT_TEXT.at(span, format!("a key must be text, this is {}", key.describe()));
        if key.used_at().is_some() {
            problem.related.push((key.span, "what the alias repeats".to_owned()));
        }
        problem.help = match self.text.get(span.start..span.end) {
            Some(written)
                if !matches!(key.kind, NodeKind::Sequence(_) | NodeKind::Mapping(_)) && !written.is_empty() =>
            {
                Some(format!("put it into quotes: \"{}\"", shorten(written)))
            }
            _ => Some("write a text key".to_owned()),
        };
        self.report(problem)
    }

    /// `value` is the value of `<<`, or an item of it.
    pub(super) fn report_merge(&mut self, value: &Node, in_list: bool) -> Result<(), Stop> {
        let span = value.used_at().unwrap_or(value.span);
        let (what, is) = (value.describe(), if in_list { "this list holds" } else { "this is" });
        let message = format!("`<<` merges a mapping or a list of mappings, {is} {what}");
        let mut problem = codes::MERGE_NOT_MAPPING.at(span, message);
        if value.used_at().is_some() {
            problem.related.push((value.span, format!("the alias repeats {what}")));
        }
        problem.help = Some("a key that is really called `<<` needs quotes".to_owned());
        self.report(problem)
    }

    pub(super) fn report_unknown_alias(&mut self, name: &str, span: Span) -> Result<(), Stop> {
        let message = format!("no anchor `&{}` comes before this alias", shorten(name));
        let mut problem = codes::UNKNOWN_ALIAS.at(span, message);
        // Bounded, because a hostile file may have very many of both.
        let names = self.anchors.values().take(1000);
        let nearest = did_you_mean(name, names.map(|anchor| anchor.name.as_str()));
        problem.help = Some(match nearest {
            Some(name) => format!("did you mean `*{name}`?"),
            None => format!("mark the value with `&{}` above, or quote text that starts with `*`", shorten(name)),
        });
        if let Some(anchor) = nearest.and_then(|name| self.anchors.values().find(|anchor| anchor.name == name)) {
            problem.related.push((anchor.span, "this anchor is near".to_owned()));
        }
        self.report(problem)
    }

    pub(super) fn report_custom_tag(&mut self, tag: &Tag, span: Span) -> Result<(), Stop> {
        let message = format!("the tag `{}` means nothing here", shorten(&tag.original()));
        let mut problem = codes::CUSTOM_TAG.at(span, message);
        problem.help = Some("remove the tag; text that starts with `!` needs quotes".to_owned());
        self.report(problem)
    }
}

/// Names in messages stay readable, whatever the file holds.
fn shorten(name: &str) -> String {
    const MOST: usize = 40;
    let escaped =
        name.chars().take(MOST + 1).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
    let mut short: String = escaped.take(MOST).collect();
    if name.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}
