//! The filter in front of the tables of flows: that it never hides one.

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use hostfw_agent::attach::{Dataplane, FlowTables, NetfilterChoice, Options};
use hostfw_common::{
    conntrack::{Idle, Timeouts},
    index::Line,
    names,
    verdict::Reason,
};
use hostfw_tests::packet::Packet;

use super::{
    bench::{Root, sandboxed},
    flood,
};

/// What the node sends may be answered, and nothing else may come in.
const POLICIES: &str = "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1-eth0}
spec: {node: node1, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: nothing-in}
spec:
  selector: all()
  preDNAT: true
  applyOnForward: true
  ingress: [{action: Deny}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: all-out}
spec:
  selector: all()
  types: [Egress]
  egress: [{action: Allow}]
";

/// The programs of both directions.
struct Wire {
    outwards: OwnedFd,
    inwards: OwnedFd,
}

impl Wire {
    fn of(dataplane: &Dataplane) -> Self {
        Self {
            outwards: flood::program(dataplane, names::PROGRAM_TC_EGRESS),
            inwards: flood::program(dataplane, names::PROGRAM_XDP),
        }
    }

    /// The node opens a flow of this number.
    fn open(&self, number: usize) {
        let (local, remote) = ends(number);
        let packet = Packet::udp(local.into(), remote.into()).build();
        flood::test_run(&self.outwards, &packet, 1).unwrap();
    }

    /// The other side sends in it.
    fn answer(&self, number: usize) {
        let (local, remote) = ends(number);
        let packet = Packet::udp(remote.into(), local.into()).build();
        flood::test_run(&self.inwards, &packet, 1).unwrap();
    }
}

fn ends(number: usize) -> ((std::net::Ipv4Addr, u16), (std::net::Ipv4Addr, u16)) {
    let [.., high, low] = number.to_be_bytes();
    let port = 1024 + (number >> 16) as u16;
    (
        ([10, 240, 0, 11].into(), port),
        ([203, 0, high, low].into(), 53),
    )
}

fn open(root: &Root) -> Dataplane {
    let options = Options {
        // Nothing is to be pushed out.
        tables: FlowTables {
            half_open: 1 << 18,
            confirmed: 1 << 18,
        },
        // However slow the machine is.
        timeouts: Timeouts([3_600_000_000_000; Idle::COUNT]),
        netfilter: NetfilterChoice::Off,
        ..root.options()
    };
    Dataplane::open(&options).unwrap()
}

/// Packets that came in and were denied, and those that followed a flow.
fn came_in(dataplane: &Dataplane) -> (u64, u64) {
    let mut counts = (0, 0);
    for (_, reason, counter) in dataplane.counters().unwrap() {
        if reason == Reason::RuleDeny {
            counts.0 += counter.packets;
        } else if reason == Reason::Established {
            counts.1 += counter.packets;
        }
    }
    counts
}

fn filter(root: &Root) -> Array<MapData, Line> {
    let map = MapData::from_pin(root.pin("maps", names::FLOW_FILTER)).unwrap();
    Array::try_from(Map::Array(map)).unwrap()
}

#[test]
fn a_filter_made_anew_meanwhile_hides_no_flow() {
    /// As many flows are opened before the first of them is answered.
    const APART: usize = 2000;
    const RENEWALS: usize = 30;
    const FLOWERS: usize = 2;

    if !sandboxed("anew") {
        return;
    }
    let root = Root::new("anew");
    let mut dataplane = open(&root);
    dataplane.switch(&flood::image(POLICIES)).unwrap();
    let (wire, keeper) = (Wire::of(&dataplane), dataplane.filter_keeper());
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for flower in 0..FLOWERS {
            let (wire, stop, answered) = (&wire, &stop, &answered);
            scope.spawn(move || {
                let number = |at: usize| at * FLOWERS + flower;
                let mut opened = 0;
                while !stop.load(Ordering::Relaxed) && number(opened) < 200_000 {
                    wire.open(number(opened));
                    if let Some(at) = opened.checked_sub(APART) {
                        wire.answer(number(at));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    opened += 1;
                }
                for at in opened.saturating_sub(APART)..opened {
                    wire.answer(number(at));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..RENEWALS {
            keeper.renew().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let answered = answered.into_inner() as u64;
    assert!(answered > APART as u64, "{answered} answers");
    assert_eq!(came_in(&dataplane), (0, answered));
    // The filter is in use, and lets few others through to the tables.
    let fill = keeper.fill();
    assert!(fill > 0.0 && fill < 0.25, "{fill}");
}

#[test]
fn a_filter_goes_on_with_another_agent_and_is_made_where_it_lacks() {
    if !sandboxed("lacks") {
        return;
    }
    let root = Root::new("lacks");
    let mut dataplane = open(&root);
    dataplane.switch(&flood::image(POLICIES)).unwrap();
    let wire = Wire::of(&dataplane);
    for number in 0..100 {
        wire.open(number);
    }
    let head = filter(&root).get(&0, 0).unwrap();
    assert_ne!(head.words[0], 0, "the filter is not in use");
    drop(dataplane);

    let dataplane = open(&root);
    assert_eq!(filter(&root).get(&0, 0).unwrap(), head, "it was made anew");
    let wire = Wire::of(&dataplane);
    wire.answer(0);
    assert_eq!(came_in(&dataplane), (0, 1));
    drop(dataplane);

    // An agent that was killed while it put the filter to use leaves it so.
    filter(&root).set(0, Line::EMPTY, 0).unwrap();
    wire.answer(1);
    let dataplane = open(&root);
    let anew = filter(&root).get(&0, 0).unwrap();
    assert_ne!(anew, head);
    Wire::of(&dataplane).answer(2);
    assert_eq!(came_in(&dataplane), (0, 3));
    drop(dataplane);

    std::fs::remove_file(root.pin("maps", names::FLOW_FILTER)).unwrap();
    let dataplane = open(&root);
    let wire = Wire::of(&dataplane);
    for number in 3..100 {
        wire.answer(number);
    }
    assert_eq!(came_in(&dataplane), (0, 100));
    // Others are still denied.
    wire.answer(100);
    assert_eq!(came_in(&dataplane), (1, 100));
}

#[test]
fn a_filter_that_is_full_is_made_anew_now_and_then() {
    if !sandboxed("full") {
        return;
    }
    let root = Root::new("full");
    let mut dataplane = open(&root);
    dataplane.switch(&flood::image(POLICIES)).unwrap();
    let (wire, keeper) = (Wire::of(&dataplane), dataplane.filter_keeper());
    wire.open(0);
    let now = Instant::now();
    assert!(!keeper.tend(now).unwrap(), "{}", keeper.fill());

    let fill_up = || {
        let mut filter = filter(&root);
        let full = Line { words: [!0; 8] };
        for line in 1..filter.len() {
            filter.set(line, full, 0).unwrap();
        }
    };
    fill_up();
    assert!(keeper.fill() > 0.99, "{}", keeper.fill());
    assert!(keeper.tend(now).unwrap());
    let fill = keeper.fill();
    assert!(fill > 0.0 && fill < 0.001, "{fill}");
    wire.answer(0);
    assert_eq!(came_in(&dataplane), (0, 1));

    // It takes no more of a CPU than it may.
    fill_up();
    assert!(!keeper.tend(now).unwrap());
    assert!(keeper.tend(now + Duration::from_secs(86_400)).unwrap());
}
