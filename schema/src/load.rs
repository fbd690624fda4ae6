//! From texts to a configuration.

use crate::document::{self, Node};
use crate::resolve::Resolver;
use crate::structure::{Check, Extent};
use crate::{Caller, Config, Diagnostic, Severity, Sources, merge, report};

/// What came of the texts.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when there are errors.
    pub config: Option<Config>,
    /// Every problem, in the order of the texts.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads, merges, checks and resolves.
///
/// Later sources are laid over earlier ones ([`merge()`]). All problems of all sources are reported, each once, also where
/// a later source hides what is wrong.
pub fn load(sources: &Sources, caller: &Caller) -> Loaded {
    let mut problems = Vec::new();
    let mut layers: Vec<Node> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        layers.extend(document::parse(index, &source.text, &mut problems));
    }
    if layers.len() > 1 {
        for layer in &layers {
            Check::new(Extent::Layer, &mut problems).document(layer);
        }
    }
    // What is missing in a part of the text that could not be read is no news.
    let complete = layers.len() == sources.len();
    let config = layers.into_iter().reduce(|base, over| merge(&base, &over)).map(|root| {
        let mut resolver = Resolver::new(sources, caller, &root);
        let config = resolver.config();
        problems.append(&mut resolver.into_problems());
        config
    });
    // What is wrong in `defaults` is found again with every sandbox; sorting keeps it once.
    report::sort(&mut problems);
    let failed = !complete || problems.iter().any(|problem| problem.severity == Severity::Error);
    Loaded { config: config.flatten().filter(|_| !failed), diagnostics: problems }
}
