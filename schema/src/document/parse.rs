//! From text to [`Node`].
//!
//! Events of the YAML parser become nodes as they come. What an anchor marks is also recorded, and an alias plays the
//! record again; recording once keeps nested anchors from being copied once per level.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, hash_map};

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::scalar::{self, OutOfRange};
use super::{Entry, Node, NodeKind};
use crate::codes;
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

mod syntax;

/// Longest text that is read, in bytes. Callers need not read more than one byte further from a file.
pub const MAX_TEXT: usize = 16 << 20;
/// Most keys and values written in one text. Bounds the memory of hostile files; 10,000 sandboxes may have 100 each.
pub const MAX_NODES: usize = 1_000_000;
/// Most keys and values produced by aliases and `<<`, where few bytes can ask for exponentially many. Long text counts as one
/// value per started 160 bytes, so that the budget bounds memory too.
pub const MAX_EXPANDED: usize = 100_000;
/// Deepest nesting, after expansion. Recursion over nodes relies on it.
pub const MAX_DEPTH: usize = 64;

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
        replay: None,
        nodes: 0,
        expanded: 0,
    };
    reader.document().ok().flatten()
}

/// Reading cannot go on; the problem is recorded.
struct Stop;

/// One step of building, as the parser gives it or as it was recorded.
#[derive(Clone)]
enum Item {
    Scalar(NodeKind, Span),
    /// An unquoted `<<`: a merge as a key, text as a value.
    Merge(Span),
    Sequence(Span),
    Mapping(Span),
    /// The span of a closing bracket, empty for block collections.
    End(Span),
    Alias(usize, Span),
    UnknownAlias(Span),
}

struct Anchor {
    name: String,
    /// `&name`.
    span: Span,
    /// Where its record starts on the tape.
    start: usize,
    /// Whether the value is still being read.
    open: bool,
}

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
    replay: Option<Replay>,
    nodes: usize,
    expanded: usize,
}

