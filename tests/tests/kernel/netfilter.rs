//! Links to netfilter hooks: attached, taken over and removed.

use hostfw_agent::attach::TrialPrograms;

use super::bench::{Root, image, sandboxed};

const PINS: [&str; 4] = [
    "ipv4-forward",
    "ipv4-local-in",
    "ipv6-forward",
    "ipv6-local-in",
];

#[test]
fn the_netfilter_hooks_are_attached_and_let_go() {
    if !sandboxed("netfilter") {
        return;
    }
    let root = Root::new("netfilter");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    assert!(!dataplane.netfilter_attached());
    dataplane.attach_netfilter().unwrap();
    assert!(dataplane.netfilter_attached());
    assert_eq!(root.names("netfilter"), PINS);
    dataplane.detach_netfilter().unwrap();
    assert!(!dataplane.netfilter_attached());
    assert!(root.names("netfilter").is_empty());
}

#[test]
fn programs_for_test_runs_can_be_loaded_beside() {
    if !sandboxed("trial") {
        return;
    }
    let programs = TrialPrograms::load().unwrap();
    assert!(
        programs.netfilter_missing().is_none(),
        "{:?}",
        programs.netfilter_missing()
    );
}
