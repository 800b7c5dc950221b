//! Contents told apart by 128 bits of them.
//!
//! Two different contents have the same digest with a probability that n of
//! them make n² / 2^129: none, for what fits into memory. Whoever writes
//! policies could look for two; they may also write what those would amount to.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// The digest of some content.
pub(super) type Digest = u128;

/// A map whose keys are as good as random.
pub(super) type DigestMap<V> = HashMap<Digest, V, BuildHasherDefault<LowBits>>;
/// Likewise, of numbers.
pub(super) type NumberMap<V> = HashMap<u32, V, BuildHasherDefault<LowBits>>;

/// Fractional parts of the square roots of 2, 3, 5 and 7, made odd.
const FACTORS: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// Digests words, in order.
#[derive(Clone, Copy)]
pub(super) struct Digester {
    lanes: [u64; 2],
    words: u64,
}

impl Digester {
    /// `what` keeps apart what has the same words and means something else.
    pub(super) const fn new(what: u64) -> Self {
        Self {
            lanes: [what ^ FACTORS[2], what ^ FACTORS[3]],
            words: 0,
        }
    }

    pub(super) fn word(&mut self, word: u64) {
        let [a, b] = self.lanes;
        self.words += 1;
        self.lanes = [
            fold(a ^ word, FACTORS[0]).wrapping_add(a.rotate_left(29)),
            fold(b ^ word.rotate_left(32), FACTORS[1]).wrapping_add(b.rotate_left(37)),
        ];
    }

    pub(super) fn digest(&mut self, digest: Digest) {
        self.word(digest as u64);
        self.word((digest >> 64) as u64);
    }

    pub(super) fn finish(self) -> Digest {
        let [a, b] = self.lanes;
        let high = fold(a ^ self.words, FACTORS[3]) ^ b;
        let low = fold(b ^ self.words, FACTORS[2]).wrapping_add(a);
        u128::from(high) << 64 | u128::from(low)
    }
}

/// A number that is as good as random for each one: sums without carry of them
/// tell sets apart.
pub(super) fn of_number(number: u32) -> Digest {
    let mut digester = Digester::new(u64::from(number) << 8);
    digester.word(u64::from(number).wrapping_mul(FACTORS[0]));
    digester.word(u64::from(number));
    digester.finish()
}

/// Both halves of the product, one over the other.
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Takes a digest for its own hash; of numbers it is a quick one.
#[derive(Default)]
pub(super) struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = fold(self.0 ^ u64::from(byte), FACTORS[0]);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = fold(u64::from(number) ^ FACTORS[1], FACTORS[0]);
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(what: u64, words: &[u64]) -> Digest {
        let mut digester = Digester::new(what);
        words.iter().for_each(|&word| digester.word(word));
        digester.finish()
    }

    #[test]
    fn order_number_and_meaning_of_words_matter() {
        let all = [
            of(1, &[]),
            of(2, &[]),
            of(1, &[0]),
            of(1, &[0, 0]),
            of(1, &[1, 2]),
            of(1, &[2, 1]),
            of(1, &[1 << 32, 2]),
        ];
        let distinct: HashSet<Digest> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(of(1, &[1, 2]), of(1, &[1, 2]));
    }

    #[test]
    fn neither_half_of_a_numbers_digest_comes_twice() {
        let all: Vec<_> = (0..1 << 16).map(of_number).collect();
        for shift in [0, 64] {
            let halves: HashSet<u64> = all.iter().map(|digest| (digest >> shift) as u64).collect();
            assert_eq!(halves.len(), all.len());
        }
        let pairs: HashSet<Digest> = all.windows(2).map(|pair| pair[0] ^ pair[1]).collect();
        assert_eq!(pairs.len(), all.len() - 1);
    }
}
