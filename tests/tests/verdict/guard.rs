//! What the programs cost, told without a clock: how many instructions the
//! verifier follows, how much stack they have, how many look-ups a packet takes,
//! how large the maps are.
//!
//! All of it is exact. One toolchain makes the same instructions of the same
//! source wherever it lies, so nothing but a change of the source (or of the
//! compiler) changes a figure; what the verifier follows is another matter on each
//! kernel, and is compared on one.
//!
//! `tests/guard.toml` has the figures. After a change that is meant to change
//! them, write them anew with
//! `HOSTFW_BLESS=1 cargo xtask test --only verdict --filter guard` and read the
//! difference.

mod count;
mod program;
mod record;

use aya::maps::MapInfo;
use hostfw_agent::attach::object;
use hostfw_common::{
    counter::ReasonCounter,
    limits::{CONFIRMED_FLOWS, HALF_OPEN_FLOWS},
    names::{
        CONFIRMED, HALF_OPEN, LASTING, PER_GENERATION, PROGRAM_FORWARD, PROGRAM_LOCAL_IN,
        PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP,
    },
    verdict::Reason,
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, SYN},
};

use self::{
    count::{Calls, Counted},
    program::{Maps, assemble},
    record::{Record, Section},
};
use super::{
    lab::{Hook, Lab, lab, socket},
    load::MOST_VERIFIED,
    policy::{ENDPOINT, egress, pre_dnat},
    remembered::stay_on_this_processor,
};

#[test]
fn guard_programs_verify_as_recorded() {
    let Some(lab) = lab("guard_programs") else {
        return;
    };
    let maps = Maps::of(&lab);
    let mut found = Vec::new();
    for name in [
        PROGRAM_XDP,
        PROGRAM_TC_INGRESS,
        PROGRAM_TC_EGRESS,
        PROGRAM_LOCAL_IN,
        PROGRAM_FORWARD,
    ] {
        let program = assemble(name, &maps);
        let verified = match program.load() {
            Ok(verified) => verified,
            Err(error) => panic!("{name}: {error}"),
        };
        assert!(verified.instructions < MOST_VERIFIED, "{name}");
        let mut section = Section::new(format!("programs.{name}"));
        section.line("instructions", program.instructions.len());
        section.line("verified", verified.instructions);
        section.line(
            "stack.all",
            verified.stack.iter().map(|(_, s)| s).sum::<u32>(),
        );
        for (function, bytes) in verified.stack {
            section.line(&format!("stack.{function}"), bytes);
        }
        found.push(section);
    }
    let record = Record::read();
    if !record.is_of_this_kernel() && !record::blesses() {
        for section in &found {
            println!("{section}");
        }
        println!(
            "guard_programs: skipped: not compared: the figures of tests/guard.toml are for Linux \
             {}, this is {}",
            record.kernel(),
            record::release()
        );
        return;
    }
    record.hold("programs", found);
}

/// Both families: a remote address that may, one that may not, and the node's.
const FAMILIES: [(&str, [&str; 3]); 2] = [
    ("ipv4", ["203.0.113.10", "198.51.100.7", "10.240.0.11"]),
    (
        "ipv6",
        ["[2001:db8::10]", "[2001:db8:1::7]", "[fd00:10:240::11]"],
    ),
];

/// Policy that asks something in all dimensions, in both directions.
fn policies() -> String {
    const PORTS: &str = "ports: [443, '8000:8999']";
    const OTHERS: &str = "{action: Deny, protocol: UDP, source: {ports: ['1:1023']}}, \
        {action: Deny, source: {nets: ['10.240.0.0/24', '192.0.2.0/28']}, \
         destination: {nets: ['10.240.0.11/32', '10.9.0.0/16']}}, \
        {action: Deny, source: {nets: ['2001:db8:7::/48']}, \
         destination: {nets: ['fd00:10:240::11/128', 'fd00:9::/32']}}";
    let mut incoming = String::new();
    let mut outgoing = String::new();
    for net in ["203.0.113.0/24", "2001:db8::/64"] {
        let allow = "action: Allow, protocol: TCP";
        incoming +=
            &format!("{{{allow}, source: {{nets: ['{net}']}}, destination: {{{PORTS}}}}}, ");
        outgoing += &format!("{{{allow}, destination: {{nets: ['{net}'], {PORTS}}}}}, ");
    }
    for net in ["198.51.100.0/24", "2001:db8:1::/48"] {
        incoming += &format!("{{action: Deny, source: {{nets: ['{net}']}}}}, ");
        outgoing += &format!("{{action: Deny, destination: {{nets: ['{net}']}}}}, ");
    }
    [
        ENDPOINT,
        &pre_dnat("in", 1, &(incoming + OTHERS)),
        &egress("out", 1, &(outgoing + OTHERS)),
    ]
    .concat()
}

