//! A flood of packets while generations are switched: how many were judged by a
//! mixture of two, and how many not at all.
//!
//! Needs the sandbox. Stands alone, so that the benchmarks can run it for long.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use aya::{
    maps::{Array, ArrayOfMaps, Map, MapData},
    programs::Program,
};
use hostfw_agent::{
    attach::{Dataplane, Options},
    compile::{compile, image::Image},
    model::Interface,
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};
use hostfw_common::{ABI_VERSION, names, verdict::Reason};

/// The interface that packets of a test run cross: the loopback interface of
/// the namespace, whose index is always 1.
const INTERFACE: u32 = 1;
/// Packets of one probe in a row. All of a test run are judged under one RCU
/// read lock unless the kernel wants the CPU: the longer it is, the longer a
/// switch waits.
const IN_A_ROW: u32 = 1024;

/// How generations are switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switcher {
    /// As the agent does.
    Whole,
    /// One map after another, in the slot in force: to show that the flood
    /// finds out.
    OneByOne,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Switches from one generation to the other.
    pub(crate) switches: u64,
    /// Packets that were sent.
    pub(crate) sent: u64,
    /// Packets that a rule denied, as one does in both generations.
    pub(crate) denied: u64,
    /// Packets that something else was done with: judged by a mixture.
    pub(crate) mixture: u64,
}

impl Report {
    /// Packets that no counter knows of.
    pub(crate) const fn not_judged(&self) -> u64 {
        self.sent.abs_diff(self.denied + self.mixture)
    }
}

