//! Test runs: what they are told to believe, and what they tell of a packet's
//! way.
//!
//! [`TRIAL_MODE`] is 0 in programs that do real work. The verifier knows that
//! word (it lies in memory that the loader has frozen), sees that nothing here
//! can run, and leaves it out.

use aya_ebpf::Global;
use hostfw_common::{
    counter::Checkpoint,
    policy::RuleEntry,
    trial::{Step, TRACKED_REALLY, Trial},
    verdict::Reason,
};

use crate::{
    maps::{TRACE, TRIAL},
    report::Origin,
};

/// Not 0 in test runs; see [`hostfw_common::names::TRIAL_MODE`].
#[unsafe(no_mangle)]
static TRIAL_MODE: Global<u8> = Global::new(0);

/// What the test run is to believe; `None` if this is no test run.
#[inline(always)]
pub(crate) fn given() -> Option<Trial> {
    if TRIAL_MODE.load() == 0 {
        return None;
    }
    // SAFETY: an entry of an array map, which is never freed while the program
    // runs; test runs wait for each other.
    TRIAL.get_ptr(0).map(|trial| unsafe { *trial })
}

/// What the test run is to believe of a packet's flow, one of `TRACKED_*`;
/// `None` if conntrack is to be asked.
#[inline(always)]
pub(crate) fn tracked() -> Option<u8> {
    let tracked = given()?.tracked;
    (tracked != TRACKED_REALLY).then_some(tracked)
}

/// Tells what a stage made of a packet.
#[inline(always)]
pub(crate) fn step(origin: &Origin, reason: Reason, rule: Option<&RuleEntry>) {
    if TRIAL_MODE.load() == 0 || origin.quiet {
        return;
    }
    let Some(trace) = TRACE.get_ptr_mut(0) else {
        return;
    };
    let step = Step {
        rule: rule.copied().unwrap_or_default(),
        seen: 1,
        reason: reason as u8,
        list: origin.list as u8,
        _pad: 0,
    };
    // SAFETY: as in `given`.
    unsafe { (*trace).steps[origin.list.stage() as usize] = step };
}

/// Tells what became of the packet at all.
#[inline(always)]
pub(crate) fn counted(checkpoint: Checkpoint, reason: Reason) {
    if TRIAL_MODE.load() == 0 {
        return;
    }
    let Some(trace) = TRACE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: as in `given`.
    unsafe {
        (*trace).counted = 1;
        (*trace).checkpoint = checkpoint as u8;
        (*trace).reason = reason as u8;
    }
}
