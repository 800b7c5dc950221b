//! Links to netfilter hooks: attached, taken over and removed.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use hostfw_agent::{
    attach::{Dataplane, NetfilterChoice, Options, TrialPrograms, remove_all},
    compile::image::Image,
};
use hostfw_common::{
    endpoint::{Endpoint, FLAG_NETFILTER},
    failsafe::{FAILSAFE_BITS, FailsafeV4},
    policy::{ListId, PolicyTable, TABLE_DEFAULT_DENY},
    stage::List,
    verdict::Direction,
};

use super::bench::{Root, image, json, run, sandboxed};

const PINS: [&str; 4] = [
    "ipv4-forward",
    "ipv4-local-in",
    "ipv6-forward",
    "ipv6-local-in",
];
/// Where the links are that no other ones have forced away.
const FIRST_PRIORITY: i32 = -11;
const LOOPBACK: u32 = 1;
const OPEN_PORT: u16 = 7001;
const CLOSED_PORT: u16 = 7002;
const UDP: u8 = 17;

/// The identities of the pinned links.
fn links(root: &Root) -> Vec<u64> {
    let id = |name: &&str| {
        let path = root.pin("netfilter", name);
        let shown = json(&format!("bpftool -j link show pinned {}", path.display()));
        shown["id"].as_u64().unwrap()
    };
    PINS.iter().map(id).collect()
}

/// The priority of a hook.
fn at(dataplane: &Dataplane, name: &str) -> i32 {
    let hooks = dataplane.netfilter_hooks();
    hooks.iter().find(|(hook, _)| hook == name).unwrap().1
}

/// The loopback with one port open, by a fail-safe, and all else denied by
/// normal policy.
fn one_port_open() -> Image {
    let mut endpoint = Endpoint {
        flags: FLAG_NETFILTER,
        ..Endpoint::default()
    };
    endpoint.lists[List::NormalIn as usize] = [ListId { number: 1 }; 2];
    let closed = PolicyTable {
        flags: TABLE_DEFAULT_DENY,
        ..PolicyTable::default()
    };
    let port = OPEN_PORT.to_be_bytes();
    endpoint.listed.add(Direction::Ingress as u8, UDP, port);
    let failsafe = FailsafeV4 {
        class: Direction::Ingress as u8,
        protocol: UDP,
        port,
        remote: [0; 4],
    };
    Image {
        endpoints: BTreeMap::from([(LOOPBACK, endpoint)]),
        failsafes_v4: BTreeMap::from([((FAILSAFE_BITS, failsafe), 0)]),
        lists: vec![PolicyTable::default(), closed].into(),
        ..image(1)
    }
}

/// Sends numbered datagrams to both ports while `during` runs, and gives how
/// many were sent to each, and how many came to the open and the closed port.
fn datagrams(during: impl FnOnce()) -> (usize, usize, usize) {
    let receiver = |port: u16| {
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let (open, closed) = (receiver(OPEN_PORT), receiver(CLOSED_PORT));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ended = AtomicBool::new(false);
    let count = |socket: &UdpSocket| {
        let mut received = 0;
        while socket.recv(&mut [0; 8]).is_ok() {
            received += 1;
        }
        received
    };
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut sent, mut at_open, mut at_closed) = (0, 0, 0);
            while !ended.load(Ordering::Relaxed) {
                for port in [OPEN_PORT, CLOSED_PORT] {
                    // EPERM is how a sender on the same host learns of a drop.
                    let _ = sender.send_to(&[0; 8], ("127.0.0.1", port));
                }
                sent += 1;
                at_open += count(&open);
                at_closed += count(&closed);
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(50));
            (sent, at_open + count(&open), at_closed + count(&closed))
        });
        during();
        ended.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    })
}

#[test]
fn the_netfilter_hooks_are_attached_and_let_go() {
    if !sandboxed("netfilter") {
        return;
    }
    let root = Root::new("netfilter");
    let mut dataplane = root.open();
    dataplane.switch(&one_port_open()).unwrap();
    let (sent, open, closed) = datagrams(|| thread::sleep(Duration::from_millis(20)));
    assert_eq!((open, closed), (sent, sent), "judged before it is attached");
    assert!(!dataplane.netfilter_attached());

    dataplane.attach_netfilter().unwrap();
    assert!(dataplane.netfilter_attached());
    assert_eq!(root.names("netfilter"), PINS);
    let before = links(&root);
    for name in PINS {
        assert_eq!(at(&dataplane, name), FIRST_PRIORITY);
    }
    // Nothing changes when it is done twice.
    dataplane.attach_netfilter().unwrap();
    assert_eq!(links(&root), before);
    let (sent, open, closed) = datagrams(|| thread::sleep(Duration::from_millis(20)));
    assert_eq!((open, closed), (sent, 0));

    dataplane.detach_netfilter().unwrap();
    assert!(!dataplane.netfilter_attached());
    assert!(root.names("netfilter").is_empty());
    let (sent, open, closed) = datagrams(|| thread::sleep(Duration::from_millis(20)));
    assert_eq!((open, closed), (sent, sent), "detached, but judged on");
}

