//! From the plain tables of an image to the keys and values that the kernel
//! takes: all of them, or what differs from the table before.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    iter::repeat,
    sync::Arc,
};

use aya::{Pod, maps::lpm_trie::Key};
use hostfw_common::{index::Line, limits::PART_LINES};

use crate::compile::image::{CHUNK_LINES, Class, Lines, Trie};

/// Keys and values of a map, in two arrays of the same length, as a batch
/// wants them.
pub(crate) type Columns<K, V> = (Vec<K>, Vec<V>);

/// What makes one table of another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference<K, V> {
    /// Keys to remove, ahead of what is written.
    pub(crate) gone: Vec<K>,
    /// Elements to write.
    pub(crate) changed: Columns<K, V>,
}

impl<K, V> Default for Difference<K, V> {
    fn default() -> Self {
        Self {
            gone: Vec::new(),
            changed: (Vec::new(), Vec::new()),
        }
    }
}

impl<K, V> Difference<K, V> {
    /// How many elements are touched.
    pub(crate) const fn len(&self) -> usize {
        self.gone.len() + self.changed.0.len()
    }
}

impl<K, V: PartialEq> Difference<K, V> {
    /// Adds what differs between two tables that are sorted by their keys.
    fn walk<S: Ord>(
        &mut self,
        old: impl Iterator<Item = (S, V)>,
        new: impl Iterator<Item = (S, V)>,
        written: impl Fn(&S) -> K,
    ) {
        let (mut old, mut new) = (old.peekable(), new.peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((before, _)), Some((now, _))) => before.cmp(now),
            };
            let before = if order.is_le() { old.next() } else { None };
            let now = if order.is_ge() { new.next() } else { None };
            match (before, now) {
                (Some((key, _)), None) => self.gone.push(written(&key)),
                (before, Some((key, value))) => {
                    if before.is_none_or(|(_, before)| before != value) {
                        self.changed.0.push(written(&key));
                        self.changed.1.push(value);
                    }
                }
                (None, None) => {}
            }
        }
    }
}

/// A table that can be written to a map.
pub(crate) trait Table {
    /// Key of the map.
    type Key: Pod;
    /// Value of the map.
    type Value: Pod;
    /// Whether elements take room only when they are there.
    const SPARSE: bool;

    /// How many elements the map needs room for.
    fn len(&self) -> usize;

    /// All elements.
    fn all(&self) -> Columns<Self::Key, Self::Value>;

    /// What a map that holds `old` lacks.
    fn since(&self, old: &Self) -> Difference<Self::Key, Self::Value>;
}

/// A longest-prefix-match table: the prefix length goes in front of the key
/// (`struct bpf_lpm_trie_key`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefixes<'a, K>(pub(crate) &'a BTreeMap<(u32, K), u32>);

impl<K: Pod + Ord> Table for Prefixes<'_, K> {
    type Key = Key<K>;
    type Value = u32;
    const SPARSE: bool = true;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn all(&self) -> Columns<Key<K>, u32> {
        self.0
            .iter()
            .map(|((length, key), row)| (Key::new(*length, *key), *row))
            .unzip()
    }

    fn since(&self, old: &Self) -> Difference<Key<K>, u32> {
        let mut since = Difference::default();
        since.walk(copied(old.0), copied(self.0), |(length, key)| {
            Key::new(*length, *key)
        });
        since
    }
}

/// Such a table made of several, each with a number in its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries<'a, K>(pub(crate) &'a Trie<K>);

