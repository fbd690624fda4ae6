//! What came of a plan.

use serde::Serialize;

use crate::backend::ErrorKind;
use crate::plan::Action;
use crate::resource::ResourceId;

/// How one change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Ending {
    /// Done and verified.
    Done,
    /// Failed; what was there before is there again if `rolled_back`.
    Failed {
        /// The step that failed.
        step: String,
        /// Why.
        message: String,
        /// What to do.
        help: Option<String>,
        /// The old state is back.
        rolled_back: bool,
        /// Decides the exit code.
        #[serde(skip)]
        kind: ErrorKind,
    },
    /// Not tried, because of another change or an interrupt.
    NotTried {
        /// The change it waited for; `None` after an interrupt.
        waited_for: Option<ResourceId>,
    },
}

/// One change and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Result {
    /// The resource.
    pub resource: ResourceId,
    /// What was to happen.
    pub action: Action,
    /// Where it is written.
    pub origin: Option<String>,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
}

/// The ends of all changes that were to do something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// In the order of the plan.
    pub results: Vec<Result>,
    /// Whether an interrupt ended the run.
    pub interrupted: bool,
}

impl Outcome {
    /// Whether everything was done.
    pub fn is_done(&self) -> bool {
        !self.interrupted && self.results.iter().all(|result| result.ending == Ending::Done)
    }
}

/// Something that happened while a plan was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A change begins.
    Started {
        /// The resource.
        resource: ResourceId,
        /// What happens to it.
        action: Action,
    },
    /// A step begins, or tells how far it is.
    Step {
        /// The resource.
        resource: ResourceId,
        /// In words.
        message: String,
    },
    /// A step is tried again.
    Retry {
        /// The resource.
        resource: ResourceId,
        /// Why.
        message: String,
        /// Which attempt begins, from 2.
        attempt: u32,
    },
    /// A change ended.
    Ended(Result),
}
