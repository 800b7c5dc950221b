//! The seeds of the fuzz targets, and every small change of them, through what
//! the targets do: a fuzzer finds more, but this needs none.

#[path = "fuzz/changes.rs"]
mod changes;
#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own for the fuzzer")]
mod targets;

use changes::{NASTY, changes, seeds};

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
