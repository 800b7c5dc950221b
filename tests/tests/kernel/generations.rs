//! Images come into force whole, or not at all.

use aya::maps::{Map, MapData, MapError, lpm_trie};
use hostfw_agent::{attach::Dataplane, compile::image::Class};
use hostfw_common::{
    endpoint::{Endpoint, FLAG_LEARNING, FLAG_OBSERVE},
    names,
    prefix::PrefixV4,
};

use super::bench::{Root, TABLE, image, json, prefix, rule_index, sandboxed};

#[test]
fn a_switch_puts_an_image_in_force_as_a_whole() {
    if !sandboxed("switch") {
        return;
    }
    let root = Root::new("switch");
    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 0);
    assert!(root.names("generation").is_empty());
    for generation in 1..=3 {
        assert_eq!(
            dataplane.switch(&image(generation)).unwrap(),
            u64::from(generation)
        );
        assert_eq!(dataplane.generation(), u64::from(generation));
        assert_eq!(rule_index(&root), u64::from(generation));
        let mut expected = names::PER_GENERATION.map(str::to_owned);
        expected.sort();
        assert_eq!(root.names("generation"), expected);
    }
    // The active word is what the programs read.
    let active = MapData::from_pin(root.pin("maps", names::ACTIVE)).unwrap();
    let active = aya::maps::Array::<_, u64>::try_from(Map::Array(active)).unwrap();
    assert_eq!(active.get(&0, 0).unwrap(), 3);
}

#[test]
fn what_learns_is_not_judged() {
    if !sandboxed("judged") {
        return;
    }
    let root = Root::new("judged");
    let mut dataplane = root.open();
    assert_eq!(dataplane.judged(false).unwrap(), [].into());
    let mut image = image(1);
    let learning = Endpoint {
        flags: FLAG_LEARNING,
        ..Endpoint::default()
    };
    image.endpoints.insert(2, learning);
    dataplane.switch(&image).unwrap();
    assert_eq!(dataplane.judged(false).unwrap(), [1].into());
    image.endpoints.insert(2, Endpoint::default());
    dataplane.switch(&image).unwrap();
    drop(dataplane);
    let mut dataplane = root.open();
    assert_eq!(dataplane.judged(false).unwrap(), [1, 2].into());
    // Where nothing is enforced, only those who do not enforce see a judge.
    let observed = Endpoint {
        flags: FLAG_OBSERVE,
        ..Endpoint::default()
    };
    image.endpoints.insert(2, observed);
    dataplane.switch(&image).unwrap();
    assert_eq!(dataplane.judged(false).unwrap(), [1].into());
    assert_eq!(dataplane.judged(true).unwrap(), [1, 2].into());
}

#[test]
fn every_pinned_inner_map_shows_its_fields() {
    if !sandboxed("btf") {
        return;
    }
    let root = Root::new("btf");
    let mut dataplane = root.open();
    dataplane.switch(&image(5)).unwrap();
    for name in names::PER_GENERATION {
        let path = root.pin("generation", name);
        let shown = json(&format!("bpftool -j map show pinned {}", path.display()));
        assert!(shown["btf_id"].as_u64().is_some(), "{name}: {shown}");
    }
    let path = root.pin("generation", names::PREFIXES_V4);
    let dump = json(&format!("bpftool -j map dump pinned {}", path.display()));
    let addresses: Vec<_> = dump
        .as_array()
        .unwrap()
        .iter()
        .map(|element| element["formatted"]["key"]["data"]["address"].to_string())
        .collect();
    assert!(addresses.contains(&"[10,0,0,0]".to_owned()), "{dump}");
}

#[test]
fn a_large_image_arrives_complete() {
    if !sandboxed("large") {
        return;
    }
    const PREFIXES: u32 = 100_000;
    let root = Root::new("large");
    let mut dataplane = root.open();
    let mut image = image(0);
    let mut prefixes: Vec<_> = (0..PREFIXES)
        .map(|number| prefix((number << 8).to_be_bytes(), 24, number))
        .collect();
    let mut lines = |dataplane: &mut Dataplane, prefixes: &[Class<PrefixV4>]| {
        image.prefixes_v4.insert(TABLE, prefixes.into());
        dataplane.switch(&image).unwrap();
    };
    lines(&mut dataplane, &prefixes);
    for number in [0, 1, 77_777, PREFIXES - 1] {
        assert_eq!(
            class_of(&root, (number << 8 | 5).to_be_bytes()),
            Some(number)
        );
    }
    // Both slots hold it; then little changes.
    lines(&mut dataplane, &prefixes);
    prefixes.remove(77_777);
    prefixes[5].class = 12_345;
    prefixes.push(prefix([250, 0, 0, 0], 8, 250));
    lines(&mut dataplane, &prefixes);
    for (address, class) in [
        ((4 << 8 | 5_u32).to_be_bytes(), Some(4)),
        ((5 << 8 | 5_u32).to_be_bytes(), Some(12_345)),
        ((77_777_u32 << 8).to_be_bytes(), None),
        ([250, 1, 2, 3], Some(250)),
    ] {
        assert_eq!(class_of(&root, address), class, "{address:?}");
    }
}

