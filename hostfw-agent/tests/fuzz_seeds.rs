//! The seeds of the fuzz targets, and every small change of them, through what
//! the targets do: a fuzzer finds more, but this needs none.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own for the fuzzer")]
mod targets;

use std::{fs, path::Path};

/// Bytes that mean something to one of the parsers.
const NASTY: &[u8] = b"\0\n\t '\"\\{}[]()&*!|>%@`#:,-=~0\x7f\xc3\xff";

/// The seed, all its beginnings, and what one byte makes of it: taken away, or
/// another in its place, of which each place tries `tries` in turn.
fn changes(seed: &[u8], tries: usize) -> impl Iterator<Item = Vec<u8>> {
    let places = 0..seed.len();
    let beginnings = (0..=seed.len()).map(|end| seed[..end].to_vec());
    let without = places.clone().map(|place| {
        let mut changed = seed.to_vec();
        changed.remove(place);
        changed
    });
    let replaced = places.flat_map(move |place| {
        (0..tries).map(move |offset| {
            let mut changed = seed.to_vec();
            changed[place] = NASTY[(place + offset) % NASTY.len()];
            changed
        })
    });
    beginnings.chain(without).chain(replaced)
}

fn seeds(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let seeds: Vec<_> = entries
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{folder:?} is empty");
    seeds
}

#[test]
fn selectors() {
    for seed in seeds("fuzz/seeds/selector") {
        changes(&seed, NASTY.len()).for_each(|input| targets::selector(&input));
    }
}

#[test]
fn resources() {
    for folder in ["fuzz/seeds/resources", "examples/protect-hosts"] {
        for seed in seeds(folder) {
            changes(&seed, 1).for_each(|input| targets::resources(&input));
        }
    }
}
