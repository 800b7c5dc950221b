//! Which keys are in no table of flows, for certain: see
//! [`hostfw_common::filter`].

use core::arch::asm;

use hostfw_common::{
    conntrack::FlowKey,
    filter::{self, HEAD_BANK, HEAD_MASK, HEAD_SECRET, Mark, Secret},
    index::{LINE_WORDS, Line},
};

use crate::maps::FLOW_FILTER;

/// What the first line of the map says.
struct Head {
    /// First line of the bank to look up in, or 0.
    bank: u32,
    mask: u32,
    mark: Mark,
}

/// The head, and which bits stand for the key. `None` is an array without
/// elements, which there is none of.
#[inline(always)]
fn head(key: [u64; 5]) -> Option<Head> {
    let words: *const u64 = FLOW_FILTER.get_ptr(0)?.cast();
    // SAFETY: a line of a map, which is never freed while the program runs, has
    // so many words. Volatile: the agent may write them meanwhile.
    let word = |at: usize| unsafe { words.add(at).read_volatile() };
    let secret: Secret = [
        word(HEAD_SECRET),
        word(HEAD_SECRET + 1),
        word(HEAD_SECRET + 2),
        word(HEAD_SECRET + 3),
        word(HEAD_SECRET + 4),
        word(HEAD_SECRET + 5),
    ];
    Some(Head {
        bank: word(HEAD_BANK) as u32,
        mask: word(HEAD_MASK) as u32,
        mark: Mark::of(key, &secret),
    })
}

/// The word of a bank in which the bits stand.
#[inline(always)]
fn word(head: &Head, bank: u32) -> Option<*mut u64> {
    let line: *mut Line = FLOW_FILTER.get_ptr_mut(bank.wrapping_add(head.mark.line(head.mask)))?;
    const { assert!(size_of::<Line>() == LINE_WORDS * size_of::<u64>()) };
    // SAFETY: within the line.
    Some(unsafe { line.cast::<u64>().add(head.mark.word()) })
}

/// Whether one of the tables of flows may have the key; false only if neither
/// has.
#[inline(always)]
pub(crate) fn may_know(key: [u64; 5]) -> bool {
    let Some(head) = head(key) else {
        return true;
    };
    if head.bank == 0 {
        return true;
    }
    let Some(word) = word(&head, head.bank) else {
        return true;
    };
    let bits = head.mark.bits();
    // SAFETY: a word of the map. Volatile: others write it meanwhile.
    unsafe { word.read_volatile() & bits == bits }
}

/// [`may_know`] of a key in one piece, where a call more does not matter: the
/// verifier follows it once, and not on all ways that lead here.
#[inline(always)]
pub(crate) fn may_know_key(key: &FlowKey) -> bool {
    hostfw_may_know_flow(key) != 0
}

/// [`may_know_key`], global to the verifier: see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_may_know_flow(key: *const FlowKey) -> u32 {
    // SAFETY: `may_know_key`, the only caller, hands in a reference.
    let Some(key) = (unsafe { key.as_ref() }) else {
        return 1;
    };
    u32::from(may_know(key.words()))
}

/// Notes that the key is about to be inserted. Whatever the filter is used for
/// at the moment: it may be put to use before the program ends.
#[inline(always)]
pub(crate) fn mark(key: &FlowKey) {
    hostfw_mark_flow(key);
}

/// [`mark`], global to the verifier: see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_mark_flow(key: *const FlowKey) -> u32 {
    // SAFETY: `mark`, the only caller, hands in a reference.
    let Some(key) = (unsafe { key.as_ref() }) else {
        return 0;
    };
    let Some(head) = head(key.words()) else {
        return 0;
    };
    let bits = head.mark.bits();
    for bank in filter::banks(head.mask.wrapping_add(1)) {
        let Some(word) = word(&head, bank) else {
            return 0;
        };
        // SAFETY: a word of the map. Flows of one kind set the same bits over
        // and over: writing makes the line travel between CPUs.
        unsafe {
            if word.read_volatile() & bits != bits {
                set(word, bits);
            }
        }
    }
    1
}

/// Sets bits of a word that other CPUs and the agent change at the same time.
///
/// An instruction of its own (Linux 5.12), since the compiler takes this target
/// for one that has none.
///
/// # Safety
///
/// `word` is one of an element of a map.
#[inline(always)]
unsafe fn set(word: *mut u64, bits: u64) {
    // SAFETY: it changes the word and nothing else.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) |= {bits}",
            word = in(reg) word,
            bits = in(reg) bits,
            options(nostack),
        );
    }
}
