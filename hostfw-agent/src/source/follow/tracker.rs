//! Which files are being written: a plain state machine over events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// A file that is open for writing but was left alone for this long counts as
/// complete: not every writer closes, and a hard link is never closed.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// What happened to a name in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// Made, or written to: `IN_CREATE`, `IN_MODIFY`.
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
    /// When each was last written to.
    writing: BTreeMap<String, Instant>,
}

impl Tracker {
    /// Takes in an event, and says whether the folder is to be read again.
    pub(super) fn take(&mut self, name: &str, event: FileEvent, now: Instant) -> bool {
        match event {
            FileEvent::Written => {
                self.writing.insert(name.to_owned(), now);
                // Nothing to read yet: it is told when it is complete.
                false
            }
            FileEvent::Closed | FileEvent::MovedIn | FileEvent::Gone => {
                self.writing.remove(name);
                true
            }
            FileEvent::Attributes => !self.writing.contains_key(name),
        }
    }

    /// Forgets files that were left alone for [`SETTLED`], and says whether
    /// there were any.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let before = self.writing.len();
        self.writing.retain(|_, last| *last + SETTLED > now);
        self.writing.len() != before
    }

    /// When [`settle`](Self::settle) will find something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.writing.values().min().map(|last| *last + SETTLED)
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
    fn a_writer_that_does_not_close_is_waited_for_two_seconds_from_its_last_write() {
        let start = Instant::now();
        let mut tracker = Tracker::default();
        tracker.take("a.yaml", FileEvent::Written, start);
        let later = start + Duration::from_secs(1);
        tracker.take("a.yaml", FileEvent::Written, later);
        assert_eq!(tracker.deadline(), Some(later + SETTLED));
        assert!(!tracker.settle(start + SETTLED));
        assert!(tracker.settle(later + SETTLED));
        assert_eq!(tracker.being_written(), BTreeSet::new());
        assert!(!tracker.settle(later + SETTLED));
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
