//! Hooks in every mode: attached, exchanged and detached.

use std::process::Command;

use aya::programs::{SchedClassifier, TcAttachType};
use hostfw_agent::attach::{Dataplane, DataplaneError, HookKind, IngressChoice, Options, TcChoice};

use super::bench::{Root, image, json, output, run, sandboxed, veth};

/// What the kernel says is attached to an interface, apart from pins: XDP, TCX
/// and filters.
pub(super) fn attached(name: &str) -> String {
    let mut words = Vec::new();
    let link = json(&format!("ip -j -d link show dev {name}"));
    if let Some(mode) = link[0]["xdp"]["mode"].as_u64() {
        words.push(format!("xdp-{mode}"));
    }
    for (word, direction) in [
        ("egress", TcAttachType::Egress),
        ("ingress", TcAttachType::Ingress),
    ] {
        let (_, programs) = SchedClassifier::query_tcx(name, direction).unwrap();
        words.extend(programs.iter().map(|_| format!("tcx/{word}")));
        // Without the queueing discipline tc fails, and there are none.
        let filters = Command::new("tc")
            .args(["filter", "show", "dev", name, word])
            .output()
            .unwrap();
        let filters = String::from_utf8(filters.stdout).unwrap();
        words.extend(
            filters
                .matches("handle 0x68667731")
                .map(|_| format!("clsact/{word}")),
        );
    }
    words.join(" ")
}

#[test]
fn each_mode_attaches_and_detaches() {
    if !sandboxed("modes") {
        return;
    }
    use HookKind::{Clsact, Tcx, XdpGeneric, XdpNative};
    let cases = [
        (IngressChoice::Auto, TcChoice::Auto, XdpNative, Tcx),
        (IngressChoice::XdpNative, TcChoice::Tcx, XdpNative, Tcx),
        (IngressChoice::XdpGeneric, TcChoice::Auto, XdpGeneric, Tcx),
        (IngressChoice::Tc, TcChoice::Auto, Tcx, Tcx),
        (IngressChoice::Tc, TcChoice::Clsact, Clsact, Clsact),
        (IngressChoice::Auto, TcChoice::Clsact, XdpNative, Clsact),
    ];
    for (number, (ingress, tc, ingress_kind, egress_kind)) in cases.into_iter().enumerate() {
        let root = Root::new(&format!("modes{number}"));
        let interface = veth(&format!("m{number}"));
        let options = Options {
            ingress,
            tc,
            ..root.options()
        };
        let mut dataplane = Dataplane::open(&options).unwrap();
        dataplane.switch(&image(1)).unwrap();
        assert!(!dataplane.is_attached(interface.index));
        let attachment = dataplane.attach(&interface).unwrap();
        assert_eq!(attachment.ingress.kind, ingress_kind);
        assert_eq!(attachment.egress.kind, egress_kind);
        assert!(dataplane.is_attached(interface.index));
        assert_eq!(
            dataplane.attachments().unwrap(),
            std::slice::from_ref(&attachment)
        );
        assert_ne!(attached(&interface.name), "");
        drop(dataplane);

        // A filter is found and replaced in place, like a link.
        let mut dataplane = Dataplane::open(&options).unwrap();
        assert!(dataplane.is_attached(interface.index));
        let shown = attached(&interface.name);
        assert_eq!(dataplane.attach(&interface).unwrap(), attachment);
        assert_eq!(attached(&interface.name), shown);

        dataplane.detach(interface.index).unwrap();
        assert!(!dataplane.is_attached(interface.index));
        assert_eq!(attached(&interface.name), "");
        assert!(root.names("links").is_empty());
        assert!(
            !output(&format!("tc qdisc show dev {}", interface.name)).contains("clsact"),
            "the queueing discipline stays"
        );
    }
}

#[test]
fn a_workloads_interface_is_judged_at_tc_whatever_the_others_have() {
    if !sandboxed("workload") {
        return;
    }
    let root = Root::new("workload");
    let interface = veth("w0");
    let options = Options {
        ingress: IngressChoice::XdpNative,
        ..root.options()
    };
    let mut dataplane = Dataplane::open(&options).unwrap();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach_workload(&interface).unwrap();
    assert_eq!(attachment.ingress.kind, HookKind::Tcx);
    assert_eq!(attachment.ingress.fallback, None);
    assert_eq!(attachment.egress.kind, HookKind::Tcx);
    // Again, it stays; as any other interface, it gets what was asked for.
    assert_eq!(dataplane.attach_workload(&interface).unwrap(), attachment);
    let other = dataplane.attach(&interface).unwrap();
    assert_eq!(other.ingress.kind, HookKind::XdpNative);
    assert_eq!(dataplane.attach_workload(&interface).unwrap(), attachment);
}

