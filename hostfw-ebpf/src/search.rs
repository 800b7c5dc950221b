//! The first rule of a list whose bit is set in the rows of all four classes.
//!
//! Why so few words need to be looked at is told in
//! [`hostfw_common::policy`].

use core::arch::asm;

use hostfw_common::{
    index::{LINE_WORDS, NO_RULE, RECORD_WORDS, Record},
    limits::ROW_WORDS,
    policy::{Dim, PolicyTable},
};

use crate::{
    index::{BROKEN, Classes},
    maps::{SEARCH, row_line},
    report::Origin,
};

/// Words of a map with a bit for each word of a row.
const MAP_WORDS: u32 = (ROW_WORDS / 64) as u32;

/// What is known of a packet while a list is searched for it.
///
/// In memory, for the stack has no room. Each CPU has one for the programs at
/// the wire, which run with bottom halves disabled and so do not interrupt each
/// other, and one for those of netfilter: a packet that a process gives back to
/// the kernel (NFQUEUE) reaches these with bottom halves enabled, so a program
/// at the wire may come in between.
#[repr(C)]
pub(crate) struct Search {
    /// The packet's class in each dimension.
    pub(crate) classes: Classes,
    generation: u64,
    /// A bit for each word of the rows in which to look.
    candidates: [u64; MAP_WORDS as usize],
    /// For each class the lines of its row that differ from the base row.
    lines: [u32; Dim::COUNT],
    /// Line of the list's record.
    rows: u32,
    /// Lines of a base row.
    row_lines: u32,
    /// The rule that matches if none does in the candidates, or [`NO_RULE`].
    best: u32,
    /// Not 0: a line is not there.
    broken: u32,
}

/// This CPU's search for the programs at the kind of hook that asks.
#[inline(always)]
pub(crate) fn this_cpus(origin: &Origin) -> Option<&'static mut Search> {
    let search = SEARCH.get_ptr_mut(u32::from(origin.at_netfilter));
    // SAFETY: this CPU's own; see `Search`.
    search.map(|search| unsafe { &mut *search })
}

impl Search {
    /// The number of the first rule that matches, [`NO_RULE`] or [`BROKEN`].
    /// The classes are filled in.
    #[inline(always)]
    pub(crate) fn first(&mut self, table: &PolicyTable, generation: u64) -> u32 {
        self.generation = generation;
        self.rows = table.rows;
        self.row_lines = table.lines();
        self.broken = 0;
        if hostfw_prepare(self, table.first, 0) == 0 {
            return BROKEN;
        }
        // Not `==`, which would be a call.
        let [a, b, c, d] = self.candidates;
        if a | b | c | d == 0 {
            return self.best;
        }
        hostfw_scan(self, 0)
    }

    /// Makes ready for [`next`](Self::next), after [`first`](Self::first). False
    /// if the tables are broken.
    #[inline(always)]
    pub(crate) fn widen(&mut self, table: &PolicyTable) -> bool {
        hostfw_prepare(self, table.first, 1) != 0
    }

    /// The number of the first rule from `start` on that matches, [`NO_RULE`]
    /// or [`BROKEN`].
    #[inline(always)]
    pub(crate) fn next(&mut self, start: u32) -> u32 {
        hostfw_scan(self, start)
    }

    /// Says where to look: for the first match, or if `all` is not 0 for any.
    #[inline(always)]
    fn prepare(&mut self, first: u32, all: u32) -> Option<()> {
        let [a, b, c, d] = self.classes.numbers;
        let line = |number| row_line(self.generation, number);
        let records = [line(a)?, line(b)?, line(c)?, line(d)?];
        let list = line(self.rows)?;
        let mut best = first;
        let mut clears = false;
        for (lines, line) in self.lines.iter_mut().zip(records) {
            let record = Record { line };
            best = best.min(record.first());
            clears |= record.clears();
            *lines = record.lines();
        }
        // Up to the word of `best` only what is special twice can hold a match
        // nearer than that. If nothing is cleared, `best` is one itself;
        // otherwise a match is there, or behind it, wherever a row is special
        // or the base rows have bits in common.
        let (wide, end) = if all != 0 {
            self.best = NO_RULE;
            (0, ROW_WORDS as u32)
        } else if clears {
            self.best = NO_RULE;
            (best / 64, ROW_WORDS as u32)
        } else {
            self.best = best;
            (ROW_WORDS as u32, best / 64 + 1)
        };
        // The compiler is not to write the loop out: the stack has no room for
        // what it would keep at hand.
        let mut map = opaque(0) as u32;
        while map < MAP_WORDS {
            let word = map as usize % MAP_WORDS as usize;
            let [a, b, c, d] = records.map(|line| line.words[RECORD_WORDS + word]);
            let special = a | b | c | d;
            let twice = (a | b) & (c | d) | a & b | c & d;
            let base = list.words[RECORD_WORDS + word];
            let wide = before(map, wide);
            self.candidates[word] = (twice & wide | (special | base) & !wide) & before(map, end);
            map += 1;
        }
        Some(())
    }
}

