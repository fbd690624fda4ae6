//! From text to [`Node`].
//!
//! Events of the YAML parser become nodes as they come. What an anchor marks is also recorded, and an alias plays the
//! record again; recording once keeps nested anchors from being copied once per level.

use std::collections::{HashMap, HashSet, hash_map};

use granit_parser::{Event, Parser, StrInput};

use super::{Entry, Node, NodeKind};
use crate::codes;
use crate::{Diagnostic, Span};

mod complaints;
mod items;
mod syntax;

use items::{Anchor, Item};

/// Longest text that is read, in bytes. Callers need not read more than one byte further from a file.
pub const MAX_TEXT: usize = 16 << 20;
/// Most keys and values written in one text. Bounds the memory of hostile files; 10,000 sandboxes may have 70 each. What
/// an anchor marks is kept twice and counts twice, and an anchor itself counts as [`ANCHOR`].
pub const MAX_NODES: usize = 700_000;
/// Most keys and values produced by aliases and `<<`, where few bytes can ask for exponentially many. Long text counts as one
/// value per started 160 bytes, so that the budget bounds memory too.
pub const MAX_EXPANDED: usize = 100_000;
/// Deepest nesting, after expansion. Recursion over nodes relies on it.
pub const MAX_DEPTH: usize = 64;

/// What an anchor costs, in nodes.
const ANCHOR: usize = 8;

/// Problems after which the rest of a text is not looked at: somebody who has 200 to mend will run again.
const MAX_PROBLEMS: usize = 200;

/// Reads the one document of `text`, which is source number `source`.
///
/// Problems are added to `problems`. Where the rest of the document can still be judged, a node is returned all the
/// same: duplicate keys and keys that are not text are left out, an unknown alias is null.
pub fn parse(source: usize, text: &str, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    if text.len() > MAX_TEXT {
        let message = format!("the file has more than {} MiB", MAX_TEXT >> 20);
        problems.push(codes::TOO_LARGE.at(Span { source, start: 0, end: 0 }, message));
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
    };
    let most_problems = problems.len() + MAX_PROBLEMS;
    let mut reader = Reader {
        source,
        text,
        events: Parser::new_from_str_with_options(text, options),
        problems,
        most_problems,
        anchors: HashMap::new(),
        tape: Vec::new(),
        recording: Vec::new(),
        level: 0,
        brackets: Vec::new(),
        replay: None,
        nodes: 0,
        expanded: 0,
    };
    reader.document().ok().flatten()
}

/// Reading cannot go on; the problem is recorded.
struct Stop;

/// A record being played.
#[derive(Clone, Copy)]
struct Replay {
    next: usize,
    /// The outermost alias.
    used_at: Span,
    /// The outermost anchor.
    anchor: Span,
}

struct Reader<'t, 'p> {
    source: usize,
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    problems: &'p mut Vec<Diagnostic>,
    most_problems: usize,
    anchors: HashMap<usize, Anchor>,
    tape: Vec<Item>,
    /// Anchored collections being read, with the level they are at.
    recording: Vec<(usize, usize)>,
    /// Collections being read from the text.
    level: usize,
    /// Brackets that are open.
    brackets: Vec<Span>,
    replay: Option<Replay>,
    nodes: usize,
    expanded: usize,
}