#[test]
fn guard_packets_take_as_many_look_ups_as_recorded() {
    let Some(mut lab) = lab("guard_packets") else {
        return;
    };
    stay_on_this_processor();
    let policies = policies();
    let mut found = Vec::new();
    for hook in [Hook::Xdp, Hook::TcIn, Hook::TcOut, Hook::TcForward] {
        for (family, [friend, foe, node]) in FAMILIES {
            // Another generation, of which nothing is remembered.
            lab.enforce(&policies);
            // As in a flood: in a second that does not end, everything is shown.
            lab.set_denials(|counter| ReasonCounter {
                kinds: u64::MAX,
                since: u64::MAX,
                left: 0,
                ..counter
            });
            let mut counted = Counted::new(&lab, hook);
            let mut section = Section::new(format!("look-ups.{}.{family}", hook.name()));
            let packet = |remote: &str, port: u16, flags| {
                let (remote, node) = (format!("{remote}:{port}"), format!("{node}:443"));
                let (remote, node) = (socket(&remote), socket(&node));
                match hook {
                    Hook::Xdp | Hook::TcIn => Packet::tcp(remote, node, flags),
                    Hook::TcOut | Hook::TcForward => {
                        let mut to = remote;
                        to.set_port(443);
                        let mut from = node;
                        from.set_port(port);
                        Packet::tcp(from, to, flags)
                    }
                }
            };
            // That the packet goes the way that its line is named after.
            let mut look = |way: &str, packet: &[u8], passes: bool| {
                let (passed, calls) = counted.run(packet);
                assert_eq!(passed, passes, "{way} at {hook:?}, {family}");
                assert_ne!(calls, Calls::default(), "nothing is counted");
                section.line(way, calls);
            };
            let build = |packet: Packet| packet.build();
            lab.forget();
            if hook == Hook::TcForward {
                // The forward hook has judged it.
                look("recorded", &build(packet(friend, 40_000, SYN)), true);
            } else {
                look("allowed", &build(packet(friend, 40_000, SYN)), true);
                let again = build(packet(friend, 40_001, SYN));
                look("allowed-remembered", &again, true);
                look("denied", &build(packet(foe, 40_000, SYN)), false);
                let again = build(packet(foe, 40_001, SYN));
                look("denied-remembered", &again, false);
                lab.report_next(hook.checkpoint(), Reason::RuleDeny);
                look("denied-remembered-shown", &again, false);
            }
            establish(&lab, hook, &packet(friend, 40_000, ACK), [friend, node]);
            look("established", &build(packet(friend, 40_000, ACK)), true);
            let mut cut = build(packet(friend, 40_000, SYN));
            cut.truncate(cut.len() - 12);
            look("undecodable", &cut, false);
            found.push(section);
        }
    }
    Record::read().hold("look-ups", found);
}

/// Has the flow of the packet answered, and confirmed.
fn establish(lab: &Lab, hook: Hook, packet: &Packet, [remote, node]: [&str; 2]) {
    let (remote_port, node_port) = match hook {
        Hook::Xdp | Hook::TcIn => (40_000, 443),
        Hook::TcOut | Hook::TcForward => (443, 40_000),
    };
    let remote = socket(&format!("{remote}:{remote_port}"));
    let node = socket(&format!("{node}:{node_port}"));
    let answer = match hook {
        Hook::Xdp | Hook::TcIn => (Hook::TcOut, Packet::tcp(node, remote, SYN | ACK)),
        Hook::TcOut | Hook::TcForward => (Hook::Xdp, Packet::tcp(remote, node, SYN | ACK)),
    };
    for (hook, packet) in [(answer.0, &answer.1), (hook, packet)] {
        lab.judge(hook, packet);
    }
    let (_, confirmed) = lab.flow_counts();
    assert_eq!(confirmed, 1, "{hook:?}");
}

