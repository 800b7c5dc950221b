//! Large sets of networks of mixed lengths, beside the sources of a flood.

use std::{collections::HashSet, fmt, net::Ipv6Addr};

use super::{
    packets::{FLOOD_FACTOR, WIRE, address, beside_flood},
    rng::Rng,
    rule::Net,
};

/// An IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net6 {
    /// Its first address, as a number.
    pub address: u128,
    /// Bits of the prefix.
    pub length: u8,
}

impl Net6 {
    fn of(address: u128, length: u8) -> Self {
        Self {
            address: address & Self::mask(length),
            length,
        }
    }

    const fn mask(length: u8) -> u128 {
        match length {
            0 => 0,
            _ => u128::MAX << (128 - length as u32),
        }
    }

    /// Whether the address is in it.
    #[must_use]
    pub const fn holds(self, address: u128) -> bool {
        address & Self::mask(self.length) == self.address
    }

    /// An address in it.
    pub fn sample(self, rng: &mut Rng) -> u128 {
        self.address | (wide(rng) & !Self::mask(self.length))
    }
}

impl fmt::Display for Net6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.address), self.length)
    }
}

const fn wide(rng: &mut Rng) -> u128 {
    (rng.next() as u128) << 64 | rng.next() as u128
}

/// IPv4 networks, all different; some hold others. Lengths 16 to 32, most of
/// them 24 and 32, as in lists of blocked addresses.
#[must_use]
pub fn v4(count: usize, seed: u64) -> Vec<Net> {
    let mut rng = Rng::new(seed ^ 0x7634);
    distinct(count, || {
        loop {
            let length = match rng.below(100) {
                0..45 => 32,
                45..75 => 24,
                75..90 => rng.between(25, 31),
                _ => rng.between(16, 23),
            };
            let net = beside_flood(address(&mut rng), length as u8);
            if !WIRE.covers(net) && !net.covers(WIRE) {
                return net;
            }
        }
    })
}

/// IPv6 networks below 2001::/16, all different; some hold others. Lengths 32
/// to 128.
#[must_use]
pub fn v6(count: usize, seed: u64) -> Vec<Net6> {
    let mut rng = Rng::new(seed ^ 0x7636);
    distinct(count, || {
        let length = match rng.below(100) {
            0..5 => 32,
            5..15 => rng.between(33, 47),
            15..45 => 48,
            45..55 => rng.between(49, 63),
            55..80 => 64,
            80..85 => rng.between(65, 127),
            _ => 128,
        } as u8;
        let bit = 128 - u32::from(length / 8 * 8);
        let address = wide(&mut rng) & (u128::MAX >> 16) | 0x2001 << 112 | 1 << bit;
        Net6::of(address, length)
    })
}

/// Source number `counter` of an IPv6 flood. All 2^32 are different, and no
/// network of [`v6`] holds any: their octets behind the first two are even.
#[must_use]
pub const fn flood_v6(counter: u32) -> u128 {
    let product = counter.wrapping_mul(FLOOD_FACTOR);
    let most = ((product & 0x7f7f_7f7f) << 1) as u128;
    let rest = ((product >> 7 & 0x0101_0101) << 1) as u128;
    0x2001 << 112 | most << 80 | rest << 48 | most << 8
}

fn distinct<T: Copy + Eq + std::hash::Hash>(count: usize, mut next: impl FnMut() -> T) -> Vec<T> {
    let mut known = HashSet::with_capacity(count);
    let mut nets = Vec::with_capacity(count);
    while nets.len() < count {
        let net = next();
        if known.insert(net) {
            nets.push(net);
        }
    }
    nets
}