impl<K: Pod + Ord> Table for Tries<'_, K> {
    type Key = Key<K>;
    type Value = u32;
    const SPARSE: bool = true;

    fn len(&self) -> usize {
        self.0.values().map(|table| table.len()).sum()
    }

    fn all(&self) -> Columns<Key<K>, u32> {
        self.0
            .values()
            .flat_map(|table| table.iter())
            .map(|class| (Key::new(class.length, class.key), class.class))
            .unzip()
    }

    fn since(&self, old: &Self) -> Difference<Key<K>, u32> {
        let mut since = Difference::default();
        let numbers: BTreeSet<_> = old.0.keys().chain(self.0.keys()).collect();
        for number in numbers {
            match (old.0.get(number), self.0.get(number)) {
                (Some(before), Some(now)) if Arc::ptr_eq(before, now) => {}
                (before, now) => since.walk(prefixes(before), prefixes(now), |(key, length)| {
                    Key::new(*length, *key)
                }),
            }
        }
        since
    }
}

/// The prefixes of a table, sorted, with their classes.
fn prefixes<K: Copy>(table: Option<&Arc<[Class<K>]>>) -> impl Iterator<Item = ((K, u32), u32)> {
    table
        .into_iter()
        .flat_map(|table| table.iter())
        .map(|class| ((class.key, class.length), class.class))
}

/// An array: the key is the index. What lies behind the end is not looked at,
/// and stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array<'a, V>(pub(crate) &'a [V]);

impl<V: Pod + PartialEq> Table for Array<'_, V> {
    type Key = u32;
    type Value = V;
    const SPARSE: bool = false;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn all(&self) -> Columns<u32, V> {
        (0..).zip(self.0.iter().copied()).unzip()
    }

    fn since(&self, old: &Self) -> Difference<u32, V> {
        let changed = (0..)
            .zip(self.0)
            .filter(|&(index, value)| old.0.get(index as usize) != Some(value))
            .map(|(index, value)| (index, *value))
            .unzip();
        Difference {
            gone: Vec::new(),
            changed,
        }
    }
}

/// A part of an array of lines: [`PART_LINES`] of them, or what is left. A chunk
/// that both have is not looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinePart<'a> {
    pub(crate) lines: &'a Lines,
    /// Number of the part.
    pub(crate) part: u32,
}

/// Chunks in a part.
const PART_CHUNKS: usize = PART_LINES as usize / CHUNK_LINES;
const _: () = assert!(PART_CHUNKS * CHUNK_LINES == PART_LINES as usize);

impl LinePart<'_> {
    fn chunks(&self) -> impl Iterator<Item = &Arc<[Line]>> {
        let first = self.part as usize * PART_CHUNKS;
        self.lines.chunks().iter().skip(first).take(PART_CHUNKS)
    }
}

impl Table for LinePart<'_> {
    type Key = u32;
    type Value = Line;
    const SPARSE: bool = false;

    fn len(&self) -> usize {
        let first = self.part as usize * PART_LINES as usize;
        let left = self.lines.len().saturating_sub(first);
        left.min(PART_LINES as usize)
    }

    fn all(&self) -> Columns<u32, Line> {
        let lines = self.chunks().flat_map(|chunk| chunk.iter().copied());
        (0..).zip(lines.take(self.len())).unzip()
    }

    fn since(&self, old: &Self) -> Difference<u32, Line> {
        let mut since = Difference::default();
        let before = old.chunks().map(Some).chain(repeat(None));
        let firsts = (0..).step_by(CHUNK_LINES);
        for ((first, now), before) in firsts.zip(self.chunks()).zip(before) {
            let used = self.len().saturating_sub(first as usize).min(now.len());
            // Behind its end the map holds what an even older image had there.
            let known = old.len().saturating_sub(first as usize).min(used);
            if known == used && before.is_some_and(|before| Arc::ptr_eq(before, now)) {
                continue;
            }
            for ((number, line), within) in (first..).zip(now.iter()).zip(0..used) {
                if before.and_then(|before| before[..known].get(within)) != Some(line) {
                    since.changed.0.push(number);
                    since.changed.1.push(*line);
                }
            }
        }
        since
    }
}

/// A hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash<'a, K, V>(pub(crate) &'a BTreeMap<K, V>);

