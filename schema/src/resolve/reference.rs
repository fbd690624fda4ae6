//! Names that refer to entries of the file.

use std::collections::HashMap;

use super::Resolver;
use crate::codes::{UNKNOWN_REFERENCE, UNUSED};
use crate::document::Node;
use crate::structure::show;
use crate::suggest::did_you_mean;
use crate::{Name, Severity, Span};

/// What a name can refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Volume,
    Network,
    Secret,
    Profile,
    Allowlist,
}

impl Kind {
    /// In their order.
    const ALL: [Self; 6] = [Self::Image, Self::Volume, Self::Network, Self::Secret, Self::Profile, Self::Allowlist];

    fn word(self) -> &'static str {
        super::kind_of(self.section())
    }

    fn section(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Volume => "volumes",
            Self::Network => "networks",
            Self::Secret => "secrets",
            Self::Profile => "profiles",
            Self::Allowlist => "allowlists",
        }
    }
}

/// The image that is there without being written.
pub(super) const BUILT_IN_IMAGE: &str = "host";

/// Problems after which names are no longer compared.
const MOST_GUESSES: usize = 200;

/// Every name of the file that can be referred to, and whether it was. Entries with problems count as well: a reference
/// to them is not another problem.
pub(super) struct Known<'a>([HashMap<&'a str, Mark>; Kind::ALL.len()]);

struct Mark {
    span: Span,
    used: bool,
}

impl<'a> Known<'a> {
    pub(super) fn of(root: &'a Node) -> Self {
        let section = |kind: Kind| {
            let entries = root.get(kind.section()).map(Node::entries).unwrap_or_default();
            entries.iter().map(|entry| (&*entry.key, Mark { span: entry.key_span, used: false })).collect()
        };
        Self(Kind::ALL.map(section))
    }

    /// Marks a name as used; whether it is there.
    pub(super) fn take(&mut self, kind: Kind, name: &str) -> bool {
        match self.0[kind as usize].get_mut(name) {
            Some(mark) => {
                mark.used = true;
                true
            }
            None => false,
        }
    }

    /// Whether a name is there.
    pub(super) fn has(&self, kind: Kind, name: &str) -> bool {
        self.0[kind as usize].contains_key(name)
    }

    fn names(&self, kind: Kind) -> impl Iterator<Item = &'a str> {
        self.0[kind as usize].keys().copied()
    }

    fn unused(&self) -> impl Iterator<Item = (Kind, &'a str, Span)> {
        let marks = Kind::ALL.into_iter().zip(&self.0);
        let marks = marks.flat_map(|(kind, names)| names.iter().map(move |(name, mark)| (kind, *name, mark)));
        marks.filter(|(.., mark)| !mark.used).map(|(kind, name, mark)| (kind, name, mark.span))
    }
}

impl Resolver<'_> {
    /// `name`, written at `span`, as a reference to a `kind`.
    pub(super) fn reference(&mut self, kind: Kind, name: &str, span: Span) -> Option<Name> {
        self.known.take(kind, name);
        self.mention(kind, name, span)
    }

    /// As [`Resolver::reference`], where naming a thing does not mean that it is used.
    pub(super) fn mention(&mut self, kind: Kind, name: &str, span: Span) -> Option<Name> {
        if self.known.has(kind, name) || (kind == Kind::Image && name == BUILT_IN_IMAGE) {
            // A name that breaks the rule is reported where it is defined.
            return Name::new(name).ok();
        }
        let (word, section) = (kind.word(), kind.section());
        let mut candidates: Vec<&str> = Vec::new();
        // Looking for what was meant costs as much as there are names; after so many mistakes nobody reads it.
        if self.problems.len() < MOST_GUESSES {
            candidates.extend(self.known.names(kind));
            candidates.extend((kind == Kind::Image).then_some(BUILT_IN_IMAGE));
            candidates.sort_unstable();
        }
        let help = match did_you_mean(name, candidates.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add it under `{section}`, or use one that is there"),
        };
        self.problem(UNKNOWN_REFERENCE.at(span, format!("there is no {word} `{}`", show(name))).with_help(help));
        None
    }

    /// Warns of entries nothing refers to. Not while there are errors: what uses them may be what is wrong.
    pub(super) fn warn_of_unused(&mut self) {
        if self.problems.iter().any(|problem| problem.severity == Severity::Error) {
            return;
        }
        self.warn_of_unused_parameters();
        let unused: Vec<_> = self.known.unused().collect();
        for (kind, name, span) in unused {
            self.problem(
                UNUSED
                    .at(span, format!("{} `{name}` is not used by any sandbox", kind.word()))
                    .with_help("remove it, or use it"),
            );
        }
    }
}
