//! The filter in front of the tables of flows, as the agent keeps it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hostfw_common::names::{CONFIRMED, FLOW_FILTER, HALF_OPEN};

use super::{Dataplane, DataplaneError};
use crate::maps::{FlowFilter, MapsError, bpf, pins::Pins};

/// What tells the programs which packets are of no flow for certain. To be used
/// by any thread.
///
/// Whoever inserts a flow holds the lock from before it is marked until it is
/// inserted: what makes the filter anew waits for programs to return, and not for
/// other threads.
#[derive(Clone)]
pub struct FilterKeeper(Arc<Mutex<FlowFilter>>);

impl fmt::Debug for FilterKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FilterKeeper").finish_non_exhaustive()
    }
}

impl FilterKeeper {
    /// On the maps that are pinned.
    pub(super) fn open(pins: &Pins) -> Result<Self, MapsError> {
        let open = |name: &'static str| {
            bpf::open_pin(&pins.maps().join(name)).map_err(MapsError::bpf(name))
        };
        let filter = FlowFilter::open(open(FLOW_FILTER)?, open(HALF_OPEN)?, open(CONFIRMED)?)?;
        Ok(Self(Arc::new(Mutex::new(filter))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FlowFilter> {
        // Who panicked has left the bank that is in use as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the filter anew if it is too full, and the last time is long enough
    /// ago. Whether it did.
    ///
    /// # Errors
    ///
    /// If the flows cannot be read. The filter is as it was.
    pub fn tend(&self, now: Instant) -> Result<bool, DataplaneError> {
        Ok(self.lock().tend(now)?)
    }

    /// Makes the filter anew.
    ///
    /// # Errors
    ///
    /// As [`tend`](Self::tend).
    pub fn renew(&self) -> Result<(), DataplaneError> {
        Ok(self.lock().renew()?)
    }

    /// The share of its bits that are set; 0 if it is not in use.
    #[must_use]
    pub fn fill(&self) -> f64 {
        self.lock().fill()
    }
}

impl Dataplane {
    /// What keeps the filter.
    #[must_use]
    pub fn filter_keeper(&self) -> FilterKeeper {
        self.filter.clone()
    }
}