#[test]
fn a_new_agent_takes_over_the_netfilter_hooks_with_no_open_moment() {
    if !sandboxed("netfilter-takeover") {
        return;
    }
    let root = Root::new("netfilter-takeover");
    let mut dataplane = root.open();
    dataplane.switch(&one_port_open()).unwrap();
    dataplane.attach_netfilter().unwrap();
    let before = links(&root);
    drop(dataplane);
    let (sent, open, closed) = datagrams(|| {
        for _ in 0..3 {
            root.open().attach_netfilter().unwrap();
        }
    });
    assert!(sent > 20, "{sent}");
    assert_eq!((open, closed), (sent, 0));
    for (old, new) in before.iter().zip(links(&root)) {
        assert_ne!(*old, new);
    }
    // Every second time.
    assert_eq!(at(&root.open(), PINS[0]), FIRST_PRIORITY - 1);
}

#[test]
fn a_priority_that_somebody_holds_is_left_to_them() {
    if !sandboxed("netfilter-busy") {
        return;
    }
    let root = Root::new("netfilter-busy");
    let mut dataplane = root.open();
    run("nft add table inet t");
    run("nft add chain inet t a '{ type filter hook input priority -11; }'");
    dataplane.attach_netfilter().unwrap();
    assert_eq!(at(&dataplane, "ipv4-local-in"), FIRST_PRIORITY - 1);
    assert_eq!(at(&dataplane, "ipv4-forward"), FIRST_PRIORITY);

    // Nowhere to go: what judges goes on.
    for priority in [-13, -14, -16, -17] {
        run(&format!(
            "nft add chain inet t c{} '{{ type filter hook input priority {priority}; }}'",
            -priority
        ));
    }
    let before = links(&root);
    drop(dataplane);
    let mut dataplane = root.open();
    let error = dataplane.attach_netfilter().unwrap_err().to_string();
    assert!(error.contains("ipv4-local-in"), "{error}");
    assert!(error.contains("priority -17"), "{error}");
    assert_eq!(links(&root), before);
    assert!(dataplane.netfilter_attached());
}

#[test]
fn what_a_killed_agent_leaves_behind_is_removed() {
    if !sandboxed("netfilter-stale") {
        return;
    }
    let root = Root::new("netfilter-stale");
    let mut dataplane = root.open();
    dataplane.attach_netfilter().unwrap();
    let before = links(&root);
    drop(dataplane);
    // As if it had been killed between pinning a link and renaming the pin.
    let (from, to) = (
        root.pin("netfilter", "ipv6-forward"),
        root.pin("netfilter", "ipv6-forward_fresh"),
    );
    std::fs::rename(&from, &to).unwrap();
    let mut dataplane = root.open();
    assert_eq!(
        root.names("netfilter"),
        PINS[..2]
            .iter()
            .chain(&PINS[3..])
            .copied()
            .collect::<Vec<_>>()
    );
    assert!(!dataplane.netfilter_attached(), "three links are not four");
    dataplane.attach_netfilter().unwrap();
    assert_eq!(root.names("netfilter"), PINS);
    assert_ne!(links(&root), before);
    drop(dataplane);

    assert_eq!(remove_all(&root.0).unwrap().links, PINS.len());
    assert!(!root.0.exists());
}

#[test]
fn without_the_netfilter_hooks_the_reason_is_told() {
    if !sandboxed("netfilter-off") {
        return;
    }
    let root = Root::new("netfilter-off");
    root.open().attach_netfilter().unwrap();
    let options = Options {
        netfilter: NetfilterChoice::Off,
        ..root.options()
    };
    let mut dataplane = Dataplane::open(&options).unwrap();
    assert!(
        !dataplane.netfilter_attached(),
        "not wanted, so not counted"
    );
    let error = dataplane.attach_netfilter().unwrap_err();
    assert_eq!(error.to_string(), "switched off (--netfilter off)");
    dataplane.detach_netfilter().unwrap();
    assert!(root.names("netfilter").is_empty());
}

#[test]
fn programs_for_test_runs_can_be_loaded_beside() {
    if !sandboxed("trial") {
        return;
    }
    let programs = TrialPrograms::load().unwrap();
    let missing = programs.netfilter_missing().map(ToString::to_string);
    assert_eq!(missing, None);
}
