//! What an administrator sees of the pinned maps with bpftool: names, not
//! bytes.

use std::{fs, path::Path, process::Command};

use hostfw_common::names;
use hostfw_tests::packet::{Packet, flags::SYN};
use serde_json::Value;

use super::{
    lab::{Hook, lab, socket},
    policy::{ENDPOINT, egress, pre_dnat},
};

/// Pinned maps that bpftool cannot show by name, and why. Beside it, the outer
/// maps of [`names::PER_GENERATION`]: the kernel keeps no BTF for maps of maps,
/// whose values are the numbers of the inner ones. Those are pinned as well.
const EXCEPT: [(&str, &str); 1] = [(names::EVENTS, "a ring buffer has no entries to dump")];

/// For each other map a path into one of its entries that must be there.
const EXPECTED: [(&str, &str); 17] = [
    (names::ACTIVE, "/value"),
    (names::HALF_OPEN, "/value/last_seen"),
    (names::CONFIRMED, "/key/remote/bytes"),
    (names::FLOW_FILTER, "/value/words/7"),
    (names::FRAGMENTS, "/key/identification"),
    (names::COUNTERS, "/values/0/value/decided/packets"),
    (names::STAGED, "/key/policy/number"),
    (names::ENDPOINTS, "/value/lists/2/0/number"),
    (names::LISTS, "/value/dimensions/3/stride"),
    (names::PREFIXES_V4, "/key/data/address"),
    (names::PREFIXES_V6, "/key/data/table"),
    (names::SERVICES, "/key/data/protocol"),
    (names::INDEX, "/value/words/7"),
    (names::ROWS, "/value/words/7"),
    (names::RULES, "/value/policy/number"),
    (names::FAILSAFES_V4, "/key/data/class"),
    (names::FAILSAFES_V6, "/key/prefix_len"),
];

fn dump(path: &Path) -> Vec<Value> {
    let output = Command::new("bpftool")
        .args(["-j", "map", "dump", "pinned"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(&text) {
        Ok(Value::Array(entries)) => entries,
        other => panic!("{}: {other:?}: {text}", path.display()),
    }
}

fn pins(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_pinned_map_shows_its_fields() {
    let Some(mut lab) = lab("maps") else {
        return;
    };
    let allow = pre_dnat(
        "allow",
        1,
        "{action: Allow, source: {nets: [203.0.113.0/24]}}",
    );
    let staged = pre_dnat("staged", 0, "{action: Deny}").replace(
        "kind: GlobalNetworkPolicy",
        "kind: StagedGlobalNetworkPolicy",
    );
    let out = egress("out", 1, "{action: Allow}");
    lab.enforce(&[ENDPOINT, &staged, &allow, &out].concat());
    // Something for each of the maps that packets fill.
    let (from, to) = (socket("203.0.113.10:4000"), socket("10.240.0.11:80"));
    lab.judge(Hook::Xdp, &Packet::tcp(from, to, SYN));
    lab.judge(Hook::Xdp, &Packet::udp(from, to).fragment(0, true, 1));
    lab.judge(Hook::TcOut, &Packet::udp(to, from));
    lab.judge(Hook::Xdp, &Packet::udp(from, to));

    let maps = lab.pins().join("maps");
    let generation = lab.pins().join("generation");
    let mut expected: Vec<&str> = names::PER_GENERATION.to_vec();
    expected.sort_unstable();
    assert_eq!(
        pins(&generation),
        expected,
        "maps of the generation in force"
    );
    expected.extend(names::LASTING);
    expected.sort_unstable();
    assert_eq!(pins(&maps), expected, "maps that last");

    for name in expected {
        if let Some((_, why)) = EXCEPT.iter().find(|(except, _)| *except == name) {
            println!("{name} is left out: {why}");
            continue;
        }
        let path = if names::PER_GENERATION.contains(&name) {
            assert!(!dump(&maps.join(name)).is_empty(), "{name}: no inner map");
            generation.join(name)
        } else {
            maps.join(name)
        };
        let (_, field) = EXPECTED
            .iter()
            .find(|(of, _)| *of == name)
            .unwrap_or_else(|| panic!("{name} is neither expected nor left out"));
        let entries = dump(&path);
        let entry = entries.first().unwrap_or_else(|| panic!("{name} is empty"));
        let shown = &entry["formatted"];
        assert!(
            shown.pointer(field).is_some(),
            "{name}: no {field} in {entry}"
        );
    }
}
