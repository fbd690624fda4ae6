//! A sandbox as the data path knows it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::audit::Sink;
use crate::generation::Generation;

/// Shared by everything that serves one sandbox.
pub struct Sandbox {
    /// Project.
    pub project: String,
    /// Name.
    pub name: String,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    current: ArcSwap<Generation>,
}

impl Sandbox {
    /// A sandbox served by `generation`.
    pub fn new(project: String, name: String, sink: Arc<dyn Sink>, generation: Generation) -> Self {
        Self { project, name, sink, current: ArcSwap::from_pointee(generation) }
    }

    /// The generation in force. A decision takes it once and asks it only.
    pub fn generation(&self) -> Guard<Arc<Generation>> {
        self.current.load()
    }

    /// Puts another generation in force; returns the one before.
    pub fn swap(&self, generation: Generation) -> Arc<Generation> {
        self.current.swap(Arc::new(generation))
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("project", &self.project).field("name", &self.name).finish_non_exhaustive()
    }
}