/// Says where to look: for the first match, or if `all` is not 0 for any. 0 if
/// the tables are broken. Global to the verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_prepare(search: *mut Search, first: u32, all: u32) -> u32 {
    // SAFETY: the callers hand in a reference.
    let Some(search) = (unsafe { search.as_mut() }) else {
        return 0;
    };
    search.prepare(first, all).is_some().into()
}

/// The first rule from `start` on that matches in the words that are
/// candidates, or else the best without them, or [`BROKEN`]. Global to the
/// verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_scan(search: *mut Search, start: u32) -> u32 {
    // SAFETY: the callers hand in a reference.
    let Some(search) = (unsafe { search.as_mut() }) else {
        return BROKEN;
    };
    for map in 0..MAP_WORDS {
        let mut alive = search.candidates[map as usize] & !before(map, start / 64);
        for _ in 0..64 {
            if alive == 0 {
                break;
            }
            let index = map * 64 + lowest(alive);
            let bits = hostfw_word(search, index, start);
            if search.broken != 0 {
                return BROKEN;
            }
            if bits != 0 {
                return (index * 64 + lowest(bits)).min(search.best);
            }
            alive &= alive - 1;
        }
    }
    search.best
}

/// The bits of the rules from `start` on in a word that all four rows have set.
/// Global to the verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_word(search: *mut Search, index: u32, start: u32) -> u64 {
    // SAFETY: the caller hands in a reference.
    let Some(search) = (unsafe { search.as_mut() }) else {
        return 0;
    };
    let Some(bits) = word(search, index, start) else {
        search.broken = 1;
        return 0;
    };
    bits
}

#[inline(always)]
fn word(search: &Search, index: u32, start: u32) -> Option<u64> {
    let mut bits = if index == start / 64 {
        u64::MAX << (start & 63)
    } else {
        u64::MAX
    };
    for dimension in 0..Dim::COUNT {
        let number = line_number(search, dimension, index / 8);
        let line = row_line(search.generation, number)?;
        bits &= line.words[index as usize % LINE_WORDS];
    }
    Some(bits)
}

/// Of the words that word `map` of a map has bits for, those before a word.
#[inline(always)]
fn before(map: u32, word: u32) -> u64 {
    let count = word.saturating_sub(map * 64).min(64);
    // In two steps: one by 64 would be none.
    let half = count / 2;
    (1_u64 << half << (count - half)).wrapping_sub(1)
}

/// Where a line of a class's row is: behind its record if it is special, else
/// in the base row.
#[inline(always)]
fn line_number(search: &Search, dimension: usize, line: u32) -> u32 {
    let lines = search.lines[dimension];
    let bit = 1 << (line & 31);
    if lines & bit == 0 {
        search.rows + 1 + dimension as u32 * search.row_lines + line
    } else {
        search.classes.numbers[dimension] + 1 + (lines & (bit - 1)).count_ones()
    }
}

/// The position of the lowest bit that is set, below 64 for any argument.
///
/// Not `trailing_zeros`: for this target it becomes a table in memory, whose
/// bounds check the compiler leaves out and the verifier wants.
#[inline(always)]
fn lowest(word: u64) -> u32 {
    let below = opaque(word & word.wrapping_neg()).wrapping_sub(1);
    below.count_ones() & 63
}

/// The same value, of which the compiler then knows nothing. Unlike
/// `black_box`, without a detour through memory.
#[inline(always)]
fn opaque(mut value: u64) -> u64 {
    // SAFETY: it changes nothing. An instruction all the same, since line
    // information for none is refused.
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}
