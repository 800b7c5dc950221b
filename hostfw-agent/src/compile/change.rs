//! A large dimension that has changed a little: what is not touched by the
//! change is not looked at again.

use std::{collections::HashSet, sync::Arc};

use hostfw_common::{
    index::{CLASS_BASE, Dimension},
    prefix::{PrefixV4, PrefixV6, TABLE_BITS},
};

use super::{
    cache::{Cache, Exceeded, Held, NEVER, Place, Table, full, of_v4, of_v6},
    digest::Digest,
    dimension::{Asked, Key, Narrow},
    image::Class,
    index::{self, Prefixes},
    limits::Limit,
    long,
    prefix::Prefix,
    set::Set,
    store::{Full, Store},
};

/// From this many prefixes on a dimension is changed where it differs, instead
/// of made anew.
pub(super) const MANY_PREFIXES: usize = 1024;
/// If it differs in more prefixes than this, it is made anew all the same.
const MOST_CHANGED: usize = 256;

impl Cache {
    /// Takes out a dimension that nothing has asked for in this round yet, and
    /// that differs within a few prefixes, with these.
    pub(super) fn former(&mut self, shape: Digest, asked: &Asked) -> Option<(Held, Set)> {
        if asked.prefixes() < MANY_PREFIXES {
            return None;
        }
        let (digest, changed) = self.dimensions.iter().find_map(|(&digest, held)| {
            if held.shape != shape || held.round == self.round {
                return None;
            }
            let changed = asked.changed(held.asked.as_ref()?, MOST_CHANGED)?;
            Some((digest, changed))
        })?;
        let held = self.dimensions.remove(&digest)?;
        Some((held, changed))
    }

    /// Makes one dimension of another that differs within some prefixes.
    pub(super) fn change(
        &mut self,
        former: Held,
        mut asked: Asked,
        changed: &Set,
        place: &Place<'_>,
    ) -> Result<Held, Exceeded> {
        let mut held = former;
        let table = held.dimension.table;
        let new = match &mut held.trie {
            Table::V4(trie) => {
                let found = asked.classify_within(Narrow::of, changed, self.words());
                let (new, prefixes) = self.records(found, place)?;
                let changed: Vec<_> = changed.iter().copied().map(Narrow::of).collect();
                *trie = splice(trie, &prefixes, &changed, v4, |of| of_v4(table, of));
                held.dimension = self.index_anew(held.dimension, &changed, &**trie, |cache| {
                    let all: Vec<_> = trie.iter().map(|of| (v4(of), of.class)).collect();
                    cache.index(place.kind, &all)
                })?;
                new
            }
            Table::V6(trie) => {
                let found = asked.classify_within(|prefix| prefix, changed, self.words());
                let (new, prefixes) = self.records(found, place)?;
                *trie = splice(trie, &prefixes, changed, v6, |of| of_v6(table, of));
                let mut fronts: Vec<_> = changed.iter().copied().map(Narrow::front).collect();
                fronts.dedup();
                held.dimension = self.index_anew(held.dimension, &fronts, &**trie, |cache| {
                    let all: Vec<_> = trie.iter().map(|of| (v6(of), of.class)).collect();
                    cache.index_v6(&all)
                })?;
                new
            }
            // Of these nothing is kept to compare with.
            Table::Service(_) => Vec::new(),
        };
        held.classes.extend(new);
        let mut used = held.trie.classes();
        held.classes.retain(|class| {
            let is_used = used.remove(class);
            if !is_used {
                self.rows.release(*class);
            }
            is_used
        });
        Ok(Held {
            asked: Some(asked),
            round: NEVER,
            ..held
        })
    }

