//! Events of the YAML parser as [`Item`]s: typed, placed and recorded for aliases.

use std::borrow::Cow;

use granit_parser::{Event, ScalarStyle, StructureStyle, Tag};

use super::{ANCHOR, Reader, Stop, syntax};
use crate::Span;
use crate::codes;
use crate::document::NodeKind;
use crate::document::scalar::{self, OutOfRange};

/// One step of building, as the parser gives it or as it was recorded.
#[derive(Clone)]
pub(super) enum Item {
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

impl Item {
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Scalar(_, span)
            | Self::Merge(span)
            | Self::Sequence(span)
            | Self::Mapping(span)
            | Self::End(span)
            | Self::Alias(_, span)
            | Self::UnknownAlias(span) => *span,
        }
    }
}

pub(super) struct Anchor {
    pub(super) name: String,
    /// `&name`.
    pub(super) span: Span,
    /// Where its record starts on the tape.
    pub(super) start: usize,
    /// Whether the value is still being read.
    pub(super) open: bool,
}

impl<'t> Reader<'t, '_> {
    pub(super) fn item(&mut self) -> Result<Item, Stop> {
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
            Event::SequenceStart(style, anchor, tag) => {
                let span = self.sequence_span(span, style);
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
        match item {
            Item::Sequence(span) | Item::Mapping(span) if span.start < span.end => self.brackets.push(*span),
            Item::End(span) => {
                self.level -= 1;
                if span.start < span.end {
                    self.brackets.pop();
                }
            }
            _ => {}
        }
        if anchor != 0 {
            // The name follows at once; its own span lies before the node.
            if let Some((Event::Anchor(id, name), span)) = self.event()? {
                let span = self.span(span);
                self.charge_written(span, ANCHOR)?;
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
            self.charge_written(item.span(), 1)?;
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

    pub(super) fn event(&mut self) -> Result<Option<(Event<'t>, granit_parser::Span)>, Stop> {
        match self.events.next() {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let bracket = self.brackets.last().copied();
                self.problems.push(syntax::diagnose(self.source, self.text, &error, bracket));
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
        let plain = style == ScalarStyle::Plain;
        let core = match tag {
            None if plain => None,
            None => return Ok(NodeKind::String(text.into())),
            Some(tag) => match tag.core_suffix() {
                Some("str") => return Ok(NodeKind::String(text.into())),
                // `!` alone means: text.
                None if tag.original() == "!" => return Ok(NodeKind::String(text.into())),
                None => {
                    self.report_custom_tag(tag, tag_span.unwrap_or(span))?;
                    if !plain {
                        return Ok(NodeKind::String(text.into()));
                    }
                    None
                }
                core => core,
            },
        };
        let kind = match scalar::resolve(&text) {
            Ok(Some(kind)) => kind,
            Ok(None) => NodeKind::String(text.into()),
            Err(OutOfRange) => {
                let mut problem = codes::NUMBER_RANGE.at(span, "the number does not fit into 64 bits");
                problem.help = Some("quote it if it is text".to_owned());
                self.report(problem)?;
                NodeKind::String(text.into())
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

    /// The place in the text, made safe to slice with.
    pub(super) fn span(&self, span: granit_parser::Span) -> Span {
        let range = span.byte_range().unwrap_or_default();
        let start = self.text.floor_char_boundary(range.start);
        Span { source: self.source, start, end: self.text.floor_char_boundary(range.end).max(start) }
    }

    /// Where a sequence starts: of one that is indented like its key the parser tells the place behind the first `-`.
    fn sequence_span(&self, span: Span, style: StructureStyle) -> Span {
        let before = self.text[..span.start].trim_end();
        if style == StructureStyle::Block && !self.text[span.start..].starts_with('-') && before.ends_with('-') {
            let start = before.len() - 1;
            return Span { start, end: start, ..span };
        }
        span
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
