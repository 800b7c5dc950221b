//! Tells most packets of no flow from those of one, without a look into the
//! tables of flows.
//!
//! [`FLOW_FILTER`](crate::names::FLOW_FILTER) is an array of [`Line`]s: the
//! first is a [`Head`], and behind it lie two banks of as many lines each. A
//! bank is a Bloom filter: each key that was ever put into a table of flows has
//! set two bits of one word. If one of the two is clear, neither table has the
//! key. If both are set, the tables must be asked.
//!
//! Whoever inserts a flow sets its bits in both banks, and only then inserts
//! it. Looked up is only in the bank that the head names. Nobody but the agent
//! clears bits, in the other bank: it then waits until all programs that run have
//! returned, sets the bits of all keys that are in the tables, and names that bank.

use crate::{
    conntrack::FlowKey,
    index::{LINE_WORDS, Line},
};

/// The first line of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Head(Line);

/// Words of a [`Head`]: the first line of the bank that is looked up in, or 0 if
/// none is, and all keys must be looked for in the tables.
pub const HEAD_BANK: usize = 0;
/// Likewise: lines of a bank, less one. Lines of a bank are a power of two.
pub const HEAD_MASK: usize = 1;
/// Likewise: the first of the words that keys are [hashed](Mark::of) with.
pub const HEAD_SECRET: usize = 2;

/// What keys are hashed with: unknown to whoever sends packets, who could
/// otherwise choose such as seem to be of a flow. Odd numbers.
pub type Secret = [u64; LINE_WORDS - HEAD_SECRET];

impl Head {
    /// The head of a filter with so many lines to a bank, a power of two, that
    /// looks up in the bank which begins with line `bank`.
    #[must_use]
    pub const fn new(bank: u32, lines: u32, secret: &Secret) -> Self {
        let [a, b, c, d, e, f] = *secret;
        Self(Line {
            words: [bank as u64, lines as u64 - 1, a, b, c, d, e, f],
        })
    }

    /// The words.
    #[must_use]
    pub const fn words(&self) -> &[u64; LINE_WORDS] {
        &self.0.words
    }
}

/// The most lines of a bank: [`Mark::line`] has no more bits.
pub const MAX_LINES: u32 = 1 << 16;

/// The fewest.
pub const MIN_LINES: u32 = 1 << 4;

/// Bits of a bank for each flow that there is room for, at least.
///
/// With as few, full tables set a sixth of the bits, and one key in 36 that is in
/// no table is looked for there.
const BITS_PER_FLOW: u64 = 12;

/// Lines of a bank for tables of so many flows together.
#[must_use]
pub const fn lines(flows: u64) -> u32 {
    let bits = flows.saturating_mul(BITS_PER_FLOW);
    let lines = bits.div_ceil(64 * LINE_WORDS as u64);
    if lines >= MAX_LINES as u64 {
        MAX_LINES
    } else if lines <= MIN_LINES as u64 {
        MIN_LINES
    } else {
        lines.next_power_of_two() as u32
    }
}

/// Entries of the map with so many lines to a bank.
#[must_use]
pub const fn entries(lines: u32) -> u32 {
    1 + 2 * lines
}

/// The first lines of the two banks, with so many lines each.
#[inline(always)]
#[must_use]
pub const fn banks(lines: u32) -> [u32; 2] {
    [1, 1 + lines]
}