/// Floods a program of each hook at the wire with packets that both generations
/// deny and next to every mixture lets pass, until there were so many switches
/// and packets. `tell` is told after each switch how many there were so far.
///
/// `pins` is a folder on bpffs that does not exist yet; it is removed.
pub(crate) fn flood(
    pins: &Path,
    switcher: Switcher,
    switches: u64,
    packets: u64,
    mut tell: impl FnMut(u64, u64),
) -> Report {
    let mut flood = Flood::new(pins);
    let before = flood.counts();
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let programs = HOOKS.map(|(name, make)| {
        // For an XDP program that is to run more than once, the kernel first
        // changes its dispatcher (`bpf_test_run_xdp`), and waits for a grace
        // period each time.
        let at_once = if name == names::PROGRAM_XDP {
            1
        } else {
            IN_A_ROW
        };
        (flood.program(name), probes(make), at_once)
    });
    let done = thread::scope(|scope| {
        for first in 0..flooders() {
            let (programs, sent, stop) = (&programs, &sent, &stop);
            scope.spawn(move || {
                for (program, probes, at_once) in programs.iter().cycle().skip(first) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    for probe in probes {
                        for _ in 0..IN_A_ROW / at_once {
                            test_run(program, probe, *at_once).unwrap();
                            sent.fetch_add(u64::from(*at_once), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        let mut done = 0;
        loop {
            let sent = sent.load(Ordering::Relaxed);
            if done >= switches && sent >= packets {
                break;
            }
            flood.switch(switcher);
            done += 1;
            tell(done, sent);
        }
        stop.store(true, Ordering::Relaxed);
        done
    });
    let after = flood.counts();
    Report {
        switches: done,
        sent: sent.into_inner(),
        denied: after.0 - before.0,
        mixture: after.1 - before.1,
    }
}

/// How many threads flood: one for each hook, but one CPU is left to who
/// switches, and to the kernel's grace periods. Otherwise a switch waits for its
/// turn on a CPU for far longer than it takes.
fn flooders() -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cpus - 1).clamp(1, HOOKS.len())
}

/// The maps of which one alone, taken from the other generation, lets a probe
/// pass.
pub(crate) fn telling_maps(pins: &Path) -> Vec<&'static str> {
    let flood = Flood::new(pins);
    let programs = HOOKS.map(|(name, make)| (flood.program(name), make));
    let passes = || {
        let before = flood.counts();
        for (program, make) in &programs {
            for probe in probes(*make) {
                test_run(program, &probe, 1).unwrap();
            }
        }
        flood.counts().0 - before.0 < (PROBES * HOOKS.len()) as u64
    };
    assert!(!passes(), "the generation in force denies all probes");
    let mut telling = Vec::new();
    for name in names::PER_GENERATION {
        let mut slots = Slots::open(pins, name);
        let other = slots.other.take().unwrap();
        slots.outer.set(SLOT_IN_FORCE, &other, 0).unwrap();
        forget_verdicts(pins);
        if passes() {
            telling.push(name);
        }
        slots.outer.set(SLOT_IN_FORCE, &slots.own, 0).unwrap();
        forget_verdicts(pins);
    }
    assert!(!passes(), "all maps are back in their places");
    telling
}

/// Gives the generation in force another number, with the same slot: verdicts
/// are remembered by it.
fn forget_verdicts(pins: &Path) {
    let active = Map::Array(MapData::from_pin(pinned(pins, names::ACTIVE)).unwrap());
    let mut active = Array::<_, u64>::try_from(active).unwrap();
    let generation = active.get(&0, 0).unwrap();
    active.set(0, generation + 2, 0).unwrap();
}

fn pinned(pins: &Path, name: &str) -> PathBuf {
    pins.join(format!("v{ABI_VERSION}")).join("maps").join(name)
}

/// Two generations are in the slots, the second in force.
const SLOT_IN_FORCE: u32 = 0;

struct Flood<'a> {
    pins: &'a Path,
    dataplane: Dataplane,
    images: [Image; 3],
    /// How many images were put in force.
    put: usize,
}

impl<'a> Flood<'a> {
    fn new(pins: &'a Path) -> Self {
        let mut dataplane = Dataplane::open(&Options::new(pins)).unwrap();
        let images = [one(), other(), third()].map(|yaml| image(&yaml));
        let put = 2;
        for (generation, image) in (1..).zip(&images[..put]) {
            assert_eq!(dataplane.switch(image).unwrap(), generation);
        }
        Self {
            pins,
            dataplane,
            images,
            put,
        }
    }

    fn switch(&mut self, switcher: Switcher) {
        match switcher {
            Switcher::Whole => {
                // Three images in two slots: each switch writes to one.
                let image = &self.images[self.put % self.images.len()];
                self.put += 1;
                self.dataplane.switch(image).unwrap();
            }
            Switcher::OneByOne => {
                for name in names::PER_GENERATION {
                    let mut slots = Slots::open(self.pins, name);
                    let inner = slots.other.as_ref().unwrap_or(&slots.own);
                    slots.outer.set(SLOT_IN_FORCE, inner, 0).unwrap();
                    slots.outer.set(1 - SLOT_IN_FORCE, &slots.own, 0).unwrap();
                }
            }
        }
    }

    fn program(&self, name: &str) -> OwnedFd {
        program(&self.dataplane, name)
    }

    /// Packets that a rule denied, and others.
    fn counts(&self) -> (u64, u64) {
        let mut counts = (0, 0);
        for (_, reason, counter) in self.dataplane.counters().unwrap() {
            if reason == Reason::RuleDeny {
                counts.0 += counter.packets;
            } else {
                counts.1 += counter.packets;
            }
        }
        counts
    }
}

/// A program of the wire, for test runs.
pub(crate) fn program(dataplane: &Dataplane, name: &str) -> OwnedFd {
    let program = dataplane.program(name).unwrap();
    let fd = if let Program::Xdp(program) = program {
        program.fd()
    } else if let Program::SchedClassifier(program) = program {
        program.fd()
    } else {
        panic!("{program:?}");
    };
    fd.unwrap().as_fd().try_clone_to_owned().unwrap()
}

impl Drop for Flood<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.pins);
    }
}

/// The two slots of a map.
struct Slots {
    outer: ArrayOfMaps<MapData, MapData>,
    /// What is in the slot in force.
    own: MapData,
    /// What is in the other one.
    other: Option<MapData>,
}

impl Slots {
    fn open(pins: &Path, name: &str) -> Self {
        let outer = Map::ArrayOfMaps(MapData::from_pin(pinned(pins, name)).unwrap());
        let outer = ArrayOfMaps::<_, MapData>::try_from(outer).unwrap();
        Self {
            own: outer.get(&SLOT_IN_FORCE, 0).unwrap(),
            other: outer.get(&(1 - SLOT_IN_FORCE), 0).ok(),
            outer,
        }
    }
}