    /// Puts the index of a dimension in the place of the one before: what has
    /// `changed` if that is little, and else all of it.
    fn index_anew(
        &mut self,
        former: Dimension,
        changed: &[Narrow],
        now: &(impl Prefixes + ?Sized),
        all: impl FnOnce(&mut Self) -> Result<Dimension, Exceeded>,
    ) -> Result<Dimension, Exceeded> {
        if let Some(replaced) = index::replace(&mut self.index, &former, changed, now) {
            return replaced.map_err(|Full| full(Limit::IndexLines));
        }
        let anew = all(self)?;
        index::release(&mut self.index, &former);
        Ok(Dimension {
            table: former.table,
            ..anew
        })
    }
}

impl Table {
    /// The classes that have a record of their own.
    fn classes(&self) -> HashSet<u32> {
        match self {
            Self::V4(table) => distinct(table.iter().map(|of| of.class)),
            Self::V6(table) => distinct(table.iter().map(|of| of.class)),
            Self::Service(table) => distinct(table.iter().map(|of| of.class)),
        }
    }
}

/// Classes but for that of the base row. Many in a row may be the same.
fn distinct(classes: impl Iterator<Item = u32>) -> HashSet<u32> {
    let mut last = CLASS_BASE;
    classes
        .filter(|&class| {
            let new = class != last && class != CLASS_BASE;
            last = class;
            new
        })
        .collect()
}

/// The prefixes of a table, with those of `new` within `changed` in the place
/// of what was there.
fn splice<T: Copy, K: Key>(
    table: &[T],
    new: &[(K, u32)],
    changed: &[K],
    key: impl Fn(&T) -> K,
    entry: impl Fn((K, u32)) -> T,
) -> Arc<[T]> {
    let mut spliced = Vec::with_capacity(table.len() + new.len());
    let (mut rest, mut new) = (table, new);
    for &place in changed {
        let (before, from) = rest.split_at(rest.partition_point(|of| key(of) < place));
        spliced.extend_from_slice(before);
        rest = &from[from.partition_point(|of| place.contains(key(of)))..];
        let (within, behind) = new.split_at(new.partition_point(|&(key, _)| place.contains(key)));
        spliced.extend(within.iter().map(|&of| entry(of)));
        new = behind;
    }
    spliced.extend_from_slice(rest);
    spliced.into()
}

fn v4(of: &Class<PrefixV4>) -> Narrow {
    let first = u32::from_be_bytes(of.key.address);
    Narrow::new(first, of.length - TABLE_BITS)
}

fn v6(of: &Class<PrefixV6>) -> Prefix {
    Prefix::of_v6(of.key.address, of.length - TABLE_BITS)
}

impl Prefixes for [Class<PrefixV4>] {
    fn within(&self, _: &mut Store, slot: Narrow) -> Result<Vec<(Narrow, u32)>, Full> {
        let above = (0..=slot.len()).rev().find_map(|length| {
            let wanted = slot.shortened(length);
            let found = self.binary_search_by_key(&wanted, v4);
            found.ok().map(|at| (slot, self[at].class))
        });
        let within = &self[self.partition_point(|of| v4(of) <= slot)..];
        let within = within.iter().map(|of| (v4(of), of.class));
        let within = within.take_while(|(key, _)| slot.contains(*key));
        Ok(above.into_iter().chain(within).collect())
    }
}

impl Prefixes for [Class<PrefixV6>] {
    fn within(&self, store: &mut Store, slot: Narrow) -> Result<Vec<(Narrow, u32)>, Full> {
        let slot = Prefix::of_front(slot);
        let above = (0..=slot.len()).rev().find_map(|length| {
            let wanted = slot.shortened(length);
            let found = self.binary_search_by_key(&wanted, v6);
            found.ok().map(|at| (slot, self[at].class))
        });
        let within = &self[self.partition_point(|of| v6(of) <= slot)..];
        let within = within.iter().map(|of| (v6(of), of.class));
        let within = within.take_while(|&(key, _)| slot.contains(key));
        let prefixes: Vec<_> = above.into_iter().chain(within).collect();
        long::fronts(store, &prefixes)
    }
}
