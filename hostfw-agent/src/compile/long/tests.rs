use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::index::{Dimension, LINE_ENTRIES, LONG_LINES, list_entry, node_entry};

use super::*;
use crate::compile::{
    fixture::Numbers,
    index::{self, Prefixes},
};

/// The class of an address, and how many lines lead there from the 33rd bit on.
fn look_up(store: &Store, dimension: &Dimension, address: u128) -> (u32, usize) {
    let entry = |number: u32| {
        let line = store.lines().get(number / LINE_ENTRIES).unwrap();
        line.entry(number % LINE_ENTRIES)
    };
    let octets = address.to_be_bytes();
    let line = |entry: u32| store.lines().get(entry & ENTRY_LINE).unwrap();
    let mut shift = 128 - dimension.stride;
    let mut found = match dimension.stride {
        0 => dimension.root,
        _ => entry(dimension.root * LINE_ENTRIES + (address >> shift) as u32),
    };
    while found & (ENTRY_NODE | ENTRY_LONG) == ENTRY_NODE {
        shift -= 8;
        assert!(shift >= 96);
        found = entry(node_entry(line(found), (address >> shift) as u32 & 0xff));
    }
    let mut decided = 32;
    let mut lines = 0;
    while found & ENTRY_NODE != 0 {
        lines += 1;
        let line = line(found);
        (found, decided) = if found & ENTRY_LIST != 0 {
            list_entry(line, LongKey::new(&octets))
        } else {
            let octet = octets[decided as usize / 8];
            (entry(node_entry(line, octet.into())), decided + 8)
        };
    }
    (found, lines)
}

/// Prefixes with their classes, by the tree's order.
type Map = BTreeMap<Prefix, u32>;

fn by_prefixes(prefixes: &Map, address: u128) -> u32 {
    (0..=128)
        .rev()
        .find_map(|length| prefixes.get(&prefix(address, length)).copied())
        .unwrap()
}

fn prefix(address: u128, len: u32) -> Prefix {
    Prefix::of_v6(address.to_be_bytes(), len)
}

/// Prefixes that are dense here and there, have others in them, and often end at
/// the edges of octets.
fn random_prefixes(random: &mut Numbers, count: usize) -> Map {
    let mut prefixes = Map::from([(Prefix::ALL, 0)]);
    let wide = |random: &mut Numbers| u128::from(random.next()) << 64 | u128::from(random.next());
    let mut near: Vec<u128> = (0..3).map(|_| wide(random)).collect();
    while prefixes.len() < count {
        let shared = [0, 16, 28, 32, 33, 40, 47, 64, 64, 96, 112, 120][random.below(12)];
        let origin = near[random.below(near.len())];
        let other = wide(random);
        let mask = u128::MAX.checked_shl(128 - shared).unwrap_or(0);
        let bits = origin & mask | other & !mask;
        if random.below(4) == 0 {
            near.push(bits);
        }
        let length = match random.below(3) {
            0 => 8 * (1 + random.below(16)) as u32,
            1 => 128,
            _ => 1 + random.below(128) as u32,
        };
        prefixes.insert(prefix(bits, length), random.below(5) as u32);
    }
    prefixes
}

fn edges(prefixes: &Map) -> BTreeSet<u128> {
    let mut edges = BTreeSet::new();
    for prefix in prefixes.keys() {
        let first = prefix.bits();
        let last = first | u128::MAX.checked_shr(prefix.len()).unwrap_or(0);
        edges.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
        edges.insert(first | 1 << 40 | 7);
    }
    edges
}

fn build(store: &mut Store, prefixes: &Map, stride: u32) -> Dimension {
    let all: Vec<_> = prefixes.iter().map(|(&key, &class)| (key, class)).collect();
    let fronts = fronts(store, &all).unwrap();
    let stretches = index::stretches(&fronts);
    let dimension = index::build(store, &stretches, stride).unwrap();
    index::let_go(store, &fronts);
    dimension
}

fn check(store: &Store, dimension: &Dimension, prefixes: &Map) -> usize {
    let mut most = 0;
    for address in edges(prefixes) {
        let (found, lines) = look_up(store, dimension, address);
        assert_eq!(found, by_prefixes(prefixes, address), "{address:#x}");
        most = most.max(lines);
    }
    most
}

#[test]
fn every_address_around_a_boundary_leads_to_its_class() {
    let mut random = Numbers::new(11);
    let mut longest = 0;
    for round in 0..60 {
        let count = [1, 2, 3, 5, 20, 200, 1500][round % 7];
        let prefixes = random_prefixes(&mut random, count);
        let mut store = Store::new(1 << 20);
        for stride in [8, 16] {
            let dimension = build(&mut store, &prefixes, stride);
            longest = longest.max(check(&store, &dimension, &prefixes));
            index::release(&mut store, &dimension);
            assert_eq!(store.live(), 0);
        }
    }
    assert!(longest >= 6, "{longest}");
}