/// A policy for both hooks at the wire that denies the probes by its rule of
/// this number, allows what else there is, and has this many rules.
fn policies(deny: usize, rules: usize) -> String {
    let rule = |side: &str, number: usize| {
        let (action, nets) = match number {
            _ if number == deny => (
                "Deny",
                ["203.0.113.0/24".to_owned(), "2001:db8:113::/48".to_owned()],
            ),
            _ if number > deny => ("Allow", ["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
            _ => (
                "Allow",
                [
                    format!("198.51.100.{number}/32"),
                    format!("2001:db8:100::{number}/128"),
                ],
            ),
        };
        nets.map(|net| {
            format!("  - action: {action}\n    protocol: UDP\n    {side}:\n      nets: ['{net}']\n")
        })
        .concat()
    };
    let list = |side| {
        (0..rules)
            .map(|number| rule(side, number))
            .collect::<String>()
    };
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata: {{name: in}}\n\
         spec:\n  selector: all()\n  preDNAT: true\n  applyOnForward: true\n  ingress:\n{}\
         ---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata: {{name: out}}\n\
         spec:\n  selector: all()\n  types: [Egress]\n  egress:\n{}",
        list("source"),
        list("destination")
    )
}

const ENDPOINT: &str = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\n\
                        metadata: {name: node1-eth0}\n\
                        spec: {node: node1, interfaceName: eth0}\n";

/// Denies by the first rule; where the other generation does, it allows.
fn one() -> String {
    format!("{ENDPOINT}{}", policies(0, 50))
}

/// Denies by a later rule, and has a list more, so that none has the number
/// that it has in the other generation.
fn other() -> String {
    let both = untracked(&["ingress", "egress"]);
    format!("{ENDPOINT}{}{both}", policies(20, 40))
}

/// Denies by an even later rule.
fn third() -> String {
    let outwards = untracked(&["egress"]);
    format!("{ENDPOINT}{}{outwards}", policies(45, 60))
}

/// A policy of these directions that is about none of the probes.
fn untracked(directions: &[&str]) -> String {
    let rules: String = directions
        .iter()
        .map(|direction| format!("  {direction}:\n  - action: Allow\n    protocol: SCTP\n"))
        .collect();
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata: {{name: untracked}}\n\
         spec:\n  selector: all()\n  doNotTrack: true\n  applyOnForward: true\n{rules}"
    )
}

pub(crate) fn image(yaml: &str) -> Image {
    let objects = parse_documents(yaml).into_iter().flat_map(|document| {
        let resources = document.result.unwrap();
        let objects: Vec<_> = resources.iter().map(|one| validate(one).unwrap()).collect();
        objects
    });
    let eth0 = Interface {
        index: INTERFACE,
        name: "eth0".to_owned(),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    };
    compile(&select(&assemble(objects), "node1", &[eth0])).unwrap()
}

/// From a remote of a number to the node, or from the node to the remote.
type Make = fn(u8, bool) -> Vec<u8>;

/// Programs, and what is sent through them.
const HOOKS: [(&str, Make); 3] = [
    (names::PROGRAM_XDP, came_in),
    (names::PROGRAM_TC_INGRESS, came_in),
    (names::PROGRAM_TC_EGRESS, goes_out),
];

/// Different probes of a hook.
const PROBES: usize = 4;

fn probes(make: Make) -> Vec<Vec<u8>> {
    [(7, true), (200, true), (7, false), (200, false)]
        .map(|(remote, v4)| make(remote, v4))
        .to_vec()
}

fn came_in(remote: u8, v4: bool) -> Vec<u8> {
    datagram(remote, v4, true)
}

fn goes_out(remote: u8, v4: bool) -> Vec<u8> {
    datagram(remote, v4, false)
}

/// An Ethernet frame with a UDP datagram. Checksums are not looked at.
fn datagram(remote: u8, v4: bool, inwards: bool) -> Vec<u8> {
    let order = |remote: Vec<u8>, local: Vec<u8>| {
        if inwards {
            [remote, local].concat()
        } else {
            [local, remote].concat()
        }
    };
    // Another port outwards: what a mixture lets pass in both directions would
    // be a flow, and pass for good.
    let local_port = 4242 + u16::from(!inwards);
    let udp = [
        &order(vec![0x30, 0x39], local_port.to_be_bytes().to_vec())[..],
        &[0, 16, 0, 0][..],
        &[0; 8],
    ]
    .concat();
    let mut frame = vec![0; 12];
    if v4 {
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(order(vec![203, 0, 113, remote], vec![10, 240, 0, 11]));
    } else {
        let address = |second: [u8; 2], last: u8| {
            let mut address = vec![0x20, 0x01, 0x0d, 0xb8];
            address.extend(second);
            address.extend([0; 9]);
            address.push(last);
            address
        };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 17, 64]);
        frame.extend(order(address([0x01, 0x13], remote), address([0, 0x10], 11)));
    }
    frame.extend(udp);
    frame
}

/// Part of `union bpf_attr` (linux/bpf.h): of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

/// Runs a program on a packet so many times.
pub(crate) fn test_run(program: &OwnedFd, packet: &[u8], repeat: u32) -> io::Result<()> {
    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    // SAFETY: the attribute is valid for its size, and the packet for its own;
    // nothing is written but to the attribute.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            std::ptr::from_mut(&mut attr),
            size_of::<TestRun>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
