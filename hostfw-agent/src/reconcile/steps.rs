//! How long the steps of a pass take.

use std::time::{Duration, Instant};

use tracing::debug;

/// Tells the log of each step that is done.
pub(super) struct Steps {
    since: Instant,
}

impl Steps {
    pub(super) fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// A step that began when the one before was done.
    pub(super) fn done(&mut self, step: &str) -> Duration {
        let took = self.since.elapsed();
        debug!(step, ?took);
        self.since = Instant::now();
        took
    }
}
