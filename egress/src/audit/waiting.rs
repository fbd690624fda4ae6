//! Room for records that wait to be written, so shared that nobody takes all of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::log::{WAITING, Whose};

/// Those that may be of one sandbox: while the disk is slow, nobody fills what is the room of others too.
const SHARE: usize = WAITING / 4;

/// How many records of each wait to be written.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<Whose, usize>>);

impl Waiting {
    /// Room for one more, if there is.
    pub(super) fn take(&self, whose: &Whose) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(whose) {
            Some(many) if *many >= SHARE => false,
            Some(many) => {
                *many += 1;
                true
            }
            None => waiting.insert(whose.clone(), 1).is_none(),
        }
    }

    /// Room of so many that do not wait any more.
    pub(super) fn give_back(&self, whose: &Whose, many: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = waiting.get_mut(whose) {
            *left = left.saturating_sub(many);
            if *left == 0 {
                waiting.remove(whose);
            }
        }
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sandbox_fills_no_more_than_its_share_of_what_waits() {
        let [api, web] = ["api", "web"].map(|sandbox| ("acme".to_owned(), sandbox.to_owned()));
        let waiting = Waiting::default();
        let taken = (0..2 * SHARE).filter(|_| waiting.take(&api)).count();
        assert_eq!(taken, SHARE);
        assert!(waiting.take(&web), "others have theirs");
        waiting.give_back(&api, 1);
        assert_eq!((0..2).filter(|_| waiting.take(&api)).count(), 1);
        waiting.give_back(&api, SHARE);
        waiting.give_back(&web, 1);
        assert!(waiting.is_empty());
    }
}