/// Which bits of a bank stand for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// The bits of a key, given in words as they lie in memory.
    ///
    /// A sum of products with secret factors; the last one spreads what the keys
    /// differ in over the bits that are used, which are the upper half.
    #[inline(always)]
    #[must_use]
    pub const fn of([a, b, c, d, e]: [u64; 5], secret: &Secret) -> Self {
        let remote = a
            .wrapping_mul(secret[0])
            .wrapping_add(b.wrapping_mul(secret[1]));
        let local = c
            .wrapping_mul(secret[2])
            .wrapping_add(d.wrapping_mul(secret[3]));
        let sum = remote
            .wrapping_add(local)
            .wrapping_add(e.wrapping_mul(secret[4]));
        Self((sum ^ sum >> 32).wrapping_mul(secret[5]))
    }

    /// [`of`](Self::of) a key in one piece.
    #[must_use]
    pub const fn of_key(key: &FlowKey, secret: &Secret) -> Self {
        Self::of(key.words(), secret)
    }

    /// The line, counted from the bank's first one. `mask` is that of
    /// [`HEAD_MASK`].
    #[inline(always)]
    #[must_use]
    pub const fn line(self, mask: u32) -> u32 {
        (self.0 >> 32) as u32 & mask & (MAX_LINES - 1)
    }

    /// The word of the line.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> usize {
        (self.0 >> 48) as usize & (LINE_WORDS - 1)
    }

    /// The bits of the word; now and then but one.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        1 << (self.0 >> 52 & 63) | 1 << (self.0 >> 58)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;
    use crate::conntrack::Address;

    const SECRET: Secret = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xd6e8_feb8_6659_fd93,
        0xc2b2_ae3d_27d4_eb4f,
        0xff51_afd7_ed55_8ccd,
    ];

    fn key(remote: u32, remote_port: u16, local_port: u16, protocol: u8) -> FlowKey {
        FlowKey {
            remote: Address::from_v4(remote.to_be_bytes()),
            local: Address::from_v4([192, 0, 2, 1]),
            remote_port: remote_port.to_be_bytes(),
            local_port: local_port.to_be_bytes(),
            protocol,
            ..FlowKey::default()
        }
    }

    struct Bank {
        words: Vec<u64>,
        lines: u32,
    }

    impl Bank {
        fn new(flows: u64) -> Self {
            let lines = lines(flows);
            let words = vec![0; lines as usize * LINE_WORDS];
            Self { words, lines }
        }

        fn word(&mut self, mark: Mark) -> &mut u64 {
            let line = mark.line(self.lines - 1) as usize;
            &mut self.words[line * LINE_WORDS + mark.word()]
        }

        fn set(&mut self, key: &FlowKey) {
            let mark = Mark::of_key(key, &SECRET);
            *self.word(mark) |= mark.bits();
        }

        fn may_have(&mut self, key: &FlowKey) -> bool {
            let mark = Mark::of_key(key, &SECRET);
            *self.word(mark) & mark.bits() == mark.bits()
        }
    }

    #[test]
    fn few_other_keys_look_like_those_of_full_tables() {
        const FLOWS: u32 = 1 << 16;
        // Clients of one network, ports of one client, and both.
        let clients = |n: u32| key(0x0a00_0000 + n, 40_000, 443, 6);
        let ports = |n: u32| {
            key(
                0x0a00_0000 + (n >> 15),
                32_768 + (n & 0x7fff) as u16,
                443,
                6,
            )
        };
        let spread = |n: u32| key(n.wrapping_mul(0x9e37_79b1), n as u16, 53, 17);
        let local = |n: u32| key(0x0a00_0001 + (n >> 15), 53, (n & 0x7fff) as u16, 17);
        for known in [clients, ports, spread, local] as [fn(u32) -> FlowKey; 4] {
            let mut bank = Bank::new(u64::from(FLOWS));
            for number in 0..FLOWS {
                bank.set(&known(number));
            }
            for other in [clients, ports, spread, local] as [fn(u32) -> FlowKey; 4] {
                let taken = (FLOWS..2 * FLOWS)
                    .filter(|number| bank.may_have(&other(*number)))
                    .count();
                assert!(taken < FLOWS as usize / 20, "{taken} of {FLOWS}");
            }
            for number in 0..FLOWS {
                assert!(bank.may_have(&known(number)), "{number}");
            }
        }
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let one = key(0x0a00_0001, 1024, 80, 6);
        let others = [
            key(0x0a00_0002, 1024, 80, 6),
            key(0x0b00_0001, 1024, 80, 6),
            key(0x0a00_0001, 1025, 80, 6),
            key(0x0a00_0001, 1024, 81, 6),
            key(0x0a00_0001, 1024, 80, 17),
            FlowKey {
                remote: one.local,
                local: one.remote,
                ..one
            },
        ];
        for other in others {
            assert_ne!(Mark::of_key(&one, &SECRET), Mark::of_key(&other, &SECRET));
        }
    }

    #[test]
    fn banks_grow_with_the_tables_within_limits() {
        for (flows, expected) in [
            (0, MIN_LINES),
            (64 + 64, MIN_LINES),
            ((1 << 16) + (1 << 14), 1 << 11),
            ((1 << 18) + (1 << 16), 1 << 13),
            ((1 << 20) + (1 << 18), 1 << 15),
            (u64::MAX, MAX_LINES),
        ] {
            assert_eq!(lines(flows), expected, "{flows} flows");
        }
    }

    #[test]
    fn the_head_says_where_the_banks_are() {
        let head = Head::new(banks(32)[1], 32, &SECRET);
        assert_eq!(head.words()[HEAD_BANK], 33);
        assert_eq!(head.words()[HEAD_MASK], 31);
        assert_eq!(head.words()[HEAD_SECRET..], SECRET);
        assert_eq!(entries(32), 65);
    }
}
