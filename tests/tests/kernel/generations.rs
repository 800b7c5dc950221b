//! Images come into force whole, or not at all.

use aya::maps::{Map, MapData, lpm_trie};
use hostfw_common::{
    endpoint::{Endpoint, FLAG_LEARNING},
    names,
    prefix::PrefixV4,
};

use super::bench::{Root, image, json, prefix, rule_index, sandboxed};

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
    assert_eq!(dataplane.judged().unwrap(), [].into());
    let mut image = image(1);
    let learning = Endpoint {
        flags: FLAG_LEARNING,
        ..Endpoint::default()
    };
    image.endpoints.insert(2, learning);
    dataplane.switch(&image).unwrap();
    assert_eq!(dataplane.judged().unwrap(), [1].into());
    image.endpoints.insert(2, Endpoint::default());
    dataplane.switch(&image).unwrap();
    drop(dataplane);
    assert_eq!(root.open().judged().unwrap(), [1, 2].into());
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
    for number in 0..PREFIXES {
        image
            .prefixes_v4
            .insert(prefix((number << 8).to_be_bytes(), 24), number);
    }
    dataplane.switch(&image).unwrap();
    let map = MapData::from_pin(root.pin("generation", names::PREFIXES_V4)).unwrap();
    let map = aya::maps::LpmTrie::<_, PrefixV4, u32>::try_from(Map::LpmTrie(map)).unwrap();
    for number in [0, 1, 77_777, PREFIXES - 1] {
        let address = (number << 8 | 5).to_be_bytes();
        let (length, key) = prefix(address, 32);
        assert_eq!(
            map.get(&lpm_trie::Key::new(length, key), 0).unwrap(),
            number
        );
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
    bad.prefixes_v4.insert(prefix([1; 4], 33), 0);
    let error = dataplane.switch(&bad).unwrap_err();
    assert!(error.to_string().contains(names::PREFIXES_V4), "{error}");
    assert_eq!(dataplane.generation(), 1);
    assert_eq!(rule_index(&root), 1);
    assert_eq!(root.names("generation").len(), names::PER_GENERATION.len());
    assert_eq!(dataplane.switch(&image(3)).unwrap(), 2);
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
