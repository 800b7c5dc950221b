//! Packets and bytes by rule.
//!
//! A packet counts at the rule that decides about it, and at each that it matches on
//! the way there. What conntrack lets pass is judged by no rule, and counts at none.

use hostfw_common::counter::{Counter, PAGE_COUNTERS};

use crate::{maps::RULE_COUNTERS, report::Origin};

/// Counts the packet at an entry of the list that is asked.
#[inline(always)]
pub(crate) fn rule(origin: &Origin, entry: u32) {
    let number = origin.counters.counter(entry);
    if let Some(page) = RULE_COUNTERS.get_ptr_mut(number / PAGE_COUNTERS) {
        let counters: *mut Counter = page.cast();
        // SAFETY: within the page. This CPU's own, as in `report::count`: a list is
        // asked at one hook.
        unsafe {
            let counter = counters.add((number % PAGE_COUNTERS) as usize);
            (*counter).packets += 1;
            (*counter).bytes += u64::from(origin.bytes);
        }
    }
}
