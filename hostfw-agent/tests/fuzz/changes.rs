//! Seeds, and what becomes of them by small changes.

use std::{fs, path::Path};

/// Bytes that mean something to one of the parsers.
pub(crate) const NASTY: &[u8] = b"\0\n\t '\"\\{}[]()&*!|>%@`#:,-=~0\x7f\xc3\xff";

/// The seed, all its beginnings, and what one byte makes of it: taken away, or
/// another in its place, of which each place tries `tries` in turn.
pub(crate) fn changes(seed: &[u8], tries: usize) -> impl Iterator<Item = Vec<u8>> {
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

/// The files of a folder of the repository.
pub(crate) fn seeds(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let seeds: Vec<_> = entries
        .map(|entry| fs::read(entry.expect("entry").path()).expect("seed"))
        .collect();
    assert!(!seeds.is_empty(), "{folder:?} is empty");
    seeds
}
