//! No packet sees two generations.

use hostfw_common::names;

use super::{
    bench::{Root, sandboxed},
    flood::{Switcher, flood, telling_maps},
};

#[test]
fn no_packet_of_a_flood_is_judged_by_a_mixture() {
    if !sandboxed("flood") {
        return;
    }
    let root = Root::new("flood");
    let report = flood(&root.0, Switcher::Whole, 100, 200_000, |_, _| ());
    println!("{report:?}");
    assert!(report.switches >= 100 && report.sent >= 200_000);
    assert_eq!((report.mixture, report.not_judged()), (0, 0), "{report:?}");
}

#[test]
fn a_switch_that_is_no_whole_is_found_out() {
    if !sandboxed("broken") {
        return;
    }
    let root = Root::new("broken");
    let report = flood(&root.0, Switcher::OneByOne, 10, 100_000, |_, _| ());
    println!("{report:?}");
    assert!(report.mixture > 0, "{report:?}");
    assert!(report.denied > 0, "{report:?}");
    assert_eq!(report.not_judged(), 0, "{report:?}");
}

#[test]
fn the_probes_tell_the_maps_that_decide() {
    if !sandboxed("telling") {
        return;
    }
    let root = Root::new("telling");
    let telling = telling_maps(&root.0);
    println!("{telling:?}");
    for name in [names::LISTS, names::INDEX, names::ROWS, names::RULES] {
        assert!(telling.contains(&name), "{name}: {telling:?}");
    }
}
