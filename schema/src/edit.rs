//! Changes to the text of a configuration that leave all else in it as it is: comments, order, quotes, anchors.
//!
//! Only text is made here. Whether it still says what it should is for whoever asked: read it again and compare.

use std::ops::Range;

use crate::document::{Entry, Node, NodeKind, parse};
use crate::report::Locator;
use crate::{Source, Sources};

mod lines;
#[cfg(test)]
mod tests;

use lines::{Lines, newline};

/// A part of a text, and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Index of the text.
    pub source: usize,
    /// Bytes that go.
    pub range: Range<usize>,
    /// What comes.
    pub with: String,
}

/// Why a change cannot be made in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Nothing is written there.
    #[error("it is not written in these files")]
    Absent,
    /// It stands where an alias or `<<` brought it.
    #[error("it is brought there by an alias: what the alias names is shared")]
    Aliased,
    /// It is written in a way that is not understood well enough.
    #[error("the way it is written there is too uncommon to be changed by a program")]
    Shape,
}

/// The texts with `splices` made. Those of one text must not overlap.
pub fn apply(sources: &Sources, splices: &[Splice]) -> Vec<Source> {
    let mut ordered: Vec<&Splice> = splices.iter().collect();
    // From the end on, so that ranges before stay right; of those at one place, the first one comes first in the text.
    ordered.sort_by_key(|splice| (splice.source, splice.range.start));
    let mut changed = sources.to_vec();
    for splice in ordered.into_iter().rev() {
        if let Some(source) = changed.get_mut(splice.source)
            && source.text.get(splice.range.clone()).is_some()
        {
            source.text.replace_range(splice.range.clone(), &splice.with);
        }
    }
    changed
}

/// The texts as trees.
#[derive(Debug)]
pub struct Editor<'a> {
    sources: &'a Sources,
    places: Locator<'a>,
    trees: Vec<Option<Node>>,
}

/// A rule as it is written.
#[derive(Debug, Clone, Copy)]
struct Item<'t> {
    source: usize,
    /// The key of the list it is in.
    entry: &'t Entry,
    index: usize,
    node: &'t Node,
}

impl<'a> Editor<'a> {
    /// Reads the texts.
    pub fn new(sources: &'a Sources) -> Self {
        let mut problems = Vec::new();
        let trees = sources.iter().enumerate().map(|(index, source)| parse(index, &source.text, &mut problems));
        Self { sources, places: Locator::new(sources), trees: trees.collect() }
    }

    fn text(&self, source: usize) -> &'a str {
        self.sources.get(source).map_or("", |source| source.text.as_str())
    }

    /// Adds `items`, each a rule on one line in flow style, to `egress.allow` of the sandbox that is written as `key`.
    pub fn add_rules(&self, key: &str, items: &[String]) -> Result<Vec<Splice>, EditError> {
        let written = |(source, tree): (usize, &'_ Option<Node>)| {
            let sandbox = tree.as_ref()?.get("sandboxes")?.entry(key)?;
            Some((source, sandbox.clone()))
        };
        let (source, sandbox) = self.trees.iter().enumerate().rev().find_map(written).ok_or(EditError::Absent)?;
        let lines = Lines::of(self.text(source));
        let splice = add(&lines, &sandbox.value, items)?;
        Ok(vec![Splice { source, range: splice.0..splice.0, with: splice.1 }])
    }

    /// Takes out the rule, or the use of a list, that is written at `place` (`sandboxes.yaml:12:9`).
    pub fn remove(&self, place: &str) -> Result<Vec<Splice>, EditError> {
        let item = self.find(place)?;
        let (range, with) = remove(&Lines::of(self.text(item.source)), &item)?;
        Ok(vec![Splice { source: item.source, range, with }])
    }

    /// Gives the rule that is written at `place` another value of `field`: text in flow style.
    pub fn set(&self, place: &str, field: &str, value: &str) -> Result<Vec<Splice>, EditError> {
        let item = self.find(place)?;
        let (range, with) = set(&Lines::of(self.text(item.source)), item.node, field, value)?;
        Ok(vec![Splice { source: item.source, range, with }])
    }

    /// Where the sandbox written as `key` names the list `list` under `egress.allow`.
    pub fn use_of(&self, key: &str, list: &str) -> Option<String> {
        let found = self.trees.iter().flatten().find_map(|tree| {
            let items = tree.get("sandboxes")?.get(key)?.get("egress")?.get("allow")?.items();
            items.iter().find(|item| item.as_str() == Some(list) && item.used_at().is_none())
        });
        self.place_of(found?)
    }

    /// As messages and records name it.
    fn place_of(&self, item: &Node) -> Option<String> {
        let span = item.entries().first().map_or(item.span, |entry| entry.key_span);
        self.places.locate(span).map(|place| place.to_string())
    }

    fn find(&self, place: &str) -> Result<Item<'_>, EditError> {
        let mut aliased = false;
        for (source, tree) in self.trees.iter().enumerate() {
            for entry in tree.as_ref().map(lists).unwrap_or_default() {
                for (index, node) in entry.value.items().iter().enumerate() {
                    if self.place_of(node).as_deref() != Some(place) {
                        continue;
                    }
                    if entry.value.used_at().is_none() && node.used_at().is_none() {
                        return Ok(Item { source, entry, index, node });
                    }
                    aliased = true;
                }
            }
        }
        Err(if aliased { EditError::Aliased } else { EditError::Absent })
    }
}

