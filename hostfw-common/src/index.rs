//! How the classes of packets are found, and what is known of each.
//!
//! Two arrays hold nothing but [`Line`]s, as long as a cache line of most
//! machines: [`INDEX`](crate::names::INDEX) leads from what a packet has in a
//! [`Dimension`] to the number of its class, and
//! [`ROWS`](crate::names::ROWS) holds a [record](Record) for each class and
//! each list of rules. `policy` says what is done with them.
//!
//! # Index
//!
//! A key has 32 bits, the first to be decided by first: an IPv4 address; a
//! protocol with destination port, or with ICMP type and code, or a source
//! port as [`service_key`] has it. The first [`stride`](Dimension::stride) bits
//! of the key pick one of 2^stride entries. An entry is a class, or else a node
//! that tells apart the next eight bits, and so on. IPv6 addresses are longer:
//! their first 32 bits are the key, and where more of them matter, the entry says
//! so ([`ENTRY_LONG`]). From there on nodes alternate with [lists](LIST_ENTRIES) of
//! a few prefixes, so that no node is on the way whose bits tell nothing apart.
//!
//! Entries are 32 bits each, 16 to a line: entry `n` is in line `n / 16`, and
//! the lower half of a word comes first.

use crate::{boundary, policy::TableId};

/// Words of 64 bits in a line.
pub const LINE_WORDS: usize = 8;
/// Entries of an index in a line.
pub const LINE_ENTRIES: u32 = 2 * LINE_WORDS as u32;
/// Bits of rules in a line.
pub const LINE_BITS: u32 = 64 * LINE_WORDS as u32;

/// 64 bytes; what they mean depends on who points there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct Line {
    /// The words.
    pub words: [u64; LINE_WORDS],
}

impl Line {
    /// A line of zeroes.
    pub const EMPTY: Self = Self {
        words: [0; LINE_WORDS],
    };

    /// The entry at this position, below [`LINE_ENTRIES`].
    #[inline(always)]
    #[must_use]
    pub const fn entry(&self, position: u32) -> u32 {
        let word = self.words[(position / 2) as usize & (LINE_WORDS - 1)];
        (word >> (position % 2 * 32)) as u32
    }
}

/// What is asked of a packet in one respect: where it comes from, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct Dimension {
    /// With stride 0 the entry for any key. Otherwise the line in which the
    /// array of the first 2^stride entries begins.
    pub root: u32,
    /// The table that has the same classes by prefix, in
    /// [`PREFIXES_V4`](crate::names::PREFIXES_V4),
    /// [`PREFIXES_V6`](crate::names::PREFIXES_V6) or
    /// [`SERVICES`](crate::names::SERVICES).
    pub table: TableId,
    /// 0, 8 or 16.
    pub stride: u32,
}

/// Set in an entry that leads to a line of [`INDEX`](crate::names::INDEX):
/// [`ENTRY_LINE`] has its number. Otherwise the entry is a class: the number of the
/// first line of its record in [`ROWS`](crate::names::ROWS).
pub const ENTRY_NODE: u32 = 1 << 31;

/// Set beside [`ENTRY_NODE`], in entries for the first 32 bits of IPv6 addresses:
/// whatever bits have led here, the line tells apart bits from the 33rd on.
pub const ENTRY_LONG: u32 = 1 << 30;

/// Set beside [`ENTRY_NODE`]: the line is no node, but a list.
pub const ENTRY_LIST: u32 = 1 << 29;

/// The bits of an entry that are the number of a line.
pub const ENTRY_LINE: u32 = ENTRY_LIST - 1;
const _: () = assert!(crate::limits::MAX_INDEX_LINES <= ENTRY_LINE);
const _: () = assert!(crate::limits::MAX_ROW_LINES < ENTRY_NODE);

/// The most lines on the way from the 33rd bit of an IPv6 address to its class:
/// each but the last one decides about eight bits or more.
pub const LONG_LINES: usize = 96 / 8;

/// Words 0 to 3 of a node: a bit for each value of the eight bits that it tells
/// apart, set if the entry is another one than that of the value before. Bit 0
/// is set. Each stretch of equal entries is there once.
pub const NODE_STARTS: usize = 0;
/// Word 4 of a node. Lower half: the number of the entry of the first stretch,
/// counted over the whole index; the others follow. Upper half: for each of the
/// four words of starts the number of starts ahead of it, 8 bits each, lowest
/// first.
pub const NODE_BASE: usize = 4;
/// From this word on a node holds its own entries if there are at most
/// [`NODE_ENTRIES`]: word 4 then says so by the number of the first.
pub const NODE_OWN: usize = 5;
/// How many entries a node has room for.
pub const NODE_ENTRIES: usize = 2 * (LINE_WORDS - NODE_OWN);

/// The entry, counted over the whole index, that a node has for the eight bits
/// `value` of a key (the upper ones do not matter).
#[inline(always)]
#[must_use]
pub const fn node_entry(node: &Line, value: u32) -> u32 {
    let word = (value >> 6 & 3) as usize;
    let up_to = u64::MAX >> (63 - (value & 63));
    let starts = (node.words[NODE_STARTS + word] & up_to).count_ones();
    let base = node.words[NODE_BASE];
    let ahead = (base >> (32 + 8 * word)) as u32 & 0xff;
    (base as u32)
        .wrapping_add(ahead)
        .wrapping_add(starts)
        .wrapping_sub(1)
}

