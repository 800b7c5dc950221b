//! The index: from prefixes with their classes to the nodes that lead from a
//! key to its class.

use hostfw_common::index::{
    Dimension, ENTRY_LINE, ENTRY_LIST, ENTRY_LONG, ENTRY_NODE, LINE_ENTRIES, LIST_ENTRIES, Line,
    NODE_BASE, NODE_ENTRIES, NODE_OWN, NODE_STARTS, node_entry,
};

use super::{
    dimension::{Key as _, Narrow},
    store::{Full, Store},
};

/// An address dimension with more stretches than this begins with 2^16 entries
/// (4096 lines), which spares one node on the way; others begin with 2^8.
pub(super) const LARGE: usize = 512;

/// If more of the first entries than this change, all are made anew.
const MOST_REPLACED: usize = 1024;

/// Keys from one on up to that of the next stretch, and their class; or the entry
/// of what tells longer keys apart ([`ENTRY_LONG`]), likewise below.
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

/// What the prefixes of a dimension are now.
pub(super) trait Prefixes {
    /// The prefixes, with their classes, that begin at a key of `slot` and lie in
    /// it; ahead of them `slot`, with the class of its first key otherwise. Where
    /// longer ones are told apart, their entry has one more reference.
    fn within(&self, store: &mut Store, slot: Narrow) -> Result<Vec<(Narrow, u32)>, Full>;
}

/// Puts another state of a dimension into the index in the place of one that
/// [`build`] has put there. The two differ within `changed`, whose keys are sorted
/// and do not overlap.
///
/// `None`, and nothing is done, if there is nothing to put it in the place of,
/// or if too much of it changed.
pub(super) fn replace(
    store: &mut Store,
    dimension: &Dimension,
    changed: &[Narrow],
    now: &(impl Prefixes + ?Sized),
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
        let former = entries[slot as usize];
        let slot_of = Narrow::new(slot << shift, stride);
        let entry = match renew(store, former, slot_of, changed, now) {
            Ok(entry) => entry,
            Err(full) => return Some(Err(full)),
        };
        entries[slot as usize] = entry;
        left.push(former);
    }
    release_entries(store, left);
    // The references of the former root's entries are this one's now.
    store.release(root);
    let placed = intern(store, &mut pack(&entries), &entries, |_, _| ());
    Some(placed.map(|root| Dimension { root, ..*dimension }))
}

/// The entry of a slot, with a reference, of which `former` was the entry.
fn renew(
    store: &mut Store,
    former: u32,
    slot: Narrow,
    changed: &[Narrow],
    now: &(impl Prefixes + ?Sized),
) -> Result<u32, Full> {
    let from = changed.partition_point(|key| key.last() < slot.first());
    let to = changed.partition_point(|key| key.first() <= slot.last());
    let changed = &changed[from..to.max(from)];
    let is_whole = changed.iter().any(|key| key.len() <= slot.len());
    let Some(node) = plain_node(store, former).filter(|_| !is_whole) else {
        let prefixes = now.within(store, slot)?;
        let stretches = stretches(&prefixes);
        let mut builder = Builder {
            store,
            stretches: &stretches,
            at: 0,
        };
        let entry = builder.entry(slot.first(), KEY_BITS - slot.len())?;
        let_go(store, &prefixes);
        return Ok(entry);
    };
    let length = slot.len() + NODE_BITS;
    let mut entries = Entries::default();
    for value in 0..1 << NODE_BITS {
        let below = Narrow::new(slot.first() | value << (KEY_BITS - length), length);
        let former = entry(store, node_entry(&node, value));
        let behind = changed.partition_point(|key| key.last() < below.first());
        let touched = changed.get(behind);
        let entry = if touched.is_some_and(|key| key.first() <= below.last()) {
            renew(store, former, below, changed, now)?
        } else {
            acquire(store, former);
            former
        };
        entries.push(store, value, entry);
    }
    entries.put(store)
}

/// The node that an entry leads to, if it tells apart bits of the first 32.
fn plain_node(store: &Store, entry: u32) -> Option<Line> {
    let is_plain = entry & (ENTRY_NODE | ENTRY_LONG) == ENTRY_NODE;
    let node = store.lines().get(entry & ENTRY_LINE);
    node.filter(|_| is_plain).copied()
}