/// Every list of rules that is written in a document.
fn lists(tree: &Node) -> Vec<&Entry> {
    let bodies = ["sandboxes", "profiles"].into_iter().filter_map(|section| tree.get(section)).flat_map(Node::entries);
    let bodies = bodies.map(|entry| &entry.value).chain(tree.get("defaults"));
    let egress = bodies.filter_map(|body| body.get("egress"));
    let mut lists: Vec<&Entry> =
        egress.flat_map(|egress| [egress.entry("allow"), egress.entry("deny")]).flatten().collect();
    for list in tree.get("allowlists").map(Node::entries).unwrap_or_default() {
        lists.push(list.value.entry("rules").unwrap_or(list));
    }
    lists
}

/// Where to insert what, so that `items` are allowed to the sandbox whose body is `body`.
fn add(lines: &Lines<'_>, body: &Node, items: &[String]) -> Result<(usize, String), EditError> {
    let flow = items.join(", ");
    let here = |node: &Node| if node.used_at().is_some() { Err(EditError::Aliased) } else { Ok(()) };
    here(body)?;
    let Some(egress) = body.entry("egress") else {
        return lines.append_entry(body, "egress", &format!("{{ allow: [{flow}] }}"), &|indent, newline| {
            let deeper = " ".repeat(indent + 2);
            format!("egress:{newline}{deeper}allow:{newline}{}", block_items(items, indent + 4, newline))
        });
    };
    here(&egress.value)?;
    let Some(allow) = egress.value.entry("allow") else {
        return lines.append_entry(&egress.value, "allow", &format!("[{flow}]"), &|indent, newline| {
            format!("allow:{newline}{}", block_items(items, indent + 2, newline))
        });
    };
    here(&allow.value)?;
    let list = &allow.value;
    if !matches!(list.kind, NodeKind::Sequence(_)) {
        return Err(EditError::Shape);
    }
    if lines.at(list.span.start) == Some('[') {
        return Ok(match list.items().last() {
            // Right behind what is there: whatever comment follows stays with it.
            Some(last) => (lines.end_of(last), format!(", {flow}")),
            None => (list.span.start + 1, flow),
        });
    }
    let (Some(first), Some(last)) = (list.items().first(), list.items().last()) else { return Err(EditError::Shape) };
    let indent = lines.dash_before(first).ok_or(EditError::Shape)?;
    let at = lines.after(lines.end_of(last));
    Ok(lines.whole_line(at, &block_items(items, indent, newline(&lines.text[..at]))))
}

fn block_items(items: &[String], indent: usize, newline: &str) -> String {
    let lines: Vec<String> = items.iter().map(|item| format!("{}- {item}", " ".repeat(indent))).collect();
    lines.join(newline)
}

/// What to cut so that an item is gone, and what to leave instead.
fn remove(lines: &Lines<'_>, item: &Item<'_>) -> Result<(Range<usize>, String), EditError> {
    let Item { entry, index, node, .. } = *item;
    let (list, end) = (&entry.value, lines.end_of(node));
    if lines.at(list.span.start) == Some('[') {
        let start = node.span.start;
        let before = index.checked_sub(1).and_then(|before| list.items().get(before)).map(|node| lines.end_of(node));
        let comma = lines.comma_after(end);
        // A line, or lines, of its own go as a whole, with what is said beside it.
        let whole = lines.line_of(start)..lines.after(comma.unwrap_or(end));
        let alone = lines.is_blank(whole.start..start)
            && lines.is_blank_or_comment(comma.unwrap_or(end)..whole.end)
            && !whole.contains(&list.span.start)
            && whole.end < list.span.end;
        return Ok(match (alone, comma, before) {
            (true, _, _) => (whole, String::new()),
            (false, Some(comma), _) => (start..lines.skip_blanks(comma), String::new()),
            (false, None, Some(before)) if !lines.text[before..start].contains(['#', '\n']) => {
                (before..end, String::new())
            }
            (false, None, _) => (start..end, String::new()),
        });
    }
    lines.dash_before(node).ok_or(EditError::Shape)?;
    if list.items().len() == 1 {
        let colon = lines.colon_after(entry.key_span.end).ok_or(EditError::Shape)?;
        // What is between is said about a list that has nothing in it any more.
        return if lines.is_blank(colon..lines.line_of(node.span.start)) {
            Ok((colon..lines.trimmed_end(end), " []".to_owned()))
        } else {
            Err(EditError::Shape)
        };
    }
    Ok((lines.line_of(node.span.start)..lines.after(end), String::new()))
}

/// What to write where, so that `field` of the rule `node` is `value`.
fn set(lines: &Lines<'_>, node: &Node, field: &str, value: &str) -> Result<(Range<usize>, String), EditError> {
    let own = |entry: &&Entry| entry.value.used_at().is_none() && node.span.start <= entry.key_span.start;
    if let Some(entry) = node.entry(field) {
        let entry = Some(entry).filter(own).ok_or(EditError::Aliased)?;
        let colon = lines.colon_after(entry.key_span.end).ok_or(EditError::Shape)?;
        let between = lines.text.get(colon..entry.value.span.end).ok_or(EditError::Shape)?;
        // A comment in the midst would be lost.
        if between.contains('#') {
            return Err(EditError::Shape);
        }
        return Ok((colon..lines.trimmed_end(entry.value.span.end), format!(" {value}")));
    }
    let host = node.entry("host").filter(own).ok_or(EditError::Aliased)?;
    let end = host.value.span.end;
    if lines.at(node.span.start) == Some('{') {
        return Ok((end..end, format!(", {field}: {value}")));
    }
    let indent = host.key_span.start - lines.line_of(host.key_span.start);
    let (at, line) = lines.whole_line(lines.after(end), &format!("{}{field}: {value}", " ".repeat(indent)));
    Ok((at..at, line))
}
