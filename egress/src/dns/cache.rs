//! Answers as they were sent, by questions as they came.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::civil::Date;

use crate::pool::Lease;

/// Most answers of one generation; there are two.
const MOST: usize = 1024;

/// Longest question that is kept.
const MAX_QUESTION: usize = 512;

/// What answers follow from: the sandbox's epoch, the day, whether it has IPv6.
type Stands = (u64, Date, bool);

/// Keeps what was asked for lately.
///
/// Both question and answer are without their first two bytes, the message's id: everything else that an answer depends on
/// is in the question, byte for byte, or in what the cache is held for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    stands: Option<Stands>,
    young: HashMap<Box<[u8]>, Cached>,
    old: HashMap<Box<[u8]>, Cached>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Cached {
    /// Without its id.
    pub response: Box<[u8]>,
    /// What has to be told that it was given out again.
    pub lease: Option<Arc<Lease>>,
    /// The name if it is refused, and when that is to be recorded again.
    pub refused: Option<(String, Instant)>,
}

impl Cache {
    /// Forgets everything if answers followed from something else.
    pub fn hold_for(&mut self, stands: Stands) {
        if self.stands.as_ref() != Some(&stands) {
            self.young.clear();
            self.old.clear();
            self.stands = Some(stands);
        }
    }

    /// The answer to `question`.
    pub fn get(&mut self, question: &[u8]) -> Option<&mut Cached> {
        if !self.young.contains_key(question) {
            let (question, cached) = self.old.remove_entry(question)?;
            self.insert(question, cached);
        }
        self.young.get_mut(question)
    }

    /// Keeps an answer.
    pub fn put(&mut self, question: &[u8], cached: Cached) {
        if question.len() <= MAX_QUESTION {
            self.insert(question.into(), cached);
        }
    }

    fn insert(&mut self, question: Box<[u8]>, cached: Cached) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question, cached);
    }
}
