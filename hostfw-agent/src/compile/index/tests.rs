use std::collections::BTreeSet;

use hostfw_common::{endpoint::Family, index::node_entry};

use super::*;
use crate::compile::{fixture::Numbers, prefix::Prefix};

/// The class of a key, and how many nodes lead there.
fn look_up(store: &Store, dimension: &Dimension, key: u32) -> (u32, usize) {
    let stride = dimension.stride;
    if stride == 0 {
        return (dimension.root, 0);
    }
    let slot = key >> (KEY_BITS - stride);
    let mut found = entry(store, dimension.root * LINE_ENTRIES + slot);
    let mut shift = KEY_BITS - stride;
    let mut nodes = 0;
    while found & ENTRY_NODE != 0 {
        shift -= NODE_BITS;
        nodes += 1;
        let node = store.lines().get(found & !ENTRY_NODE).unwrap();
        found = entry(store, node_entry(node, key >> shift & 0xff));
    }
    (found, nodes)
}

fn by_stretch(stretches: &[Stretch], key: u32) -> u32 {
    let behind = stretches.partition_point(|&(first, _)| first <= key);
    stretches[behind - 1].1
}

fn narrow(text: &str) -> Narrow {
    Narrow::of(Prefix::net(&text.parse().unwrap(), Family::V4).unwrap())
}

fn address(text: &str) -> u32 {
    text.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
}

fn store() -> Store {
    Store::new(1 << 20)
}

#[test]
fn prefixes_become_stretches() {
    let prefixes = [
        (narrow("0.0.0.0/0"), 7),
        (narrow("10.0.0.0/8"), 1),
        (narrow("10.0.0.0/16"), 2),
        (narrow("10.255.0.0/16"), 3),
        (narrow("11.0.0.0/8"), 1),
        (narrow("255.255.255.255/32"), 5),
    ];
    let expected = [
        ("0.0.0.0", 7),
        ("10.0.0.0", 2),
        ("10.1.0.0", 1),
        ("10.255.0.0", 3),
        ("11.0.0.0", 1),
        ("12.0.0.0", 7),
        ("255.255.255.255", 5),
    ];
    let expected = expected.map(|(first, class)| (address(first), class));
    assert_eq!(stretches(&prefixes), expected);
    assert_eq!(stretches(&[(narrow("0.0.0.0/0"), 7)]), [(0, 7)]);
    // Neighbours of one class are one stretch.
    let halves = [
        (narrow("0.0.0.0/0"), 7),
        (narrow("10.0.0.0/9"), 1),
        (narrow("10.128.0.0/9"), 1),
    ];
    let expected = [(0, 7), (address("10.0.0.0"), 1), (address("11.0.0.0"), 7)];
    assert_eq!(stretches(&halves), expected);
}

#[test]
fn one_stretch_needs_no_lines() {
    let mut store = store();
    let dimension = build(&mut store, &[(0, 3)], 8).unwrap();
    assert_eq!((dimension.root, dimension.stride), (3, 0));
    assert!(store.lines().is_empty());
}

#[test]
fn nodes_have_room_for_six_entries_and_more_lie_behind_them() {
    for (count, lines) in [(6, 1), (7, 2), (16, 2), (17, 3), (256, 17)] {
        let mut store = store();
        // Within 10.0.0.0/8, by the second byte.
        let first = address("10.0.0.0");
        let mut stretches = vec![(0, 0)];
        stretches.extend((0..count).map(|n| (first + (n << 16), n + 1)));
        if count < 256 {
            stretches.pop();
            stretches.push((first + ((count - 1) << 16), 0));
        }
        let dimension = build(&mut store, &stretches, 8).unwrap();
        assert_eq!(store.live() as u32, 256 / LINE_ENTRIES + lines, "{count}");
        for &(key, class) in &stretches {
            assert_eq!(look_up(&store, &dimension, key).0, class);
        }
        assert_eq!(look_up(&store, &dimension, first - 1).0, 0);
        let behind = address("11.0.0.0");
        let expected = by_stretch(&stretches, behind);
        assert_eq!(look_up(&store, &dimension, behind).0, expected);
    }
}

/// Made-up stretches that are dense here and there, and are often on the edges
/// of nodes.
fn random_stretches(random: &mut Numbers, count: usize) -> Vec<Stretch> {
    let mut starts = BTreeSet::from([0]);
    let near = random.next() as u32;
    while starts.len() < count {
        let aligned = [0, 0, 8, 16, 24][random.below(5)];
        let any = random.next() as u32;
        let close = near.wrapping_add(any & 0xfff);
        let start = if random.below(2) == 0 { any } else { close };
        starts.insert(start >> aligned << aligned);
    }
    let mut last = u32::MAX;
    starts
        .into_iter()
        .map(|start| {
            let class = loop {
                let class = random.below(5) as u32;
                if class != last {
                    break class;
                }
            };
            last = class;
            (start, class)
        })
        .collect()
}

#[test]
fn every_key_around_a_boundary_leads_to_its_class() {
    let mut random = Numbers::new(3);
    let mut deepest = 0;
    for round in 0..60 {
        let mut store = store();
        let count = [2, 3, 10, 100, 700][round % 5];
        let stretches = random_stretches(&mut random, count);
        for stride in [8, 16] {
            let dimension = build(&mut store, &stretches, stride).unwrap();
            for &(start, _) in &stretches {
                for key in [start.wrapping_sub(1), start, start.wrapping_add(1)] {
                    let (found, nodes) = look_up(&store, &dimension, key);
                    assert_eq!(found, by_stretch(&stretches, key), "{round}: {key:#x}");
                    deepest = deepest.max(nodes);
                }
            }
        }
    }
    assert_eq!(deepest, 3);
}

#[test]
fn what_is_released_is_free_but_for_what_others_need() {
    let mut random = Numbers::new(4);
    let mut store = store();
    let mut all = Vec::new();
    for round in 0..30 {
        let stretches = random_stretches(&mut random, 200);
        let stride = [8, 16][round % 2];
        // Twice the same is there once, and is needed twice.
        let dimension = build(&mut store, &stretches, stride).unwrap();
        let lines = store.live();
        assert_eq!(build(&mut store, &stretches, stride), Ok(dimension));
        assert_eq!(store.live(), lines);
        all.push((dimension, stretches.clone()));
        all.push((dimension, stretches));
    }
    while !all.is_empty() {
        let (left, _) = all.remove(random.below(all.len()));
        release(&mut store, &left);
        for (dimension, stretches) in all.iter().take(5) {
            for &(start, class) in stretches {
                assert_eq!(look_up(&store, dimension, start).0, class);
            }
        }
    }
    assert_eq!(store.live(), 0);
}

#[test]
fn a_small_change_writes_few_lines() {
    let mut random = Numbers::new(5);
    let mut store = store();
    let mut stretches = random_stretches(&mut random, 20_000);
    let before = build(&mut store, &stretches, 16).unwrap();
    let lines = store.lines().clone();
    let class = stretches[7000].1;
    stretches[7000].1 = (0..)
        .find(|other| {
            [class, stretches[6999].1, stretches[7001].1]
                .iter()
                .all(|class| class != other)
        })
        .unwrap();
    build(&mut store, &stretches, 16).unwrap();
    release(&mut store, &before);
    let kept = lines.iter().zip(store.lines().iter());
    let written = kept.filter(|(old, new)| old != new).count();
    let added = store.lines().len() - lines.len();
    assert!(written + added <= 4096 + 3 * 17, "{written} and {added}");
}
