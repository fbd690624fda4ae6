//! Where things are written, kept apart from what they are.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Place in a file. Lines and columns count from 1, columns count characters; the end is exclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file as it was named by the user, `<stdin>` for standard input.
    pub file: String,
    /// First line.
    pub line: usize,
    /// First column.
    pub column: usize,
    /// Last line.
    pub end_line: usize,
    /// Column after the last character.
    pub end_column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A [`Location`] whose file is told by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub source: usize,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

impl Place {
    pub(crate) fn in_file(self, file: String) -> Location {
        let Self { source: _, line, column, end_line, end_column } = self;
        Location { file, line, column, end_line, end_column }
    }
}

/// Locations of keys by dotted path: `sandboxes.api`, `sandboxes.api.worktrees.0`, `images.base`, `secrets.token`.
///
/// Replicas have the location of the sandbox they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    files: Vec<String>,
    places: HashMap<String, Place>,
}

impl Origins {
    /// None yet, in texts of these names.
    pub(crate) fn of(files: Vec<String>) -> Self {
        Self { files, places: HashMap::new() }
    }

    /// Records where `path` was written.
    pub(crate) fn insert(&mut self, path: impl Into<String>, place: Place) {
        self.places.insert(path.into(), place);
    }

    /// The location of `path`, or of its nearest recorded parent.
    pub fn find(&self, path: &str) -> Option<Location> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place.in_file(self.files.get(place.source)?.clone()));
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}