impl<'t> Reader<'t, '_> {
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
            Item::Merge(span) => (Node::new(span, NodeKind::String("<<".to_owned())), span.end),
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
                            break (Node::new(span, NodeKind::Sequence(items)), span.end);
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
                (Node::new(span, NodeKind::Mapping(entries)), span.end)
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
            NodeKind::Mapping(entries) => merged.extend(entries),
            NodeKind::Sequence(items) if items.iter().all(|item| matches!(item.kind, NodeKind::Mapping(_))) => {
                for item in items {
                    if let NodeKind::Mapping(entries) = item.kind {
                        merged.extend(entries);
                    }
                }
            }
            NodeKind::Sequence(items) => {
                for item in items.iter().filter(|item| !matches!(item.kind, NodeKind::Mapping(_))) {
                    self.report_merge(item)?;
                }
            }
            _ => self.report_merge(&value)?,
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

    fn item(&mut self) -> Result<Item, Stop> {
        if let Some(replay) = &mut self.replay {
            let item = self.tape.get(replay.next).cloned();
            replay.next += 1;
            return item.ok_or(Stop);
        }
        let Some((event, span)) = self.event()? else { return Err(Stop) };
        let tag_span = span.tag_span().map(|span| self.span(span));
        let span = self.span(span);
        let (item, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.scalar_span(span, style);
                if style == ScalarStyle::Plain && tag.is_none() && text == "<<" {
                    (Item::Merge(span), anchor)
                } else {
                    (Item::Scalar(self.scalar(text, style, tag.as_deref(), tag_span, span)?, span), anchor)
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection_tag("seq", tag.as_deref(), tag_span.unwrap_or(span))?;
                (Item::Sequence(span), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection_tag("map", tag.as_deref(), tag_span.unwrap_or(span))?;
                (Item::Mapping(span), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => (Item::End(span), 0),
            Event::Alias(id) => (self.check_cycle(id, span)?, 0),
            Event::UnresolvedAlias(name) => {
                self.report_unknown_alias(&name, span)?;
                (Item::UnknownAlias(span), 0)
            }
            // The parser has no other events inside a document.
            _ => return Err(Stop),
        };
        self.record(&item, anchor)?;
        Ok(item)
    }

    /// Keeps what an anchor marks, and `item` when it is inside of something marked.
    fn record(&mut self, item: &Item, anchor: usize) -> Result<(), Stop> {
        let opens = matches!(item, Item::Sequence(_) | Item::Mapping(_));
        if matches!(item, Item::End(_)) {
            self.level -= 1;
        }
        if anchor != 0 {
            // The name follows at once; its own span lies before the node.
            if let Some((Event::Anchor(id, name), span)) = self.event()? {
                let span = self.span(span);
                let anchor = Anchor { name: name.into_owned(), span, start: self.tape.len(), open: opens };
                self.anchors.insert(id, anchor);
                if opens {
                    self.recording.push((id, self.level));
                } else {
                    self.tape.push(item.clone());
                    return Ok(());
                }
            }
        }
        if !self.recording.is_empty() {
            self.tape.push(item.clone());
        }
        if opens {
            self.level += 1;
        } else if matches!(item, Item::End(_))
            && let Some((id, _)) = self.recording.pop_if(|(_, level)| *level == self.level)
            && let Some(anchor) = self.anchors.get_mut(&id)
        {
            anchor.open = false;
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Option<(Event<'t>, granit_parser::Span)>, Stop> {
        match self.events.next() {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                self.problems.push(syntax::diagnose(self.source, self.text, &error));
                Err(Stop)
            }
            None => Ok(None),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        tag_span: Option<Span>,
        span: Span,
    ) -> Result<NodeKind, Stop> {
        // The parser gives `~` for what is not written at all.
        let text = if style == ScalarStyle::Plain && span.start == span.end { Cow::Borrowed("") } else { text };
        let core = tag.and_then(Tag::core_suffix);
        match tag {
            Some(_) if core == Some("str") => return Ok(NodeKind::String(text.into_owned())),
            Some(tag) if tag.parts() == ("!", "") || tag.parts() == ("", "!") => {
                return Ok(NodeKind::String(text.into_owned()));
            }
            Some(tag) if core.is_none() => self.report_custom_tag(tag, tag_span.unwrap_or(span))?,
            None if style != ScalarStyle::Plain => return Ok(NodeKind::String(text.into_owned())),
            Some(_) | None => {}
        }
        if core.is_none() && style != ScalarStyle::Plain {
            return Ok(NodeKind::String(text.into_owned()));
        }
        let kind = match scalar::resolve(&text) {
            Ok(Some(kind)) => kind,
            Ok(None) => NodeKind::String(text.into_owned()),
            Err(OutOfRange) => {
                let mut problem = codes::NUMBER_RANGE.at(span, "the number does not fit into 64 bits");
                problem.help = Some("quote it if it is text".to_owned());
                self.report(problem)?;
                NodeKind::String(text.into_owned())
            }
        };
        match (core, kind) {
            #[expect(clippy::cast_precision_loss, reason = "the tag asks for it")]
            (Some("float"), NodeKind::Integer(value)) => Ok(NodeKind::Float(value as f64)),
            (None, kind)
            | (Some("null"), kind @ NodeKind::Null)
            | (Some("bool"), kind @ NodeKind::Bool(_))
            | (Some("int"), kind @ NodeKind::Integer(_))
            | (Some("float"), kind @ NodeKind::Float(_)) => Ok(kind),
            (Some(tag), kind) => {
                self.report(codes::TAG_MISMATCH.at(tag_span.unwrap_or(span), format!("the value is not !!{tag}")))?;
                Ok(kind)
            }
        }
    }

    fn check_collection_tag(&mut self, own: &str, tag: Option<&Tag>, span: Span) -> Result<(), Stop> {
        match tag {
            None => Ok(()),
            Some(tag) => match tag.core_suffix() {
                Some(core) if core == own => Ok(()),
                Some(core) => self.report(codes::TAG_MISMATCH.at(span, format!("the value is not !!{core}"))),
                None if tag.original() == "!" => Ok(()),
                None => self.report_custom_tag(tag, span),
            },
        }
    }

    fn check_cycle(&mut self, id: usize, span: Span) -> Result<Item, Stop> {
        let Some(anchor) = self.anchors.get(&id).filter(|anchor| anchor.open) else { return Ok(Item::Alias(id, span)) };
        let mut problem = codes::ALIAS_CYCLE.at(span, format!("`*{}` stands inside what it repeats", anchor.name));
        problem.related.push((anchor.span, "the alias is part of this anchor's value".to_owned()));
        problem.help = Some("move the shared part into an anchor of its own".to_owned());
        self.report(problem)?;
        Ok(Item::UnknownAlias(span))
    }

    /// Counts a node against the budgets.
    fn charge(&mut self, item: &Item) -> Result<(), Stop> {
        let Some(replay) = self.replay else {
            self.nodes += 1;
            if self.nodes <= MAX_NODES {
                return Ok(());
            }
            let (Item::Scalar(_, span)
            | Item::Merge(span)
            | Item::Sequence(span)
            | Item::Mapping(span)
            | Item::End(span)
            | Item::Alias(_, span)
            | Item::UnknownAlias(span)) = item;
            let message = format!("the file has more than {MAX_NODES} keys and values");
            self.problems.push(codes::TOO_LARGE.at(*span, message));
            return Err(Stop);
        };
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

    /// Records a problem, once however often an alias repeats its place, and stops when there are too many.
    fn report(&mut self, problem: Diagnostic) -> Result<(), Stop> {
        if self.replay.is_none() {
            self.problems.push(problem);
        }
        if self.problems.len() < self.most_problems { Ok(()) } else { Err(Stop) }
    }

    fn report_duplicate(&mut self, key: &str, span: Span, first: Span) -> Result<(), Stop> {
        let mut problem = codes::DUPLICATE_KEY.at(span, format!("the key `{}` is there twice", shorten(key)));
        problem.label = Some("again here".to_owned());
        problem.related.push((first, "first here".to_owned()));
        problem.help = Some(match key {
            "<<" => "merge several with a list: `<<: [*a, *b]`".to_owned(),
            _ => "keep one of the two".to_owned(),
        });
        self.report(problem)
    }

    fn report_key(&mut self, key: &Node) -> Result<(), Stop> {
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

    fn report_merge(&mut self, value: &Node) -> Result<(), Stop> {
        let span = value.used_at().unwrap_or(value.span);
        let message = format!("`<<` merges a mapping or a list of mappings, this is {}", value.describe());
        let mut problem = codes::MERGE_NOT_MAPPING.at(span, message);
        if value.used_at().is_some() {
            problem.related.push((value.span, format!("the alias repeats {}", value.describe())));
        }
        problem.help = Some("a key that is really called `<<` needs quotes".to_owned());
        self.report(problem)
    }

    fn report_unknown_alias(&mut self, name: &str, span: Span) -> Result<(), Stop> {
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

    fn report_custom_tag(&mut self, tag: &Tag, span: Span) -> Result<(), Stop> {
        let message = format!("the tag `{}` means nothing here", shorten(&tag.original()));
        let mut problem = codes::CUSTOM_TAG.at(span, message);
        problem.help = Some("remove the tag; text that starts with `!` needs quotes".to_owned());
        self.report(problem)
    }

    /// The place in the text, made safe to slice with.
    fn span(&self, span: granit_parser::Span) -> Span {
        let range = span.byte_range().unwrap_or_default();
        let start = self.text.floor_char_boundary(range.start);
        Span { source: self.source, start, end: self.text.floor_char_boundary(range.end).max(start) }
    }

    /// Where a scalar is written: block scalars without the line breaks that end them; what is not written stands right
    /// after what comes before, not where the parser noticed.
    fn scalar_span(&self, span: Span, style: ScalarStyle) -> Span {
        let (start, mut end) = (span.start, span.end);
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            end = start + self.text[start..end].trim_end().len();
        } else if start == end {
            let place = self.text[..start].trim_end().len();
            return Span { start: place, end: place, ..span };
        }
        Span { start, end, ..span }
    }
}

/// Adds what `<<` brought and neither the mapping itself nor an earlier merge has.
fn add_merged(entries: &mut Vec<Entry>, merged: Vec<Entry>) {
    if merged.is_empty() {
        return;
    }
    let mut known: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let fresh: Vec<bool> = merged.iter().map(|entry| known.insert(&entry.key)).collect();
    entries.extend(merged.into_iter().zip(fresh).filter_map(|(entry, fresh)| fresh.then_some(entry)));
}

/// A collection's whole span: to its closing bracket, or to the end of its last child.
fn enclose(open: Span, end: usize, close: Span) -> Span {
    let end = if close.start < close.end { close.end } else { end };
    Span { end: end.max(open.end), ..open }
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
