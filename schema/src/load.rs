//! From texts to a configuration.

use crate::codes::UNSUPPORTED_VERSION;
use crate::document::{self, Node};
use crate::resolve::Resolver;
use crate::structure::{Check, Extent};
use crate::{Caller, Config, Diagnostic, Severity, Sources, merge, report};

/// What came of the texts.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when there are errors.
    pub config: Option<Config>,
    /// With errors in what could be read: what its policies and assertions can be judged by. Those that errors have to do
    /// with are not there, so that whatever is found holds. Nothing else of it is of any use.
    pub partial: Option<Config>,
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
    let readable = !problems.iter().any(is_error);
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
    let failed = !complete || problems.iter().any(is_error);
    let known = !problems.iter().any(|problem| problem.code == UNSUPPORTED_VERSION.code);
    let (config, partial) =
        if failed { (None, config.filter(|_| complete && readable && known)) } else { (config, None) };
    Loaded { config, partial, diagnostics: problems }
}

fn is_error(problem: &Diagnostic) -> bool {
    problem.severity == Severity::Error
}
