//! The index: from prefixes with their classes to the nodes that lead from a
//! key to its class.

use hostfw_common::index::{
    CLASS_TRIE, Dimension, ENTRY_NODE, LINE_ENTRIES, Line, NODE_BASE, NODE_ENTRIES, NODE_OWN,
    NODE_STARTS,
};

use super::{
    dimension::{Key as _, Narrow},
    prefix::Prefix,
    store::{Full, Store},
};

/// An address dimension with more stretches than this begins with 2^16 entries
/// (4096 lines), which spares one node on the way; others begin with 2^8.
pub(super) const LARGE: usize = 512;

/// If more of the first entries than this change, all are made anew.
const MOST_REPLACED: usize = 1024;

/// Keys from one on up to that of the next stretch, and their class.
pub(super) type Stretch = (u32, u32);

/// The stretches of keys that prefixes with their classes make, in order. Each
/// has another class than the one before it.
pub(super) fn stretches(prefixes: &[(Narrow, u32)]) -> Vec<Stretch> {
    let mut found = Stretches::default();
    let mut path: Vec<(Narrow, u32)> = Vec::new();
    for &(key, class) in prefixes {
        leave(&mut path, &mut found, |above| !above.contains(key));
        found.begin(key.first(), class);
        path.push((key, class));
    }
    leave(&mut path, &mut found, |_| true);
    found.found
}

/// What the first 32 bits say of prefixes that may be longer: their class, or that
/// the trie must be asked. Sorted as the prefixes are.
pub(super) fn fronts(prefixes: impl IntoIterator<Item = (Prefix, u32)>) -> Vec<(Narrow, u32)> {
    let mut fronts: Vec<(Narrow, u32)> = Vec::new();
    for (prefix, class) in prefixes {
        let class = if prefix.len() > KEY_BITS {
            CLASS_TRIE
        } else {
            class
        };
        let front = (Narrow::front(prefix), class);
        if fronts.last() != Some(&front) {
            fronts.push(front);
        }
    }
    fronts
}

/// Goes up, out of what `is_left` says.
fn leave(path: &mut Vec<(Narrow, u32)>, found: &mut Stretches, is_left: impl Fn(Narrow) -> bool) {
    while let Some((left, _)) = path.pop_if(|(above, _)| is_left(*above)) {
        if let (Some(&(_, class)), Some(next)) = (path.last(), left.last().checked_add(1)) {
            found.begin(next, class);
        }
    }
}

#[derive(Default)]
struct Stretches {
    found: Vec<Stretch>,
}

impl Stretches {
    /// What has begun at the same key is nothing after all.
    fn begin(&mut self, first: u32, class: u32) {
        self.found.pop_if(|(start, _)| *start == first);
        if self.found.last().is_none_or(|&(_, last)| last != class) {
            self.found.push((first, class));
        }
    }
}

/// Puts stretches into the index, whose root has one more reference then.
/// `stride` is that of more than one stretch.
///
/// The dimension's table is for the caller to set.
pub(super) fn build(
    store: &mut Store,
    stretches: &[Stretch],
    stride: u32,
) -> Result<Dimension, Full> {
    let mut dimension = Dimension::default();
    if let [(_, class)] = stretches {
        dimension.root = *class;
        return Ok(dimension);
    }
    dimension.stride = stride;
    let mut builder = Builder {
        store,
        stretches,
        at: 0,
    };
    let shift = KEY_BITS - stride;
    let entries = (0..1_u32 << stride)
        .map(|slot| builder.entry(slot << shift, shift))
        .collect::<Result<Vec<u32>, Full>>()?;
    dimension.root = intern(store, &mut pack(&entries), &entries, |_, _| ())?;
    Ok(dimension)
}

/// Puts another state of a dimension into the index in the place of one that
/// [`build`] has put there. The two differ within `changed`, whose keys do not
/// overlap; `within` gives the prefixes with their classes that begin at a key
/// or between it and the last one, and ahead of them the class of the first key.
///
/// `None`, and nothing is done, if there is nothing to put it in the place of,
/// or if too much of it changed.
pub(super) fn replace(
    store: &mut Store,
    dimension: &Dimension,
    changed: &[Narrow],
    within: impl Fn(Narrow) -> Vec<(Narrow, u32)>,
) -> Option<Result<Dimension, Full>> {
    let Dimension { root, stride, .. } = *dimension;
    if stride == 0 || store.references(root) != 1 {
        return None;
    }
    let shift = KEY_BITS - stride;
    let mut slots: Vec<u32> = Vec::new();
    for key in changed {
        let [first, last] = [key.first(), key.last()].map(|key| key >> shift);
        if (last - first) as usize + slots.len() > MOST_REPLACED {
            return None;
        }
        slots.extend(first..=last);
    }
    slots.dedup();

    let first = root * LINE_ENTRIES;
    let mut entries: Vec<u32> = (first..first + (1 << stride))
        .map(|number| entry(store, number))
        .collect();
    let mut left = Vec::new();
    for slot in slots {
        let prefix = Narrow::new(slot << shift, stride);
        let stretches = stretches(&within(prefix));
        let mut builder = Builder {
            store,
            stretches: &stretches,
            at: 0,
        };
        let entry = match builder.entry(slot << shift, shift) {
            Ok(entry) => entry,
            Err(full) => return Some(Err(full)),
        };
        left.push(std::mem::replace(&mut entries[slot as usize], entry));
    }
    release_entries(store, left);
    // The references of the former root's entries are this one's now.
    store.release(root);
    let placed = intern(store, &mut pack(&entries), &entries, |_, _| ());
    Some(placed.map(|root| Dimension { root, ..*dimension }))
}

