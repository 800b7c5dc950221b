//! Random choices, the same for the same seed.

use std::ops::RangeInclusive;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number of the range.
    pub const fn within(&mut self, range: &RangeInclusive<usize>) -> usize {
        *range.start() + self.below(*range.end() - *range.start() + 1)
    }

    /// True so many times of a hundred.
    pub const fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// One of several, which must not be none.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One of several, or `None` if there is none.
    pub fn any_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| self.one_of(all))
    }

    /// Something, so many times of a hundred.
    pub fn some<T>(&mut self, percent: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.percent(percent).then(|| make(self))
    }

    /// As many as the range says.
    pub fn several<T>(
        &mut self,
        count: &RangeInclusive<usize>,
        mut make: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let count = self.within(count);
        (0..count).map(|_| make(self)).collect()
    }

    /// A few, so many times of a hundred; else none.
    pub fn few<T>(&mut self, percent: usize, make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        if self.percent(percent) {
            self.several(&(1..=3), make)
        } else {
            Vec::new()
        }
    }

    /// Those of several that a coin picks.
    pub fn subset<T: Clone>(&mut self, percent: usize, all: &[T]) -> Vec<T> {
        all.iter()
            .filter(|_| self.percent(percent))
            .cloned()
            .collect()
    }
}
