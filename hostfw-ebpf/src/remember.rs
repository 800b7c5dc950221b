//! Which rule decided the last packets of the same classes.
//!
//! A flood differs in what no rule asks, so its packets have few classes. What
//! decided about one of them is remembered for the next: for each CPU, in a
//! table in which each set of classes has one place.

use core::arch::asm;

use aya_ebpf::Global;
use hostfw_common::{limits, policy::ListId, stage::List};

use crate::{index::Classes, maps::REMEMBERED, report::Origin};

/// 0: nothing is remembered. See [`hostfw_common::names::REMEMBER`].
#[unsafe(no_mangle)]
static REMEMBER: Global<u8> = Global::new(1);

/// A place of the table.
///
/// Programs of one CPU may interrupt each other: a hard interrupt may send a
/// packet while another is looked at. So the words are good only while
/// `sequence` is even, and the same before and after they are read; and whoever
/// writes first makes it odd, or leaves it to the one that has.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Remembered {
    sequence: u64,
    generation: u64,
    classes: [u64; 2],
    /// The [`Outcome`]; behind it in 16 bits the list, and in 16 the rule with
    /// action Pass.
    verdict: u64,
}

/// Whether verdicts on packets that are looked at here are remembered.
///
/// Only the programs at the wire do so: they run with softirqs disabled, so
/// that two packets of one CPU are not looked at in turns. A netfilter program
/// may run where a process sends, and be moved to another CPU in the middle.
#[inline(always)]
pub(crate) fn remembers(origin: &Origin) -> bool {
    REMEMBER.load() != 0
        && !origin.quiet
        && matches!(
            origin.list,
            List::UntrackedIn | List::UntrackedOut | List::PreDnat | List::NormalOut
        )
}

/// What was found in a list: the number of a rule and its action, or
/// [`NO_MATCH`](Self::NO_MATCH), and which rule with action Pass was ahead of it.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    found: u32,
    passed: u32,
}

impl Outcome {
    /// No rule matches. No list has that many.
    pub(crate) const NO_MATCH: Self = Self {
        found: u16::MAX as u32,
        passed: Self::NO_PASS,
    };
    /// The number of no rule.
    pub(crate) const NO_PASS: u32 = u16::MAX as u32;

    #[inline(always)]
    pub(crate) const fn rule(number: u32, action: u8) -> Self {
        const { assert!(limits::MAX_RULES + 1 < Self::NO_PASS) };
        Self {
            found: (action as u32) << 16 | number & 0xffff,
            passed: Self::NO_PASS,
        }
    }

    /// The same, behind a rule with action Pass or [`NO_PASS`](Self::NO_PASS).
    #[inline(always)]
    pub(crate) const fn behind(self, passed: u32) -> Self {
        Self { passed, ..self }
    }

    /// Whether no rule matches.
    #[inline(always)]
    pub(crate) const fn is_no_match(self) -> bool {
        self.found == Self::NO_MATCH.found
    }

    /// The rule with action Pass, if there was one.
    #[inline(always)]
    pub(crate) fn passed(self) -> Option<u32> {
        (self.passed != Self::NO_PASS).then_some(self.passed)
    }

    /// The number of the rule in its list.
    #[inline(always)]
    pub(crate) const fn number(self) -> u32 {
        self.found & 0xffff
    }

    /// The number of its action.
    #[inline(always)]
    pub(crate) const fn action(self) -> u8 {
        (self.found >> 16) as u8
    }
}

/// What was found for packets of these classes, if it is remembered.
#[inline(always)]
pub(crate) fn recall(list: ListId, classes: &Classes, generation: u64) -> Option<Outcome> {
    let (words, place) = key(list.number, classes);
    let place = REMEMBERED.get_ptr(place)?;
    // SAFETY: an element of a map, which is never freed while the program runs.
    // Volatile: each word is read once, in this order.
    unsafe {
        let before = (&raw const (*place).sequence).read_volatile();
        let remembered = (&raw const (*place).generation).read_volatile();
        let first = (&raw const (*place).classes[0]).read_volatile();
        let second = (&raw const (*place).classes[1]).read_volatile();
        let verdict = (&raw const (*place).verdict).read_volatile();
        let after = (&raw const (*place).sequence).read_volatile();
        let good = before & 1 == 0
            && before == after
            && remembered == generation
            && first == words[0]
            && second == words[1]
            && (verdict >> 32) as u32 & 0xffff == list.number;
        good.then_some(Outcome {
            found: verdict as u32,
            passed: (verdict >> 48) as u32,
        })
    }
}

/// Remembers what was found for packets of these classes.
#[inline(always)]
pub(crate) fn remember(list: ListId, classes: &Classes, generation: u64, outcome: Outcome) {
    const { assert!(limits::MAX_LISTS <= 1 << 16) };
    let list = list.number | outcome.passed << 16;
    hostfw_remember(list, classes, generation, outcome.found);
}

/// The classes, two to a word, and their place in the table.
#[inline(always)]
fn key(list: u32, classes: &Classes) -> ([u64; 2], u32) {
    let [a, b, c, d] = classes.numbers;
    let words = [
        u64::from(a) << 32 | u64::from(b),
        u64::from(c) << 32 | u64::from(d),
    ];
    // The high bits of a product depend on all bits of the factors. The
    // constants are odd and otherwise arbitrary.
    let hash = (words[0] ^ u64::from(list) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ words[1].wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (words, (hash >> 40) as u32 & (limits::REMEMBERED - 1))
}

/// [`remember`], global to the verifier: see [`judge`](crate::judge). `list` has the
/// rule with action Pass in its upper half.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_remember(
    list: u32,
    classes: *const Classes,
    generation: u64,
    outcome: u32,
) -> u32 {
    // SAFETY: `remember`, the only caller, hands in a reference.
    let Some(classes) = (unsafe { classes.as_ref() }) else {
        return 0;
    };
    let (words, place) = key(list & 0xffff, classes);
    let Some(place) = REMEMBERED.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: as in `recall`. Nobody else writes while the sequence is odd.
    unsafe {
        let before = (&raw const (*place).sequence).read_volatile();
        if !begin(&raw mut (*place).sequence, before) {
            return 0;
        }
        (&raw mut (*place).generation).write_volatile(generation);
        (&raw mut (*place).classes[0]).write_volatile(words[0]);
        (&raw mut (*place).classes[1]).write_volatile(words[1]);
        (&raw mut (*place).verdict).write_volatile(u64::from(list) << 32 | u64::from(outcome));
        (&raw mut (*place).sequence).write_volatile(before.wrapping_add(2));
    }
    1
}

/// Makes an even sequence odd, unless it is not what it was any more. False: the
/// place belongs to somebody else.
///
/// An instruction of its own (Linux 5.12), since the compiler takes this target
/// for one that has none.
///
/// # Safety
///
/// `sequence` is a word of an element of a map.
#[inline(always)]
unsafe fn begin(sequence: *mut u64, before: u64) -> bool {
    if before & 1 != 0 {
        return false;
    }
    let found: u64;
    // SAFETY: it changes the word and nothing else.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({sequence} + 0, r0, {odd})",
            sequence = in(reg) sequence,
            odd = in(reg) before | 1,
            inout("r0") before => found,
            options(nostack),
        );
    }
    found == before
}