#[test]
fn the_loopback_has_no_native_xdp_and_says_so() {
    if !sandboxed("fallback") {
        return;
    }
    let root = Root::new("fallback");
    let mut lo = veth("f0");
    lo.index = 1;
    lo.name = "lo".to_owned();
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach(&lo).unwrap();
    assert_eq!(attachment.ingress.kind, HookKind::Tcx);
    let reason = attachment.ingress.fallback.unwrap();
    assert!(reason.contains("native xdp"), "{reason}");

    let options = Options {
        ingress: IngressChoice::XdpNative,
        ..root.options()
    };
    drop(dataplane);
    let mut dataplane = Dataplane::open(&options).unwrap();
    let error = dataplane.attach(&lo).unwrap_err();
    assert!(
        matches!(&error, DataplaneError::Attach { interface, .. } if interface == "lo"),
        "{error}"
    );
    assert!(dataplane.is_attached(1), "what judged before must go on");
}

#[test]
fn an_interface_with_members_gets_no_native_xdp() {
    if !sandboxed("members") {
        return;
    }
    let root = Root::new("members");
    let (mut bridge, member) = (veth("x0"), veth("x1"));
    run("ip link add xb type bridge && ip link set x1 master xb && ip link set xb up");
    bridge.index = json("ip -j link show dev xb")[0]["ifindex"]
        .as_u64()
        .unwrap() as u32;
    bridge.name = "xb".to_owned();
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach(&bridge).unwrap();
    assert_eq!(attachment.ingress.kind, HookKind::Tcx);
    let reason = attachment.ingress.fallback.clone().unwrap();
    assert!(reason.contains("members"), "{reason}");
    // A new agent says so, too.
    drop(dataplane);
    let mut dataplane = root.open();
    assert_eq!(dataplane.attach(&bridge).unwrap(), attachment);
    // A member itself is an interface like any other.
    let attachment = dataplane.attach(&member).unwrap();
    assert_eq!(attachment.ingress.kind, HookKind::XdpNative);
}

#[test]
fn another_choice_replaces_the_hook() {
    if !sandboxed("change") {
        return;
    }
    let root = Root::new("change");
    let interface = veth("c0");
    let mut former = None;
    for (ingress, tc, expected) in [
        (IngressChoice::XdpNative, TcChoice::Tcx, "tcx/egress"),
        (IngressChoice::XdpGeneric, TcChoice::Clsact, "clsact/egress"),
        (IngressChoice::Tc, TcChoice::Tcx, "tcx/egress tcx/ingress"),
        (
            IngressChoice::Tc,
            TcChoice::Clsact,
            "clsact/egress clsact/ingress",
        ),
        (IngressChoice::XdpNative, TcChoice::Tcx, "tcx/egress"),
    ] {
        let mut dataplane = Dataplane::open(&Options {
            ingress,
            tc,
            ..root.options()
        })
        .unwrap();
        dataplane.switch(&image(1)).unwrap();
        let attachment = dataplane.attach(&interface).unwrap();
        assert_eq!(attachment.ingress.fallback, None);
        assert_ne!(Some(attachment.ingress.kind), former);
        former = Some(attachment.ingress.kind);
        let links = [attachment.ingress.kind, attachment.egress.kind]
            .iter()
            .filter(|kind| **kind != HookKind::Clsact)
            .count();
        assert_eq!(root.names("links").len(), links, "{ingress:?}");
        let shown: Vec<_> = attached(&interface.name)
            .split(' ')
            .filter(|word| !word.starts_with("xdp"))
            .map(str::to_owned)
            .collect();
        assert_eq!(shown.join(" "), expected, "{ingress:?}");
        assert_eq!(
            attached(&interface.name).contains("xdp"),
            attachment.ingress.kind.hook() == "xdp"
        );
    }
}

#[test]
fn links_of_vanished_interfaces_are_removed() {
    if !sandboxed("stale") {
        return;
    }
    let root = Root::new("stale");
    let (gone, stays) = (veth("s0"), veth("s1"));
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&gone).unwrap();
    dataplane.attach(&stays).unwrap();
    assert_eq!(root.names("links").len(), 4);
    run("ip link del s0");
    assert!(!dataplane.is_attached(gone.index));
    assert_eq!(dataplane.attachments().unwrap().len(), 1);
    drop(dataplane);
    let mut dataplane = root.open();
    assert_eq!(root.names("links").len(), 2);
    // To detach what is gone is no error.
    dataplane.detach(gone.index).unwrap();
    assert!(dataplane.is_attached(stays.index));
}
