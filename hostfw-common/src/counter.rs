//! Packets and bytes by direction and reason.

use crate::{
    boundary,
    verdict::{Direction, Reason},
};

/// Value of [`COUNTERS`](crate::names::COUNTERS), per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counter {
    /// Packets decided.
    pub packets: u64,
    /// Their bytes, link-layer header included.
    pub bytes: u64,
}

/// Slots that each direction has: a power of two above the number of reasons.
pub const REASON_SLOTS: u32 = 32;
/// Entries of the counter map.
pub const COUNTER_SLOTS: u32 = 2 * REASON_SLOTS;

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS as usize);

/// Index in [`COUNTERS`](crate::names::COUNTERS).
#[inline(always)]
#[must_use]
pub const fn slot(direction: Direction, reason: Reason) -> u32 {
    direction as u32 * REASON_SLOTS + reason as u32
}

boundary!(Counter = 16);
