//! The index of what IPv6 prefixes have behind their first 32 bits: lists of a few
//! prefixes, and nodes where there are more.

use hostfw_common::index::{
    ENTRY_LINE, ENTRY_LIST, ENTRY_LONG, ENTRY_NODE, LIST_ENTRIES, LongKey, list,
};

use super::{
    dimension::Narrow,
    index::{Entries, intern},
    prefix::Prefix,
    store::{Full, Store},
};

/// Bits of a [`Narrow`].
const FRONT_BITS: u32 = 32;

/// What the first 32 bits say of prefixes that may be longer: their class, or the
/// entry of what tells longer ones apart, which has one more reference then
/// ([`let_go`](super::index::let_go) takes it away). Sorted as the prefixes are, of which the first
/// contains the others.
pub(super) fn fronts(
    store: &mut Store,
    prefixes: &[(Prefix, u32)],
) -> Result<Vec<(Narrow, u32)>, Full> {
    let mut fronts: Vec<(Narrow, u32)> = Vec::new();
    let mut path: Vec<(Prefix, u32)> = Vec::new();
    for same in prefixes.chunk_by(|a, b| is_long(a.0) && Narrow::front(a.0) == Narrow::front(b.0)) {
        let [(prefix, class), ..] = *same else {
            continue;
        };
        while path.pop_if(|(above, _)| !above.contains(prefix)).is_some() {}
        if is_long(prefix) {
            let otherwise = path.last().map_or(0, |&(_, class)| class);
            let entry = long(store, FRONT_BITS, otherwise, same)?;
            let flag = if entry & ENTRY_NODE == 0 {
                0
            } else {
                ENTRY_LONG
            };
            fronts.push((Narrow::front(prefix), entry | flag));
        } else {
            fronts.push((Narrow::front(prefix), class));
            path.push((prefix, class));
        }
    }
    Ok(fronts)
}

fn is_long(prefix: Prefix) -> bool {
    prefix.len() > FRONT_BITS
}

/// The entry for keys of which the first `decided` bits are known, a whole number of
/// eight; the prefixes have them, too, and no fewer. `otherwise` is the class of
/// those that lie in no prefix.
fn long(
    store: &mut Store,
    decided: u32,
    otherwise: u32,
    prefixes: &[(Prefix, u32)],
) -> Result<u32, Full> {
    let [(first, class), rest @ ..] = prefixes else {
        return Ok(otherwise);
    };
    if first.len() == decided {
        return long(store, decided, *class, rest);
    }
    if prefixes.len() <= LIST_ENTRIES {
        return put_list(store, prefixes, otherwise);
    }
    let last = prefixes.last().map_or(*first, |&(last, _)| last);
    // None that is shorter than the first has all that it has in common with the
    // last: it would come before it.
    let common = (first.bits() ^ last.bits()).leading_zeros();
    let common = common.min(first.len()) / 8 * 8;
    if common > decided {
        let within = long(store, common, otherwise, prefixes)?;
        return put_list(store, &[(first.shortened(common), within)], otherwise);
    }
    node(store, decided, otherwise, prefixes)
}

/// A node for eight bits more.
fn node(
    store: &mut Store,
    decided: u32,
    otherwise: u32,
    prefixes: &[(Prefix, u32)],
) -> Result<u32, Full> {
    let Some(&(any, _)) = prefixes.first() else {
        return Ok(otherwise);
    };
    let value_of = |prefix: Prefix| (prefix.bits() >> (120 - decided)) as u32 & 0xff;
    let mut rest = prefixes;
    let mut path: Vec<(Prefix, u32)> = Vec::new();
    let mut entries = Entries::default();
    let mut value = 0;
    while value < 256 {
        let slot = any.with_octet(decided, value as u8);
        while path.pop_if(|(above, _)| !above.contains(slot)).is_some() {}
        while let [(prefix, class), behind @ ..] = rest
            && prefix.contains(slot)
        {
            path.push((*prefix, *class));
            rest = behind;
        }
        let within = rest.partition_point(|&(prefix, _)| slot.contains(prefix));
        let (within, behind) = rest.split_at(within);
        rest = behind;
        let otherwise = path.last().map_or(otherwise, |&(_, class)| class);
        let entry = long(store, decided + 8, otherwise, within)?;
        entries.push(store, value, entry);
        value += 1;
        // Past all that lie in no prefix, as this one does.
        if path.is_empty() && within.is_empty() {
            value = rest.first().map_or(256, |&(prefix, _)| value_of(prefix));
        }
    }
    entries.put(store)
}

fn put_list(store: &mut Store, prefixes: &[(Prefix, u32)], otherwise: u32) -> Result<u32, Full> {
    // What lies in another one comes behind it.
    let longest_first = prefixes.iter().rev();
    let items: Vec<_> = longest_first
        .map(|&(prefix, entry)| (LongKey::new(&prefix.to_v6()), prefix.len(), entry))
        .collect();
    let entries: Vec<u32> = prefixes.iter().map(|&(_, entry)| entry).collect();
    let line = intern(store, &mut [list(&items, otherwise)], &entries, |_, _| ())?;
    debug_assert!(line <= ENTRY_LINE);
    Ok(ENTRY_NODE | ENTRY_LIST | line)
}

#[cfg(test)]
mod tests;
