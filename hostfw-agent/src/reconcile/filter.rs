//! Looks after the filter of flows, beside the loop.

use std::time::{Duration, Instant};

use tokio::{task::spawn_blocking, time};

use crate::attach::FilterKeeper;

/// How often it is looked at: a few hundred kilobytes are read.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes the filter anew whenever it is too full, on a thread of its own: there may
/// be a million flows.
pub fn keep_filter(keeper: FilterKeeper) {
    tokio::spawn(async move {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let keeper = keeper.clone();
            match spawn_blocking(move || keeper.tend(Instant::now())).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the filter of flows cannot be made anew");
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    });
}