impl Reader<'_, '_> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, span)) = self.event()? {
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    let start = self.span(span).start;
                    let marker = self.text.get(start..).filter(|rest| rest.starts_with("---")).map_or(0, |_| 3);
                    let span = Span { source: self.source, start, end: start + marker };
                    let mut problem = codes::SEVERAL_DOCUMENTS.at(span, "a second document starts here");
                    problem.help = Some("put it into a file of its own and give both with -f".to_owned());
                    self.report(problem)?;
                    return Ok(root);
                }
                Event::DocumentStart(..) => {
                    let item = self.item()?;
                    root = Some(self.node(item, 0)?.0);
                }
                _ => {}
            }
        }
        if root.as_ref().is_none_or(|node| node.kind == NodeKind::Null) {
            let span = Span { source: self.source, start: 0, end: 0 };
            let mut problem = codes::EMPTY_DOCUMENT.at(span, "the file has no content");
            problem.help = Some("`sbx init` writes a commented example".to_owned());
            self.report(problem)?;
            return Ok(None);
        }
        Ok(root)
    }

    /// Builds the node that starts with `item`; also tells where it ends in the text being read, which for an alias is
    /// the end of the alias.
    fn node(&mut self, item: Item, depth: usize) -> Result<(Node, usize), Stop> {
        self.charge(&item)?;
        let (mut node, end) = match item {
            Item::Scalar(kind, span) => (Node::new(span, kind), span.end),
            Item::Merge(span) => (Node::new(span, NodeKind::String("<<".into())), span.end),
            // The parser balances its events, so that no end comes here.
            Item::UnknownAlias(span) | Item::End(span) => (Node::new(span, NodeKind::Null), span.end),
            Item::Alias(id, span) => return Ok((self.alias(id, span, depth)?, span.end)),
            Item::Sequence(span) => {
                self.check_depth(span, depth)?;
                let mut items = Vec::new();
                let mut end = span.end;
                loop {
                    match self.item()? {
                        Item::End(close) => {
                            let span = enclose(span, end, close);
                            break (Node::new(span, NodeKind::Sequence(items.into())), span.end);
                        }
                        item => {
                            let (node, node_end) = self.node(item, depth + 1)?;
                            end = end.max(node_end);
                            items.push(node);
                        }
                    }
                }
            }
            Item::Mapping(span) => {
                self.check_depth(span, depth)?;
                let (entries, end, close) = self.entries(span, depth)?;
                let span = enclose(span, end, close);
                (Node::new(span, NodeKind::Mapping(entries.into())), span.end)
            }
        };
        node.alias = self.replay.map(|replay| Box::new(replay.used_at));
        Ok((node, end))
    }

    fn entries(&mut self, span: Span, depth: usize) -> Result<(Vec<Entry>, usize, Span), Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut merge_span: Option<Span> = None;
        let mut end = span.end;
        loop {
            let item = self.item()?;
            if let Item::End(close) = item {
                self.reject_duplicates(&mut entries)?;
                add_merged(&mut entries, merged);
                return Ok((entries, end, close));
            }
            if let Item::Merge(key_span) = item {
                let value = self.item()?;
                let (value, value_end) = self.node(value, depth + 1)?;
                end = end.max(key_span.end).max(value_end);
                if let Some(first) = merge_span {
                    self.report_duplicate("<<", key_span, first)?;
                } else {
                    self.collect_merged(value, &mut merged)?;
                }
                merge_span.get_or_insert(key_span);
                continue;
            }
            let (key, key_end) = self.node(item, depth + 1)?;
            let value = self.item()?;
            let (value, value_end) = self.node(value, depth + 1)?;
            end = end.max(key_end).max(value_end);
            let key_span = key.span;
            match key.kind {
                NodeKind::String(key) => entries.push(Entry { key, key_span, value }),
                _ => self.report_key(&key)?,
            }
        }
    }

    /// Entries of a `<<` value, earlier ones first.
    fn collect_merged(&mut self, value: Node, merged: &mut Vec<Entry>) -> Result<(), Stop> {
        match value.kind {
            NodeKind::Mapping(entries) => merged.extend(entries.iter().cloned()),
            NodeKind::Sequence(items) if items.iter().all(|item| matches!(item.kind, NodeKind::Mapping(_))) => {
                merged.extend(items.iter().flat_map(Node::entries).cloned());
            }
            NodeKind::Sequence(items) => {
                for item in items.iter().filter(|item| !matches!(item.kind, NodeKind::Mapping(_))) {
                    self.report_merge(item, true)?;
                }
            }
            _ => self.report_merge(&value, false)?,
        }
        Ok(())
    }

    /// Plays what anchor `id` marked.
    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node, Stop> {
        let Some(anchor) = self.anchors.get(&id) else { return Ok(Node::new(span, NodeKind::Null)) };
        let outer = self.replay;
        let (used_at, anchor_span) = outer.map_or((span, anchor.span), |outer| (outer.used_at, outer.anchor));
        self.replay = Some(Replay { next: anchor.start, used_at, anchor: anchor_span });
        let item = self.item()?;
        let (node, _) = self.node(item, depth)?;
        self.replay = outer;
        Ok(node)
    }

    /// Counts a node against the budgets.
    fn charge(&mut self, item: &Item) -> Result<(), Stop> {
        let Some(replay) = self.replay else { return self.charge_written(item.span(), 1) };
        self.expanded += 1;
        if let Item::Scalar(NodeKind::String(text), _) = item {
            self.expanded += text.len() / 160;
        }
        if self.expanded <= MAX_EXPANDED {
            return Ok(());
        }
        let message = format!("aliases expand to more than {MAX_EXPANDED} keys and values");
        let mut problem = codes::ALIAS_BUDGET.at(replay.used_at, message);
        problem.label = Some("the budget ends in this expansion".to_owned());
        problem.related.push((replay.anchor, "what it repeats".to_owned()));
        problem.help = Some("use `defaults:` or `profiles:` for what sandboxes share".to_owned());
        self.problems.push(problem);
        Err(Stop)
    }

    /// Counts `nodes` written at `span`.
    fn charge_written(&mut self, span: Span, nodes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!("the file has more than {MAX_NODES} keys and values");
        self.problems.push(codes::TOO_LARGE.at(span, message));
        Err(Stop)
    }

    fn check_depth(&mut self, span: Span, depth: usize) -> Result<(), Stop> {
        if depth < MAX_DEPTH {
            return Ok(());
        }
        let span = self.replay.map_or(span, |replay| replay.used_at);
        let mut problem = codes::TOO_DEEP.at(span, format!("more than {MAX_DEPTH} levels of nesting"));
        if let Some(replay) = self.replay {
            problem.related.push((replay.anchor, "what the alias repeats".to_owned()));
        }
        self.problems.push(problem);
        Err(Stop)
    }

    fn reject_duplicates(&mut self, entries: &mut Vec<Entry>) -> Result<(), Stop> {
        let mut repeated: Vec<(usize, Span)> = Vec::new();
        // Most mappings are small, and comparing a few keys is cheaper than hashing them.
        if entries.len() <= 12 {
            for (index, entry) in entries.iter().enumerate() {
                if let Some(first) = entries[..index].iter().find(|first| first.key == entry.key) {
                    repeated.push((index, first.key_span));
                }
            }
        } else {
            let mut seen: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
            for (index, entry) in entries.iter().enumerate() {
                match seen.entry(&entry.key) {
                    hash_map::Entry::Occupied(first) => repeated.push((index, *first.get())),
                    hash_map::Entry::Vacant(place) => {
                        place.insert(entry.key_span);
                    }
                }
            }
        }
        for (index, first) in repeated.into_iter().rev() {
            let entry = entries.remove(index);
            self.report_duplicate(&entry.key, entry.key_span, first)?;
        }
        Ok(())
    }
}

/// Adds what `<<` brought and neither the mapping itself nor an earlier merge has.
fn add_merged(entries: &mut Vec<Entry>, merged: Vec<Entry>) {
    if merged.is_empty() {
        return;
    }
    let mut known: HashSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
    let fresh: Vec<bool> = merged.iter().map(|entry| known.insert(&entry.key)).collect();
    entries.extend(merged.into_iter().zip(fresh).filter_map(|(entry, fresh)| fresh.then_some(entry)));
}

/// A collection's whole span: to its closing bracket, or to the end of its last child.
fn enclose(open: Span, end: usize, close: Span) -> Span {
    let end = if close.start < close.end { close.end } else { end };
    Span { end: end.max(open.end), ..open }
}
