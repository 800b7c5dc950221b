//! Which files are being written: a plain state machine over events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// A file that was made but never written to counts as complete after this
/// long: a link is never closed.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// What happened to a name in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// Made: `IN_CREATE`.
    Made,
    /// Written to or truncated: `IN_MODIFY`.
    Written,
    /// Its writer closed it: `IN_CLOSE_WRITE`.
    Closed,
    /// Renamed into place, complete: `IN_MOVED_TO`.
    MovedIn,
    /// Removed or renamed away: `IN_DELETE`, `IN_MOVED_FROM`.
    Gone,
    /// Permissions, owner, time stamps: `IN_ATTRIB`.
    Attributes,
}

/// The files that are being written.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// When each was made; `None` once it was written to, for then its writer
    /// has it open, and will close it.
    writing: BTreeMap<String, Option<Instant>>,
}

impl Tracker {
    /// Takes in an event, and says whether the folder is to be read again.
    pub(super) fn take(&mut self, name: &str, event: FileEvent, now: Instant) -> bool {
        match event {
            // Nothing to read yet: it is told when it is complete.
            FileEvent::Made => {
                self.writing.insert(name.to_owned(), Some(now));
                false
            }
            FileEvent::Written => {
                self.writing.insert(name.to_owned(), None);
                false
            }
            FileEvent::Closed | FileEvent::MovedIn | FileEvent::Gone => {
                self.writing.remove(name);
                true
            }
            FileEvent::Attributes => !self.writing.contains_key(name),
        }
    }

    /// Forgets files that were made and not written to for [`SETTLED`], and
    /// says whether there were any.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let before = self.writing.len();
        self.writing
            .retain(|_, made| made.is_none_or(|made| made + SETTLED > now));
        self.writing.len() != before
    }

    /// When [`settle`](Self::settle) will find something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let made = self.writing.values().copied().flatten().min();
        made.map(|made| made + SETTLED)
    }

    /// Names of the files that are being written.
    pub(super) fn being_written(&self) -> BTreeSet<String> {
        self.writing.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_until_it_is_closed() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        assert!(!tracker.take("a.yaml", FileEvent::Written, now));
        assert!(!tracker.take("a.yaml", FileEvent::Written, now));
        assert_eq!(
            tracker.being_written(),
            BTreeSet::from(["a.yaml".to_owned()])
        );
        assert!(tracker.take("a.yaml", FileEvent::Closed, now));
        assert_eq!(tracker.being_written(), BTreeSet::new());
        assert_eq!(tracker.deadline(), None);
    }

    #[test]
    fn a_link_is_complete_after_a_while_but_not_what_is_written() {
        let start = Instant::now();
        let mut tracker = Tracker::default();
        tracker.take("link.yaml", FileEvent::Made, start);
        tracker.take("a.yaml", FileEvent::Made, start);
        tracker.take("a.yaml", FileEvent::Written, start);
        assert_eq!(tracker.deadline(), Some(start + SETTLED));
        assert!(tracker.settle(start + SETTLED));
        assert_eq!(
            tracker.being_written(),
            BTreeSet::from(["a.yaml".to_owned()])
        );
        assert_eq!(tracker.deadline(), None);
        assert!(!tracker.settle(start + SETTLED * 100));
    }

    #[test]
    fn renaming_into_place_is_complete_at_once() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        tracker.take("a.yaml", FileEvent::Written, now);
        assert!(tracker.take("a.yaml", FileEvent::MovedIn, now));
        assert_eq!(tracker.being_written(), BTreeSet::new());
    }

    #[test]
    fn a_removed_file_is_no_longer_written() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        tracker.take("a.yaml", FileEvent::Written, now);
        tracker.take("b.yaml", FileEvent::Written, now);
        assert!(tracker.take("a.yaml", FileEvent::Gone, now));
        assert_eq!(
            tracker.being_written(),
            BTreeSet::from(["b.yaml".to_owned()])
        );
    }

    #[test]
    fn permissions_matter_except_while_writing() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        assert!(tracker.take("a.yaml", FileEvent::Attributes, now));
        tracker.take("a.yaml", FileEvent::Written, now);
        assert!(!tracker.take("a.yaml", FileEvent::Attributes, now));
    }
}