/// Takes a reference away from what [`build`] has put there.
pub(super) fn release(store: &mut Store, dimension: &Dimension) {
    if dimension.stride == 0 || !store.release(dimension.root) {
        return;
    }
    // What is free holds what it held.
    let first = dimension.root * LINE_ENTRIES;
    let entries = (first..first + (1 << dimension.stride))
        .map(|number| entry(store, number))
        .collect();
    release_entries(store, entries);
}

/// Takes a reference away from all nodes among the entries.
fn release_entries(store: &mut Store, mut left: Vec<u32>) {
    while let Some(entry) = left.pop() {
        let line = entry & !ENTRY_NODE;
        if entry & ENTRY_NODE != 0 && store.release(line) {
            left.extend(entries_of(store, line));
        }
    }
}

/// The entries of a node.
fn entries_of(store: &Store, line: u32) -> Vec<u32> {
    let Some(node) = store.lines().get(line) else {
        return Vec::new();
    };
    let starts = &node.words[NODE_STARTS..NODE_BASE];
    let count: u32 = starts.iter().map(|word| word.count_ones()).sum();
    let base = node.words[NODE_BASE] as u32;
    (base..base + count)
        .map(|number| entry(store, number))
        .collect()
}

/// The entry of this number, counted over the whole index.
fn entry(store: &Store, number: u32) -> u32 {
    let line = store.lines().get(number / LINE_ENTRIES);
    line.map_or(0, |line| line.entry(number % LINE_ENTRIES))
}

/// Puts lines there, which have these entries. If they are there already, they
/// have references to what the entries lead to, and need no others.
fn intern(
    store: &mut Store,
    lines: &mut [Line],
    entries: &[u32],
    place: impl FnOnce(u32, &mut [Line]),
) -> Result<u32, Full> {
    let (first, new) = store.intern(lines, place)?;
    if !new {
        for entry in entries {
            if entry & ENTRY_NODE != 0 {
                store.release(entry & !ENTRY_NODE);
            }
        }
    }
    Ok(first)
}

/// Entries, 16 to a line.
fn pack(entries: &[u32]) -> Vec<Line> {
    entries
        .chunks(LINE_ENTRIES as usize)
        .map(|entries| {
            let mut line = Line::EMPTY;
            put(&mut line.words, entries);
            line
        })
        .collect()
}

/// Entries, the lower half of a word first.
fn put(words: &mut [u64], entries: &[u32]) {
    for (word, pair) in words.iter_mut().zip(entries.chunks(2)) {
        let high = pair.get(1).copied().unwrap_or(0);
        *word = u64::from(pair[0]) | u64::from(high) << 32;
    }
}

/// Bits of a key.
const KEY_BITS: u32 = 32;
/// Bits of a key that a node tells apart.
const NODE_BITS: u32 = 8;

/// Goes through stretches from the first key to the last.
struct Builder<'a> {
    store: &'a mut Store,
    stretches: &'a [Stretch],
    /// The stretch that holds the key that comes next, or the one before.
    at: usize,
}

impl Builder<'_> {
    /// The entry for the keys from `first` on that have the same upper bits,
    /// but for `shift`.
    fn entry(&mut self, first: u32, shift: u32) -> Result<u32, Full> {
        if self.next() == u64::from(first) {
            self.at += 1;
        }
        if self.next() >= u64::from(first) + (1 << shift) {
            return Ok(self.stretches[self.at].1);
        }
        self.node(first, shift - NODE_BITS)
    }

    /// Where the next stretch begins.
    fn next(&self) -> u64 {
        let next = self.stretches.get(self.at + 1);
        next.map_or(1 << KEY_BITS, |&(first, _)| first.into())
    }

    /// A node for the keys from `first` on: eight bits more, and then `shift`.
    fn node(&mut self, first: u32, shift: u32) -> Result<u32, Full> {
        let mut starts = [0; NODE_BASE - NODE_STARTS];
        let mut entries: Vec<u32> = Vec::new();
        let mut value = 0_u32;
        while value < 1 << NODE_BITS {
            let begin = first + (value << shift);
            let entry = self.entry(begin, shift)?;
            if entries.last() == Some(&entry) {
                // The entry before has a reference already.
                if entry & ENTRY_NODE != 0 {
                    self.store.release(entry & !ENTRY_NODE);
                }
            } else {
                starts[value as usize / 64] |= 1 << (value % 64);
                entries.push(entry);
            }
            value += 1;
            // Past all that lie whole in the stretch.
            if entry & ENTRY_NODE == 0 {
                let whole = (self.next() - u64::from(first)) >> shift;
                value = value.max(whole.min(1 << NODE_BITS) as u32);
            }
        }
        Ok(ENTRY_NODE | self.put(starts, &entries)?)
    }

    /// The line of a node.
    fn put(&mut self, starts: [u64; 4], entries: &[u32]) -> Result<u32, Full> {
        let mut node = Line::EMPTY;
        node.words[NODE_STARTS..NODE_BASE].copy_from_slice(&starts);
        let mut ahead = 0;
        for (word, starts) in starts.iter().enumerate() {
            node.words[NODE_BASE] |= u64::from(ahead) << (32 + 8 * word);
            ahead += starts.count_ones();
        }
        let mut lines = vec![node];
        // Where the entries begin, counted from the first of the node's line.
        let within = if entries.len() <= NODE_ENTRIES {
            put(&mut lines[0].words[NODE_OWN..], entries);
            2 * NODE_OWN as u32
        } else {
            lines.extend(pack(entries));
            LINE_ENTRIES
        };
        intern(self.store, &mut lines, entries, |line, lines| {
            lines[0].words[NODE_BASE] |= u64::from(line * LINE_ENTRIES + within);
        })
    }
}

#[cfg(test)]
mod tests;