#[test]
fn the_longest_way_has_as_many_lines_as_there_are_octets() {
    // At each octet one that ends there, and some that go on.
    let mut prefixes = Map::from([(Prefix::ALL, 0)]);
    let base = 0x2001_0db8_0102_0304_0506_0708_090a_0b0c_u128;
    for octet in 4..16 {
        for (number, other) in [1_u8, 2, 4, 8].into_iter().enumerate() {
            let bits = base ^ u128::from(other) << (120 - 8 * octet);
            prefixes.insert(prefix(bits, 8 * octet + 8), 1 + number as u32);
        }
    }
    prefixes.insert(prefix(base, 128), 7);
    let mut store = Store::new(1 << 20);
    let dimension = build(&mut store, &prefixes, 8);
    assert_eq!(check(&store, &dimension, &prefixes), LONG_LINES);
}

#[test]
fn what_is_the_same_behind_other_beginnings_is_there_once() {
    // All of 2001:d00::/24 has the same behind 32 bits.
    let mut prefixes = Map::from([(Prefix::ALL, 0)]);
    for third in 0..256_u128 {
        let bits = 0x2001_0d00_u128 << 96 | third << 96 | 5;
        prefixes.insert(prefix(bits, 128), 3);
    }
    let mut store = Store::new(1 << 20);
    let dimension = build(&mut store, &prefixes, 8);
    check(&store, &dimension, &prefixes);
    // The root, a node for each of two octets, and the list.
    assert_eq!(store.live() as u32, 256 / LINE_ENTRIES + 3);
    index::release(&mut store, &dimension);
    assert_eq!(store.live(), 0);
}

/// The prefixes as a dimension that is changed has them.
struct Now<'a>(&'a Map);

impl Prefixes for Now<'_> {
    fn within(&self, store: &mut Store, slot: Narrow) -> Result<Vec<(Narrow, u32)>, Full> {
        let slot = Prefix::of_front(slot);
        let above = (0..=slot.len())
            .rev()
            .find_map(|length| self.0.get(&slot.shortened(length)))
            .unwrap();
        let mut prefixes = vec![(slot, *above)];
        let behind = self.0.iter().filter(|(prefix, _)| **prefix > slot);
        let within = behind.filter(|(prefix, _)| slot.contains(**prefix));
        prefixes.extend(within.map(|(&prefix, &class)| (prefix, class)));
        fronts(store, &prefixes)
    }
}

#[test]
fn a_change_at_a_few_places_leads_where_all_made_anew_does() {
    let mut random = Numbers::new(12);
    let mut replaced = 0;
    for round in 0..40 {
        let mut prefixes = random_prefixes(&mut random, [30, 300][round % 2]);
        let mut store = Store::new(1 << 20);
        let mut dimension = build(&mut store, &prefixes, 8);
        for _ in 0..8 {
            let mut changed = Map::new();
            for _ in 0..=random.below(3) {
                let known: Vec<Prefix> = prefixes.keys().copied().collect();
                let one = known[random.below(known.len())];
                if one.len() < 6 {
                    continue;
                }
                let other = prefix(one.bits() ^ 1 << random.below(90), one.len());
                changed.insert(one, 0);
                changed.insert(other, 0);
            }
            for &prefix in changed.keys() {
                if random.below(2) == 0 {
                    prefixes.remove(&prefix);
                } else {
                    prefixes.insert(prefix, random.below(5) as u32);
                }
            }
            // Those that lie in others are theirs.
            let mut places: Vec<Narrow> = Vec::new();
            let mut last: Option<Prefix> = None;
            for &prefix in changed.keys() {
                let place = prefix.shortened(prefix.len().min(32));
                if last.is_none_or(|last| !last.contains(place)) {
                    places.push(Narrow::front(place));
                    last = Some(place);
                }
            }
            let now = Now(&prefixes);
            match index::replace(&mut store, &dimension, &places, &now) {
                Some(changed) => {
                    dimension = changed.unwrap();
                    replaced += 1;
                }
                None => {
                    index::release(&mut store, &dimension);
                    dimension = build(&mut store, &prefixes, 8);
                }
            }
            check(&store, &dimension, &prefixes);
            // No line is there that all made anew does not have, nor is one missing.
            let mut other = Store::new(1 << 20);
            build(&mut other, &prefixes, 8);
            assert_eq!(store.live(), other.live());
        }
        index::release(&mut store, &dimension);
        assert_eq!(store.live(), 0);
    }
    assert!(replaced > 200, "{replaced}");
}