/// Policy of a size that shows in the maps: 400 rules, two of which ask for sets
/// of 4,096 networks each.
fn large() -> String {
    let mut rules: Vec<String> = (0..400)
        .map(|n| {
            let (a, b, c) = (n % 200, n * 7 % 256, n * 3 % 256);
            format!(
                "{{action: Allow, protocol: TCP, source: {{nets: ['10.{a}.{b}.0/24', \
                 '172.16.{c}.{a}/32']}}, destination: {{ports: [{}, '{}:{}']}}}}",
                1000 + n,
                20_000 + n * 8,
                20_000 + n * 8 + 5,
            )
        })
        .collect();
    for set in ["four", "six"] {
        rules.push(format!(
            "{{action: Deny, source: {{selector: 'set == \"{set}\"'}}}}"
        ));
    }
    let four: Vec<_> = (0..4096)
        .map(|n| format!("'100.{}.{}.{}/32'", 64 + n / 256, n % 256, n * 5 % 256))
        .collect();
    let six: Vec<_> = (0..4096)
        .map(|n| format!("'2001:db8:{:x}:{:x}::/64'", n / 64, n))
        .collect();
    let set = |name: &str, nets: &[String]| {
        format!(
            "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {{name: {name}, labels: {{set: {name}}}}}
spec: {{nets: [{}]}}
---
",
            nets.join(", ")
        )
    };
    [
        ENDPOINT,
        &set("four", &four),
        &set("six", &six),
        &pre_dnat("large", 1, &rules.join(", ")),
    ]
    .concat()
}

#[test]
fn guard_maps_are_as_large_as_recorded() {
    let Some(mut lab) = lab("guard_maps") else {
        return;
    };
    let size = |key: u32, value: u32, entries: u32| {
        format!("{{ entries = {entries}, key = {key}, value = {value} }}")
    };
    let mut lasting = Section::new("maps.lasting");
    let pinned = |folder: &str, name: &str| {
        MapInfo::from_pin(lab.pins().join(folder).join(name)).unwrap_or_else(|error| {
            panic!("{name}: {error}");
        })
    };
    for name in LASTING {
        let map = pinned("maps", name);
        // Those of the agent follow from the machine's memory.
        let entries = match name {
            HALF_OPEN => HALF_OPEN_FLOWS,
            CONFIRMED => CONFIRMED_FLOWS,
            _ => map.max_entries(),
        };
        lasting.line(name, size(map.key_size(), map.value_size(), entries));
    }
    // Those that are not pinned.
    let mut private = Section::new("maps.private");
    let object = aya_obj::Object::parse(object()).unwrap();
    let mut others: Vec<_> = object
        .maps
        .iter()
        .filter(|(name, _)| !LASTING.contains(&&***name) && !PER_GENERATION.contains(&&***name))
        // Of sections and of the log: they are aya's.
        .filter(|(name, _)| !name.starts_with('.') && !name.starts_with("AYA_"))
        .collect();
    others.sort_by_key(|(name, _)| (*name).clone());
    for (name, map) in others {
        private.line(
            name,
            size(map.key_size(), map.value_size(), map.max_entries()),
        );
    }
    let large = super::lab::image(&large());
    lab.switch(&large);
    let pinned = |name: &str| {
        MapInfo::from_pin(lab.pins().join("generation").join(name)).unwrap_or_else(|error| {
            panic!("{name}: {error}");
        })
    };
    let mut generation = Section::new("maps.generation");
    for name in PER_GENERATION {
        let map = pinned(name);
        generation.line(
            name,
            size(map.key_size(), map.value_size(), map.max_entries()),
        );
    }
    Record::read().hold("maps", vec![lasting, private, generation]);
}