/// The class of an address, as the trie in force has it.
fn class_of(root: &Root, address: [u8; 4]) -> Option<u32> {
    let map = MapData::from_pin(root.pin("generation", names::PREFIXES_V4)).unwrap();
    let map = aya::maps::LpmTrie::<_, PrefixV4, u32>::try_from(Map::LpmTrie(map)).unwrap();
    let Class { key, length, .. } = prefix(address, 32, 0);
    match map.get(&lpm_trie::Key::new(length, key), 0) {
        Ok(class) => Some(class),
        Err(MapError::KeyNotFound) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Every map in force, as bpftool shows it.
fn in_force(root: &Root) -> Vec<serde_json::Value> {
    names::PER_GENERATION
        .iter()
        .map(|name| {
            let path = root.pin("generation", name);
            let mut dump = json(&format!("bpftool -j map dump pinned {}", path.display()));
            // A hash has no order.
            if let Some(elements) = dump.as_array_mut() {
                elements.sort_by_key(ToString::to_string);
            }
            dump
        })
        .collect()
}

#[test]
fn what_is_written_bit_by_bit_is_what_is_written_at_once() {
    if !sandboxed("bits") {
        return;
    }
    let root = Root::new("bits");
    let mut dataplane = root.open();
    for mark in [1, 2, 300, 4, 4] {
        dataplane.switch(&image(mark)).unwrap();
    }
    // This one has nothing in its slots, and so makes new maps twice.
    let fresh = Root::new("bits-fresh");
    let mut other = fresh.open();
    for mark in [300, 7] {
        dataplane.switch(&image(mark)).unwrap();
        other.switch(&image(mark)).unwrap();
        assert_eq!(in_force(&root), in_force(&fresh), "{mark}");
    }
}

#[test]
fn a_switch_that_fails_leaves_what_was_in_force() {
    if !sandboxed("failed") {
        return;
    }
    let root = Root::new("failed");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let mut bad = image(2);
    // Longer than the key: the kernel refuses it.
    bad.prefixes_v4
        .insert(TABLE, [prefix([1; 4], 33, 0)].into());
    let error = dataplane.switch(&bad).unwrap_err();
    assert!(error.to_string().contains(names::PREFIXES_V4), "{error}");
    assert_eq!(dataplane.generation(), 1);
    assert_eq!(rule_index(&root), 1);
    assert_eq!(root.names("generation").len(), names::PER_GENERATION.len());
    assert_eq!(dataplane.switch(&image(3)).unwrap(), 2);
}

#[test]
fn a_write_that_fails_halfway_leaves_what_was_in_force() {
    if !sandboxed("halfway") {
        return;
    }
    let root = Root::new("halfway");
    let mut dataplane = root.open();
    // Both slots have maps now, to which little is to be written.
    dataplane.switch(&image(1)).unwrap();
    dataplane.switch(&image(2)).unwrap();
    let before = in_force(&root);
    let mut bad = image(3);
    // The first two are written, the third the kernel refuses.
    let prefixes = [
        prefix([10, 0, 0, 0], 8, 9),
        prefix([20, 0, 0, 0], 8, 9),
        prefix([30, 0, 0, 0], 33, 9),
    ];
    bad.prefixes_v4.insert(TABLE, prefixes.into());
    for _ in 0..3 {
        let error = dataplane.switch(&bad).unwrap_err();
        assert!(error.to_string().contains(names::PREFIXES_V4), "{error}");
        assert_eq!(dataplane.generation(), 2);
        assert_eq!(in_force(&root), before);
    }
    // Nothing of it is left behind in the slot that it was written to.
    assert_eq!(dataplane.switch(&image(1)).unwrap(), 3);
    assert_eq!(class_of(&root, [20, 0, 0, 1]), Some(0));
    assert_eq!(class_of(&root, [10, 0, 0, 1]), Some(1));
    assert_eq!(dataplane.switch(&image(2)).unwrap(), 4);
    assert_eq!(in_force(&root), before);
}

#[test]
fn an_agent_that_takes_over_writes_to_no_map_in_force() {
    if !sandboxed("strange") {
        return;
    }
    let root = Root::new("strange");
    let mut first = root.open();
    first.switch(&image(1)).unwrap();
    first.switch(&image(2)).unwrap();
    drop(first);
    let ids = || -> Vec<u64> {
        names::PER_GENERATION
            .iter()
            .map(|name| {
                let path = root.pin("generation", name);
                let shown = json(&format!("bpftool -j map show pinned {}", path.display()));
                shown["id"].as_u64().unwrap()
            })
            .collect()
    };
    let mut second = root.open();
    let mut seen = vec![ids()];
    for mark in 3..7 {
        second.switch(&image(mark)).unwrap();
        assert_eq!(rule_index(&root), u64::from(mark));
        seen.push(ids());
    }
    // Of the first agent's maps nothing is kept; of its own, all.
    assert!(seen[1].iter().all(|id| !seen[0].contains(id)));
    assert!(seen[2].iter().all(|id| !seen[0].contains(id)));
    assert_eq!(seen[3], seen[1]);
    assert_eq!(seen[4], seen[2]);
}

#[test]
fn pins_of_an_interrupted_switch_are_mended() {
    if !sandboxed("mend") {
        return;
    }
    let root = Root::new("mend");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.switch(&image(2)).unwrap();
    drop(dataplane);
    let rules = root.pin("generation", names::RULES);
    let rows = root.pin("generation", names::ROWS);
    std::fs::remove_file(&rules).unwrap();
    std::fs::rename(&rows, root.pin("generation", "ROWS_fresh")).unwrap();
    let dataplane = root.open();
    assert_eq!(dataplane.generation(), 2);
    assert_eq!(rule_index(&root), 2);
    assert_eq!(root.names("generation").len(), names::PER_GENERATION.len());
}