impl<K: Pod + Ord, V: Pod + PartialEq> Table for Hash<'_, K, V> {
    type Key = K;
    type Value = V;
    const SPARSE: bool = false;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn all(&self) -> Columns<K, V> {
        self.0.iter().map(|(key, value)| (*key, *value)).unzip()
    }

    fn since(&self, old: &Self) -> Difference<K, V> {
        let mut since = Difference::default();
        since.walk(copied(old.0), copied(self.0), |key| *key);
        since
    }
}

fn copied<K: Copy, V: Copy>(table: &BTreeMap<K, V>) -> impl Iterator<Item = (K, V)> {
    table.iter().map(|(key, value)| (*key, *value))
}

#[cfg(test)]
mod tests {
    use hostfw_common::{
        policy::TableId,
        prefix::{PrefixV4, TABLE_BITS},
    };

    use super::*;

    #[test]
    fn a_prefix_key_is_its_length_then_the_key_in_wire_order() {
        let key = PrefixV4 {
            table: TableId {
                number: 0x0102_0304,
            },
            address: [10, 240, 0, 0],
        };
        let (keys, rows) = Prefixes(&BTreeMap::from([((TABLE_BITS + 16, key), 7)])).all();
        assert_eq!(rows, [7]);
        // What the kernel copies: 4 bytes of length, then the data.
        // SAFETY: the key is packed and made of integers: no padding.
        let bytes: [u8; 12] = unsafe { std::mem::transmute(keys[0]) };
        assert_eq!(bytes[..4], 48_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[8..], [10, 240, 0, 0]);
    }

    #[test]
    fn an_array_counts_from_zero() {
        assert_eq!(Array(&[7_u64, 8]).all(), (vec![0, 1], vec![7, 8]));
        assert_eq!(Array::<u64>(&[]).all(), (vec![], vec![]));
    }

    #[test]
    fn only_what_differs_is_written() {
        let old = BTreeMap::from([(1_u32, 1_u64), (2, 2), (3, 3), (9, 9)]);
        let new = BTreeMap::from([(0_u32, 0_u64), (2, 2), (3, 33), (5, 5)]);
        let since = Hash(&new).since(&Hash(&old));
        assert_eq!(since.gone, [1, 9]);
        assert_eq!(since.changed, (vec![0, 3, 5], vec![0, 33, 5]));
        assert_eq!(since.len(), 5);
        assert_eq!(Hash(&new).since(&Hash(&new)).len(), 0);
        let empty = BTreeMap::new();
        assert_eq!(Hash(&new).since(&Hash(&empty)).changed, Hash(&new).all());
        assert_eq!(Hash(&empty).since(&Hash(&old)).gone, [1, 2, 3, 9]);
    }

    #[test]
    fn tables_of_a_trie_that_are_shared_are_not_looked_at() {
        let class = |last: u8, class| Class {
            key: PrefixV4 {
                table: TableId { number: 3 },
                address: [10, 0, 0, last],
            },
            length: TABLE_BITS + 32,
            class,
        };
        let key = |last: u8| Key::new(TABLE_BITS + 32, class(last, 0).key);
        let table = |number| TableId { number };
        let shared: Arc<[_]> = [class(1, 1), class(2, 2)].into();
        let old = BTreeMap::from([
            (table(1), Arc::clone(&shared)),
            (table(2), [class(3, 3), class(4, 4), class(5, 5)].into()),
            (table(4), [class(6, 6)].into()),
        ]);
        let new = BTreeMap::from([
            (table(1), shared),
            (table(2), [class(3, 3), class(4, 40), class(7, 7)].into()),
            (table(5), [class(8, 8)].into()),
        ]);
        let since = Tries(&new).since(&Tries(&old));
        let bytes = |keys: &[Key<PrefixV4>]| -> Vec<u8> {
            keys.iter().map(|key| key.data().address[3]).collect()
        };
        assert_eq!(bytes(&since.gone), [5, 6]);
        assert_eq!(bytes(&since.changed.0), [4, 7, 8]);
        assert_eq!(since.changed.1, [40, 7, 8]);
        assert_eq!(since.changed.0[0].prefix_len(), key(4).prefix_len());
        assert_eq!(Tries(&new).len(), 6);
        assert_eq!(Tries(&new).all().1, [1, 2, 3, 40, 7, 8]);
    }