/// One more reference to what an entry leads to.
fn acquire(store: &mut Store, entry: u32) {
    if entry & ENTRY_NODE != 0 {
        store.acquire(entry & ENTRY_LINE);
    }
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

/// Takes a reference away from what prefixes have for entries.
pub(super) fn let_go(store: &mut Store, prefixes: &[(Narrow, u32)]) {
    release_entries(store, prefixes.iter().map(|&(_, entry)| entry).collect());
}

/// Takes a reference away from what these entries lead to.
fn release_entries(store: &mut Store, mut left: Vec<u32>) {
    while let Some(entry) = left.pop() {
        if entry & ENTRY_NODE != 0 && store.release(entry & ENTRY_LINE) {
            left.extend(entries_of(store, entry));
        }
    }
}

/// The entries of the node or list that an entry leads to.
fn entries_of(store: &Store, list_or_node: u32) -> Vec<u32> {
    let Some(line) = store.lines().get(list_or_node & ENTRY_LINE) else {
        return Vec::new();
    };
    if list_or_node & ENTRY_LIST != 0 {
        let entries = (0..LIST_ENTRIES).map(|number| line.words[2 + 2 * number]);
        return entries.map(|word| (word >> 32) as u32).collect();
    }
    let starts = &line.words[NODE_STARTS..NODE_BASE];
    let count: u32 = starts.iter().map(|word| word.count_ones()).sum();
    let base = line.words[NODE_BASE] as u32;
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
pub(super) fn intern(
    store: &mut Store,
    lines: &mut [Line],
    entries: &[u32],
    place: impl FnOnce(u32, &mut [Line]),
) -> Result<u32, Full> {
    let (first, new) = store.intern(lines, place)?;
    if !new {
        for entry in entries {
            if entry & ENTRY_NODE != 0 {
                store.release(entry & ENTRY_LINE);
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
            let entry = self.stretches[self.at].1;
            acquire(self.store, entry);
            return Ok(entry);
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
        let mut entries = Entries::default();
        let mut value = 0_u32;
        while value < 1 << NODE_BITS {
            let begin = first + (value << shift);
            let entry = self.entry(begin, shift)?;
            entries.push(self.store, value, entry);
            value += 1;
            // Past all that lie whole in the stretch.
            if entry & ENTRY_NODE == 0 {
                let whole = (self.next() - u64::from(first)) >> shift;
                value = value.max(whole.min(1 << NODE_BITS) as u32);
            }
        }
        entries.put(self.store)
    }
}

/// The entries of a node that is being made.
#[derive(Default)]
pub(super) struct Entries {
    starts: [u64; NODE_BASE - NODE_STARTS],
    /// One for each stretch, with a reference.
    entries: Vec<u32>,
}

impl Entries {
    /// The entry for the eight bits `value`, and for those up to the next one that
    /// is put there. The first is 0. Its reference is the node's then.
    pub(super) fn push(&mut self, store: &mut Store, value: u32, entry: u32) {
        if self.entries.last() == Some(&entry) {
            // The entry before has a reference already.
            if entry & ENTRY_NODE != 0 {
                store.release(entry & ENTRY_LINE);
            }
        } else {
            self.starts[value as usize / 64] |= 1 << (value % 64);
            self.entries.push(entry);
        }
    }

    /// The entry of the node, in its line. Of one that tells nothing apart, what
    /// it has for all.
    pub(super) fn put(self, store: &mut Store) -> Result<u32, Full> {
        let Self { starts, entries } = self;
        // Other nodes and lists tell apart what comes next, which is not the same.
        if let [entry] = *entries
            && entry & (ENTRY_NODE | ENTRY_LONG) != ENTRY_NODE
        {
            return Ok(entry);
        }
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
            put(&mut lines[0].words[NODE_OWN..], &entries);
            2 * NODE_OWN as u32
        } else {
            lines.extend(pack(&entries));
            LINE_ENTRIES
        };
        let line = intern(store, &mut lines, &entries, |line, lines| {
            lines[0].words[NODE_BASE] |= u64::from(line * LINE_ENTRIES + within);
        })?;
        Ok(ENTRY_NODE | line)
    }
}

#[cfg(test)]
mod tests;
