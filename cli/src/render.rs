//! Values into text. Nothing here looks at the world: what is shown is passed in, and so is how it may look.

pub mod creation;
pub mod daemon;
pub mod diagnostics;
pub mod diff;
pub mod explanation;
pub mod field;
pub mod json;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod record;
#[cfg(test)]
pub mod sample;
pub mod status;
pub mod tests;
pub mod text;