/// How many prefixes there are in a list. Word 0 of a list has their lengths from
/// bit 8 on, 8 bits each, 33 to 128, or 0 where there is none; its bits 0 to 7 are 0,
/// so that no list is a node. Two words follow for each prefix: bits 33 to 96
/// of it; in the lower half of the next bits 97 to 128, in the upper half the entry
/// of what it holds. That is a class, or else tells apart the bits behind it, of
/// which there is a whole number of eight. Longer prefixes come first.
pub const LIST_ENTRIES: usize = 3;

/// Upper half of word 0 of a list: the class of what lies in none of its prefixes.
const LIST_ELSE: u32 = 32;

/// The bits of an IPv6 address that a [list](LIST_ENTRIES) looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LongKey {
    /// Bits 33 to 96, the first one highest.
    pub high: u64,
    /// Bits 97 to 128, likewise.
    pub low: u32,
}

impl LongKey {
    /// Those of an address, or of a prefix.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: &[u8; 16]) -> Self {
        let [_, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = *address;
        Self {
            high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            low: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// A list of at most [`LIST_ENTRIES`] prefixes, with their lengths and entries;
/// longer ones first. `otherwise` is the class of all else.
#[must_use]
pub fn list(prefixes: &[(LongKey, u32, u32)], otherwise: u32) -> Line {
    let mut line = Line::EMPTY;
    line.words[0] = u64::from(otherwise) << LIST_ELSE;
    for (number, &(key, length, entry)) in prefixes.iter().take(LIST_ENTRIES).enumerate() {
        line.words[0] |= u64::from(length) << (8 + 8 * number);
        line.words[1 + 2 * number] = key.high;
        line.words[2 + 2 * number] = u64::from(key.low) | u64::from(entry) << 32;
    }
    line
}

/// What a list has for an address: an entry, and how many bits have been decided
/// about if it is not a class.
#[inline(always)]
#[must_use]
pub const fn list_entry(list: &Line, key: LongKey) -> (u32, u32) {
    let mut number = 0;
    while number < LIST_ENTRIES {
        let length = (list.words[0] >> (8 + 8 * number)) as u32 & 0xff;
        let last = list.words[2 + 2 * number];
        let high = key.high ^ list.words[1 + 2 * number];
        let low = (key.low ^ last as u32) as u64;
        let bits = length.wrapping_sub(32);
        let differing = if bits < 64 {
            high.wrapping_shr(64 - bits)
        } else {
            high | low.wrapping_shr(96_u32.wrapping_sub(bits))
        };
        if differing == 0 && length != 0 {
            return ((last >> 32) as u32, length);
        }
        number += 1;
    }
    ((list.words[0] >> LIST_ELSE) as u32, 0)
}

/// The key of a protocol and port (or ICMP type and code) in the service
/// dimension; with protocol 0 that of a source port. The port is in network
/// byte order.
///
/// The two dimensions begin with what decides there: the protocol, or else the
/// port.
#[inline(always)]
#[must_use]
pub const fn service_key(protocol: u8, port: [u8; 2]) -> u32 {
    u32::from_be_bytes([protocol, port[0], port[1], 0])
}

/// The key of an IPv6 address: its first four bytes. [`LongKey`] has the others.
#[inline(always)]
#[must_use]
pub const fn address_key_v6(address: &[u8; 16]) -> u32 {
    u32::from_be_bytes([address[0], address[1], address[2], address[3]])
}

/// The key of a source port, in network byte order.
#[inline(always)]
#[must_use]
pub const fn source_port_key(port: [u8; 2]) -> u32 {
    u32::from_be_bytes([port[0], port[1], 0, 0])
}

/// Words 0 to 3 of a record. Of a class: bit `w` is set if word `w` of its row
/// differs from the dimension's base row. Of a list: bit `w` is set if word `w`
/// of all four base rows together is not 0.
pub const RECORD_WORDS: usize = 0;
/// Word 4 of a record. Lower half: the first rule that matches a packet of this
/// class that has every other dimension's base row, or of a list: all four base
/// rows; [`NO_RULE`] if none does. Upper half: flags of a class, `CLASS_*`.
pub const RECORD_FIRST: usize = 4;
/// Word 5 of the record of a class. Lower half: bit `l` is set if a word of
/// line `l` of its row differs from the base row; these lines follow the
/// record, whole, in order.
pub const RECORD_LINES: usize = 5;

/// No rule, where the number of one could be.
pub const NO_RULE: u32 = u32::MAX;

/// Some bit that is set in the base row is not set in the row of this class.
pub const CLASS_CLEARS: u32 = 1 << 0;

/// The class of packets that have a dimension's base row. Line 0 of
/// [`ROWS`](crate::names::ROWS) is [`BASE_RECORD`], whichever the dimension.
pub const CLASS_BASE: u32 = 0;

/// The record of [`CLASS_BASE`].
pub const BASE_RECORD: Line = Line {
    words: [0, 0, 0, 0, NO_RULE as u64, 0, 0, 0],
};

/// The first line of what is known of a class, or of a list, by name.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The line.
    pub line: &'a Line,
}

impl Record<'_> {
    /// The first rule, or [`NO_RULE`]: see [`RECORD_FIRST`].
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> u32 {
        self.line.words[RECORD_FIRST] as u32
    }

    /// Whether the class has [`CLASS_CLEARS`].
    #[inline(always)]
    #[must_use]
    pub const fn clears(self) -> bool {
        (self.line.words[RECORD_FIRST] >> 32) as u32 & CLASS_CLEARS != 0
    }

    /// The lines that follow the record of a class: see [`RECORD_LINES`].
    #[inline(always)]
    #[must_use]
    pub const fn lines(self) -> u32 {
        self.line.words[RECORD_LINES] as u32
    }
}

boundary!(Line = 64, Dimension = 12);