    #[test]
    fn lines_behind_the_end_are_not_taken_for_written() {
        let line = |number| Line { words: [number; 8] };
        let lines = |numbers: &[u64]| -> Lines {
            Lines::of(&numbers.iter().copied().map(line).collect::<Vec<_>>())
        };
        const fn first(lines: &Lines) -> LinePart<'_> {
            LinePart { lines, part: 0 }
        }
        let written = |new: &Lines, old: &Lines| first(new).since(&first(old)).changed;
        let short = lines(&[1, 2]);
        // What the chunk is filled up with is zero, the map need not be.
        let long = lines(&[1, 3, 0, 0]);
        let expected = (vec![1, 2, 3], vec![line(3), line(0), line(0)]);
        assert_eq!(written(&long, &short), expected);
        assert_eq!(written(&short, &long), (vec![1], vec![line(2)]));
        let mut grown = short.clone();
        grown.grow(2);
        assert!(Arc::ptr_eq(&grown.chunks()[0], &short.chunks()[0]));
        assert_eq!(
            written(&grown, &short),
            (vec![2, 3], vec![line(0), line(0)])
        );
        assert_eq!(first(&grown).since(&first(&grown)).len(), 0);
        let far = vec![7; 2 * CHUNK_LINES + 5];
        let mut other = far.clone();
        other[CHUNK_LINES + 3] = 8;
        let expected = (vec![CHUNK_LINES as u32 + 3], vec![line(8)]);
        assert_eq!(written(&lines(&other), &lines(&far)), expected);
        assert_eq!(written(&lines(&far), &lines(&[])).0.len(), far.len());
    }

    #[test]
    fn a_part_of_lines_is_by_itself() {
        let line = |number: usize| Line {
            words: [number as u64; 8],
        };
        let whole = PART_LINES as usize;
        let numbered: Vec<Line> = (0..2 * whole + 3).map(line).collect();
        let lines = Lines::of(&numbered);
        const fn part(lines: &Lines, part: u32) -> LinePart<'_> {
            LinePart { lines, part }
        }
        let lengths = [0, 1, 2, 3].map(|number| part(&lines, number).len());
        assert_eq!(lengths, [whole, whole, 3, 0]);
        let (keys, values) = part(&lines, 1).all();
        assert_eq!(
            (keys.len(), keys[0], keys[whole - 1]),
            (whole, 0, PART_LINES - 1)
        );
        assert_eq!(values, numbered[whole..2 * whole]);
        let last = [line(2 * whole), line(2 * whole + 1), line(2 * whole + 2)];
        assert_eq!(part(&lines, 2).all(), (vec![0, 1, 2], last.to_vec()));
        let mut other = numbered.clone();
        other[whole + 5] = line(7);
        let other = Lines::of(&other);
        let since = |number| part(&other, number).since(&part(&lines, number));
        assert_eq!([since(0).len(), since(2).len()], [0, 0]);
        assert_eq!(since(1).changed, (vec![5], vec![line(7)]));
        let short = Lines::of(&numbered[..whole + 2]);
        let since = part(&lines, 1).since(&part(&short, 1));
        assert_eq!((since.len(), since.changed.0[0]), (whole - 2, 2));
    }

    #[test]
    fn of_an_array_what_is_behind_the_end_stays() {
        let since = Array(&[1_u64, 5, 3]).since(&Array(&[1, 2, 3, 4]));
        assert_eq!(since.changed, (vec![1], vec![5]));
        let grown = Array(&[1_u64, 2, 3]).since(&Array(&[1]));
        assert_eq!(grown.changed, (vec![1, 2], vec![2, 3]));
        assert!(grown.gone.is_empty());
    }
}
