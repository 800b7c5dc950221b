//! What an agent finds that an earlier one left, and what is left when all is
//! removed.

use hostfw_agent::{
    attach::{Dataplane, DataplaneError, HookKind, IngressChoice, Options, TcChoice, remove_all},
    maps::LockError,
};
use hostfw_common::{names, verdict::Direction};

use super::{
    attachments::attached,
    bench::{Root, image, link, output, run, sandboxed, veth},
};

#[test]
fn a_second_agent_is_told_who_holds_the_pin_root() {
    if !sandboxed("lock") {
        return;
    }
    let root = Root::new("lock");
    let dataplane = root.open();
    for error in [
        Dataplane::open(&root.options()).unwrap_err(),
        remove_all(&root.0).unwrap_err(),
    ] {
        let DataplaneError::Lock(LockError::Held { holder, .. }) = &error else {
            panic!("{error}");
        };
        let pid = std::process::id().to_string();
        assert!(holder.contains(&pid), "{error}");
    }
    drop(dataplane);
    root.open();
}

#[test]
fn a_new_agent_takes_over_by_link_update() {
    if !sandboxed("takeover") {
        return;
    }
    let root = Root::new("takeover");
    let interface = veth("v0");
    let pins = Direction::ALL.map(|direction| match direction {
        Direction::Ingress => format!("{}-ingress", interface.index),
        Direction::Egress => format!("{}-egress", interface.index),
    });
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let first = dataplane.attach(&interface).unwrap();
    assert_eq!(first.ingress.kind, HookKind::XdpNative);
    assert_eq!(first.ingress.fallback, None);
    let before = pins.clone().map(|pin| link(&root, &pin));
    // Nothing changes when it is done twice.
    assert_eq!(dataplane.attach(&interface).unwrap(), first);
    assert_eq!(pins.clone().map(|pin| link(&root, &pin)), before);
    drop(dataplane);

    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 1);
    assert!(dataplane.is_attached(interface.index));
    assert_eq!(
        dataplane.attachments().unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(pins.clone().map(|pin| link(&root, &pin)), before);
    assert_eq!(dataplane.attach(&interface).unwrap(), first);
    for (pin, (id, program)) in pins.iter().zip(before) {
        let (new_id, new_program) = link(&root, pin);
        assert_eq!(new_id, id, "{pin}: another link, so there was a gap");
        assert_ne!(new_program, program, "{pin}: still the old program");
    }
    // The maps are the old ones, too.
    assert_eq!(dataplane.switch(&image(2)).unwrap(), 2);
}

#[test]
fn links_of_another_version_are_taken_over() {
    if !sandboxed("version") {
        return;
    }
    let root = Root::new("version");
    let interface = veth("a0");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&interface).unwrap();
    let pin = format!("{}-ingress", interface.index);
    let (before, _) = link(&root, &pin);
    drop(dataplane);
    let other = root.0.join("v0");
    std::fs::rename(root.version(), &other).unwrap();

    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 0);
    assert!(
        !dataplane.is_attached(interface.index),
        "its programs are on other maps"
    );
    dataplane.switch(&image(2)).unwrap();
    dataplane.attach(&interface).unwrap();
    assert_eq!(link(&root, &pin).0, before, "another link: there was a gap");
    assert!(dataplane.is_attached(interface.index));
    assert!(!other.exists(), "the older version's maps stay");
}

#[test]
fn a_filter_left_behind_is_removed() {
    if !sandboxed("behind") {
        return;
    }
    let root = Root::new("behind");
    let interface = veth("b0");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach(&interface).unwrap();
    let clean = attached(&interface.name);
    // What an agent would leave that was killed after it had attached a link
    // and before it had removed the filter.
    let (_, program) = link(&root, &format!("{}-egress", interface.index));
    let pin = root.pin("maps", "program");
    run(&format!(
        "bpftool prog pin id {program} {pin} && tc qdisc add dev b0 clsact && tc filter add dev b0 \
         egress prio 1 handle 0x68667731 bpf direct-action object-pinned {pin} && rm {pin}",
        pin = pin.display()
    ));
    assert_ne!(attached(&interface.name), clean);
    drop(dataplane);
    assert_eq!(root.open().attach(&interface).unwrap(), attachment);
    assert_eq!(attached(&interface.name), clean);
}

#[test]
fn remove_all_leaves_nothing() {
    if !sandboxed("remove") {
        return;
    }
    let root = Root::new("remove");
    let (with_links, with_filters) = (veth("r0"), veth("r1"));
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&with_links).unwrap();
    drop(dataplane);
    let mut dataplane = Dataplane::open(&Options {
        ingress: IngressChoice::Tc,
        tc: TcChoice::Clsact,
        ..root.options()
    })
    .unwrap();
    dataplane.attach(&with_filters).unwrap();
    drop(dataplane);

    let removed = remove_all(&root.0).unwrap();
    assert_eq!((removed.links, removed.filters), (2, 2));
    assert_eq!(
        removed.maps,
        names::PER_GENERATION.len() * 2 + names::LASTING.len()
    );
    assert!(!root.0.exists());
    for interface in ["r0", "r1"] {
        assert_eq!(attached(interface), "");
        assert!(!output(&format!("tc qdisc show dev {interface}")).contains("clsact"));
    }
    assert_eq!(remove_all(&root.0).unwrap(), Default::default());
}

#[test]
fn the_log_of_the_programs_is_off_unless_asked_for() {
    if !sandboxed("log") {
        return;
    }
    let root = Root::new("log");
    assert!(root.open().take_log().is_none());
    let options = Options {
        log_level: 5,
        ..root.options()
    };
    let mut dataplane = Dataplane::open(&options).unwrap();
    dataplane.take_log().unwrap().flush();
    assert!(dataplane.take_events().unwrap().is_some());
    assert!(dataplane.take_events().unwrap().is_none());
}

#[test]
fn a_pin_root_elsewhere_is_refused() {
    if !sandboxed("elsewhere") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Dataplane::open(&Options::new(folder.path().join("pins"))).unwrap_err();
    assert!(error.to_string().contains("bpf file system"), "{error}");
}
